"""Read a case: every image, then the mask, on one grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pydicom.uid import UID, RTStructureSetStorage, SegmentationStorage

from service.errors import TooLarge, UnreadableImage
from service.imaging.case import Case, Image, Mask, check_same_grid
from service.imaging.dataset import parse, public_name, read_class
from service.imaging.dicom import read_series
from service.imaging.geometry import Geometry
from service.imaging.guard import Format, Limits, sniff
from service.imaging.labels import LabelMap
from service.imaging.rtstruct import read_structures
from service.imaging.segmentation import read_segments
from service.imaging.volumes import read_labels, read_volume

SEGMENTATIONS: Final = (SegmentationStorage, UID("1.2.840.10008.5.1.4.1.1.66.7"))  # the second: label maps
MASK_BYTES: Final = 256 * 1024**2  # of one DICOM mask file; pydicom takes several times as much


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case.

    Attributes:
        images: by channel; several files, one zip, or one multi-frame file are a DICOM series.
        mask: one label image, DICOM SEG or RTSTRUCT.
    """

    images: Mapping[str, Sequence[Path]]
    mask: Sequence[Path]


def read_case(files: CaseFiles, *, roi: str | None, resample_mask: bool, limits: Limits, case_id: str | None) -> Case:
    """Read and check a case.

    Args:
        files: where its parts lie, under any names.
        roi: a label's value, a segment's or an ROI's name or number, "all", or None for the only one.
        resample_mask: allow the mask to lie on another grid and resample it by nearest neighbour.
        limits: on every single volume.
        case_id: the caller's pseudonym.

    Raises:
        CaseError: see the readers; GeometryMismatch where a channel or the mask lies on another grid.
    """
    images = {channel: read_image(paths, limits) for channel, paths in files.images.items()}
    first = next(iter(images.values()))
    grid = first.geometry
    for channel, image in images.items():
        check_same_grid(grid, image.geometry, f"image {channel}")
    masks, remarks = _read_masks(files.mask, first, roi, resample_mask, limits)
    notes = [f"image {channel}: {note}" for channel, image in images.items() for note in image.notes]
    notes += [f"mask: {note}" for note in remarks]
    on_one_grid = {channel: _with_grid(image, grid) for channel, image in images.items()}
    return Case(case_id, on_one_grid, masks, tuple(notes))


def read_image(paths: Sequence[Path], limits: Limits) -> Image:
    """Read one channel: a volume file, a DICOM series as several files, or one zip of them.

    Raises:
        CaseError: see `read_volume` and `read_series`.
    """
    if len(paths) == 1 and sniff(paths[0]) not in (Format.DICOM, Format.ZIP):
        return read_volume(paths[0], limits)
    return read_series(paths, limits)


def _read_masks(
    paths: Sequence[Path], image: Image, roi: str | None, resample: bool, limits: Limits
) -> tuple[tuple[Mask, ...], Sequence[str]]:
    """Read the regions asked for onto the image's grid, with notes."""
    kind = sniff(paths[0]) if len(paths) == 1 else None
    if kind in (None, Format.ZIP):
        raise UnreadableImage(
            f"the mask is {len(paths)} files or a zip; one file is accepted: a label image (NIfTI, NRRD, .mha), a "
            "DICOM SEG or an RTSTRUCT"
        )
    if kind is Format.DICOM:
        return _read_dicom_masks(paths[0], image, roi, resample, limits)
    labels = read_labels(paths[0], limits).on_grid(image.geometry, resample=resample)
    hint = "" if resample else "; resample_mask=true resamples the mask by nearest neighbour"
    check_same_grid(image.geometry, labels.geometry, "mask", hint)
    return _choose(labels, roi, limits), labels.notes


def _read_dicom_masks(
    path: Path, image: Image, roi: str | None, resample: bool, limits: Limits
) -> tuple[tuple[Mask, ...], Sequence[str]]:
    size, most = path.stat().st_size, min(limits.decoded_bytes, MASK_BYTES)
    if size > most:
        raise TooLarge(f"the DICOM mask has {size} bytes, at most {most} are accepted", got=size, limit=most)
    dataset = parse(path.read_bytes(), limits)
    kind = read_class(dataset)
    if kind == RTStructureSetStorage:
        return read_structures(dataset, image, roi, limits)
    if kind in SEGMENTATIONS:
        return read_segments(dataset, image, roi, resample, limits)
    raise UnreadableImage(f"got a DICOM object of class {public_name(kind)} as mask; accepted are SEG and RTSTRUCT")


def _choose(labels: LabelMap, roi: str | None, limits: Limits) -> tuple[Mask, ...]:
    """Make the masks asked for; each takes a byte per voxel."""
    wanted = len(labels.counts) if roi == "all" else 1
    if wanted * labels.voxels.size > limits.decoded_bytes:
        raise TooLarge(
            f"{wanted} regions of {labels.voxels.size} voxels are over {limits.decoded_bytes} bytes; ask for fewer",
            got=wanted * labels.voxels.size,
            limit=limits.decoded_bytes,
            unit="decoded bytes",
        )
    return labels.mask(roi)


def _with_grid(image: Image, grid: Geometry) -> Image:
    """Give a channel the first channel's geometry, which it matches, so that both are exactly equal."""
    return image if image.geometry is grid else replace(image, geometry=grid)
