"""Mutations that know DICOM: lengths, representations, values, sequences, character sets and transfer syntaxes.

Bytes are edited where a length or a representation is forged; whole elements through pydicom, with its checks off.
A file that earlier mutations have made unreadable is left as it is.
"""

import logging
import random
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
from pydicom import config, uid
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag

from service.imaging.dataset import PARSER_ERRORS

LENGTHS = (0, 1, 2, 7, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, 0xFFFFFFFF)
TEXTS = (
    "", " ", "0", "-1", "1\\2", "1\\2\\3\\4\\5\\6\\7", "nan", "inf", "1e999", "1e-320", "99999999999999999999", "1,5",
    "\\" * 50, "9" * 3000, "\u30c6\u30b9\u30c8", "1.2.840.10008.5.1.4.1.1.2", "1..2", "x" * 70, "\x00\x01", "0\\0\\0",
    "1\\0\\0\\1\\0\\0", "1\\0\\0\\0\\1\\1e-9", "0.0001\\0.0001", "1e9\\1e9", "NONE", "MONOCHROME1", "PALETTE COLOR",
)  # fmt: skip
NUMBERS = (0, 1, 2, 3, 7, 8, 9, 12, 16, 31, 32, 33, 64, 255, 1000, 32767, 65535)
CHARACTER_SETS = ("", "ISO_IR 100", "ISO_IR 192", "ISO 2022 IR 87", "GB18030", "\\ISO 2022 IR 149", "none such")
SYNTAXES = (
    uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.RLELossless,
    uid.DeflatedExplicitVRLittleEndian, uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless,
    uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless, uid.HTJ2KLossless, uid.MPEG2MPML,
    uid.UID("1.2.840.10008.1.2.8.1"), uid.UID("1.2.3"), uid.UID(""),
)  # fmt: skip
CLASSES = (
    uid.CTImageStorage, uid.MRImageStorage, uid.PositronEmissionTomographyImageStorage, uid.EnhancedCTImageStorage,
    uid.SegmentationStorage, uid.UID("1.2.840.10008.5.1.4.1.1.66.7"), uid.RTStructureSetStorage, uid.RTDoseStorage,
    uid.SecondaryCaptureImageStorage, uid.UID("1.2.3"), uid.UID(""),
)  # fmt: skip
# What decides how the rest is read: changed more often than chance would.
DECISIVE = (
    "Rows", "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "SamplesPerPixel", "PhotometricInterpretation", "PixelSpacing", "SliceThickness", "ImagePositionPatient",
    "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept", "FrameOfReferenceUID", "SeriesInstanceUID",
    "SegmentationType", "MaximumFractionalValue", "SegmentNumber", "ReferencedSegmentNumber", "SegmentLabel",
    "ROINumber", "ReferencedROINumber", "ROIName", "ContourData", "NumberOfContourPoints", "ContourGeometricType",
    "DimensionIndexValues", "SegmentSequence", "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence",
    "ROIContourSequence", "StructureSetROISequence", "ContourSequence", "DimensionIndexSequence", "PixelData",
)  # fmt: skip

MOST_BYTES = 2 * 1024**2  # that a file may become
META_LENGTH = struct.pack("<2H", 2, 0)
ITEM = struct.pack("<2H", 0xFFFE, 0xE000)
ITEM_END = struct.pack("<2HL", 0xFFFE, 0xE00D, 0)
SEQUENCE_END = struct.pack("<2HL", 0xFFFE, 0xE0DD, 0)


@contextmanager
def unchecked() -> Iterator[None]:
    """Let pydicom write what it would refuse to."""
    before = config.settings.writing_validation_mode
    config.settings.writing_validation_mode = config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            config.settings.writing_validation_mode = before


def edited(edit: Callable[[random.Random, Any], None]) -> Callable[[random.Random, bytes], bytes]:
    """Make a mutation of bytes out of one of a data set."""

    def mutation(rng: random.Random, content: bytes) -> bytes:
        with unchecked():
            try:
                dataset = pydicom.dcmread(BytesIO(content), force=True)
                edit(rng, dataset)
                written = BytesIO()
                dataset.save_as(written, enforce_file_format=False)
            except PARSER_ERRORS:  # of a file that was already broken, or a value that cannot be written at all
                return content
        return written.getvalue() if written.tell() < MOST_BYTES else content

    return mutation


def _datasets(dataset: Any, depth: int = 0) -> list[Any]:
    """The data set and the items of all its sequences."""
    found = [dataset]
    if depth < 6:
        for tag in list(dataset.keys()):
            item = dataset.get_item(tag)
            if item is not None and item.VR == "SQ" and dataset[tag].value:
                for each in dataset[tag].value[:4]:
                    found += _datasets(each, depth + 1)
    return found


def _place(rng: random.Random, dataset: Any) -> tuple[Any, BaseTag]:
    """A data set and one of its tags: a decisive one two times in three."""
    places = [(each, tag) for each in _datasets(dataset) for tag in tuple(each.keys())]
    decisive = [place for place in places if pydicom.datadict.keyword_for_tag(place[1]) in DECISIVE]
    return rng.choice(decisive if decisive and rng.random() < 0.67 else places)


def change_value(rng: random.Random, dataset: Any) -> None:
    owner, tag = _place(rng, dataset)
    element = owner[tag]
    if element.VR == "SQ":
        owner[tag] = DataElement(
            tag, "SQ", Sequence(rng.sample(list(element.value), rng.randrange(len(element.value) + 1)))
        )
    elif element.VR in ("US", "UL", "SS", "SL"):
        owner[tag] = DataElement(tag, element.VR, rng.choice((*NUMBERS, [1, 2])))
    elif isinstance(element.value, bytes):
        value = element.value
        changed = rng.choice((b"", value[: len(value) // 2], value[:-1], value * 2, rng.randbytes(len(value)), b"\0"))
        element._value = changed
    else:
        # Raw bytes: values that pydicom itself would not write.
        _set_raw(owner, tag, element.VR, _text(rng, element.value).encode("utf-8"))


def _text(rng: random.Random, value: Any) -> str:
    """An extreme text, or one number of a list of numbers made extreme."""
    parts = str(value).strip("[]").split(", ") if isinstance(value, pydicom.multival.MultiValue) else []
    if parts and rng.random() < 0.6:
        parts = [part.strip("'") for part in parts]
        scale = rng.choice(("0", "-1", "1e-30", "1e8", "nan", "1e30", "0.5000001", "123.456"))
        parts[rng.randrange(len(parts))] = scale
        return "\\".join(parts)
    return rng.choice(TEXTS)


def _set_raw(owner: Any, tag: BaseTag, vr: str, value: bytes) -> None:
    value += b" " * (len(value) % 2)
    owner._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, owner.is_implicit_VR or False, True)


def drop_element(rng: random.Random, dataset: Any) -> None:
    owner, tag = _place(rng, dataset)
    del owner[tag]


def insert_elements(rng: random.Random, dataset: Any) -> None:
    """Add tags that belong elsewhere, private ones, or thousands of them."""
    owner = rng.choice(_datasets(dataset))
    for _ in range(rng.choice((1, 1, 10, 3000))):
        tag = Tag(rng.randrange(0x0008, 0x7FE0), rng.randrange(0x10000))
        _set_raw(owner, tag, rng.choice(("LO", "DS", "IS", "UN", "UI", "OB")), rng.randbytes(rng.choice((0, 2, 64))))


def nest_sequences(rng: random.Random, content: bytes) -> bytes:
    """Put sequences into sequences, a few or thousands deep, before everything else; closed or not."""
    implicit = b"1.2.840.10008.1.2\0" in content[132:700]
    depth = rng.choice((3, 60, 400, 5000))
    tag = struct.pack("<2H", 8, 0x1110) + (b"" if implicit else b"SQ\0\0") + b"\xff" * 4
    opening, closing = tag + ITEM + b"\xff" * 4, ITEM_END + SEQUENCE_END
    at = 144 + struct.unpack_from("<L", content, 140)[0] if content[132:136] == META_LENGTH else 144
    return content[:at] + opening * depth + closing * rng.choice((depth, depth, depth // 2, 0)) + content[at:]


def multiply_items(rng: random.Random, dataset: Any) -> None:
    """Repeat or shuffle the items of a sequence."""
    owners = [
        (each, tag)
        for each in _datasets(dataset)
        for tag in tuple(each.keys())
        if each[tag].VR == "SQ" and each[tag].value
    ]
    if owners:
        owner, tag = rng.choice(owners)
        items = list(owner[tag].value) * rng.choice((1, 2, 50))
        rng.shuffle(items)
        owner[tag] = DataElement(tag, "SQ", Sequence(items))


def change_character_set(rng: random.Random, dataset: Any) -> None:
    _set_raw(dataset, Tag("SpecificCharacterSet"), "CS", rng.choice(CHARACTER_SETS).encode())
    _set_raw(dataset, Tag("PatientName"), "PN", rng.randbytes(20))


def change_syntax(rng: random.Random, dataset: Any) -> None:
    """Name another transfer syntax than the file is in."""
    dataset.file_meta.TransferSyntaxUID = rng.choice(SYNTAXES)


def change_class(rng: random.Random, dataset: Any) -> None:
    dataset.SOPClassUID = rng.choice(CLASSES)
    if rng.random() < 0.5:
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID


def move_plane(rng: random.Random, dataset: Any) -> None:
    """Turn, tilt, move or scale the plane, consistently enough to get past the first checks."""
    places = [each for each in _datasets(dataset) if "ImagePositionPatient" in each or "PixelSpacing" in each]
    if not places:
        return
    place = rng.choice(places)
    if "ImageOrientationPatient" in place and rng.random() < 0.4:
        turn, _ = np.linalg.qr(np.array([[rng.gauss(0, 1) for _ in range(3)] for _ in range(3)]))
        place.ImageOrientationPatient = [f"{x:.8f}" for x in turn[:2].ravel()]
    elif "ImagePositionPatient" in place:
        scale = rng.choice((1e-7, 0.01, 1.0, 1e5, 1e8))
        place.ImagePositionPatient = [f"{float(x) + rng.gauss(0, 1) * scale:.9g}" for x in place.ImagePositionPatient]
    elif "PixelSpacing" in place:
        place.PixelSpacing = [f"{rng.choice((1e-8, 1e-3, 0.3, 50, 1e8)):.6g}" for _ in range(2)]


def forge_length(rng: random.Random, content: bytes) -> bytes:
    """Let an element say that it is longer or shorter than it is."""
    places = list(_value_places(content))
    if not places:
        return content
    at = rng.choice(places)
    length = struct.pack("<I", rng.choice(LENGTHS))
    if rng.random() < 0.5:
        return content[: at - 4] + length + content[at:]
    return content[: at - 2] + length[:2] + content[at:]


def forge_representation(rng: random.Random, content: bytes) -> bytes:
    """Give an element another value representation, known or not."""
    places = list(_value_places(content))
    if not places:
        return content
    at = rng.choice(places) - 4
    new = rng.choice(
        (b"SQ", b"UN", b"OB", b"US", b"FD", b"DS", b"IS", b"PN", b"UI", b"AT", b"OW", b"UT", b"??", b"\0\0")
    )
    return content[:at] + new + content[at + 2 :]


def _value_places(content: bytes) -> Iterator[int]:
    """Where the values of the outermost elements start."""
    with unchecked():
        try:
            dataset = pydicom.dcmread(BytesIO(content), force=True)
            for part in (dataset.file_meta, dataset):
                for tag in list(part.keys()):
                    place = getattr(part.get_item(tag), "value_tell", None) or getattr(
                        part.get_item(tag), "file_tell", 0
                    )
                    if place and 136 < place <= len(content):
                        yield int(place)
        except PARSER_ERRORS:
            return


def mutate_inside_deflated(rng: random.Random, content: bytes) -> bytes:
    """Mutate inside a deflated data set: noise there would otherwise only break the checksum."""
    with unchecked():
        try:
            start = BytesIO(content)
            start.seek(132)
            pydicom.filereader.read_dataset(start, False, True, stop_when=lambda tag, _vr, _length: tag >> 16 != 2)
            plain = bytearray(zlib.decompress(content[start.tell() :], -zlib.MAX_WBITS))
        except PARSER_ERRORS:
            return content
    for _ in range(rng.choice((1, 4, 16))):
        plain[rng.randrange(len(plain))] = rng.randrange(256)
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return content[: start.tell()] + packer.compress(bytes(plain)) + packer.flush()


DICOM_MUTATIONS: dict[str, Callable[[random.Random, bytes], bytes]] = {
    "value": edited(change_value),
    "element dropped": edited(drop_element),
    "elements inserted": edited(insert_elements),
    "sequences nested": nest_sequences,
    "items multiplied": edited(multiply_items),
    "character set": edited(change_character_set),
    "transfer syntax": edited(change_syntax),
    "class": edited(change_class),
    "plane": edited(move_plane),
    "length": forge_length,
    "representation": forge_representation,
}
DEFLATED_MUTATIONS = {**DICOM_MUTATIONS, "inside deflated": mutate_inside_deflated}
