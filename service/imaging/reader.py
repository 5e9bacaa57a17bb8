"""Read a case: every image, then the mask, on one grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from service.errors import TooLarge, UnreadableImage
from service.imaging.case import Case, Image, Mask, check_same_grid
from service.imaging.dicom import read_series
from service.imaging.geometry import Geometry
from service.imaging.guard import Format, Limits, sniff
from service.imaging.labels import LabelMap
from service.imaging.volumes import read_labels, read_volume


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case.

    Attributes:
        images: by channel; several files, or one zip, are a DICOM series.
        mask: one label image.
    """

    images: Mapping[str, Sequence[Path]]
    mask: Sequence[Path]


def read_case(files: CaseFiles, *, roi: str | None, resample_mask: bool, limits: Limits, case_id: str | None) -> Case:
    """Read and check a case.

    Args:
        files: where its parts lie, under any names.
        roi: a label's value, "all", or None for the only one.
        resample_mask: allow the mask to lie on another grid and resample it by nearest neighbour.
        limits: on every single volume.
        case_id: the caller's pseudonym.

    Raises:
        CaseError: see the readers; GeometryMismatch where a channel or the mask lies on another grid.
    """
    images = {channel: read_image(paths, limits) for channel, paths in files.images.items()}
    grid = next(iter(images.values())).geometry
    for channel, image in images.items():
        check_same_grid(grid, image.geometry, f"image {channel}")
    labels = _read_mask(files.mask, limits).on_grid(grid, resample=resample_mask)
    hint = "" if resample_mask else "; resample_mask=true resamples the mask by nearest neighbour"
    check_same_grid(grid, labels.geometry, "mask", hint)
    notes = [f"image {channel}: {note}" for channel, image in images.items() for note in image.notes]
    notes += [f"mask: {note}" for note in labels.notes]
    on_one_grid = {channel: _with_grid(image, grid) for channel, image in images.items()}
    return Case(case_id, on_one_grid, _choose(labels, roi, limits), tuple(notes))


def read_image(paths: Sequence[Path], limits: Limits) -> Image:
    """Read one channel: a volume file, a DICOM series as several files, or one zip of them.

    Raises:
        CaseError: see `read_volume` and `read_series`.
    """
    if len(paths) == 1 and sniff(paths[0]) not in (Format.DICOM, Format.ZIP):
        return read_volume(paths[0], limits)
    return read_series(paths, limits)


def _read_mask(paths: Sequence[Path], limits: Limits) -> LabelMap:
    if len(paths) != 1 or sniff(paths[0]) in (Format.DICOM, Format.ZIP):
        raise UnreadableImage(
            f"the mask is {len(paths)} DICOM or zip file{'s' * (len(paths) != 1)}; one label image is accepted in this "
            "version: NIfTI, NRRD or .mha on the image's grid"
        )
    return read_labels(paths[0], limits)


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
