"""Small volumes with known truth, and writers for every format the service reads.

Files are written under whatever name the caller gives, suffix or not: the service never looks at names.
"""

import gzip
import io
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK
from numpy.typing import ArrayLike, NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from service.imaging.case import Case, Image, Mask
from service.imaging.geometry import Geometry
from service.imaging.itk_bridge import affine_from_lps, mask_to_itk, to_itk

SHAPE = (22, 18, 14)
SPACING_MM = (0.75, 0.8, 2.5)
ORIGIN_LPS_MM = (-70.5, -120.25, 33.0)


def build_geometry(
    shape: tuple[int, int, int] = SHAPE,
    spacing_mm: Sequence[float] = SPACING_MM,
    origin_lps_mm: Sequence[float] = ORIGIN_LPS_MM,
    direction_lps: ArrayLike = ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
) -> Geometry:
    """A grid in canonical order (L, P, S) unless `direction_lps` (a column per axis) says otherwise."""
    affine = affine_from_lps(np.asarray(direction_lps, float), np.asarray(spacing_mm), np.asarray(origin_lps_mm))
    return Geometry(shape, affine)


def rotation(angles: Sequence[float]) -> NDArray[np.float64]:
    """A rotation matrix from one angle (radians) about each axis."""
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        one, two = [a for a in range(3) if a != axis]
        turn[one, one] = turn[two, two] = np.cos(angle)
        turn[one, two], turn[two, one] = -np.sin(angle), np.sin(angle)
        result = result @ turn
    return result


def build_image(geometry: Geometry | None = None, dtype: str = "int16", seed: int = 0) -> Image:
    """A CT-like volume without any symmetry: a ramp along each axis and noise, in HU."""
    geometry = geometry or build_geometry()
    i, j, k = np.indices(geometry.shape)
    noise = np.random.default_rng(seed).normal(0, 40, geometry.shape)
    voxels = -400 + 9 * i - 5 * j + 13 * k + noise
    if np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        voxels = np.clip(np.rint(voxels), info.min, info.max)
    return Image(voxels.astype(dtype), geometry)


def build_mask(
    geometry: Geometry | None = None,
    radius_mm: float = 5.0,
    centre_mm: ArrayLike | None = None,
    name: str = "1",
) -> Mask:
    """A ball around a world point (RAS+ mm), by default the middle of the grid."""
    geometry = geometry or build_geometry()
    if centre_mm is None:
        centre_mm = geometry.to_world((np.asarray(geometry.shape) - 1) / 2)
    world = geometry.to_world(np.moveaxis(np.indices(geometry.shape), 0, -1))
    return Mask(np.linalg.norm(world - np.asarray(centre_mm), axis=-1) <= radius_mm, geometry, name)


def build_case(case_id: str | None = "case-1", channel: str = "ct") -> Case:
    """One image and one ball."""
    image = build_image()
    return Case(case_id, {channel: image}, (build_mask(image.geometry),))


def reorder(volume: Any, axes: Sequence[int], flips: Sequence[bool] = (False, False, False)) -> Any:
    """The same volume (Image or Mask) stored along other axes: permuted, then flipped."""
    voxels, columns = volume.voxels.transpose(axes), volume.geometry.affine[:3, list(axes)]
    affine = volume.geometry.affine.copy()
    affine[:3, :3] = columns
    for axis, flipped in enumerate(flips):
        if flipped:
            voxels = np.flip(voxels, axis)
            affine[:3, 3] += (voxels.shape[axis] - 1) * affine[:3, axis]
            affine[:3, axis] *= -1
    geometry = Geometry(voxels.shape, affine)
    return Mask(voxels, geometry, volume.name) if isinstance(volume, Mask) else Image(voxels, geometry, volume.modality)


def write_nifti(
    path: Path,
    volume: Image | Mask,
    *,
    compressed: bool = False,
    version: int = 1,
    change: Callable[[Any], None] | None = None,
) -> Path:
    """Write a single-file NIfTI; `change` may edit the nibabel header just before it is written."""
    return write_nifti_array(path, _plain(volume), volume.geometry.affine, compressed, version, change)


def write_nifti_array(
    path: Path,
    voxels: NDArray[Any],
    affine: ArrayLike,
    compressed: bool = False,
    version: int = 1,
    change: Callable[[Any], None] | None = None,
) -> Path:
    """Write any array as NIfTI, whatever its type or dimensions."""
    kind = nibabel.Nifti1Image if version == 1 else nibabel.Nifti2Image
    file = kind(voxels, np.asarray(affine), dtype=voxels.dtype)
    file.header.set_xyzt_units("mm")
    file.set_sform(affine, 1)
    file.set_qform(affine, 1)
    raw = bytearray(file.to_bytes())
    header = kind.header_class(bytes(raw[: kind.header_class.sizeof_hdr]), check=False)
    if change:
        change(header)
    raw[: kind.header_class.sizeof_hdr] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(raw), 1) if compressed else bytes(raw))
    return path


def write_nrrd(path: Path, volume: Image | Mask, *, compressed: bool = False) -> Path:
    """Write an NRRD as SimpleITK does."""
    return write_itk(path, _itk(volume), ".nrrd", compressed)


def write_mha(path: Path, volume: Image | Mask, *, compressed: bool = False) -> Path:
    """Write a MetaImage with local data as SimpleITK does."""
    return write_itk(path, _itk(volume), ".mha", compressed)


def write_itk(path: Path, picture: Any, suffix: str, compressed: bool = False) -> Path:
    """Write a SimpleITK image under a name that need not have the suffix."""
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / f"volume{suffix}"
        SimpleITK.WriteImage(picture, named, useCompression=compressed)
        path.write_bytes(named.read_bytes())
    return path


def write_dicom_series(
    folder: Path,
    image: Image,
    *,
    change: Callable[[Dataset, int], None] | None = None,
    prefix: str = "image-ct",
) -> list[Path]:
    """Write one CT file per plane along K; `change(dataset, index)` may edit each before it is written."""
    folder.mkdir(parents=True, exist_ok=True)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    paths = []
    for index in range(image.geometry.shape[2]):
        dataset = _ct_slice(image, index)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
        if change:
            change(dataset, index)
        path = folder / f"{prefix}-{index:04d}"
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def zip_files(path: Path, files: Iterable[Path], method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Zip files under their own names."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in files:
            archive.write(file, file.name)
    return path


def _ct_slice(image: Image, index: int) -> Dataset:
    geometry = image.geometry
    lps = np.diag([-1.0, -1.0, 1.0])
    direction = lps @ geometry.direction
    plane = image.voxels[:, :, index].T
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.Modality, dataset.PatientName, dataset.PatientID = "CT", "Phantom^Planted", "PLANTED-ID"
    dataset.InstanceNumber = index + 1
    dataset.ImagePositionPatient = [f"{x:.10g}" for x in lps @ geometry.to_world((0, 0, index))]
    dataset.ImageOrientationPatient = [f"{x:.10g}" for x in (*direction[:, 0], *direction[:, 1])]
    dataset.PixelSpacing = [f"{geometry.spacing_mm[1]:.10g}", f"{geometry.spacing_mm[0]:.10g}"]
    dataset.SliceThickness = f"{geometry.spacing_mm[2]:.10g}"
    dataset.Rows, dataset.Columns = plane.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * plane.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(plane.dtype.kind == "i")
    dataset.RescaleSlope, dataset.RescaleIntercept = "1", "0"
    dataset.PixelData = np.ascontiguousarray(plane).tobytes()
    return dataset


def _plain(volume: Image | Mask) -> NDArray[Any]:
    return volume.voxels.astype(np.uint8) if isinstance(volume, Mask) else volume.voxels


def _itk(volume: Image | Mask) -> Any:
    return mask_to_itk(volume) if isinstance(volume, Mask) else to_itk(volume)


def to_bytes(write: Callable[[Path], Any]) -> bytes:
    """The bytes that a writer of this module writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        write(path)
        return path.read_bytes()


def zip_bytes(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of named byte strings."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()
