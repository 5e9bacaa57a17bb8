"""Enhanced multi-frame images, and pixel data in every encoding that a hospital sends."""

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from service.errors import IrregularSeries, TooLarge, UnreadableImage, UnusableImage
from service.imaging.case import Image
from service.imaging.dicom import read_series
from service.imaging.guard import Limits
from tests.build import build_geometry, build_image, rotation, write_dicom_series
from tests.real_data import real_data

LIMITS = Limits(decoded_bytes=10**8, voxels=10**7, files=100)


def sequence(**values):
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return [item]


def write_enhanced(
    folder, image, *, kind=EnhancedCTImageStorage, order=None, shared=True, slopes=None, change=None, frame=None
):
    """One multi-frame file of the planes along K, stored in any order, with what does not differ shared or repeated."""
    series = write_dicom_series(folder, image)
    sources = [pydicom.dcmread(path) for path in series]
    order = list(range(len(sources))) if order is None else list(order)
    dataset = sources[0]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = kind
    dataset.NumberOfFrames = len(order)
    dataset.PixelData = b"".join(pydicom.dcmread(series[at]).PixelData for at in order)
    common = {
        "PlaneOrientationSequence": sequence(ImageOrientationPatient=dataset.ImageOrientationPatient),
        "PixelMeasuresSequence": sequence(PixelSpacing=dataset.PixelSpacing, SliceThickness=dataset.SliceThickness),
    }
    groups = []
    for at in order:
        group = sequence(PlanePositionSequence=sequence(ImagePositionPatient=sources[at].ImagePositionPatient))[0]
        slope, intercept = (1, 0) if slopes is None else slopes[at]
        group.PixelValueTransformationSequence = sequence(RescaleSlope=str(slope), RescaleIntercept=str(intercept))
        for keyword, value in ({} if shared else common).items():
            setattr(group, keyword, value)
        groups.append(group)
    dataset.SharedFunctionalGroupsSequence = sequence(**(common if shared else {}))
    dataset.PerFrameFunctionalGroupsSequence = groups
    moved = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness")
    for keyword in (*moved, "RescaleSlope", "RescaleIntercept"):
        delattr(dataset, keyword)
    if frame:
        dataset.FrameOfReferenceUID = frame
    if change:
        change(dataset)
    path = folder / "enhanced"
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("turn", [(0, 0, 0), (0.3, -0.2, 0.5)])
def test_frames_in_any_order_become_the_volume(tmp_path, shared, turn):
    image = build_image(build_geometry(direction_lps=rotation(turn)))
    order = np.random.default_rng(1).permutation(14)
    read = read_series([write_enhanced(tmp_path, image, order=order, shared=shared)], LIMITS)
    assert np.array_equal(read.voxels, image.voxels)
    assert read.geometry.matches(image.geometry)
    assert read.frame_of_reference == pydicom.dcmread(tmp_path / "enhanced").FrameOfReferenceUID


@pytest.mark.parametrize(
    ("kind", "modality"),
    [(EnhancedCTImageStorage, "CT"), (EnhancedMRImageStorage, "MR"), (EnhancedPETImageStorage, "PT")],
)
def test_every_frame_is_rescaled_with_its_own_slope_and_intercept(tmp_path, kind, modality):
    image = build_image()
    slopes = [(0.5 + k / 4, -k) for k in range(14)]
    read = read_series([write_enhanced(tmp_path, image, kind=kind, slopes=slopes)], LIMITS)
    assert read.modality == modality
    assert np.array_equal(read.voxels, (image.voxels * (0.5 + np.arange(14) / 4) - np.arange(14)).astype(np.float32))
    assert "rescale slope and intercept differ" in read.notes[0]


def drop(keyword):
    def change(dataset):
        for group in (*dataset.PerFrameFunctionalGroupsSequence, dataset.SharedFunctionalGroupsSequence[0]):
            if keyword in group:
                delattr(group, keyword)

    return change


@pytest.mark.parametrize("keyword", ["PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"])
def test_missing_functional_group_is_named(tmp_path, keyword):
    path = write_enhanced(tmp_path, build_image(), change=drop(keyword))
    with pytest.raises(UnreadableImage, match=f"has no {keyword}"):
        read_series([path], LIMITS)


def test_frames_without_a_transformation_keep_their_stored_values(tmp_path):
    path = write_enhanced(tmp_path, build_image(), change=drop("PixelValueTransformationSequence"))
    assert np.array_equal(read_series([path], LIMITS).voxels, build_image().voxels)


def test_frames_at_one_place_are_refused(tmp_path):
    """Phases, echoes or b-values: four dimensions, not three."""
    path = write_enhanced(tmp_path, build_image(), order=[0, 1, 2, 3, 2, 1, 0])
    with pytest.raises(IrregularSeries, match="3 of 7 slices lie where another one lies"):
        read_series([path], LIMITS)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda d: d.PerFrameFunctionalGroupsSequence.pop(), UnreadableImage, "of 14 frames says of 13"),
        (lambda d: setattr(d, "NumberOfFrames", 10**6), TooLarge, "voxels"),
        (lambda d: setattr(d, "NumberOfFrames", -3), UnreadableImage, "image of -3 frames"),
        (lambda d: setattr(d, "PixelData", d.PixelData[:-100]), UnreadableImage, "cannot be decoded"),
        (lambda d: setattr(d, "PhotometricInterpretation", "RGB"), UnusableImage, "colour"),
    ],
)
def test_malformed_multi_frame_images_are_refused(tmp_path, change, error, words):
    path = write_enhanced(tmp_path, build_image(), change=change)
    with pytest.raises(error, match=words):
        read_series([path], LIMITS)


LARGE = build_geometry((66, 64, 4))  # OpenJPEG's encoder takes no smaller pictures
SYNTAXES = [RLELossless, JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1]


def compress(path, syntax):
    """Encode a file's pixel data; the JPEG processes by GDCM, the others by pydicom's encoders."""
    if syntax == JPEGLosslessSV1:
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(path))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(str(path))
        assert writer.Write()
    else:
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax)
        dataset.save_as(path)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax


@pytest.mark.parametrize("dtype", ["int16", "uint16"])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
def test_lossless_encodings_give_the_same_voxels(tmp_path, syntax, dtype, capfd):
    image = build_image(LARGE)
    image = Image((image.voxels - image.voxels.min()).astype(dtype), image.geometry)
    paths = write_dicom_series(tmp_path / "s", image)
    for path in paths:
        compress(path, syntax)
    read = read_series(paths, LIMITS)
    assert np.array_equal(read.voxels, image.voxels)
    assert read.geometry.matches(image.geometry)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("syntax", SYNTAXES[:3], ids=lambda syntax: syntax.keyword)
def test_encoded_frames_of_one_file_are_read(tmp_path, syntax):
    path = write_enhanced(tmp_path, build_image(LARGE), order=np.arange(4)[::-1])
    compress(path, syntax)
    assert np.array_equal(read_series([path], LIMITS).voxels, build_image(LARGE).voxels)


@pytest.mark.parametrize(
    "syntax", [JPEG2000Lossless, JPEGLSLossless, JPEGLosslessSV1], ids=lambda syntax: syntax.keyword
)
def test_picture_of_another_size_than_declared_is_refused_before_it_is_decoded(tmp_path, syntax):
    paths = write_dicom_series(tmp_path / "s", build_image(LARGE))
    compress(paths[0], syntax)
    dataset = pydicom.dcmread(paths[0])
    dataset.Rows = 17
    dataset.save_as(paths[0])
    with pytest.raises(UnreadableImage, match="encoded as 64 x 66 pixels, its data set declares 17 x 66"):
        read_series(paths[:1], LIMITS)


@pytest.mark.parametrize("syntax", [UID("1.2.840.10008.1.2.4.102"), UID("1.2.840.10008.1.2.4.93")])
def test_encodings_that_are_not_read_are_named(tmp_path, syntax):
    paths = write_dicom_series(tmp_path / "s", build_image())
    compress(paths[0], RLELossless)
    dataset = pydicom.dcmread(paths[0])
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(paths[0])
    with pytest.raises(UnreadableImage, match=rf"cannot be decoded \(transfer syntax {syntax.name[:20]}"):
        read_series(paths[:1], LIMITS)


REAL = Limits(decoded_bytes=2**30, voxels=2**28, files=2000)


@pytest.mark.real
@pytest.mark.parametrize("name", ["23x38x3", "24x38x3"])
def test_legacy_converted_images_equal_the_series_they_were_made_of(name):
    folder = real_data("dicom_odd", "dcmqi", name)
    one, many = (
        read_series([folder / "multiframe" / "mf.dcm"], REAL),
        read_series(sorted((folder / "image").iterdir()), REAL),
    )
    assert np.array_equal(one.voxels, many.voxels)
    assert one.geometry.matches(many.geometry)


@pytest.mark.real
@pytest.mark.parametrize("name", ["philips_enhanced", "siemens_multiframe"])
def test_enhanced_images_of_two_makers_are_read(name):
    folder = real_data("dicom_odd", "dicom2nifti", name, "anatomical", "001")
    image = read_series([next(folder.glob("*.dcm"))], REAL)
    assert image.modality == "MR"
    assert sorted(image.geometry.shape) == [8, 256, 256]
