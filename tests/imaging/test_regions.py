"""Which regions a request gets, in which order, from label images, SEGs and RTSTRUCTs."""

import numpy as np
import pytest

from service.errors import EmptyRoi, RoiTooSmall, TooLarge, UnknownRoi, UnusableImage
from service.imaging.guard import Limits
from service.imaging.reader import CaseFiles, read_case
from tests.build import build_geometry, build_image, write_dicom_series, write_nifti, write_nifti_array
from tests.imaging.segments import write_seg
from tests.imaging.structures import FRAME, box, on_slice, write_rtstruct

LIMITS = Limits(decoded_bytes=10**8, voxels=10**7, files=100)
SHAPE = build_geometry().shape
NAMES = ("GTV", "GTV, left", "2", "node")  # the third is named as the second is numbered


def read(image, mask, roi, limits=LIMITS):
    files = CaseFiles({"ct": image if isinstance(image, list) else [image]}, [mask])
    return read_case(files, roi=roi, resample_mask=False, limits=limits, case_id=None)


def block(first, voxels):
    """A row of voxels along I, from (first, 3, 5) on."""
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[first : first + voxels, 3, 5] = 1
    return drawn


@pytest.fixture
def image(tmp_path):
    return write_nifti(tmp_path / "image", build_image())


@pytest.fixture
def brain_labels(tmp_path):
    """Labels 1, 2 and 4 of 2, 3 and 5 voxels, as BraTS has them."""
    labels = block(0, 2) + 2 * block(4, 3) + 4 * block(10, 5)
    return write_nifti_array(tmp_path / "labels", labels, build_geometry().affine)


@pytest.fixture
def series(tmp_path):
    def change(dataset, _index):
        dataset.FrameOfReferenceUID = FRAME

    return write_dicom_series(tmp_path / "s", build_image(), change=change)


@pytest.fixture
def segments(tmp_path, series):
    """Segments of 2, 3, 4 and 5 voxels; the last overlaps the first by one."""
    drawn = np.stack([block(0, 2), block(4, 3), block(10, 4), block(1, 5)], axis=-1)
    return write_seg(tmp_path / "seg", series, drawn, NAMES)


@pytest.fixture
def structures(tmp_path, series):
    """ROIs of 4, 6, 8 and 10 voxels, and one of points."""

    def add_points(dataset):
        dataset.ROIContourSequence[-1].ContourSequence[0].ContourGeometricType = "POINT"

    def contour(first, width):
        return [on_slice(build_geometry(), 5, box((first - 0.5, first + width - 0.5), (2.5, 4.5)))]

    contours = [contour(0, 2), contour(4, 3), contour(10, 4), contour(1, 5), contour(0, 9)]
    rois = dict(zip((*NAMES, "points"), contours, strict=True))
    return write_rtstruct(tmp_path / "rs", rois, change=add_points)


def described(case):
    return [(mask.name, mask.count) for mask in case.masks]


@pytest.mark.parametrize(
    ("roi", "expected"),
    [
        ("4,1", [("4", 5), ("1", 2)]),
        ([" 4 ", "1"], [("4", 5), ("1", 2)]),
        (["2, 4", "1"], [("2", 3), ("4", 5), ("1", 2)]),
        ("1,4,1", [("1", 2), ("4", 5)]),
        ("whole", [("whole", 10)]),
        ("whole,2", [("whole", 10), ("2", 3)]),
        ("all,whole", [("1", 2), ("2", 3), ("4", 5), ("whole", 10)]),
        ("4,all", [("4", 5), ("1", 2), ("2", 3)]),
    ],
)
def test_labels_come_in_the_order_asked_for_and_each_once(image, brain_labels, roi, expected):
    assert described(read(image, brain_labels, roi)) == expected


def test_the_union_is_every_voxel_that_any_region_has_and_the_notes_say_of_which(image, brain_labels):
    case = read(image, brain_labels, ["all", "whole"])
    *parts, whole = (mask.voxels for mask in case.masks)
    assert np.array_equal(whole, np.any(parts, axis=0))
    assert case.notes == ("mask: ROI whole is the union of the labels 1, 2, 4",)


def test_a_union_may_hold_regions_too_small_to_be_described_by_themselves(tmp_path, image):
    labels = write_nifti_array(tmp_path / "m", block(0, 1) + 2 * block(5, 1), build_geometry().affine)
    assert described(read(image, labels, "whole")) == [("whole", 2)]
    with pytest.raises(RoiTooSmall, match="label 1 holds 1 voxel"):
        read(image, labels, "1,2")


@pytest.mark.parametrize(
    ("roi", "expected"),
    [
        ("node,GTV", [("node", 5), ("GTV", 2)]),
        ("GTV, left", [("GTV, left", 3)]),
        (["GTV, left", "GTV,1"], [("GTV, left", 3), ("GTV", 2)]),
        ("2", [("2", 4)]),
        ("4,3", [("node", 5), ("2", 4)]),
        ("whole", [("whole", 11)]),
        ("whole,1", [("whole", 11), ("GTV", 2)]),
    ],
)
def test_segments_come_by_name_number_or_list(series, segments, roi, expected):
    assert described(read(series, segments, roi)) == expected


@pytest.mark.parametrize(
    ("roi", "expected"),
    [
        ("node,GTV", [("node", 10), ("GTV", 4)]),
        ("GTV, left", [("GTV, left", 6)]),
        ("all", [("GTV", 4), ("GTV, left", 6), ("2", 8), ("node", 10)]),
        ("whole,3", [("whole", 22), ("2", 8)]),
    ],
)
def test_rois_come_by_name_number_or_list(series, structures, roi, expected):
    case = read(series, structures, roi)
    assert described(case) == expected
    left_out = "mask: ROIs without closed planar contours were left out: 5" in case.notes
    assert left_out == (roi.startswith(("all", "whole")))
    assert ("mask: ROI whole is the union of the ROIs 1, 2, 3, 4" in case.notes) == roi.startswith("whole")


def test_one_roi_of_a_list_that_cannot_be_drawn_refuses_the_whole(series, structures):
    with pytest.raises(UnusableImage, match="ROI 5 holds contours of the type POINT"):
        read(series, structures, "GTV,points")


@pytest.mark.parametrize("roi", ["1,3,4", ["1", "x", "4"], "1,,4"])
def test_the_refusal_of_a_list_says_which_of_it_is_unknown_and_what_there_is(image, brain_labels, roi):
    with pytest.raises(UnknownRoi, match="label asked for at place 2 of 3; it holds 1, 2, 4") as refusal:
        read(image, brain_labels, roi)
    assert refusal.value.facts == {"labels": [1, 2, 4], "label_count": 3}
    assert "x" not in refusal.value.detail.replace("expected", "")


def test_a_segment_named_as_the_union_must_be_asked_for_by_number(tmp_path, series):
    drawn = np.stack([block(0, 2), block(4, 3)], axis=-1)
    mask = write_seg(tmp_path / "seg", series, drawn, ("whole", "node"))
    with pytest.raises(UnknownRoi, match="a segment is itself named whole; ask for it, or for the others, by number"):
        read(series, mask, "whole")
    assert described(read(series, mask, "1,2")) == [("whole", 2), ("node", 3)]


def test_the_union_of_an_empty_mask_is_refused(tmp_path, image):
    with pytest.raises(EmptyRoi):
        read(image, write_nifti_array(tmp_path / "m", block(0, 0), build_geometry().affine), "whole")


def test_every_region_of_a_list_counts_against_the_limit(image, brain_labels):
    limits = Limits(decoded_bytes=2 * int(np.prod(SHAPE)), voxels=10**7, files=100)
    assert len(read(image, brain_labels, "1,2", limits).masks) == 2
    assert len(read(image, brain_labels, "whole", limits).masks) == 1
    with pytest.raises(TooLarge, match="3 regions of 5544 voxels"):
        read(image, brain_labels, "1,2,whole", limits)
