"""The largest distances between points of the region's surface mesh.

PyRadiomics compares all pairs of mesh points, thousands of millions for an organ. Only a corner of the convex
hull can be an end of a longest distance, and a corner of the hull is also a corner of the hull of its own plane,
whichever way the planes are laid. So the points are thinned to the first and the last of every row, to the
corners of every plane's hull, and to what is such a corner in all three orientations.

Mesh points lie halfway between neighbouring voxels; indices here are doubled, so that they are integers.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.features.engine.compiled import kernel
from service.features.engine.region import Bits

Ends = npt.NDArray[np.int32]
Points = npt.NDArray[np.int64]

_NONE = 1 << 30


@dataclass(frozen=True)
class Diameters:
    """Longest distances in mm; `planes`: within planes normal to K, J and I; `overall`: in any direction."""

    planes: tuple[float, float, float]
    overall: float


def measure_diameters(padded: Bits, spacing: tuple[float, float, float]) -> Diameters:
    """Measure the longest distances between mesh points.

    Args:
        padded: 0 and 1 (K, J, I), background on all borders.
        spacing: mm along (K, J, I).

    References:
        IBSI reference manual, section 3.1: maximum 3D diameter (L0JK). PyRadiomics' 2D diameters have no code.
    """
    k, j, i = (2 * extent for extent in padded.shape)
    ends = _empty(k, j), _empty(j, k), _empty(i, k)
    _find_ends(padded, *ends)
    squares, hulls = [], []
    for rows, axes in zip(ends, ((0, 1, 2), (1, 0, 2), (2, 0, 1)), strict=True):
        square, corners = _hull_corners(rows, spacing[axes[1]], spacing[axes[2]])
        squares.append(square)
        hulls.append(_keys(corners[:, np.argsort(axes)], j, i))
    keys = np.intersect1d(np.intersect1d(hulls[0], hulls[1]), hulls[2])
    points = np.stack([keys // (j * i), keys // i % j, keys % i], axis=1)
    overall = max(_longest(points / 2 * np.array(spacing)), *squares)
    across_k, across_j, across_i = (float(np.sqrt(square)) for square in squares)
    return Diameters((across_k, across_j, across_i), float(np.sqrt(overall)))


def _empty(planes: int, rows: int) -> Ends:
    ends = np.empty((planes, rows, 2), np.int32)
    ends[:] = _NONE, -1
    return ends


def _keys(points: Points, rows: int, columns: int) -> Points:
    return (points[:, 0] * rows + points[:, 1]) * columns + points[:, 2]


def _hull_corners(ends: Ends, row_spacing: float, column_spacing: float) -> tuple[float, Points]:
    """Return the largest squared distance within a plane, mm^2, and all corners (plane, row, column)."""
    is_corner = np.zeros(ends.shape, dtype=np.bool_)
    square = _planar_hulls(ends, row_spacing, column_spacing, is_corner)
    plane, row, side = np.nonzero(is_corner)
    return square, np.stack([plane, row, ends[plane, row, side]], axis=1).astype(np.int64)


@kernel
def _find_ends(padded: Bits, along_i: Ends, along_i_by_j: Ends, along_j: Ends) -> None:
    """Record the outermost mesh points of all rows: of (K, J) and (J, K) along I, of (I, K) along J."""
    planes, rows, columns = padded.shape
    changes = np.empty(columns - 1, np.uint8)
    for z in range(planes - 1):
        for y in range(rows - 1):
            _find_changes(padded[z, y], padded[z, y + 1], padded[z + 1, y], changes)
            for x in range(columns - 1):
                change = changes[x]
                if change & 1:
                    _record(2 * z + 1, 2 * y, 2 * x, along_i, along_i_by_j, along_j)
                if change & 2:
                    _record(2 * z, 2 * y + 1, 2 * x, along_i, along_i_by_j, along_j)
                if change & 4:
                    _record(2 * z, 2 * y, 2 * x + 1, along_i, along_i_by_j, along_j)


@kernel
def _find_changes(row: Bits, below: Bits, behind: Bits, changes: Bits) -> None:
    """Mark where the next voxel along K (bit 0), J (bit 1) and I (bit 2) differs."""
    for x in range(changes.shape[0]):
        changes[x] = (row[x] ^ behind[x]) | ((row[x] ^ below[x]) << 1) | ((row[x] ^ row[x + 1]) << 2)


@kernel
def _record(k: int, j: int, i: int, along_i: Ends, along_i_by_j: Ends, along_j: Ends) -> None:
    _widen(along_i[k, j], i)
    _widen(along_i_by_j[j, k], i)
    _widen(along_j[i, k], j)


@kernel
def _widen(ends: Ends, place: int) -> None:
    ends[0] = min(ends[0], place)
    ends[1] = max(ends[1], place)


@kernel
def _planar_hulls(ends: Ends, row_spacing: float, column_spacing: float, is_corner: npt.NDArray[np.bool_]) -> float:
    """Mark the corners of every plane's hull and return the largest squared distance between two of a plane."""
    planes, rows, _ = ends.shape
    hull = np.empty((2 * rows + 2, 2), np.int64)
    largest = 0.0
    for plane in range(planes):
        middle = _chain(ends[plane], 0, hull, 0)
        size = _chain(ends[plane], 1, hull, middle)
        for corner in range(size):
            is_corner[plane, hull[corner, 0], 0 if corner < middle else 1] = True
            for other in range(corner):
                down = hull[corner, 0] / 2 * row_spacing - hull[other, 0] / 2 * row_spacing
                across = hull[corner, 1] / 2 * column_spacing - hull[other, 1] / 2 * column_spacing
                largest = max(largest, down * down + across * across)
    return largest


@kernel
def _chain(ends: Ends, side: int, hull: Points, start: int) -> int:
    """Append one side of a plane's hull (Andrew's monotone chain); return the hull's new size."""
    size = start
    turn = 1 - 2 * side
    for row in range(ends.shape[0]):
        if ends[row, 1] < ends[row, 0]:
            continue
        column = np.int64(ends[row, side])
        while size - start >= 2:
            rise = (hull[size - 1, 0] - hull[size - 2, 0]) * (column - hull[size - 2, 1])
            run = (hull[size - 1, 1] - hull[size - 2, 1]) * (row - hull[size - 2, 0])
            if turn * (rise - run) > 0:
                break
            size -= 1
        hull[size, 0] = row
        hull[size, 1] = column
        size += 1
    return size


@kernel
def _longest(points: npt.NDArray[np.float64]) -> float:
    """Return the largest squared distance between two of the points (P, 3)."""
    largest = 0.0
    for one in range(points.shape[0]):
        for other in range(one):
            k = points[one, 0] - points[other, 0]
            j = points[one, 1] - points[other, 1]
            i = points[one, 2] - points[other, 2]
            largest = max(largest, k * k + j * j + i * i)
    return largest
