import numpy as np
import pytest

from service.errors import (
    EmptyRoi,
    GeometryMismatch,
    RoiTooSmall,
    TooLarge,
    UnknownRoi,
    UnreadableImage,
)
from service.imaging.geometry import Geometry
from service.imaging.guard import Limits
from service.imaging.labels import LabelMap
from service.imaging.reader import CaseFiles, read_case
from tests.build import (
    build_geometry,
    build_image,
    build_mask,
    rotation,
    write_dicom_series,
    write_mha,
    write_nifti,
    write_nifti_array,
    write_nrrd,
    zip_files,
)

LIMITS = Limits(decoded_bytes=10**8, voxels=10**7, files=100)


def read(images, mask, *, roi=None, resample_mask=False, limits=LIMITS, case_id="case-7"):
    mask = mask if isinstance(mask, list) else [mask]
    return read_case(
        CaseFiles({name: paths if isinstance(paths, list) else [paths] for name, paths in images.items()}, mask),
        roi=roi,
        resample_mask=resample_mask,
        limits=limits,
        case_id=case_id,
    )


def write_labels(path, labels):
    return write_nifti_array(path, labels, build_geometry().affine)


@pytest.fixture
def image(tmp_path):
    return write_nifti(tmp_path / "image-ct-0000", build_image(), compressed=True)


@pytest.fixture
def three_labels():
    labels = np.zeros(build_geometry().shape, np.uint8)
    labels[2:5, 2:5, 2:5], labels[8:12, 8:12, 4:8], labels[15:17, 3:5, 9] = 1, 2, 40
    return labels


def test_image_and_mask_become_a_case_on_one_grid(tmp_path, image):
    case = read({"ct": image}, write_mha(tmp_path / "mask-0000", build_mask()))
    assert case.case_id == "case-7"
    assert list(case.images) == ["ct"]
    assert [mask.name for mask in case.masks] == ["1"]
    assert np.array_equal(case.masks[0].voxels, build_mask().voxels)
    assert case.masks[0].geometry is case.images["ct"].geometry


@pytest.mark.parametrize("zipped", [False, True])
def test_dicom_image_with_a_nifti_mask(tmp_path, zipped):
    paths = write_dicom_series(tmp_path / "series", build_image())
    upload = [zip_files(tmp_path / "zip", paths)] if zipped else paths
    case = read({"ct": upload}, write_nifti(tmp_path / "mask", build_mask()))
    assert case.images["ct"].modality == "CT"
    assert case.masks[0].count == build_mask().count


def test_channels_share_the_first_ones_grid_exactly(tmp_path, image):
    nudged = build_geometry(origin_lps_mm=(-70.5005, -120.25, 33.0))
    other = write_nrrd(tmp_path / "pet", build_image(nudged, "float32"))
    case = read({"ct": image, "pet": other}, write_nrrd(tmp_path / "mask", build_mask()))
    assert case.images["pet"].geometry is case.images["ct"].geometry
    assert case.images["pet"].voxels.dtype == np.float32


def test_channel_on_another_grid_is_refused(tmp_path, image):
    other = write_nrrd(tmp_path / "pet", build_image(build_geometry(spacing_mm=(1, 1, 3))))
    with pytest.raises(GeometryMismatch, match=r"image pet has 22 x 18 x 14 voxels of 1 x 1 x 3 mm"):
        read({"ct": image, "pet": other}, write_nrrd(tmp_path / "mask", build_mask()))


def test_mask_on_another_grid_is_refused_with_both_grids(tmp_path, image):
    elsewhere = build_geometry((30, 30, 20), (0.6, 0.7, 2.0))
    with pytest.raises(GeometryMismatch, match="resample_mask=true") as refusal:
        read({"ct": image}, write_nrrd(tmp_path / "mask", build_mask(elsewhere)))
    assert refusal.value.facts["got"]["shape"] == [30, 30, 20]
    assert refusal.value.facts["expected"]["shape"] == [22, 18, 14]


def test_mask_is_resampled_by_nearest_neighbour_when_asked(tmp_path, image):
    grid = build_geometry()
    centre = grid.to_world((10, 9, 7))
    fine = build_geometry(
        (70, 64, 80), (0.3, 0.3, 0.6), np.array(grid.origin_mm) * (-1, -1, 1) - 2, rotation((0.1, 0.2, 0.1))
    )
    mask = build_mask(fine, 5.0, centre)
    case = read({"ct": image}, write_nrrd(tmp_path / "mask", mask), resample_mask=True)
    assert case.masks[0].volume_mm3 == pytest.approx(mask.volume_mm3, rel=0.05)
    assert np.allclose(case.masks[0].centroid_mm, centre, atol=0.2)
    assert "resampled to the image's by nearest neighbour" in case.notes[-1]
    index = fine.to_index(grid.to_world(np.moveaxis(np.indices(grid.shape), 0, -1)))
    nearest = np.floor(index + 0.5).astype(int)
    inside = np.all((nearest >= 0) & (nearest < fine.shape), axis=-1)
    expected = np.zeros(grid.shape, bool)
    expected[inside] = mask.voxels[tuple(nearest[inside].T)]
    assert np.array_equal(case.masks[0].voxels, expected)


def test_mask_that_misses_the_image_is_empty_after_resampling(tmp_path, image):
    far = build_mask(build_geometry(origin_lps_mm=(500, 500, 500)))
    with pytest.raises(EmptyRoi):
        read({"ct": image}, write_nrrd(tmp_path / "mask", far), resample_mask=True)


def test_matching_mask_is_not_resampled(tmp_path, image):
    case = read({"ct": image}, write_nrrd(tmp_path / "mask", build_mask()), resample_mask=True)
    assert not any("resampled" in note for note in case.notes)


def test_notes_name_what_they_are_about(tmp_path):
    image = write_nifti(tmp_path / "i", build_image(), change=lambda header: header.__setitem__("xyzt_units", 0))
    flipped = write_nifti(tmp_path / "m", type(build_mask())(*_flipped(build_mask())))
    case = read({"ct": image}, flipped)
    assert case.notes == (
        "image ct: the NIfTI header gives no unit of length; millimetres were assumed",
        "mask: array axes stored as LPI were put into the order LPS",
    )


def _flipped(mask):
    affine = mask.geometry.affine.copy()
    affine[:3, 3] += (mask.voxels.shape[2] - 1) * affine[:3, 2]
    affine[:3, 2] *= -1
    return np.flip(mask.voxels, 2), Geometry(mask.geometry.shape, affine)


def test_regions_are_chosen_by_label(tmp_path, image, three_labels):
    mask = write_labels(tmp_path / "m", three_labels)
    assert read({"ct": image}, mask, roi="2").masks[0].count == 64
    everything = read({"ct": image}, mask, roi="all")
    assert [(roi.name, roi.count) for roi in everything.masks] == [("1", 27), ("2", 64), ("40", 4)]


def test_several_labels_without_a_choice_are_listed(tmp_path, image, three_labels):
    with pytest.raises(UnknownRoi, match="3 labels and `roi` names none; it holds 1, 2, 40") as refusal:
        read({"ct": image}, write_labels(tmp_path / "m", three_labels))
    assert refusal.value.facts == {"labels": [1, 2, 40], "label_count": 3}


@pytest.mark.parametrize("roi", ["3", "0", "two", "02", ""])
def test_absent_label_is_refused_with_those_held(tmp_path, image, three_labels, roi):
    with pytest.raises(UnknownRoi, match="does not hold this label; it holds 1, 2, 40"):
        read({"ct": image}, write_labels(tmp_path / "m", three_labels), roi=roi)


def test_at_most_fifty_labels_are_listed(tmp_path, image):
    labels = np.zeros(build_geometry().shape, np.int16)
    labels.flat[:600] = np.repeat(np.arange(1, 301), 2)
    mask = write_labels(tmp_path / "m", labels)
    with pytest.raises(UnknownRoi) as refusal:
        read({"ct": image}, mask)
    assert len(refusal.value.facts["labels"]) == 50
    assert refusal.value.facts["label_count"] == 300
    with pytest.raises(TooLarge, match="300 labels were asked for, at most 256"):
        read({"ct": image}, mask, roi="all")


@pytest.mark.parametrize("roi", [None, "all", "1"])
def test_empty_mask_is_refused(tmp_path, image, roi):
    with pytest.raises(EmptyRoi, match="no voxel other than 0"):
        read({"ct": image}, write_labels(tmp_path / "m", np.zeros(build_geometry().shape, np.uint8)), roi=roi)


def test_region_of_one_voxel_is_refused(tmp_path, image, three_labels):
    three_labels[0, 0, 0] = 7
    for roi in ("7", "all"):
        with pytest.raises(RoiTooSmall, match="label 7 holds 1 voxel, at least 2"):
            read({"ct": image}, write_labels(tmp_path / "m", three_labels), roi=roi)


def test_all_regions_together_stay_within_the_limit(tmp_path, image, three_labels):
    limits = Limits(decoded_bytes=2 * 22 * 18 * 14 + 1, voxels=10**7, files=100)
    with pytest.raises(TooLarge, match="3 regions of 5544 voxels"):
        read({"ct": image}, write_labels(tmp_path / "m", three_labels), roi="all", limits=limits)


def test_masks_of_several_files_or_other_dicom_objects_are_refused(tmp_path, image):
    paths = write_dicom_series(tmp_path / "series", build_image())
    for mask in (paths, [zip_files(tmp_path / "zip", paths)]):
        with pytest.raises(UnreadableImage, match="one file is accepted: a label image"):
            read({"ct": image}, mask)
    with pytest.raises(UnreadableImage, match=r"class CT Image Storage .* as mask"):
        read({"ct": image}, paths[:1])


def test_several_volume_files_for_one_channel_are_refused(tmp_path, image):
    with pytest.raises(UnreadableImage, match="several files must all be DICOM"):
        read({"ct": [image, image]}, write_nifti(tmp_path / "m", build_mask()))


def test_negative_labels_can_be_asked_for():
    labels = LabelMap(np.full((2, 2, 2), -1, np.int16), Geometry((2, 2, 2), np.eye(4)))
    assert labels.mask("-1")[0].count == 8
