"""Draw smooth-edged tissue into a volume: boxes, mixing, tubes, blur. What the phantoms are made with."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from service.imaging.geometry import Geometry

Range: TypeAlias = tuple[float, float]
Floats: TypeAlias = NDArray[np.float32]
Vector: TypeAlias = NDArray[np.float64]
Grid: TypeAlias = tuple[Floats, Floats, Floats]
Box: TypeAlias = tuple[slice, slice, slice]


def grid_mm(geometry: Geometry) -> Grid:
    """Return the world coordinates along the three axes, each shaped to broadcast over the volume."""
    steps, origin = np.diag(geometry.affine)[:3], geometry.affine[:3, 3]
    lines = [
        (origin[axis] + steps[axis] * np.arange(size)).astype(np.float32) for axis, size in enumerate(geometry.shape)
    ]
    return lines[0][:, None, None], lines[1][None, :, None], lines[2][None, None, :]


def find_box(grid: Grid, low: Vector, high: Vector) -> Box:
    """Return the part of the volume between two corners (mm); empty slices where they lie outside."""
    parts = []
    for axis, values in enumerate(grid):
        inside = np.flatnonzero((values.ravel() >= low[axis]) & (values.ravel() <= high[axis]))
        parts.append(slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0))
    return parts[0], parts[1], parts[2]


def along_axis(box: Box, axis: int) -> list[slice]:
    """Return the index that cuts `box` out of the coordinates of one axis."""
    return [box[axis] if other == axis else slice(None) for other in range(3)]


def mix(volume: Floats, box: Box, fraction: Floats, density_hu: float) -> None:
    """Let tissue take `fraction` of each voxel; where it is less dense than what is there, nothing changes."""
    region = volume[box]
    np.maximum(region, region + fraction * (density_hu - region), out=region)


def add_tube(volume: Floats, grid: Grid, ends: tuple[Vector, Vector], radii: Range, density_hu: float) -> None:
    """Draw a tapering tube between two points, with an edge about one voxel wide, inside its bounding box."""
    low, high = np.minimum(*ends) - max(radii) - 1.5, np.maximum(*ends) + max(radii) + 1.5
    box = find_box(grid, low, high)
    if any(part.start >= part.stop for part in box):
        return
    x, y, z = (axis_values[tuple(along_axis(box, axis))] for axis, axis_values in enumerate(grid))
    (ax, ay, az), (bx, by, bz) = (ends[1] - ends[0]).tolist(), ends[0].tolist()
    x, y, z = x - bx, y - by, z - bz
    along = np.clip((x * ax + y * ay + z * az) / (ax * ax + ay * ay + az * az), 0.0, 1.0)
    distance = np.sqrt((x - along * ax) ** 2 + (y - along * ay) ** 2 + (z - along * az) ** 2)
    fraction = np.clip(0.5 + radii[0] + (radii[1] - radii[0]) * along - distance, 0.0, 1.0)
    mix(volume, box, fraction, density_hu)


def smooth(volume: Floats, axis: int, side: float) -> Floats:
    """Convolve with (side, 1 - 2 side, side) along one axis; the ends are repeated."""
    moved = np.moveaxis(volume, axis, 0)
    padded = np.concatenate([moved[:1], moved, moved[-1:]])
    mixed = np.float32(1 - 2 * side) * moved + np.float32(side) * (padded[:-2] + padded[2:])
    return np.asarray(np.moveaxis(mixed, 0, axis), np.float32)


def draw_directions(rng: np.random.Generator, count: int) -> Vector:
    """Draw `count` unit vectors, evenly over the sphere: (count, 3)."""
    drawn = rng.standard_normal((count, 3))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float64)


def even_directions(count: int = 2000) -> Floats:
    """Return `count` evenly spread unit directions (a Fibonacci lattice)."""
    index = np.arange(count) + 0.5
    polar, azimuth = np.arccos(1 - 2 * index / count), np.pi * (1 + 5**0.5) * index
    lattice = [np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)]
    return np.stack(lattice, -1).astype(np.float32)
