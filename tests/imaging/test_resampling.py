"""Channels on other grids: what they become on the reference's, and when they are refused."""

import numpy as np
import pytest

from service.errors import GeometryMismatch, TooLarge, UnfitCase
from service.imaging.case import Image, Mask
from service.imaging.geometry import Geometry
from service.imaging.guard import Limits
from service.imaging.reader import CaseFiles, read_case
from tests.build import (
    build_geometry,
    build_image,
    build_mask,
    reorder,
    rotation,
    write_dicom_series,
    write_nifti,
    write_nrrd,
)
from tests.imaging.structures import FRAME

LIMITS = Limits(decoded_bytes=10**8, voxels=10**7, files=100)
GRID = build_geometry()
# Coarser, turned and shifted, yet around the whole of the grid above.
AROUND = build_geometry((24, 22, 20), (1.5, 1.5, 4.0), (-82, -130, 20), rotation((0.05, -0.08, 0.1)))


def read(images, mask, reference="ct", limits=LIMITS, roi=None):
    files = CaseFiles({name: paths if isinstance(paths, list) else [paths] for name, paths in images.items()}, [mask])
    return read_case(files, roi=roi, resample_mask=False, limits=limits, case_id=None, reference=reference)


def ramp(geometry: Geometry, dtype: str = "float32") -> Image:
    """A linear function of the place, mm."""
    world = geometry.to_world(np.moveaxis(np.indices(geometry.shape), 0, -1))
    return Image((100 + world @ [0.5, -1.25, 2.0]).astype(dtype), geometry)


@pytest.fixture
def image(tmp_path):
    return write_nifti(tmp_path / "ct", build_image())


@pytest.fixture
def mask(tmp_path):
    return write_nrrd(tmp_path / "mask", build_mask())


def test_linear_ramp_keeps_its_values_on_any_grid(tmp_path, image, mask):
    moved = read({"ct": image, "pet": write_nrrd(tmp_path / "pet", ramp(AROUND))}, mask).images["pet"]
    assert moved.geometry.shape == GRID.shape
    assert moved.voxels.dtype == np.float32
    assert np.allclose(moved.voxels, ramp(GRID).voxels, rtol=0, atol=1e-4)


def test_every_voxel_is_the_weighted_mean_of_its_eight_neighbours(tmp_path, image, mask):
    source = build_image(AROUND, "int16", seed=3)
    moved = read({"ct": image, "pet": write_nrrd(tmp_path / "pet", source)}, mask).images["pet"]
    index = AROUND.to_index(GRID.to_world(np.moveaxis(np.indices(GRID.shape), 0, -1)))
    low = np.floor(index).astype(int)
    expected = np.zeros(GRID.shape)
    for corner in np.indices((2, 2, 2)).reshape(3, 8).T:
        weight = np.prod(np.where(corner == 1, index - low, 1 - (index - low)), axis=-1)
        expected += weight * source.voxels[tuple(np.moveaxis(low + corner, -1, 0))]
    assert np.allclose(moved.voxels, expected, rtol=0, atol=0.01)


def test_the_notes_give_both_geometries(tmp_path, image, mask):
    case = read({"ct": image, "pet": write_nrrd(tmp_path / "pet", ramp(AROUND))}, mask)
    (note,) = [note for note in case.notes if "resampled" in note]
    assert note == (
        "image pet: resampled by linear interpolation from 24 x 22 x 20 voxels of 1.5 x 1.5 x 4 mm from RAS "
        "(82.0000, 130.0000, 20.0000) mm to 22 x 18 x 14 voxels of 0.75 x 0.8 x 2.5 mm from RAS (70.5000, 120.2500, "
        "33.0000) mm"
    )
    assert "image pet: without a named frame of reference it was taken to share the reference's" in case.notes


def test_the_reference_names_whose_grid_is_kept(tmp_path, image):
    pet = write_nrrd(tmp_path / "pet", ramp(build_geometry((20, 16, 10))))
    case = read({"ct": image, "pet": pet}, write_nrrd(tmp_path / "m", build_mask(build_geometry((20, 16, 10)))), "pet")
    assert case.geometry.shape == (20, 16, 10)
    assert list(case.images) == ["ct", "pet"]
    assert case.images["pet"].voxels.tobytes() == ramp(build_geometry((20, 16, 10))).voxels.tobytes()


def test_a_channel_on_the_same_grid_is_left_bit_for_bit(tmp_path, image, mask):
    other = write_nrrd(tmp_path / "pet", reorder(build_image(seed=4), (2, 0, 1)))
    case = read({"ct": image, "pet": other}, mask)
    assert np.array_equal(case.images["pet"].voxels, build_image(seed=4).voxels)
    assert not any("resampled" in note for note in case.notes)


def test_32_bit_voxels_become_double_precision(tmp_path, image, mask):
    pet = write_nrrd(tmp_path / "pet", build_image(AROUND, "int32"))
    assert read({"ct": image, "pet": pet}, mask).images["pet"].voxels.dtype == np.float64


def test_a_region_within_the_overlap_is_measured_and_one_beyond_it_refused(tmp_path, image):
    half = build_geometry((11, 18, 14))  # the first half of the columns
    pet = write_nrrd(tmp_path / "pet", ramp(half))
    shifted = write_nrrd(tmp_path / "shifted", ramp(build_geometry((12, 20, 16), origin_lps_mm=(-70.6, -121, 32))))
    labels = np.zeros(GRID.shape, bool)
    labels[2:6, 3:9, 4:8] = True
    inside = write_nrrd(tmp_path / "in", Mask(labels, GRID))
    case = read({"ct": image, "pet": shifted}, inside)
    note = next(note for note in case.notes if "lie beyond it" in note)
    assert note.startswith("image pet: ")
    assert note.endswith("of 5544 voxels of the grid lie beyond it")
    labels[10:14] = True
    with pytest.raises(GeometryMismatch, match="voxels of a region of interest lie beyond image pet") as refusal:
        read({"ct": image, "pet": pet}, write_nrrd(tmp_path / "out", Mask(labels, GRID)))
    assert refusal.value.facts["voxels_outside"] == 3 * 18 * 14


def test_beyond_a_channel_its_outermost_values_go_on(tmp_path, image):
    half = build_geometry((12, 18, 14))
    moved = read(
        {"ct": image, "pet": write_nrrd(tmp_path / "pet", build_image(half, "float32"))},
        write_nrrd(tmp_path / "m", build_mask(radius_mm=2, centre_mm=GRID.to_world((4, 9, 7)))),
    ).images["pet"]
    assert np.allclose(moved.voxels[12:], moved.voxels[11:12])


def test_channels_that_do_not_overlap_are_refused(tmp_path, image, mask):
    far = write_nrrd(tmp_path / "pet", ramp(build_geometry(origin_lps_mm=(500, 500, 500))))
    with pytest.raises(GeometryMismatch, match="do not overlap") as refusal:
        read({"ct": image, "pet": far}, mask)
    assert refusal.value.facts["got"]["origin_ras_mm"] == [-500.0, -500.0, 500.0]


@pytest.mark.parametrize("frame", [FRAME, FRAME + ".2"])
def test_series_in_different_frames_of_reference_are_refused(tmp_path, mask, frame):
    def name(uid):
        return lambda dataset, _index: setattr(dataset, "FrameOfReferenceUID", uid)

    ct = write_dicom_series(tmp_path / "ct", build_image(), change=name(FRAME))
    other = write_dicom_series(tmp_path / "pet", build_image(AROUND), change=name(frame))
    if frame == FRAME:
        assert "without a named frame" not in "".join(read({"ct": ct, "pet": other}, mask).notes)
    else:
        with pytest.raises(GeometryMismatch, match="different frames of reference") as refusal:
            read({"ct": ct, "pet": other}, mask)
        assert FRAME not in refusal.value.detail


def test_without_leave_other_grids_are_refused_with_a_hint(tmp_path, image, mask):
    with pytest.raises(GeometryMismatch, match=r"image pet has 24 x 22 x 20 .*; resample_images=true"):
        read({"ct": image, "pet": write_nrrd(tmp_path / "pet", ramp(AROUND))}, mask, reference=None)


def test_a_reference_that_is_no_channel_is_refused(image, mask):
    with pytest.raises(UnfitCase):
        read({"ct": image}, mask, reference="mr")


def test_the_limits_hold_for_what_resampling_makes(tmp_path):
    small = write_nrrd(tmp_path / "pet", ramp(build_geometry((4, 4, 4), (5, 5, 12), (-74, -122, 30))))
    limits = Limits(decoded_bytes=2 * 5544, voxels=10**7, files=100)
    with pytest.raises(TooLarge, match="22176 decoded bytes"):
        read(
            {"ct": write_nifti(tmp_path / "i", build_image()), "pet": small},
            write_nrrd(tmp_path / "m", build_mask()),
            limits=limits,
        )
