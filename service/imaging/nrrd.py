"""Read the header of a NRRD with attached data.

References:
    Definition of NRRD file format, https://teem.sourceforge.net/nrrd/format.html.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from service.errors import UnreadableImage, UnusableImage
from service.imaging.geometry import Geometry
from service.imaging.guard import Limits
from service.imaging.header import Header, check_declared, spatial_shape

HEADER_BYTES: Final = 1024**2  # segmentation headers hold a paragraph per segment
TYPES: Final = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
SPACES: Final = {  # to RAS+
    **dict.fromkeys(("right-anterior-superior", "ras"), (1.0, 1.0, 1.0)),
    **dict.fromkeys(("left-anterior-superior", "las"), (-1.0, 1.0, 1.0)),
    **dict.fromkeys(("left-posterior-superior", "lps"), (-1.0, -1.0, 1.0)),
}
SPELLINGS: Final = {"centers": "centerings", "data file": "datafile", "line skip": "lineskip", "byte skip": "byteskip"}


def read_nrrd_header(path: Path, limits: Limits) -> Header:
    """Read and check a header.

    Raises:
        UnreadableImage: a field is missing, impossible or not supported; the voxels are in another file.
        UnusableImage: not one 3D scalar volume, or no patient-based space.
        TooLarge: over the limits.
    """
    fields, offset = _parse(path)
    _check_attached(fields)
    sizes = _numbers(fields, "sizes", int)
    if len(sizes) != _numbers(fields, "dimension", int)[0]:
        raise UnreadableImage("the NRRD header's sizes do not number its dimension")
    kept, vectors = _spatial_axes(fields, sizes)
    shape = spatial_shape([sizes[axis] for axis in kept])
    dtype = _dtype(fields)
    check_declared(shape, dtype, limits)
    affine = np.eye(4)
    affine[:3, :3] = vectors
    affine[:3, 3] = _vector(_field(fields, "space origin"))
    affine[:3] = np.array(_space(fields))[:, None] * affine[:3]
    return Header(Geometry(shape, affine), dtype, offset, packed=_packed(fields))


def _parse(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields (keys in lower case) and the offset of the first byte after the blank line."""
    with path.open("rb") as file:
        start = file.read(HEADER_BYTES)
    end = re.search(rb"\r?\n\r?\n", start)
    if end is None or not re.match(rb"NRRD000[1-5]\r?\n", start):
        raise UnreadableImage("the NRRD header is not of version 1 to 5, or does not end")
    fields = {}
    for line in start[: end.start()].decode("utf-8", "replace").splitlines()[1:]:
        name, colon, value = line.partition(":")
        if not line.startswith("#") and colon and not value.startswith("="):  # `key:=value` is free text
            key = name.strip().lower()
            fields[SPELLINGS.get(key, key)] = value.strip()
    return fields, end.end()


def _field(fields: dict[str, str], name: str) -> str:
    if name not in fields:
        raise UnreadableImage(f"the NRRD header has no field {name!r}", field=name)
    return fields[name]


def _numbers(fields: dict[str, str], name: str, kind: type[int] | type[float]) -> list[Any]:
    words = _field(fields, name).split()
    try:
        numbers = [kind(word) for word in words[:16]]
    except ValueError:
        numbers = []
    if not numbers or len(words) > 16:
        raise UnreadableImage(f"the NRRD field {name!r} does not hold numbers", field=name)
    return numbers


def _vector(text: str) -> Sequence[float]:
    try:
        x, y, z = (float(word) for word in text.strip().removeprefix("(").removesuffix(")").split(","))
    except ValueError:
        raise UnreadableImage("a vector of the NRRD header does not hold three numbers") from None
    return x, y, z


def _check_attached(fields: dict[str, str]) -> None:
    if "datafile" in fields:
        raise UnreadableImage("the NRRD header points to its voxels in another file; send an attached .nrrd")
    for name in ("lineskip", "byteskip"):
        if name in fields and _numbers(fields, name, int) != [0]:
            raise UnreadableImage(f"the NRRD field {name!r} is not supported", field=name)


def _packed(fields: dict[str, str]) -> bool:
    encoding = _field(fields, "encoding").lower()
    if encoding not in ("raw", "gzip", "gz"):
        known = encoding if encoding in ("txt", "text", "ascii", "hex", "bzip2", "bz2", "zrl") else "an unknown one"
        raise UnreadableImage(f"the NRRD encoding is {known}; raw and gzip are accepted")
    return encoding != "raw"


def _dtype(fields: dict[str, str]) -> np.dtype[Any]:
    name = _field(fields, "type").lower()
    if name not in TYPES:
        raise UnreadableImage("the NRRD voxel type is not a number")
    dtype = np.dtype(TYPES[name])
    if dtype.itemsize == 1:
        return dtype
    endian = _field(fields, "endian").lower()
    if endian not in ("little", "big"):
        raise UnreadableImage("the NRRD field 'endian' is neither little nor big", field="endian")
    return dtype.newbyteorder("<" if endian == "little" else ">")


def _space(fields: dict[str, str]) -> tuple[float, float, float]:
    space = fields.get("space", "").lower()
    if space not in SPACES:
        raise UnusableImage(
            "the NRRD header names no patient-based space, so it does not say where its voxels lie; accepted are "
            "left-posterior-superior, right-anterior-superior and left-anterior-superior"
        )
    if re.sub(r'["\s]', "", fields.get("space units", "mm").lower()) not in ("mm", "mmmmmm"):
        raise UnusableImage("the NRRD header's space units are not mm")
    return SPACES[space]


def _spatial_axes(fields: dict[str, str], sizes: list[int]) -> tuple[list[int], Any]:
    """Return the axes in spatial order followed by the others, and (3, 3) step vectors as columns."""
    texts = re.findall(r"none|\([^)]*\)", _field(fields, "space directions"))
    if len(texts) != len(sizes):
        raise UnreadableImage("the NRRD header's space directions do not number its dimension")
    spatial = [axis for axis, text in enumerate(texts) if text != "none"]
    others = [axis for axis, text in enumerate(texts) if text == "none"]
    if len(spatial) != 3:
        raise UnusableImage(f"got an image with {len(spatial)} spatial axes, expected a 3D volume", shape=sizes)
    return spatial + others, np.array([_vector(texts[axis]) for axis in spatial]).T
