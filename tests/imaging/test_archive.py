import io
import stat
import struct
import tracemalloc
import zipfile

import pytest

from service.errors import TooLarge, UnreadableImage
from service.imaging.archive import read_members
from service.imaging.guard import Limits
from tests.build import zip_bytes

MIB = 1024**2
LIMITS = Limits(decoded_bytes=4 * MIB, voxels=10**7, files=10)


def members(path, content, limits=LIMITS):
    path.write_bytes(content)
    return list(read_members(path, limits))


def test_members_come_in_archive_order_without_folders_and_macos_files(tmp_path):
    content = zip_bytes(
        {
            "series/": b"",
            "series/b": b"one",
            "__MACOSX/series/._b": b"\x00\x05\x16\x07rest",
            "series/.DS_Store": b"\x00\x00\x00\x01Bud1rest",
            "../../etc/a": b"two",
        }
    )
    assert members(tmp_path / "f", content) == [b"one", b"two"]


def test_nothing_is_written_to_disk(tmp_path):
    members(tmp_path / "f", zip_bytes({"../escaped": b"x", "/tmp/absolute": b"y"}))
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_bomb_is_refused_in_bounded_memory(tmp_path):
    content = zip_bytes({"a": bytes(300 * MIB)})
    assert len(content) < MIB
    tracemalloc.start()
    with pytest.raises(TooLarge, match=f"decodes to more than {4 * MIB} bytes"):
        members(tmp_path / "f", content)
    assert tracemalloc.get_traced_memory()[1] < 12 * MIB
    tracemalloc.stop()


def test_total_of_all_members_is_limited(tmp_path):
    with pytest.raises(TooLarge, match=f"{LIMITS.decoded_bytes} for all"):
        members(tmp_path / "f", zip_bytes({str(index): bytes(MIB) for index in range(5)}))


def test_a_member_longer_than_it_says_is_refused(tmp_path):
    content = bytearray(zip_bytes({"a": bytes(MIB)}))
    directory = content.index(b"PK\x01\x02")
    struct.pack_into("<L", content, directory + 24, 100)
    with pytest.raises(UnreadableImage, match="the zip is damaged"):
        members(tmp_path / "f", bytes(content))


def test_too_many_members_are_refused_before_the_directory_is_parsed(tmp_path):
    content = zip_bytes({str(index): b"" for index in range(2000)})
    with pytest.raises(TooLarge, match="2000 entries, at most 10 files"):
        members(tmp_path / "f", content)


def test_a_forged_count_does_not_hide_a_long_directory(tmp_path):
    content = bytearray(zip_bytes({str(index): b"" for index in range(2000)}))
    at = content.rindex(b"PK\x05\x06")
    struct.pack_into("<HH", content, at + 8, 1, 1)
    with pytest.raises(TooLarge):
        members(tmp_path / "f", bytes(content))


def test_links_and_encrypted_members_are_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UnreadableImage, match="holds a link"):
        members(tmp_path / "f", buffer.getvalue())
    encrypted = bytearray(zip_bytes({"a": b"x"}))
    encrypted[encrypted.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(UnreadableImage, match="is encrypted"):
        members(tmp_path / "f", bytes(encrypted))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path, method):
    with pytest.raises(UnreadableImage, match="other than deflate"):
        members(tmp_path / "f", zip_bytes({"a": b"x" * 100}, method))


def test_zip64_and_several_volumes_are_refused(tmp_path):
    plain = zip_bytes({"a": b"x"})
    at = plain.rindex(b"PK\x05\x06")
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1)
    with pytest.raises(UnreadableImage, match="ZIP64"):
        members(tmp_path / "f", plain[:at] + locator + plain[at:])
    split = bytearray(plain)
    struct.pack_into("<H", split, at + 4, 1)
    with pytest.raises(UnreadableImage, match="several volumes"):
        members(tmp_path / "f", bytes(split))


def test_truncated_and_damaged_archives_are_refused(tmp_path):
    content = zip_bytes({"a": bytes(range(256)) * 100})
    for part in (len(content) - 1, len(content) // 2, 30, 4):
        with pytest.raises(UnreadableImage):
            members(tmp_path / "f", content[:part])
    wrong = bytearray(content)
    wrong[60] ^= 255
    with pytest.raises(UnreadableImage, match="damaged"):
        members(tmp_path / "f", bytes(wrong))


def test_nameless_members_and_impossible_offsets_are_handled(tmp_path):
    content = bytearray(zip_bytes({"a": b"x"}))
    directory = content.index(b"PK\x01\x02")
    nameless = bytearray(content)
    nameless[directory + 46] = 0
    with pytest.raises(UnreadableImage, match="damaged"):
        members(tmp_path / "f", bytes(nameless))
    struct.pack_into("<L", content, directory + 42, 2**31)
    with pytest.raises(UnreadableImage, match="damaged"):
        members(tmp_path / "f", bytes(content))
    end = content.rindex(b"PK\x05\x06")
    struct.pack_into("<L", content, directory + 42, 0)
    struct.pack_into("<L", content, end + 16, directory + 50)
    with pytest.raises(UnreadableImage, match="damaged"):
        members(tmp_path / "f", bytes(content))
