"""Several regions at once: every value has the bits of the region computed alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import RadiomicsRefused, RoiTooSmall
from service.features.engine import laplacian
from service.features.engine.grouping import group
from service.features.engine.outline import find_outline
from service.features.engine.region import Box
from service.features.engine.run import compute, compute_many
from service.features.engine.visits import laplacian_visits, wavelet_visits
from service.features.radiomics import compute_radiomics, compute_radiomics_many
from service.imaging.case import Image, Mask
from service.imaging.geometry import Geometry
from service.radiomics_settings import IBSI_PRESETS, PRESETS, RadiomicsSettings

SHAPE = (61, 58, 40)  # an odd number of planes: the wavelet repeats one
SPACING = (3.0, 3.0, 5.0)  # mm: the filters end within the image
GEOMETRY = Geometry(SHAPE, np.diag([*SPACING, 1.0]))
FULL = PRESETS["full"]


def image(seed: int = 4, kind: str = "int16") -> Image:
    """Build a noisy texture without symmetry."""
    i, j, k = np.indices(SHAPE)
    noise = np.random.default_rng(seed).normal(0, 60, SHAPE)
    return Image((150 * np.sin(i / 3) * np.cos(j / 5) + 4 * k + noise).astype(kind), GEOMETRY)


def ball(centre: Sequence[int], radius: float) -> Mask:
    """Build a ball; indices and voxels."""
    i, j, k = np.ogrid[tuple(slice(0, size) for size in SHAPE)]
    inside = (i - centre[0]) ** 2 + (j - centre[1]) ** 2 + (k - centre[2]) ** 2 <= radius**2
    return Mask(np.asarray(inside), GEOMETRY)


SCENES: dict[str, list[tuple[tuple[int, int, int], float]]] = {
    "overlapping": [((20, 20, 20), 6), ((24, 21, 18), 5), ((17, 25, 22), 4)],
    "distant": [((5, 5, 4), 2.5), ((56, 52, 36), 2.5)],
    "nested": [((30, 30, 20), 8), ((30, 30, 20), 5), ((31, 30, 20), 2)],
    "at the border": [((0, 0, 0), 5), ((60, 57, 39), 5), ((0, 30, 39), 4), ((60, 28, 20), 3)],
    "near and far": [((10, 10, 10), 4), ((13, 12, 11), 4), ((50, 48, 30), 5)],
    "the same twice": [((30, 30, 20), 4), ((30, 30, 20), 4)],
    "one": [((30, 30, 20), 4)],
}


def masks_of(name: str) -> list[Mask]:
    return [ball(*found) for found in SCENES[name]]


def bits(features: dict[str, float]) -> tuple[tuple[str, ...], bytes]:
    """Return names, and values so that NaN equals NaN and 0 differs from -0."""
    return tuple(features), np.array(list(features.values())).tobytes()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["int16", "float32"])
@pytest.mark.parametrize("name", SCENES)
def test_regions_together_have_the_bits_of_each_alone(name: str, kind: str, threads: int) -> None:
    picture = image(kind=kind)
    alone = [compute(picture, mask, FULL) for mask in masks_of(name)]
    together = compute_many(picture, masks_of(name), FULL, threads)
    assert list(map(bits, together)) == list(map(bits, alone))


@pytest.mark.parametrize("threads", [1, 2])
def test_channels_that_share_masks_have_the_bits_of_each_alone(threads: int) -> None:
    shared = masks_of("overlapping")
    for channel in (image(4), image(5, "float64")):
        alone = [compute(channel, mask, FULL) for mask in masks_of("overlapping")]
        assert list(map(bits, compute_many(channel, shared, FULL, threads))) == list(map(bits, alone))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=6, deadline=None)
def test_any_regions_together_have_the_bits_of_each_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = [(rng.integers(0, SHAPE).tolist(), float(rng.uniform(1.5, 7))) for _ in range(4)]
    picture = image(seed)
    alone = [compute(picture, ball(*found), FULL) for found in scene]
    assert list(map(bits, compute_many(picture, [ball(*found) for found in scene], FULL))) == list(map(bits, alone))


@pytest.mark.parametrize(
    "document",
    [
        {"imageType": {"Square": {}, "Logarithm": {}, "Gradient": {}, "LoG": {"sigma": [4.0], "binWidth": 5}}},
        {"imageType": {"Original": {}, "Wavelet": {"start_level": 1}}},
        {"setting": {"resampledPixelSpacing": [4, 4, 4]}},
        {"setting": {"distances": [1, 1]}},
        {"featureClass": {"shape": ["MeshVolume"]}},
    ],
)
def test_every_way_gives_the_bits_of_each_alone(document: dict[str, Any]) -> None:
    wanted, picture = RadiomicsSettings.model_validate(document), image()
    alone = [compute_radiomics(picture, mask, wanted) for mask in masks_of("overlapping")]
    assert compute_radiomics_many(picture, masks_of("overlapping"), wanted) == alone


def test_ibsi_s_definitions_are_computed_for_every_region() -> None:
    picture, wanted = image(), IBSI_PRESETS["ibsi"]
    alone = [compute_radiomics(picture, mask, wanted, "MR") for mask in masks_of("distant")]
    assert compute_radiomics_many(picture, masks_of("distant"), wanted, "MR") == alone


def test_one_refused_region_refuses_all() -> None:
    voxels = np.zeros(SHAPE, dtype=np.bool_)
    voxels[3:9, 4, 5] = True
    with pytest.raises(RoiTooSmall):
        compute_radiomics_many(image(), [*masks_of("distant"), Mask(voxels, GEOMETRY)], FULL)
    with pytest.raises(RadiomicsRefused):
        compute_radiomics_many(image(), [*masks_of("distant"), Mask(np.ones(SHAPE, np.bool_), GEOMETRY)], FULL)


def test_no_region_gives_nothing() -> None:
    assert compute_radiomics_many(image(), [], FULL) == []


def test_a_mask_is_measured_once_for_one_spacing() -> None:
    (mask,) = masks_of("one")
    first = find_outline(mask, (1.0, 1.0, 1.0))
    assert find_outline(mask, (1.0, 1.0, 1.0)) is first
    assert first.describe() is first.describe()
    assert find_outline(mask, (2.0, 1.0, 1.0)).region.spacing == (2.0, 1.0, 1.0)


def test_boxes_are_filtered_together_where_that_visits_fewer_voxels() -> None:
    def cost(box: Box) -> float:
        return wavelet_visits(box, "coif1")

    boxes = [
        Box((0, 0, 0), (9, 9, 9)),
        Box((80, 0, 0), (9, 9, 9)),
        Box((1, 2, 1), (9, 9, 9)),
        Box((81, 1, 0), (8, 8, 8)),
    ]
    found = group(boxes, cost)
    assert sorted(one.members for one in found) == [(0, 2), (1, 3)]
    assert sum(cost(one.box) for one in found) < sum(map(cost, boxes))


def test_all_boxes_are_filtered_together_where_no_two_are_worth_it() -> None:
    boxes = [Box((k, 0, 0), (1, 1, 1)) for k in (0, 40, 80)]

    def cost(box: Box) -> float:
        return 10.0 if box.shape[0] == 1 else 25.0

    assert [one.members for one in group(boxes, cost)] == [(0, 1, 2)]


def test_boxes_too_large_to_share_stay_apart() -> None:
    boxes = [Box((0, 0, 0), (400, 400, 400))] * 2
    assert len(group(boxes, lambda box: wavelet_visits(box, "coif1"))) == 2
    spacing = (1.0, 1.0, 1.0)
    shape = (400, 400, 400)
    assert len(group(boxes, lambda box: laplacian_visits(shape, box, spacing, 1.0))) == 2


@pytest.mark.parametrize("lower", [(60, 50, 55), (0, 3, 40), (5, 90, 0)])
def test_visits_of_the_laplacian_are_those_of_its_first_passes_and_the_rest(lower: tuple[int, int, int]) -> None:
    shape, spacing, sigma, box = (90, 110, 100), (2.0, 1.0, 1.0), 1.5, Box(lower, (8, 10, 9))
    away: list[npt.NDArray[np.float64]] = []
    for size, low, extent, step in zip(shape, box.lower, box.shape, spacing, strict=True):
        index = np.arange(size)
        outside = np.maximum(0, np.maximum(low - index, index - low - extent + 1))
        away.append(outside / (laplacian.REACH * sigma / step))
    exact = 0
    for first, second, third in ((2, 1, 0), (1, 2, 0), (0, 2, 1)):
        exact += np.count_nonzero(np.add.outer(np.add.outer(away[first], away[second]), away[third]) <= 1)
        exact += box.shape[first] * np.count_nonzero(np.add.outer(away[second], away[third]) <= 1)
        exact += box.shape[first] * box.shape[second] * np.count_nonzero(away[third] <= 1)
    assert laplacian_visits(shape, box, spacing, sigma) == pytest.approx(exact, rel=0.1)
