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
