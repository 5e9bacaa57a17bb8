"""RTSTRUCT files with known contours."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from service.imaging.geometry import Geometry

FRAME = "1.2.826.0.1.3680043.8.498.1"


def write_rtstruct(
    path: Path,
    rois: Mapping[str, Iterable[Any]],
    *,
    frame: str | None = FRAME,
    kind: str = "CLOSED_PLANAR",
    change: Any = None,
    syntax: str = ImplicitVRLittleEndian,
) -> Path:
    """Write ROIs numbered from 1; a contour is (n, 3) points in RAS+ mm; `change(dataset)` may edit."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = RTStructureSetStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.Modality, dataset.PatientName = "RTSTRUCT", "Phantom^Planted"
    if frame:
        reference = Dataset()
        reference.FrameOfReferenceUID = frame
        dataset.ReferencedFrameOfReferenceSequence = [reference]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(rois.items(), start=1):
        structure, drawn = Dataset(), Dataset()
        structure.ROINumber, structure.ROIName = number, name
        if frame:
            structure.ReferencedFrameOfReferenceUID = frame
        drawn.ReferencedROINumber = number
        drawn.ContourSequence = [_contour(points, kind) for points in contours]
        dataset.StructureSetROISequence.append(structure)
        dataset.ROIContourSequence.append(drawn)
    if change:
        change(dataset)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _contour(points: Any, kind: str) -> Dataset:
    item = Dataset()
    item.ContourGeometricType, item.NumberOfContourPoints = kind, len(points)
    item.ContourData = [f"{x:.10g}" for x in (np.asarray(points) @ np.diag([-1.0, -1.0, 1.0])).ravel()]
    return item


def on_slice(geometry: Geometry, slice_index: float, ij: Any) -> Any:
    """Points of one plane given as (i, j) indices, in RAS+ mm."""
    ij = np.asarray(ij, float)
    return geometry.to_world(np.column_stack([ij, np.full(len(ij), slice_index)]))


def circle(centre: tuple[float, float], radius: float, count: int = 720) -> Any:
    """(i, j) points on a circle."""
    angle = np.arange(count) * 2 * np.pi / count
    return np.column_stack([centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle)])


def box(i: tuple[float, float], j: tuple[float, float]) -> Any:
    """(i, j) corners of a rectangle."""
    return np.array([(i[0], j[0]), (i[1], j[0]), (i[1], j[1]), (i[0], j[1])])
