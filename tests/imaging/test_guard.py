"""Nothing in a file can make the readers take more memory than the limits allow."""

import gzip
import tracemalloc
import zlib

import numpy as np
import pytest

from service.errors import TooLarge, UnreadableImage, UnusableImage
from service.imaging.guard import CHUNK, Limits
from service.imaging.volumes import read_volume
from tests.build import build_image, write_mha, write_nifti, write_nifti_array, write_nrrd

MIB = 1024**2
LIMITS = Limits(decoded_bytes=8 * MIB, voxels=4 * MIB, files=10)
WRITERS = {
    "nifti": (write_nifti, {}),
    "nifti-gzip": (write_nifti, {"compressed": True}),
    "nrrd": (write_nrrd, {}),
    "nrrd-gzip": (write_nrrd, {"compressed": True}),
    "mha": (write_mha, {}),
    "mha-zlib": (write_mha, {"compressed": True}),
}


@pytest.fixture
def bounded():
    """The test may allocate no more than three times the decoded limit."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * LIMITS.decoded_bytes


def forged(path, sizes):
    def change(header):
        header["dim"][: len(sizes) + 1] = [len(sizes), *sizes]

    return write_nifti(path, build_image(), change=change, version=2)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("sizes", [(32767, 32767, 32767), (2**40, 1, 1), (2**62, 2**62, 2**62), (5000, 1000, 1)])
def test_forged_dimensions_are_refused_before_anything_is_allocated(tmp_path, sizes):
    with pytest.raises(TooLarge, match="at most 4194304 are accepted") as refusal:
        read_volume(forged(tmp_path / "f", sizes), LIMITS)
    assert refusal.value.facts["unit"] == "voxels"


@pytest.mark.usefixtures("bounded")
def test_a_header_alone_of_352_bytes_is_refused(tmp_path):
    path = write_nifti(tmp_path / "f", build_image(), change=lambda header: header["dim"].__setitem__(1, 3000))
    path.write_bytes(path.read_bytes()[:352])
    with pytest.raises(UnreadableImage, match="it holds 0 bytes of voxels, its header declares 1512000"):
        read_volume(path, LIMITS)


def test_decoded_bytes_count_as_kept_in_memory(tmp_path):
    voxels = np.zeros((128, 128, 180), np.int16)  # 5.6 MiB as stored, 11.3 MiB rescaled to float32
    assert read_volume(write_nifti_array(tmp_path / "f", voxels, np.eye(4)), LIMITS)
    path = write_nifti_array(
        tmp_path / "f", voxels, np.eye(4), change=lambda header: header.__setitem__("scl_slope", 2)
    )
    with pytest.raises(TooLarge, match="11796480 decoded bytes, at most 8388608"):
        read_volume(path, LIMITS)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("form", ["nifti-gzip", "nrrd-gzip", "mha-zlib"])
def test_a_stream_that_decodes_to_far_more_than_declared_is_not_decoded(tmp_path, form):
    write, options = WRITERS[form]
    image = build_image()
    path = write(tmp_path / "f", image, **options)
    bomb = b"\0" * (256 * MIB)
    content = path.read_bytes()
    if form == "nifti-gzip":
        path.write_bytes(gzip.compress(gzip.decompress(content) + bomb, 1))
    elif form == "nrrd-gzip":
        start = content.index(b"\n\n") + 2
        path.write_bytes(content[:start] + gzip.compress(image.voxels.tobytes(order="F") + bomb, 1))
    else:
        start = content.index(b"LOCAL\n") + 6
        path.write_bytes(content[:start] + zlib.compress(image.voxels.tobytes(order="F") + bomb, 1))
    del bomb, content
    tracemalloc.reset_peak()
    assert np.array_equal(read_volume(path, LIMITS).voxels, image.voxels)


@pytest.mark.parametrize("form", WRITERS)
def test_truncated_files_are_refused(tmp_path, form):
    write, options = WRITERS[form]
    whole = write(tmp_path / "f", build_image(), **options).read_bytes()
    for part in (len(whole) - 1, len(whole) // 2, 360, 340, 100, 10):
        (tmp_path / "f").write_bytes(whole[:part])
        with pytest.raises(UnreadableImage):
            read_volume(tmp_path / "f", LIMITS)


@pytest.mark.parametrize("form", ["nifti-gzip", "nrrd-gzip", "mha-zlib"])
def test_a_damaged_stream_is_refused(tmp_path, form):
    write, options = WRITERS[form]
    path = write(tmp_path / "f", build_image(), **options)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :][:8] = b"\xff" * 8
    content[-4000:-3990] = bytes(10)
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"damaged|truncated|ends early"):
        read_volume(path, LIMITS)


def test_a_wrong_checksum_is_refused(tmp_path):
    path = write_nifti(tmp_path / "f", build_image(), compressed=True)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match="damaged"):
        read_volume(path, LIMITS)


def test_gzip_in_several_members_is_read(tmp_path):
    image = build_image()
    raw = write_nifti(tmp_path / "f", image).read_bytes()
    (tmp_path / "f").write_bytes(b"".join(gzip.compress(raw[at : at + 1000]) for at in range(0, len(raw), 1000)))
    assert np.array_equal(read_volume(tmp_path / "f", LIMITS).voxels, image.voxels)


def test_gzip_of_something_else_is_refused(tmp_path):
    (tmp_path / "f").write_bytes(gzip.compress(b"plain text" * 100))
    with pytest.raises(UnreadableImage, match="got a gzip stream holding an unknown format"):
        read_volume(tmp_path / "f", LIMITS)
    (tmp_path / "f").write_bytes(gzip.compress(write_nrrd(tmp_path / "g", build_image()).read_bytes()))
    with pytest.raises(UnreadableImage, match="holds no NIfTI"):
        read_volume(tmp_path / "f", LIMITS)


@pytest.mark.parametrize(
    ("field", "value"), [("datatype", 1), ("datatype", 999), ("bitpix", 64), ("vox_offset", 10), ("vox_offset", np.nan)]
)
def test_impossible_nifti_fields_are_refused(tmp_path, field, value):
    path = write_nifti(tmp_path / "f", build_image(), change=lambda header: header.__setitem__(field, value))
    with pytest.raises(UnreadableImage):
        read_volume(path, LIMITS)


@pytest.mark.parametrize("count", [0, 8, -1])
def test_impossible_number_of_dimensions_is_refused(tmp_path, count):
    path = write_nifti(tmp_path / "f", build_image(), change=lambda header: header["dim"].__setitem__(0, count))
    with pytest.raises(UnreadableImage, match="expected 1 to 7"):
        read_volume(path, LIMITS)


def test_affine_beyond_any_patient_is_refused_without_overflow(tmp_path):
    path = write_nifti(
        tmp_path / "f", build_image(), version=2, change=lambda header: header["srow_x"].__setitem__(0, 1e300)
    )
    with pytest.raises(UnusableImage, match="beyond 1e\\+09 mm"):
        read_volume(path, LIMITS)


@pytest.mark.parametrize("surplus", [1, CHUNK - 1, CHUNK + 1, 3 * CHUNK])
@pytest.mark.parametrize("edge", [8, 64, 100])
def test_bytes_after_the_declared_ones_are_ignored_however_the_stream_is_cut(tmp_path, surplus, edge):
    voxels = np.arange(edge**3, dtype=np.int16).reshape((edge,) * 3)
    path = write_nifti_array(tmp_path / "image", voxels, np.diag([-1.0, -1.0, 1.0, 1.0]))
    path.write_bytes(gzip.compress(path.read_bytes() + bytes(surplus), 1))
    assert np.array_equal(read_volume(path, LIMITS).voxels, voxels)
