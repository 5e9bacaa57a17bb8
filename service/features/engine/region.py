"""The region of interest: its box, its voxels and the directions to their neighbours.

All arrays are in ITK order (K, J, I). A grid is the region's box with a margin of background on every side,
wide enough that a neighbour's index never leaves the array.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from service.errors import EmptyRoi, RadiomicsRefused, RoiTooSmall
from service.features.engine.compiled import kernel

Voxels: TypeAlias = npt.NDArray[Any]
Bits: TypeAlias = npt.NDArray[np.uint8]
Offsets: TypeAlias = npt.NDArray[np.int64]
Spacing: TypeAlias = tuple[float, float, float]
Slices: TypeAlias = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Box:
    """A box of voxels in a volume.

    Attributes:
        lower: first index along (K, J, I).
        shape: voxels along (K, J, I).
    """

    lower: tuple[int, int, int]
    shape: tuple[int, int, int]

    @property
    def slices(self) -> Slices:
        """Index of the box in the whole volume."""
        z, y, x = (slice(low, low + size) for low, size in zip(self.lower, self.shape, strict=True))
        return z, y, x

    def join(self, other: "Box") -> "Box":
        """Return the smallest box around both."""
        spans = [
            (min(one.start, two.start), max(one.stop, two.stop))
            for one, two in zip(self.slices, other.slices, strict=True)
        ]
        (z, z1), (y, y1), (x, x1) = spans
        return Box((z, y, x), (z1 - z, y1 - y, x1 - x))

    def within(self, outer: "Box") -> Slices:
        """Index of the box in an array that holds only `outer`."""
        z, y, x = (
            slice(low - first, low - first + size)
            for low, first, size in zip(self.lower, outer.lower, self.shape, strict=True)
        )
        return z, y, x


@dataclass(frozen=True)
class Region(Box):
    """A region of interest cropped to its box.

    Attributes:
        inside: bool, `shape`.
        count: number of voxels inside.
        spacing: mm along (K, J, I).
    """

    inside: npt.NDArray[np.bool_]
    count: int
    spacing: tuple[float, float, float]

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel, mm^3."""
        z, y, x = self.spacing
        return x * y * z

    @cached_property
    def spans(self) -> Offsets:
        """First voxel and end of what the region covers of each row of the box, int64 (K, J, 2); 0, 0 for none."""
        return _find_spans(np.ascontiguousarray(self.inside))

    def padded(self, margin: int = 1) -> Bits:
        """Return the region as 0 and 1, with a margin of zeros on every side."""
        z, y, x = (slice(margin, margin + extent) for extent in self.shape)
        padded = np.zeros(tuple(extent + 2 * margin for extent in self.shape), dtype=np.uint8)
        padded[z, y, x] = self.inside
        return padded


def find_region(mask: npt.NDArray[np.bool_], spacing: tuple[float, float, float]) -> Region:
    """Crop a mask to its region.

    Args:
        mask: bool (K, J, I).
        spacing: mm along (K, J, I).

    Raises:
        EmptyRoi: no voxel is set.
    """
    bounds, count = _scan(np.ascontiguousarray(mask).view(np.uint8))
    if count == 0:
        raise EmptyRoi("the region of interest holds no voxel", voxels=0)
    z, y, x, z1, y1, x1 = (int(bound) for bound in bounds)
    inside = np.ascontiguousarray(mask[z : z1 + 1, y : y1 + 1, x : x1 + 1])
    return Region((z, y, x), (z1 - z + 1, y1 - y + 1, x1 - x + 1), inside, int(count), spacing)


def require_background(region: Region, voxels: int) -> None:
    """Refuse a region of all `voxels` of an image.

    Raises:
        RadiomicsRefused: PyRadiomics needs background to tell a label from it.
    """
    if region.count == voxels:
        raise RadiomicsRefused(
            f"the region fills the whole image of {voxels} voxels: PyRadiomics finds no label without background",
            voxels=voxels,
        )


def require_size(region: Region, dimensions: int, size: int | None) -> None:
    """Refuse a region that PyRadiomics refuses for its extent.

    Raises:
        RoiTooSmall: one voxel; fewer than `dimensions` axes with more than one voxel; `size` voxels or fewer.
    """
    extended = sum(extent > 1 for extent in region.shape)
    if extended == 0:
        raise RoiTooSmall("the region of interest is a single voxel", voxels=region.count)
    if extended < dimensions:
        raise RoiTooSmall(
            f"the region of interest extends along {extended} axes, at least {dimensions} are needed",
            dimensions=extended,
            minimum_dimensions=dimensions,
        )
    if size is not None and region.count <= size:
        raise RoiTooSmall(
            f"the region of interest holds {region.count} voxels, more than {size} are needed",
            voxels=region.count,
            minimum_voxels=size,
        )


def directions(shape: tuple[int, int, int], distances: tuple[int, ...] = (1,), flat_axis: int | None = None) -> Offsets:
    """Return one of each pair of opposite neighbour offsets, in PyRadiomics' order.

    Args:
        shape: voxels of the box; an offset never exceeds it.
        distances: Chebyshev distances, voxels.
        flat_axis: axis along which no offset may lead.

    Returns:
        Offsets (A, 3) along (K, J, I), the largest first. Thirteen for a box of three dimensions and distance 1.

    References:
        IBSI reference manual, section 3.6.1: merging by the 13 direction vectors.
    """
    reach = max(distances)
    steps = range(reach, -reach - 1, -1)
    kept = [
        offset
        for offset in product(steps, repeat=3)
        if offset > (0, 0, 0)
        and max(map(abs, offset)) in distances
        and all(abs(step) < size for step, size in zip(offset, shape, strict=True))
        and (flat_axis is None or offset[flat_axis] == 0)
    ]
    return np.array(kept, dtype=np.int64).reshape(-1, 3)


def flat_offsets(offsets: Offsets, shape: tuple[int, ...]) -> Offsets:
    """Turn offsets along axes into offsets of a contiguous array's flat index."""
    return offsets @ np.array([shape[1] * shape[2], shape[2], 1], dtype=np.int64)


@kernel
def _scan(mask: Bits) -> tuple[Offsets, int]:
    planes, rows, columns = mask.shape
    bounds = np.array([planes, rows, columns, -1, -1, -1])
    count = 0
    for z in range(planes):
        for y in range(rows):
            row = mask[z, y]
            here = 0
            for x in range(columns):
                here += row[x]
            if here:
                count += here
                _widen(bounds, z, y, row)
    return bounds, count


@kernel
def _find_spans(inside: npt.NDArray[np.bool_]) -> Offsets:
    planes, rows, columns = inside.shape
    spans = np.zeros((planes, rows, 2), np.int64)
    for z in range(planes):
        for y in range(rows):
            row, end = inside[z, y], columns
            while end and not row[end - 1]:
                end -= 1
            first = 0
            while first < end and not row[first]:
                first += 1
            spans[z, y] = first, end
    return spans


@kernel
def _widen(bounds: Offsets, z: int, y: int, row: Bits) -> None:
    first = 0
    while row[first] == 0:
        first += 1
    last = row.shape[0] - 1
    while row[last] == 0:
        last -= 1
    bounds[0] = min(bounds[0], z)
    bounds[1] = min(bounds[1], y)
    bounds[2] = min(bounds[2], first)
    bounds[3] = max(bounds[3], z)
    bounds[4] = max(bounds[4], y)
    bounds[5] = max(bounds[5], last)
