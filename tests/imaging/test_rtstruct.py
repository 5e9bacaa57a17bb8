"""Contours against closed forms, and against label images of the same real regions."""

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian

from service.errors import (
    EmptyRoi,
    GeometryMismatch,
    RoiTooSmall,
    TooLarge,
    UnknownRoi,
    UnreadableImage,
    UnusableImage,
)
from service.features.radiomics import compute_radiomics
from service.imaging import contours
from service.imaging.guard import Limits
from service.imaging.reader import CaseFiles, read_case
from service.radiomics_settings import EVERY_PRESET
from tests.build import build_geometry, build_image, reorder, rotation, write_dicom_series, write_nifti
from tests.imaging.structures import FRAME, box, circle, on_slice, write_rtstruct
from tests.real_data import real_data

LIMITS = Limits(decoded_bytes=10**8, voxels=10**7, files=100)
WIDE = build_geometry((64, 60, 9))
TILTED = build_geometry((64, 60, 9), direction_lps=rotation((0.3, -0.2, 0.5)))


def read(image, mask, roi=None, limits=LIMITS):
    files = CaseFiles({"ct": image if isinstance(image, list) else [image]}, [mask])
    return read_case(files, roi=roi, resample_mask=False, limits=limits, case_id=None)


def write_series(folder, geometry=WIDE, frame=FRAME):
    def change(dataset, _index):
        dataset.FrameOfReferenceUID = frame

    return write_dicom_series(folder, build_image(geometry), change=change)


@pytest.fixture
def series(tmp_path):
    return write_series(tmp_path / "s")


def draw(tmp_path, series, polygons, geometry=WIDE, slice_index=4):
    """The slice that polygons of (i, j) points give."""
    path = write_rtstruct(tmp_path / "rs", {"GTV": [on_slice(geometry, slice_index, one) for one in polygons]})
    mask = read(series, path).masks[0]
    assert np.any(mask.voxels, axis=(0, 1)).nonzero()[0].tolist() == [slice_index]
    return mask.voxels[:, :, slice_index]


ROW, COLUMN = np.indices((64, 60))


@pytest.mark.parametrize("geometry", [WIDE, TILTED])
def test_circle_takes_the_voxels_whose_centres_lie_within(tmp_path, geometry):
    series = write_series(tmp_path / "s", geometry)
    drawn = draw(tmp_path, series, [circle((30.3, 28.6), 20)], geometry)
    distance = np.hypot(ROW - 30.3, COLUMN - 28.6)
    sagitta = 20 * (1 - np.cos(np.pi / 720))
    assert drawn[distance < 20 - sagitta].all()
    assert not drawn[distance > 20].any()
    assert np.count_nonzero(drawn) == pytest.approx(np.pi * 400, rel=0.01)


def test_ring_of_two_contours_has_a_hole(tmp_path, series):
    drawn = draw(tmp_path, series, [circle((30.3, 28.6), 20), circle((30.3, 28.6), 10)])
    distance = np.hypot(ROW - 30.3, COLUMN - 28.6)
    assert np.array_equal(drawn, (distance < 20) & (distance > 10))


def test_keyhole_equals_the_ring_of_two_contours(tmp_path, series):
    outer, inner = circle((30.3, 28.6), 20), circle((30.3, 28.6), 10)
    keyhole = np.concatenate([outer, outer[:1], inner[::-1], inner[-1:]])
    assert np.array_equal(draw(tmp_path, series, [keyhole]), draw(tmp_path, series, [outer, inner]))


def test_island_in_a_hole_and_several_contours_on_one_slice(tmp_path, series):
    drawn = draw(
        tmp_path,
        series,
        [box((5.5, 30.5), (5.5, 30.5)), box((10.5, 25.5), (10.5, 25.5)), box((15.5, 20.5), (15.5, 20.5)),
         box((40.5, 50.5), (40.5, 45.5))],
    )  # fmt: skip
    expected = np.zeros((64, 60), bool)
    expected[6:31, 6:31], expected[11:26, 11:26], expected[16:21, 16:21], expected[41:51, 41:46] = (
        True,
        False,
        True,
        True,
    )
    assert np.array_equal(drawn, expected)


def test_centre_on_an_edge_belongs_to_the_side_of_greater_indices(tmp_path, series):
    drawn = draw(tmp_path, series, [box((10, 20), (30, 40))])
    expected = np.zeros((64, 60), bool)
    expected[10:20, 30:40] = True
    assert np.array_equal(drawn, expected)
    below = draw(tmp_path, series, [np.array([(10, 10), (20, 10), (20, 20)])])
    above = draw(tmp_path, series, [np.array([(10, 10), (20, 20), (10, 20)])])
    square = draw(tmp_path, series, [box((10, 20), (10, 20))])
    assert not np.any(below & above)
    assert np.array_equal(below | above, square)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(-12, 60), st.integers(-12, 60)), min_size=3, max_size=9), min_size=1, max_size=3
    )
)
def test_filling_agrees_with_a_count_of_crossings_per_voxel(polygons):
    """Points on a quarter-voxel raster, so that edges pass through centres often."""
    shape = (11, 12)
    drawn = contours.fill([np.array(one, float) / 4 for one in polygons], shape)
    for p, q in np.ndindex(shape):
        crossed = 0
        for polygon in polygons:
            for (p0, q0), (p1, q1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
                if min(p0, p1) <= 4 * p < max(p0, p1):
                    # q of the edge at this row, times p1 - p0, against the voxel's
                    side = (4 * q - q0) * (p1 - p0) - (4 * p - p0) * (q1 - q0)
                    crossed += side * (1 if p1 > p0 else -1) >= 0
        assert drawn[p, q] == bool(crossed % 2), (p, q)


def test_many_crossings_are_drawn_in_portions(monkeypatch):
    rng = np.random.default_rng(3)
    polygons = [rng.uniform(-5, 45, (40, 2)) for _ in range(3)]
    whole = contours.fill(polygons, (40, 40))
    monkeypatch.setattr(contours, "CROSSINGS", 7)
    assert np.array_equal(contours.fill(polygons, (40, 40)), whole)


def test_contours_beyond_the_image_are_cut_off(tmp_path, series):
    drawn = draw(tmp_path, series, [box((-20.5, 10.5), (50.5, 99.5))])
    assert np.array_equal(drawn, (ROW <= 10) & (COLUMN >= 51))
    path = write_rtstruct(
        tmp_path / "rs", {"GTV": [on_slice(WIDE, k, box((5.5, 9.5), (5.5, 9.5))) for k in (-2, -1, 0)]}
    )
    case = read(series, path)
    assert case.masks[0].count == 16
    assert "2 of 3 planes of contours lie off the image" in case.notes[-1]


@pytest.mark.parametrize(
    ("planes", "slices", "words"),
    [
        ((2, 3, 4), [2, 3, 4], None),
        ((2.02, 3.01, 3.99), [2, 3, 4], None),
        ((2, 3, 6, 7), [2, 3, 6, 7], None),
        ((1.5, 2.5, 3.5), [1, 2, 3], "3 of 3 planes of contours lie between slices"),
        ((1.4, 2.4, 3.4), [1, 2, 3], "3 of 3 planes of contours lie between slices"),
        ((1, 1.25, 1.5, 1.75, 2, 2.25), [1, 2], "4 of 6 planes of contours lie between slices"),
        ((1, 3, 5), [0, 1, 2, 3, 4, 5], "3 slices between planes of contours took the nearest plane"),
        ((1, 3), [1, 3], None),
        ((0, 4, 8), [0, 1, 2, 3, 4, 5, 6, 7, 8], "6 slices between planes of contours took the nearest plane"),
    ],
)
def test_each_slice_takes_the_nearest_plane_of_contours_within_its_slab(tmp_path, series, planes, slices, words):
    at = build_geometry((64, 60, 9))
    square = box((5.5, 9.5), (5.5, 9.5))
    path = write_rtstruct(tmp_path / "rs", {"GTV": [on_slice(at, plane, square) for plane in planes]})
    case = read(series, path)
    mask = case.masks[0]
    assert np.any(mask.voxels, axis=(0, 1)).nonzero()[0].tolist() == slices
    assert mask.count == 16 * len(slices)
    assert any(words in note for note in case.notes) if words else len(case.notes) == 1


def test_planes_far_apart_do_not_fill_the_slices_between(tmp_path, series):
    """Six slices of 2.5 mm are 15 mm: three lesions rather than one."""
    tall = build_geometry((64, 60, 20))
    series = write_series(tmp_path / "tall", tall)
    path = write_rtstruct(
        tmp_path / "rs", {"GTV": [on_slice(tall, k, box((5.5, 9.5), (5.5, 9.5))) for k in (1, 7, 13)]}
    )
    assert np.any(read(series, path).masks[0].voxels, axis=(0, 1)).nonzero()[0].tolist() == [1, 7, 13]


def test_nearest_plane_gives_its_own_shape(tmp_path, series):
    polygons = {1: box((5.5, 9.5), (5.5, 9.5)), 3: box((5.5, 11.5), (5.5, 9.5)), 5: box((5.5, 15.5), (5.5, 9.5))}
    path = write_rtstruct(tmp_path / "rs", {"GTV": [on_slice(WIDE, k, one) for k, one in polygons.items()]})
    per_slice = np.count_nonzero(read(series, path).masks[0].voxels, axis=(0, 1)).tolist()
    assert per_slice == [16, 16, 24, 24, 40, 40, 0, 0, 0]  # a slice midway takes the upper plane


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2, 0), (2, 0, 1)])
def test_sagittal_and_coronal_series_take_the_same_voxels(tmp_path, axes):
    """Contours lie in the planes of the series, whichever axis of the canonical order these are normal to."""
    image = build_image(WIDE)
    stored = reorder(image, axes)

    def change(dataset, _index):
        dataset.FrameOfReferenceUID = FRAME

    series = write_dicom_series(tmp_path / "s", stored, change=change)
    middle = np.array(stored.geometry.shape) / 2
    polygon = circle((middle[0], middle[1]), 3.3)
    path = write_rtstruct(tmp_path / "rs", {"GTV": [on_slice(stored.geometry, k, polygon) for k in (2, 3, 4)]})
    mask = read(series, path).masks[0]
    i, j, k = np.indices(stored.geometry.shape)
    inside = (np.hypot(i - middle[0], j - middle[1]) < 3.3) & (k >= 2) & (k <= 4)
    expected = np.sort(stored.geometry.to_world(np.argwhere(inside)).round(3), axis=0)
    assert np.allclose(np.sort(mask.geometry.to_world(np.argwhere(mask.voxels)).round(3), axis=0), expected, atol=2e-3)


def test_contours_across_the_slices_are_refused(tmp_path, series):
    path = write_rtstruct(tmp_path / "rs", {"GTV": [on_slice(TILTED, 4, box((5.5, 9.5), (5.5, 9.5)))]})
    with pytest.raises(GeometryMismatch, match="do not lie in planes of the image: points of one lie 0"):
        read(series, path)


def test_contours_absurdly_far_away_are_refused(tmp_path, series):
    path = write_rtstruct(tmp_path / "rs", {"GTV": [on_slice(WIDE, 4, box((5.5, 1e7), (5.5, 9.5)))]})
    with pytest.raises(GeometryMismatch, match="up to 1e"):
        read(series, path)


def test_other_frame_of_reference_is_refused_and_its_uid_not_repeated(tmp_path, series):
    path = write_rtstruct(tmp_path / "rs", {"GTV": [on_slice(WIDE, 4, box((5, 9), (5, 9)))]}, frame=FRAME + ".7")
    with pytest.raises(GeometryMismatch, match="another frame of reference") as refusal:
        read(series, path)
    assert FRAME not in f"{refusal.value.detail} {refusal.value.facts}"


def test_unnamed_frame_of_reference_is_noted(tmp_path, series):
    drawn = {"GTV": [on_slice(WIDE, 4, box((5, 9), (5, 9)))]}
    image = write_nifti(tmp_path / "n", build_image(WIDE))
    assert "the image names no frame of reference" in read(image, write_rtstruct(tmp_path / "a", drawn)).notes[-1]
    assert "the mask names no frame" in read(series, write_rtstruct(tmp_path / "b", drawn, frame=None)).notes[-1]


@pytest.fixture
def several(tmp_path):
    rois = {
        "GTV-1": [on_slice(WIDE, 4, box((5, 9), (5, 9)))],
        " 3 ": [on_slice(WIDE, 4, box((15, 20), (5, 9)))],
        "lung": [on_slice(WIDE, 4, box((25, 31), (5, 9)))],
        "nothing": [],
    }
    return write_rtstruct(tmp_path / "several", rois)


@pytest.mark.parametrize(("roi", "voxels"), [("GTV-1", 16), ("1", 16), ("2", 20), ("3", 20), ("lung", 24)])
def test_roi_is_chosen_by_name_first_then_by_number(series, several, roi, voxels):
    assert read(series, several, roi).masks[0].count == voxels


def test_all_rois_are_named_and_those_without_contours_left_out(series, several):
    case = read(series, several, "all")
    assert [(mask.name, mask.count) for mask in case.masks] == [("GTV-1", 16), ("3", 20), ("lung", 24)]
    assert "ROIs without closed planar contours were left out: 4" in case.notes[-1]


@pytest.mark.parametrize("roi", [None, "absent", "7"])
def test_unknown_roi_is_refused_with_what_the_mask_holds(series, several, roi):
    with pytest.raises(UnknownRoi, match=r"1 \(GTV-1\), 2 \(3\), 3 \(lung\)") as refusal:
        read(series, several, roi)
    assert {"number": 1, "name": "GTV-1"} in refusal.value.facts["regions"]


def test_name_of_two_rois_must_be_asked_for_by_number(tmp_path, series):
    def change(dataset):
        dataset.StructureSetROISequence[1].ROIName = "GTV"

    square = [on_slice(WIDE, 4, box((5, 9), (5, 9)))]
    path = write_rtstruct(tmp_path / "rs", {"GTV": square, "other": square}, change=change)
    with pytest.raises(UnknownRoi, match="2 ROIs of the mask have this name"):
        read(series, path, "GTV")
    assert read(series, path, "2").masks[0].count == 16
    assert [mask.name for mask in read(series, path, "all").masks] == ["GTV #1", "GTV #2"]


def test_empty_and_tiny_rois_are_refused(tmp_path, series, several):
    with pytest.raises(EmptyRoi, match="ROI 4 has no contours"):
        read(series, several, "nothing")
    rois = {
        "none": [on_slice(WIDE, 4, box((5.1, 5.9), (5.1, 5.9)))],
        "one": [on_slice(WIDE, 4, box((5.5, 6.5), (5.5, 6.5)))],
        "off": [on_slice(WIDE, 99, box((5.5, 8.5), (5.5, 6.5)))],
    }
    path = write_rtstruct(tmp_path / "rs", rois)
    with pytest.raises(EmptyRoi, match="ROI 1 holds no voxel of the image"):
        read(series, path, "none")
    with pytest.raises(RoiTooSmall, match="ROI 2 holds 1 voxel"):
        read(series, path, "one")
    with pytest.raises(EmptyRoi, match="ROI 3 holds no voxel"):
        read(series, path, "off")
    with pytest.raises(EmptyRoi, match="holds no ROI that could be used"):
        read(series, write_rtstruct(tmp_path / "empty", {}))


@pytest.mark.parametrize("kind", ["POINT", "OPEN_PLANAR", "OPEN_NONPLANAR"])
def test_other_kinds_of_contours_are_refused_by_name(tmp_path, series, kind):
    square = {"GTV": [on_slice(WIDE, 4, box((5, 9), (5, 9)))]}
    path = write_rtstruct(tmp_path / "rs", square, kind=kind)
    for roi in (None, "GTV", "all"):
        with pytest.raises(UnusableImage, match=f"contours of the type {kind}; accepted are CLOSED_PLANAR"):
            read(series, path, roi)
    with pytest.raises(UnusableImage, match="type unknown"):
        read(series, write_rtstruct(tmp_path / "rs", square, kind="PLANTED"))


def test_contours_named_xor_are_accepted(tmp_path, series):
    polygons = [on_slice(WIDE, 4, box((5, 15), (5, 15))), on_slice(WIDE, 4, box((7, 10), (7, 10)))]
    path = write_rtstruct(tmp_path / "rs", {"GTV": polygons}, kind="CLOSEDPLANAR_XOR")
    assert read(series, path).masks[0].count == 100 - 9


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda contour: setattr(contour, "NumberOfContourPoints", 5), "ROI 1 are damaged"),
        (lambda contour: setattr(contour, "ContourData", contour.ContourData[:-1]), "ROI 1 are damaged"),
        (lambda contour: delattr(contour, "ContourData"), "ROI 1 are damaged"),
    ],
)
def test_damaged_contours_are_refused(tmp_path, series, change, words):
    path = write_rtstruct(
        tmp_path / "rs",
        {"GTV": [on_slice(WIDE, 4, box((5, 9), (5, 9)))]},
        change=lambda dataset: change(dataset.ROIContourSequence[0].ContourSequence[0]),
    )
    with pytest.raises(UnreadableImage, match=words):
        read(series, path)


def test_contour_of_more_than_64_kibibytes_is_read_though_its_type_is_then_unknown(tmp_path, series):
    drawn = {"GTV": [on_slice(WIDE, 4, circle((30, 30), 9, 6000))]}
    with pytest.warns(UserWarning, match="VR is changed from 'DS' to 'UN'"):
        path = write_rtstruct(tmp_path / "explicit", drawn, syntax=ExplicitVRLittleEndian)
    implicit = read(series, write_rtstruct(tmp_path / "implicit", drawn))
    assert np.array_equal(read(series, path).masks[0].voxels, implicit.masks[0].voxels)


@pytest.mark.parametrize("number", [b"nan", b"inf", b"1e12", b"x"])
def test_points_that_are_no_numbers_are_refused(tmp_path, series, number):
    path = write_rtstruct(tmp_path / "rs", {"GTV": [on_slice(WIDE, 4, [(5, 5), (9, 5), (9, 9)])]})
    first = pydicom.dcmread(path).ROIContourSequence[0].ContourSequence[0].ContourData[0].original_string.encode()
    path.write_bytes(path.read_bytes().replace(first, number.ljust(len(first))))
    with pytest.raises(UnreadableImage, match="ROI 1 are damaged"):
        read(series, path)


def test_two_rois_of_one_number_are_refused(tmp_path, series):
    def change(dataset):
        dataset.StructureSetROISequence[1].ROINumber = 1

    with pytest.raises(UnreadableImage, match="two of its regions have one number"):
        read(series, write_rtstruct(tmp_path / "rs", {"a": [], "b": []}, change=change))


def test_limits_hold_for_all_masks_together_and_for_the_file(series, several, tmp_path):
    voxels = 64 * 60 * 9
    assert read(series, several, "GTV-1", Limits(2 * voxels, 10**6, 100))
    with pytest.raises(TooLarge, match="3 regions"):
        read(series, several, "all", Limits(2 * voxels, 10**6, 100))
    large = write_rtstruct(tmp_path / "rs", {"GTV": [on_slice(WIDE, 4, circle((30, 30), 9, 6000))]})
    with pytest.raises(TooLarge, match="the DICOM mask has"):
        read(series, large, None, Limits(2 * voxels, 10**6, 100))


REAL = Limits(decoded_bytes=2**30, voxels=2**28, files=2000)


def real_pair(name):
    """The same region as contours on a DICOM series and as a NIfTI mask on a NIfTI image."""
    if name == "ibsi":
        folder = real_data("ibsi", "ibsi_1_ct_radiomics_phantom")
        dicom = read(
            sorted((folder / "dicom" / "image").iterdir()), next((folder / "dicom" / "mask").iterdir()), None, REAL
        )
        return dicom, read(
            folder / "nifti" / "image" / "phantom.nii.gz", folder / "nifti" / "mask" / "mask.nii.gz", None, REAL
        )
    folder = real_data("sts_sarcoma")
    series = folder / "dicom" / "STS_002" / name
    volumes = folder / "STS_002"
    return read(sorted((series / "image").iterdir()), series / "mask" / "RS.dcm", None, REAL), read(
        volumes / f"{name}_image.nii.gz", volumes / f"{name}_mask.nii.gz", None, REAL
    )


@pytest.mark.real
@pytest.mark.parametrize(("name", "differing"), [("ibsi", 1), ("CT", 0), ("PET", 0), ("MR_T1", 0)])
def test_contours_of_real_tumours_give_their_label_images(name, differing):
    contoured, labelled = real_pair(name)
    ours, theirs = contoured.masks[0], labelled.masks[0]
    assert np.count_nonzero(ours.voxels != theirs.voxels) == differing
    both = np.count_nonzero(ours.voxels & theirs.voxels)
    assert 2 * both / (ours.count + theirs.count) >= 0.9999
    assert ours.volume_mm3 == pytest.approx(theirs.volume_mm3, rel=1e-4)


@pytest.mark.real
def test_features_from_contours_are_those_from_the_label_image():
    """One voxel of 125,256 differs on the IBSI phantom: its centre lies on an edge."""
    contoured, labelled = (
        dict(compute_radiomics(case.images["ct"], case.masks[0], EVERY_PRESET["original"], "CT").items())
        for case in real_pair("ibsi")
    )
    apart = {name: abs(value - labelled[name]) / max(abs(labelled[name]), 1e-12) for name, value in contoured.items()}
    assert len(apart) == 107
    assert max(apart.values()) < 1e-3, sorted(apart.items(), key=lambda pair: -pair[1])[:5]
