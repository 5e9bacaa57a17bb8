"""Functions of single voxels and of neighbours: PyRadiomics' image types Square to Exponential, and Gradient.

References:
    PyRadiomics 3.0.1, `imageoperations.getSquareImage` and its neighbours.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK

from service.features.engine.region import Region, Voxels

Doubles = npt.NDArray[np.float64]


def largest_magnitude(image: Voxels) -> float:
    """Return the largest absolute intensity of the whole image, as float64."""
    return float(max(abs(float(image.min())), abs(float(image.max()))))


def transform_intensity(values: Voxels, largest: float, function: str) -> Doubles:
    """Apply one function to intensities.

    Args:
        values: (N,).
        largest: magnitude in the whole image they come from.
        function: square, squareroot, logarithm or exponential.
    """
    doubles = np.asarray(values, dtype=np.float64)
    with np.errstate(all="ignore"):
        if function == "square":
            return np.asarray(((1 / np.sqrt(largest)) * doubles) ** 2)
        if function == "squareroot":
            return np.asarray(np.sign(doubles) * np.sqrt(np.abs(doubles) * largest))
        if function == "logarithm":
            return np.asarray(_logarithm(doubles) * (largest / np.max(np.abs(_logarithm(np.array([largest]))))))
        return np.asarray(np.exp((np.log(largest) / largest) * doubles))


def _logarithm(values: Doubles) -> Doubles:
    return np.asarray(np.sign(values) * np.log(np.abs(values) + 1))


def gradient_magnitude(image: Voxels, region: Region, use_spacing: bool) -> Voxels:
    """Return the magnitude of central differences in the region's box, per mm or per voxel.

    Args:
        image: (K, J, I), the whole image.
        region: where the result is wanted.
        use_spacing: divide by the spacing.
    """
    starts = [max(0, low - 1) for low in region.lower]
    ends = [
        min(size, low + extent + 1) for size, low, extent in zip(image.shape, region.lower, region.shape, strict=True)
    ]
    crop: Any = SimpleITK.GetImageFromArray(
        np.ascontiguousarray(image[tuple(slice(start, end) for start, end in zip(starts, ends, strict=True))])
    )
    crop.SetSpacing(region.spacing[::-1])
    magnitude: Any = SimpleITK.GradientMagnitude
    found = SimpleITK.GetArrayFromImage(magnitude(crop, use_spacing))
    box = tuple(
        slice(low - start, low - start + extent)
        for low, start, extent in zip(region.lower, starts, region.shape, strict=True)
    )
    return np.asarray(found[box])
