"""Size and form of the region: PyRadiomics' class `shape`.

References:
    IBSI reference manual, section 3.1 (morphological features).
    PyRadiomics 3.0.1, `shape.RadiomicsShape`.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from service.features.engine.compiled import kernel
from service.features.engine.diameters import measure_diameters
from service.features.engine.region import Bits, Region
from service.features.engine.surface import measure_mesh

ILL_CONDITIONED = 1e-4
"""Below this ratio of the least to the largest eigenvalue the least one is mostly rounding, and is then computed
with the very operations of PyRadiomics."""


def describe_shape(region: Region) -> dict[str, float]:
    """Compute all features of the class, including those that PyRadiomics leaves out unless named."""
    padded = region.padded()
    diameters = measure_diameters(padded, region.spacing)
    across_k, across_j, across_i = diameters.planes
    return {
        **_mesh_features(region, padded),
        **_axis_features(_principal_variances(padded, region.spacing)),
        "Maximum3DDiameter": diameters.overall,  # L0JK
        "Maximum2DDiameterSlice": across_k,  # no IBSI code
        "Maximum2DDiameterColumn": across_j,  # no IBSI code
        "Maximum2DDiameterRow": across_i,  # no IBSI code
    }


def _mesh_features(region: Region, padded: Bits) -> dict[str, float]:
    mesh = measure_mesh(padded, region.spacing)
    area, volume = np.float64(mesh.area), np.float64(mesh.volume)
    with np.errstate(all="ignore"):
        sphere = (36 * np.pi * volume**2) ** (1.0 / 3.0)  # area of the sphere of the same volume
        return {
            "MeshVolume": mesh.volume,  # RNU0
            "VoxelVolume": region.count * region.voxel_volume,  # YEKZ
            "SurfaceArea": mesh.area,  # C0JK
            "SurfaceVolumeRatio": float(area / volume),  # 2PR5
            "Sphericity": float(sphere / area),  # QCFX
            "SphericalDisproportion": float(area / sphere),  # KRCK
            "Compactness1": float(volume / (area**1.5 * np.sqrt(np.pi))),  # SKGS
            "Compactness2": float(36.0 * np.pi * volume**2 / area**3),  # BQWJ
        }


def _axis_features(variances: npt.NDArray[np.inexact[Any]]) -> dict[str, float]:
    least, minor, major = variances
    return {
        "MajorAxisLength": 4 * _root(major),  # TDIC
        "MinorAxisLength": 4 * _root(minor),  # P9VJ
        "LeastAxisLength": 4 * _root(least),  # 7J51
        "Elongation": _root_ratio(minor, major),  # Q3CK
        "Flatness": _root_ratio(least, major),  # N17B
    }


def _root(variance: np.inexact[Any]) -> float:
    return float(np.sqrt(variance).real) if variance >= 0 else np.nan


def _root_ratio(smaller: np.inexact[Any], larger: np.inexact[Any]) -> float:
    with np.errstate(all="ignore"):
        return float(np.sqrt(smaller / larger).real) if smaller >= 0 and larger >= 0 else np.nan


def _principal_variances(padded: Bits, spacing: tuple[float, float, float]) -> npt.NDArray[np.inexact[Any]]:
    """Return the variances of voxel centres along the principal axes, mm^2, ascending."""
    count, sums, products = _coordinate_sums(padded)
    steps = np.array(spacing)
    total = int(count)
    centred = [[total * int(products[a, b]) - int(sums[a]) * int(sums[b]) for b in range(3)] for a in range(3)]
    covariance = np.array(centred, dtype=np.float64) / float(total * total) * np.outer(steps, steps)
    variances: npt.NDArray[np.inexact[Any]] = np.linalg.eigvalsh(covariance)
    if variances[0] < ILL_CONDITIONED * variances[2]:
        variances = _degenerate_variances(padded, steps)
    variances[(variances < 0) & (variances > -1e-10)] = 0
    return np.sort(variances)


def _degenerate_variances(padded: Bits, steps: npt.NDArray[np.float64]) -> npt.NDArray[np.inexact[Any]]:
    """Compute the variances of a region without extent along some axis, in PyRadiomics' order of rounding.

    Rounding may turn two of them into a conjugate pair, of which PyRadiomics goes on to use the real parts.
    """
    centres = np.array(np.nonzero(padded)).T * steps  # each axis contiguous: NumPy then sums pairwise
    centres -= np.mean(centres, axis=0)
    centres /= np.sqrt(len(centres))
    return np.asarray(np.linalg.eigvals(np.dot(centres.T.copy(), centres)))


@kernel
def _coordinate_sums(padded: Bits) -> tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the number of voxels, the sums of their indices (3,) and of products of two indices (3, 3)."""
    planes, rows, columns = padded.shape
    count = 0
    sums = np.zeros(3, np.int64)
    products = np.zeros((3, 3), np.int64)
    for z in range(planes):
        for y in range(rows):
            row = padded[z, y]
            here, first, second = 0, 0, 0
            for x in range(columns):
                here += row[x]
                first += row[x] * x
                second += row[x] * x * x
            count += here
            sums += np.array([z * here, y * here, first])
            products[0, 0] += z * z * here
            products[1, 1] += y * y * here
            products[2, 2] += second
            products[0, 1] += z * y * here
            products[0, 2] += z * first
            products[1, 2] += y * first
    products[1, 0], products[2, 0], products[2, 1] = products[0, 1], products[0, 2], products[1, 2]
    return count, sums, products
