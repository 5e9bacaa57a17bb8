"""Neighbouring grey tone difference matrix: PyRadiomics' class `ngtdm`.

References:
    Amadasun, King, "Textural features corresponding to textural properties", IEEE Trans. SMC 19(5), 1989.
    IBSI reference manual, section 3.9. PyRadiomics keeps voxels without neighbours, with a difference of 0.
"""

import numpy as np
import numpy.typing as npt

from service.features.engine.compiled import kernel
from service.features.engine.discretise import GreyLevels
from service.features.engine.region import Offsets, Region, Voxels, flat_offsets

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int32]

FLAT_COARSENESS = 1e6
"""What PyRadiomics reports for an image without any difference, where the coarseness is infinite."""


def describe_differences(differences: Doubles, levels: GreyLevels) -> dict[str, float]:
    """Compute the features of a difference matrix.

    Args:
        differences: s_i (n,), from `sum_differences`.
        levels: grey levels i and the counts n_i of their voxels.
    """
    total = levels.counts.sum()
    shares, numbers = levels.counts / total, levels.numbers
    weighted = shares * differences
    distance = numbers[:, None] - numbers[None, :]
    pairs = levels.size * (levels.size - 1)
    both = shares[:, None] + shares[None, :]
    change = np.sum(weighted)
    contrast = np.sum(shares[:, None] * shares[None, :] * distance**2) * np.sum(differences) / total
    unlike = np.sum(np.abs((numbers * shares)[:, None] - (numbers * shares)[None, :]))
    complexity = np.sum(np.abs(distance) * (weighted[:, None] + weighted[None, :]) / both) / total
    strength = np.sum(both * distance**2)
    return {
        "Busyness": float(change / unlike) if unlike != 0 else 0.0,  # NQ30
        "Coarseness": float(1 / change) if change != 0 else FLAT_COARSENESS,  # QCDE
        "Complexity": float(complexity),  # HDEZ
        "Contrast": float(contrast / pairs) if pairs else 0.0,  # 65HE
        "Strength": float(strength / np.sum(differences)) if np.sum(differences) != 0 else 0.0,  # 1X9X
    }


def sum_differences(grid: Voxels, levels: GreyLevels, region: Region, offsets: Offsets) -> Doubles:
    """Sum, over the voxels of each grey level, the distance to the mean grey level of their neighbours.

    Args:
        grid: ranks with a margin (K, J, I).
        levels: of the same image.
        region: of the same image; its box is the grid without margin.
        offsets: one of each pair of opposite neighbours (A, 3).

    Returns:
        float64 (n,).
    """
    margin = (grid.shape[0] - region.shape[0]) // 2
    numbers = np.concatenate([[0], levels.numbers]).astype(np.uint16 if levels.top < 65536 else np.int32)
    steps = flat_offsets(offsets, grid.shape)
    tones = grid if levels.dense else numbers[grid]
    return _sum(grid, tones, levels.size, margin, np.concatenate([steps, -steps]))[1:]


@kernel
def _sum(grid: Voxels, tones: Voxels, size: int, margin: int, steps: Offsets) -> Doubles:
    """Sum over the voxels of each rank (n + 1,); `tones` holds the levels of the ranks in `grid`."""
    planes, rows, columns = grid.shape
    ranks, flat = grid.reshape(-1), tones.reshape(-1)
    sums = np.zeros(size + 1)
    total, count = np.empty(columns - 2 * margin, np.int32), np.empty(columns - 2 * margin, np.int32)
    for z in range(margin, planes - margin):
        for y in range(margin, rows - margin):
            start = (z * rows + y) * columns + margin
            total[:] = 0
            count[:] = 0
            for k in range(steps.shape[0]):
                _add(flat, start + steps[k], total, count)
            for x in range(total.shape[0]):
                if flat[start + x] and count[x]:
                    sums[ranks[start + x]] += abs(float(flat[start + x]) - float(total[x]) / float(count[x]))
    return sums


@kernel
def _add(flat: Voxels, start: int, total: Integers, count: Integers) -> None:
    """Add one neighbour of each voxel of a row; unsigned indices spare Numba a check that bars vector code."""
    there = np.uintp(start)
    for x in range(np.uintp(total.shape[0])):
        tone = np.int32(flat[there + x])
        total[x] += tone
        count[x] += np.int32(tone != 0)
