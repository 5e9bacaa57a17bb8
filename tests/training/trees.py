"""Small collections on disk in the layouts of the real ones, their volumes drawn."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, SegmentationStorage, generate_uid

from service.imaging.case import Image, Mask
from tests.build import build_geometry, build_image, build_mask, write_dicom_series, write_nifti, write_nifti_array
from training.layouts import SMALL
from training.phantoms import make_phantom

SEQUENCES = ("t1", "t1ce", "t2", "flair")


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path


def write_glioma(folder: Path, seed: int, suffix: str = ".nii.gz") -> Path:
    """Write a BraTS case: four sequences on one grid and a mask of the labels 1, 2 and 4."""
    folder.mkdir(parents=True)
    phantom = make_phantom(seed, layout=SMALL)
    affine, compressed = phantom.image.geometry.affine, suffix.endswith(".gz")
    for number, sequence in enumerate(SEQUENCES, start=1):
        voxels = (phantom.image.voxels + 1024) // number
        write_nifti_array(folder / f"{folder.name}_{sequence}{suffix}", voxels.astype(np.int16), affine, compressed)
    write_nifti_array(folder / f"{folder.name}_seg{suffix}", tumour_labels(phantom.mask), affine, compressed)
    return folder


def tumour_labels(mask: Mask) -> np.ndarray:
    """The mask as BraTS numbers it: oedema 2, below it a core 1, and one enhancing voxel 4."""
    labels = np.where(mask.voxels, 2, 0).astype(np.uint8)
    inside = np.argwhere(mask.voxels)
    labels[tuple(inside[: len(inside) // 3].T)] = 1
    labels[tuple(inside[0])] = 4
    return labels


def write_name_mapping(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    """Write BraTS' table of grades and of the names that each case had from release to release."""
    columns = list(rows[0])
    return write_table(path, columns, [[row[column] for column in columns] for row in rows])


def lung() -> tuple[Image, Mask]:
    """A CT and a ball of 5 mm in its middle."""
    geometry = build_geometry()
    return build_image(geometry), build_mask(geometry)


def write_lung1_dicom(folder: Path, *, structures: bool = True, segmentation: bool = False) -> Path:
    """Write one patient as TCIA hands it out: a study, below it one folder per series, files 1-001.dcm onwards."""
    image, mask = lung()
    study = folder / "09-18-2008-StudyID-NA-69331"
    series = study / "0.000000-NA-82046"
    for number, path in enumerate(write_dicom_series(series, image), start=1):
        path.rename(series / f"1-{number:03d}.dcm")
    if structures:
        frame = dcmread(next(series.iterdir()), stop_before_pixels=True).FrameOfReferenceUID
        save_dicom(contour(mask, frame), study / "3.000000-NA-78236" / "1-1.dcm")
    if segmentation:
        save_dicom(name_segments("Lung-Left", "Neoplasm, Primary"), study / "300.000000-Segmentation-9.554" / "1-1.dcm")
    return folder


def write_lung1_table(path: Path, rows: Iterable[Sequence[Any]]) -> Path:
    """Write the clinical table with the columns of TCIA's."""
    columns = "PatientID,age,clinical.T.Stage,Clinical.N.Stage,Clinical.M.Stage,Overall.Stage,Histology,gender"
    full = [(patient, 70, t_stage, 0, 0, stage, "large cell", "male") for patient, t_stage, stage in rows]
    return write_table(path, columns.split(","), full)


def contour(mask: Mask, frame: str, names: Sequence[str] = ("Lung-Left", "GTV-1")) -> Dataset:
    """An RTSTRUCT in the image's frame of reference; every ROI outlines a ball of 5 mm with 24 points on a plane."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.Modality = RTStructureSetStorage, "RTSTRUCT"
    dataset.StructureSetLabel = "drawn"
    dataset.StructureSetROISequence, dataset.ROIContourSequence = Items(), Items()
    geometry, centre = mask.geometry, np.array(mask.centroid_mm)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    for number, name in enumerate(names, start=1):
        roi, outline = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ROIGenerationAlgorithm = number, name, "MANUAL"
        roi.ReferencedFrameOfReferenceUID = frame
        outline.ReferencedROINumber, outline.ContourSequence = number, Items()
        for k in range(*mask.bounding_box[2]):
            z = float(geometry.to_world((0, 0, k))[2])
            radius = np.sqrt(max(25.0 - (z - centre[2]) ** 2, 1e-3))
            ring = np.stack([-centre[0] + radius * np.cos(angles), -centre[1] + radius * np.sin(angles)], axis=1)
            plane = Dataset()
            plane.ContourGeometricType, plane.NumberOfContourPoints = "CLOSED_PLANAR", len(ring)
            plane.ContourData = [f"{number:.6f}" for x, y in ring for number in (x, y, z)]
            outline.ContourSequence.append(plane)
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(outline)
    return dataset


def name_segments(*names: str) -> Dataset:
    """The segments of a SEG, by name alone."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.Modality = SegmentationStorage, "SEG"
    dataset.SegmentSequence = Items()
    for number, name in enumerate(names, start=1):
        segment = Dataset()
        segment.SegmentNumber, segment.SegmentLabel, segment.SegmentAlgorithmType = number, name, "MANUAL"
        dataset.SegmentSequence.append(segment)
    return dataset


def save_dicom(dataset: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.SOPInstanceUID = generate_uid()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_lung1_nifti(image: Path, mask: Path) -> None:
    volume, region = lung()
    for path, content in ((image, volume), (mask, region)):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_nifti(path, content, compressed=True)
