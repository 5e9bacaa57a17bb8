"""Read NSCLC-Radiomics (Lung1): CT of lung cancers, the gross tumour volume, the overall stage.

As downloaded from TCIA, with any folder names between the patient's and the files:

    ROOT/.../LUNG1-001/<date-study>/<series>/*.dcm     one series of CT, one RTSTRUCT, perhaps one SEG
    ROOT/.../*.csv                                     the clinical table: PatientID, Overall.Stage, clinical.T.Stage

As NIfTI (or NRRD, .mha), either way:

    ROOT/.../LUNG1-001/<name with ct or image>.nii.gz and <name with mask, gtv, seg or label>.nii.gz
    ROOT/.../LUNG1-001_<the same>.nii.gz

The region is the RTSTRUCT's first ROI whose name begins with GTV (GTV-1), or where there is only a SEG the first
segment named GTV or neoplasm. A NIfTI mask holds one region. Masks are read as the service reads them; one that it
cannot read the check command lists as `mask-unreadable`, by kind: convert it to NIfTI first.

References:
    Aerts et al., Nat Commun 5 (2014) 4006, doi:10.1038/ncomms5006; doi:10.7937/K9/TCIA.2015.PF0M9REI.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from training.cases import CaseIndex, CaseRecord, Finding
from training.config import ConfigError
from training.readers.dicom_files import Kind, Series, list_regions, read_series_header
from training.readers.table import Row, is_absent, read_rows

NAME = "lung1"
TARGET = "stage"
CLASSES = ("I", "II", "IIIa", "IIIb")
STAGE, T_STAGE = "Overall.Stage", "clinical.T.Stage"
PATIENT: Final = re.compile(r"(LUNG1-\d{3,})(?!\d)", re.IGNORECASE)
VOLUME: Final = re.compile(r".*\.(nii|nii\.gz|nrrd|mha)", re.IGNORECASE)
MASK: Final = re.compile(r"mask|gtv|seg|label", re.IGNORECASE)
IMAGE: Final = re.compile(r"ct|image|img", re.IGNORECASE)
TUMOUR: Final = re.compile(r"\s*gtv", re.IGNORECASE)
TUMOUR_SEGMENT: Final = re.compile(r"\s*gtv|.*neoplasm", re.IGNORECASE)


@dataclass
class _Found:
    """What lies on disk of one patient."""

    volumes: list[Path] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)

    def of(self, kind: Kind) -> list[Series]:
        return [one for one in self.series if one.kind is kind]


def read_lung1(root: Path) -> tuple[CaseIndex, list[Finding]]:
    """List the patients below `root`, and what is missing or odd.

    Raises:
        ConfigError: nothing named like LUNG1-001 is there.
    """
    found = _walk(root)
    if not found:
        raise ConfigError(f"nothing below {root.name} is named like LUNG1-001")
    table, findings = _read_clinical(root)
    records = []
    for patient in sorted(found):
        files, odd = _choose_files(patient, found[patient])
        findings += odd
        if files is None:
            continue
        labels, covariates, odd = _known(patient, table)
        findings += odd
        image, mask, roi = files
        records.append(CaseRecord(patient, patient, NAME, {"ct": image}, mask, roi, labels, covariates))
    findings += [
        Finding(patient, "label-without-image", "in the clinical table, without images")
        for patient in sorted(set(table) - set(found))
    ]
    return CaseIndex(NAME, tuple(records)), findings


def _walk(root: Path) -> dict[str, _Found]:
    """Return the volume files and DICOM series of every patient; the last patient's name in a path counts."""
    found: dict[str, _Found] = defaultdict(_Found)
    for place, folders, names in os.walk(root, followlinks=True):
        folders.sort()
        dicom: dict[str, list[Path]] = defaultdict(list)
        for path in (Path(place) / name for name in sorted(names)):
            patient = _patient(path.relative_to(root))
            if patient and VOLUME.fullmatch(path.name):
                found[patient].volumes.append(path)
            elif patient and path.suffix.lower() == ".dcm":
                dicom[patient].append(path)
        for patient, paths in dicom.items():
            found[patient].series.append(read_series_header(paths))
    return dict(found)


def _patient(path: Path) -> str | None:
    named = [matched[1].upper() for part in path.parts if (matched := PATIENT.match(part))]
    return named[-1] if named else None


Files = tuple[tuple[Path, ...], tuple[Path, ...], str | None]  # of the image, of the mask, and the region's name


def _choose_files(patient: str, found: _Found) -> tuple[Files | None, list[Finding]]:
    if found.series:
        return _choose_dicom(patient, found)
    masks = [path for path in found.volumes if MASK.search(_own_part(path))]
    images = [path for path in found.volumes if path not in masks and IMAGE.search(_own_part(path))]
    findings = list(_count(patient, len(images), len(masks)))
    others = len(found.volumes) - len(masks) - len(images)
    if others:
        findings.append(Finding(patient, "unknown-file", f"{others} volumes are named neither as CT nor as mask"))
    if not images or not masks:
        return None, findings
    return ((images[0],), (masks[0],), None), findings


def _own_part(path: Path) -> str:
    """Return a file's name without the patient's."""
    return PATIENT.sub("", path.name)


def _choose_dicom(patient: str, found: _Found) -> tuple[Files | None, list[Finding]]:
    images = sorted(found.of(Kind.CT), key=lambda one: -len(one.paths))
    structures, segmentations = found.of(Kind.RTSTRUCT), found.of(Kind.SEG)
    masks = structures or segmentations
    findings = list(_count(patient, len(images), sum(len(one.paths) for one in masks)))
    others = len(found.series) - len(images) - len(structures) - len(segmentations)
    if others:
        findings.append(Finding(patient, "unknown-series", f"{others} series are neither CT nor RTSTRUCT nor SEG"))
    if not images or not masks:
        return None, findings
    mask = masks[0].paths[0]
    names = list_regions(mask)
    wanted = TUMOUR if structures else TUMOUR_SEGMENT
    roi = next((name for name in sorted(names) if wanted.match(name)), None)
    if roi is None:
        kind = masks[0].kind.value
        findings.append(Finding(patient, "unknown-roi", f"none of the {len(names)} regions of the {kind} is named GTV"))
        return None, findings
    return (images[0].paths, (mask,), roi), findings


def _count(patient: str, images: int, masks: int) -> Iterator[Finding]:
    if not images:
        yield Finding(patient, "missing-image", "no CT")
    elif images > 1:
        yield Finding(patient, "several-images", f"{images} CTs; the first, or the one of most slices, is used")
    if not masks:
        yield Finding(patient, "missing-mask", "no mask of the tumour: neither a volume file nor RTSTRUCT nor SEG")
    elif masks > 1:
        yield Finding(patient, "several-masks", f"{masks} masks; the first is used")


def _read_clinical(root: Path) -> tuple[dict[str, Row], list[Finding]]:
    """Return the rows of the clinical table by patient; TCIA's other tables are passed over."""
    tables = [rows for path in sorted(root.rglob("*.csv")) if (rows := _clinical_rows(path))]
    if not tables:
        return {}, [Finding(NAME, "missing-table", f"no CSV with the columns PatientID and {STAGE}: no labels")]
    findings = [Finding(NAME, "several-tables", f"{len(tables)} clinical tables; the first is used")][: len(tables) - 1]
    by_patient: dict[str, Row] = {}
    for row in tables[0]:
        if row["PatientID"] in by_patient:
            findings.append(
                Finding(row["PatientID"], "duplicate-patient", "twice in the clinical table; the first counts")
            )
        by_patient.setdefault(row["PatientID"], row)
    return by_patient, findings


def _clinical_rows(path: Path) -> list[Row]:
    rows = read_rows(path, [])
    return rows if rows and {"PatientID", STAGE} <= set(rows[0]) else []


def _known(patient: str, table: Mapping[str, Row]) -> tuple[dict[str, str], dict[str, str], list[Finding]]:
    row = table.get(patient, {})
    stage, t_stage = row.get(STAGE, ""), row.get(T_STAGE, "")
    covariates = {} if is_absent(t_stage) else {"t_stage": t_stage}
    if stage in CLASSES:
        return {TARGET: stage}, covariates, []
    if not table:
        return {}, covariates, []
    why = f"the overall stage is {stage or 'empty'}" if row else "not in the clinical table"
    return {}, covariates, [Finding(patient, "missing-label", why)]
