from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from training.layouts import LUNG, OFF_ORGAN, SMALL, UNDEREXPOSED
from training.phantoms import FREQUENCIES, KINDS, make_cohort, make_phantom

CLEAN = replace(SMALL, noise_hu=(0.0, 0.0), vessels=(0, 0), wall_probability=0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_mask_holds_the_volume_that_was_drawn(kind):
    for seed in range(5):
        phantom = make_phantom(seed, kind)
        assert phantom.mask.volume_mm3 == pytest.approx(phantom.truth.volume_mm3, rel=0.06)
        assert np.linalg.norm(phantom.mask.centroid_mm) < phantom.truth.radius_mm  # the world's origin is its centre


def test_the_seed_determines_everything():
    first, again, other = make_phantom(3), make_phantom(3), make_phantom(4)
    assert np.array_equal(first.image.voxels, again.image.voxels)
    assert np.array_equal(first.mask.voxels, again.mask.voxels)
    assert first.truth == again.truth
    assert not np.array_equal(first.image.voxels, other.image.voxels)


def test_kinds_come_as_often_as_stated():
    seen = Counter(phantom.kind for phantom in make_cohort(0, 600, SMALL))
    for kind, share in FREQUENCIES.items():
        assert seen[kind] / 600 == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 600))
    assert sum(FREQUENCIES.values()) == pytest.approx(1.0)


def test_volume_alone_does_not_tell_the_kind():
    radii = {kind: [make_phantom(seed, kind, SMALL).truth.radius_mm for seed in range(60)] for kind in KINDS}
    low, high = SMALL.radius_mm
    for drawn in radii.values():
        assert low <= min(drawn) < low + 0.3 * (high - low)
        assert high - 0.3 * (high - low) < max(drawn) <= high


@pytest.mark.parametrize("kind", KINDS)
def test_densities_are_those_of_lung_and_lesion(kind):
    phantom = make_phantom(11, kind, CLEAN)
    inside, outside = (phantom.image.voxels[where] for where in (phantom.mask.voxels, ~phantom.mask.voxels))
    assert phantom.image.voxels.dtype == np.int16
    assert np.median(outside) == pytest.approx(-850, abs=65)
    if kind == "part-solid":
        assert -700 < np.percentile(inside, 20) < np.percentile(inside, 80) < 70
    else:
        assert np.percentile(inside, 80) == pytest.approx(phantom.truth.body_hu, abs=40)  # the edge is partial volume


def test_noise_has_the_drawn_strength_and_grains_of_two_voxels():
    quiet = replace(CLEAN, noise_hu=(40.0, 40.0))
    noise = make_phantom(5, "smooth", quiet).image.voxels - make_phantom(5, "smooth", CLEAN).image.voxels.astype(float)
    assert noise.std() == pytest.approx(40.0, rel=0.02)
    neighbours = np.corrcoef(noise[:-1].ravel(), noise[1:].ravel())[0, 1]
    assert 0.4 < neighbours < 0.8


def test_spicules_lie_outside_the_mask():
    spiculated, bare = (make_phantom(8, kind, CLEAN) for kind in ("spiculated", "smooth"))
    dense = [np.count_nonzero((each.image.voxels > -500) & ~each.mask.voxels) for each in (spiculated, bare)]
    assert spiculated.truth.spicules >= 5
    assert dense[0] > dense[1] + 20


@pytest.mark.parametrize("layout", [LUNG, SMALL, UNDEREXPOSED, OFF_ORGAN])
def test_every_layout_draws_a_lesion_that_lies_inside_the_volume(layout):
    phantom = make_phantom(2, layout=layout)
    assert phantom.image.geometry.matches(phantom.mask.geometry)
    assert phantom.image.geometry.shape == layout.shape
    for (first, stop), size in zip(phantom.mask.bounding_box, layout.shape, strict=True):
        assert 0 < first < stop < size
