"""Files made to exhaust, confuse or escape from whoever opens them. Each builder writes one and returns its path."""

import gzip
import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from tests.build import build_image, write_dicom_series, write_nifti, zip_files

MIB = 1024**2
GIB = 1024**3
ZEROS = bytes(MIB)
LOCAL = struct.Struct("<4s5H3L2H")
ENTRY = struct.Struct("<4s6H3L5H2L")
END = struct.Struct("<4s4H2LH")
DEFLATED_SYNTAX = "1.2.840.10008.1.2.1.99"
EXPLICIT_SYNTAX = "1.2.840.10008.1.2.1"
JPEG_2000_SYNTAX = "1.2.840.10008.1.2.4.90"
CT = "1.2.840.10008.5.1.4.1.1.2"


def nifti_header(*shape: int) -> bytes:
    """A NIfTI-1 header of int16 voxels with a unit sform."""
    raw = bytearray(352)
    struct.pack_into("<i", raw, 0, 348)
    struct.pack_into("<8h", raw, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<2h", raw, 70, 4, 16)
    struct.pack_into("<8f", raw, 76, *[1.0] * 8)
    struct.pack_into("<f", raw, 108, 352)
    raw[123] = 2
    struct.pack_into("<2h", raw, 252, 0, 1)
    for row in range(3):
        struct.pack_into("<4f", raw, 280 + 16 * row, *(float(row == column) for column in range(4)))
    raw[344:348] = b"n+1\0"
    return bytes(raw)


def packed_zeros(size: int, start: bytes = b"", wrapper: str = "") -> bytes:
    """A deflate stream, or a "zlib" or "gzip" one, of `start` and zeros up to `size` bytes.

    A block of a mebibyte of zeros stands by itself and is repeated, which is quick.
    """
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    first = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(ZEROS) + packer.flush(zlib.Z_FULL_FLUSH)
    whole, rest = divmod(size - len(start), MIB)
    stream = first + block * whole + packer.compress(ZEROS[:rest]) + packer.flush()
    if not wrapper:
        return stream
    check = zlib.crc32(start) if wrapper == "gzip" else zlib.adler32(start)
    for _ in range(whole):
        check = zlib.crc32(ZEROS, check) if wrapper == "gzip" else zlib.adler32(ZEROS, check)
    check = zlib.crc32(ZEROS[:rest], check) if wrapper == "gzip" else zlib.adler32(ZEROS[:rest], check)
    if wrapper == "zlib":
        return b"\x78\xda" + stream + struct.pack(">L", check)
    return b"\x1f\x8b\x08" + bytes(5) + b"\x02\xff" + stream + struct.pack("<2L", check, size % 2**32)


def gzip_of(start: bytes, size: int) -> bytes:
    return packed_zeros(size, start, "gzip")


def gzip_bomb(path: Path) -> Path:
    """1 MiB that decodes to 1 GiB, behind a header that declares little of it."""
    return written(path, gzip_of(nifti_header(64, 64, 64), GIB))


def gzip_within_limits(path: Path) -> Path:
    """1 MiB that decodes to the 1 GiB that its header declares: all of it must be read."""
    return written(path, gzip_of(nifti_header(1024, 1024, 512), GIB + 352))


def gzip_members(path: Path) -> Path:
    """64 MiB of gzip members that decode to 64 GiB, as one stream."""
    member = gzip_of(b"", GIB)
    with path.open("wb") as file:
        file.write(gzip.compress(nifti_header(64, 64, 64)))
        for _ in range(64):
            file.write(member)
    return path


def gzip_in_gzip(path: Path) -> Path:
    """1 MiB that decodes to 1 GiB that decodes to 1 TiB."""
    member = gzip_of(b"", GIB)
    inner = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS)
    with path.open("wb") as file:
        for _ in range(1024):
            file.write(inner.compress(member))
        file.write(inner.flush())
    return path


def forged_nifti(path: Path) -> Path:
    return written(path, nifti_header(32767, 32767, 1024) + os.urandom(MIB))


def forged_nifti_gzip(path: Path) -> Path:
    return written(path, gzip.compress(nifti_header(32767, 32767, 1024) + os.urandom(MIB), 1))


def forged_nifti_within_limits(path: Path) -> Path:
    """A header alone that declares 1 GiB: nothing may be allocated for it."""
    return written(path, nifti_header(1024, 1024, 512))


def nrrd(path: Path, sizes: str, encoding: str, data: bytes) -> Path:
    header = (
        f"NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: {sizes}\n"
        f"space directions: (1,0,0) (0,1,0) (0,0,1)\nendian: little\nencoding: {encoding}\nspace origin: (0,0,0)\n\n"
    )
    return written(path, header.encode() + data)


def nrrd_bomb(path: Path) -> Path:
    return nrrd(path, "64 64 64", "gzip", gzip_of(b"", GIB))


def forged_nrrd(path: Path) -> Path:
    return nrrd(path, "99999999999 99999999999 99999999999", "gzip", b"\x1f\x8b")


def nrrd_without_end(path: Path) -> Path:
    return written(path, b"NRRD0004\n" + b"# a line of a header that never ends\n" * 2_000_000)


def metaimage_bomb(path: Path) -> Path:
    header = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = True\n"
        "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nElementSpacing = 1 1 1\nDimSize = 64 64 64\n"
        "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    return written(path, header.encode() + packed_zeros(GIB, wrapper="zlib"))


def noise(path: Path) -> Path:
    """200 MiB that are no image."""
    with path.open("wb") as file:
        for _ in range(200):
            file.write(os.urandom(MIB))
    return path


def zip_bomb(path: Path) -> Path:
    """1 MiB whose one member decodes to 1 GiB."""
    return zip_of_zeros(path, 1)


def zip_of_overlapping_members(path: Path) -> Path:
    """1 MiB whose 1,024 members share the same bytes: 1 TiB in all."""
    return zip_of_zeros(path, 1024)


def zip_of_zeros(path: Path, members: int) -> Path:
    """Members of 1 GiB that are all the same bytes of the file."""
    packed = packed_zeros(GIB)
    crc = 0
    for _ in range(1024):
        crc = zlib.crc32(ZEROS, crc)
    sizes = (crc, len(packed), GIB)
    local = LOCAL.pack(b"PK\x03\x04", 20, 0, 8, 0, 0, *sizes, 1, 0) + b"a" + packed
    entry = ENTRY.pack(b"PK\x01\x02", 20, 20, 0, 8, 0, 0, *sizes, 1, 0, 0, 0, 0, 0, 0) + b"a"
    end = END.pack(b"PK\x05\x06", 0, 0, members, members, members * len(entry), len(local), 0)
    return written(path, local + entry * members + end)


def zip_in_zip(path: Path) -> Path:
    """A zip of a zip of 16 zips, and so on, five deep."""
    content = b"x" * 1000
    for _ in range(5):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for number in range(16):
                archive.writestr(f"{number}.zip", content)
        content = buffer.getvalue()
    return written(path, content)


def zip_of_many(path: Path) -> Path:
    """65,535 empty members."""
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(65_535):
            archive.writestr(zipfile.ZipInfo(f"{number}"), b"")
    return path


def zip_with_link(path: Path) -> Path:
    link = zipfile.ZipInfo("link")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    return path


def zip_that_climbs(path: Path) -> Path:
    """A sound series under names that lead out of any folder."""
    series = series_of(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, file in enumerate(series):
            archive.writestr(f"{'../' * 12}tmp/{ESCAPED}{number}", file.read_bytes())
    return path


ESCAPED = "radfuse-escaped-"


def zip_with_forged_directory(path: Path) -> Path:
    """A directory that claims four billion bytes."""
    sound = zip_files(path, series_of(path)).read_bytes()
    at = sound.rfind(b"PK\x05\x06")
    return written(path, sound[:at] + END.pack(b"PK\x05\x06", 0, 0, 65535, 65535, 2**32 - 1, 0, 0))


def dicom(path: Path, elements: bytes, syntax: str = EXPLICIT_SYNTAX, sop_class: str = CT) -> Path:
    """A DICOM file of these elements."""
    meta = element(2, 2, b"UI", uid(sop_class)) + element(2, 0x10, b"UI", uid(syntax))
    return written(path, bytes(128) + b"DICM" + element(2, 0, b"UL", struct.pack("<L", len(meta))) + meta + elements)


def element(group: int, number: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """One element, explicit VR, little endian; `length` may lie."""
    size = len(value) if length is None else length
    long = vr in (b"OB", b"OW", b"SQ", b"UN", b"UT")
    return (
        struct.pack("<2H2s", group, number, vr)
        + (struct.pack("<2xL", size) if long else struct.pack("<H", size))
        + value
    )


def uid(text: str) -> bytes:
    return text.encode() + b"\0" * (len(text) % 2)


def deflated_bomb(path: Path) -> Path:
    """A deflated data set of 1 GiB."""
    return dicom(path, packed_zeros(GIB, start=element(8, 0x16, b"UI", uid(CT))), DEFLATED_SYNTAX)


def nested_sequences(path: Path) -> Path:
    """Sequences 200,000 deep."""
    opening = struct.pack("<2H2s2xL", 8, 0x1140, b"SQ", 0xFFFFFFFF) + struct.pack("<2HL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    return dicom(path, element(8, 0x16, b"UI", uid(CT)) + opening * 200_000)


def many_items(path: Path) -> Path:
    """A sequence of eight million empty items, 64 MiB."""
    item = struct.pack("<2HL", 0xFFFE, 0xE000, 0)
    items = item * (8 * MIB) + struct.pack("<2HL", 0xFFFE, 0xE0DD, 0)
    content = element(8, 0x16, b"UI", uid(CT)) + struct.pack("<2H2s2xL", 8, 0x1140, b"SQ", 0xFFFFFFFF) + items
    return dicom(path, content)


def many_elements(path: Path) -> Path:
    """Four million empty elements, 32 MiB."""
    elements = b"".join(
        struct.pack("<2H2sH", group, number, b"LO", 0) for group in range(9, 9 + 2 * 61, 2) for number in range(65536)
    )
    return dicom(path, element(8, 0x16, b"UI", uid(CT)) + elements)


def picture(rows: int, columns: int, frames: int, pixels: bytes, more: bytes = b"", sop_class: str = CT) -> bytes:
    """The elements of a grey image; what it says of its size may lie."""
    return (
        element(8, 0x16, b"UI", uid(sop_class))
        + element(0x20, 0x0E, b"UI", uid("1.2.3"))
        + element(0x28, 2, b"US", struct.pack("<H", 1))
        + element(0x28, 4, b"CS", b"MONOCHROME2 ")
        + element(0x28, 8, b"IS", f"{frames:<12}".encode())
        + element(0x28, 0x10, b"US", struct.pack("<H", rows))
        + element(0x28, 0x11, b"US", struct.pack("<H", columns))
        + b"".join(element(0x28, at, b"US", struct.pack("<H", value)) for at, value in BITS)
        + more
        + element(0x7FE0, 0x10, b"OW", pixels)
    )


BITS = ((0x100, 16), (0x101, 16), (0x102, 15), (0x103, 0))


def huge_picture(path: Path) -> Path:
    return dicom(path, picture(65535, 65535, 1, bytes(1000)))


def forged_jpeg_2000(path: Path) -> Path:
    """A codestream that claims to be four billion pixels wide and high, in a data set that claims 16 by 16."""
    size = struct.pack(">2H9L", 41, 0, 2**32 - 1, 2**32 - 1, 0, 0, 2**32 - 1, 2**32 - 1, 0, 0, 1)[:38]
    stream = b"\xff\x4f\xff\x51" + size + struct.pack(">H3B", 1, 15, 1, 1) + b"\xff\xd9"
    stream += b"\0" * (len(stream) % 2)
    frames = struct.pack("<2HL", 0xFFFE, 0xE000, 0) + struct.pack("<2HL", 0xFFFE, 0xE000, len(stream)) + stream
    pixels = struct.pack("<2H2s2xL", 0x7FE0, 0x10, b"OB", 0xFFFFFFFF) + frames + struct.pack("<2HL", 0xFFFE, 0xE0DD, 0)
    whole = picture(16, 16, 1, b"")
    return dicom(path, whole[:-12] + pixels, JPEG_2000_SYNTAX)


def huge_segmentation(path: Path) -> Path:
    """A SEG of 100,000 frames of 60,000 by 60,000 pixels, in 1 KiB."""
    kind = element(0x62, 1, b"CS", b"BINARY")
    content = picture(60000, 60000, 99_999, bytes(1000), kind, str(SegmentationStorage))
    return dicom(path, content, sop_class=str(SegmentationStorage))


def many_contours(path: Path) -> Path:
    """An RTSTRUCT of a million contours."""
    kind = element(0x3006, 0x42, b"CS", b"CLOSED_PLANAR ") + element(0x3006, 0x50, b"DS", b"0\\0\\0 ")
    contour = struct.pack("<2HL", 0xFFFE, 0xE000, len(kind)) + kind
    return structure_set(path, contour * 1_000_000)


def many_points(path: Path) -> Path:
    """An RTSTRUCT of one contour of eight million points."""
    points = b"1\\2\\3\\" * (8 * MIB) + b"1\\2\\3 "
    # A decimal string has two bytes of length: a longer one is UN, as archives write it.
    kind = element(0x3006, 0x42, b"CS", b"CLOSED_PLANAR ") + element(0x3006, 0x50, b"UN", points)
    return structure_set(path, struct.pack("<2HL", 0xFFFE, 0xE000, len(kind)) + kind)


def structure_set(path: Path, contours: bytes) -> Path:
    region = element(0x3006, 0x22, b"IS", b"1 ") + element(0x3006, 0x26, b"LO", b"a ")
    drawn = element(0x3006, 0x40, b"SQ", contours) + element(0x3006, 0x84, b"IS", b"1 ")
    content = (
        element(8, 0x16, b"UI", uid(str(RTStructureSetStorage)))
        + element(0x3006, 0x20, b"SQ", struct.pack("<2HL", 0xFFFE, 0xE000, len(region)) + region)
        + element(0x3006, 0x39, b"SQ", struct.pack("<2HL", 0xFFFE, 0xE000, len(drawn)) + drawn)
    )
    return dicom(path, content, sop_class=str(RTStructureSetStorage))


def series_of(path: Path) -> list[Path]:
    return write_dicom_series(path.parent / f"{path.name}-series", build_image())


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def sound(path: Path) -> Path:
    """An ordinary image, to compare with."""
    return write_nifti(path, build_image(), compressed=True)


Builder = Callable[[Path], Path]


def attacks() -> Iterator[tuple[str, str, Builder, tuple[str, ...]]]:
    """Yield each attack's name, the part it is sent as, its builder, and the outcomes that are right."""
    unreadable, large, grids = ("unreadable-image",), ("too-large",), ("geometry-mismatch",)
    yield "an ordinary case", "image", sound, ("computed",)
    yield "gzip, 1 MiB to 1 GiB, declares 0.5 MiB", "image", gzip_bomb, grids
    yield "gzip, 64 MiB to 64 GiB, declares 0.5 MiB", "image", gzip_members, grids
    yield "gzip in gzip, to 1 TiB", "image", gzip_in_gzip, unreadable
    yield "NIfTI header of 2 TiB", "image", forged_nifti, large
    yield "NIfTI header of 2 TiB, gzipped", "image", forged_nifti_gzip, large
    yield "NIfTI header of 1 GiB alone", "image", forged_nifti_within_limits, unreadable
    yield "NRRD, 1 MiB to 1 GiB, declares 0.5 MiB", "image", nrrd_bomb, grids
    yield "NRRD of 10^33 voxels", "image", forged_nrrd, large
    yield "NRRD header of 70 MiB", "image", nrrd_without_end, unreadable
    yield "MetaImage, 1 MiB to 1 GiB", "image", metaimage_bomb, grids
    yield "200 MiB of noise", "image", noise, unreadable
    yield "zip, 1 MiB to 1 GiB", "image", zip_bomb, large
    yield "zip, 1 MiB to 1 TiB, overlapping", "image", zip_of_overlapping_members, (*large, *unreadable)
    yield "zip in zip", "image", zip_in_zip, unreadable
    yield "zip of 65,535 files", "image", zip_of_many, large
    yield "zip that holds a link", "image", zip_with_link, unreadable
    yield "zip that climbs out of its folder", "image", zip_that_climbs, (*grids, "computed")
    yield "zip with a forged directory", "image", zip_with_forged_directory, (*large, *unreadable)
    yield "DICOM deflated to 1 GiB", "image", deflated_bomb, large
    yield "DICOM, sequences 200,000 deep", "image", nested_sequences, unreadable
    yield "DICOM, a sequence of 8 million items", "image", many_items, large
    yield "DICOM of 4 million elements", "image", many_elements, (*large, *unreadable)
    yield "DICOM of 65,535 x 65,535 pixels", "image", huge_picture, (*large, *unreadable)
    yield "JPEG 2000 of 2^64 pixels", "image", forged_jpeg_2000, unreadable
    yield "the same sequences as a mask", "mask", nested_sequences, unreadable
    yield "the same items as a mask", "mask", many_items, large
    yield "SEG of 10^5 frames of 60,000 x 60,000", "mask", huge_segmentation, large
    yield "RTSTRUCT of a million contours", "mask", many_contours, large
    yield "RTSTRUCT contour of 8 million points", "mask", many_points, (*large, *unreadable, *grids)
    yield "NIfTI mask of 2 TiB", "mask", forged_nifti, large
    yield "zip as a mask", "mask", zip_bomb, unreadable


def heavy() -> Iterator[tuple[str, str, Builder, tuple[str, ...]]]:
    """Yield what takes as much as the limits allow: for the table alone."""
    yield "gzip, 1 MiB to the 1 GiB it declares", "image", gzip_within_limits, ("geometry-mismatch",)
