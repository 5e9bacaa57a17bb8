"""SEG files with known segments, made by highdicom."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from highdicom import AlgorithmIdentificationSequence
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

ALGORITHM = AlgorithmIdentificationSequence("phantom", codes.DCM.ArtificialIntelligence, "1")


def describe(number: int, label: str) -> SegmentDescription:
    """A segment by number and label."""
    return SegmentDescription(
        number, label, codes.SCT.Tissue, codes.SCT.Neoplasm, "AUTOMATIC", algorithm_identification=ALGORITHM
    )


def write_seg(
    path: Path,
    series: Sequence[Path],
    segments: Any,
    labels: Sequence[str] = ("tumour",),
    kind: str = "BINARY",
    change: Any = None,
    **more: Any,
) -> Path:
    """Write segments (I, J, K, segments) drawn on the voxels of a series given in the order of K."""
    sources = [pydicom.dcmread(one) for one in series]
    for source in sources:
        for keyword in ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime"):
            setattr(source, keyword, "")
    segmentation = Segmentation(
        sources,
        np.moveaxis(np.asarray(segments), (0, 1, 2), (2, 1, 0)),
        kind,
        [describe(number, label) for number, label in enumerate(labels, start=1)],
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="phantom",
        manufacturer_model_name="phantom",
        software_versions="1",
        device_serial_number="1",
        **more,
    )
    if change:
        change(segmentation)
    segmentation.save_as(path)
    return path


def shuffle_frames(segmentation: Any, seed: int = 0) -> None:
    """Store the frames of a fractional (byte per pixel) or label map SEG in another order."""
    order = np.random.default_rng(seed).permutation(segmentation.NumberOfFrames)
    frames = np.frombuffer(segmentation.PixelData, np.uint8)
    size = segmentation.Rows * segmentation.Columns
    count = int(segmentation.NumberOfFrames)
    segmentation.PixelData = frames[: count * size].reshape(count, size)[order].tobytes()
    groups = list(segmentation.PerFrameFunctionalGroupsSequence)
    segmentation.PerFrameFunctionalGroupsSequence = [groups[at] for at in order]
