"""Segments that highdicom wrote come back voxel by voxel; real ones equal the label images made of them by others."""

import numpy as np
import pytest
from pydicom.uid import ExplicitVRBigEndian, RLELossless

from service.errors import EmptyRoi, GeometryMismatch, RoiTooSmall, TooLarge, UnknownRoi, UnreadableImage, UnusableImage
from service.imaging.guard import Limits
from service.imaging.reader import CaseFiles, read_case
from service.imaging.volumes import read_volume
from tests.build import build_geometry, build_image, build_mask, reorder, rotation, write_dicom_series, write_nifti
from tests.imaging.segments import shuffle_frames, write_seg
from tests.real_data import real_data

LIMITS = Limits(decoded_bytes=10**8, voxels=10**7, files=100)
SHAPE = build_geometry().shape


def read(image, mask, roi=None, resample_mask=False, limits=LIMITS):
    files = CaseFiles({"ct": image if isinstance(image, list) else [image]}, [mask])
    return read_case(files, roi=roi, resample_mask=resample_mask, limits=limits, case_id=None)


@pytest.fixture
def series(tmp_path):
    return write_dicom_series(tmp_path / "s", build_image())


def two_overlapping():
    """A ball of the middle slices, and a block that overlaps it and leaves slices between without a voxel."""
    segments = np.zeros((*SHAPE, 2), np.uint8)
    segments[..., 0] = build_mask().voxels
    segments[4:12, 5:12, [2, 3, 6, 9], 1] = 1
    return segments


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("direction", [np.eye(3), rotation((0.3, -0.2, 0.5))])
def test_segments_come_back_as_they_were_drawn(tmp_path, direction, sparse):
    series = write_dicom_series(tmp_path / "s", build_image(build_geometry(direction_lps=direction)))
    path = write_seg(tmp_path / "seg", series, two_overlapping(), ("ball", "block"), omit_empty_frames=sparse)
    case = read(series[::-1], path, "all")
    assert [mask.name for mask in case.masks] == ["ball", "block"]
    for number, mask in enumerate(case.masks):
        assert np.array_equal(mask.voxels, two_overlapping()[..., number] == 1)
        assert mask.geometry is case.geometry
    assert case.notes == ()


@pytest.mark.parametrize("axes", [(1, 2, 0), (2, 0, 1)])
def test_sagittal_and_coronal_segments_are_turned_with_their_image(tmp_path, axes):
    stored, ball = reorder(build_image(), axes, (False, True, False)), reorder(build_mask(), axes, (False, True, False))
    series = write_dicom_series(tmp_path / "s", stored)
    path = write_seg(tmp_path / "seg", series, ball.voxels[..., np.newaxis])
    assert np.array_equal(read(series, path).masks[0].voxels, build_mask().voxels)


@pytest.mark.parametrize("kind", ["FRACTIONAL", "LABELMAP"])
def test_frames_may_come_in_any_order(tmp_path, series, kind):
    ball = build_mask().voxels[..., np.newaxis]
    drawn = ball.astype(np.float32) if kind == "FRACTIONAL" else ball[..., 0].astype(np.uint8)
    path = write_seg(tmp_path / "seg", series, drawn, kind=kind, change=shuffle_frames)
    assert np.array_equal(read(series, path).masks[0].voxels, ball[..., 0])


def test_fractions_from_one_half_on_belong(tmp_path, series):
    fractions = np.zeros((*SHAPE, 1), np.float32)
    fractions[3, 3, 3:9, 0] = [0.2, 0.49, 0.502, 0.51, 0.9, 1]
    path = write_seg(tmp_path / "seg", series, fractions, kind="FRACTIONAL", max_fractional_value=250)
    case = read(series, path)
    assert np.argwhere(case.masks[0].voxels).tolist() == [[3, 3, k] for k in (5, 6, 7, 8)]
    assert "its fraction is at least 0.5" in case.notes[0]


def test_label_map_leaves_the_background_out(tmp_path, series):
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:5, 2:5, 2:5], labels[8:12, 8:12, 4:8] = 1, 2
    path = write_seg(tmp_path / "seg", series, labels, ("left", "right"), kind="LABELMAP")
    assert [(mask.name, mask.count) for mask in read(series, path, "all").masks] == [("left", 27), ("right", 64)]


@pytest.mark.parametrize(("roi", "number"), [("ball", 0), ("block", 1), ("1", 0), ("2", 1)])
def test_segment_is_chosen_by_label_or_number(tmp_path, series, roi, number):
    path = write_seg(tmp_path / "seg", series, two_overlapping(), ("ball", "block"))
    assert read(series, path, roi).masks[0].count == np.count_nonzero(two_overlapping()[..., number])


@pytest.mark.parametrize("roi", [None, "absent", "0", "3"])
def test_unknown_segment_is_refused_with_what_the_mask_holds(tmp_path, series, roi):
    path = write_seg(tmp_path / "seg", series, two_overlapping(), ("ball", "block"))
    with pytest.raises(UnknownRoi, match=r"1 \(ball\), 2 \(block\)"):
        read(series, path, roi)


def test_empty_and_tiny_segments_are_refused(tmp_path, series):
    segments = np.zeros((*SHAPE, 3), np.uint8)
    segments[3, 3, 3, 1], segments[4:6, 4, 4, 2] = 1, 1
    path = write_seg(tmp_path / "seg", series, segments, ("none", "one", "two"))
    with pytest.raises(EmptyRoi, match="segment 1 holds no voxel"):
        read(series, path, "none")
    with pytest.raises(RoiTooSmall, match="segment 2 holds 1 voxel"):
        read(series, path, "one")
    assert read(series, path, "two").masks[0].count == 2


def test_segmentation_of_some_slices_of_the_image_is_laid_where_they_are(tmp_path, series):
    ball = build_mask().voxels
    path = write_seg(tmp_path / "seg", series[5:9], ball[:, :, 5:9, np.newaxis])
    expected = np.zeros_like(ball)
    expected[:, :, 5:9] = ball[:, :, 5:9]
    assert np.array_equal(read(series, path).masks[0].voxels, expected)
    path = write_seg(tmp_path / "one", series[6:7], ball[:, :, 6:7, np.newaxis])
    assert np.any(read(series, path).masks[0].voxels, axis=(0, 1)).nonzero()[0].tolist() == [6]


@pytest.mark.parametrize(
    "geometry",
    [
        build_geometry(spacing_mm=(0.75, 0.8, 5.0)),
        build_geometry(origin_lps_mm=(-70.2, -120.25, 33.0)),
        build_geometry(direction_lps=rotation((0.02, 0, 0))),
    ],
)
def test_segmentation_on_another_grid_is_refused_or_resampled_on_demand(tmp_path, geometry):
    frame = "1.2.3.4"

    def change(dataset, _index):
        dataset.FrameOfReferenceUID = frame

    series = write_dicom_series(tmp_path / "a", build_image(), change=change)
    other = write_dicom_series(tmp_path / "b", build_image(geometry), change=change)
    ball = build_mask(geometry, centre_mm=build_mask().centroid_mm)
    path = write_seg(tmp_path / "seg", other, ball.voxels[..., np.newaxis])
    with pytest.raises(GeometryMismatch, match="resample_mask=true"):
        read(series, path)
    case = read(series, path, resample_mask=True)
    assert case.masks[0].volume_mm3 == pytest.approx(ball.volume_mm3, rel=0.05)
    assert np.allclose(case.masks[0].centroid_mm, ball.centroid_mm, atol=1.3)  # half a slice: ties
    assert "resampled to the image's by nearest neighbour" in case.notes[0]


def test_segment_that_reaches_beyond_the_image_is_refused(tmp_path, series):
    path = write_seg(tmp_path / "seg", series, np.ones((*SHAPE, 1), np.uint8))
    with pytest.raises(GeometryMismatch, match="the segmentation has 22 x 18 x 14"):
        read(series[3:], path)


def test_other_frame_of_reference_is_refused(tmp_path, series):
    other = write_dicom_series(tmp_path / "b", build_image())
    path = write_seg(tmp_path / "seg", other, two_overlapping()[..., :1])
    with pytest.raises(GeometryMismatch, match="segmentation is given in another frame of reference"):
        read(series, path)
    image = write_nifti(tmp_path / "n", build_image())
    assert "the image names no frame of reference" in read(image, path).notes[0]


def test_segments_compressed_losslessly_are_read(tmp_path, series):
    fractions = build_mask().voxels[..., np.newaxis].astype(np.float32)
    path = write_seg(tmp_path / "seg", series, fractions, kind="FRACTIONAL", transfer_syntax_uid=RLELossless)
    assert np.array_equal(read(series, path).masks[0].voxels, build_mask().voxels)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda seg: setattr(seg, "SegmentationType", "OTHER"), UnreadableImage, "SEG of an unknown type"),
        (lambda seg: setattr(seg, "TotalPixelMatrixRows", 100), UnusableImage, "tiled segmentation"),
        (lambda seg: setattr(seg, "NumberOfFrames", 10**6), TooLarge, "1000000 frames"),
        (lambda seg: (setattr(seg, "Rows", 60000), setattr(seg, "Columns", 60000)), TooLarge, "14400000000 voxels"),
        (lambda seg: delattr(seg, "Rows"), UnreadableImage, "image pixel module"),
        (lambda seg: delattr(seg, "SegmentSequence"), UnreadableImage, "cannot be told"),
        (lambda seg: delattr(seg, "PerFrameFunctionalGroupsSequence"), UnusableImage, "do not form one volume"),
        (lambda seg: setattr(seg, "PixelData", seg.PixelData[:-50]), UnreadableImage, "cannot be decoded"),
    ],
)
def test_malformed_segmentations_are_refused(tmp_path, series, change, error, words):
    path = write_seg(tmp_path / "seg", series, two_overlapping()[..., :1], change=change)
    with pytest.raises(error, match=words):
        read(series, path)


def test_uneven_frames_are_refused(tmp_path, series):
    def change(segmentation):
        plane = segmentation.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0]
        plane.ImagePositionPatient = [*plane.ImagePositionPatient[:2], plane.ImagePositionPatient[2] + 0.7]

    path = write_seg(tmp_path / "seg", series, two_overlapping()[..., :1], change=change)
    with pytest.raises(UnusableImage, match="do not form one volume"):
        read(series, path)


def test_limit_on_decoded_bytes_holds_for_all_segments_together(tmp_path, series):
    segments = np.concatenate([two_overlapping(), two_overlapping()[..., :1]], axis=3)
    path = write_seg(tmp_path / "seg", series, segments, ("ball", "block", "again"))
    limits = Limits(decoded_bytes=2 * 5544 + 4000, voxels=10**7, files=100)
    assert read(series, path, "block", limits=limits)
    with pytest.raises(TooLarge, match="3 regions of 5544 voxels"):
        read(series, path, "all", limits=limits)


REAL = Limits(decoded_bytes=2**30, voxels=2**28, files=2000)


@pytest.mark.real
@pytest.mark.parametrize(
    ("folder", "seg", "truth"),
    [
        ("ct-3slice", "liver.dcm", {"1": ("liver_seg.nrrd", 1)}),
        (
            "ct-3slice",
            "partial_overlaps.dcm",
            {
                "1": ("partial_overlaps-1.nrrd", 1),
                "4": ("partial_overlaps-1.nrrd", 4),
                "5": ("partial_overlaps-1.nrrd", 5),
            },
        ),
        ("24x38x3/image", "sparse-labelmap-noppv.dcm", {"1": ("sparse_labelmap_noppv_seg.nrrd", 1)}),
        ("24x38x3/image", "sparse-labelmap-ppv5.dcm", {"1": ("sparse_labelmap_ppv5_seg.nrrd", 1)}),
    ],
)
def test_real_segments_equal_the_label_images_that_dcmqi_made_of_them(folder, seg, truth):
    root = real_data("dicom_odd", "dcmqi")
    for number, (name, value) in truth.items():
        labels = read_volume(root / name, REAL)
        mask = read(sorted((root / folder).iterdir()), root / seg, number, limits=REAL).masks[0]
        assert mask.geometry.matches(labels.geometry)
        assert np.array_equal(mask.voxels, labels.voxels == value)


@pytest.mark.real
def test_one_liver_in_several_encodings_is_one_mask():
    series = sorted(real_data("dicom_odd", "dcmqi", "ct-3slice").iterdir())
    root = real_data("dicom_odd", "pydicom-data")
    plain = read(series, root / "liver.dcm", limits=REAL).masks[0]
    assert plain.count == 107098
    assert np.array_equal(read(series, root / "liver_j2k.dcm", limits=REAL).masks[0].voxels, plain.voxels)
    for name, words in (("liver_rle", "RLE Lossless"), ("liver_expb", ExplicitVRBigEndian.name)):
        with pytest.raises(UnreadableImage, match=words):
            read(series, root / f"{name}.dcm", limits=REAL)
