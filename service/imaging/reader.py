"""Read a case: every image, then the mask, on one grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pydicom.uid import RTStructureSetStorage

from service.errors import SuvUnknown, TooLarge, UnfitCase, UnreadableImage
from service.imaging.case import Case, Image, Mask, check_same_grid
from service.imaging.dataset import SEGMENTATIONS, parse, public_name, read_class
from service.imaging.dicom import read_series
from service.imaging.geometry import Geometry
from service.imaging.guard import Format, Limits, sniff
from service.imaging.regions import Roi
from service.imaging.resampling import Resampled, check_covered, onto_grid
from service.imaging.rtstruct import read_structures
from service.imaging.segmentation import read_segments
from service.imaging.suv import Suv
from service.imaging.volumes import read_labels, read_volume

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


def read_case(
    files: CaseFiles,
    *,
    roi: Roi,
    resample_mask: bool,
    limits: Limits,
    case_id: str | None,
    reference: str | None = None,
    suv: Suv | None = None,
) -> Case:
    """Read and check a case.

    Args:
        files: where its parts lie, under any names.
        roi: label values, segments' or ROIs' names or numbers, "all", "whole", or None for the only one; see
            `regions.choose_regions`.
        resample_mask: allow the mask to lie on another grid and resample it by nearest neighbour.
        limits: on every single volume.
        case_id: the caller's pseudonym.
        reference: allow the channels to lie on different grids and resample them onto this one's.
        suv: make SUV of the values of every DICOM PET series.

    Raises:
        CaseError: see the readers; GeometryMismatch where a channel or the mask lies on another grid.
        SuvUnknown: SUV were asked for, and there is no PET series or it does not tell them.
    """
    images = {channel: read_image(paths, limits, suv) for channel, paths in files.images.items()}
    if suv and all(image.modality != "PT" for image in images.values()):
        raise SuvUnknown("SUV were asked for, and no image is a DICOM PET series")
    first = images[_reference(images, reference)]
    resampled = {} if reference is None else _resample(images, first, limits)
    images |= {channel: moved.image for channel, moved in resampled.items()}
    hint = "; resample_images=true resamples the channels" if reference is None else ""
    for channel, image in images.items():
        check_same_grid(first.geometry, image.geometry, f"image {channel}", hint)
    masks, remarks = _read_masks(files.mask, first, roi, resample_mask, limits)
    for channel, moved in resampled.items():
        for mask in masks:
            check_covered(mask, channel, moved)
    notes = [f"image {channel}: {note}" for channel, image in images.items() for note in image.notes]
    notes += [f"mask: {note}" for note in remarks]
    on_one_grid = {channel: _with_grid(image, first.geometry) for channel, image in images.items()}
    return Case(case_id, on_one_grid, masks, tuple(notes))


def read_image(paths: Sequence[Path], limits: Limits, suv: Suv | None = None) -> Image:
    """Read one channel: a volume file, a DICOM series as several files, or one zip of them.

    Raises:
        CaseError: see `read_volume` and `read_series`.
    """
    if len(paths) == 1 and sniff(paths[0]) not in (Format.DICOM, Format.ZIP):
        return read_volume(paths[0], limits)
    return read_series(paths, limits, suv)


def _reference(images: Mapping[str, Image], wanted: str | None) -> str:
    if wanted is not None and wanted not in images:
        raise UnfitCase("there is no channel of the name that the reference has", channels=sorted(images))
    return wanted or next(iter(images))


def _resample(images: Mapping[str, Image], reference: Image, limits: Limits) -> dict[str, Resampled]:
    """Bring the channels that lie on another grid onto the reference's."""
    return {
        channel: onto_grid(image, reference, limits)
        for channel, image in images.items()
        if not reference.geometry.matches(image.geometry)
    }


def _read_masks(
    paths: Sequence[Path], image: Image, roi: Roi, resample: bool, limits: Limits
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
    return labels.masks_within(roi, limits)


def _read_dicom_masks(
    path: Path, image: Image, roi: Roi, resample: bool, limits: Limits
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


def _with_grid(image: Image, grid: Geometry) -> Image:
    """Give a channel the first channel's geometry, which it matches, so that both are exactly equal."""
    return image if image.geometry is grid else replace(image, geometry=grid)
