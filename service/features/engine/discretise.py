"""Intensities of the region to grey levels, with PyRadiomics' bin edges.

PyRadiomics works in the image's own number type here, so these functions do too: the arithmetic of an 8-bit
image wraps around, and that of a 32-bit float image rounds to 24 bits.

References:
    IBSI reference manual, section 2.7 (fixed bin size, fixed bin number). PyRadiomics deviates: its bins of
    fixed size start at the multiple of the width below the region's minimum, and the maximum of a fixed
    number of bins is not raised into its own bin.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.errors import RadiomicsRefused
from service.features.engine.compiled import kernel
from service.features.engine.options import ImageOptions, Number
from service.features.engine.region import Region, Voxels

LARGEST_MATRIX = 12852
"""PyRadiomics numbers the cells of 13 square matrices with 32-bit integers: more levels than this overflow."""


@dataclass(frozen=True)
class GreyLevels:
    """The grey levels of one derived image.

    Attributes:
        numbers: float64 (n,): the levels that occur, ascending, counted from 1.
        counts: int64 (n,): how many voxels of the region hold each.
        ranks: int32 (N,): position of each voxel's level in `numbers`, from 1; voxels in scan order.
    """

    numbers: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]
    ranks: npt.NDArray[np.int32]

    @property
    def size(self) -> int:
        """Number of levels that occur."""
        return len(self.numbers)

    @property
    def top(self) -> int:
        """The highest level."""
        return int(self.numbers[-1])

    @property
    def dense(self) -> bool:
        """Whether no level between 1 and the highest is missing."""
        return self.top == self.size

    def grid(self, region: Region, margin: int) -> Voxels:
        """Lay the ranks out in space; 0 outside the region, in the smallest type that holds them."""
        kind = np.uint8 if self.size < 256 else np.uint16 if self.size < 65536 else np.int32
        grid = np.zeros(tuple(extent + 2 * margin for extent in region.shape), dtype=kind)
        z, y, x = (slice(margin, margin + extent) for extent in region.shape)
        grid[z, y, x][region.inside] = self.ranks
        return grid


def discretise(values: Voxels, options: ImageOptions) -> GreyLevels:
    """Assign a grey level to every voxel of the region.

    Args:
        values: (N,), of the image's own type.
        options: bin width or bin count.

    Raises:
        RadiomicsRefused: the image's type cannot hold the edges.
    """
    try:
        edges = bin_edges(values, options.bin_width, options.bin_count)
        levels = _assign(values, edges)
    except (OverflowError, ValueError) as error:
        raise RadiomicsRefused(
            f"no bins of width {options.bin_width} (or {options.bin_count} bins) span the region's intensities",
            bin_width=options.bin_width,
            bin_count=options.bin_count,
        ) from error
    counts = np.bincount(levels)
    present = np.flatnonzero(counts)
    ranks = levels
    if len(present) != present[-1] or present[0] != 1:
        table = np.zeros(len(counts), dtype=np.int32)
        table[present] = np.arange(1, len(present) + 1, dtype=np.int32)
        ranks = table[levels]
    return GreyLevels(present.astype(np.float64), counts[present], ranks)


def bin_edges(values: Voxels, width: Number, count: int | None) -> Voxels:
    """Return the edges of the bins; bins are half open, [edge, next edge).

    Args:
        values: (N,), intensities of the region, of the image's own type.
        width: of a bin; unused with `count`.
        count: number of bins between the minimum and the maximum, or None.

    References:
        PyRadiomics 3.0.1, `imageoperations.getBinEdges`.
    """
    if count is not None:
        edges: Voxels = np.histogram_bin_edges(values, count)
        edges[-1] += 1
        return edges
    with np.errstate(all="ignore"):
        minimum, maximum = values.min(), values.max()
        edges = np.arange(minimum - (minimum % width), maximum + 2 * width, width)
    if len(edges) == 1:
        return np.array([edges[0] - 0.5, edges[0] + 0.5])
    return edges


def require_texture(levels: GreyLevels, squared: bool) -> None:
    """Refuse grey levels on which PyRadiomics' matrices cannot be counted.

    Args:
        levels: of one derived image.
        squared: whether a matrix of levels times levels is asked for.

    Raises:
        RadiomicsRefused: a level below 1 (the bins wrapped around), or too many levels.
    """
    if levels.numbers[0] < 1:
        raise RadiomicsRefused("the image's number type is too narrow for its bins: intensities wrap around")
    if squared and levels.top > LARGEST_MATRIX:
        raise RadiomicsRefused(
            f"{levels.top} grey levels, at most {LARGEST_MATRIX} can be compared in pairs: use wider bins",
            levels=levels.top,
            maximum=LARGEST_MATRIX,
        )


def _assign(values: Voxels, edges: Voxels) -> npt.NDArray[np.int32]:
    """Number the bins of values from 1, as `numpy.digitize` does; 0 lies below the first edge."""
    wide = values.dtype.kind in "iu" and values.dtype.itemsize > 4  # beyond 2^53 float64 would round
    if wide or len(edges) < 2 or not edges[0] < edges[1]:  # edges that wrapped around may even descend
        return np.digitize(values, edges).astype(np.int32)
    return _bins(np.asarray(values, np.float64), np.asarray(edges, np.float64))


@kernel
def _bins(values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
    last = edges.shape[0] - 1
    lowest = edges[0]
    scale = 1.0 / (edges[1] - lowest)
    levels = np.empty(values.shape[0], np.int32)
    for k in range(values.shape[0]):
        value = values[k]
        guess = (value - lowest) * scale
        here = int(min(guess, last)) if guess > 0.0 else 0
        while here < last and value >= edges[here + 1]:
            here += 1
        while here >= 0 and value < edges[here]:
            here -= 1
        levels[k] = here + 1
    return levels
