"""The published reference values of IBSI-1, and our values beside them.

The files hold, for each configuration, `reference value;tolerance;tag`; a tag without a value found no consensus.
They do not hold how strong the consensus was.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import floor, isfinite, log10
from pathlib import Path
from typing import TypeAlias

import nibabel
import numpy as np
import numpy.typing as npt

from service.features.ibsi import configuration
from service.features.ibsi.configuration import Aggregation
from service.features.ibsi.features import compute_ibsi
from service.ibsi_names import FEATURES, Feature

BENCHMARKS = {
    "digital phantom": ("ibsi_1_dig_phantom.csv", configuration.DIGITAL_PHANTOM),
    "A": ("ibsi_1_chest_config_a.csv", configuration.A),
    "B": ("ibsi_1_chest_config_b.csv", configuration.B),
    "C": ("ibsi_1_chest_config_c.csv", configuration.C),
    "D": ("ibsi_1_chest_config_d.csv", configuration.D),
    "E": ("ibsi_1_chest_config_e.csv", configuration.E),
}
DIGITAL_PHANTOM = "ibsi_1_digital_phantom"
CT_PHANTOM = "ibsi_1_ct_radiomics_phantom"

Phantom: TypeAlias = tuple[npt.NDArray[np.generic], npt.NDArray[np.bool_], tuple[float, float, float]]


@dataclass(frozen=True)
class Reference:
    """A published value; `decimals` is to how many places it is printed (negative before the point)."""

    value: float
    tolerance: float
    decimals: int

    def agrees(self, value: float) -> bool:
        """Whether a value lies within the tolerance once it is rounded as the published one is.

        The published values have three significant figures; a tolerance of 0 asks for these figures.
        """
        rounded = round(value, self.decimals) if isfinite(value) else value
        return abs(rounded - self.value) <= self.tolerance * (1 + 1e-9) + 1e-12 * abs(self.value)

    def agrees_unrounded(self, value: float) -> bool:
        """Whether a value lies within the tolerance as it is."""
        return abs(value - self.value) <= self.tolerance * (1 + 1e-9)


@dataclass(frozen=True)
class Verdict:
    """One feature in one aggregation under one configuration."""

    benchmark: str
    feature: Feature
    tag: str
    value: float
    reference: Reference

    @property
    def agrees(self) -> bool:
        return self.reference.agrees(self.value)


def read_references(path: Path) -> dict[str, Reference]:
    """Read a file of reference values by tag."""
    references = {}
    for line in path.read_text().splitlines()[1:]:
        value, tolerance, tag = line.split(";")
        if value:
            references[tag] = Reference(float(value), float(tolerance), _decimals(float(value)))
    return references


def _decimals(value: float) -> int:
    return 2 - floor(log10(abs(value))) if value else 3


def phantom_of(data: Path, benchmark: str) -> Phantom:
    """Read the phantom of a benchmark."""
    return read_phantom(data / (DIGITAL_PHANTOM if benchmark == "digital phantom" else CT_PHANTOM))


def read_phantom(folder: Path) -> Phantom:
    """Read a phantom's voxels (K, J, I), mask and spacing."""
    image = nibabel.load(folder / "nifti" / "image" / "phantom.nii.gz")
    mask = nibabel.load(folder / "nifti" / "mask" / "mask.nii.gz")
    i, j, k = (float(step) for step in image.header.get_zooms())
    voxels = np.ascontiguousarray(np.asarray(image.dataobj).T)
    return voxels, np.ascontiguousarray(np.asarray(mask.dataobj).T > 0), (k, j, i)


def judge(data: Path, benchmark: str) -> Iterator[Verdict]:
    """Compare every feature in every aggregation that has a published value."""
    file, chosen = BENCHMARKS[benchmark]
    references = read_references(data / "ibsi_1_reference_values" / file)
    phantom = phantom_of(data, benchmark)
    seen = set()
    for aggregation in Aggregation:
        tags = {feature: tag_of(feature, aggregation) for feature in FEATURES}
        wanted = {feature: tag for feature, tag in tags.items() if tag in references and tag not in seen}
        if not any(feature.aggregated for feature in wanted):
            continue
        values = compute_ibsi(*phantom, replace(chosen, aggregation=aggregation))
        for feature, tag in wanted.items():
            seen.add(tag)
            yield Verdict(benchmark, feature, tag, values[f"ibsi_{feature.name}"], references[tag])


def tag_of(feature: Feature, aggregation: Aggregation) -> str:
    """Return the tag of a feature's reference value."""
    if feature.directed:
        return f"{feature.tag}_{aggregation.value}"
    return f"{feature.tag}_{aggregation.dimension}" if feature.aggregated else feature.tag
