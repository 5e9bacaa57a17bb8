"""Read the segments of a DICOM SEG onto an image's grid.

highdicom sorts frames into volumes: in any order, sparse (frames without a voxel are often left out), overlapping,
binary, fractional or label map. Here the volume of a segment is laid on the image: without any resampling where its
pixels coincide with the image's voxels, as they do where the segmentation was made on this image or a part of it.

References:
    DICOM PS3.3 C.8.20 (segmentation), C.7.6.16 (functional groups).
"""

import logging
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from highdicom.seg import Segmentation
from numpy.typing import NDArray

from service.errors import GeometryMismatch, TooLarge, UnreadableImage, UnusableImage
from service.imaging.case import Image, Mask, check_same_grid
from service.imaging.dataset import public_name, quietly, read_region
from service.imaging.geometry import MATCH_TOLERANCE, Geometry
from service.imaging.guard import Limits, check_size
from service.imaging.itk_bridge import RAS_TO_LPS
from service.imaging.labels import resample_nearest
from service.imaging.pixels import check_encoded_size
from service.imaging.regions import (
    Chosen,
    Roi,
    check_frame,
    check_masks_size,
    choose_regions,
    printable,
    tell_whole,
    to_mask,
)

logging.getLogger("highdicom").setLevel(logging.CRITICAL + 1)  # its messages quote values

FRACTION: Final = 0.5  # of a fractional segment, from which on a voxel belongs to it
TYPES: Final = ("BINARY", "FRACTIONAL", "LABELMAP")
MOST_FRAMES: Final = 100_000
SLICE_TOLERANCE: Final = 0.01  # of the image's slice spacing


@dataclass(frozen=True)
class Segment:
    """One segment, as the file numbers and labels it."""

    number: int
    name: str


def read_segments(
    dataset: Any, image: Image, roi: Roi, resample: bool, limits: Limits
) -> tuple[tuple[Mask, ...], list[str]]:
    """Lay the segments asked for on the grid of an image.

    Args:
        dataset: a parsed SEG.
        image: gives the grid and the frame of reference.
        roi: segments' labels or numbers, "all", "whole", or None for the only one; see `choose_regions`.
        resample: allow the segmentation to lie on another grid and resample it by nearest neighbour.
        limits: on the segmentation's volume, and on all masks together.

    Returns:
        A mask for each segment, and notes.

    Raises:
        UnknownRoi, EmptyRoi, RoiTooSmall, TooLarge: see `choose_regions` and `Mask`.
        GeometryMismatch: another frame of reference or grid.
        UnusableImage: tiled, or not one regular volume.
        UnreadableImage: damaged, of an unknown type, or in an encoding that cannot be decoded.
    """
    segmentation, kind = _open(dataset, limits)
    with quietly("the SEG is damaged: its frame of reference cannot be read"):
        frame = str(dataset.get("FrameOfReferenceUID") or "")
    notes = check_frame(frame, image, "the segmentation")
    chosen = choose_regions(_list(dataset), roi, "segment")
    check_masks_size(len(chosen), image.voxels.size, limits)
    if kind == "FRACTIONAL":
        notes.append(f"fractional segments: a voxel belongs where its fraction is at least {FRACTION}")
    notes += tell_whole(chosen, "segment")
    masks = []
    for one in chosen:
        voxels, geometry = _decode(segmentation, one, limits)
        placed, note = _lay(voxels, geometry, image.geometry, resample)
        notes += [note] if note else []
        single = one.parts[0].number if len(one.parts) == 1 else None
        what = "the union of all segments" if single is None else f"segment {single}"
        source = None if single is None else read_region(dataset, single)
        masks.append(to_mask(placed, image.geometry, one.name, what, source))
    return tuple(masks), list(dict.fromkeys(notes))


def _open(dataset: Any, limits: Limits) -> tuple[Any, str]:
    """Check what can be checked before anything is decoded, and let highdicom index the frames."""
    with quietly("the SEG is damaged: its image pixel module cannot be read"):
        frames, rows, columns = int(dataset.get("NumberOfFrames") or 1), int(dataset.Rows), int(dataset.Columns)
        kind = str(dataset.get("SegmentationType"))
        tiled = "TotalPixelMatrixRows" in dataset
    if tiled:
        raise UnusableImage("got a tiled segmentation (microscopy), expected one of a volume")
    if kind not in TYPES:
        raise UnreadableImage(f"got a SEG of an unknown type, expected {', '.join(TYPES)}")
    syntax = dataset.file_meta.TransferSyntaxUID
    with quietly("got a SEG of a transfer syntax unknown to the standard"):
        little_endian = syntax.is_little_endian
    if not little_endian:
        raise UnreadableImage(f"got a SEG of transfer syntax {public_name(syntax)}, which is not accepted")
    if frames > MOST_FRAMES:
        raise TooLarge(
            f"the SEG holds {frames} frames, at most {MOST_FRAMES} are accepted",
            got=frames,
            limit=MOST_FRAMES,
            unit="frames",
        )
    check_size((columns, rows, frames), 1, Limits(limits.decoded_bytes, limits.decoded_bytes, limits.files))
    with quietly("the SEG is damaged: its frames and segments cannot be told"):
        check_encoded_size(dataset, (frames, rows, columns))
        return Segmentation.from_dataset(dataset, copy=False), kind


def _list(dataset: Any) -> list[Segment]:
    """List the segments; a label map's number 0 is the background."""
    with quietly("the SEG is damaged: its segments cannot be read"):
        listed = [
            Segment(int(one.SegmentNumber), printable(str(one.get("SegmentLabel") or "")))
            for one in dataset.SegmentSequence
        ]
    return [one for one in listed if one.number > 0]


def _decode(segmentation: Any, chosen: Chosen[Segment], limits: Limits) -> tuple[NDArray[np.bool_], Geometry]:
    """Decode one segment, or the union of several one by one: bool (columns, rows, slices) and its grid."""
    with quietly("the frames of the SEG do not form a regular volume"):
        geometry = segmentation.get_volume_geometry()
    if geometry is None:
        raise UnusableImage("the frames of the SEG do not form one volume of evenly spaced, parallel slices")
    slices, rows, columns = (int(size) for size in geometry.spatial_shape)
    check_size((columns, rows, slices), 4 if segmentation.SegmentationType == "FRACTIONAL" else 1, limits)
    syntax = segmentation.file_meta.TransferSyntaxUID
    with quietly(f"the frames of the SEG cannot be decoded (transfer syntax {public_name(syntax)})"):
        voxels = np.zeros((slices, rows, columns), np.bool_)
        for part in chosen.parts:
            volume = segmentation.get_volume(segment_numbers=[part.number])
            voxels |= np.asarray(volume.array)[..., 0] >= (FRACTION if volume.array.dtype.kind == "f" else 1)
        affine = np.eye(4)
        affine[:3] = RAS_TO_LPS @ np.asarray(volume.affine)[:3, [2, 1, 0, 3]]  # from (slices, rows, columns)
    return voxels.transpose(2, 1, 0), Geometry((columns, rows, slices), affine)


def _lay(
    voxels: NDArray[np.bool_], geometry: Geometry, grid: Geometry, resample: bool
) -> tuple[NDArray[np.bool_], str | None]:
    """Put a segment's voxels where they lie on the image's grid."""
    placed = _place(voxels, geometry, grid)
    if placed is not None:
        return placed, None
    if not resample:
        hint = "; resample_mask=true resamples the mask by nearest neighbour"
        check_same_grid(grid, geometry, "segmentation", hint)
        raise GeometryMismatch(
            f"the segmentation's voxels do not coincide with the image's{hint}",
            expected=grid.describe(),
            got=geometry.describe(),
        )
    note = "the mask was on another grid and was resampled to the image's by nearest neighbour"
    return resample_nearest(voxels, geometry, grid), note


def _place(voxels: NDArray[np.bool_], geometry: Geometry, grid: Geometry) -> NDArray[np.bool_] | None:
    """Copy voxels that coincide with voxels of the grid; None where one does not, or lies off it."""
    step = np.linalg.inv(grid.affine) @ geometry.affine  # a voxel of the segmentation, in voxels of the image
    turn = np.rint(step[:3, :3])
    axes = [0, 1, 2] if geometry.shape[2] > 1 else [0, 1]  # the thickness of a single slice means nothing here
    if not np.array_equal(np.abs(turn[:, axes]).sum(axis=0), np.ones(len(axes))):
        return None
    if np.abs(step[:3, axes] - turn[:, axes]).max() > SLICE_TOLERANCE:
        return None
    placed = np.zeros(grid.shape, np.bool_, order="F")
    for at in np.flatnonzero(voxels.any(axis=(0, 1))):
        plane = np.argwhere(voxels[:, :, at])
        index = plane @ step[:3, :2].T + step[:3, 2] * at + step[:3, 3]
        nearest = np.rint(index)
        if np.abs(index - nearest).max() > MATCH_TOLERANCE or np.any((nearest < 0) | (nearest >= grid.shape)):
            return None
        placed[tuple(nearest.astype(np.intp).T)] = True
    return placed
