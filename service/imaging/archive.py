"""Take the members of a zip one by one, within limits on their number and on their real size.

Names are ignored, nothing is written to disk, and no member is trusted to be as long as it says.

References:
    APPNOTE.TXT, .ZIP File Format Specification, sections 4.3.12 to 4.3.16.
"""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from service.errors import TooLarge, UnreadableImage
from service.imaging.guard import CHUNK, Limits

MEMBER_BYTES: Final = 256 * 1024**2  # no single-frame image is larger
ENTRY_BYTES: Final = 1024  # of the central directory, per member: 46, a name and extra fields
END: Final = struct.Struct("<4s4H2LH")  # end of central directory record
LONGEST_COMMENT: Final = 65535
DAMAGED: Final = (
    ArithmeticError, EOFError, LookupError, NotImplementedError, RuntimeError, ValueError,
    struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
# Files that macOS adds beside every other one: AppleDouble and the Finder's folder settings.
LITTER: Final = (b"\x00\x05\x16\x07", b"\x00\x00\x00\x01Bud1")


def read_members(path: Path, limits: Limits) -> Iterator[bytes]:
    """Yield the content of each file in a zip, in archive order; folders and macOS's own files are left out.

    Raises:
        TooLarge: too many members, or too many real bytes.
        UnreadableImage: damaged, encrypted, a link, ZIP64, or a compression other than deflate.
    """
    _check_directory(path, limits)
    left = limits.decoded_bytes
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.filename.endswith("/")]
            for member in members:
                _check_member(member, path.stat().st_size)
            for member in members:
                content = _read_member(archive, member, min(left, MEMBER_BYTES), limits)
                left -= len(content)
                if not content.startswith(LITTER):
                    yield content
    except DAMAGED:
        raise UnreadableImage("the zip is damaged") from None


def _check_directory(path: Path, limits: Limits) -> None:
    """Check the number of members before the directory is parsed, for parsing takes memory per member."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - LONGEST_COMMENT - END.size - 20))
        tail = file.read()
    at = len(tail) - END.size
    if at < 0 or not (tail[at:].startswith(b"PK\x05\x06") and tail.endswith(b"\x00\x00")):
        at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + END.size > len(tail):
        raise UnreadableImage("the zip has no directory: it is truncated")
    if tail[max(0, at - 20) : at].startswith(b"PK\x06\x07"):
        raise UnreadableImage("ZIP64 archives are not accepted; send a plain zip, or the files one by one")
    _, disk, first_disk, _, count, directory_bytes, _, _ = END.unpack_from(tail, at)
    if disk or first_disk:
        raise UnreadableImage("the zip is one of several volumes; send a single one")
    if count > 2 * limits.files or directory_bytes > ENTRY_BYTES * 2 * limits.files:  # folders count here too
        raise _too_many(count, limits)


def _check_member(member: zipfile.ZipInfo, archive_bytes: int) -> None:
    if not 0 <= member.header_offset < archive_bytes:
        raise UnreadableImage("the zip is damaged")
    if member.flag_bits & 1:
        raise UnreadableImage("the zip is encrypted")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise UnreadableImage("the zip holds a link")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnreadableImage("the zip uses a compression other than deflate")


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most: int, limits: Limits) -> bytes:
    pieces, left = [], most
    with archive.open(member) as stream:
        while piece := stream.read(min(CHUNK, left + 1)):
            left -= len(piece)
            if left < 0:
                raise TooLarge(
                    f"a member of the zip decodes to more than {most} bytes; at most {MEMBER_BYTES} are accepted for "
                    f"one member and {limits.decoded_bytes} for all",
                    limit=limits.decoded_bytes,
                    unit="decoded bytes",
                )
            pieces.append(piece)
    return b"".join(pieces)


def _too_many(count: int, limits: Limits) -> TooLarge:
    return TooLarge(
        f"the zip holds {count} entries, at most {limits.files} files are accepted",
        got=count,
        limit=limits.files,
        unit="files",
    )
