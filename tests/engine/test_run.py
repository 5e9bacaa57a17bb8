"""Parameter documents: every part by its own way, the values always PyRadiomics'."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from radiomics.featureextractor import RadiomicsFeatureExtractor

from service.errors import RoiTooSmall
from service.features.engine.plan import make_plan
from service.features.engine.run import compute
from service.imaging.case import Image, Mask
from service.imaging.geometry import Geometry
from service.imaging.itk_bridge import mask_to_itk, to_itk
from service.radiomics_settings import PRESETS, RadiomicsSettings
from tests.engine.reference import Deviations

FILTERS = {"Original": {}, "LoG": {"sigma": [1, 2.5]}, "Wavelet": {}}
DOCUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "original": ({}, "native"),
    "filters": ({"imageType": FILTERS}, "native"),
    "intensities": (
        {"imageType": {"Square": {}, "SquareRoot": {}, "Logarithm": {}, "Exponential": {}, "Gradient": {}}},
        "native",
    ),
    "gradient per voxel": ({"imageType": {"Gradient": {"gradientUseSpacing": False}}}, "native"),
    "own bins": ({"imageType": {"Original": {"binCount": 16}, "LoG": {"sigma": [2.0], "binWidth": 5}}}, "native"),
    "some features": (
        {"featureClass": {"glcm": ["Imc1", "MCC"], "shape": ["Compactness1"], "firstorder": ["StandardDeviation"]}},
        "native",
    ),
    "texture": (
        {"setting": {"distances": [1, 2], "symmetricalGLCM": False, "gldm_a": 2, "voxelArrayShift": 1000}},
        "native",
    ),
    "weighting": ({"setting": {"weightingNorm": "euclidean", "binWidth": 12.5}}, "native"),
    "flat": ({"setting": {"force2D": True, "force2Ddimension": 0}}, "native"),
    "flat filters": ({"imageType": FILTERS, "setting": {"force2D": True}}, "mixed"),
    "two levels": ({"imageType": {"Wavelet": {"wavelet": "haar", "level": 2}}}, "mixed"),
    "later level": ({"imageType": {"Original": {}, "Wavelet": {"start_level": 1}}}, "mixed"),
    "distance twice": ({"imageType": FILTERS, "setting": {"distances": [1, 1]}}, "pyradiomics"),
    "normalised": ({"imageType": FILTERS, "setting": {"normalize": True, "normalizeScale": 100}}, "mixed"),
    "outliers": ({"setting": {"normalize": True, "removeOutliers": 1, "binWidth": 0.1}}, "mixed"),
    "resampled": ({"imageType": FILTERS, "setting": {"resampledPixelSpacing": [1.5, 1.5, 1.5]}}, "mixed"),
    "resampled in plane": (
        {"setting": {"resampledPixelSpacing": [1, 1, 0], "interpolator": "sitkLinear", "padDistance": 2}},
        "mixed",
    ),
    "cropped first": ({"imageType": FILTERS, "setting": {"preCrop": True, "padDistance": 4}}, "mixed"),
    "resegmented": ({"imageType": FILTERS, "setting": {"resegmentRange": [-20, 140]}}, "mixed"),
    "resegmented relatively": ({"setting": {"resegmentRange": [0.3], "resegmentMode": "relative"}}, "mixed"),
    "resegmented shape": (
        {"setting": {"resegmentRange": [-1, 1], "resegmentMode": "sigma", "resegmentShape": True}},
        "mixed",
    ),
}


def case(kind: str = "int16") -> tuple[Image, Mask]:
    """Build an oblique image of a bright body with a dark core."""
    rng = np.random.default_rng(11)
    shape = (24, 22, 12)
    i, j, k = (axis - (size - 1) / 2 for axis, size in zip(np.indices(shape), shape, strict=True))
    radius = np.sqrt(i**2 + j**2 + (2 * k) ** 2)
    voxels = 50 * np.sin(i / 3) + 120 * (radius < 9) - 90 * (radius < 5) + rng.normal(0, 12, shape)
    turn = np.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.8, 0.8, 2.0])
    affine[:3, 3] = [-30.0, 12.5, 100.0]
    geometry = Geometry(shape, affine)
    return Image(voxels.astype(kind), geometry), Mask(radius < 8.5, geometry)


def pyradiomics(image: Image, mask: Mask, settings: RadiomicsSettings) -> dict[str, float]:
    """Compute a document by PyRadiomics alone."""
    document = settings.document()
    setting = document["setting"] | {"binWidth": float(document["setting"]["binWidth"]), "additionalInfo": False}
    extractor = RadiomicsFeatureExtractor(**setting)
    extractor.disableAllImageTypes()
    extractor.enableImageTypes(**document["imageType"])
    extractor.disableAllFeatures()
    extractor.enableFeaturesByName(**document["featureClass"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = extractor.execute(to_itk(image), mask_to_itk(mask))
    return {name: float(np.real(value)) for name, value in found.items()}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_is_computed_as_by_pyradiomics_alone(name: str) -> None:
    document, way = DOCUMENTS[name]
    settings = RadiomicsSettings.model_validate(document)
    image, mask = case()
    expected = pyradiomics(image, mask, settings)
    with warnings.catch_warnings():
        if way != "native":
            warnings.simplefilter("ignore")
        got = compute(image, mask, settings, threads=2)
    deviations = Deviations()
    deviations.compare(expected, got, name)
    assert deviations.wrong == []
    assert list(got) == list(settings.feature_names())
    assert make_plan(settings).whole == way


def test_flat_shape_is_pyradiomics_own() -> None:
    image, _ = case()
    flat = np.zeros(image.geometry.shape, dtype=np.bool_)
    flat[5:15, 4:16, 6] = True
    mask = Mask(flat, image.geometry)
    document = {"featureClass": {"shape2D": None, "shape": None}, "setting": {"force2D": True, "force2Ddimension": 0}}
    settings = RadiomicsSettings.model_validate(document)
    deviations = Deviations()
    deviations.compare(pyradiomics(image, mask, settings), compute(image, mask, settings))
    assert deviations.wrong == []
    assert make_plan(settings).whole == "mixed"


def test_the_smallest_region_is_that_of_the_settings() -> None:
    image, mask = case()
    with pytest.raises(RoiTooSmall):
        compute(image, mask, RadiomicsSettings.model_validate({"setting": {"minimumROISize": 100_000}}))
    settings = RadiomicsSettings.model_validate(
        {"setting": {"minimumROISize": 50, "resegmentRange": [0, 1], "minimumROIDimensions": 1}}
    )
    with pytest.raises(RoiTooSmall):
        compute(image, mask, settings)


@pytest.mark.parametrize("kind", ["uint8", "int8"])
def test_narrow_types_use_the_bins_of_wider_ones(kind: str) -> None:
    image, mask = case("int16")
    narrow = Image(np.clip(image.voxels, 0, 120).astype(kind), image.geometry)
    wide = Image(np.clip(image.voxels, 0, 120).astype("int16"), image.geometry)
    assert compute(narrow, mask, PRESETS["original"]) == compute(wide, mask, PRESETS["original"])


WARM = """
import json, sys, time
from service.features.engine.warm import warm
started = time.perf_counter(); warm(); warmed = time.perf_counter()
import numpy as np
from numba.core import event
compiled = []
event.register("numba:compile", type("L", (event.Listener,), {
    "on_start": lambda self, e: compiled.append(str(e.data["dispatcher"])), "on_end": lambda self, e: None})())
from service.features.engine.bank import describe
from service.features.engine.options import FULL
mask = np.zeros((12, 30, 30), bool); mask[3:9, 5:25, 5:25] = True
for kind in ("int16", "uint8", "int32", "float32", "float64"):
    image = (np.random.default_rng(0).random(mask.shape) * 120).astype(kind)
    describe(image, mask, (2.0, 1.0, 1.0), FULL, threads=2)
print(json.dumps(compiled))
"""


def test_a_warmed_process_compiles_nothing_more(tmp_path: Path) -> None:
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)} if "NUMBA_CACHE_DIR" in os.environ else os.environ
    run = subprocess.run([sys.executable, "-c", WARM], capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == []
