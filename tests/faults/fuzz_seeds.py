"""Good cases in every form that a hospital sends: what the fuzz corpus is made from, all drawn here."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from service.imaging.case import Image, Mask
from tests.build import (
    build_geometry,
    build_image,
    build_mask,
    write_dicom_series,
    write_mha,
    write_nifti,
    write_nrrd,
    zip_files,
)
from tests.imaging.segments import write_seg
from tests.imaging.structures import FRAME, circle, on_slice, write_rtstruct
from tests.imaging.test_multiframe import compress, write_enhanced

Aim = Literal["image", "mask"]
SMALL = build_geometry((20, 18, 8))
WIDE = build_geometry((66, 64, 3))  # OpenJPEG's encoder takes no smaller pictures
RADIUS_MM = 5.0


@dataclass(frozen=True)
class Seed:
    """A good case as bytes.

    Attributes:
        form: a row of the tables.
        kind: whose mutations fit: nifti, nrrd, metaimage, dicom, deflated or zip.
        image: one file, or the files of a series.
        mask: one file.
        aim: which of both is mutated.
        gzipped: the aim is a gzip stream; mutations may be made inside.
    """

    form: str
    kind: str
    image: tuple[bytes, ...]
    mask: bytes
    aim: Aim
    gzipped: bool = False


def build_seeds(folder: Path) -> list[Seed]:
    """Write every good case below `folder` and return them."""
    return [*_volumes(folder), *_series(folder), *_dicom_masks(folder)]


def _volumes(folder: Path) -> Iterator[Seed]:
    image, mask = build_image(SMALL), build_mask(SMALL, RADIUS_MM)
    plain_image, plain_mask = (write_nifti(folder / "plain", volume).read_bytes() for volume in (image, mask))
    writers: tuple[tuple[str, str, Callable[[Path, Image | Mask], Path], bool], ...] = (
        ("nifti", "nifti", write_nifti, False),
        ("nifti-2", "nifti", lambda path, volume: write_nifti(path, volume, version=2), False),
        ("nifti-gzip", "nifti", lambda path, volume: write_nifti(path, volume, compressed=True), True),
        ("nrrd", "nrrd", write_nrrd, False),
        ("nrrd-gzip", "nrrd", lambda path, volume: write_nrrd(path, volume, compressed=True), False),
        ("mha", "metaimage", write_mha, False),
        ("mha-zlib", "metaimage", lambda path, volume: write_mha(path, volume, compressed=True), False),
    )
    for form, kind, write, gzipped in writers:
        yield Seed(form, kind, (write(folder / form, image).read_bytes(),), plain_mask, "image", gzipped)
        yield Seed(f"{form} mask", kind, (plain_image,), write(folder / form, mask).read_bytes(), "mask", gzipped)


def _series(folder: Path) -> Iterator[Seed]:
    """Every image in DICOM, with contours as its mask."""
    contours = _contours(folder / "contours", SMALL)
    small = _write_series(folder / "small", build_image(SMALL))
    yield Seed("dicom", "dicom", _contents(small), contours, "image")
    yield Seed("dicom-deflated", "deflated", tuple(map(deflate, _contents(small))), contours, "image")
    yield Seed("dicom zip", "zip", (zip_files(folder / "zip", small).read_bytes(),), contours, "image")
    multiframe = write_enhanced(folder / "multi", build_image(SMALL), frame=FRAME).read_bytes()
    yield Seed("dicom-multiframe", "dicom", (multiframe,), contours, "image")
    image = build_image(WIDE)
    shifted = Image((image.voxels - image.voxels.min()).astype(np.uint16), WIDE)
    wide = _contours(folder / "wide-contours", WIDE)
    for name, syntax in (
        ("rle", RLELossless),
        ("jpeg-2000", JPEG2000Lossless),
        ("jpeg-ls", JPEGLSLossless),
        ("jpeg", JPEGLosslessSV1),
    ):
        paths = _write_series(folder / name, shifted)
        for path in paths:
            compress(path, syntax)
        yield Seed(f"dicom-{name}", "dicom", _contents(paths), wide, "image")


def _dicom_masks(folder: Path) -> Iterator[Seed]:
    series = _write_series(folder / "source", build_image(SMALL))
    image = _contents(series)
    balls = np.stack([build_mask(SMALL, radius).voxels for radius in (RADIUS_MM, 3.0)], axis=3).astype(np.uint8)
    segments: tuple[tuple[str, Any, dict[str, Any]], ...] = (
        ("binary", balls, {"kind": "BINARY"}),
        ("fractional", balls.astype(np.float32), {"kind": "FRACTIONAL"}),
        ("label map", balls.sum(axis=3).astype(np.uint8), {"kind": "LABELMAP"}),
        ("rle", balls.astype(np.float32), {"kind": "FRACTIONAL", "transfer_syntax_uid": RLELossless}),
    )
    for name, voxels, more in segments:
        path = write_seg(folder / f"seg-{name}", series, voxels, ("a", "b"), **more)
        yield Seed(f"seg {name}", "dicom", image, path.read_bytes(), "mask")
    yield Seed("rtstruct", "dicom", image, _contours(folder / "rt", SMALL), "mask")
    explicit = _contours(folder / "rt-explicit", SMALL, syntax=ExplicitVRLittleEndian)
    yield Seed("rtstruct explicit", "dicom", image, explicit, "mask")


def _write_series(folder: Path, image: Image) -> list[Path]:
    def change(dataset: Any, _index: int) -> None:
        dataset.FrameOfReferenceUID = FRAME

    return write_dicom_series(folder, image, change=change)


def _contours(path: Path, grid: Any, **more: Any) -> bytes:
    middle = ((grid.shape[0] - 1) / 2, (grid.shape[1] - 1) / 2)
    slices = range(1, grid.shape[2] - 1) if grid.shape[2] > 3 else range(grid.shape[2])
    rois = {
        name: [on_slice(grid, k, circle(middle, radius, 24)) for k in slices] for name, radius in (("a", 5), ("b", 3))
    }
    return write_rtstruct(path, rois, **more).read_bytes()


def _contents(paths: list[Path]) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in paths)


def deflate(content: bytes) -> bytes:
    """Return a DICOM file with its data set deflated."""
    dataset = pydicom.dcmread(BytesIO(content))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    written = BytesIO()
    dataset.save_as(written)
    return written.getvalue()
