"""Read a DICOM series of CT, MR or PET images, single-frame or enhanced multi-frame, from many files or one zip.

pydicom parses and decodes; it reads from bytes already in memory, and whatever it says about the content is
neither logged nor repeated, for it may quote patient data.

References:
    DICOM PS3.3 C.7.6.2 (image plane), C.7.6.3 (image pixel), C.11.1 (modality LUT); PS3.5 8.2 (encodings).
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from service.errors import TooLarge, UnreadableImage
from service.imaging.archive import read_members
from service.imaging.case import Image, Voxels
from service.imaging.dataset import parse, silence
from service.imaging.frames import count_frames, read_frames
from service.imaging.guard import GZIP, SNIFF_BYTES, Format, Limits, check_size, recognise, sniff
from service.imaging.orientation import reorient
from service.imaging.pixels import check_pixels, decode
from service.imaging.references import join_instances
from service.imaging.series import Slice, arrange
from service.imaging.suv import Suv, compute_factors, read_uptake

SLICE_BYTES: Final = 256 * 1024**2  # of one frame


def read_series(paths: Sequence[Path], limits: Limits, suv: Suv | None = None) -> Image:
    """Read one series, sort it along its normal and put it into canonical axis order.

    The result is kept in the stored type where no rescaling applies; as the smallest of int16 and int32 that
    holds it where slope and intercept are whole numbers, the same in every slice; else as float32 (float64 for
    32-bit pixels).

    Args:
        paths: the files, in any order; or one zip of them, or one multi-frame file.
        limits: on files, bytes and voxels.
        suv: make SUV of the values of a PET series; others stay as they are.

    Raises:
        TooLarge: more files, bytes or voxels than the limits.
        UnreadableImage: not DICOM, damaged, another kind of object, or an encoding that cannot be decoded.
        UnusableImage: colour, inverted grey scale, a modality LUT table, or a bad orientation.
        IrregularSeries: the slices do not form one regular grid.
        SuvUnknown: see `suv`.
    """
    with silence():
        slices = list(_read_slices(paths, limits, suv))
    if not slices:
        raise UnreadableImage("the series holds no file")
    ordered, geometry, notes = arrange(slices)
    ordered, remarks = _to_suv(ordered)
    notes += (*_notes(ordered), *remarks)
    voxels = _stack(ordered)
    check_size(geometry.shape, voxels.dtype.itemsize, limits)
    stored_direction = geometry.direction
    voxels, geometry, note = reorient(voxels, geometry)
    return Image(
        voxels,
        geometry,
        ordered[0].modality,
        (*notes, *([note] if note else [])),
        stored_direction if note else None,
        _frame_of_reference(ordered),
        join_instances(one.source for one in ordered),
    )


def _read_slices(paths: Sequence[Path], limits: Limits, suv: Suv | None) -> Iterator[Slice]:
    voxels = decoded_bytes = 0
    for count, content in enumerate(_contents(paths, limits), start=1):
        if count > limits.files:
            raise _too_large(count, limits.files, "files", count)
        dataset = parse(content, limits)
        frames = count_frames(dataset)
        rows, columns, frame_bytes = check_pixels(dataset, frames)
        voxels += rows * columns * frames
        decoded_bytes += frame_bytes * frames
        for got, limit, unit in (
            (frame_bytes, SLICE_BYTES, "bytes in one slice"),
            (voxels, limits.voxels, "voxels"),
            (decoded_bytes, limits.decoded_bytes, "decoded bytes"),
        ):
            if got > limit:
                raise _too_large(got, limit, unit, count)
        for one in read_frames(dataset, decode(dataset, (frames, rows, columns))):
            yield replace(one, uptake=read_uptake(dataset)) if suv and one.modality == "PT" else one


def _to_suv(ordered: list[Slice]) -> tuple[list[Slice], tuple[str, ...]]:
    """Return the slices with rescaling that gives SUV, where that was asked for, and a note."""
    uptakes = [one.uptake for one in ordered if one.uptake is not None]
    if not uptakes:
        return ordered, ()
    scaled = [
        replace(one, slope=one.slope * factor, intercept=one.intercept * factor)
        for one, factor in zip(ordered, compute_factors(uptakes), strict=True)
    ]
    bases = " or ".join(dict.fromkeys(one.basis for one in uptakes))
    return scaled, (f"values were converted to SUV by body weight ({bases})",)


def _too_large(got: int, limit: int, unit: str, count: int) -> TooLarge:
    return TooLarge(
        f"after {count} files of the series: {got} {unit}, at most {limit} are accepted",
        got=got,
        limit=limit,
        unit=unit,
    )


def _contents(paths: Sequence[Path], limits: Limits) -> Iterator[bytes]:
    """Yield the bytes of every file of the series."""
    if len(paths) > limits.files:
        raise _too_large(len(paths), limits.files, "files", len(paths))
    for path in paths:
        with path.open("rb") as file:
            start = file.read(SNIFF_BYTES)
            kind = sniff(path) if start[:2] == GZIP else recognise(start)
            file.seek(0)
            content = file.read() if kind is Format.DICOM else b""
        if kind is Format.ZIP and len(paths) == 1:
            yield from read_members(path, limits)
        elif kind is Format.DICOM:
            yield content
        else:
            raise UnreadableImage(f"got a {kind.value} file among {len(paths)}; several files must all be DICOM")


def _stack(ordered: Sequence[Slice]) -> Voxels:
    """Return the modality's values, (columns, rows, slices), Fortran order."""
    scales = {(one.slope, one.intercept) for one in ordered}
    volume = np.empty((len(ordered), *ordered[0].pixels.shape), _value_type(ordered, scales))
    for plane, one in zip(volume, ordered, strict=True):
        if scales == {(1.0, 0.0)}:
            plane[:] = one.pixels
        elif volume.dtype.kind == "i":
            _rescale_whole(one, plane)
        else:
            plane[:] = one.pixels * np.float64(one.slope) + one.intercept
    return volume.transpose(2, 1, 0)


def _rescale_whole(one: Slice, plane: Voxels) -> None:
    """Rescale into an integer plane that is known to hold the results: arithmetic modulo 2^bits is exact then."""
    modulus, unsigned = 2 ** (8 * plane.itemsize), np.dtype(f"u{plane.itemsize}")
    stored = one.pixels if one.pixels.itemsize == plane.itemsize else one.pixels.astype(plane.dtype)
    result = plane.view(unsigned)
    if one.slope == 1:
        np.add(stored.view(unsigned), unsigned.type(int(one.intercept) % modulus), out=result)
    else:
        np.multiply(stored.view(unsigned), unsigned.type(int(one.slope) % modulus), out=result)
        result += unsigned.type(int(one.intercept) % modulus)


def _value_type(ordered: Sequence[Slice], scales: set[tuple[float, float]]) -> np.dtype[Any]:
    stored = ordered[0].pixels.dtype
    if scales == {(1.0, 0.0)}:
        return stored
    slope, intercept = ordered[0].slope, ordered[0].intercept
    if len(scales) == 1 and slope.is_integer() and intercept.is_integer():
        ends = [float(end(one.pixels)) * slope + intercept for one in ordered for end in (np.min, np.max)]
        for whole in (np.int16, np.int32):
            if np.iinfo(whole).min <= min(ends) and max(ends) <= np.iinfo(whole).max:
                return np.dtype(whole)
    return np.dtype(np.float32 if stored.itemsize <= 2 else np.float64)


def _frame_of_reference(ordered: Sequence[Slice]) -> str | None:
    frames = {one.frame_of_reference for one in ordered}
    return (frames.pop() or None) if len(frames) == 1 else None


def _notes(ordered: Sequence[Slice]) -> tuple[str, ...]:
    notes = []
    if any(one.padded for one in ordered):
        notes.append("the series names a pixel padding value; padded pixels were left as they are")
    if any(one.lossy for one in ordered):
        notes.append("the pixels went through a lossy compression")
    if len({(one.slope, one.intercept) for one in ordered}) > 1:
        notes.append("rescale slope and intercept differ between slices; each slice was rescaled with its own")
    return tuple(notes)
