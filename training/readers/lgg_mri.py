"""Read lower-grade gliomas in three-channel MRI: before contrast, FLAIR and after contrast, graded G2 or G3.

    ROOT/labels.csv                    Patient, grade (G2, G3), pre_missing, post_missing
    ROOT/volumes/<Patient>.npz         image (z, y, x, 3) uint8: t1, flair, t1ce; mask (z, y, x) of FLAIR abnormality

The voxel spacing of these images is NOT KNOWN: the distance between slices differs from patient to patient and is
written down nowhere. They are converted to NIfTI with a spacing of 1 mm on every axis only so that the one path of
reading serves them too. No length, volume or shape computed from them is in real millimetres, and no result on them
says anything of glioma: they try the multi-channel path. Where a sequence was missing the channel is a copy of FLAIR.
"""

import tempfile
from pathlib import Path
from typing import Any, Final

import nibabel
import numpy as np
from numpy.typing import NDArray

from training.cases import CaseIndex, CaseRecord, Finding
from training.readers.table import Row, read_rows

NAME = "lgg-mri"
TARGET = "grade"
CLASSES = ("G2", "G3")
CHANNELS = ("t1", "flair", "t1ce")
COPIED = {"pre_missing": "t1", "post_missing": "t1ce"}
UNIT_GRID: Final = np.diag([-1.0, -1.0, 1.0, 1.0])  # (x, y, z) run towards L, P, S, one "millimetre" a step


def read_lgg_mri(root: Path, cache: Path) -> tuple[CaseIndex, list[Finding]]:
    """List the gliomas and what is missing; their volumes are written as NIfTI below `cache`, once.

    Raises:
        ConfigError: labels.csv is missing, unreadable or lacks a column.
    """
    rows = read_rows(root / "labels.csv", ["Patient", TARGET, *COPIED])
    records: dict[str, CaseRecord] = {}
    findings: list[Finding] = []
    for row in rows:
        patient, volume = row["Patient"], root / "volumes" / f"{row['Patient']}.npz"
        findings += _judge(row, volume)
        if volume.is_file() and patient not in records:
            images, mask = _convert(volume, cache / f"{NAME}-nifti")
            labels = {TARGET: row[TARGET]} if row[TARGET] in CLASSES else {}
            records[patient] = CaseRecord(patient, patient, _site(patient), images, mask, None, labels)
    named = {row["Patient"] for row in rows}
    strays = sorted(path.stem for path in (root / "volumes").glob("*.npz") if path.stem not in named)
    findings += [Finding(stem, "missing-label", "a volume that labels.csv does not list") for stem in strays]
    return CaseIndex(NAME, tuple(records.values())), findings


def _judge(row: Row, volume: Path) -> list[Finding]:
    patient, grade = row["Patient"], row[TARGET]
    findings = []
    if not volume.is_file():
        findings.append(
            Finding(patient, "missing-image", f"labels.csv lists the patient, volumes/{volume.name} is absent")
        )
    if grade not in CLASSES:
        findings.append(Finding(patient, "missing-label", f"grade is {grade or 'empty'}"))
    findings += [
        Finding(patient, "missing-sequence", f"{channel} was not acquired: the channel is a copy of flair")
        for column, channel in COPIED.items()
        if row[column].lower() == "true"
    ]
    return findings


def _site(patient: str) -> str:
    """Return the tissue source site of a TCGA barcode, TCGA_DU_8166: DU."""
    parts = patient.split("_")
    return parts[1] if len(parts) == 3 else NAME


def _convert(volume: Path, folder: Path) -> tuple[dict[str, tuple[Path, ...]], tuple[Path, ...]]:
    """Write the channels and the mask unless they are there; a file appears only when it is complete."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"{volume.stem}_{name}.nii" for name in (*CHANNELS, "mask")}
    if not all(path.is_file() for path in paths.values()):
        with np.load(volume) as stored:
            image, mask = stored["image"], stored["mask"]
        for position, channel in enumerate(CHANNELS):
            _write(image[..., position], paths[channel])
        _write(mask, paths["mask"])
    return {channel: (paths[channel],) for channel in CHANNELS}, (paths["mask"],)


def _write(voxels: NDArray[np.uint8], path: Path) -> None:
    """Write (z, y, x) voxels as NIfTI (x, y, z)."""
    volume: Any = nibabel.Nifti1Image(voxels.transpose(2, 1, 0), UNIT_GRID)  # type: ignore[no-untyped-call]
    volume.header.set_xyzt_units("mm")
    with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as made:
        whole = Path(made) / path.name
        volume.to_filename(whole)
        whole.replace(path)
