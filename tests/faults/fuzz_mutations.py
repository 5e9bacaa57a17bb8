"""What is done to a good file: everything that may go wrong on a disk, on a wire, or in an attacker's editor.

Each mutation draws from one generator alone, so that a seed gives one corpus.
"""

import gzip
import random
import struct
import zipfile
from collections.abc import Callable
from io import BytesIO
from typing import Any, TypeAlias

from service.imaging.archive import DAMAGED
from tests.build import zip_bytes
from tests.faults.fuzz_dicom import DEFLATED_MUTATIONS, DICOM_MUTATIONS
from tests.faults.fuzz_seeds import Seed

Mutation: TypeAlias = Callable[[random.Random, bytes], bytes]
MOST_AT_ONCE = 3
HEADER_BYTES = 700
EXTREMES: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("b", (0, 1, -1, 127, -128)),
    ("h", (0, 1, -1, 32767, -32768, 256)),
    ("i", (0, 1, -1, 2**31 - 1, -(2**31), 2**24, 65536)),
    ("q", (0, 1, -1, 2**63 - 1, -(2**63), 2**40)),
    ("f", (0.0, -0.0, 1e-38, 3e38, -3e38, float("nan"), float("inf"), float("-inf"), 1e-45)),
    ("d", (0.0, 1e-308, 1e308, -1e308, float("nan"), float("inf"), float("-inf"), 5e-324)),
)
# Offset, format and count of the NIfTI-1 and NIfTI-2 fields that say what the file holds.
NIFTI_1 = (
    (0, "i", 1), (40, "h", 8), (68, "h", 1), (70, "h", 1), (72, "h", 1), (76, "f", 8), (108, "f", 1), (112, "f", 1),
    (116, "f", 1), (123, "b", 1), (252, "h", 1), (254, "h", 1), (256, "f", 6), (280, "f", 12), (344, "b", 4),
)  # fmt: skip
NIFTI_2 = (
    (0, "i", 1), (4, "b", 8), (12, "h", 1), (14, "h", 1), (16, "q", 8), (104, "d", 8), (168, "q", 1), (176, "d", 1),
    (184, "d", 1), (344, "i", 1), (348, "i", 1), (352, "d", 6), (400, "d", 12), (500, "i", 1),
)  # fmt: skip
VALUES = (
    b"", b"0", b"-1", b"1e999", b"nan", b"inf", b"99999999999999999999", b"2147483648", b"1 1 1 1 1 1 1 1 1 1 1 1",
    b"none", b"(1,0,0) (1,0,0) (1,0,0)", b"(nan,0,0) (0,1,0) (0,0,1)", b"(1e-300,0,0) (0,1,0) (0,0,1)", b"(0,0,0)",
    b"\xff\xfe\x00", "\u202e\u0660\u0661".encode(), b"1_000", b"0x10", b"A" * 5000, b"../../../etc/passwd", b"True",
    b"bzip2", b"hex", b"LIST", b"MET_OTHER", b"block", b"3D-right-handed", b"1e-320 1e-320 1e-320", b"20 18 8 1 1 1",
    b"20 18 100000", b"4294967297 1 1", b"-20 -18 8", b"1.5 2.5 3.5",
)  # fmt: skip
ZIP_MARKS = (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06")


def mutate(rng: random.Random, seed: Seed) -> tuple[tuple[bytes, ...], bytes, str]:
    """Return the image's files, the mask, and what was done."""
    names: list[str] = []
    if seed.aim == "mask":
        return seed.image, _mutate_file(rng, seed, seed.mask, names), " + ".join(names)
    files = list(seed.image)
    for index in _choose_files(rng, len(files)):
        files[index] = _mutate_file(rng, seed, files[index], names)
    if len(files) > 1 and rng.random() < 0.15:
        names.append(_mutate_list(rng, files))
    return tuple(files), seed.mask, " + ".join(dict.fromkeys(names))


def _choose_files(rng: random.Random, count: int) -> list[int]:
    if count == 1 or rng.random() < 0.6:
        return [rng.randrange(count)]
    return list(range(count)) if rng.random() < 0.3 else rng.sample(range(count), rng.randint(1, count))


def _mutate_list(rng: random.Random, files: list[bytes]) -> str:
    """Lose, double, or add a file of a series."""
    name = rng.choice(("file lost", "file doubled", "foreign file", "empty file"))
    at = rng.randrange(len(files))
    if name == "file lost":
        del files[at]
    else:
        files.insert(at, {"file doubled": files[at], "foreign file": rng.randbytes(2000), "empty file": b"\0"}[name])
    return name


def _mutate_file(rng: random.Random, seed: Seed, content: bytes, names: list[str]) -> bytes:
    inside = seed.gzipped and rng.random() < 0.7
    if inside:
        content = gzip.decompress(content)
    offered = {**ANY, **({} if seed.gzipped and not inside else OF_KIND[seed.kind])}
    for _ in range(rng.choice((1, 1, 2, MOST_AT_ONCE))):
        # Half of what is done knows the format; the rest does not care.
        known = [name for name in offered if name not in ANY]
        name = rng.choice(known if known and rng.random() < 0.5 else list(offered))
        content = offered[name](rng, content)
        names.append(name)
    return gzip.compress(content, 1, mtime=0) if inside else content


def _position(rng: random.Random, content: bytes) -> int:
    """A place in the file, in its header half the time."""
    span = min(len(content), HEADER_BYTES) if rng.random() < 0.5 else len(content)
    return rng.randrange(span) if span else 0


def flip_bits(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 2, 8, 64))):
        if changed:
            changed[_position(rng, content)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def truncate(rng: random.Random, content: bytes) -> bytes:
    return content[: _position(rng, content)]


def extend(rng: random.Random, content: bytes) -> bytes:
    return content + rng.choice((bytes, rng.randbytes))(rng.choice((1, 7, 4096, 100_000)))


def overwrite_with_extreme(rng: random.Random, content: bytes) -> bytes:
    letter, values = rng.choice(EXTREMES)
    return _put(content, _position(rng, content), struct.pack(rng.choice("<>") + letter, rng.choice(values)))


def overwrite_with_noise(rng: random.Random, content: bytes) -> bytes:
    return _put(content, _position(rng, content), rng.randbytes(rng.choice((1, 4, 16, 256))))


def swap_blocks(rng: random.Random, content: bytes) -> bytes:
    size = rng.choice((2, 16, 128, 1024))
    if len(content) < 2 * size:
        return content[::-1]
    one, two = sorted((rng.randrange(len(content) - size), rng.randrange(len(content) - size)))
    if two < one + size:
        two = min(one + size, len(content) - size)
    return (
        content[:one]
        + content[two : two + size]
        + content[one + size : two]
        + content[one : one + size]
        + content[two + size :]
    )


def repeat_block(rng: random.Random, content: bytes) -> bytes:
    at, size = _position(rng, content), rng.choice((1, 8, 64, 1024))
    return content[:at] + content[at : at + size] * rng.choice((2, 3, 100)) + content[at + size :]


def drop_block(rng: random.Random, content: bytes) -> bytes:
    at = _position(rng, content)
    return content[:at] + content[at + rng.choice((1, 2, 8, 64, 1024)) :]


def insert_noise(rng: random.Random, content: bytes) -> bytes:
    at = _position(rng, content)
    return content[:at] + rng.randbytes(rng.choice((1, 2, 8, 64, 1024))) + content[at:]


def set_nifti_field(rng: random.Random, content: bytes) -> bytes:
    """Set one number of the header to an extreme."""
    second = content[4:8] == b"n+2\0"
    order = "<" if content[:1] in (b"\x5c", b"\x1c") else ">"
    offset, letter, count = rng.choice(NIFTI_2 if second else NIFTI_1)
    values = dict(EXTREMES)[letter]
    at = offset + struct.calcsize(letter) * rng.randrange(count)
    return _put(content, at, struct.pack(order + letter, rng.choice(values)))


def set_nifti_matrix(rng: random.Random, content: bytes) -> bytes:
    """Set the whole affine: singular, sheared, tiny, huge, or turned by chance."""
    second = content[4:8] == b"n+2\0"
    order = "<" if content[:1] in (b"\x5c", b"\x1c") else ">"
    scale = rng.choice((0.0, 1e-30, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e30))
    numbers = [scale * rng.choice((0.0, 1.0, -1.0, rng.gauss(0, 1))) for _ in range(12)]
    return _put(content, 400 if second else 280, struct.pack(f"{order}12{'d' if second else 'f'}", *numbers))


def set_text_field(rng: random.Random, content: bytes) -> bytes:
    """Give a line of a NRRD or MetaImage header another value."""
    lines, rest = _split_header(content)
    at = rng.randrange(len(lines))
    mark = b"=" if b"=" in lines[at] else b":"
    name, found, _ = lines[at].partition(mark)
    lines[at] = name + found + b" " + rng.choice(VALUES)
    return b"\n".join(lines) + rest


def disturb_lines(rng: random.Random, content: bytes) -> bytes:
    """Lose, double, swap, or lengthen lines of a text header."""
    lines, rest = _split_header(content)
    one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
    what = rng.randrange(5)
    if what == 0:
        del lines[one]
    elif what == 1:
        lines.insert(two, lines[one])
    elif what == 2:
        lines[one], lines[two] = lines[two], lines[one]
    elif what == 3:
        lines.insert(one, b"x" * rng.choice((100, 70_000, 1_100_000)))
    else:
        lines[one] += b"\r"
    return b"\n".join(lines) + rest


def _split_header(content: bytes) -> tuple[list[bytes], bytes]:
    end = content.find(b"\n\n") if content[:4] == b"NRRD" else content.find(b"\n", content.find(b"ElementDataFile"))
    end = end if end > 0 else min(len(content), HEADER_BYTES)
    return content[:end].split(b"\n"), content[end:]


def set_zip_field(rng: random.Random, content: bytes) -> bytes:
    """Set a number of a local header, of the directory, or of its end to an extreme."""
    mark = rng.choice(ZIP_MARKS)
    places = [at for at in range(len(content)) if content.startswith(mark, at)]
    if not places:
        return content
    letter, size = rng.choice((("H", 2), ("I", 4)))
    at = rng.choice(places) + 4 + 2 * rng.randrange(21 if mark == ZIP_MARKS[1] else 9)
    top = 256**size - 1
    return _put(content, at, struct.pack("<" + letter, rng.choice((0, 1, 8, 9, 12, 14, 99, top, top // 2, top - 1))))


def mutate_member(rng: random.Random, content: bytes) -> bytes:
    """Mutate a file inside, so that the zip itself is sound."""
    members = _members(content)
    if not members:
        return content
    name = rng.choice(list(members))
    members[name] = rng.choice(list(DICOM_MUTATIONS.values()))(rng, members[name])
    return zip_bytes(members)


def disturb_members(rng: random.Random, content: bytes) -> bytes:
    """Add what does not belong there: another zip, a hostile name, an empty file; or lose a file."""
    members = _members(content)
    if not members:
        return content
    what = rng.randrange(4)
    if what == 0:
        members["inner.zip"] = content
    elif what == 1:
        members[rng.choice(("../../../escape", "/absolute", "C:\\x", "a" * 300, "\u202e.dcm", "DICOMDIR"))] = b"x" * 200
    elif what == 2:
        members["empty"] = b""
    else:
        del members[rng.choice(list(members))]
    return zip_bytes(
        members, rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    )


def _members(content: bytes) -> dict[str, bytes]:
    """The files of a sound zip; none of one that earlier mutations have broken."""
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except DAMAGED:
        return {}


def _put(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + len(new) :]


ANY: dict[str, Mutation] = {
    "bits flipped": flip_bits,
    "truncated": truncate,
    "extended": extend,
    "extreme number": overwrite_with_extreme,
    "noise": overwrite_with_noise,
    "blocks swapped": swap_blocks,
    "block repeated": repeat_block,
    "block dropped": drop_block,
    "noise inserted": insert_noise,
}
OF_KIND: dict[str, dict[str, Mutation]] = {
    "nifti": {"header field": set_nifti_field, "affine": set_nifti_matrix},
    "nrrd": {"header field": set_text_field, "header lines": disturb_lines},
    "metaimage": {"header field": set_text_field, "header lines": disturb_lines},
    "zip": {"header field": set_zip_field, "member": mutate_member, "members": disturb_members},
    "dicom": DICOM_MUTATIONS,
    "deflated": DEFLATED_MUTATIONS,
}
