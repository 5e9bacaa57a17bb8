"""Grey level size zone matrix: PyRadiomics' class `glszm`.

References:
    Thibault et al., "Texture indexes and gray level size zone matrix", PRIP 2009.
    IBSI reference manual, section 3.8. Zones are joined by faces, edges and corners (26 neighbours).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.features.engine.compiled import kernel
from service.features.engine.discretise import GreyLevels
from service.features.engine.region import Bits, Offsets, Region, Voxels, flat_offsets
from service.features.engine.size_matrix import describe_sizes

Counts = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]

_FIRST_BIT = np.array([(bits & -bits).bit_length() - 1 for bits in range(1 << 13)]).astype(np.uint8)


@dataclass(frozen=True)
class Zones:
    """Connected groups of voxels of one level: int32 (Z,) each."""

    ranks: Integers
    sizes: Integers


def describe_zones(zones: Zones, levels: GreyLevels) -> dict[str, float]:
    """Compute the features of the size zone matrix.

    Args:
        zones: all zones of the region, from `find_zones`.
        levels: of the same image.
    """
    matrix, sizes = _tabulate(zones.ranks, zones.sizes, levels.size)
    found = describe_sizes(matrix[None], levels.numbers, sizes)
    return {
        "GrayLevelNonUniformity": found.level_nonuniformity,  # JNSA
        "GrayLevelNonUniformityNormalized": found.level_nonuniformity_normalised,  # Y1RO
        "GrayLevelVariance": found.level_variance,  # BYLV
        "HighGrayLevelZoneEmphasis": found.high,  # 5GN9
        "LargeAreaEmphasis": found.large,  # 48P8
        "LargeAreaHighGrayLevelEmphasis": found.large_high,  # J17V
        "LargeAreaLowGrayLevelEmphasis": found.large_low,  # YH51
        "LowGrayLevelZoneEmphasis": found.low,  # XMSY
        "SizeZoneNonUniformity": found.size_nonuniformity,  # 4JP3
        "SizeZoneNonUniformityNormalized": found.size_nonuniformity_normalised,  # VB3A
        "SmallAreaEmphasis": found.small,  # 5QRC
        "SmallAreaHighGrayLevelEmphasis": found.small_high,  # HW1V
        "SmallAreaLowGrayLevelEmphasis": found.small_low,  # 5RAI
        "ZoneEntropy": found.entropy,  # GU8N
        "ZonePercentage": found.percentage,  # P30P
        "ZoneVariance": found.size_variance,  # 3NSA
    }


@kernel
def _tabulate(ranks: Integers, sizes: Integers, levels: int) -> tuple[Counts, Doubles]:
    """Count zones by rank and size: a matrix with a column for each size that occurs, and these sizes."""
    column_of = np.zeros(sizes.max() + 1, np.int32)
    for zone in range(sizes.shape[0]):
        column_of[sizes[zone]] = 1
    occurring = np.flatnonzero(column_of)
    column_of[occurring] = np.arange(occurring.shape[0])
    counts = np.zeros((levels, occurring.shape[0]), np.int64)
    for zone in range(sizes.shape[0]):
        counts[ranks[zone] - 1, column_of[sizes[zone]]] += 1
    return counts, occurring.astype(np.float64)


def find_zones(grid: Voxels, region: Region, offsets: Offsets) -> Zones:
    """Find the groups of connected voxels of equal level.

    Args:
        grid: ranks with a margin (K, J, I).
        region: of the same image; its box is the grid without margin.
        offsets: one of each pair of opposite neighbours (A, 3).
    """
    margin = (grid.shape[0] - region.shape[0]) // 2
    earlier = sorted(tuple(offset) for offset in (-offsets).tolist())  # those a scan has already met
    steps = flat_offsets(np.array(earlier, dtype=np.int64), grid.shape)
    alone = sum(
        1 << place
        for place, (k, j, i) in enumerate(earlier)
        if (k, j, i + 1) not in earlier and (k, j, i) != (0, 0, -1)
    )  # after an equal voxel of the row, the others are neighbours of that one too
    shortcut = alone if (0, 0, -1) in earlier else 0
    ranks, sizes = _join(grid, margin, region.spans, region.count, steps, shortcut, _FIRST_BIT)
    return Zones(ranks, sizes)


@kernel
def _join(
    grid: Voxels, margin: int, spans: Offsets, count: int, steps: Offsets, alone: int, first_bit: Bits
) -> tuple[Integers, Integers]:
    """Join neighbours of equal level in one scan, with a forest of zones (the older root wins, path halving).

    With `alone` not 0, a voxel equal to the one before it in the row looks only at the neighbours of those bits.
    """
    _, rows, columns = grid.shape
    flat = grid.reshape(-1)
    zone_of = np.empty(flat.shape[0], np.int32)
    parents, ranks, sizes = np.empty(count, np.int32), np.empty(count, np.int32), np.empty(count, np.int32)
    scratch = np.empty(columns, np.uint16)
    found = 0
    for z in range(spans.shape[0]):
        for y in range(spans.shape[1]):
            start = ((z + margin) * rows + y + margin) * columns + margin + spans[z, y, 0]
            equal = scratch[: spans[z, y, 1] - spans[z, y, 0]]
            _mark_equal(flat, start, steps, equal)
            for x in range(equal.shape[0]):
                p = start + x
                if flat[p] == 0:
                    continue
                bits, zone, last = np.int64(equal[x]), -1, -1
                if alone and flat[p - 1] == flat[p]:
                    last = zone_of[p - 1]
                    bits, zone = bits & alone, _root(parents, last)
                while bits:
                    other = zone_of[p + steps[first_bit[bits]]]
                    bits &= bits - 1
                    if other != last:
                        root = _root(parents, other)
                        zone = root if zone < 0 else _unite(parents, sizes, zone, root)
                        last = other
                if zone < 0:
                    zone, found = found, found + 1
                    parents[zone], ranks[zone], sizes[zone] = zone, flat[p], 0
                zone_of[p] = zone
                sizes[zone] += 1
    return _roots(parents, ranks, sizes, found)


@kernel
def _mark_equal(flat: Voxels, start: int, steps: Offsets, equal: npt.NDArray[np.uint16]) -> None:
    """Set bit k of a voxel of one row where its neighbour at step k is equal."""
    equal[:] = 0
    here = np.uintp(start)
    for k in range(steps.shape[0]):
        there, bit = np.uintp(start + steps[k]), np.uint16(1 << k)
        for x in range(np.uintp(equal.shape[0])):
            equal[x] |= bit if flat[here + x] == flat[there + x] else np.uint16(0)


@kernel
def _unite(parents: Integers, sizes: Integers, one: int, other: int) -> int:
    """Join two roots and return the older."""
    old, young = min(one, other), max(one, other)
    if old != young:
        parents[young] = old
        sizes[old] += sizes[young]
    return old


@kernel
def _root(parents: Integers, zone: int) -> int:
    while parents[zone] != zone:
        parents[zone] = parents[parents[zone]]
        zone = parents[zone]
    return zone


@kernel
def _roots(parents: Integers, ranks: Integers, sizes: Integers, found: int) -> tuple[Integers, Integers]:
    kept = 0
    for zone in range(found):
        if parents[zone] == zone:
            ranks[kept] = ranks[zone]
            sizes[kept] = sizes[zone]
            kept += 1
    return ranks[:kept].copy(), sizes[:kept].copy()
