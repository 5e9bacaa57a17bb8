"""Label images: whole numbers on a grid, 0 outside; each other number is a region of interest."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from service.errors import EmptyRoi, RoiTooSmall, UnusableImage
from service.imaging.case import LEAST_ROI_VOXELS, Image, Mask, Voxels
from service.imaging.geometry import Geometry
from service.imaging.guard import Limits
from service.imaging.orientation import reorient
from service.imaging.regions import LABEL, WHOLE, Chosen, Roi, check_masks_size, choose_regions, tell_whole

MOST_LABELS: Final = 4096  # more distinct values than this are an image, not labels


@dataclass(frozen=True)
class Label:
    """One label; its value is its number and its name."""

    number: int

    @property
    def name(self) -> str:
        """The value as text."""
        return str(self.number)


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Whole-number labels on a grid.

    Attributes:
        voxels: (I, J, K) integers; 0 is the background.
        geometry: the grid.
        notes: what was changed or decided while reading.
    """

    voxels: Voxels
    geometry: Geometry
    notes: tuple[str, ...] = ()

    @cached_property
    def counts(self) -> dict[int, int]:
        """Voxels per label, background left out, by ascending label.

        Raises:
            UnusableImage: more than `MOST_LABELS` labels.
        """
        counts: dict[int, int] = {}
        for plane in np.moveaxis(self.voxels, 2, 0):
            labels, sizes = np.unique(plane[plane != 0], return_counts=True)
            for label, size in zip(labels.tolist(), sizes.tolist(), strict=True):
                counts[label] = counts.get(label, 0) + size
            if len(counts) > MOST_LABELS:
                raise UnusableImage(f"the mask holds more than {MOST_LABELS} labels: it is no label image")
        return dict(sorted(counts.items()))

    def mask(self, roi: Roi) -> tuple[Mask, ...]:
        """Return the regions asked for.

        Args:
            roi: labels' values ("2", "1,4" or several texts), "all" for each label, "whole" for their union, or None
                for the only one.

        Raises:
            EmptyRoi: there is no label at all.
            UnknownRoi: a label is absent, or None was given and there are several.
            RoiTooSmall: a region has one voxel.
            TooLarge: more than `MOST_ROIS` regions.
        """
        return tuple(self._draw(chosen) for chosen in self._choose(roi))

    def masks_within(self, roi: Roi, limits: Limits) -> tuple[tuple[Mask, ...], tuple[str, ...]]:
        """Return the regions asked for and notes; refuse more than the limit on decoded bytes.

        Raises:
            TooLarge: over the limit, or as `mask`.
            EmptyRoi, UnknownRoi, RoiTooSmall: as `mask`.
        """
        chosen = self._choose(roi)
        check_masks_size(len(chosen), self.voxels.size, limits)
        return tuple(map(self._draw, chosen)), (*self.notes, *tell_whole(chosen, LABEL))

    def _choose(self, roi: Roi) -> tuple[Chosen[Label], ...]:
        if not self.counts:
            raise EmptyRoi("the mask holds no voxel other than 0", voxels=0)
        return choose_regions([Label(label) for label in self.counts], roi, LABEL)

    def _draw(self, chosen: Chosen[Label]) -> Mask:
        count = sum(self.counts[label.number] for label in chosen.parts)
        if count < LEAST_ROI_VOXELS:
            raise RoiTooSmall(
                f"label {chosen.parts[0].number} holds {count} voxel, at least {LEAST_ROI_VOXELS} are needed",
                label=chosen.parts[0].number,
                voxels=count,
                needed=LEAST_ROI_VOXELS,
            )
        inside = self.voxels != 0 if chosen.name == WHOLE else self.voxels == chosen.parts[0].number
        return Mask(inside, self.geometry, chosen.name)

    def on_grid(self, image: Geometry, *, resample: bool) -> "LabelMap":
        """Return the labels on the image's grid; on another one only if resampling is allowed.

        A grid that matches is replaced by the image's, so that both are exactly equal afterwards.
        """
        voxels, geometry, _ = reorient(self.voxels, self.geometry, toward=image.direction)
        if image.matches(geometry):
            return LabelMap(voxels, image, self.notes)
        if not resample:
            return LabelMap(voxels, geometry, self.notes)
        note = "the mask was on another grid and was resampled to the image's by nearest neighbour"
        return LabelMap(resample_nearest(voxels, geometry, image), image, (*self.notes, note))


def to_labels(image: Image) -> LabelMap:
    """Take a volume as labels.

    Raises:
        UnusableImage: a value is not a whole number, or beyond 32 bits.
    """
    if image.voxels.dtype.kind in "iu":
        return LabelMap(image.voxels, image.geometry, image.notes)
    labels = np.empty(image.voxels.shape, np.int32, order="F")
    broken = 0
    for k in range(image.voxels.shape[2]):
        plane = image.voxels[:, :, k]
        broken += int(np.count_nonzero((plane != np.rint(plane)) | (np.abs(plane) > np.iinfo(np.int32).max)))
        if not broken:
            labels[:, :, k] = plane
    if broken:
        raise UnusableImage(
            f"{broken} of the mask's {image.voxels.size} voxels are not whole numbers of at most 32 bits",
            not_whole=broken,
        )
    return LabelMap(labels, image.geometry, image.notes)


def resample_nearest(voxels: Voxels, source: Geometry, target: Geometry) -> Voxels:
    """Sample labels at the target's voxel centres; 0 outside. Works plane by plane, within the labels' reach."""
    result = np.zeros(target.shape, voxels.dtype, order="F")
    reach = _reach(voxels, source, target)
    step = np.linalg.inv(source.affine) @ target.affine  # target index to source index
    i, j = (np.arange(first, stop) for first, stop in reach[:2])
    for k in range(*reach[2]):
        index = [
            np.floor(step[row, 0] * i[:, None] + step[row, 1] * j + (step[row, 2] * k + step[row, 3] + 0.5))
            for row in range(3)
        ]
        inside = np.logical_and.reduce([(at >= 0) & (at < size) for at, size in zip(index, source.shape, strict=True)])
        found = voxels[tuple(at[inside].astype(np.intp) for at in index)]
        plane = np.zeros(inside.shape, voxels.dtype)
        plane[inside] = found
        result[slice(*reach[0]), slice(*reach[1]), k] = plane
    return result


def _reach(voxels: Voxels, source: Geometry, target: Geometry) -> list[tuple[int, int]]:
    """Return, per target axis, the range of indices that the non-zero voxels may touch."""
    spans = []
    for axis in range(3):
        present = np.flatnonzero(np.any(voxels != 0, axis=tuple(other for other in range(3) if other != axis)))
        spans.append((present[0] - 0.5, present[-1] + 0.5) if present.size else (0.0, 0.0))
    corners = np.stack(np.meshgrid(*spans, indexing="ij"), axis=-1).reshape(8, 3)
    at = target.to_index(source.to_world(corners))
    low = np.clip(np.floor(at.min(axis=0)), 0, target.shape).astype(int)
    high = np.clip(np.ceil(at.max(axis=0)) + 1, 0, target.shape).astype(int)
    return list(zip(low.tolist(), high.tolist(), strict=True))
