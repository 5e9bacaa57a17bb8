"""Label images: whole numbers on a grid, 0 outside; each other number is a region of interest."""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from service.errors import EmptyRoi, RoiTooSmall, TooLarge, UnknownRoi, UnusableImage
from service.imaging.case import LEAST_ROI_VOXELS, Image, Mask, Voxels
from service.imaging.geometry import Geometry
from service.imaging.orientation import reorient

MOST_LABELS: Final = 4096  # more distinct values than this are an image, not labels
MOST_ROIS: Final = 256  # described at once with roi=all
LISTED: Final = 50


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

    def mask(self, roi: str | None) -> tuple[Mask, ...]:
        """Return the regions asked for.

        Args:
            roi: a label's value ("2"), "all" for each label, or None for the only one.

        Raises:
            EmptyRoi: there is no label at all.
            UnknownRoi: the label is absent, or None was given and there are several.
            RoiTooSmall: a region has one voxel.
            TooLarge: "all" of more than `MOST_ROIS` labels.
        """
        labels = self._choose(roi)
        for label in labels:
            if self.counts[label] < LEAST_ROI_VOXELS:
                raise RoiTooSmall(
                    f"label {label} holds {self.counts[label]} voxel, at least {LEAST_ROI_VOXELS} are needed",
                    label=label,
                    voxels=self.counts[label],
                    needed=LEAST_ROI_VOXELS,
                )
        return tuple(Mask(self.voxels == label, self.geometry, str(label)) for label in labels)

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

    def _choose(self, roi: str | None) -> tuple[int, ...]:
        held = tuple(self.counts)
        if not held:
            raise EmptyRoi("the mask holds no voxel other than 0", voxels=0)
        if roi == "all":
            if len(held) > MOST_ROIS:
                raise TooLarge(f"the mask holds {len(held)} labels, at most {MOST_ROIS} are described at once")
            return held
        if roi is None and len(held) == 1:
            return held
        wanted = next((label for label in held if str(label) == roi), None)
        if wanted is None:
            raise _unknown(held, absent=roi is not None)
        return (wanted,)


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


def _unknown(held: tuple[int, ...], *, absent: bool) -> UnknownRoi:
    listed = ", ".join(map(str, held[:LISTED])) + (", ..." if len(held) > LISTED else "")
    asked = "the mask does not hold this label" if absent else f"the mask holds {len(held)} labels and `roi` names none"
    return UnknownRoi(f"{asked}; it holds {listed}", labels=list(held[:LISTED]), label_count=len(held))


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
