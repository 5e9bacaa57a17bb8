"""Which voxels closed planar contours take: a voxel belongs to the region if its centre lies inside.

Inside is decided by the even-odd rule over all contours of one plane together, so that a contour within another
cuts a hole, and so does a keyhole: a channel walked there and back encloses nothing. In-plane coordinates are
first rounded to 1/65536 of a voxel, and all that follows is exact whole-number arithmetic: what remains of a
program's rounding cannot decide whether a centre lies on an edge. A centre exactly on an edge is inside where the
region lies toward greater indices and outside where it lies toward smaller ones (rows first, then columns), so
regions that share an edge share no voxel, and a rectangle drawn through centres takes as many voxels as its area.

Contours need not lie on the image's slices. A plane of contours stands for a slab around it, as thick as the usual
distance between planes (the median; one slice where there are fewer than three planes or it exceeds 10 mm), and no
thinner than a slice; a slice takes the nearest plane in whose slab its centre lies, the upper of two equally near. So
contours drawn on thicker slices fill the thinner ones between, and slices that the usual distance does not reach stay
empty.

References:
    DICOM PS3.3 C.8.8.6.3 (holes: keyholes, and XOR of contours in one plane).
    Foley et al., Computer Graphics: Principles and Practice, 2nd ed., 3.6 (scan conversion of polygons).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.errors import GeometryMismatch
from service.imaging.geometry import Geometry

STEPS: Final = 65536  # per voxel, in which in-plane coordinates are counted
OUT_OF_PLANE: Final = 0.1  # how far a contour's points may lie apart across its plane, in voxels
SAME_PLANE: Final = 0.05  # contours this near across are in one plane, in voxels
MOST_APART_MM: Final = 10.0  # planes farther apart than this do not fill the slices between
PLANE_STEP: Final = 0.01  # to which planes' positions are rounded, in voxels
FARTHEST: Final = 16384.0  # voxels from the first one: sums of products of two stay below 2^63
CROSSINGS: Final = 1_000_000  # computed at once

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Drawing:
    """A region drawn on a grid.

    Attributes:
        voxels: bool (I, J, K), Fortran order.
        planes: distinct planes of contours.
        between: of these, planes farther than `SAME_PLANE` from every slice.
        outside: of these, planes that no slice takes because they lie beyond the grid.
        filled: slices that took a plane also taken by another slice.
    """

    voxels: NDArray[np.bool_]
    planes: int
    between: int
    outside: int
    filled: int


def draw_contours(contours: Sequence[Points], grid: Geometry) -> Drawing:
    """Draw closed contours on a grid.

    Args:
        contours: (n, 3) points each, RAS+ mm; the last is joined to the first.
        grid: where to draw.

    Raises:
        GeometryMismatch: the contours are not parallel to two axes of the grid, or absurdly far from it.
    """
    placed = [grid.to_index(points) for points in contours]
    across = _across(placed, grid)
    u, v = (axis for axis in range(3) if axis != across)
    groups = _planes(placed, across)
    at = np.array([position for position, _ in groups])
    voxels = np.zeros(grid.shape, np.bool_, order="F")
    slices = np.moveaxis(voxels, across, 0)
    taken = _take(at, slices.shape[0], MOST_APART_MM / grid.spacing_mm[across])
    for plane in np.unique(taken[taken >= 0]):
        drawn = fill([points[:, [u, v]] for points in groups[plane][1]], (grid.shape[u], grid.shape[v]))
        slices[taken == plane] = drawn
    outside = np.count_nonzero((at < -0.5) | (at >= slices.shape[0] - 0.5))
    return Drawing(
        voxels,
        len(groups),
        int(np.count_nonzero(np.abs(at - np.rint(at)) > SAME_PLANE)),
        int(outside),
        int(np.count_nonzero(taken >= 0) - np.unique(taken[taken >= 0]).size),
    )


def fill(polygons: Sequence[Points], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Fill polygons of one plane by the even-odd rule.

    Args:
        polygons: (n, 2) continuous indices each, along the two axes.
        shape: of the result.

    Returns:
        bool of `shape`: whether the centre, a whole number along each axis, lies inside.
    """
    parity = np.zeros(shape[0] * (shape[1] + 1), np.bool_)
    for row, column in _crossings(_edges(polygons), shape):
        # an odd number of crossings at one place turns inside to outside from there on
        at, times = np.unique(row * (shape[1] + 1) + column, return_counts=True)
        parity[at] ^= times % 2 == 1
    toggles = parity.reshape(shape[0], shape[1] + 1)[:, :-1]
    inside: NDArray[np.bool_] = np.logical_xor.accumulate(toggles, axis=1)
    return inside


def _across(placed: Sequence[Points], grid: Geometry) -> int:
    """Return the grid's axis that the contours' planes are normal to."""
    spread = np.max([np.ptp(points, axis=0) for points in placed], axis=0)
    farthest = max(float(np.abs(points).max()) for points in placed)
    across = int(np.argmin(spread))
    if spread[across] > OUT_OF_PLANE or farthest > FARTHEST:
        raise GeometryMismatch(
            f"the contours do not lie in planes of the image: points of one lie {spread[across]:.3g} slices apart "
            f"across the nearest plane, at most {OUT_OF_PLANE} is accepted (points up to {farthest:.4g} voxels off)",
            expected=grid.describe(),
            apart_slices=round(float(spread[across]), 4),
        )
    return across


def _planes(placed: Sequence[Points], across: int) -> list[tuple[float, list[Points]]]:
    """Group contours by plane; return each plane's position, in slices, by ascending position."""
    ordered = sorted(((float(points[:, across].mean()), points) for points in placed), key=lambda pair: pair[0])
    groups: list[list[tuple[float, Points]]] = []
    for position, points in ordered:
        if not groups or position - groups[-1][-1][0] > SAME_PLANE:
            groups.append([])
        groups[-1].append((position, points))
    return [
        (round(float(np.mean([at for at, _ in group])) / PLANE_STEP) * PLANE_STEP, [points for _, points in group])
        for group in groups
    ]


def _take(at: NDArray[np.float64], slices: int, most_apart: float) -> NDArray[np.intp]:
    """Return, per slice, the plane it takes, or -1; `most_apart` slices is the most that planes bridge."""
    gaps = np.sort(np.diff(at))
    usual = float(gaps[(gaps.size - 1) // 2]) if gaps.size > 1 else 1.0
    reach = max(usual if usual <= most_apart else 1.0, 1.0) / 2
    centres = np.arange(slices)
    above = np.clip(np.searchsorted(at, centres), 0, at.size - 1)
    below = np.maximum(above - 1, 0)
    nearest = np.where(np.abs(centres - at[below]) < np.abs(at[above] - centres) - PLANE_STEP / 2, below, above)
    offset = centres - at[nearest]
    inside = (offset >= -reach - PLANE_STEP / 2) & (offset < reach - PLANE_STEP / 2)
    return np.where(inside, nearest, -1)


def _edges(polygons: Sequence[Points]) -> NDArray[np.int64]:
    """Return the edges that run along the first axis: (n, 4) steps p0, q0, p1, q1 with p0 < p1."""
    edges = []
    for points in polygons:
        steps = np.rint(points * STEPS).astype(np.int64)
        edges.append(np.concatenate([steps, np.roll(steps, -1, axis=0)], axis=1))
    joined = np.concatenate(edges)
    backward = joined[:, 0] > joined[:, 2]
    joined[backward] = joined[backward][:, [2, 3, 0, 1]]
    return joined[joined[:, 0] < joined[:, 2]]


def _crossings(edges: NDArray[np.int64], shape: tuple[int, int]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Yield where edges cross rows: the row, and the first column at or after the crossing (clipped to the grid)."""
    first = np.clip(_ceil(edges[:, 0], STEPS), 0, shape[0])
    stop = np.clip(_ceil(edges[:, 2], STEPS), 0, shape[0])
    edges, first, counts = edges[stop > first], first[stop > first], (stop - first)[stop > first]
    start = 0
    ends = np.cumsum(counts)
    while start < counts.size:
        done = ends[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(ends, done + CROSSINGS, side="right")))
        each = np.repeat(np.arange(start, end), counts[start:end])
        row = first[each] + np.arange(each.size) - (ends[each] - counts[each] - done)
        p0, q0, p1, q1 = edges[each].T
        column = _ceil(q0 * (p1 - p0) + (row * STEPS - p0) * (q1 - q0), STEPS * (p1 - p0))
        yield row, np.clip(column, 0, shape[1])
        start = end


def _ceil(numerator: NDArray[np.int64], denominator: Any) -> NDArray[np.int64]:
    result: NDArray[np.int64] = -(-numerator // denominator)
    return result
