"""The one place that knows ITK's conventions: arrays indexed (K, J, I) and a world in LPS+ mm."""

from typing import Any, Final

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from service.imaging.case import Image, Mask, Voxels
from service.imaging.geometry import Affine, Geometry

RAS_TO_LPS: Final = np.diag([-1.0, -1.0, 1.0])


def to_itk(image: Image) -> Any:
    """Return the image as a SimpleITK image of the same voxel type."""
    return _with_geometry(image.voxels, image.geometry)


def mask_to_itk(mask: Mask) -> Any:
    """Return the mask as a SimpleITK label image: uint8, 1 inside."""
    return _with_geometry(mask.voxels.view(np.uint8), mask.geometry)


def from_itk(picture: Any, modality: str | None = None) -> Image:
    """Return a three-dimensional scalar SimpleITK image in house axes.

    Raises:
        UnusableImage: a voxel type or a grid the house does not accept.
    """
    affine = affine_from_lps(
        np.reshape(picture.GetDirection(), (3, 3)), np.asarray(picture.GetSpacing()), np.asarray(picture.GetOrigin())
    )
    voxels = SimpleITK.GetArrayFromImage(picture).T
    return Image(voxels, Geometry(voxels.shape, affine), modality)


def resampled_type(voxels: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that voxels of a type are resampled to: single precision where that holds them exactly."""
    return np.dtype(np.float32 if voxels.itemsize <= 2 or voxels == np.float32 else np.float64)


def resample_linearly(image: Image, grid: Geometry) -> tuple[Voxels, NDArray[np.bool_]]:
    """Resample an image onto another grid by linear interpolation.

    Beyond the outermost voxel centres the values there go on.

    Returns:
        The values, of `resampled_type`, and for each whether it lies within the image's voxels; both (I, J, K) of the
        grid.
    """
    wide = resampled_type(image.voxels.dtype) == np.float64
    resample: Any = SimpleITK.ResampleImageFilter()  # type: ignore[no-untyped-call]
    resample.SetSize(grid.shape)
    resample.SetOutputSpacing(grid.spacing_mm)
    resample.SetOutputOrigin((RAS_TO_LPS @ grid.affine[:3, 3]).tolist())
    resample.SetOutputDirection((RAS_TO_LPS @ grid.direction).ravel().tolist())
    resample.SetInterpolator(SimpleITK.sitkNearestNeighbor)
    inside = SimpleITK.GetArrayFromImage(
        resample.Execute(_with_geometry(np.ones(image.voxels.shape, np.uint8, order="F"), image.geometry))
    )
    resample.SetInterpolator(SimpleITK.sitkLinear)
    resample.SetUseNearestNeighborExtrapolator(True)
    resample.SetOutputPixelType(SimpleITK.sitkFloat64 if wide else SimpleITK.sitkFloat32)
    values = SimpleITK.GetArrayFromImage(resample.Execute(to_itk(image)))
    return values.T, inside.T.view(np.bool_)


def affine_from_lps(direction: NDArray[Any], spacing_mm: NDArray[Any], origin_mm: NDArray[Any]) -> Affine:
    """Return the RAS+ affine of a grid given in LPS+.

    Args:
        direction: (3, 3), a column per array axis (I, J, K).
        spacing_mm: (3,) along (I, J, K).
        origin_mm: (3,) centre of the first voxel.
    """
    affine = np.eye(4)
    affine[:3, :3] = RAS_TO_LPS @ (direction * spacing_mm)
    affine[:3, 3] = RAS_TO_LPS @ origin_mm
    return affine


def _with_geometry(voxels: Voxels, geometry: Geometry) -> Any:
    picture: Any = SimpleITK.GetImageFromArray(np.ascontiguousarray(voxels.T))
    picture.SetSpacing(geometry.spacing_mm)
    picture.SetOrigin((RAS_TO_LPS @ geometry.affine[:3, 3]).tolist())
    picture.SetDirection((RAS_TO_LPS @ geometry.direction).ravel().tolist())
    return picture
