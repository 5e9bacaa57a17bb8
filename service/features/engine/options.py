"""What is to be computed: plain frozen records with PyRadiomics' defaults.

Axes are array axes of a volume in ITK order (K, J, I): 0 is the slice axis. PyRadiomics counts
`force2Ddimension` the same way.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy.typing as npt

from service.radiomics_names import DEPRECATED, FEATURES

Number: TypeAlias = int | float
Weighting: TypeAlias = Literal["euclidean", "manhattan", "infinity", "no_weighting"]
Selection: TypeAlias = Mapping[str, tuple[str, ...]]


def every_feature() -> dict[str, tuple[str, ...]]:
    """Return the classes and features that PyRadiomics computes when none is named."""
    return {
        name: tuple(feature for feature in features if feature not in DEPRECATED.get(name, ()))
        for name, features in FEATURES.items()
        if name != "shape2D"
    }


@dataclass(frozen=True)
class ImageOptions:
    """How grey levels are made and texture is counted on one derived image.

    Attributes:
        bin_width: width of a grey level, in intensity units; unused when `bin_count` is set.
        bin_count: number of grey levels, or None.
        distances: Chebyshev distances of neighbours, in voxels (GLCM, GLDM, NGTDM).
        flat_axis: neighbours stay within the plane normal to this axis; None for three dimensions.
        symmetrical: whether a pair is counted in both orders (GLCM).
        weighting: how directions are weighted by their length before they are merged (GLCM, GLRLM); None keeps
            them apart and averages their features.
        dependence: largest difference of grey levels that counts as dependent (GLDM).
        shift: added to intensities in Energy, TotalEnergy and RootMeanSquared.
    """

    bin_width: Number = 25
    bin_count: int | None = None
    distances: tuple[int, ...] = (1,)
    flat_axis: int | None = None
    symmetrical: bool = True
    weighting: Weighting | None = None
    dependence: int = 0
    shift: int = 0


@dataclass(frozen=True)
class Original:
    """The image itself."""

    options: ImageOptions = field(default_factory=ImageOptions)


@dataclass(frozen=True)
class LaplacianOfGaussian:
    """One image per `sigmas` (mm); a name shows the number as it was written."""

    sigmas: tuple[Number, ...]
    options: ImageOptions = field(default_factory=ImageOptions)


@dataclass(frozen=True)
class Wavelet:
    """The eight sub-bands of a stationary wavelet transform of one level."""

    wavelet: str = "coif1"
    options: ImageOptions = field(default_factory=ImageOptions)


@dataclass(frozen=True)
class Intensity:
    """A function of each voxel and of the image's largest magnitude."""

    function: Literal["square", "squareroot", "logarithm", "exponential"]
    options: ImageOptions = field(default_factory=ImageOptions)


@dataclass(frozen=True)
class Gradient:
    """The magnitude of the gradient, per mm or per voxel."""

    use_spacing: bool = True
    options: ImageOptions = field(default_factory=ImageOptions)


@dataclass(frozen=True)
class Elsewhere:
    """Images that something else has filtered.

    Attributes:
        names: of the derived images.
        run: yields name and whole image (K, J, I), of the grid that the region lies on.
    """

    names: tuple[str, ...]
    run: Callable[[], Iterable[tuple[str, npt.NDArray[Any]]]]
    options: ImageOptions = field(default_factory=ImageOptions)


DerivedImage: TypeAlias = Original | LaplacianOfGaussian | Wavelet | Intensity | Gradient | Elsewhere


@dataclass(frozen=True)
class Bank:
    """Everything one extraction asks for.

    Attributes:
        images: derived images, in the order of the result.
        features: class to feature names, both in the order of the result.
        minimum_dimensions: axes along which the region must span more than one voxel.
        minimum_size: the region must hold more voxels than this; None for no limit.
    """

    images: tuple[DerivedImage, ...] = (Original(),)
    features: Selection = field(default_factory=every_feature)
    minimum_dimensions: int = 2
    minimum_size: int | None = None


ORIGINAL = Bank()
FULL = Bank(images=(Original(), LaplacianOfGaussian((1.0, 2.0, 3.0)), Wavelet("coif1")))
