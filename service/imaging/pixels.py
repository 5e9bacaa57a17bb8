"""The pixel data of one DICOM image: checked before they are decoded, decoded, and checked again.

Decoders: none (uncompressed, little endian), pydicom itself (big endian, RLE), pylibjpeg-openjpeg (JPEG 2000), pyjpegls
(JPEG-LS), GDCM (JPEG lossless, baseline and extended). What an encoded picture says of its size must be what the data
set says, before a decoder allocates it.

References:
    DICOM PS3.3 C.7.6.3 (image pixel); PS3.5 8.2 and A.4 (encodings). ITU-T T.81 B.2.2, T.87 C.2.2, T.800 A.5.1
    (where an encoded picture states its size).
"""

import logging
import struct
from itertools import islice
from typing import Any, Final

import gdcm
import numpy as np
from pydicom import uid
from pydicom.encaps import generate_frames

from service.errors import UnreadableImage, UnusableImage
from service.imaging.case import Voxels
from service.imaging.dataset import public_name, quietly
from service.imaging.guard import CHUNK

for _decoder in ("pylibjpeg", "openjpeg"):  # as pydicom's, their messages may quote values
    logging.getLogger(_decoder).setLevel(logging.CRITICAL + 1)
gdcm.Trace.WarningOff()
gdcm.Trace.ErrorOff()

JPEG: Final = (
    uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1, uid.JPEGLSLossless,
    uid.JPEGLSNearLossless,
)  # fmt: skip
JPEG_2000: Final = (uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)
START_OF_FRAME: Final = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
NATIVE: Final = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian)  # uncompressed, in this machine's order
SIZE_OF_IMAGE: Final = b"\xff\x4f\xff\x51"  # start of a JPEG 2000 codestream, then its size
HEADER_BYTES: Final = 65536  # within which a picture states its size


def check_pixels(dataset: Any, frames: int) -> tuple[int, int, int]:
    """Return rows, columns and decoded bytes of a frame, checked before anything is decoded.

    Raises:
        UnusableImage: colour, inverted grey scale, or a modality LUT table.
        UnreadableImage: no pixel data, or none that fit what is declared.
    """
    with quietly("a DICOM file is damaged: its image pixel module cannot be read"):
        if "PixelData" not in dataset:
            raise UnreadableImage("a DICOM image has no pixel data")
        rows, columns = int(dataset.Rows), int(dataset.Columns)
        allocated, stored, high = int(dataset.BitsAllocated), int(dataset.BitsStored), int(dataset.HighBit)
        signed, held = int(dataset.PixelRepresentation), len(dataset.PixelData)
    _check_grey(dataset)
    good_bits = allocated in (8, 16, 32) and 0 < stored <= allocated and high == stored - 1 and signed in (0, 1)
    if not good_bits or rows < 1 or columns < 1:
        raise UnreadableImage(
            f"got {rows} x {columns} pixels with {stored} of {allocated} bits stored, high bit {high}: not a grey image"
        )
    needed = rows * columns * allocated // 8
    if held > 2 * needed * frames + CHUNK:
        raise UnreadableImage(
            f"an image holds {held} bytes of pixel data, {frames} x {rows} x {columns} pixels need {needed * frames}"
        )
    return rows, columns, needed


def decode(dataset: Any, shape: tuple[int, int, int]) -> Voxels:
    """Return the stored values, (frames, rows, columns), in native byte order.

    Raises:
        UnreadableImage: damaged, or of a transfer syntax that cannot be decoded, which is named.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    with quietly(f"the pixel data cannot be decoded (transfer syntax {public_name(syntax)})"):
        check_encoded_size(dataset, shape)
        pixels: Voxels = _view(dataset, shape) if syntax in NATIVE else dataset.pixel_array
    if pixels.dtype.kind not in "iu" or pixels.shape not in (shape, shape[1:] if shape[0] == 1 else shape):
        raise UnreadableImage(f"the pixel data decode to {list(pixels.shape)} pixels, expected {list(shape)}")
    return pixels.reshape(shape).astype(pixels.dtype.newbyteorder("="), copy=False)


def _view(dataset: Any, shape: tuple[int, int, int]) -> Voxels:
    """Return uncompressed pixels where they lie, with the unused bits corrected if any are set."""
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    signed = bool(dataset.PixelRepresentation)
    dtype = np.dtype(f"<{'i' if signed else 'u'}{allocated // 8}")
    pixels = np.frombuffer(dataset.PixelData, dtype, int(np.prod(shape)))
    unused = allocated - stored
    if unused:
        low, high = (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1) if signed else (0, 2**stored - 1)
        if int(pixels.min()) < low or int(pixels.max()) > high:
            pixels = (pixels << unused) >> unused
    return pixels.reshape(shape)


def check_encoded_size(dataset: Any, shape: tuple[int, int, int]) -> None:
    """Refuse frames that are encoded in another size than the data set states; `shape` is (frames, rows, columns).

    Raises:
        UnreadableImage: the sizes differ.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in JPEG and syntax not in JPEG_2000:
        return
    read_size = _jpeg_2000_size if syntax in JPEG_2000 else _jpeg_size
    for frame in islice(generate_frames(dataset.PixelData, number_of_frames=shape[0]), shape[0]):
        size = read_size(frame[:HEADER_BYTES])
        if size != shape[1:]:
            raise UnreadableImage(
                f"a frame is encoded as {size[0]} x {size[1]} pixels, its data set declares {shape[1]} x {shape[2]}"
            )


def _check_grey(dataset: Any) -> None:
    with quietly("a DICOM file is damaged: its image pixel module cannot be read"):
        samples, grey = int(dataset.SamplesPerPixel), str(dataset.PhotometricInterpretation)
    if samples != 1:
        raise UnusableImage(f"got {samples} samples per pixel (colour), expected one")
    if grey == "MONOCHROME1":
        raise UnusableImage("got an inverted grey scale (MONOCHROME1), expected MONOCHROME2")
    if grey != "MONOCHROME2":
        raise UnusableImage("got colour or a palette, expected the photometric interpretation MONOCHROME2")
    if "ModalityLUTSequence" in dataset:
        raise UnusableImage("pixel values go through a modality LUT table; a slope and an intercept are accepted")


def _jpeg_2000_size(frame: bytes) -> tuple[int, int]:
    at = frame.index(SIZE_OF_IMAGE)
    right, bottom, left, top = struct.unpack_from(">4I", frame, at + 8)
    return bottom - top, right - left


def _jpeg_size(frame: bytes) -> tuple[int, int]:
    at = 2
    while True:
        mark, kind, length = struct.unpack_from(">BBH", frame, at)
        if mark != 0xFF:
            raise ValueError
        if kind in START_OF_FRAME:
            rows, columns = struct.unpack_from(">HH", frame, at + 5)
            return rows, columns
        at += 1 if kind == 0xFF else 2 + length
