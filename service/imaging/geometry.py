"""Where a voxel grid lies in the patient: shape and affine, checked once, at construction."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from service.errors import UnusableImage

Affine = NDArray[np.float64]
Shape = tuple[int, int, int]

ORTHOGONAL_TOLERANCE: Final = 1e-3  # largest |cosine| between two axes
FARTHEST_MM: Final = 1e9  # no affine holds a larger number; this keeps every product of two finite
MATCH_TOLERANCE: Final = 0.01  # farthest two corners may lie apart, in units of the smallest voxel edge


@dataclass(frozen=True, eq=False)
class Geometry:
    """A regular grid of voxel centres: array index (i, j, k) to RAS+ millimetres.

    Attributes:
        shape: voxels along (I, J, K).
        affine: float64 (4, 4), read-only; column a holds the step in mm along array axis a.

    Raises:
        UnusableImage: a dimension is not positive, the affine is not finite or singular, or its axes are
            not orthogonal to `ORTHOGONAL_TOLERANCE` (a sheared grid: neither ITK nor the radiomics formulas
            are defined on one).
    """

    shape: Shape
    affine: Affine

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        _check_shape(self.shape)
        _check_affine(affine)

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """The voxel's edges along (I, J, K), in mm."""
        i, j, k = (float(_length(self.affine[:3, axis])) for axis in range(3))
        return i, j, k

    @property
    def origin_mm(self) -> tuple[float, float, float]:
        """The centre of voxel (0, 0, 0), RAS+ mm."""
        x, y, z = self.affine[:3, 3].tolist()
        return x, y, z

    @property
    def direction(self) -> NDArray[np.float64]:
        """Unit vectors of the array axes in RAS+, as the columns of a (3, 3) matrix."""
        columns: NDArray[np.float64] = self.affine[:3, :3] / np.asarray(self.spacing_mm)
        return columns

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel, in cubic mm."""
        return abs(float(np.linalg.det(self.affine[:3, :3])))

    def to_world(self, ijk: ArrayLike) -> NDArray[np.float64]:
        """Return the RAS+ mm of continuous indices, (..., 3) to (..., 3); voxel centres are whole numbers."""
        points: NDArray[np.float64] = np.asarray(ijk, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3]
        return points

    def to_index(self, xyz: ArrayLike) -> NDArray[np.float64]:
        """Return the continuous indices of RAS+ mm points, (..., 3) to (..., 3)."""
        offset = np.asarray(xyz, dtype=np.float64) - self.affine[:3, 3]
        indices: NDArray[np.float64] = offset @ np.linalg.inv(self.affine[:3, :3]).T
        return indices

    def matches(self, other: "Geometry") -> bool:
        """Whether both grids have one shape and corners no farther apart than `MATCH_TOLERANCE` of a voxel.

        A hundredth of a voxel is above what single precision headers lose and far below anything that
        moves a voxel from one region to another.
        """
        if self.shape != other.shape:
            return False
        corners = np.indices((2, 2, 2)).reshape(3, 8).T * (np.asarray(self.shape) - 1)
        apart = np.linalg.norm(self.to_world(corners) - other.to_world(corners), axis=1)
        return bool(apart.max() <= MATCH_TOLERANCE * min(self.spacing_mm))

    def in_words(self) -> str:
        """Return shape, spacing and origin as a person reads them."""
        shape = " x ".join(str(n) for n in self.shape)
        spacing = " x ".join(f"{edge:.5g}" for edge in self.spacing_mm)
        origin = ", ".join(f"{x:.4f}" for x in self.origin_mm)
        return f"{shape} voxels of {spacing} mm from RAS ({origin}) mm"

    def describe(self) -> dict[str, Any]:
        """Return the grid as plain numbers, for a problem's facts."""
        return {
            "shape": list(self.shape),
            "spacing_mm": [round(edge, 6) for edge in self.spacing_mm],
            "origin_ras_mm": [round(x, 4) for x in self.origin_mm],
            "direction_ras": [[round(float(x), 6) for x in row] for row in self.direction],
        }


def _length(vector: NDArray[np.float64]) -> float:
    # the squares are summed in sorted order, so that flipping or permuting axes cannot change a bit
    return float(np.sqrt(np.sum(np.sort(vector * vector))))


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 3 or min(shape) < 1:
        raise UnusableImage(f"got dimensions {list(shape)}, expected three positive ones", shape=list(shape))


def _check_affine(affine: Affine) -> None:
    if affine.shape != (4, 4):
        raise UnusableImage(f"the affine is {affine.shape}, expected (4, 4)")
    finite = np.isfinite(affine)
    if not finite.all():
        raise UnusableImage(f"{int((~finite).sum())} of the affine's 16 numbers are not finite")
    if np.abs(affine).max() > FARTHEST_MM:
        raise UnusableImage(f"the affine holds a number beyond {FARTHEST_MM:g} mm")
    if not np.array_equal(affine[3], [0, 0, 0, 1]):
        raise UnusableImage("the affine's last row is not 0 0 0 1")
    lengths = np.array([_length(affine[:3, axis]) for axis in range(3)])
    if not np.all((lengths > 1e-6) & (lengths < 1e6)):
        raise UnusableImage(
            f"voxel edges of {', '.join(f'{edge:.4g}' for edge in lengths)} mm: expected above 1e-6 and below 1e6 mm",
            spacing_mm=[float(f"{edge:.6g}") for edge in lengths],
        )
    unit = affine[:3, :3] / lengths
    cosine = float(np.abs(unit.T @ unit - np.eye(3)).max())
    if cosine > ORTHOGONAL_TOLERANCE:
        raise UnusableImage(
            f"the grid's axes are not orthogonal: cosine {cosine:.4g} between two of them, "
            f"at most {ORTHOGONAL_TOLERANCE:g} is accepted",
            cosine=round(cosine, 6),
        )
