import numpy as np
import pytest

from service.errors import EmptyRoi, GeometryMismatch, RoiTooSmall, UnfitCase, UnusableImage
from service.imaging.case import Case, Image, Mask
from service.imaging.geometry import Geometry
from tests.build import build_case, build_geometry, build_image, build_mask


def test_voxels_are_read_only_and_kept_in_file_order():
    image = build_image()
    assert image.voxels.flags.f_contiguous
    with pytest.raises(ValueError, match="read-only"):
        image.voxels[0, 0, 0] = 1


def test_nan_and_infinite_voxels_are_counted_and_refused():
    geometry = build_geometry()
    voxels = np.zeros(geometry.shape, np.float32)
    voxels[0, 0, :3] = np.nan
    voxels[1, 1, 1] = np.inf
    voxels[2, 1, 1] = -np.inf
    with pytest.raises(UnusableImage, match="3 voxels are NaN and 2 infinite") as refusal:
        Image(voxels, geometry)
    assert refusal.value.facts == {"nan": 3, "infinite": 2}


@pytest.mark.parametrize("dtype", ["int64", "uint64", "complex64", "float16", "bool", ">i2"])
def test_other_voxel_types_are_refused(dtype):
    with pytest.raises(UnusableImage, match="voxels of type"):
        Image(np.zeros((2, 2, 2), dtype), Geometry((2, 2, 2), np.eye(4)))


def test_array_and_grid_must_have_one_shape():
    with pytest.raises(UnusableImage, match=r"\[2, 2, 3\] on a grid of \[2, 2, 2\]"):
        Image(np.zeros((2, 2, 3), np.int16), Geometry((2, 2, 2), np.eye(4)))


def test_ball_has_its_closed_form_volume_and_centroid():
    geometry = build_geometry((64, 60, 50), (0.5, 0.6, 0.7))
    centre = geometry.to_world((30.3, 29.1, 25.2))
    mask = build_mask(geometry, 11.0, centre)
    assert mask.volume_mm3 == pytest.approx(4 / 3 * np.pi * 11**3, rel=2e-3)
    assert mask.centroid_mm == pytest.approx(tuple(centre), abs=0.02)
    edges = [(stop - first) * edge for (first, stop), edge in zip(mask.bounding_box, geometry.spacing_mm, strict=True)]
    assert all(abs(edge - 22) <= step for edge, step in zip(edges, geometry.spacing_mm, strict=True))


def test_bounding_box_and_centroid_of_two_voxels():
    voxels = np.zeros((5, 6, 7), bool)
    voxels[1, 2, 3] = voxels[3, 2, 6] = True
    mask = Mask(voxels, Geometry((5, 6, 7), np.diag([1.0, 2, 3, 1])))
    assert mask.bounding_box == ((1, 4), (2, 3), (3, 7))
    assert mask.centroid_mm == (2.0, 4.0, 13.5)
    assert mask.count == 2


def test_empty_and_one_voxel_masks_are_refused():
    voxels = np.zeros((3, 3, 3), bool)
    geometry = Geometry((3, 3, 3), np.eye(4))
    with pytest.raises(EmptyRoi):
        Mask(voxels, geometry)
    voxels[1, 1, 1] = True
    with pytest.raises(RoiTooSmall, match="1 voxel, at least 2"):
        Mask(voxels, geometry)


def test_mask_must_be_boolean():
    with pytest.raises(UnusableImage, match="expected bool"):
        Mask(np.ones((2, 2, 2), np.uint8), Geometry((2, 2, 2), np.eye(4)))


def test_case_refuses_parts_on_different_grids():
    case = build_case()
    elsewhere = build_geometry(origin_lps_mm=(0, 0, 0))
    with pytest.raises(GeometryMismatch, match="image pet") as refusal:
        Case(None, {**case.images, "pet": build_image(elsewhere)}, case.masks)
    assert refusal.value.facts["expected"]["origin_ras_mm"] == [70.5, 120.25, 33.0]
    with pytest.raises(GeometryMismatch, match="the mask has 22 x 18 x 14 voxels"):
        Case(None, case.images, (build_mask(elsewhere),))


def test_case_needs_an_image_and_a_mask_and_is_frozen():
    case = build_case()
    with pytest.raises(UnfitCase):
        Case(None, {}, case.masks)
    with pytest.raises(UnfitCase):
        Case(None, case.images, ())
    with pytest.raises(TypeError):
        case.images["other"] = case.images["ct"]
