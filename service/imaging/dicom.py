"""Read a DICOM series of single-frame CT, MR or PET images, from many files or one zip.

pydicom parses and decodes; it reads from bytes already in memory, and whatever it says about the content is
neither logged nor repeated, for it may quote patient data.

References:
    DICOM PS3.3 C.7.6.2 (image plane), C.7.6.3 (image pixel), C.11.1 (modality LUT); PS3.5 8.2 (encodings).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydicom import uid

from service.errors import TooLarge, UnreadableImage, UnusableImage
from service.imaging.archive import read_members
from service.imaging.case import Image, Voxels
from service.imaging.dataset import parse, public_name, quietly, read_numbers
from service.imaging.guard import CHUNK, Format, Limits, check_size, sniff
from service.imaging.orientation import reorient
from service.imaging.series import Slice, arrange

MODALITIES: Final = {
    uid.CTImageStorage: "CT",
    uid.MRImageStorage: "MR",
    uid.PositronEmissionTomographyImageStorage: "PT",
}
SLICE_BYTES: Final = 256 * 1024**2


def read_series(paths: Sequence[Path], limits: Limits) -> Image:
    """Read one series, sort it along its normal and put it into canonical axis order.

    The result is kept in the stored type where no rescaling applies; as the smallest of int16 and int32 that
    holds it where slope and intercept are whole numbers, the same in every slice; else as float32 (float64 for
    32-bit pixels).

    Raises:
        TooLarge: more files, bytes or voxels than the limits.
        UnreadableImage: not DICOM, damaged, another kind of object, or an encoding that cannot be decoded.
        UnusableImage: colour, inverted grey scale, a modality LUT table, or a bad orientation.
        IrregularSeries: the slices do not form one regular grid.
    """
    slices = list(_read_slices(paths, limits))
    if not slices:
        raise UnreadableImage("the series holds no file")
    ordered, geometry, notes = arrange(slices)
    notes += _notes(ordered)
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
    )


def _read_slices(paths: Sequence[Path], limits: Limits) -> Iterator[Slice]:
    voxels = decoded_bytes = 0
    for count, content in enumerate(_contents(paths, limits), start=1):
        if count > limits.files:
            raise _too_large(count, limits.files, "files", count)
        dataset = parse(content)
        _check_object(dataset)
        rows, columns, slice_bytes = _check_pixels(dataset)
        voxels += rows * columns
        decoded_bytes += slice_bytes
        for got, limit, unit in (
            (slice_bytes, SLICE_BYTES, "bytes in one slice"),
            (voxels, limits.voxels, "voxels"),
            (decoded_bytes, limits.decoded_bytes, "decoded bytes"),
        ):
            if got > limit:
                raise _too_large(got, limit, unit, count)
        yield _slice(dataset, rows, columns)


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
        kind = sniff(path)
        if kind is Format.ZIP and len(paths) == 1:
            yield from read_members(path, limits)
        elif kind is Format.DICOM:
            yield path.read_bytes()
        else:
            raise UnreadableImage(f"got a {kind.value} file among {len(paths)}; several files must all be DICOM")


def _check_object(dataset: Any) -> None:
    """Refuse everything but single-frame CT, MR and PET images, by name."""
    with quietly("a DICOM file is damaged: its SOP class cannot be read"):
        kind = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
        frames = int(dataset.get("NumberOfFrames") or 1)
        if kind not in MODALITIES:
            raise UnreadableImage(
                f"got a DICOM object of class {public_name(kind)}; accepted are single-frame CT, MR and PET images"
            )
        if frames != 1:
            raise UnreadableImage(f"got a multi-frame DICOM image of {frames} frames; accepted are single-frame ones")
        if "PixelData" not in dataset:
            raise UnreadableImage("a DICOM image has no pixel data")


def _check_pixels(dataset: Any) -> tuple[int, int, int]:
    """Return rows, columns and decoded bytes, checked before anything is decoded."""
    with quietly("a DICOM file is damaged: its image pixel module cannot be read"):
        rows, columns = int(dataset.Rows), int(dataset.Columns)
        allocated, stored, high = int(dataset.BitsAllocated), int(dataset.BitsStored), int(dataset.HighBit)
        samples, grey = int(dataset.SamplesPerPixel), str(dataset.PhotometricInterpretation)
        signed, held = int(dataset.PixelRepresentation), len(dataset.PixelData)
    if samples != 1:
        raise UnusableImage(f"got {samples} samples per pixel (colour), expected one")
    if grey == "MONOCHROME1":
        raise UnusableImage("got an inverted grey scale (MONOCHROME1), expected MONOCHROME2")
    if grey != "MONOCHROME2":
        raise UnusableImage("got colour or a palette, expected the photometric interpretation MONOCHROME2")
    if "ModalityLUTSequence" in dataset:
        raise UnusableImage("pixel values go through a modality LUT table; a slope and an intercept are accepted")
    good_bits = allocated in (8, 16, 32) and 0 < stored <= allocated and high == stored - 1 and signed in (0, 1)
    if not good_bits or rows < 1 or columns < 1:
        raise UnreadableImage(
            f"got {rows} x {columns} pixels with {stored} of {allocated} bits stored, high bit {high}: not a grey image"
        )
    needed = rows * columns * allocated // 8
    if held > 2 * needed + CHUNK:
        raise UnreadableImage(f"a slice holds {held} bytes of pixel data, {rows} x {columns} pixels need {needed}")
    return rows, columns, needed


def _slice(dataset: Any, rows: int, columns: int) -> Slice:
    orientation = read_numbers(dataset, "ImageOrientationPatient", 6)
    spacing = read_numbers(dataset, "PixelSpacing", 2)
    slope = read_numbers(dataset, "RescaleSlope", 1)[0] if "RescaleSlope" in dataset else 1.0
    intercept = read_numbers(dataset, "RescaleIntercept", 1)[0] if "RescaleIntercept" in dataset else 0.0
    if slope == 0:
        raise UnusableImage("RescaleSlope is 0: every pixel would have one value")
    with quietly("a DICOM file is damaged: its identifiers cannot be read"):
        series, frame = str(dataset.SeriesInstanceUID), str(dataset.get("FrameOfReferenceUID") or "")
        modality = MODALITIES[dataset.SOPClassUID]
        lossy = dataset.get("LossyImageCompression") == "01"
        thickness = float(dataset.SliceThickness) if dataset.get("SliceThickness") else None
    return Slice(
        series,
        modality,
        _decode(dataset, rows, columns),
        read_numbers(dataset, "ImagePositionPatient", 3),
        orientation[:3],
        orientation[3:],
        (float(spacing[0]), float(spacing[1])),
        thickness,
        float(slope),
        float(intercept),
        "PixelPaddingValue" in dataset,
        lossy,
        frame,
    )


def _decode(dataset: Any, rows: int, columns: int) -> Voxels:
    syntax = dataset.file_meta.TransferSyntaxUID
    with quietly(f"the pixel data cannot be decoded (transfer syntax {public_name(syntax)})"):
        pixels: Voxels = dataset.pixel_array
    if pixels.shape != (rows, columns) or pixels.dtype.kind not in "iu":
        raise UnreadableImage(f"the pixel data decode to {list(pixels.shape)} pixels, expected {rows} x {columns}")
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _stack(ordered: Sequence[Slice]) -> Voxels:
    """Return the modality's values, (columns, rows, slices), Fortran order."""
    scales = {(one.slope, one.intercept) for one in ordered}
    stored = ordered[0].pixels.dtype
    volume = np.empty((len(ordered), *ordered[0].pixels.shape), _value_type(ordered, scales))
    for plane, one in zip(volume, ordered, strict=True):
        if scales == {(1.0, 0.0)}:
            plane[:] = one.pixels
        elif volume.dtype.kind == "i":
            plane[:] = one.pixels.astype(np.int32 if stored.itemsize < 4 else np.int64) * int(one.slope) + int(
                one.intercept
            )
        else:
            plane[:] = one.pixels * np.float64(one.slope) + one.intercept
    return volume.transpose(2, 1, 0)


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
