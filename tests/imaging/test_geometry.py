import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import UnusableImage
from service.imaging.geometry import Geometry
from tests.build import build_geometry, rotation

angles = st.tuples(*[st.floats(-3.1, 3.1)] * 3)


@given(angles, st.tuples(*[st.floats(0.1, 9)] * 3), st.tuples(*[st.floats(-500, 500)] * 3))
def test_index_and_world_are_inverse_for_any_oblique_grid(turn, spacing, origin):
    geometry = build_geometry((7, 8, 9), spacing, origin, rotation(turn))
    index = np.array([[0, 0, 0], [6.5, 0.25, 3], [-2, 9, 11]])
    assert np.allclose(geometry.to_index(geometry.to_world(index)), index, atol=1e-6)
    assert np.allclose(geometry.spacing_mm, spacing)
    assert np.isclose(geometry.voxel_volume_mm3, np.prod(spacing))
    assert np.allclose(geometry.direction.T @ geometry.direction, np.eye(3))


def test_first_voxel_lies_at_the_origin():
    geometry = build_geometry()
    assert np.array_equal(geometry.to_world((0, 0, 0)), geometry.origin_mm)


def test_affine_cannot_be_changed_afterwards():
    affine = np.eye(4)
    geometry = Geometry((2, 2, 2), affine)
    affine[0, 3] = 5
    assert geometry.origin_mm == (0, 0, 0)
    with pytest.raises(ValueError, match="read-only"):
        geometry.affine[0, 0] = 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda affine: affine.__setitem__((0, 0), np.nan), "1 of the affine's 16 numbers are not finite"),
        (lambda affine: affine.__setitem__((slice(0, 3), 2), 0), "voxel edges of"),
        (lambda affine: affine.__setitem__((0, 1), 0.1), "not orthogonal: cosine"),
        (lambda affine: affine.__setitem__((3, 0), 1), "last row"),
        (lambda affine: affine.__setitem__((0, 0), 1e7), "voxel edges of"),
    ],
)
def test_impossible_affine_is_refused(change, words):
    affine = np.eye(4)
    change(affine)
    with pytest.raises(UnusableImage, match=words):
        Geometry((2, 3, 4), affine)


@pytest.mark.parametrize("shape", [(0, 2, 2), (2, 2), (2, -1, 2)])
def test_impossible_shape_is_refused(shape):
    with pytest.raises(UnusableImage, match="three positive"):
        Geometry(shape, np.eye(4))


def test_grids_match_up_to_a_hundredth_of_a_voxel_at_the_corners():
    geometry = build_geometry((100, 100, 50), (0.5, 0.5, 2))
    for shift, expected in ((0.004, True), (0.006, False)):
        moved = geometry.affine.copy()
        moved[0, 3] += shift
        assert geometry.matches(Geometry(geometry.shape, moved)) is expected
    stretched = geometry.affine.copy()
    stretched[:3, 0] *= 1.001
    assert not geometry.matches(Geometry(geometry.shape, stretched))
    assert geometry.matches(Geometry(geometry.shape, geometry.affine.astype(np.float32)))


def test_description_holds_plain_numbers():
    description = build_geometry().describe()
    assert description["shape"] == [22, 18, 14]
    assert description["spacing_mm"] == [0.75, 0.8, 2.5]
    assert description["origin_ras_mm"] == [70.5, 120.25, 33.0]
    assert all(type(x) is float for row in description["direction_ras"] for x in row)
