"""The lesions of the phantoms: four kinds of star-shaped bodies, drawn with or without spicules and solid parts."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from training.drawing import Floats, Grid, Vector, add_tube, along_axis, draw_directions, even_directions, find_box, mix
from training.layouts import Layout

Kind: TypeAlias = Literal["smooth", "lobulated", "spiculated", "part-solid"]


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
        return float(self.radius_mm / np.cbrt((self.profile(even_directions()).astype(np.float64) ** 3).mean()))

    @property
    def outline_volume_mm3(self) -> float:
        """Volume inside the outline, `outline_mm` beyond the body: the mean of r^3 over all directions."""
        reach = self.unit_mm * self.profile(even_directions()).astype(np.float64) + self.outline_mm
        return float(4.0 / 3.0 * np.pi * (reach**3).mean())


def draw_lesion(rng: np.random.Generator, kind: Kind, layout: Layout) -> Lesion:
    """Draw a lesion of one kind; its volume is that of a sphere whose radius is log-uniform, whatever the kind."""
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
        bumps=draw_directions(rng, count),
        heights=heights,
        sharpness=sharpness,
        body_hu=float(rng.uniform(*(layout.ground_glass_hu if part_solid else layout.solid_hu))),
        spicules=draw_directions(rng, int(spicules)) * rng.uniform(1.5, 2.2, (int(spicules), 1)),
        core_offset=draw_directions(rng, 1)[0] * rng.uniform(0.0, 0.35),
        core_radius=core_radius,
        core_hu=float(rng.uniform(*layout.solid_hu)) if part_solid else 0.0,
    )


def _draw_irregularity(rng: np.random.Generator, kind: Kind) -> tuple[Vector, int, float]:
    """Return the lobes' heights, their number and their sharpness; the ranges of the kinds overlap."""
    largest = {"smooth": (0.0, 0.15), "lobulated": (0.35, 0.9), "spiculated": (0.05, 0.3), "part-solid": (0.05, 0.4)}
    count = int(rng.integers(3, 8))
    heights = rng.uniform(*largest[kind]) * rng.uniform(0.6, 1.0, count)
    return heights, count, float(rng.uniform(7.0, 14.0))


def add_lesion(volume: Floats, grid: Grid, lesion: Lesion) -> NDArray[np.bool_]:
    """Draw the lesion into `volume` and return the voxels inside its outline."""
    unit = lesion.unit_mm
    for spicule in lesion.spicules:
        add_tube(volume, grid, (spicule * 0.7 * unit, spicule * unit), (1.1, 0.4), lesion.body_hu)
    reach = float(unit * lesion.profile(even_directions()).max()) + 2.0
    box = find_box(grid, np.full(3, -reach), np.full(3, reach))
    parts = np.broadcast_arrays(*(values[tuple(along_axis(box, axis))] for axis, values in enumerate(grid)))
    points = np.stack(parts, -1)
    distance = np.sqrt((points**2).sum(-1)) + np.float32(1e-6)
    depth = unit * lesion.profile(points / distance[..., None]) - distance  # mm under the surface
    region = volume[box]
    region += np.clip(0.5 + depth, 0.0, 1.0) * (lesion.body_hu - region)
    if lesion.core_radius:
        from_core = np.sqrt(((points - (unit * lesion.core_offset).astype(np.float32)) ** 2).sum(-1))
        mix(volume, box, np.clip(0.5 + lesion.core_radius * unit - from_core, 0.0, 1.0), lesion.core_hu)
    outline = np.zeros(volume.shape, np.bool_)
    outline[box] = depth > -lesion.outline_mm
    return outline
