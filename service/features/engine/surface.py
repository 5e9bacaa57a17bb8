"""Area and volume of the region's surface mesh.

The volume is a sum of signed tetrahedra between each triangle and the origin. For scattered voxels far from
the origin almost everything cancels and the rounding of the sum shows, so terms are added in PyRadiomics' order.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.features.engine.compiled import kernel
from service.features.engine.region import Bits
from service.features.engine.surface_table import triangle_points

Doubles = npt.NDArray[np.float64]

_POINTS = triangle_points()
_TRIANGLES = np.sum(~np.isnan(_POINTS[:, :, 0, 0]), axis=1)


@dataclass(frozen=True)
class Mesh:
    """Area in mm^2 and volume in mm^3 of a closed surface."""

    area: float
    volume: float


def measure_mesh(padded: Bits, spacing: tuple[float, float, float]) -> Mesh:
    """Measure the surface halfway between the voxels inside and outside.

    Args:
        padded: 0 and 1 (K, J, I), background on all borders.
        spacing: mm along (K, J, I).

    References:
        IBSI reference manual, section 3.1: volume (RNU0), surface area (C0JK).
    """
    area, volume = _sum_triangles(padded, np.array(spacing), _POINTS, _TRIANGLES)
    return Mesh(area, volume / 6)


@kernel
def _sum_triangles(
    padded: Bits, spacing: Doubles, points: Doubles, triangles: npt.NDArray[np.int64]
) -> tuple[float, float]:
    """Return the area and six times the volume."""
    planes, rows, columns = padded.shape
    area, volume = 0.0, 0.0
    codes = np.empty(columns - 1, np.uint8)
    for z in range(planes - 1):
        for y in range(rows - 1):
            _encode(padded[z, y], padded[z, y + 1], padded[z + 1, y], padded[z + 1, y + 1], codes)
            for x in range(columns - 1):
                code = codes[x]
                sign = -1.0 if code > 127 else 1.0
                for triangle in range(triangles[code]):
                    a, b, c = points[code, triangle]
                    ak, aj, ai = (z + a[0]) * spacing[0], (y + a[1]) * spacing[1], (x + a[2]) * spacing[2]
                    bk, bj, bi = (z + b[0]) * spacing[0], (y + b[1]) * spacing[1], (x + b[2]) * spacing[2]
                    ck, cj, ci = (z + c[0]) * spacing[0], (y + c[1]) * spacing[1], (x + c[2]) * spacing[2]
                    k, j, i = _cross(ak, aj, ai, bk, bj, bi)
                    volume += sign * (k * ck + j * cj + i * ci)
                    k, j, i = _cross(ak - ck, aj - cj, ai - ci, bk - ck, bj - cj, bi - ci)
                    area += 0.5 * np.sqrt(k * k + j * j + i * i)
    return area, volume


@kernel
def _cross(ak: float, aj: float, ai: float, bk: float, bj: float, bi: float) -> tuple[float, float, float]:
    return aj * bi - bj * ai, ai * bk - bi * ak, ak * bj - bk * aj


@kernel
def _encode(row: Bits, below: Bits, behind: Bits, below_behind: Bits, codes: Bits) -> None:
    """Number the configurations of one row of cubes; the corners' bits are those of `CORNERS`."""
    for x in range(codes.shape[0]):
        front = row[x] | (row[x + 1] << 1) | (below[x + 1] << 2) | (below[x] << 3)
        back = (behind[x] << 4) | (behind[x + 1] << 5) | (below_behind[x + 1] << 6) | (below_behind[x] << 7)
        codes[x] = front | back
