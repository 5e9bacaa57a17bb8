"""Each part of the engine against an independent way to the same answer."""

import numpy as np
import pytest
import pywt
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.features.engine.diameters import measure_diameters
from service.features.engine.discretise import bin_edges, discretise
from service.features.engine.firstorder import describe_intensities
from service.features.engine.glrlm import count_runs
from service.features.engine.glszm import find_zones
from service.features.engine.laplacian import laplacian
from service.features.engine.options import ImageOptions
from service.features.engine.region import directions, find_region
from service.features.engine.second_eigenvalue import second_eigenvalue
from service.features.engine.surface import measure_mesh
from service.features.engine.surface_table import CORNERS, triangle_points
from service.features.engine.wavelet import BEGINNINGS, filters, sub_bands

MASKS = arrays(np.bool_, st.tuples(*[st.integers(2, 7)] * 3)).filter(lambda mask: mask.any() and not mask.all())
SPACING = (2.5, 0.7, 0.9)


def test_every_triangle_separates_corners_inside_from_corners_outside() -> None:
    for configuration, triangles in enumerate(triangle_points()):
        inside = {corner for bit, corner in enumerate(CORNERS) if configuration >> bit & 1}
        points = triangles[~np.isnan(triangles)].reshape(-1, 3)
        for point in points:
            ends = {corner for corner in CORNERS if np.abs(np.array(corner) - point).max() == 0.5}
            on_edge = {corner for corner in ends if np.abs(np.array(corner) - point).sum() == 0.5}
            assert len(on_edge & inside) == 1


@given(mask=MASKS)
@settings(max_examples=60, deadline=None)
def test_the_mesh_does_not_depend_on_where_the_region_lies(mask: np.ndarray) -> None:
    near, far = np.pad(mask, 1).view(np.uint8), np.pad(mask, ((5, 1), (1, 4), (3, 1))).view(np.uint8)
    assert measure_mesh(near, SPACING).area == pytest.approx(measure_mesh(far, SPACING).area, rel=1e-12)


def test_the_mesh_of_a_ball_approaches_the_ball() -> None:
    k, j, i = np.indices((45, 45, 45)) - 22
    mesh = measure_mesh((k**2 + j**2 + i**2 < 20.0**2).astype(np.uint8), (1.0, 1.0, 1.0))
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 20**3, rel=0.01)
    assert mesh.area == pytest.approx(4 * np.pi * 20**2, rel=0.1)


@given(mask=MASKS)
@settings(max_examples=80, deadline=None)
def test_diameters_equal_the_search_over_all_pairs(mask: np.ndarray) -> None:
    padded = np.pad(mask, 1).view(np.uint8)
    points = []
    for axis in range(3):
        changes = np.argwhere(np.diff(padded, axis=axis)) * 1.0
        changes[:, axis] += 0.5
        points.append(changes)
    doubled = np.concatenate(points)
    places = doubled * np.array(SPACING)
    distance = np.linalg.norm(places[:, None] - places[None], axis=2)
    found = measure_diameters(padded, SPACING)
    assert found.overall == pytest.approx(distance.max(), rel=1e-14)
    for axis, within in enumerate(found.planes):
        same = doubled[:, None, axis] == doubled[None, :, axis]
        assert within == pytest.approx((distance * same).max(), rel=1e-14)


@given(
    values=arrays(
        st.sampled_from([np.int16, np.uint8, np.int32, np.float32, np.float64]),
        st.integers(1, 40),
        elements=st.integers(0, 120),
    ),
    width=st.sampled_from([25, 1, 0.3, 7.5]),
    count=st.sampled_from([None, 1, 16]),
)
@settings(max_examples=150, deadline=None)
def test_levels_are_those_of_digitize(values: np.ndarray, width: float, count: int | None) -> None:
    levels = discretise(values, ImageOptions(bin_width=width, bin_count=count))
    expected = np.digitize(values, bin_edges(values, width, count))
    assert (levels.numbers[levels.ranks - 1] == expected).all()
    assert (levels.counts == np.unique(expected, return_counts=True)[1]).all()


@given(values=arrays(np.float64, st.integers(2, 700), elements=st.floats(-1e6, 1e6)))
@settings(max_examples=100, deadline=None)
def test_order_statistics_are_those_of_numpy(values: np.ndarray) -> None:
    levels = discretise(values, ImageOptions(bin_count=8))
    found = describe_intensities(values, levels, 1.0)
    assert found["10Percentile"] == np.percentile(values, 10)
    assert found["90Percentile"] == np.percentile(values, 90)
    assert found["InterquartileRange"] == np.percentile(values, 75) - np.percentile(values, 25)
    assert found["Median"] == np.median(values)
    assert found["Variance"] == pytest.approx(np.var(values), rel=1e-12)


@pytest.mark.parametrize("spread", [1.0, 1e-7, 1e9])
def test_order_statistics_of_many_values_are_those_of_numpy(spread: float) -> None:
    rng = np.random.default_rng(4)
    for values in (rng.standard_cauchy(30_000) * spread, rng.integers(0, 9, 20_001) * spread):
        found = describe_intensities(values, discretise(values, ImageOptions(bin_count=8)), 1.0)
        expected = np.percentile(values, [10, 90, 50])
        assert [found["10Percentile"], found["90Percentile"], found["Median"]] == expected.tolist()


@given(mask=MASKS, seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_zones_are_the_components_of_each_level(mask: np.ndarray, seed: int) -> None:
    region = find_region(mask, (1.0, 1.0, 1.0))
    values = np.random.default_rng(seed).integers(0, 3, region.count) * 25
    levels = discretise(values, ImageOptions())
    zones = find_zones(levels.grid(region, 1), region, directions((9, 9, 9)))
    expected = []
    for rank in range(1, levels.size + 1):
        here = np.zeros(region.shape, dtype=np.uint8)
        here[region.inside] = levels.ranks == rank
        labels = SimpleITK.GetArrayFromImage(SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray(here), True))
        expected += [(rank, size) for size in np.unique(labels[labels > 0], return_counts=True)[1]]
    assert sorted(zip(zones.ranks, zones.sizes, strict=True)) == sorted(expected)


@pytest.mark.parametrize("extent", [40, 255, 256, 300])
def test_runs_as_long_as_the_region_are_counted(extent: int) -> None:
    region = find_region(np.ones((2, 3, extent), dtype=np.bool_), (1.0, 1.0, 1.0))
    levels = discretise(np.repeat(np.arange(6.0), extent), ImageOptions(bin_width=1))
    offsets = directions(region.shape)
    counts = count_runs(levels.grid(region, 1), levels, region, offsets)
    along = [tuple(offset) == (0, 0, 1) for offset in offsets.tolist()]
    expected = np.zeros((len(offsets), 6, extent), dtype=np.int64)
    expected[:, :, 0] = extent
    expected[along, :, 0] = 0
    expected[along, :, -1] = 1
    assert (counts == expected).all()


@pytest.mark.parametrize("size", [2, 3, 4, 5, 17, 60])
def test_the_second_eigenvalue_is_that_of_lapack(size: int) -> None:
    rng = np.random.default_rng(size)
    axes = np.linalg.qr(rng.normal(size=(size, size)))[0]
    for second, third in ((0.4, 0.1), (0.4, 0.4 - 1e-7), (0.9999, 1e-5), (1e-3, 0.0)):
        values = np.concatenate([[1.0, second, third], rng.uniform(0, third, size)])[:size]
        matrix = axes * values @ axes.T
        matrix = (matrix + matrix.T) / 2
        found, apart = second_eigenvalue(matrix.copy(), 1e-9)
        assert found == pytest.approx(np.linalg.eigvalsh(matrix)[-2], rel=1e-12, abs=1e-15)
        neighbours = [1.0 - second, *([second - third] if size > 2 else [])]
        assert apart == (min(neighbours) > 1e-9 / second)


@pytest.mark.parametrize("kind", ["uint8", "int16", "int32", "float32", "float64"])
def test_the_cropped_laplacian_has_the_bits_of_the_whole_one(kind: str) -> None:
    image = (np.random.default_rng(2).random((60, 66, 140)) * 200).astype(kind)
    mask = np.zeros(image.shape, dtype=np.bool_)
    mask[26:34, 30:37, 0:9] = True
    region = find_region(mask, (1.6, 1.1, 0.9))
    whole = SimpleITK.GetImageFromArray(image)
    whole.SetSpacing(region.spacing[::-1])
    for sigma in (1.0, 2.5):
        expected = SimpleITK.GetArrayFromImage(SimpleITK.LaplacianRecursiveGaussian(whole, sigma, True))
        assert (laplacian(image, region, region.spacing, sigma) == expected[region.slices]).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("wavelet", pywt.wavelist(kind="discrete"))
def test_sub_bands_have_the_bits_of_pywavelets(wavelet: str, kind: type) -> None:
    image = np.random.default_rng(1).normal(0, 100, (7, 6, 13)).astype(kind)
    image[:, 2:, 3:9] = 7
    mask = np.zeros(image.shape, dtype=np.bool_)
    mask[2:, 1:4, 4:] = True
    region = find_region(mask, (1.0, 1.0, 1.0))
    even = np.pad(image, [(0, size % 2) for size in image.shape], "wrap")
    (expected,) = pywt.swtn(even, wavelet, level=1, axes=(2, 1, 0))
    for beginning in BEGINNINGS:
        for band, box in sub_bands(image, region, wavelet, beginning):
            assert (box == expected[band.replace("L", "a").replace("H", "d")][region.slices]).all()


@pytest.mark.parametrize("wavelet", ["haar", "coif1", "db4", "sym5", "bior2.4"])
def test_double_filters_are_the_published_ones(wavelet: str) -> None:
    taps = filters(wavelet, single=False)
    assert taps.low.tolist() == pywt.Wavelet(wavelet).dec_lo
    assert taps.high.tolist() == pywt.Wavelet(wavelet).dec_hi
