"""PyRadiomics itself, and how far the engine is from it."""

import logging
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import SimpleITK
from radiomics import setVerbosity
from radiomics.featureextractor import RadiomicsFeatureExtractor

RELATIVE = 1e-9
ABSOLUTE = 1e-12

setVerbosity(logging.CRITICAL + 10)
logging.getLogger("radiomics").setLevel(logging.CRITICAL + 10)


@dataclass(frozen=True)
class Volume:
    """An image with its region, in ITK order."""

    image: npt.NDArray[np.generic]
    mask: npt.NDArray[np.bool_]
    spacing: tuple[float, float, float]  # K, J, I
    direction: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1)


def pyradiomics(volume: Volume, document: Mapping[str, object]) -> dict[str, float]:
    """Compute a parameter document as PyRadiomics does, without its diagnostics."""
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.image))
    image.SetSpacing(volume.spacing[::-1])
    image.SetDirection(volume.direction)
    mask = SimpleITK.GetImageFromArray(volume.mask.astype(np.uint8))
    mask.CopyInformation(image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = RadiomicsFeatureExtractor(dict(document)).execute(image, mask)
    return {name: float(np.real(value)) for name, value in found.items() if not name.startswith("diagnostics")}


@dataclass
class Deviations:
    """The largest relative deviation of each class of features, and every value out of tolerance."""

    worst: dict[str, float] = field(default_factory=dict)
    values: int = 0
    wrong: list[str] = field(default_factory=list)

    def compare(self, expected: Mapping[str, float], got: Mapping[str, float], label: str = "") -> None:
        """Take one case in."""
        if list(expected) != list(got):
            missing, extra = [n for n in expected if n not in got], [n for n in got if n not in expected]
            self.wrong.append(f"{label}: names differ: missing {missing[:3]}, extra {extra[:3]}")
        for name in expected.keys() & got.keys():
            self._compare_value(name, expected[name], got[name], label)

    def _compare_value(self, name: str, expected: float, got: float, label: str) -> None:
        self.values += 1
        if (math.isnan(expected) and math.isnan(got)) or expected == got:
            return
        difference = abs(expected - got)
        relative = difference / abs(expected) if expected else math.inf
        if not (difference <= ABSOLUTE or relative <= RELATIVE):
            self.wrong.append(f"{label}: {name}: PyRadiomics {expected!r}, engine {got!r}")
        elif difference > ABSOLUTE:
            family = name.rsplit("_", 2)[1]
            self.worst[family] = max(self.worst.get(family, 0.0), relative)
