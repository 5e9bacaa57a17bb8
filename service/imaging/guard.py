"""Checks made on a file's bytes before anything of the declared size is allocated.

Formats are told from content; names play no part. A header states a size, the size is checked against the
limits and against the bytes at hand, and only then is an array of exactly that size made and filled. So
memory is bounded by the limits whatever a header, a gzip stream or a zip claims.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from service.errors import TooLarge, UnreadableImage

CHUNK: Final = 1024**2
SNIFF_BYTES: Final = 1024
GZIP: Final = b"\x1f\x8b"
LARGEST_RATIO: Final = 1032  # deflate cannot expand more than this (RFC 1951: 258 bytes from 2 bits)
AUTO_WRAPPER: Final = 32 + zlib.MAX_WBITS  # zlib or gzip, whichever the stream starts with


class Format(StrEnum):
    """What a file was recognised as."""

    NIFTI = "NIfTI"
    NIFTI_GZIP = "gzipped NIfTI"
    NRRD = "NRRD"
    METAIMAGE = "MetaImage"
    DICOM = "DICOM"
    ZIP = "zip"


@dataclass(frozen=True)
class Limits:
    """The most that one case may ask for.

    Attributes:
        decoded_bytes: of one volume, as its voxels are kept in memory.
        voxels: of one volume.
        files: of one series, zip members included.
    """

    decoded_bytes: int
    voxels: int
    files: int


# What is recognised only to be refused by name: offset, magic bytes, words.
REFUSED: Final = (
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x89HDF", "an HDF5 file (MINC and others)"),
    (0, b"CDF", "a NetCDF file (MINC and others)"),
    (0, b"II*\x00", "a TIFF picture"),
    (0, b"MM\x00*", "a TIFF picture"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"7z\xbc\xaf", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"BZh", "a bzip2 stream"),
    (0, b"\xfd7zXZ", "an xz stream"),
    (257, b"ustar", "a tar archive"),
)


def sniff(path: Path) -> Format:
    """Tell the format of a file from its first bytes.

    Raises:
        UnreadableImage: none of the accepted formats; the detail says what was seen.
    """
    with path.open("rb") as file:
        start = file.read(SNIFF_BYTES)
        if start[:2] != GZIP:
            return recognise(start)
        file.seek(0)
        inside = b"".join(read_decoded(file, SNIFF_BYTES, compressed=True))
    if recognise(inside, "a gzip stream holding ") is not Format.NIFTI:
        raise UnreadableImage(
            "got a gzip stream that holds no NIfTI; other formats are not accepted gzipped as a whole"
        )
    return Format.NIFTI_GZIP


def recognise(start: bytes, wrapping: str = "") -> Format:
    """Tell the format of a file that is not gzipped from its first `SNIFF_BYTES`; see `sniff`."""
    if start[:4] in (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c", b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c"):
        return _recognise_nifti(start)
    if start[128:132] == b"DICM":
        return Format.DICOM
    if start[:4] == b"NRRD":
        return Format.NRRD
    if start.lstrip()[:10] == b"ObjectType" or start.lstrip()[:5] == b"NDims":
        return Format.METAIMAGE
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return Format.ZIP
    seen = next((words for offset, magic, words in REFUSED if start[offset:].startswith(magic)), None)
    seen = seen or ("an unknown format" if start else "an empty file")
    raise UnreadableImage(
        f"got {wrapping}{seen}; accepted are NIfTI, NRRD, MetaImage (.mha) and DICOM series", seen=seen
    )


def _recognise_nifti(start: bytes) -> Format:
    if start[344:348] == b"n+1\x00" or start[4:8] == b"n+2\x00":
        return Format.NIFTI
    pair = start[344:348] == b"ni1\x00" or start[4:8] == b"ni2\x00"
    seen = "the header of a NIfTI pair" if pair else "an Analyze 7.5 header"
    raise UnreadableImage(f"got {seen}, whose voxels are in another file; send a single-file NIfTI", seen=seen)


def check_size(shape: tuple[int, ...], bytes_per_voxel: int, limits: Limits) -> None:
    """Refuse a volume over the limits, from its header alone.

    Raises:
        UnreadableImage: a dimension is not positive.
        TooLarge: too many voxels or decoded bytes.
    """
    if min(shape, default=0) < 1:
        raise UnreadableImage(f"the header declares dimensions {list(shape)}; each must be positive", shape=list(shape))
    voxels = 1
    for size in shape:  # Python's integers cannot overflow
        voxels *= size
    for got, limit, unit in (
        (voxels, limits.voxels, "voxels"),
        (voxels * bytes_per_voxel, limits.decoded_bytes, "decoded bytes"),
    ):
        if got > limit:
            raise TooLarge(
                f"{' x '.join(map(str, shape))} voxels are {got} {unit}, at most {limit} are accepted",
                got=got,
                limit=limit,
                unit=unit,
            )


def read_array(path: Path, offset: int, count: int, dtype: np.dtype[Any], wrapped: bool, packed: bool) -> Any:
    """Read exactly `count` numbers, allocating no more than they need.

    Args:
        path: the file.
        offset: bytes before the numbers: of the decoded stream if `wrapped`, else of the file.
        count: how many numbers; the caller has checked them against the limits.
        dtype: their type, with byte order.
        wrapped: the whole file is one gzip stream.
        packed: the numbers alone are a zlib or gzip stream.

    Returns:
        A one-dimensional array in native byte order.

    Raises:
        UnreadableImage: fewer bytes than declared, or a damaged stream.
    """
    expected = count * dtype.itemsize
    held = path.stat().st_size - (0 if wrapped else offset)
    most = held * LARGEST_RATIO if wrapped or packed else held
    if most < expected:
        raise _truncated(held, expected, compressed=wrapped or packed)
    numbers = np.empty(count, dtype)
    with path.open("rb") as file:
        file.seek(0 if wrapped else offset)
        _fill(numbers.view(np.uint8), file, skip=offset if wrapped else 0, compressed=wrapped or packed)
    if not dtype.isnative:
        numbers = numbers.byteswap(inplace=True).view(dtype.newbyteorder("="))
    return numbers


def _fill(target: Any, file: BinaryIO, skip: int, compressed: bool) -> None:
    """Fill a byte array from a stream, then follow the stream to its end for the checksum."""
    filled = -skip
    for piece in read_decoded(file, skip + target.size + CHUNK, compressed):
        start = min(max(0, filled), target.size)
        useful = np.frombuffer(piece, np.uint8)[max(0, -filled) :][: target.size - start]
        target[start : start + useful.size] = useful
        filled += len(piece)
        if filled >= target.size and not compressed:
            return
    if filled < target.size:
        raise _truncated(max(0, filled), target.size, compressed=False)


def read_decoded(file: BinaryIO, most: int, compressed: bool) -> Iterator[bytes]:
    """Yield a file's bytes from here on in pieces of at most `CHUNK`, and no more than `most` in all.

    Raises:
        UnreadableImage: the compressed stream is damaged or ends early.
    """
    left = most
    for piece in _inflated(file) if compressed else iter(lambda: file.read(CHUNK), b""):
        yield piece[:left]
        left -= len(piece)
        if left <= 0:
            return


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    """Yield the decoded pieces of a zlib stream, or of gzip members one after another (RFC 1952, 2.2)."""
    stream, waiting = zlib.decompressobj(AUTO_WRAPPER), b""
    try:
        while True:
            waiting = waiting or file.read(CHUNK)
            piece = stream.decompress(waiting, CHUNK)
            if piece:
                yield piece
            if stream.eof:
                waiting = stream.unused_data or file.read(CHUNK)
                if waiting[:2] != b"\x1f\x8b":  # the end, or padding after it
                    return
                stream = zlib.decompressobj(AUTO_WRAPPER)
            elif not waiting and not piece:
                raise UnreadableImage("the compressed stream ends early: the file is truncated")
            else:
                waiting = stream.unconsumed_tail
    except zlib.error:
        raise UnreadableImage("the compressed stream is damaged") from None


def _truncated(held: int, expected: int, *, compressed: bool) -> UnreadableImage:
    kind = "compressed bytes" if compressed else "bytes"
    return UnreadableImage(
        f"the file is truncated: it holds {held} {kind} of voxels, its header declares {expected}",
        held_bytes=held,
        declared_bytes=expected,
    )
