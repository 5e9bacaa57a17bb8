import logging
import warnings

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.uid import (
    EnhancedCTImageStorage,
    JPEGLSLossless,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
    SegmentationStorage,
)

from service.errors import CaseError, IrregularSeries, TooLarge, UnreadableImage, UnusableImage
from service.imaging.dicom import read_series
from service.imaging.guard import Limits
from service.imaging.itk_bridge import from_itk
from tests.build import build_geometry, build_image, reorder, rotation, write_dicom_series, write_nifti, zip_files

LIMITS = Limits(decoded_bytes=10**8, voxels=10**7, files=100)


def edited(folder, image=None, **values):
    """A series with attributes set (or removed, by None) in every slice."""

    def change(dataset, _index):
        for keyword, value in values.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)

    return write_dicom_series(folder, image or build_image(), change=change)


def moved(folder, move, image=None):
    """A series whose positions (LPS mm) go through `move(position, index)`."""

    def change(dataset, index):
        position = move(np.array(dataset.ImagePositionPatient, float), index)
        dataset.ImagePositionPatient = [f"{x:.8g}" for x in position]

    return write_dicom_series(folder, image or build_image(), change=change)


def test_series_is_read_as_written_in_any_order_of_files(tmp_path):
    image = build_image()
    paths = write_dicom_series(tmp_path / "s", image)
    for order in (paths, paths[::-1], paths[5:] + paths[:5]):
        read = read_series(order, LIMITS)
        assert np.array_equal(read.voxels, image.voxels)
        assert read.voxels.dtype == np.int16
        assert read.geometry.matches(image.geometry)
        assert (read.modality, read.notes) == ("CT", ())


def test_zip_gives_the_same_image_whatever_lies_in_folders(tmp_path):
    image = build_image()
    archive = zip_files(tmp_path / "upload-0000", write_dicom_series(tmp_path / "s", image))
    assert np.array_equal(read_series([archive], LIMITS).voxels, image.voxels)


@pytest.mark.parametrize("turn", [(0, 0, 0), (0.3, -0.2, 0.5)])
def test_series_agrees_with_simpleitk(tmp_path, turn):
    image = build_image(build_geometry(direction_lps=rotation(turn)))
    paths = edited(tmp_path / "s", image, RescaleIntercept="-1024", RescaleSlope="2")
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in paths])
    theirs = from_itk(reader.Execute())
    ours = read_series(paths, LIMITS)
    assert np.array_equal(ours.voxels, theirs.voxels)
    assert np.allclose(ours.geometry.affine, theirs.geometry.affine, atol=1e-5)


def test_whole_number_rescaling_keeps_integers_as_small_as_they_fit(tmp_path):
    image = build_image()
    read = read_series(edited(tmp_path / "a", RescaleIntercept="-1024"), LIMITS)
    assert read.voxels.dtype == np.int16
    assert np.array_equal(read.voxels, image.voxels - 1024)
    read = read_series(edited(tmp_path / "b", RescaleIntercept="40000"), LIMITS)
    assert read.voxels.dtype == np.int32
    assert np.array_equal(read.voxels, image.voxels.astype(np.int32) + 40000)


def test_unsigned_pixels_become_signed_hounsfield_units(tmp_path):
    image = build_image()
    stored = type(image)((image.voxels.astype(np.int32) + 1024).astype(np.uint16), image.geometry)
    read = read_series(edited(tmp_path / "s", stored, RescaleIntercept="-1024"), LIMITS)
    assert read.voxels.dtype == np.int16
    assert np.array_equal(read.voxels, image.voxels)


def test_rescaling_may_differ_between_slices_and_is_noted(tmp_path):
    image = build_image()

    def change(dataset, index):
        dataset.RescaleSlope = f"{0.5 + index / 4:.4g}"
        dataset.SOPClassUID = PositronEmissionTomographyImageStorage

    read = read_series(write_dicom_series(tmp_path / "s", image, change=change), LIMITS)
    assert read.voxels.dtype == np.float32
    assert np.array_equal(read.voxels, (image.voxels * (0.5 + np.arange(14) / 4)).astype(np.float32))
    assert read.modality == "PT"
    assert "rescale slope and intercept differ between slices" in read.notes[0]


def test_bits_above_those_stored_do_not_count(tmp_path):
    image = build_image(dtype="uint16")
    dirty = type(image)((image.voxels & 0x0FFF) | 0x3000, image.geometry)
    read = read_series(edited(tmp_path / "s", dirty, BitsStored=12, HighBit=11), LIMITS)
    assert np.array_equal(read.voxels, image.voxels & 0x0FFF)


def test_signed_pixels_of_12_bits_are_sign_extended(tmp_path):
    image = build_image()
    cut = type(image)(image.voxels & 0x0FFF, image.geometry)
    read = read_series(edited(tmp_path / "s", cut, BitsStored=12, HighBit=11), LIMITS)
    assert np.array_equal(read.voxels, image.voxels)


def test_padding_value_is_noted_and_left(tmp_path):
    image = build_image()
    read = read_series(edited(tmp_path / "s", PixelPaddingValue=-2000), LIMITS)
    assert np.array_equal(read.voxels, image.voxels)
    assert "padded pixels were left as they are" in read.notes[0]


def test_rle_is_decoded(tmp_path):
    image = build_image()
    paths = write_dicom_series(tmp_path / "s", image)
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
    assert np.array_equal(read_series(paths, LIMITS).voxels, image.voxels)


def test_undecodable_transfer_syntax_is_named(tmp_path):
    paths = write_dicom_series(tmp_path / "s", build_image())
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        dataset.file_meta.TransferSyntaxUID = JPEGLSLossless
        dataset.save_as(path)
    with pytest.raises(UnreadableImage, match=r"JPEG-LS Lossless Image Compression \(1\.2\.840\.10008\.1\.2\.4\.80\)"):
        read_series(paths, LIMITS)


def deflated(paths):
    for path in paths:
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        dataset.save_as(path)
    return paths


def test_deflated_dicom_is_read(tmp_path):
    image = build_image()
    read = read_series(deflated(write_dicom_series(tmp_path / "s", image)), LIMITS)
    assert np.array_equal(read.voxels, image.voxels)
    assert read.geometry.matches(image.geometry)


def test_deflated_dicom_is_inflated_no_further_than_the_limit(tmp_path):
    paths = deflated(edited(tmp_path / "s", PixelData=bytes(10**7)))
    assert paths[0].stat().st_size < 20_000
    with pytest.raises(TooLarge, match="a deflated DICOM file becomes more than 1000000 bytes"):
        read_series(paths, Limits(10**6, 10**7, 100))


def test_deflated_frames_are_refused_by_name(tmp_path):
    paths = write_dicom_series(tmp_path / "s", build_image())
    plain, newer = b"UI\x14\x001.2.840.10008.1.2.1\0", b"UI\x16\x001.2.840.10008.1.2.8.1\0"
    content = paths[0].read_bytes()
    assert content.count(plain) == 1
    paths[0].write_bytes(content.replace(plain, newer))
    with pytest.raises(UnreadableImage, match="Deflated Image Frame Compression"):
        read_series(paths, LIMITS)


def test_missing_slice_is_refused_with_its_position(tmp_path):
    paths = write_dicom_series(tmp_path / "s", build_image())
    with pytest.raises(IrregularSeries, match=r"usually 2\.5 mm apart .* 5 mm after 43\.000 mm") as refusal:
        read_series(paths[:5] + paths[6:], LIMITS)
    assert refusal.value.facts == {"usual_mm": 2.5, "positions_mm": [43.0], "gaps_mm": [5.0]}


def test_spacing_may_vary_by_one_percent_and_no_more(tmp_path):
    assert read_series(moved(tmp_path / "a", lambda at, k: np.add(at, [0, 0, 0.012 * (k % 2)])), LIMITS)
    with pytest.raises(IrregularSeries, match="unevenly spaced"):
        read_series(moved(tmp_path / "b", lambda at, k: np.add(at, [0, 0, 0.05 * (k % 3 == 0)])), LIMITS)


def test_gantry_tilt_is_refused_with_its_angle(tmp_path):
    tilt = np.tan(np.radians(12))
    with pytest.raises(IrregularSeries, match=r"12\.00 degrees \(gantry tilt\?\)") as refusal:
        read_series(moved(tmp_path / "s", lambda at, k: np.add(at, [0, k * 2.5 * tilt, 0])), LIMITS)
    assert refusal.value.facts["drift_mm"][1] == pytest.approx(2.5 * tilt, abs=1e-3)


def test_duplicate_slices_are_refused_with_their_positions(tmp_path):
    paths = write_dicom_series(tmp_path / "s", build_image())
    with pytest.raises(IrregularSeries, match=r"1 of 15 slices lie where another one lies, at 40\.500 mm"):
        read_series([*paths, paths[3]], LIMITS)


def test_localizer_among_the_slices_is_refused(tmp_path):
    image = build_image()
    paths = write_dicom_series(tmp_path / "s", image)
    localizer = write_dicom_series(tmp_path / "l", reorder(image, (1, 2, 0)), prefix="localizer")[0]
    dataset = pydicom.dcmread(localizer)
    dataset.SeriesInstanceUID = pydicom.dcmread(paths[0]).SeriesInstanceUID
    dataset.save_as(localizer)
    with pytest.raises(IrregularSeries, match=r"1 of 15 slices are oriented otherwise .* localizer"):
        read_series([*paths, localizer], LIMITS)


def test_two_series_are_refused(tmp_path):
    image = build_image()
    paths = write_dicom_series(tmp_path / "a", image) + write_dicom_series(tmp_path / "b", image)
    with pytest.raises(IrregularSeries, match="28 files belong to 2 series"):
        read_series(paths, LIMITS)


@pytest.mark.parametrize(
    ("keyword", "value", "words"),
    [("PixelSpacing", ["0.7", "0.7"], r"2 pixel spacings \(mm\): 0\.7 x 0\.7, 0\.8 x 0\.75")],
)
def test_mixed_attributes_are_refused(tmp_path, keyword, value, words):
    paths = write_dicom_series(
        tmp_path / "s",
        build_image(),
        change=lambda dataset, index: setattr(dataset, keyword, value) if index == 4 else None,
    )
    with pytest.raises(IrregularSeries, match=words):
        read_series(paths, LIMITS)


def test_mixed_matrix_sizes_are_refused(tmp_path):
    def change(dataset, index):
        if index == 2:
            dataset.Rows -= 1
            dataset.PixelData = dataset.PixelData[: dataset.Rows * dataset.Columns * 2]

    with pytest.raises(IrregularSeries, match=r"matrix sizes \(rows x columns\): 17 x 22, 18 x 22"):
        read_series(write_dicom_series(tmp_path / "s", build_image(), change=change), LIMITS)


def test_single_slice_takes_its_thickness_as_spacing_or_is_refused(tmp_path):
    paths = write_dicom_series(tmp_path / "a", build_image())
    read = read_series(paths[:1], LIMITS)
    assert read.geometry.spacing_mm == (0.75, 0.8, 2.5)
    assert "its thickness was taken as the slice spacing" in read.notes[0]
    with pytest.raises(IrregularSeries, match="one slice and no slice thickness"):
        read_series(edited(tmp_path / "b", SliceThickness=None)[:1], LIMITS)


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        ({"SOPClassUID": EnhancedCTImageStorage}, UnreadableImage, "of 1 frames says of 0 where they lie"),
        ({"SOPClassUID": SegmentationStorage}, UnreadableImage, "Segmentation Storage"),
        ({"SOPClassUID": "1.2.3.4.5"}, UnreadableImage, "class unknown to the standard"),
        ({"NumberOfFrames": 3}, UnreadableImage, "of 3 frames, whose class has one"),
        ({"SamplesPerPixel": 3}, UnusableImage, "3 samples per pixel"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, UnusableImage, "inverted grey scale"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, UnusableImage, "palette"),
        ({"PixelData": None}, UnreadableImage, "no pixel data"),
        ({"Rows": None}, UnreadableImage, "image pixel module"),
        ({"HighBit": 14}, UnreadableImage, "high bit 14"),
        ({"BitsAllocated": 12}, UnreadableImage, "of 12 bits stored"),
        ({"Rows": 19}, UnreadableImage, "cannot be decoded"),
        ({"PixelData": b"\0" * 3_000_000}, UnreadableImage, "3000000 bytes of pixel data"),
        ({"ImagePositionPatient": None}, UnreadableImage, "ImagePositionPatient is missing"),
        ({"ImageOrientationPatient": ["1", "0", "0", "1", "0", "0"]}, UnusableImage, "no pair of orthogonal"),
        ({"PixelSpacing": ["0.8"]}, UnreadableImage, "PixelSpacing is missing or does not hold 2"),
        ({"RescaleSlope": "0"}, UnusableImage, "RescaleSlope is 0"),
        ({"ModalityLUTSequence": []}, UnusableImage, "modality LUT"),
        ({"SeriesInstanceUID": None}, UnreadableImage, "identifiers"),
    ],
)
def test_other_objects_are_refused_by_name(tmp_path, values, error, words):
    paths = edited(tmp_path / "s", **values)
    with pytest.raises(error, match=words):
        read_series(paths, LIMITS)


def test_mr_series_is_read(tmp_path):
    read = read_series(edited(tmp_path / "s", SOPClassUID=MRImageStorage, RescaleSlope=None), LIMITS)
    assert read.modality == "MR"


def test_limits_on_files_voxels_and_bytes_are_kept(tmp_path):
    paths = write_dicom_series(tmp_path / "s", build_image())
    archive = zip_files(tmp_path / "zip", paths)
    for limits, unit in (
        (Limits(10**8, 10**7, 13), "files"),
        (Limits(10**8, 5000, 100), "voxels"),
        (Limits(9000, 10**7, 100), "decoded bytes"),
    ):
        for files in (paths, [archive]):
            with pytest.raises(TooLarge) as refusal:
                read_series(files, limits)
            assert refusal.value.facts["unit"] == unit


def test_declared_matrix_is_checked_before_decoding(tmp_path):
    paths = edited(tmp_path / "s", Rows=60000, Columns=60000)
    with pytest.raises(TooLarge, match="7200000000 bytes in one slice"):
        read_series(paths, Limits(2**40, 2**40, 100))


def test_other_files_among_the_slices_are_refused(tmp_path):
    paths = write_dicom_series(tmp_path / "s", build_image())
    with pytest.raises(UnreadableImage, match="got a NIfTI file among 15"):
        read_series([*paths, write_nifti(tmp_path / "n", build_image())], LIMITS)


def test_damaged_files_never_repeat_what_they_hold(tmp_path, caplog, capfd):
    """Bytes of a file that carries a patient's name are changed everywhere; nothing of it may come out."""
    secret = "PLANTED"
    paths = write_dicom_series(tmp_path / "s", build_image())[:2]
    content = paths[0].read_bytes()
    rng = np.random.default_rng(1)
    refusals = []
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        for _ in range(300):
            damaged = np.frombuffer(content, np.uint8).copy()
            at = rng.integers(132, min(1200, damaged.size), rng.integers(1, 5))
            damaged[at] = rng.integers(0, 256, at.size)
            paths[0].write_bytes(damaged.tobytes())
            try:
                read_series(paths, LIMITS)
            except CaseError as refusal:
                refusals.append(f"{refusal.detail} {refusal.facts} {refusal.__cause__}")
    assert len(refusals) > 50
    assert secret not in "".join(refusals)
    assert not caught
    assert secret not in caplog.text
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")


def test_pixel_data_cut_short_is_refused(tmp_path):
    paths = write_dicom_series(tmp_path / "s", build_image())
    paths[0].write_bytes(paths[0].read_bytes()[:-10])
    with pytest.raises(UnreadableImage, match=r"cannot be (decoded|parsed)"):
        read_series(paths, LIMITS)
