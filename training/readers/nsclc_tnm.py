"""Read non-small-cell lung cancers with TNM: CT around the tumour and its mask at 1 mm, stage derived from T and N.

    ROOT/labels.csv                PatientID, SourceDataset (l1, l2), Tstage, stage_from_TN (I, II, IIIa, IIIb)
    ROOT/crops/<NNN>_ct.nii.gz     CT, NNN the PatientID with three digits
    ROOT/crops/<NNN>_mask.nii.gz   mask of the gross tumour volume

The stage is confounded with the source (l2 is mostly stage I): look at each source by itself as well. Some masks
are empty, which the check command tells.
"""

from pathlib import Path

from training.cases import CaseIndex, CaseRecord, Finding
from training.readers.table import Row, read_rows

NAME = "nsclc-tnm"
TARGET = "stage"
CLASSES = ("I", "II", "IIIa", "IIIb")


def read_nsclc_tnm(root: Path) -> tuple[CaseIndex, list[Finding]]:
    """List the tumours and what is missing.

    Raises:
        ConfigError: labels.csv is missing, unreadable or lacks a column.
    """
    rows = read_rows(root / "labels.csv", ["PatientID", "SourceDataset", "Tstage", "stage_from_TN"])
    records: dict[str, CaseRecord] = {}
    findings: list[Finding] = []
    for row in rows:
        record, odd = _read_row(root, row)
        findings += odd
        if record.case_id in records:
            findings.append(Finding(record.case_id, "duplicate-patient", "labels.csv lists the patient twice"))
        elif not any(one.kind in ("missing-image", "missing-mask") for one in odd):
            records[record.case_id] = record
    named = {_number(row) for row in rows}
    images = (path.name.split("_")[0] for path in sorted((root / "crops").glob("*_ct.nii*")))
    findings += [
        Finding(f"{NAME}-{number}", "missing-label", "an image whose patient labels.csv does not list")
        for number in images
        if number not in named
    ]
    return CaseIndex(NAME, tuple(records.values())), findings


def _read_row(root: Path, row: Row) -> tuple[CaseRecord, list[Finding]]:
    number = _number(row)
    case_id = f"{NAME}-{number}"
    image, mask = (root / "crops" / f"{number}_{part}.nii.gz" for part in ("ct", "mask"))
    findings = [
        Finding(case_id, kind, f"labels.csv lists the patient, crops/{path.name} is not there")
        for kind, path in (("missing-image", image), ("missing-mask", mask))
        if not path.is_file()
    ]
    labels = {TARGET: row["stage_from_TN"]} if row["stage_from_TN"] in CLASSES else {}
    if not labels:
        findings.append(Finding(case_id, "missing-label", f"stage_from_TN is {row['stage_from_TN'] or 'empty'}"))
    known = {"t_stage": row["Tstage"]}
    return CaseRecord(case_id, case_id, row["SourceDataset"], {"ct": (image,)}, (mask,), None, labels, known), findings


def _number(row: Row) -> str:
    return row["PatientID"].zfill(3)
