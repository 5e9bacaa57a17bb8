"""Read one volume from one file: NIfTI, NRRD or MetaImage.

A small reader of our own stands between the file and the array: header fields are taken by the format's
module, sizes are checked, and the voxels are decoded into an array made for them. No library that would
allocate, follow file names or print header text sees the file.
"""

from pathlib import Path
from typing import Any

import numpy as np

from service.errors import UnreadableImage, UnusableImage
from service.imaging.case import Image, Voxels
from service.imaging.guard import Format, Limits, read_array, sniff
from service.imaging.header import Header
from service.imaging.labels import LabelMap, to_labels
from service.imaging.metaimage import read_metaimage_header
from service.imaging.nifti import read_nifti_header
from service.imaging.nrrd import read_nrrd_header
from service.imaging.orientation import reorient


def read_volume(path: Path, limits: Limits) -> Image:
    """Read a volume and put it into canonical axis order.

    Raises:
        UnreadableImage: not an accepted volume format, truncated, or unsupported inside.
        UnusableImage: NaN or infinite voxels, RGB, 4D, no orientation, or a bad affine.
        TooLarge: over the limits.
    """
    header = read_header(path, limits)
    stored = read_array(
        path, header.offset, int(np.prod(header.geometry.shape)), header.dtype, header.wrapped, header.packed
    )
    voxels = _kept(stored.reshape(header.geometry.shape, order="F"), header)
    voxels, geometry, note = reorient(voxels, header.geometry)
    notes = [*header.notes, *([note] if note else [])]
    stored_direction = header.geometry.direction if note else None
    if header.rescaled:
        notes.append(f"stored numbers were multiplied by {header.slope:g} and {header.intercept:g} was added")
    return Image(voxels, geometry, None, tuple(notes), stored_direction)


def read_labels(path: Path, limits: Limits) -> LabelMap:
    """Read a label image and put it into canonical axis order.

    Raises:
        UnreadableImage: as `read_volume`; a DICOM object or a zip.
        UnusableImage: as `read_volume`, or voxels that are not whole numbers.
        TooLarge: over the limits.
    """
    return to_labels(read_volume(path, limits))


def read_header(path: Path, limits: Limits) -> Header:
    """Read the header of a volume file and check its size against the limits."""
    kind = sniff(path)
    with np.errstate(all="ignore"):  # a forged number that overflows becomes infinite, and Geometry refuses it
        if kind in (Format.NIFTI, Format.NIFTI_GZIP):
            return read_nifti_header(path, limits, wrapped=kind is Format.NIFTI_GZIP)
        if kind is Format.NRRD:
            return read_nrrd_header(path, limits)
        if kind is Format.METAIMAGE:
            return read_metaimage_header(path, limits)
    raise UnreadableImage(f"got a {kind.value} file where one volume file (NIfTI, NRRD or .mha) is expected")


def _kept(stored: Voxels, header: Header) -> Voxels:
    """Convert stored numbers to the type they are kept in, plane by plane where that needs arithmetic."""
    dtype = header.kept_dtype
    if header.rescaled:
        return _rescaled(stored, header, dtype)
    if dtype != stored.dtype:
        return _narrowed(stored, dtype)
    return stored


def _rescaled(stored: Voxels, header: Header, dtype: np.dtype[Any]) -> Voxels:
    values = np.empty(stored.shape, dtype, order="F")
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows becomes infinite and is refused as such
        for k in range(stored.shape[2]):
            values[:, :, k] = stored[:, :, k].astype(np.float64) * header.slope + header.intercept
    return values


def _narrowed(stored: Voxels, dtype: np.dtype[Any]) -> Voxels:
    """Keep 64-bit integers in 32 bits, where all of them fit."""
    span, low, high = np.iinfo(dtype), int(stored.min()), int(stored.max())
    if low < span.min or high > span.max:
        raise UnusableImage(
            f"64-bit voxels from {low} to {high} do not fit 32 bits; send them in a smaller type", low=low, high=high
        )
    return stored.astype(dtype)
