"""Procedural lung CT with one lesion and known truth: a seed gives a volume, its mask and what was drawn.

Nothing here comes from a patient. The four kinds of lesion share their range of sizes, so that volume alone
does not tell them apart, and are as unevenly frequent as findings in the lung are:

- `smooth` (50 %): round to slightly oval, solid, homogeneous.
- `lobulated` (25 %): solid, three to seven broad lobes.
- `spiculated` (15 %): solid, a nearly round body with thin spicules running into the lung. The mask follows the
  body, as a reader's outline would: the spicules lie outside it.
- `part-solid` (10 %): a ground-glass body around an off-centre solid part.

Vessels may touch any lesion, and mimic spicules; the irregularity of the kinds overlaps.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from service.imaging.case import Image, Mask
from service.imaging.geometry import Geometry

Kind: TypeAlias = Literal["smooth", "lobulated", "spiculated", "part-solid"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FREQUENCIES: dict[Kind, float] = {"smooth": 0.50, "lobulated": 0.25, "spiculated": 0.15, "part-solid": 0.10}

Range: TypeAlias = tuple[float, float]
Floats: TypeAlias = NDArray[np.float32]
Vector: TypeAlias = NDArray[np.float64]

AIR_HU, SOFT_TISSUE_HU = -1000.0, 45.0


@dataclass(frozen=True)
class Layout:
    """What all phantoms of a cohort have in common; ranges are drawn from uniformly, per phantom.

    `shape` is in voxels along the house axes (I, J, K); every length is in mm and every density in HU.
    """

    shape: tuple[int, int, int] = (72, 72, 48)
    in_plane_mm: Range = (0.7, 1.0)
    slice_mm: Range = (1.0, 2.5)
    radius_mm: Range = (4.0, 10.0)
    vessels: tuple[int, int] = (8, 20)
    wall_probability: float = 0.3
    parenchyma_hu: Range = (-890.0, -810.0)
    solid_hu: Range = (10.0, 70.0)
    ground_glass_hu: Range = (-680.0, -480.0)
    noise_hu: Range = (12.0, 55.0)
    outline_mm: Range = (-0.3, 0.4)


LUNG = Layout()
SMALL = Layout(shape=(40, 40, 24), slice_mm=(1.5, 2.0), radius_mm=(4.0, 6.0), vessels=(2, 4))
# Two layouts that a model of LUNG must not be trusted on: a dose far too low, and a sphere in another organ.
UNDEREXPOSED = Layout(noise_hu=(180.0, 260.0))
OFF_ORGAN = Layout(parenchyma_hu=(20.0, 60.0), solid_hu=(90.0, 140.0), vessels=(0, 1), wall_probability=0.0)


@dataclass(frozen=True)
class Truth:
    """What was drawn. `radius_mm` is that of the sphere of the body's volume; `volume_mm3` is the outline's."""

    kind: Kind
    seed: int
    radius_mm: float
    volume_mm3: float
    irregularity: float
    spicules: int
    body_hu: float
    noise_hu: float
    wall: bool

    def document(self) -> dict[str, Any]:
        """Return the truth as JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True)
class Phantom:
    """One synthetic case."""

    image: Image
    mask: Mask
    truth: Truth

    @property
    def kind(self) -> Kind:
        """The lesion's class."""
        return self.truth.kind


@dataclass(frozen=True)
class Lesion:
    """A star-shaped body: its surface lies at `radius_mm * profile(direction)` from the centre."""

    kind: Kind
    radius_mm: float
    outline_mm: float
    stretch: Vector  # (3,) relative lengths of the axes
    bumps: Vector  # (n, 3) unit directions of the lobes
    heights: Vector  # (n,) relative to the radius
    sharpness: float
    body_hu: float
    spicules: Vector = field(default_factory=lambda: np.zeros((0, 3)))  # (n, 3) directions times length in radii
    core_offset: Vector = field(default_factory=lambda: np.zeros(3))  # in radii
    core_radius: float = 0.0  # in radii; 0: no solid part
    core_hu: float = 0.0

    def profile(self, directions: Floats) -> Floats:
        """Return the surface's distance along unit `directions` (..., 3), in radii before normalisation."""
        oval = 1.0 / np.sqrt(((directions / self.stretch.astype(np.float32)) ** 2).sum(-1))
        cosines = directions @ self.bumps.T.astype(np.float32)  # (..., n)
        lobes = np.exp(self.sharpness * (cosines - 1.0)) @ self.heights.astype(np.float32)
        return np.asarray(oval * (1.0 + lobes), np.float32)

    @property
    def unit_mm(self) -> float:
        """The factor from profile to mm that gives the body the volume of a sphere of `radius_mm`."""
        return float(self.radius_mm / np.cbrt((self.profile(_sphere()).astype(np.float64) ** 3).mean()))

    @property
    def outline_volume_mm3(self) -> float:
        """Volume inside the outline, `outline_mm` beyond the body: the mean of r^3 over all directions."""
        reach = self.unit_mm * self.profile(_sphere()).astype(np.float64) + self.outline_mm
        return float(4.0 / 3.0 * np.pi * (reach**3).mean())


def make_phantom(seed: int, kind: Kind | None = None, layout: Layout = LUNG) -> Phantom:
    """Draw one phantom; the seed determines it wholly.

    Args:
        seed: any non-negative integer.
        kind: the lesion's class; drawn with `FREQUENCIES` where absent.
        layout: the ranges to draw from.

    Returns:
        An int16 CT volume in HU, the lesion's mask on the same grid, and the truth.
    """
    rng = np.random.default_rng([seed, 20_2611])
    drawn = KINDS[int(rng.choice(len(KINDS), p=list(FREQUENCIES.values())))]
    lesion = _draw_lesion(rng, kind or drawn, layout)
    geometry = _draw_geometry(rng, layout)
    grid = _grid_mm(geometry)
    volume = _draw_background(rng, grid, layout)
    wall = bool(rng.random() < layout.wall_probability)
    if wall:
        _add_wall(rng, volume, grid, clearance_mm=lesion.radius_mm * 0.7)
    outline = _add_lesion(volume, grid, lesion)
    noise_hu = rng.uniform(*layout.noise_hu)
    volume = _blur(volume) + _draw_noise(rng, volume.shape, noise_hu)
    voxels = np.clip(np.rint(volume), -1024, 3071).astype(np.int16)
    truth = Truth(
        kind=lesion.kind,
        seed=seed,
        radius_mm=lesion.radius_mm,
        volume_mm3=lesion.outline_volume_mm3,
        irregularity=float(lesion.heights.max(initial=0.0)),
        spicules=len(lesion.spicules),
        body_hu=lesion.body_hu,
        noise_hu=float(noise_hu),
        wall=wall,
    )
    return Phantom(Image(voxels, geometry, "CT"), Mask(outline, geometry, "1"), truth)


def make_cohort(first_seed: int, count: int, layout: Layout = LUNG) -> Iterator[Phantom]:
    """Yield `count` phantoms of consecutive seeds, their kinds drawn with `FREQUENCIES`."""
    for seed in range(first_seed, first_seed + count):
        yield make_phantom(seed, layout=layout)


def _draw_geometry(rng: np.random.Generator, layout: Layout) -> Geometry:
    """Draw the spacing; the lesion's centre, a fraction of a voxel off the middle, is the origin of the world."""
    in_plane, between = rng.uniform(*layout.in_plane_mm), rng.uniform(*layout.slice_mm)
    step = np.array([-in_plane, -in_plane, between])  # (I, J, K) run towards L, P, S
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = -step * ((np.array(layout.shape) - 1) / 2 + rng.uniform(-0.5, 0.5, 3))
    return Geometry(layout.shape, affine)


def _draw_lesion(rng: np.random.Generator, kind: Kind, layout: Layout) -> Lesion:
    heights, count, sharpness = _draw_irregularity(rng, kind)
    low, high = layout.radius_mm
    radius = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    part_solid = kind == "part-solid"
    core_radius = float(rng.uniform(0.3, 0.6)) if part_solid else 0.0
    spicules = rng.integers(7, 17) if kind == "spiculated" else 0
    return Lesion(
        kind=kind,
        radius_mm=radius,
        outline_mm=float(rng.uniform(*layout.outline_mm)),
        stretch=rng.uniform(0.85, 1.18, 3),
        bumps=_directions(rng, count),
        heights=heights,
        sharpness=sharpness,
        body_hu=float(rng.uniform(*(layout.ground_glass_hu if part_solid else layout.solid_hu))),
        spicules=_directions(rng, int(spicules)) * rng.uniform(1.5, 2.2, (int(spicules), 1)),
        core_offset=_directions(rng, 1)[0] * rng.uniform(0.0, 0.35),
        core_radius=core_radius,
        core_hu=float(rng.uniform(*layout.solid_hu)) if part_solid else 0.0,
    )


def _draw_irregularity(rng: np.random.Generator, kind: Kind) -> tuple[Vector, int, float]:
    """Return the lobes' heights, their number and their sharpness; the ranges of the kinds overlap."""
    largest = {"smooth": (0.0, 0.15), "lobulated": (0.35, 0.9), "spiculated": (0.05, 0.3), "part-solid": (0.05, 0.4)}
    count = int(rng.integers(3, 8))
    heights = rng.uniform(*largest[kind]) * rng.uniform(0.6, 1.0, count)
    return heights, count, float(rng.uniform(7.0, 14.0))


def _directions(rng: np.random.Generator, count: int) -> Vector:
    drawn = rng.standard_normal((count, 3))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float64)


def _sphere(count: int = 2000) -> Floats:
    """Return `count` evenly spread unit directions (a Fibonacci lattice)."""
    index = np.arange(count) + 0.5
    polar, azimuth = np.arccos(1 - 2 * index / count), np.pi * (1 + 5**0.5) * index
    lattice = [np.cos(azimuth) * np.sin(polar), np.sin(azimuth) * np.sin(polar), np.cos(polar)]
    return np.stack(lattice, -1).astype(np.float32)


def _grid_mm(geometry: Geometry) -> tuple[Floats, Floats, Floats]:
    """Return the world coordinates along the three axes, each shaped to broadcast over the volume."""
    steps, origin = np.diag(geometry.affine)[:3], geometry.affine[:3, 3]
    lines = [(origin[axis] + steps[axis] * np.arange(size)).astype(np.float32) for axis, size in enumerate(geometry.shape)]
    return lines[0][:, None, None], lines[1][None, :, None], lines[2][None, None, :]


def _draw_background(rng: np.random.Generator, grid: tuple[Floats, ...], layout: Layout) -> Floats:
    """Return parenchyma with a slow drift of density and branching-free, curved, tapering vessels."""
    phases, waves = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.05, 0.12, 3)
    drift = sum(np.sin(waves[axis] * grid[axis] + phases[axis]) for axis in range(3))
    volume = (rng.uniform(*layout.parenchyma_hu) + 8.0 * drift).astype(np.float32)
    for _ in range(int(rng.integers(layout.vessels[0], layout.vessels[1] + 1))):
        _add_vessel(rng, volume, grid)
    return volume


def _add_vessel(rng: np.random.Generator, volume: Floats, grid: tuple[Floats, ...]) -> None:
    reach = np.array([np.abs(axis).max() for axis in grid])
    point, heading = rng.uniform(-reach, reach), _directions(rng, 1)[0]
    radius, density = rng.uniform(0.7, 2.4), rng.uniform(0.0, 60.0)
    for _ in range(int(rng.integers(2, 5))):
        end = point + heading * rng.uniform(10.0, 22.0)
        _add_tube(volume, grid, (point, end), (radius, radius * 0.8), density)
        heading = heading + 0.45 * _directions(rng, 1)[0]
        point, heading, radius = end, heading / np.linalg.norm(heading), radius * 0.8


def _add_tube(
    volume: Floats, grid: tuple[Floats, ...], ends: tuple[Vector, Vector], radii: Range, density_hu: float
) -> None:
    """Draw a tapering tube between two points, with an edge about one voxel wide, inside its bounding box."""
    low, high = np.minimum(*ends) - max(radii) - 1.5, np.maximum(*ends) + max(radii) + 1.5
    box = _box(grid, low, high)
    if any(part.start >= part.stop for part in box):
        return
    x, y, z = (axis_values[tuple(_along(box, axis))] for axis, axis_values in enumerate(grid))
    (ax, ay, az), (bx, by, bz) = (ends[1] - ends[0]).tolist(), ends[0].tolist()
    x, y, z = x - bx, y - by, z - bz
    along = np.clip((x * ax + y * ay + z * az) / (ax * ax + ay * ay + az * az), 0.0, 1.0)
    distance = np.sqrt((x - along * ax) ** 2 + (y - along * ay) ** 2 + (z - along * az) ** 2)
    fraction = np.clip(0.5 + radii[0] + (radii[1] - radii[0]) * along - distance, 0.0, 1.0)
    _mix(volume, box, fraction, density_hu)


def _box(grid: tuple[Floats, ...], low: Vector, high: Vector) -> tuple[slice, slice, slice]:
    parts = []
    for axis, values in enumerate(grid):
        inside = np.flatnonzero((values.ravel() >= low[axis]) & (values.ravel() <= high[axis]))
        parts.append(slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0))
    return parts[0], parts[1], parts[2]


def _along(box: tuple[slice, slice, slice], axis: int) -> list[slice]:
    return [box[axis] if other == axis else slice(None) for other in range(3)]


def _mix(volume: Floats, box: tuple[slice, slice, slice], fraction: Floats, density_hu: float) -> None:
    """Let tissue take `fraction` of each voxel; where it is less dense than what is there, nothing changes."""
    region = volume[box]
    np.maximum(region, region + fraction * (density_hu - region), out=region)


def _add_wall(rng: np.random.Generator, volume: Floats, grid: tuple[Floats, ...], clearance_mm: float) -> None:
    """Draw the chest wall: everything beyond a plane that passes the lesion at `clearance_mm` or more."""
    normal = _directions(rng, 1)[0] * np.array([1.0, 1.0, 0.2])
    normal = normal / np.linalg.norm(normal)
    beyond = sum(float(normal[axis]) * grid[axis] for axis in range(3)) - (clearance_mm + rng.uniform(0.0, 12.0))
    everything = (slice(None), slice(None), slice(None))
    _mix(volume, everything, np.clip(0.5 + np.asarray(beyond, np.float32), 0.0, 1.0), SOFT_TISSUE_HU)


def _add_lesion(volume: Floats, grid: tuple[Floats, ...], lesion: Lesion) -> NDArray[np.bool_]:
    """Draw the lesion into `volume` and return the voxels inside its outline."""
    unit = lesion.unit_mm
    for spicule in lesion.spicules:
        _add_tube(volume, grid, (spicule * 0.7 * unit, spicule * unit), (1.1, 0.4), lesion.body_hu)
    reach = float(unit * lesion.profile(_sphere()).max()) + 2.0
    box = _box(grid, np.full(3, -reach), np.full(3, reach))
    parts = np.broadcast_arrays(*(values[tuple(_along(box, axis))] for axis, values in enumerate(grid)))
    points = np.stack(parts, -1)
    distance = np.sqrt((points**2).sum(-1)) + np.float32(1e-6)
    depth = unit * lesion.profile(points / distance[..., None]) - distance  # mm under the surface
    region = volume[box]
    region += np.clip(0.5 + depth, 0.0, 1.0) * (lesion.body_hu - region)
    if lesion.core_radius:
        from_core = np.sqrt(((points - (unit * lesion.core_offset).astype(np.float32)) ** 2).sum(-1))
        _mix(volume, box, np.clip(0.5 + lesion.core_radius * unit - from_core, 0.0, 1.0), lesion.core_hu)
    outline = np.zeros(volume.shape, np.bool_)
    outline[box] = depth > -lesion.outline_mm
    return outline


def _blur(volume: Floats) -> Floats:
    """Apply the scanner's point spread: (1, 4, 1) / 6 along I and J."""
    for axis in (0, 1):
        volume = _smooth(volume, axis, side=1 / 6)
    return volume


def _draw_noise(rng: np.random.Generator, shape: tuple[int, ...], noise_hu: float) -> Floats:
    """Return noise of the given standard deviation whose grains are about two voxels wide in plane."""
    noise = rng.standard_normal(shape, np.float32)
    for axis in (0, 1):
        noise = _smooth(noise, axis, side=0.28)
    return np.asarray(noise * np.float32(noise_hu / noise.std()), np.float32)


def _smooth(volume: Floats, axis: int, side: float) -> Floats:
    """Convolve with (side, 1 - 2 side, side) along one axis; the ends are repeated."""
    moved = np.moveaxis(volume, axis, 0)
    padded = np.concatenate([moved[:1], moved, moved[-1:]])
    mixed = np.float32(1 - 2 * side) * moved + np.float32(side) * (padded[:-2] + padded[2:])
    return np.moveaxis(mixed, 0, axis)
