"""One DICOM data set, parsed from bytes already in memory.

pydicom parses; whatever it says about the content is neither logged nor repeated, for it may quote patient
data.

References:
    DICOM PS3.5 7 (data elements) and PS3.10 7 (file format).
"""

import logging
import re
import sqlite3  # in which highdicom keeps its table of frames
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import pydicom
from pydicom import uid
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset

from service.errors import TooLarge, UnreadableImage
from service.imaging.guard import Limits
from service.imaging.references import InstanceReference, RegionReference

logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)  # its messages quote values

DEFLATED_FRAMES: Final = "1.2.840.10008.1.2.8.1"  # newer than pydicom's dictionary
LARGEST_DATASET: Final = 256 * 1024**2  # bytes that a deflated data set may become
SEGMENTATIONS: Final = (uid.SegmentationStorage, uid.UID("1.2.840.10008.5.1.4.1.1.66.7"))  # the second: label maps
META_BYTES: Final = 65536  # at the start of a file, which hold its meta information
MOST_ITEMS: Final = 1_000_000  # of all sequences of a file; thousands are usual
ITEM_TAGS: Final = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")  # little and big endian
PARSER_ERRORS: Final = (
    ArithmeticError, AttributeError, BytesLengthException, EOFError, InvalidDicomError, LookupError, OSError,
    RuntimeError, TypeError, ValueError, sqlite3.Error, struct.error, zlib.error,
)  # fmt: skip
LARGEST: Final = 1e9  # number in a geometry or rescale attribute
UID_FORM: Final = re.compile(r"[0-9]+(\.[0-9]+)+")
LONGEST_UID: Final = 64


_silent: ContextVar[bool] = ContextVar("silent", default=False)


@contextmanager
def quietly(failure: str) -> Iterator[None]:
    """Turn whatever pydicom raises on malformed content into a refusal without its text."""
    with silence():
        try:
            yield
        except PARSER_ERRORS:
            raise UnreadableImage(failure) from None


@contextmanager
def silence() -> Iterator[None]:
    """Keep warnings, which quote values, to themselves; within itself it costs next to nothing."""
    if _silent.get():
        yield
        return
    token = _silent.set(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _silent.reset(token)


def parse(content: bytes, limits: Limits) -> Any:
    """Parse one file; a deflated one is inflated here, for pydicom sets no bound to it.

    Raises:
        UnreadableImage: not DICOM, damaged, without a transfer syntax, or with one that is not known.
        TooLarge: deflated, and larger than the limits; or too many items of sequences.
    """
    _check_items(content)
    if content[128:132] != b"DICM":
        raise UnreadableImage("a file of the series is not DICOM (no DICM at byte 128)")
    with quietly("a DICOM file is damaged: its elements cannot be parsed"):
        start = BytesIO(content)
        start.seek(132)
        meta = read_dataset(start, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)
        syntax = meta.get("TransferSyntaxUID")
        if not isinstance(syntax, uid.UID):
            raise UnreadableImage("a DICOM file names no transfer syntax, or several")
        if syntax == DEFLATED_FRAMES:
            raise UnreadableImage(
                f"got a DICOM file of transfer syntax Deflated Image Frame Compression ({DEFLATED_FRAMES}), "
                "which is not accepted"
            )
        if syntax == uid.DeflatedExplicitVRLittleEndian:
            return _inflate(content, start.tell(), meta, min(limits.decoded_bytes, LARGEST_DATASET))
        return pydicom.dcmread(BytesIO(content))


def _check_items(content: bytes) -> None:
    """Refuse more items than any file needs: pydicom makes a data set of each, in a kilobyte and some microseconds."""
    if len(content) < 8 * MOST_ITEMS:  # too short to hold as many
        return
    count = max(content.count(tag) for tag in ITEM_TAGS)
    if count > MOST_ITEMS:
        raise TooLarge(
            f"a DICOM file holds {count} items of sequences, at most {MOST_ITEMS} are accepted",
            got=count,
            limit=MOST_ITEMS,
            unit="items",
        )


def _inflate(content: bytes, start: int, meta: Any, most: int) -> Any:
    inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content[start:], most + 1)
    if len(inflated) > most:
        raise TooLarge(
            f"a deflated DICOM file becomes more than {most} bytes", limit=most, unit="bytes of a deflated data set"
        )
    _check_items(inflated)
    dataset = read_dataset(BytesIO(inflated), False, True)
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian  # which it is from here on
    return FileDataset("", dataset, content[:128], FileMetaDataset(meta), False, True)


def read_class(dataset: Any) -> Any:
    """Return the SOP class of a data set, a UID, or None.

    Raises:
        UnreadableImage: it cannot be read, or there are several.
    """
    with quietly("a DICOM file is damaged: its SOP class cannot be read"):
        kind = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
        if kind is not None and not isinstance(kind, uid.UID):
            raise ValueError
    return kind


def read_stated_class(path: Path) -> Any:
    """Return the SOP class that a file's meta information states, a UID, or None; only the start is read.

    Raises:
        UnreadableImage: it cannot be read, or there are several.
    """
    with path.open("rb") as file:
        start = BytesIO(file.read(META_BYTES))
    start.seek(132)
    with quietly("a DICOM file is damaged: its meta information cannot be read"):
        meta = read_dataset(start, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)
        kind = meta.get("MediaStorageSOPClassUID")
        if kind is not None and not isinstance(kind, uid.UID):
            raise ValueError
    return kind


def read_instance(dataset: Any) -> InstanceReference | None:
    """Return who a data set is; None where an identifier is missing or is no UID."""
    with quietly("a DICOM file is damaged: its identifiers cannot be read"):
        found = [
            str(dataset.get(keyword) or "")
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
        ]
    if all(len(uid) <= LONGEST_UID and UID_FORM.fullmatch(uid) for uid in found):
        return InstanceReference(*found)
    return None


def read_region(dataset: Any, number: int) -> RegionReference | None:
    """Return the reference to a numbered region of a SEG or RTSTRUCT; None as `read_instance`."""
    one = read_instance(dataset)
    return None if one is None else RegionReference(one.study, one.series, one.sop_class, one.instance, number)


def public_name(identifier: Any) -> str:
    """Return the standard's name of a UID; what the standard does not name is not repeated."""
    if not identifier or identifier.name == str(identifier):
        return "unknown to the standard"
    return f"{identifier.name} ({identifier})"


def read_numbers(dataset: Any, keyword: str, count: int) -> Any:
    """Return the `count` numbers of an attribute.

    Raises:
        UnreadableImage: missing, not numbers, too many or too few, or one beyond `LARGEST`.
    """
    with quietly(f"the DICOM attribute {keyword} is missing or does not hold {count} numbers"):
        raw = dataset.get_item(keyword)
        if isinstance(raw, RawDataElement) and raw.VR in ("DS", None) and isinstance(raw.value, bytes):
            # decimal strings straight from their bytes: pydicom would make and check an object of each
            numbers = np.array([float(text) for text in raw.value.rstrip(b"\0 ").split(b"\\")])
        else:
            numbers = np.array(dataset[keyword].value, dtype=np.float64).reshape(-1)
        if numbers.size != count or not np.all(np.abs(numbers) < LARGEST):  # NaN is not below it either
            raise ValueError
    return numbers
