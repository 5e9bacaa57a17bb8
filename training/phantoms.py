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
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np

from service.imaging.case import Image, Mask
from service.imaging.geometry import Geometry
from training.drawing import Floats, Grid, add_tube, draw_directions, grid_mm, mix, smooth
from training.layouts import LUNG, Layout
from training.lesions import Kind, add_lesion, draw_lesion

KINDS: tuple[Kind, ...] = get_args(Kind)
FREQUENCIES: dict[Kind, float] = {"smooth": 0.50, "lobulated": 0.25, "spiculated": 0.15, "part-solid": 0.10}

SOFT_TISSUE_HU = 45.0


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
    lesion = draw_lesion(rng, kind or drawn, layout)
    geometry = _draw_geometry(rng, layout)
    grid = grid_mm(geometry)
    volume = _draw_background(rng, grid, layout)
    wall = bool(rng.random() < layout.wall_probability)
    if wall:
        _add_wall(rng, volume, grid, clearance_mm=lesion.radius_mm * 0.7)
    outline = add_lesion(volume, grid, lesion)
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


def _draw_background(rng: np.random.Generator, grid: Grid, layout: Layout) -> Floats:
    """Return parenchyma with a slow drift of density and branching-free, curved, tapering vessels."""
    phases, waves = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.05, 0.12, 3)
    drift = sum(np.sin(waves[axis] * grid[axis] + phases[axis]) for axis in range(3))
    volume = np.asarray(rng.uniform(*layout.parenchyma_hu) + 8.0 * drift, np.float32)
    for _ in range(int(rng.integers(layout.vessels[0], layout.vessels[1] + 1))):
        _add_vessel(rng, volume, grid)
    return volume


def _add_vessel(rng: np.random.Generator, volume: Floats, grid: Grid) -> None:
    reach = np.array([np.abs(axis).max() for axis in grid])
    point, heading = rng.uniform(-reach, reach), draw_directions(rng, 1)[0]
    radius, density = rng.uniform(0.7, 2.4), rng.uniform(0.0, 60.0)
    for _ in range(int(rng.integers(2, 5))):
        end = point + heading * rng.uniform(10.0, 22.0)
        add_tube(volume, grid, (point, end), (radius, radius * 0.8), density)
        heading = heading + 0.45 * draw_directions(rng, 1)[0]
        point, heading, radius = end, heading / np.linalg.norm(heading), radius * 0.8


def _add_wall(rng: np.random.Generator, volume: Floats, grid: Grid, clearance_mm: float) -> None:
    """Draw the chest wall: everything beyond a plane that passes the lesion at `clearance_mm` or more."""
    normal = draw_directions(rng, 1)[0] * np.array([1.0, 1.0, 0.2])
    normal = normal / np.linalg.norm(normal)
    beyond = sum(float(normal[axis]) * grid[axis] for axis in range(3)) - (clearance_mm + rng.uniform(0.0, 12.0))
    everything = (slice(None), slice(None), slice(None))
    mix(volume, everything, np.clip(0.5 + np.asarray(beyond, np.float32), 0.0, 1.0), SOFT_TISSUE_HU)


def _blur(volume: Floats) -> Floats:
    """Apply the scanner's point spread: (1, 4, 1) / 6 along I and J."""
    for axis in (0, 1):
        volume = smooth(volume, axis, side=1 / 6)
    return volume


def _draw_noise(rng: np.random.Generator, shape: tuple[int, ...], noise_hu: float) -> Floats:
    """Return noise of the given standard deviation whose grains are about two voxels wide in plane."""
    noise = rng.standard_normal(shape, np.float32)
    for axis in (0, 1):
        noise = smooth(noise, axis, side=0.28)
    return np.asarray(noise * np.float32(noise_hu / noise.std()), np.float32)
