"""Canonical axis order: every volume is stored with its axes nearest to Left, Posterior, Superior.

That is the order of an axial DICOM series, and ITK's direction matrix is then nearest to the identity. Only
whole axes are permuted and reversed; no value is computed. So one acquisition stored in any of the 48
orders gives one array, and features that depend on the order of axes (wavelet bands, crops) agree.
"""

from collections.abc import Sequence
from itertools import permutations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.imaging.case import Image, Mask, Voxels
from service.imaging.geometry import Geometry

LPS_IN_RAS: Final = np.diag([-1.0, -1.0, 1.0])
TIE: Final = 1e-6  # orders that fit equally well up to this are decided by the axes' stored order


def reorient(
    voxels: Voxels, geometry: Geometry, toward: NDArray[np.float64] = LPS_IN_RAS
) -> tuple[Voxels, Geometry, str | None]:
    """Permute and reverse array axes so that their directions lie nearest to those of `toward`.

    Args:
        voxels: (I, J, K).
        geometry: its grid.
        toward: (3, 3), unit vectors in RAS+ as columns.

    Returns:
        A view of the voxels, its grid, and a note in plain words (None where nothing changed).
    """
    closeness = toward.T @ geometry.direction  # rows: wanted axes, columns: stored axes
    order = _nearest_order(closeness)
    reverse = [bool(closeness[axis, source] < 0) for axis, source in enumerate(order)]
    if order == (0, 1, 2) and not any(reverse):
        return voxels, geometry, None
    affine = geometry.affine.copy()
    affine[:3, :3] = geometry.affine[:3, order]
    turned = voxels.transpose(order)
    for axis in (axis for axis, reversed_ in enumerate(reverse) if reversed_):
        affine[:3, 3] += (turned.shape[axis] - 1) * affine[:3, axis]
        affine[:3, axis] *= -1
        turned = np.flip(turned, axis)
    result = Geometry((turned.shape[0], turned.shape[1], turned.shape[2]), affine)
    return (
        turned,
        result,
        f"array axes stored as {axis_letters(geometry)} were put into the order {axis_letters(result)}",
    )


def as_stored(image: Image, masks: Sequence[Mask]) -> tuple[Image, Sequence[Mask]]:
    """Return image and masks with their axes in the order of the image's file.

    PyRadiomics reads files as they are stored, and not all that it computes is the same along reversed axes:
    wavelet bands, and the mesh (its area, by some thousandths). This gives its values on the file.
    """
    if image.stored_direction is None:
        return image, masks
    voxels, geometry, _ = reorient(image.voxels, image.geometry, image.stored_direction)
    turned = []
    for mask in masks:
        region, own, _ = reorient(mask.voxels, mask.geometry, image.stored_direction)
        turned.append(Mask(region, own, mask.name))
    return Image(voxels, geometry, image.modality), turned


def axis_letters(geometry: Geometry) -> str:
    """Return the anatomical direction in which each array axis mostly runs, such as "LPS"."""
    letters = []
    for column in geometry.direction.T:
        world = int(np.argmax(np.abs(column)))
        letters.append(("LR", "PA", "IS")[world][int(column[world] > 0)])
    return "".join(letters)


def _nearest_order(closeness: NDArray[np.float64]) -> tuple[int, int, int]:
    best, best_fit = (0, 1, 2), -1.0
    for i, j, k in permutations(range(3)):
        fit = float(abs(closeness[0, i]) + abs(closeness[1, j]) + abs(closeness[2, k]))
        if fit > best_fit + TIE:
            best, best_fit = (i, j, k), fit
    return best
