"""Whether the slices of a series form one regular grid, and which.

References:
    DICOM PS3.3 C.7.6.2.1.1, image position and orientation (equation C.7.6.2.1-1).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.errors import IrregularSeries, UnusableImage
from service.imaging.case import Voxels
from service.imaging.geometry import Geometry
from service.imaging.itk_bridge import affine_from_lps
from service.imaging.references import InstanceReference
from service.imaging.suv import Uptake

GAP_RELATIVE: Final = 0.01  # a distance between slices may differ from the usual one by this part of it,
GAP_MM: Final = 0.01  # or by this much, whichever is more
TILT: Final = 1e-3  # sideways drift per mm along the normal: 0.06 degrees
COSINE_TOLERANCE: Final = 1e-3
LISTED: Final = 20


@dataclass(frozen=True, eq=False)
class Slice:
    """One single-frame image of a series.

    Attributes:
        series: what tells series apart.
        modality: CT, MR or PT.
        pixels: (rows, columns), stored values.
        position_mm: centre of the first pixel, LPS+.
        rows_cosines: unit vector along a row (growing column index), LPS+.
        columns_cosines: unit vector along a column (growing row index), LPS+.
        pixel_spacing_mm: between rows, between columns.
        thickness_mm: slice thickness where given.
        slope: pixel values times this, plus `intercept`, are the modality's values.
        intercept: see `slope`.
        padded: the file names a padding value.
        lossy: the pixels went through a lossy compression.
        frame_of_reference: its UID; empty where the file gives none.
        source: who the file is, where it says.
        uptake: how a PET slice's values become SUV, where that was asked for.
    """

    series: str
    modality: str
    pixels: Voxels
    position_mm: NDArray[np.float64]
    rows_cosines: NDArray[np.float64]
    columns_cosines: NDArray[np.float64]
    pixel_spacing_mm: tuple[float, float]
    thickness_mm: float | None
    slope: float
    intercept: float
    padded: bool
    lossy: bool
    frame_of_reference: str
    source: InstanceReference | None = None
    uptake: Uptake | None = None


def arrange(slices: Sequence[Slice]) -> tuple[list[Slice], Geometry, tuple[str, ...]]:
    """Sort slices along their normal and return them with their grid and notes.

    The grid's array axes are (columns, rows, slices).

    Raises:
        IrregularSeries: several series; mixed orientations, sizes, pixel spacings or types; duplicate slices;
            gantry tilt; missing slices or uneven spacing; one slice of unknown thickness.
        UnusableImage: the orientation is no pair of orthogonal unit vectors.
    """
    _check_uniform(slices)
    first = slices[0]
    normal = np.cross(first.rows_cosines, first.columns_cosines)
    ordered = sorted(slices, key=lambda one: float(one.position_mm @ normal))
    positions = np.array([one.position_mm for one in ordered])
    along = positions @ normal
    spacing, notes = _slice_spacing(ordered, positions, along, normal)
    affine = affine_from_lps(
        np.stack([first.rows_cosines, first.columns_cosines, normal], axis=1),
        np.array([first.pixel_spacing_mm[1], first.pixel_spacing_mm[0], spacing]),
        positions[0],
    )
    rows, columns = first.pixels.shape
    return ordered, Geometry((columns, rows, len(ordered)), affine), notes


def _slice_spacing(
    ordered: Sequence[Slice], positions: NDArray[Any], along: NDArray[Any], normal: NDArray[Any]
) -> tuple[float, tuple[str, ...]]:
    if len(ordered) == 1:
        thickness = ordered[0].thickness_mm
        if not thickness or not thickness > 0:
            raise IrregularSeries("the series has one slice and no slice thickness", slices=1)
        return thickness, ("the series has one slice; its thickness was taken as the slice spacing",)
    gaps = np.diff(along)
    _check_duplicates(along, gaps)
    _check_tilt(positions, along, normal)
    _check_even(along, gaps)
    return float(along[-1] - along[0]) / (len(ordered) - 1), ()


def _check_uniform(slices: Sequence[Slice]) -> None:
    series = {one.series for one in slices}
    if len(series) > 1:
        raise IrregularSeries(
            f"the {len(slices)} files belong to {len(series)} series, expected one", series=len(series)
        )
    _check_orientation(slices)
    _check_same(slices, "matrix sizes (rows x columns)", lambda one: "{} x {}".format(*one.pixels.shape))
    _check_same(slices, "pixel spacings (mm)", lambda one: "{:.5g} x {:.5g}".format(*one.pixel_spacing_mm))
    _check_same(slices, "pixel types", lambda one: one.pixels.dtype.name)
    _check_same(slices, "modalities", lambda one: one.modality)


def _check_same(slices: Sequence[Slice], what: str, describe: Callable[[Slice], str]) -> None:
    seen = sorted({describe(one) for one in slices})
    if len(seen) > 1:
        listed = ", ".join(seen[:LISTED])
        raise IrregularSeries(f"the series mixes {len(seen)} {what}: {listed}", seen=seen[:LISTED])


def _check_orientation(slices: Sequence[Slice]) -> None:
    first = slices[0]
    pair = np.stack([first.rows_cosines, first.columns_cosines])
    if not np.allclose(pair @ pair.T, np.eye(2), rtol=0, atol=COSINE_TOLERANCE):
        raise UnusableImage("ImageOrientationPatient is no pair of orthogonal unit vectors")
    other = [
        one
        for one in slices
        if not np.allclose([one.rows_cosines, one.columns_cosines], pair, rtol=0, atol=COSINE_TOLERANCE)
    ]
    if other:
        at = [[round(float(x), 3) for x in one.position_mm] for one in other[:LISTED]]
        raise IrregularSeries(
            f"{len(other)} of {len(slices)} slices are oriented otherwise than the first, such as the one at LPS "
            f"{at[0]} mm (a localizer?)",
            positions_lps_mm=at,
        )


def _check_duplicates(along: NDArray[Any], gaps: NDArray[Any]) -> None:
    doubled = along[1:][gaps < GAP_MM]
    if doubled.size:
        raise IrregularSeries(
            f"{doubled.size} of {along.size} slices lie where another one lies, at {_listed(doubled)} mm along the "
            "normal",
            positions_mm=_numbers(doubled),
        )


def _check_tilt(positions: NDArray[Any], along: NDArray[Any], normal: NDArray[Any]) -> None:
    distance = along - along[0]
    aside = np.linalg.norm(positions - positions[0] - distance[:, None] * normal, axis=1)
    if np.any(aside > np.maximum(GAP_MM, TILT * distance)):
        degrees = float(np.degrees(np.arctan2(aside[-1], distance[-1])))
        raise IrregularSeries(
            f"the slices are not stacked along their normal: from {along[0]:.3f} to {along[-1]:.3f} mm they drift "
            f"{aside.max():.3f} mm sideways, {degrees:.2f} degrees (gantry tilt?)",
            positions_mm=_numbers(along),
            drift_mm=_numbers(aside),
        )


def _check_even(along: NDArray[Any], gaps: NDArray[Any]) -> None:
    usual = float(np.sort(gaps)[(gaps.size - 1) // 2])
    tolerance = max(GAP_RELATIVE * usual, GAP_MM)
    odd = np.flatnonzero(np.abs(gaps - usual) > tolerance)
    if odd.size:
        where = "; ".join(f"{gaps[at]:.4g} mm after {along[at]:.3f} mm" for at in odd[:5])
        raise IrregularSeries(
            f"slices are missing or unevenly spaced: usually {usual:.4g} mm apart (tolerance {tolerance:.2g} mm), but "
            f"{where}{' ...' if odd.size > 5 else ''}",
            usual_mm=round(usual, 4),
            positions_mm=_numbers(along[odd]),
            gaps_mm=_numbers(gaps[odd]),
        )


def _numbers(values: NDArray[Any]) -> list[float]:
    return [round(float(value), 3) for value in values[:LISTED]]


def _listed(values: NDArray[Any]) -> str:
    return ", ".join(f"{value:.3f}" for value in values[:5]) + (" ..." if values.size > 5 else "")
