"""Read the header of a MetaImage with local data (.mha).

References:
    MetaIO documentation, https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

import re
from pathlib import Path
from typing import Any, Final

import numpy as np

from service.errors import UnreadableImage, UnusableImage
from service.imaging.geometry import Affine, Geometry
from service.imaging.guard import Limits
from service.imaging.header import Header, check_declared, spatial_shape

HEADER_BYTES: Final = 65536
TYPES: Final = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
SYNONYMS: Final = {
    "elementbyteordermsb": "binarydatabyteordermsb",
    "rotation": "transformmatrix",
    "orientation": "transformmatrix",
    "position": "offset",
    "origin": "offset",
}


def read_metaimage_header(path: Path, limits: Limits) -> Header:
    """Read and check a header.

    Raises:
        UnreadableImage: a field is missing, impossible or not supported; the voxels are in another file.
        UnusableImage: not one 3D scalar volume, or a bad grid.
        TooLarge: over the limits.
    """
    fields, offset = _parse(path)
    _check_supported(fields)
    sizes = _numbers(fields, "dimsize", int)
    if len(sizes) != _numbers(fields, "ndims", int)[0]:
        raise UnreadableImage("the MetaImage field DimSize does not number NDims")
    shape = spatial_shape(sizes)
    dtype = _dtype(fields)
    packed = _flag(fields, "compresseddata")
    check_declared(shape, dtype, limits)
    notes = (
        () if "transformmatrix" in fields else ("the MetaImage header has no TransformMatrix: its axes are L, P, S",)
    )
    return Header(Geometry(shape, _affine(fields, len(sizes))), dtype, offset, packed=packed, notes=notes)


def _parse(path: Path) -> tuple[dict[str, str], int]:
    """Return the fields (keys in lower case) and the offset of the first byte after the last line."""
    with path.open("rb") as file:
        start = file.read(HEADER_BYTES)
    end = re.search(rb"^[ \t]*ElementDataFile[ \t]*=[^\n]*\n", start, re.MULTILINE)
    if end is None:
        raise UnreadableImage("the MetaImage header has no line ElementDataFile")
    fields = {}
    for line in start[: end.end()].decode("utf-8", "replace").splitlines():
        name, equals, value = line.partition("=")
        if equals:
            key = name.strip().lower()
            fields[SYNONYMS.get(key, key)] = value.strip()
    return fields, end.end()


def _check_supported(fields: dict[str, str]) -> None:
    if fields["elementdatafile"].upper() != "LOCAL":
        raise UnreadableImage("the MetaImage header points to its voxels in another file; send a single-file .mha")
    if "binarydata" in fields and not _flag(fields, "binarydata"):
        raise UnreadableImage("the MetaImage holds its voxels as text; binary data are accepted")
    if fields.get("headersize", "0") not in ("0", ""):
        raise UnreadableImage("the MetaImage field HeaderSize is not supported")
    if fields.get("elementnumberofchannels", "1") != "1":
        raise UnusableImage("got several channels per voxel (as in RGB), expected one real number per voxel")


def _flag(fields: dict[str, str], name: str) -> bool:
    return fields.get(name, "false").lower() in ("true", "1", "t")


def _numbers(fields: dict[str, str], name: str, kind: type[int] | type[float]) -> list[Any]:
    if name not in fields:
        raise UnreadableImage(f"the MetaImage header has no field {name!r}", field=name)
    words = fields[name].split()
    try:
        numbers = [kind(word) for word in words[:64]]
    except ValueError:
        numbers = []
    if not numbers or len(words) > 64:
        raise UnreadableImage(f"the MetaImage field {name!r} does not hold numbers", field=name)
    return numbers


def _dtype(fields: dict[str, str]) -> np.dtype[Any]:
    name = fields.get("elementtype", "").upper()
    if name not in TYPES:
        raise UnreadableImage("the MetaImage voxel type is not a supported number")
    return np.dtype(TYPES[name]).newbyteorder(">" if _flag(fields, "binarydatabyteordermsb") else "<")


def _affine(fields: dict[str, str], dimensions: int) -> Affine:
    """Return the RAS+ affine; a MetaImage's world is LPS+, its matrix holds an axis direction per row."""
    spacing = _numbers(fields, "elementspacing" if "elementspacing" in fields else "elementsize", float)
    offset = _numbers(fields, "offset", float)
    identity = np.eye(dimensions).ravel().tolist()
    matrix = _numbers(fields, "transformmatrix", float) if "transformmatrix" in fields else identity
    if (len(spacing), len(offset), len(matrix)) != (dimensions, dimensions, dimensions**2):
        raise UnreadableImage("the MetaImage fields ElementSpacing, Offset and TransformMatrix do not fit NDims")
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(matrix, (dimensions, dimensions))[:3, :3].T * spacing[:3]
    affine[:3, 3] = offset[:3]
    affine[:2] *= -1
    return affine
