import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from service.imaging.case import VOXEL_TYPES
from service.imaging.itk_bridge import from_itk, mask_to_itk, to_itk
from tests.build import build_geometry, build_image, build_mask, reorder, rotation

angles = st.tuples(*[st.floats(-3.1, 3.1)] * 3)


@settings(max_examples=40)
@given(angles, st.permutations([0, 1, 2]), st.tuples(*[st.booleans()] * 3))
def test_round_trip_keeps_voxels_and_grid_of_any_oblique_image(turn, axes, flips):
    image = reorder(build_image(build_geometry((5, 6, 7), direction_lps=rotation(turn))), axes, flips)
    back = from_itk(to_itk(image), image.modality)
    assert np.array_equal(back.voxels, image.voxels)
    assert np.allclose(back.geometry.affine, image.geometry.affine, atol=1e-9)


@pytest.mark.parametrize("dtype", VOXEL_TYPES)
def test_voxel_type_is_kept(dtype):
    image = build_image(dtype=dtype)
    assert from_itk(to_itk(image)).voxels.dtype == np.dtype(dtype)


@settings(max_examples=40)
@given(angles, st.tuples(*[st.integers(0, 4)] * 3))
def test_itk_places_a_voxel_where_the_geometry_does(turn, index):
    image = build_image(build_geometry((5, 6, 7), direction_lps=rotation(turn)))
    picture = to_itk(image)
    lps = picture.TransformIndexToPhysicalPoint(index)
    assert np.allclose(np.array(lps) * (-1, -1, 1), image.geometry.to_world(index), atol=1e-9)
    assert picture[index] == image.voxels[index]


def test_mask_becomes_a_label_image_of_ones():
    mask = build_mask()
    picture = mask_to_itk(mask)
    assert picture.GetPixelID() == SimpleITK.sitkUInt8
    assert np.array_equal(SimpleITK.GetArrayFromImage(picture).T, mask.voxels.astype(np.uint8))
