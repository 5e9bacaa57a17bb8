import struct

import nibabel
import numpy as np
import pytest
import SimpleITK

from service.errors import UnreadableImage, UnusableImage
from service.imaging.guard import Format, Limits, sniff
from service.imaging.itk_bridge import from_itk, to_itk
from service.imaging.orientation import reorient
from service.imaging.volumes import read_labels, read_volume
from tests.build import (
    build_geometry,
    build_image,
    build_mask,
    reorder,
    rotation,
    write_itk,
    write_mha,
    write_nifti,
    write_nifti_array,
    write_nrrd,
)

LIMITS = Limits(decoded_bytes=10**8, voxels=10**7, files=100)
TYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"]
WRITERS = {
    "nifti": (write_nifti, {}),
    "nifti-gzip": (write_nifti, {"compressed": True}),
    "nifti2": (write_nifti, {"version": 2}),
    "nrrd": (write_nrrd, {}),
    "nrrd-gzip": (write_nrrd, {"compressed": True}),
    "mha": (write_mha, {}),
    "mha-zlib": (write_mha, {"compressed": True}),
}


def replaced(path, old, new, count=1):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, count))
    return path


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("form", WRITERS)
def test_every_format_and_voxel_type_is_read_as_written(tmp_path, form, dtype):
    write, options = WRITERS[form]
    image = build_image(build_geometry(direction_lps=rotation((0.1, 0.2, -0.1))), dtype)
    read = read_volume(write(tmp_path / "image-ct-0000", image, **options), LIMITS)
    assert np.array_equal(read.voxels, image.voxels)
    assert read.voxels.dtype == np.dtype(dtype)
    assert np.allclose(read.geometry.affine, image.geometry.affine, atol=2e-5)
    assert read.notes == ()


@pytest.mark.parametrize(("write", "suffix"), [(write_nrrd, ".nrrd"), (write_mha, ".mha"), (write_nifti, ".nii")])
def test_reading_agrees_with_simpleitk(tmp_path, write, suffix):
    image = reorder(
        build_image(build_geometry(direction_lps=rotation((0.3, 0.1, 0.2)))), (2, 0, 1), (True, False, True)
    )
    path = write(tmp_path / f"volume{suffix}", image)
    theirs = from_itk(SimpleITK.ReadImage(path))
    voxels, geometry, _ = reorient(theirs.voxels, theirs.geometry)
    ours = read_volume(path, LIMITS)
    assert np.array_equal(ours.voxels, voxels)
    assert np.allclose(ours.geometry.affine, geometry.affine, atol=1e-4)


def test_nifti_agrees_with_nibabel(tmp_path):
    image = reorder(build_image(), (1, 0, 2), (False, True, False))
    path = write_nifti(tmp_path / "volume.nii.gz", image, compressed=True)
    theirs = nibabel.load(path)
    ours = read_volume(path, LIMITS)
    at = np.rint(np.linalg.inv(theirs.affine) @ [*ours.geometry.to_world((3, 4, 5)), 1]).astype(int)[:3]
    assert ours.voxels[3, 4, 5] == np.asarray(theirs.dataobj)[tuple(at)]


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32", "float64"])
def test_big_endian_files_are_read(tmp_path, dtype):
    image = build_image(dtype=dtype)
    big = nibabel.Nifti1Image(image.voxels, image.geometry.affine, dtype=dtype)
    header = big.header.as_byteswapped(">" if big.header.endianness == "<" else "<")
    header["sform_code"], header["xyzt_units"], header["vox_offset"], header["magic"] = 1, 2, 352, b"n+1"
    swapped = image.voxels.astype(image.voxels.dtype.newbyteorder(">"))
    (tmp_path / "nifti").write_bytes(header.binaryblock + b"\0\0\0\0" + swapped.tobytes(order="F"))
    nrrd = write_nrrd(tmp_path / "nrrd", image)
    header_end = nrrd.read_bytes().index(b"\n\n") + 2
    nrrd.write_bytes(
        nrrd.read_bytes()[:header_end].replace(b"endian: little", b"endian: big") + swapped.tobytes(order="F")
    )
    mha = write_mha(tmp_path / "mha", image)
    start = mha.read_bytes().index(b"LOCAL\n") + 6
    text = mha.read_bytes()[:start].replace(b"ByteOrderMSB = False", b"ByteOrderMSB = True")
    mha.write_bytes(text + swapped.tobytes(order="F"))
    for name in ("nifti", "nrrd", "mha"):
        read = read_volume(tmp_path / name, LIMITS)
        assert np.array_equal(read.voxels, image.voxels)
        assert read.voxels.dtype.isnative


def test_nifti_scaling_is_applied_in_single_precision_and_noted(tmp_path):
    image = build_image()

    def scale(header):
        header["scl_slope"], header["scl_inter"] = 0.5, -1000

    read = read_volume(write_nifti(tmp_path / "f", image, change=scale), LIMITS)
    assert read.voxels.dtype == np.float32
    assert np.array_equal(read.voxels, image.voxels * np.float32(0.5) - 1000)
    assert read.notes == ("stored numbers were multiplied by 0.5 and -1000 was added",)


@pytest.mark.parametrize("slope", [1.0, 0.0, np.nan])
def test_identity_and_absent_scaling_keep_the_type(tmp_path, slope):
    image = build_image()
    path = write_nifti(tmp_path / "f", image, change=lambda header: header.__setitem__("scl_slope", slope))
    assert read_volume(path, LIMITS).voxels.dtype == np.int16


def test_sform_wins_over_the_qform_and_a_difference_is_noted(tmp_path):
    image = build_image()
    path = write_nifti(tmp_path / "f", image, change=lambda header: header.__setitem__("qoffset_x", 7))
    read = read_volume(path, LIMITS)
    assert read.geometry.matches(image.geometry)
    assert read.notes == ("the NIfTI sform and qform differ; the sform was used",)


def test_qform_is_used_where_the_sform_is_not_set(tmp_path):
    def only_qform(header):
        header["sform_code"] = 0
        header["srow_x"] = 0

    image = build_image(build_geometry(direction_lps=rotation((0.2, 0.1, 0.3))))
    assert read_volume(write_nifti(tmp_path / "f", image, change=only_qform), LIMITS).geometry.matches(image.geometry)


def test_nifti_without_orientation_is_refused(tmp_path):
    def neither(header):
        header["sform_code"] = header["qform_code"] = 0

    with pytest.raises(UnusableImage, match="neither an sform nor a qform"):
        read_volume(write_nifti(tmp_path / "f", build_image(), change=neither), LIMITS)


@pytest.mark.parametrize(("code", "factor"), [(1, 1000.0), (3, 0.001)])
def test_metres_and_micrometres_are_converted_and_noted(tmp_path, code, factor):
    path = write_nifti(tmp_path / "f", build_image(), change=lambda header: header.__setitem__("xyzt_units", code))
    read = read_volume(path, LIMITS)
    assert np.allclose(read.geometry.spacing_mm, np.array([0.75, 0.8, 2.5]) * factor)
    assert len(read.notes) == 1
    assert "were converted from" in read.notes[0]


def test_missing_unit_means_millimetres_and_another_quantity_is_refused(tmp_path):
    unknown = write_nifti(tmp_path / "f", build_image(), change=lambda header: header.__setitem__("xyzt_units", 0))
    assert "millimetres were assumed" in read_volume(unknown, LIMITS).notes[0]
    wrong = write_nifti(tmp_path / "g", build_image(), change=lambda header: header.__setitem__("xyzt_units", 5))
    with pytest.raises(UnreadableImage, match="unit has code 5"):
        read_volume(wrong, LIMITS)


def test_trailing_dimensions_of_one_are_dropped(tmp_path):
    image = build_image()
    path = write_nifti_array(tmp_path / "f", image.voxels[..., None, None], image.geometry.affine)
    assert np.array_equal(read_volume(path, LIMITS).voxels, image.voxels)


@pytest.mark.parametrize("shape", [(4, 5, 6, 2), (4, 5), (4, 5, 6, 1, 3)])
def test_images_of_other_dimensions_are_refused(tmp_path, shape):
    path = write_nifti_array(tmp_path / "f", np.zeros(shape, np.int16), np.eye(4))
    with pytest.raises(UnusableImage, match=f"{len(shape)}D image"):
        read_volume(path, LIMITS)


def test_four_dimensional_nrrd_and_rgb_are_refused(tmp_path):
    vector = SimpleITK.JoinSeries([to_itk(build_image())] * 2)
    with pytest.raises((UnusableImage, UnreadableImage)):
        read_volume(write_itk(tmp_path / "a", vector, ".nrrd"), LIMITS)
    rgb = SimpleITK.Compose([to_itk(build_image(dtype="uint8"))] * 3)
    for suffix in (".nrrd", ".mha", ".nii"):
        with pytest.raises(UnusableImage):
            read_volume(write_itk(tmp_path / "b", rgb, suffix), LIMITS)


def test_rgb_and_complex_nifti_are_refused(tmp_path):
    rgb = np.zeros((4, 5, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(UnusableImage, match="got RGB voxels"):
        read_volume(write_nifti_array(tmp_path / "f", rgb, np.eye(4)), LIMITS)
    with pytest.raises(UnusableImage, match="got complex voxels"):
        read_volume(write_nifti_array(tmp_path / "f", np.zeros((4, 5, 6), np.complex64), np.eye(4)), LIMITS)


def test_nan_voxels_are_refused_with_their_count(tmp_path):
    voxels = np.zeros((4, 5, 6), np.float32)
    voxels[1, 2, 3:5] = np.nan
    with pytest.raises(UnusableImage, match="2 voxels are NaN and 0 infinite, of 120"):
        read_volume(write_nifti_array(tmp_path / "f", voxels, np.eye(4)), LIMITS)


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_64_bit_integers_are_kept_in_32_bits_or_refused(tmp_path, dtype):
    voxels = np.arange(120, dtype=dtype).reshape(4, 5, 6)
    read = read_volume(write_nifti_array(tmp_path / "f", voxels, np.diag([-1, -1, 1, 1])), LIMITS)
    assert read.voxels.dtype == np.int32
    assert np.array_equal(read.voxels, voxels)
    voxels[0, 0, 0] = 2**40
    with pytest.raises(UnusableImage, match="do not fit 32 bits"):
        read_volume(write_nifti_array(tmp_path / "f", voxels, np.eye(4)), LIMITS)


def test_sheared_affine_is_refused(tmp_path):
    image = build_image()
    path = write_nifti(tmp_path / "f", image, change=lambda header: header["srow_x"].__setitem__(1, 0.3))
    with pytest.raises(UnusableImage, match="not orthogonal"):
        read_volume(path, LIMITS)


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        (b"encoding: raw", b"encoding: bzip2", UnreadableImage, "encoding is bzip2"),
        (b"encoding: raw", b"data file: ../other.raw\nencoding: raw", UnreadableImage, "in another file"),
        (b"encoding: raw", b"datafile: LIST\nencoding: raw", UnreadableImage, "in another file"),
        (b"encoding: raw", b"byte skip: 10\nencoding: raw", UnreadableImage, "'byteskip' is not supported"),
        (b"endian: little\n", b"", UnreadableImage, "no field 'endian'"),
        (b"space: left-posterior-superior", b"space: scanner-xyz", UnusableImage, "no patient-based space"),
        (b"space: left-posterior-superior\n", b"space dimension: 3\n", UnusableImage, "no patient-based space"),
        (b"type: short", b"type: block", UnreadableImage, "voxel type is not a number"),
        (b"sizes: 22 18 14", b"sizes: 22 18 x", UnreadableImage, "'sizes' does not hold numbers"),
        (b"sizes: 22 18 14", b"sizes: 22 18", UnreadableImage, "do not number its dimension"),
        (b"sizes: 22 18 14", b"sizes: 22 18 -14", UnreadableImage, "each must be positive"),
        (b"NRRD0004", b"NRRD0009", UnreadableImage, "version 1 to 5"),
        (b"encoding: raw", b'space units: "cm" "cm" "cm"\nencoding: raw', UnusableImage, "not mm"),
    ],
)
def test_nrrd_headers_that_cannot_be_used_are_refused(tmp_path, old, new, error, words):
    path = replaced(write_nrrd(tmp_path / "f", build_image()), old, new)
    with pytest.raises(error, match=words):
        read_volume(path, LIMITS)


def test_nrrd_in_ras_space_reads_to_the_same_place(tmp_path):
    image = build_image()
    path = replaced(
        write_nrrd(tmp_path / "f", image), b"space: left-posterior-superior", b"space: right-anterior-superior"
    )
    text = path.read_bytes()
    start, end = text.index(b"space directions"), text.index(b"\nkinds")
    path.write_bytes(text[:start] + b"space directions: (-0.75,0,0) (0,-0.8,0) (0,0,2.5)" + text[end:])
    path = replaced(path, b"(-70.5,-120.25,33)", b"(70.5,120.25,33)")
    read = read_volume(path, LIMITS)
    assert np.array_equal(read.voxels, image.voxels)
    assert np.allclose(read.geometry.affine, image.geometry.affine)


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        (b"ElementDataFile = LOCAL", b"ElementDataFile = /etc/passwd", UnreadableImage, "in another file"),
        (b"ElementDataFile = LOCAL", b"ElementDataFile = LIST", UnreadableImage, "in another file"),
        (b"BinaryData = True", b"BinaryData = False", UnreadableImage, "as text"),
        (b"ElementType = MET_SHORT", b"ElementType = MET_OTHER", UnreadableImage, "voxel type"),
        (b"DimSize = 22 18 14", b"DimSize = 22 18", UnreadableImage, "does not number NDims"),
        (b"DimSize = 22 18 14", b"HeaderSize = 9\nDimSize = 22 18 14", UnreadableImage, "HeaderSize"),
        (b"ElementSpacing", b"ElementOther", UnreadableImage, "'elementsize'"),
        (b"ElementSpacing = 0.75", b"ElementSpacing = 0", UnusableImage, "voxel edges"),
    ],
)
def test_metaimage_headers_that_cannot_be_used_are_refused(tmp_path, old, new, error, words):
    path = replaced(write_mha(tmp_path / "f", build_image()), old, new)
    with pytest.raises(error, match=words):
        read_volume(path, LIMITS)


def test_metaimage_without_a_matrix_has_the_identity_and_says_so(tmp_path):
    path = replaced(write_mha(tmp_path / "f", build_image()), b"TransformMatrix = 1 0 0 0 1 0 0 0 1\n", b"")
    read = read_volume(path, LIMITS)
    assert read.geometry.matches(build_geometry())
    assert "no TransformMatrix" in read.notes[0]


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64", "int64"])
def test_labels_may_be_whole_numbers_of_any_type(tmp_path, dtype):
    mask = build_mask()
    path = write_nifti_array(tmp_path / "f", (2 * mask.voxels).astype(dtype), mask.geometry.affine)
    labels = read_labels(path, LIMITS)
    assert labels.counts == {2: mask.count}
    assert np.array_equal(labels.mask("2")[0].voxels, mask.voxels)


def test_fractional_labels_are_refused_with_their_count(tmp_path):
    mask = build_mask()
    path = write_nifti_array(tmp_path / "f", mask.voxels * np.float32(0.5), mask.geometry.affine)
    with pytest.raises(UnusableImage, match=f"{mask.count} of the mask's {mask.voxels.size} voxels are not whole"):
        read_labels(path, LIMITS)


def test_an_image_given_as_mask_is_refused(tmp_path):
    voxels = np.arange(20 * 20 * 20, dtype=np.int32).reshape(20, 20, 20)
    labels = read_labels(write_nifti_array(tmp_path / "f", voxels, np.eye(4)), LIMITS)
    with pytest.raises(UnusableImage, match="it is no label image"):
        labels.mask("1")


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        (b"", "an empty file"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 400, "a PNG picture"),
        (b"hello world" * 50, "an unknown format"),
        (struct.pack("<i", 348) + b"\0" * 400, "an Analyze 7.5 header"),
        (struct.pack("<i", 348) + b"\0" * 340 + b"ni1\0", "the header of a NIfTI pair"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 400, "an HDF5 file"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, content, seen):
    path = tmp_path / "image.nii"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=seen):
        read_volume(path, LIMITS)


def test_formats_are_told_from_content_whatever_the_name(tmp_path):
    image = build_image()
    assert sniff(write_nrrd(tmp_path / "a.nii.gz", image)) is Format.NRRD
    assert sniff(write_nifti(tmp_path / "b.dcm", image, compressed=True)) is Format.NIFTI_GZIP
    assert sniff(write_mha(tmp_path / "c.nrrd", image)) is Format.METAIMAGE
    assert read_volume(tmp_path / "b.dcm", LIMITS).voxels.shape == image.voxels.shape
