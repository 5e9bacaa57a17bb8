"""Read the header of a single-file NIfTI-1 or NIfTI-2.

References:
    NIfTI-1 data format, https://nifti.nimh.nih.gov/nifti-1; NIfTI-2, https://nifti.nimh.nih.gov/nifti-2.
"""

import math
from pathlib import Path
from typing import Any, Final

import nibabel
import numpy as np

from service.errors import UnreadableImage, UnusableImage
from service.imaging.geometry import Affine, Geometry
from service.imaging.guard import Limits, read_decoded
from service.imaging.header import Header, check_declared, spatial_shape

# NIfTI `datatype` codes: accepted ones, and those that are no scalar volume.
SCALAR_TYPES: Final = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8",
}  # fmt: skip
OTHER_TYPES: Final = {
    32: "complex", 128: "RGB", 1536: "128-bit float", 1792: "complex", 2048: "complex", 2304: "RGBA",
}  # fmt: skip
UNIT_IN_MM: Final = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # xyzt_units, low three bits
UNIT_NAMES: Final = {0: "unknown", 1: "metre", 2: "millimetre", 3: "micrometre"}
AGREEMENT_MM: Final = 0.01


def read_nifti_header(path: Path, limits: Limits, *, wrapped: bool) -> Header:
    """Read and check a header.

    The sform is the grid where its code is positive, else the qform; a file with neither does not say where
    its voxels lie and is refused. Millimetres are assumed where no unit is given.

    Args:
        path: the file.
        limits: what the declared size is checked against.
        wrapped: the file is gzipped.

    Raises:
        UnreadableImage: a field is impossible or not supported.
        UnusableImage: RGB, complex, real 4D, no orientation, or a bad affine.
        TooLarge: over the limits.
    """
    fields = _parse(path, wrapped)
    shape = spatial_shape(_sizes(fields))
    dtype = _dtype(fields)
    slope, intercept = _slope_intercept(fields)
    check_declared(shape, dtype, limits, rescaled=(slope, intercept) != (1, 0))
    affine, notes = _affine(fields)
    return Header(Geometry(shape, affine), dtype, _offset(fields), wrapped, False, slope, intercept, notes)


def _parse(path: Path, wrapped: bool) -> Any:
    """Return nibabel's header object over the file's first 348 or 540 bytes."""
    with path.open("rb") as file:
        start = b"".join(read_decoded(file, 540, wrapped))
    little = start[:4] in (b"\x5c\x01\x00\x00", b"\x1c\x02\x00\x00")
    first = start[4:8] != b"n+2\x00"
    kind: Any = nibabel.Nifti1Header if first else nibabel.Nifti2Header
    size = 348 if first else 540
    if len(start) < size:
        raise UnreadableImage(f"the file is truncated: {len(start)} bytes, a NIfTI header alone has {size}")
    return kind(start[:size], "<" if little else ">", check=False)


def _sizes(fields: Any) -> list[int]:
    dim = [int(size) for size in fields["dim"]]
    if not 1 <= dim[0] <= 7:
        raise UnreadableImage(f"the NIfTI header declares {dim[0]} dimensions, expected 1 to 7")
    sizes = dim[1 : dim[0] + 1]
    if min(sizes) < 1:
        raise UnreadableImage(f"the header declares dimensions {sizes}; each must be positive", shape=sizes)
    return sizes


def _dtype(fields: Any) -> np.dtype[Any]:
    code, bits = int(fields["datatype"]), int(fields["bitpix"])
    if code in OTHER_TYPES:
        raise UnusableImage(f"got {OTHER_TYPES[code]} voxels, expected one real number per voxel")
    if code not in SCALAR_TYPES:
        raise UnreadableImage(f"NIfTI datatype {code} is not supported")
    dtype: np.dtype[Any] = np.dtype(fields.endianness + SCALAR_TYPES[code])
    if bits != 8 * dtype.itemsize:
        raise UnreadableImage(f"the NIfTI header declares {bits} bits per voxel of datatype {code}, which has others")
    return dtype


def _offset(fields: Any) -> int:
    offset, least = float(fields["vox_offset"]), int(fields.single_vox_offset)
    if not (math.isfinite(offset) and least <= offset < 2**31 and offset == int(offset)):
        raise UnreadableImage(
            f"the NIfTI header places the voxels at an impossible offset; at least {least} is expected"
        )
    return int(offset)


def _slope_intercept(fields: Any) -> tuple[float, float]:
    """Return (scl_slope, scl_inter); a slope of 0, or one that is not a number, means no scaling."""
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise UnusableImage("the NIfTI header's scaling (scl_slope, scl_inter) is not finite")
    return slope, intercept


def _affine(fields: Any) -> tuple[Affine, tuple[str, ...]]:
    sform = fields.get_sform() if int(fields["sform_code"]) > 0 else None
    qform = _qform(fields) if int(fields["qform_code"]) > 0 else None
    affine = sform if sform is not None else qform
    if affine is None:
        raise UnusableImage(
            "the NIfTI header has neither an sform nor a qform code, so it does not say where its voxels lie; "
            "set one of them"
        )
    notes = []
    if sform is not None and qform is not None and not np.allclose(sform, qform, rtol=0, atol=AGREEMENT_MM):
        notes.append("the NIfTI sform and qform differ; the sform was used")
    scaled, note = _in_millimetres(np.array(affine, dtype=np.float64), int(fields["xyzt_units"]) & 7)
    return scaled, (*notes, *note)


def _qform(fields: Any) -> Any:
    try:
        return fields.get_qform()
    except (ValueError, nibabel.spatialimages.HeaderDataError):
        raise UnusableImage("the NIfTI qform is no rotation") from None


def _in_millimetres(affine: Affine, unit: int) -> tuple[Affine, tuple[str, ...]]:
    if unit not in UNIT_IN_MM:
        raise UnreadableImage(f"the NIfTI header's spatial unit has code {unit}, which is no length")
    affine[:3] *= UNIT_IN_MM[unit]
    if unit == 2:
        return affine, ()
    if unit == 0:
        return affine, ("the NIfTI header gives no unit of length; millimetres were assumed",)
    return affine, (f"lengths were converted from {UNIT_NAMES[unit]} to millimetre",)
