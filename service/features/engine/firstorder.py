"""The distribution of intensities: PyRadiomics' class `firstorder`.

Means are NumPy's pairwise sums, bit for bit: on a flat image the last bit of the mean decides whether the
variance is zero. What follows from the mean is well conditioned and computed in one pass.

References:
    IBSI reference manual, sections 3.3 (intensity-based statistics) and 3.4 (intensity histogram).
    PyRadiomics 3.0.1, `firstorder.RadiomicsFirstOrder`; its kurtosis is not the excess kurtosis of IBSI.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.features.engine.compiled import kernel
from service.features.engine.discretise import GreyLevels
from service.features.engine.region import Voxels

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

EPSILON = np.spacing(1)
_BUCKETS = 4096
_BLOCK = 512  # partial sums keep the rounding error of long sums down


@dataclass(frozen=True)
class _Ranked:
    """Order statistics of N intensities, from a partial sort."""

    percentile_10: float
    percentile_25: float
    percentile_75: float
    percentile_90: float
    median: float


def describe_intensities(values: Voxels, levels: GreyLevels, voxel_volume: float, shift: int = 0) -> dict[str, float]:
    """Compute all features of the class, including those that PyRadiomics leaves out unless named.

    Args:
        values: (N,), intensities of the region.
        levels: grey levels of the same voxels.
        voxel_volume: mm^3.
        shift: added to intensities in Energy, TotalEnergy and RootMeanSquared.
    """
    doubles = np.asarray(values, dtype=np.float64)
    with np.errstate(all="ignore"):
        ranked = _rank(doubles)
        return {
            **_order_features(doubles, ranked),
            **_moment_features(doubles),
            **_energy_features(doubles, voxel_volume, shift),
            **_histogram_features(levels),
        }


def _order_features(values: Doubles, ranked: _Ranked) -> dict[str, float]:
    minimum, maximum = float(values.min()), float(values.max())
    return {
        "10Percentile": ranked.percentile_10,  # QG58
        "90Percentile": ranked.percentile_90,  # 8DWT
        "InterquartileRange": ranked.percentile_75 - ranked.percentile_25,  # SALO
        "Maximum": maximum,  # 84IY
        "Median": ranked.median,  # Y12H
        "Minimum": minimum,  # 1GSF
        "Range": maximum - minimum,  # 2OJQ
        "RobustMeanAbsoluteDeviation": _robust_deviation(values, ranked),  # 1128
    }


def _robust_deviation(values: Doubles, ranked: _Ranked) -> float:
    """Return the mean absolute deviation of the values between the 10th and the 90th percentile."""
    kept = (values >= ranked.percentile_10) & (values <= ranked.percentile_90)
    count = np.count_nonzero(kept)
    mean = np.sum(np.where(kept, values, 0.0)) / count
    return float(_sum_absolute(values, kept, mean) / count)


def _moment_features(values: Doubles) -> dict[str, float]:
    mean = np.sum(values) / len(values)
    absolute, second, third, fourth = (np.float64(power) / len(values) for power in _sum_powers(values, mean))
    scale = second if second != 0 else np.float64(1)
    return {
        "Mean": float(mean),  # Q4LE
        "MeanAbsoluteDeviation": float(absolute),  # 4FUA
        "Variance": float(second),  # ECT3
        "StandardDeviation": float(np.sqrt(second)),
        "Skewness": float(third / scale**1.5),  # KE2M
        "Kurtosis": float(fourth / scale**2.0),  # IPH6, there minus 3
    }


def _energy_features(values: Doubles, voxel_volume: float, shift: int) -> dict[str, float]:
    energy = _sum_squares(values, float(shift))
    return {
        "Energy": energy,  # N8CA
        "TotalEnergy": energy * voxel_volume,  # no IBSI code
        "RootMeanSquared": float(np.sqrt(energy / len(values))),  # 5ZWQ
    }


def _histogram_features(levels: GreyLevels) -> dict[str, float]:
    shares = levels.counts / levels.counts.sum()
    return {
        "Entropy": float(-np.sum(shares * np.log2(shares + EPSILON))),  # TLU2
        "Uniformity": float(np.sum(shares**2)),  # BJ5W
    }


def _rank(values: Doubles) -> _Ranked:
    last = len(values) - 1
    places = {int(share * last) + step for share in (0.1, 0.25, 0.75, 0.9) for step in (0, 1)}
    middle = {len(values) // 2, last // 2}
    ranked = _Order(values, np.array(sorted({min(place, last) for place in places | middle})))
    low, high = ranked[last // 2], ranked[len(values) // 2]
    return _Ranked(
        percentile_10=_percentile(ranked, 0.1),
        percentile_25=_percentile(ranked, 0.25),
        percentile_75=_percentile(ranked, 0.75),
        percentile_90=_percentile(ranked, 0.9),
        median=float(np.mean([low, high])),
    )


class _Order:
    """Some of the values in ascending order, addressed by rank."""

    def __init__(self, values: Doubles, ranks: Integers) -> None:
        self.size = len(values)
        self._values: dict[int, float] = dict(zip(ranks.tolist(), _select(values, ranks).tolist(), strict=True))

    def __getitem__(self, rank: int) -> float:
        return self._values[rank]


def _select(values: Doubles, ranks: Integers) -> Doubles:
    """Return the values of the given ascending ranks.

    Only the buckets of a histogram that hold one of them are sorted.
    """
    lowest = values.min()
    scale = (_BUCKETS - 1) / (values.max() - lowest)
    if len(values) < _BUCKETS or not 0 < scale < np.inf:
        return np.asarray(np.partition(values, ranks)[ranks])
    kept, before = _gather(values, lowest, scale, ranks)
    kept.sort()
    return kept[ranks - before]


@kernel
def _gather(values: Doubles, lowest: float, scale: float, ranks: Integers) -> tuple[Doubles, Integers]:
    """Return the values of the buckets that the ranks fall into, and how many smaller ones each rank loses."""
    buckets = np.empty(values.shape[0], np.int32)
    counts = np.zeros(_BUCKETS, np.int64)
    for k in range(values.shape[0]):
        buckets[k] = min(np.int32((values[k] - lowest) * scale), np.int32(_BUCKETS - 1))
        counts[buckets[k]] += 1
    wanted, before = np.zeros(_BUCKETS, np.bool_), np.zeros(ranks.shape[0], np.int64)
    bucket, smaller, left_out, kept = 0, 0, 0, 0
    for place in range(ranks.shape[0]):
        while smaller + counts[bucket] <= ranks[place]:
            smaller += counts[bucket]
            left_out += 0 if wanted[bucket] else counts[bucket]
            bucket += 1
        kept += 0 if wanted[bucket] else counts[bucket]
        wanted[bucket] = True
        before[place] = left_out
    found = np.empty(kept)
    filled = 0
    for k in range(values.shape[0]):
        if wanted[buckets[k]]:
            found[filled] = values[k]
            filled += 1
    return found, before


def _percentile(ranked: _Order, share: float) -> float:
    """Interpolate linearly between two ranks, rounding as NumPy does."""
    place = (ranked.size - 1) * share
    below = int(place)
    low, high = ranked[below], ranked[min(below + 1, ranked.size - 1)]
    part = place - below
    if part >= 0.5:
        return high - (high - low) * (1 - part)
    return low + (high - low) * part


@kernel
def _sum_powers(values: Doubles, mean: float) -> tuple[float, float, float, float]:
    """Sum |d|, d^2, d^3 and d^4 of the deviations d from the mean."""
    absolute, second, third, fourth = 0.0, 0.0, 0.0, 0.0
    for start in range(0, values.shape[0], _BLOCK):
        some, squares, cubes, fourths = 0.0, 0.0, 0.0, 0.0
        for k in range(start, min(start + _BLOCK, values.shape[0])):
            deviation = values[k] - mean
            square = deviation * deviation
            some += abs(deviation)
            squares += square
            cubes += square * deviation
            fourths += square * square
        absolute += some
        second += squares
        third += cubes
        fourth += fourths
    return absolute, second, third, fourth


@kernel
def _sum_squares(values: Doubles, shift: float) -> float:
    total = 0.0
    for start in range(0, values.shape[0], _BLOCK):
        part = 0.0
        for k in range(start, min(start + _BLOCK, values.shape[0])):
            shifted = values[k] + shift
            part += shifted * shifted
        total += part
    return total


@kernel
def _sum_absolute(values: Doubles, kept: npt.NDArray[np.bool_], mean: float) -> float:
    """Sum |value - mean| over the values kept."""
    total = 0.0
    for start in range(0, values.shape[0], _BLOCK):
        part = 0.0
        for k in range(start, min(start + _BLOCK, values.shape[0])):
            if kept[k]:
                part += abs(values[k] - mean)
        total += part
    return total
