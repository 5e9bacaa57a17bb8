"""What the header of a volume file declares, whatever the format."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from service.errors import UnusableImage
from service.imaging.geometry import Geometry, Shape
from service.imaging.guard import Limits, check_size


@dataclass(frozen=True)
class Header:
    """Everything needed to read the voxels.

    Attributes:
        geometry: the grid, axes as stored.
        dtype: of the stored numbers, with byte order.
        offset: bytes before the voxels; of the decoded stream if `wrapped`, else of the file.
        wrapped: the whole file is one gzip stream.
        packed: the voxels alone are a zlib or gzip stream.
        slope: stored numbers times this, plus `intercept`, are the values.
        intercept: see `slope`.
        notes: decisions taken while reading.
    """

    geometry: Geometry
    dtype: np.dtype[Any]
    offset: int
    wrapped: bool = False
    packed: bool = False
    slope: float = 1.0
    intercept: float = 0.0
    notes: tuple[str, ...] = field(default=())

    @property
    def rescaled(self) -> bool:
        """Whether slope and intercept change anything."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    @property
    def kept_dtype(self) -> np.dtype[Any]:
        """The type that the voxels are kept in."""
        return kept_dtype(self.dtype, rescaled=self.rescaled)


def kept_dtype(stored: np.dtype[Any], *, rescaled: bool) -> np.dtype[Any]:
    """Return the type that stored numbers are kept in.

    Stored types are kept. Rescaled values are single precision where the stored numbers have at most 16 bits
    (or are single precision themselves), else double. 64-bit integers are kept in 32 bits.
    """
    native = stored.newbyteorder("=")
    if rescaled:
        small = native.itemsize <= 2 or native == np.float32
        return np.dtype(np.float32 if small else np.float64)
    if native.kind in "iu" and native.itemsize == 8:
        return np.dtype(np.int32)
    return native


def check_declared(shape: Shape, stored: np.dtype[Any], limits: Limits, *, rescaled: bool = False) -> None:
    """Refuse a declared size over the limits, as stored or as kept.

    Raises:
        TooLarge: too many voxels or decoded bytes.
    """
    check_size(shape, max(stored.itemsize, kept_dtype(stored, rescaled=rescaled).itemsize), limits)


def spatial_shape(sizes: list[int]) -> Shape:
    """Return the three spatial dimensions of a header's list; further ones must be 1.

    Raises:
        UnusableImage: fewer than three dimensions, or a real fourth one.
    """
    if len(sizes) < 3:
        raise UnusableImage(f"got a {len(sizes)}D image of {sizes}, expected a 3D volume", shape=sizes)
    if any(size != 1 for size in sizes[3:]):
        raise UnusableImage(
            f"got a {len(sizes)}D image of {' x '.join(map(str, sizes))}, expected one 3D volume; send one "
            "time point, echo or component at a time",
            shape=sizes,
        )
    return sizes[0], sizes[1], sizes[2]
