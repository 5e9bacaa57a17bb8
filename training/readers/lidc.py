"""Read lung nodules cut from LIDC-IDRI: one image and one mask per nodule, rated for malignancy.

    ROOT/labels.csv                patient_id, file, Diagnosis_value (0 benign, 1 malignant), Malignancy_value (1 to 5)
    ROOT/image/<file>              CT around the nodule, NIfTI, native spacing
    ROOT/nodule_mask/<file>        its mask

Malignancy is the radiologists' rating, not pathology, and follows the nodule's size closely; those rated 3 are
indeterminate. A patient may have several nodules.
"""

from pathlib import Path

from training.cases import CaseIndex, CaseRecord, Finding
from training.readers.table import Row, read_rows

NAME = "lidc"
TARGET = "malignancy"
CLASSES = {"0": "benign", "1": "malignant"}


def read_lidc(root: Path) -> tuple[CaseIndex, list[Finding]]:
    """List the nodules and what is missing.

    Raises:
        ConfigError: labels.csv is missing, unreadable or lacks a column.
    """
    rows = read_rows(root / "labels.csv", ["patient_id", "file", "Diagnosis_value", "Malignancy_value"])
    records: dict[str, CaseRecord] = {}
    findings: list[Finding] = []
    for row in rows:
        record, odd = _read_row(root, row)
        findings += odd
        if record.case_id in records:
            findings.append(Finding(record.case_id, "duplicate-case", "labels.csv names the file twice"))
        elif not any(one.kind in ("missing-image", "missing-mask") for one in odd):
            records[record.case_id] = record
    named = {row["file"] for row in rows}
    strays = sorted(path.name for path in (root / "image").glob("*.nii*") if path.name not in named)
    findings += [Finding(_stem(name), "missing-label", "an image that labels.csv does not name") for name in strays]
    return CaseIndex(NAME, tuple(records.values())), findings


def _read_row(root: Path, row: Row) -> tuple[CaseRecord, list[Finding]]:
    case_id, image, mask = _stem(row["file"]), root / "image" / row["file"], root / "nodule_mask" / row["file"]
    findings = []
    if not image.is_file():
        findings.append(Finding(case_id, "missing-image", f"labels.csv names {row['file']}, which is not in image/"))
    if not mask.is_file():
        findings.append(Finding(case_id, "missing-mask", f"labels.csv names {row['file']}, not in nodule_mask/"))
    label = CLASSES.get(row["Diagnosis_value"])
    if label is None:
        findings.append(Finding(case_id, "missing-label", f"Diagnosis_value is {row['Diagnosis_value'] or 'empty'}"))
    labels = {TARGET: label} if label else {}
    rating = {"rating": row["Malignancy_value"]}
    return CaseRecord(case_id, row["patient_id"], NAME, {"ct": (image,)}, (mask,), None, labels, rating), findings


def _stem(file: str) -> str:
    return file.removesuffix(".gz").removesuffix(".nii")
