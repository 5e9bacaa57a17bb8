"""What only the files themselves tell: whether images and mask can be read, share a grid, and hold one region."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from service.errors import CaseError, UnreadableImage
from service.imaging.geometry import Geometry
from service.imaging.guard import Format, sniff
from service.imaging.orientation import reorient
from service.imaging.reader import read_image
from service.imaging.volumes import read_header, read_labels
from training.arrays import LIMITS, read_record
from training.cases import WHOLE, CaseIndex, CaseRecord, Finding
from training.readers.dicom_files import read_kind


def check_files(index: CaseIndex) -> Iterator[Finding]:
    """Open the files of every case and yield what is wrong with them.

    Of volume files the headers of the images are read and the whole mask. DICOM is read entirely, as for training:
    only so are missing slices found.
    """
    for record in tqdm(index.records, desc="files", unit="case"):
        try:
            yield from _check_volumes(record) if _are_volumes(record) else _check_dicom(record)
        except CaseError as error:
            yield Finding(record.case_id, error.slug, error.detail)


def check_patients(index: CaseIndex) -> Iterator[Finding]:
    """Yield the cases whose patient has another one, in a collection that has one case per patient."""
    cases = defaultdict(list)
    for record in index.records:
        cases[record.patient_id].append(record.case_id)
    for ids in cases.values():
        for case_id in ids[1:]:
            yield Finding(case_id, "duplicate-patient", f"the patient of {ids[0]}")


def summarise(findings: Iterable[Finding]) -> dict[str, int]:
    """Count findings by kind, most frequent first."""
    return dict(Counter(finding.kind for finding in findings).most_common())


def _are_volumes(record: CaseRecord) -> bool:
    firsts = [*(paths[0] for paths in record.images.values()), record.mask[0]]
    return not any(sniff(path) in (Format.DICOM, Format.ZIP) for path in firsts)


def _check_volumes(record: CaseRecord) -> Iterator[Finding]:
    grids = {channel: _canonical_grid(paths[0]) for channel, paths in record.images.items()}
    first = next(iter(grids.values()))
    grids["mask"] = _canonical_grid(record.mask[0])
    for name, grid in grids.items():
        if not first.matches(grid):
            yield Finding(
                record.case_id, "grid-mismatch", f"{name}: {_describe(grid)}; the first image: {_describe(first)}"
            )
    labels = read_labels(record.mask[0], LIMITS)
    if record.roi != WHOLE or not labels.counts:
        labels.mask(record.roi)  # refuses what training would refuse


def _check_dicom(record: CaseRecord) -> Iterator[Finding]:
    channels = list(record.images)
    try:
        read_record(record, channels)
    except UnreadableImage as error:
        for channel in channels:
            read_image(record.images[channel], LIMITS)  # if this is refused, the mask is not to blame
        yield Finding(record.case_id, "mask-unreadable", f"{_name(record.mask[0])}: {error.detail}")


def _canonical_grid(path: Path) -> Geometry:
    """Return a volume's grid in canonical axis order, from its header alone."""
    stored = read_header(path, LIMITS).geometry
    _, grid, _ = reorient(np.broadcast_to(np.int8(0), stored.shape), stored)
    return grid


def _describe(grid: Geometry) -> str:
    shape, spacing = " x ".join(map(str, grid.shape)), " x ".join(f"{edge:.4g}" for edge in grid.spacing_mm)
    return f"{shape} voxels of {spacing} mm"


def _name(mask: Path) -> str:
    return read_kind(mask).value if sniff(mask) is Format.DICOM else "mask"
