"""What DICOM files say they are: enough of their headers to tell images from masks and to list regions.

The voxels, and the grid, are the service's business; nothing here decodes them.

References:
    DICOM PS3.3 A.19 (RT structure set), A.51 (segmentation), C.8.8.5 and C.8.20.4.
"""

import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.uid import CTImageStorage, RTStructureSetStorage, SegmentationStorage


class Kind(StrEnum):
    """What a series holds, in the words of the reports."""

    CT = "CT"
    RTSTRUCT = "DICOM RTSTRUCT"
    SEG = "DICOM SEG"
    OTHER = "other DICOM"


KINDS = {CTImageStorage: Kind.CT, RTStructureSetStorage: Kind.RTSTRUCT, SegmentationStorage: Kind.SEG}


DAMAGED: Final = (
    ArithmeticError, AttributeError, BytesLengthException, EOFError, InvalidDicomError, LookupError, TypeError,
    ValueError, struct.error,
)  # fmt: skip


@dataclass(frozen=True)
class Series:
    """The files of one folder and what the first of them is."""

    kind: Kind
    paths: tuple[Path, ...]


def read_series_header(paths: Sequence[Path]) -> Series:
    """Tell what the DICOM files of one folder are, from the first."""
    return Series(read_kind(paths[0]), tuple(paths))


def read_kind(path: Path) -> Kind:
    """Tell what one file is; `OTHER` where it is no DICOM file, a damaged one, or none that is wanted here."""
    return KINDS.get(_read(path, ["SOPClassUID"]).get("SOPClassUID"), Kind.OTHER)


def list_regions(path: Path) -> tuple[str, ...]:
    """Return the names of the ROIs of an RTSTRUCT, or of the segments of a SEG, in the file's order."""
    dataset = _read(path, ["StructureSetROISequence", "SegmentSequence"])
    structures = [str(item.get("ROIName", "")) for item in dataset.get("StructureSetROISequence", ())]
    segments = [str(item.get("SegmentLabel", "")) for item in dataset.get("SegmentSequence", ())]
    return tuple(structures or segments)


def _read(path: Path, attributes: list[str]) -> Dataset:
    """Read some attributes; a file that cannot be parsed has none. pydicom's warnings quote the file: not shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(attributes))
        except DAMAGED:
            return Dataset()
