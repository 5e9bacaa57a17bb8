"""Procedural gliomas in the layout of BraTS 2019: a folder to try the multi-channel path on, with known truth.

Nothing here comes from a patient, and nothing measured on it says anything of glioma. A "high grade" phantom has a
ring that takes up contrast around a dark core, a "low grade" one little or none; both have an oedema that FLAIR and T2
show. Size is drawn alike for both. Images are zero outside the "brain", as those of BraTS are.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import nibabel
import numpy as np
from numpy.typing import NDArray

from training.drawing import Floats, smooth

SHAPE: Final = (72, 80, 56)
SPACING_MM: Final = 2.0
HIGH_GRADE_SHARE: Final = 0.7  # about that of BraTS, 259 of 335
GRADES: Final = ("HGG", "LGG")
# Brightness of brain, oedema, ring and core by channel, in the arbitrary units of MR.
TISSUES: Final[Mapping[str, tuple[float, float, float, float]]] = {
    "t1": (400.0, 340.0, 330.0, 250.0),
    "t1ce": (400.0, 340.0, 700.0, 260.0),
    "t2": (300.0, 560.0, 480.0, 620.0),
    "flair": (300.0, 600.0, 520.0, 330.0),
}
LABELS: Final = {"oedema": 2, "ring": 4, "core": 1}


@dataclass(frozen=True)
class Glioma:
    """One synthetic case: channels [I, J, K] by name and the segmentation with BraTS' labels 1, 2 and 4."""

    grade: str
    images: Mapping[str, Floats]
    segmentation: NDArray[np.uint8]


def make_glioma(seed: int) -> Glioma:
    """Draw one case; equal seeds give equal cases."""
    rng = np.random.default_rng([seed, 21])
    grade = GRADES[int(rng.random() >= HIGH_GRADE_SHARE)]
    brain = _ellipsoid((0.0, 0.0, 0.0), (62.0, 70.0, 46.0))
    centre = rng.uniform(-25.0, 25.0, 3)
    radius_mm = rng.uniform(8.0, 16.0)
    bumps = _texture(rng) * 0.25
    distance = _distance(tuple(centre.tolist())) * (1.0 + bumps)
    segmentation = np.zeros(SHAPE, np.uint8)
    segmentation[distance < radius_mm * rng.uniform(1.3, 1.8)] = LABELS["oedema"]
    segmentation[distance < radius_mm] = LABELS["ring"]
    segmentation[distance < radius_mm * rng.uniform(0.5, 0.8)] = LABELS["core"]
    segmentation[~brain] = 0
    uptake = rng.uniform(0.7, 1.3) if grade == "HGG" else rng.uniform(0.0, 0.35)
    gains = rng.uniform(0.6, 1.6, len(TISSUES))
    images = {
        channel: _paint(rng, channel, segmentation, uptake) * brain * np.float32(gain)
        for (channel, gain) in zip(TISSUES, gains, strict=True)
    }
    return Glioma(grade, images, segmentation)


def write_brats_tree(folder: Path, count: int, first_seed: int = 0) -> None:
    """Write `count` cases as BraTS 2019 lays them out: a folder each, five volumes in it, and name_mapping.csv.

    Raises:
        FileExistsError: `folder` holds cases already.
    """
    names = {seed: f"BraTS19_PHANTOM_{seed:04d}_1" for seed in range(first_seed, first_seed + count)}
    rows = []
    for seed, name in names.items():
        glioma = make_glioma(seed)
        place = folder / glioma.grade / name
        place.mkdir(parents=True)
        for channel, voxels in glioma.images.items():
            _write(np.rint(voxels).astype(np.int16), place / f"{name}_{channel}.nii.gz")
        _write(glioma.segmentation, place / f"{name}_seg.nii.gz")
        rows.append({"Grade": glioma.grade, "BraTS_2019_subject_ID": name})
    with (folder / "name_mapping.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def _paint(rng: np.random.Generator, channel: str, segmentation: NDArray[np.uint8], uptake: float) -> Floats:
    brain, oedema, ring, core = TISSUES[channel]
    if channel == "t1ce":
        ring = TISSUES["t1"][2] + uptake * (ring - TISSUES["t1"][2])
    voxels = np.full(SHAPE, brain, np.float32)
    for name, brightness in (("oedema", oedema), ("ring", ring), ("core", core)):
        voxels[segmentation == LABELS[name]] = brightness
    for axis in range(3):
        voxels = smooth(voxels, axis, side=0.2)
    grain = np.float32(0.06) * _texture(rng) + np.float32(0.04) * rng.standard_normal(SHAPE, np.float32)
    return np.maximum(voxels * (1.0 + grain), 1.0).astype(np.float32)


def _texture(rng: np.random.Generator) -> Floats:
    """Return noise of unit deviation with grains of about a centimetre."""
    coarse = rng.standard_normal([size // 4 for size in SHAPE], np.float32)
    noise = coarse.repeat(4, 0).repeat(4, 1).repeat(4, 2)
    for _ in range(2):
        for axis in range(3):
            noise = smooth(noise, axis, side=0.25)
    return np.asarray(noise / noise.std(), np.float32)


def _distance(centre_mm: tuple[float, ...], radii: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Floats:
    """Return the distance of every voxel from a point of the volume's middle, in units of the radii."""
    axes = [
        ((np.arange(size) - (size - 1) / 2) * SPACING_MM - middle) / radius
        for size, middle, radius in zip(SHAPE, centre_mm, radii, strict=True)
    ]
    i, j, k = np.meshgrid(*axes, indexing="ij", sparse=True)
    return np.asarray(np.sqrt(i**2 + j**2 + k**2), np.float32)


def _ellipsoid(centre_mm: tuple[float, ...], radii_mm: tuple[float, ...]) -> NDArray[np.bool_]:
    return np.asarray(_distance(centre_mm, radii_mm) < 1.0)


def _write(voxels: NDArray[Any], path: Path) -> None:
    grid = np.diag([-SPACING_MM, -SPACING_MM, SPACING_MM, 1.0])
    volume: Any = nibabel.Nifti1Image(voxels, grid)  # type: ignore[no-untyped-call]
    volume.to_filename(path)
