"""What the pipeline works on: images, masks and the case that holds them, validated on construction."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.errors import EmptyRoi, GeometryMismatch, RoiTooSmall, UnfitCase, UnusableImage
from service.imaging.geometry import Geometry
from service.imaging.references import RegionReference, SeriesReference

Voxels: TypeAlias = NDArray[Any]
BoundingBox: TypeAlias = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

VOXEL_TYPES: Final = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64")
LEAST_ROI_VOXELS: Final = 2  # PyRadiomics computes nothing on one voxel


@dataclass(frozen=True, eq=False)
class Image:
    """One 3D scalar volume.

    Attributes:
        voxels: (I, J, K), read-only, one of `VOXEL_TYPES` in native byte order. Kept in Fortran order (I runs
            fastest, as in every file format read here), so that sums over equal images run in equal order.
        geometry: the grid.
        modality: the DICOM modality ("CT", "MR", "PT"), where the file says.
        notes: what was changed or decided while reading.
        stored_direction: unit vectors in RAS+ of the array axes in the file, as the columns of a (3, 3) matrix,
            where the canonical order differs from the file's.
        frame_of_reference: UID of the DICOM frame of reference, where the file says.
        source: the DICOM objects it was read from, where they say who they are.

    Raises:
        UnusableImage: not three-dimensional, an unsupported voxel type, or NaN or infinite voxels.
    """

    voxels: Voxels
    geometry: Geometry
    modality: str | None = None
    notes: tuple[str, ...] = ()
    stored_direction: NDArray[np.float64] | None = None
    frame_of_reference: str | None = None
    source: SeriesReference | None = None

    def __post_init__(self) -> None:
        if self.voxels.dtype.name not in VOXEL_TYPES or not self.voxels.dtype.isnative:
            raise UnusableImage(f"voxels of type {self.voxels.dtype.name}, expected one of {', '.join(VOXEL_TYPES)}")
        object.__setattr__(self, "voxels", _frozen(self.voxels, self.geometry))
        _check_finite(self.voxels)


@dataclass(frozen=True, eq=False)
class Mask:
    """A region of interest: the true voxels of a boolean array.

    Attributes:
        voxels: bool (I, J, K), read-only, Fortran order.
        geometry: the grid.
        name: the label, segment or ROI it stands for.
        source: the segment or ROI of a DICOM object that it is, where the object says who it is.

    Raises:
        EmptyRoi: no voxel is true.
        RoiTooSmall: fewer than `LEAST_ROI_VOXELS` are.
        UnusableImage: not boolean, or not of the geometry's shape.
    """

    voxels: NDArray[np.bool_]
    geometry: Geometry
    name: str = "1"
    source: RegionReference | None = None

    def __post_init__(self) -> None:
        if self.voxels.dtype != np.bool_:
            raise UnusableImage(f"a mask of type {self.voxels.dtype.name}, expected bool")
        object.__setattr__(self, "voxels", _frozen(self.voxels, self.geometry))
        if self.count == 0:
            raise EmptyRoi("the region of interest holds no voxel", voxels=0)
        if self.count < LEAST_ROI_VOXELS:
            raise RoiTooSmall(
                f"the region of interest holds {self.count} voxel, at least {LEAST_ROI_VOXELS} are needed",
                voxels=self.count,
                needed=LEAST_ROI_VOXELS,
            )

    @cached_property
    def count(self) -> int:
        """Voxels of the region."""
        return int(np.count_nonzero(self.voxels))

    @cached_property
    def bounding_box(self) -> BoundingBox:
        """The first voxel and one past the last, along (I, J, K)."""
        i, j, k = (_span(np.any(self.voxels, axis=_others(axis))) for axis in range(3))
        return i, j, k

    @cached_property
    def centroid_mm(self) -> tuple[float, float, float]:
        """Mean of the region's voxel centres, RAS+ mm."""
        box = self.voxels[tuple(slice(first, stop) for first, stop in self.bounding_box)]
        index = []
        for axis, (first, _) in enumerate(self.bounding_box):
            per_plane = np.count_nonzero(box, axis=_others(axis))
            index.append(first + float(per_plane @ np.arange(per_plane.size)) / self.count)
        x, y, z = self.geometry.to_world(index).tolist()
        return x, y, z

    @property
    def volume_mm3(self) -> float:
        """Voxels times the volume of one, cubic mm."""
        return self.count * self.geometry.voxel_volume_mm3


@dataclass(frozen=True, eq=False)
class Case:
    """One patient's images by channel and the regions to describe, all on one grid.

    Attributes:
        case_id: the caller's pseudonym.
        images: by channel.
        masks: at least one.
        notes: everything that was changed or decided while reading, in plain words.

    Raises:
        UnfitCase: no image or no mask.
        GeometryMismatch: two of them lie on different grids.
    """

    case_id: str | None
    images: Mapping[str, Image]
    masks: tuple[Mask, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", MappingProxyType(dict(self.images)))
        if not self.images or not self.masks:
            raise UnfitCase(f"{len(self.images)} images and {len(self.masks)} masks, expected at least one of each")
        for channel, image in self.images.items():
            check_same_grid(self.geometry, image.geometry, f"image {channel}")
        for mask in self.masks:
            check_same_grid(self.geometry, mask.geometry, "mask")

    @property
    def geometry(self) -> Geometry:
        """The grid of every image and mask."""
        return next(iter(self.images.values())).geometry


def check_same_grid(expected: Geometry, got: Geometry, what: str, hint: str = "") -> None:
    """Raise where two grids differ.

    Raises:
        GeometryMismatch: with both grids in the facts.
    """
    if not expected.matches(got):
        raise GeometryMismatch(
            f"the {what} has {got.in_words()}; expected the first image's {expected.in_words()}{hint}",
            expected=expected.describe(),
            got=got.describe(),
        )


def _frozen(voxels: Voxels, geometry: Geometry) -> Voxels:
    if voxels.shape != geometry.shape:
        raise UnusableImage(f"an array of {list(voxels.shape)} on a grid of {list(geometry.shape)} voxels")
    ordered = np.asfortranarray(voxels).view()
    ordered.flags.writeable = False
    return ordered


def _check_finite(voxels: Voxels) -> None:
    if voxels.dtype.kind != "f":
        return
    nan = infinite = 0
    for plane in np.moveaxis(voxels, 2, 0):
        if not np.isfinite(plane).all():
            nan += int(np.isnan(plane).sum())
            infinite += int(np.isinf(plane).sum())
    if nan or infinite:
        raise UnusableImage(
            f"{nan} voxels are NaN and {infinite} infinite, of {voxels.size}", nan=nan, infinite=infinite
        )


def _others(axis: int) -> tuple[int, ...]:
    return tuple(other for other in range(3) if other != axis)


def _span(present: Any) -> tuple[int, int]:
    indices = np.flatnonzero(present)
    return int(indices[0]), int(indices[-1]) + 1
