"""The published response maps of IBSI-2."""

import pytest

from tests.ibsi.response_maps import Comparison, compare_maps
from tests.real_data import real_data


@pytest.fixture(scope="module")
def comparisons() -> list[Comparison]:
    return list(compare_maps(real_data("ibsi")))


@pytest.mark.real
def test_wavelets_give_the_published_maps(comparisons):
    shares = {found.test: found.share for found in comparisons if "wavelet" in found.filter}
    assert shares.keys() == {"5.A.1", "6.A.1"}
    assert max(shares.values()) < 1e-6


@pytest.mark.real
def test_the_recursive_laplacian_comes_near_the_published_maps(comparisons):
    shares = {found.test: found.share for found in comparisons if "recursive" in found.filter}
    assert shares == pytest.approx({"2.A": 0.01367, "2.B": 0.00888}, rel=0.01)


@pytest.mark.real
def test_the_published_laplacian_is_the_truncated_one(comparisons):
    shares = [found.share for found in comparisons if "truncated" in found.filter]
    assert len(shares) == 2
    assert max(shares) < 1e-6
