"""How an image is processed before features are computed: the benchmark configurations of IBSI-1, and defaults.

References:
    Zwanenburg et al., "Image biomarker standardisation initiative", reference manual, arXiv:1612.07003: chapter 2
    (image processing) and section 5.2 (the configurations of the CT phantom).
    Zwanenburg et al., "The Image Biomarker Standardization Initiative: standardized quantitative radiomics for
    high-throughput image-based phenotyping", Radiology 295(2), 2020.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

Spacing = tuple[float | None, float, float]


class Aggregation(StrEnum):
    """How texture matrices are merged; the values end the reference values' tags.

    References:
        IBSI reference manual, section 3.6 (GLCM; GLRLM likewise). The matrices without directions know only
        2D (8QNN), 2.5D (62GR) and 3D (KOBO).
    """

    SLICES_AVERAGED = "2D_avg"
    """A matrix for each slice and direction; features averaged (BTW3)."""
    SLICES_MERGED = "2D_comb"
    """A matrix for each slice, its directions merged; features averaged (SUJT)."""
    DIRECTIONS_AVERAGED = "2_5D_avg"
    """A matrix for each direction, the slices merged; features averaged (JJUI)."""
    DIRECTIONS_MERGED = "2_5D_comb"
    """A single matrix of all slices and their directions (ZW7Z)."""
    VOLUME_AVERAGED = "3D_avg"
    """A matrix for each of the 13 directions in space; features averaged (ITBB)."""
    VOLUME_MERGED = "3D_comb"
    """A single matrix of all 13 directions in space (IAZD)."""

    @property
    def dimension(self) -> str:
        """`2D`, `2_5D` or `3D`."""
        return self.value.removesuffix("_avg").removesuffix("_comb")

    @property
    def by_slice(self) -> bool:
        """Whether neighbours lie in one slice."""
        return self.dimension != "3D"

    @property
    def merges_slices(self) -> bool:
        """Whether matrices of different slices are added up."""
        return self.dimension != "2D"

    @property
    def merges_directions(self) -> bool:
        """Whether matrices of different directions are added up."""
        return self.value.endswith("_comb")


@dataclass(frozen=True)
class Interpolation:
    """Resampling to another spacing (IBSI reference manual, section 2.4).

    Attributes:
        spacing: of the new voxels, mm along (K, J, I); None keeps that axis as it is.
        method: of the intensities: linear, or a cubic spline. The mask is always interpolated linearly and
            cut at one half.
        whole_numbers: whether intensities are rounded to integers afterwards, as for Hounsfield units.
    """

    spacing: Spacing
    method: Literal["linear", "cubic"] = "linear"
    whole_numbers: bool = False


@dataclass(frozen=True)
class FixedSize:
    """Grey levels of one width, counted from the lower bound of the re-segmentation interval (IBSI Q3RU)."""

    width: float


@dataclass(frozen=True)
class FixedNumber:
    """A fixed number of grey levels from the region's minimum to its maximum (IBSI K15C)."""

    count: int


@dataclass(frozen=True)
class Configuration:
    """One image processing configuration.

    Attributes:
        name: for people.
        interpolation: None leaves the grid as it is.
        interval: intensities that stay in the intensity mask, both ends included (IBSI USB3); None for all.
        outliers: intensities stay within that many standard deviations of the mean (IBSI 7ACA); None for all.
            The mean and deviation are those of the voxels inside the interval.
        discretisation: None takes the intensities themselves, whole numbers from 1, as grey levels.
        aggregation: of texture matrices.
    """

    name: str
    interpolation: Interpolation | None = None
    interval: tuple[float, float] | None = None
    outliers: float | None = None
    discretisation: FixedSize | FixedNumber | None = None
    aggregation: Aggregation = Aggregation.VOLUME_MERGED


_TWO_MM_IN_PLANE: Final = Interpolation((None, 2.0, 2.0), whole_numbers=True)
_TWO_MM: Final = Interpolation((2.0, 2.0, 2.0), whole_numbers=True)
_TWO_MM_CUBIC: Final = Interpolation((2.0, 2.0, 2.0), method="cubic", whole_numbers=True)

DIGITAL_PHANTOM: Final = Configuration("digital phantom")
A: Final = Configuration(
    "A", None, (-500, 400), discretisation=FixedSize(25), aggregation=Aggregation.DIRECTIONS_MERGED
)
B: Final = Configuration(
    "B", _TWO_MM_IN_PLANE, (-500, 400), discretisation=FixedNumber(32), aggregation=Aggregation.DIRECTIONS_MERGED
)
C: Final = Configuration("C", _TWO_MM, (-1000, 400), discretisation=FixedSize(25))
D: Final = Configuration("D", _TWO_MM, outliers=3, discretisation=FixedNumber(32))
E: Final = Configuration("E", _TWO_MM_CUBIC, (-1000, 400), outliers=3, discretisation=FixedNumber(32))

CT: Final = Configuration("ct", _TWO_MM, (-1000, 400), discretisation=FixedSize(25))
"""Default for Hounsfield units: the processing of configuration C, so that its reference values vouch for it. Lung
and soft tissue; bone and dense contrast medium above 400 HU are left out of intensity and texture features."""

ARBITRARY_UNITS: Final = Configuration(
    "arbitrary units", Interpolation((2.0, 2.0, 2.0)), outliers=3, discretisation=FixedNumber(32)
)
"""Default for MR and PET: the processing of configuration D without rounding, since intensities are no whole
numbers there. A fixed number of levels is what the manual (section 2.7) advises for arbitrary units; PET in SUV may
also be given a fixed bin size and an interval from 0."""

CONFIGURATIONS: Final = {"A": A, "B": B, "C": C, "D": D, "E": E, "ct": CT, "arbitrary-units": ARBITRARY_UNITS}
"""What a caller can choose by name."""
