"""PyRadiomics' own published baselines: brain1, brain2 and breast1, each class under several settings."""

import ast
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import SimpleITK

from service.features.radiomics import compute_radiomics
from service.imaging.case import Image, Mask
from service.imaging.itk_bridge import from_itk
from service.radiomics_settings import RadiomicsSettings
from tests.real_data import real_data

CASES = ("brain1", "brain2", "breast1")
CLASSES = ("shape", "firstorder", "glcm", "gldm", "glrlm", "glszm", "ngtdm")
# The mesh values of brain1 were written by an older PyRadiomics: its release 3.0.1 itself is 9e-4 away from them.
OLDER = {f"original_shape_{name}" for name in ("MeshVolume", "SurfaceArea", "SurfaceVolumeRatio", "Sphericity")}


def read_case(name: str) -> tuple[Image, Mask]:
    folder = real_data("pyradiomics_cases")
    image, labels = (from_itk(SimpleITK.ReadImage(folder / f"{name}_{what}.nrrd")) for what in ("image", "label"))
    return image, Mask(labels.voxels == 1, image.geometry)


def read_baseline(path: Path, case: str) -> Iterator[tuple[str, dict[str, Any], dict[str, float]]]:
    """Yield the configuration's name, its settings and the published values."""
    with path.open() as stream:
        rows = {row[0]: row[1:] for row in csv.reader(stream)}
    for column, name in enumerate(rows["featureName"]):
        if name.split("_")[0] == case:
            given = ast.literal_eval(rows["diagnostics_Configuration_Settings"][column])
            values = {key: float(row[column]) for key, row in rows.items() if key.startswith("original_")}
            yield name, {key: value for key, value in given.items() if value is not None}, values


@pytest.mark.real
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("feature_class", CLASSES)
def test_published_baselines_are_met(case, feature_class):
    path = real_data("pyradiomics_cases", "baseline", f"baseline_{feature_class}.csv")
    image, mask = read_case(case)
    configurations = list(read_baseline(path, case))
    assert configurations
    for name, setting, expected in configurations:
        features = [key.rsplit("_", 1)[1] for key in expected]
        settings = RadiomicsSettings.model_validate({"setting": setting, "featureClass": {feature_class: features}})
        got = dict(compute_radiomics(image, mask, settings).items())
        older = OLDER if name == "brain1" else set()
        exact = {key: value for key, value in expected.items() if key not in older}
        assert {key: got[key] for key in exact} == pytest.approx(exact, rel=1e-9, abs=1e-12), name
        assert got == pytest.approx(expected, rel=1e-3, abs=1e-12), name
