"""Which voxels count for intensity and texture, and their grey levels.

References:
    IBSI reference manual, sections 2.5 (re-segmentation) and 2.7 (discretisation).
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import EmptyRoi, RadiomicsRefused
from service.features.engine.discretise import GreyLevels
from service.features.ibsi.configuration import Configuration, FixedNumber, FixedSize

Doubles = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]


def resegment(voxels: Doubles, inside: Bits, configuration: Configuration) -> Bits:
    """Take voxels of unwanted intensity out of the mask.

    Args:
        voxels: float64 (K, J, I).
        inside: bool (K, J, I).
        configuration: its interval, then its outliers, are taken out.

    Returns:
        The intensity mask, bool (K, J, I).

    Raises:
        EmptyRoi: no voxel is left.
    """
    if configuration.interval is not None:
        low, high = configuration.interval
        inside = inside & (voxels >= low) & (voxels <= high)
    if configuration.outliers is not None and inside.any():
        values = voxels[inside]
        inside = inside & (np.abs(voxels - values.mean()) <= configuration.outliers * values.std())
    if not inside.any():
        raise EmptyRoi("no voxel of the region has an intensity inside the interval asked for", voxels=0)
    return inside


def assign_levels(values: Doubles, configuration: Configuration) -> GreyLevels:
    """Assign a grey level to every voxel of the intensity mask.

    Args:
        values: intensities (N,).
        configuration: its discretisation, and its interval's lower bound for levels of fixed size.

    Raises:
        RadiomicsRefused: intensities that are to be taken as grey levels are no whole numbers from 1.
    """
    way = configuration.discretisation
    if isinstance(way, FixedSize):
        lowest = values.min() if configuration.interval is None else configuration.interval[0]
        return _rank(np.floor((values - lowest) / way.width) + 1)
    if isinstance(way, FixedNumber):
        return _rank(_levels_of_fixed_number(values, way.count))
    if np.any(values < 1) or np.any(values != np.rint(values)):
        raise RadiomicsRefused("intensities serve as grey levels only if they are whole numbers from 1")
    return _rank(values)


def _levels_of_fixed_number(values: Doubles, count: int) -> Doubles:
    lowest, highest = values.min(), values.max()
    if lowest == highest:
        return np.ones_like(values)
    levels = np.floor(count * (values - lowest) / (highest - lowest)) + 1
    return np.asarray(np.minimum(levels, count))


def _rank(levels: npt.NDArray[Any]) -> GreyLevels:
    numbers, ranks, counts = np.unique(levels, return_inverse=True, return_counts=True)
    return GreyLevels(numbers.astype(np.float64), counts.astype(np.int64), (ranks + 1).astype(np.int32))
