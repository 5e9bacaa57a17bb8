"""The engine gives PyRadiomics' names, order and values."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from service.errors import CaseError, EmptyRoi, RadiomicsRefused, RoiTooSmall
from service.features.engine.bank import describe
from service.features.engine.options import FULL, ORIGINAL, Bank, every_feature
from tests.engine.cases import FORMS, TEXTURES, TYPES, make_case
from tests.engine.fuzz import check, draw
from tests.engine.reference import Deviations, Volume, pyradiomics

DOCUMENTS: dict[str, dict[str, Any]] = {
    "original": {"imageType": {"Original": {}}},
    "full": {"imageType": {"Original": {}, "LoG": {"sigma": [1.0, 2.0, 3.0]}, "Wavelet": {"wavelet": "coif1"}}},
}
BANKS: dict[str, Bank] = {"original": ORIGINAL, "full": FULL}
SEEDS = st.integers(0, 2**32 - 1)


def search(examples: int) -> Any:
    """Bound a search; shrinking a case with PyRadiomics in the loop takes longer than reading its seed."""
    return settings(
        max_examples=examples,
        deadline=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )


def assert_same(data: st.DataObject, seed: int, **wanted: bool) -> None:
    """Draw a case and compare it."""
    deviations = Deviations()
    case = make_case(lambda options: data.draw(st.sampled_from(options)), seed, **wanted)
    check(case, deviations, Counter())
    assert deviations.wrong == []


def assert_preset_same(volume: Volume, preset: str) -> None:
    """Compare a preset on one case."""
    document = DOCUMENTS[preset] | {"featureClass": dict.fromkeys(every_feature()), "setting": {}}
    deviations = Deviations()
    got = describe(volume.image, volume.mask, volume.spacing, BANKS[preset])
    deviations.compare(pyradiomics(volume, document), got)
    assert deviations.wrong == []


def lesion(shape: tuple[int, int, int] = (14, 24, 22), kind: str = "int16") -> Volume:
    """Build a noisy ball with a dark core in a textured background."""
    rng = np.random.default_rng(7)
    k, j, i = (axis - (size - 1) / 2 for axis, size in zip(np.indices(shape), shape, strict=True))
    radius = np.sqrt((2 * k) ** 2 + j**2 + i**2)
    image = 60 * np.sin(i / 3) + 120 * (radius < 9) - 70 * (radius < 4) + rng.normal(0, 12, shape)
    return Volume(image.astype(kind), radius < 9, (2.0, 0.8, 0.8))


@pytest.mark.parametrize("preset", ["original", "full"])
@pytest.mark.parametrize("kind", ["int16", "float32", "float64"])
def test_a_lesion_is_described_as_by_pyradiomics(preset: str, kind: str) -> None:
    assert_preset_same(lesion(kind=kind), preset)


@given(data=st.data(), seed=SEEDS)
@search(70)
def test_any_region_of_any_image_is_described_as_by_pyradiomics(data: st.DataObject, seed: int) -> None:
    assert_same(data, seed, filters=False, settings=False)


@given(data=st.data(), seed=SEEDS)
@search(8)
def test_derived_images_are_described_as_by_pyradiomics(data: st.DataObject, seed: int) -> None:
    assert_same(data, seed, filters=True, settings=False)


@given(data=st.data(), seed=SEEDS)
@search(60)
def test_settings_mean_what_they_mean_to_pyradiomics(data: st.DataObject, seed: int) -> None:
    assert_same(data, seed, filters=False, settings=True)


@given(data=st.data(), seed=SEEDS)
@search(4)
def test_settings_of_derived_images_mean_what_they_mean_to_pyradiomics(data: st.DataObject, seed: int) -> None:
    assert_same(data, seed, filters=True, settings=True)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_region_is_described_as_by_pyradiomics(form: str) -> None:
    deviations = Deviations()
    for seed in range(3):
        choices = iter([5, 7, 9, TYPES[seed + 2], TEXTURES[seed], form, 2.5, 0.7, 0.9765625, True])
        case = make_case(lambda _, drawn=choices: next(drawn), seed, filters=False, settings=False)
        check(case, deviations, Counter())
    assert deviations.wrong == []


def test_a_region_at_the_edge_sees_the_same_filters() -> None:
    whole = lesion((9, 12, 15))
    mask = np.zeros(whole.image.shape, dtype=np.bool_)
    mask[-4:, :5, 6:] = True
    assert_preset_same(Volume(whole.image, mask, whole.spacing), "full")


def test_a_region_far_from_every_edge_is_filtered_in_its_crop_only() -> None:
    rng = np.random.default_rng(3)
    image = (500 * np.sin(rng.normal(0, 0.5, (50, 140, 130)).cumsum(axis=2))).astype(np.int16)
    mask = np.zeros(image.shape, dtype=np.bool_)
    mask[22:27, 60:75, 58:70] = rng.random((5, 15, 12)) < 0.8
    assert_preset_same(Volume(image, mask, (5.0, 1.0, 1.0)), "full")


def test_thousands_of_levels_are_described_as_by_pyradiomics() -> None:
    rng = np.random.default_rng(5)
    mask = rng.random((4, 6, 7)) < 0.7
    assert_preset_same(Volume(rng.integers(0, 70000, mask.shape), mask, (1.0, 2.0, 1.0)), "original")


def test_threads_change_no_digit() -> None:
    volume = lesion()
    for bank in (ORIGINAL, FULL):
        one = describe(volume.image, volume.mask, volume.spacing, bank, threads=1)
        three = describe(volume.image, volume.mask, volume.spacing, bank, threads=3)
        assert list(one.items()) == list(three.items())


def test_the_layout_in_memory_changes_no_digit() -> None:
    volume = lesion()
    one = describe(volume.image, volume.mask, volume.spacing, FULL)
    other = describe(np.asfortranarray(volume.image), np.asfortranarray(volume.mask), volume.spacing, FULL)
    assert one == other


def test_sigmas_too_wide_for_the_image_are_left_out() -> None:
    volume = lesion((4, 24, 22))
    names = describe(volume.image, volume.mask, (0.5, 0.8, 0.8), FULL)
    assert "log-sigma-1-0-mm-3D_firstorder_Mean" in names
    assert "log-sigma-2-0-mm-3D_firstorder_Mean" not in names


def refused(mask: np.ndarray[Any, Any], bank: Bank = ORIGINAL) -> type[CaseError]:
    """Return the type of the refusal."""
    image = np.zeros(mask.shape, dtype=np.int16)
    with pytest.raises(CaseError) as refusal:
        describe(image, mask, (1.0, 1.0, 1.0), bank)
    return refusal.type


def test_regions_that_pyradiomics_refuses_are_refused_by_type() -> None:
    mask = np.zeros((4, 5, 6), dtype=np.bool_)
    assert refused(mask) is EmptyRoi
    mask[1, 2, 3] = True
    assert refused(mask) is RoiTooSmall
    mask[1, 2, :] = True
    assert refused(mask) is RoiTooSmall
    assert refused(mask, Bank(minimum_dimensions=1, minimum_size=6)) is RoiTooSmall
    assert refused(~np.zeros_like(mask)) is RadiomicsRefused


def test_too_many_levels_are_refused() -> None:
    image = np.linspace(0, 1e9, 210).reshape(5, 6, 7)
    mask = np.ones(image.shape, dtype=np.bool_)
    mask[0, 0, 0] = False
    with pytest.raises(RadiomicsRefused, match="use wider bins"):
        describe(image, mask, (1.0, 1.0, 1.0), ORIGINAL)


@pytest.mark.parametrize("seed", [1000649])
def test_cases_that_a_search_once_found_wanting_are_the_same(seed: int) -> None:
    deviations = Deviations()
    check(draw(seed), deviations, Counter())
    assert deviations.values > 0
    assert deviations.wrong == []
