"""Read gliomas of BraTS 2018, 2019 and 2020, graded HGG or LGG.

    2018        ROOT/HGG|LGG/Brats18_CBICA_AAB_1/Brats18_CBICA_AAB_1_{t1,t1ce,t2,flair,seg}.nii.gz
    2019        as 2018 with BraTS19_..., and ROOT/name_mapping.csv
    2020        ROOT/BraTS20_Training_001/BraTS20_Training_001_{...}.nii(.gz), and ROOT/name_mapping.csv

ROOT may be any folder above these. The grade is that of `name_mapping.csv` where there is one, else the folder's.
The region is the whole tumour: labels 1, 2 and 4 together. BraTS 2020 contains 2019, which contains 2018: of several
releases only the latest is used.

References:
    Menze et al., IEEE TMI 34 (2015) 1993, doi:10.1109/TMI.2014.2377694; Bakas et al., Sci Data 4 (2017) 170117,
    doi:10.1038/sdata.2017.117.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from training.cases import WHOLE, CaseIndex, CaseRecord, Finding
from training.config import ConfigError
from training.readers.table import is_absent, read_rows

NAME = "brats"
TARGET = "grade"
CLASSES = ("HGG", "LGG")
CHANNELS = ("t1", "t1ce", "t2", "flair")
FOLDER: Final = re.compile(r"brats(?P<year>1[789]|20)_(?P<rest>\w+)", re.IGNORECASE)
VALIDATION: Final = re.compile(r"brats\d\d_validation_", re.IGNORECASE)
LISTED: Final = re.compile(r"BraTS_20(?P<year>\d\d)_subject_ID")  # a column of the name mapping


@dataclass(frozen=True)
class Mapped:
    """What `name_mapping.csv` says of one case."""

    grade: str
    patient_id: str
    site: str


def read_brats(root: Path) -> tuple[CaseIndex, list[Finding]]:
    """List the gliomas of the latest release below `root`, and what is missing or odd.

    Raises:
        ConfigError: no case folder is there, or a name mapping cannot be read.
    """
    folders = _find_folders(root)
    if not folders:
        raise ConfigError(f"no folder named like BraTS19_CBICA_AAB_1 or BraTS20_Training_001 lies below {root.name}")
    release = max(_year(folder.name) for folder in folders)
    used = [folder for folder in folders if _year(folder.name) == release]
    mapping = _read_mappings(root, release)
    records: dict[str, CaseRecord] = {}
    findings = list(_left_out(folders, release))
    for folder in used:
        record, odd = _read_folder(folder, mapping)
        findings += odd
        if record.case_id in records:
            findings.append(Finding(record.case_id, "duplicate-case", "two folders have this name"))
        elif record.images and record.mask:
            records[record.case_id] = record
    findings += _missing_folders(mapping, used)
    return CaseIndex(NAME, tuple(records.values())), findings


def read_name_mapping(path: Path) -> dict[str, Mapped]:
    """Read `name_mapping.csv`: every name that a case has in any release, to its grade and patient.

    Raises:
        ConfigError: the table cannot be read or lacks the column Grade.
    """
    mapped: dict[str, Mapped] = {}
    for row in read_rows(path, ["Grade"]):
        names = [row[column] for column in row if LISTED.fullmatch(column) and not is_absent(row[column])]
        named_by_site = [name for name in names if not _is_numbered(name)]
        known = row.get("TCGA_TCIA_subject_ID", "")
        patient = known if not is_absent(known) else (_patient(named_by_site[-1]) if named_by_site else "")
        site = _site(named_by_site[-1]) if named_by_site else "unknown"
        mapped |= {name: Mapped(row["Grade"], patient or name, site) for name in names}
    return mapped


def _find_folders(root: Path) -> list[Path]:
    """Return the case folders below `root`, in order; what lies inside one is not searched."""
    found = []
    for place, inner, _ in os.walk(root, followlinks=True):
        found += [Path(place) / name for name in inner if FOLDER.fullmatch(name)]
        inner[:] = [name for name in inner if not FOLDER.fullmatch(name)]
    return sorted(folder for folder in found if not VALIDATION.match(folder.name))


def _read_mappings(root: Path, release: int) -> dict[str, Mapped]:
    """Read every name mapping below `root`; that of the release has the last word."""
    mappings = [read_name_mapping(table) for table in sorted(root.rglob("*name_mapping*.csv"))]
    mappings.sort(key=lambda mapping: any(FOLDER.fullmatch(name) and _year(name) == release for name in mapping))
    return {name: mapped for mapping in mappings for name, mapped in mapping.items()}


def _read_folder(folder: Path, mapping: Mapping[str, Mapped]) -> tuple[CaseRecord, list[Finding]]:
    name, mapped = folder.name, mapping.get(folder.name)
    found = {part: _volumes(folder, part) for part in (*CHANNELS, "seg")}
    findings = list(_judge_files(folder, found))
    grade, odd = _grade(folder, mapped)
    record = CaseRecord(
        case_id=name,
        patient_id=mapped.patient_id if mapped else (name if _is_numbered(name) else _patient(name)),
        site=mapped.site if mapped else ("unknown" if _is_numbered(name) else _site(name)),
        images={channel: found[channel][:1] for channel in CHANNELS if found[channel]},
        mask=found["seg"][:1],
        roi=WHOLE,
        labels={TARGET: grade} if grade else {},
    )
    return record, [*findings, *odd]


def _volumes(folder: Path, part: str) -> tuple[Path, ...]:
    return tuple(sorted(folder.glob(f"{folder.name}_{part}.nii*")))


def _judge_files(folder: Path, found: Mapping[str, tuple[Path, ...]]) -> Iterator[Finding]:
    for part, paths in found.items():
        mask = part == "seg"
        if not paths:
            yield Finding(folder.name, "missing-mask" if mask else "missing-sequence", f"no file ..._{part}.nii(.gz)")
        elif len(paths) > 1:
            kind = "several-masks" if mask else "several-images"
            yield Finding(folder.name, kind, f"{len(paths)} files ..._{part}: {paths[0].name} is used")
    known = {path for paths in found.values() for path in paths}
    if strays := [path for path in folder.glob("*.nii*") if path not in known]:
        yield Finding(folder.name, "unknown-file", f"{len(strays)} NIfTI files of other names than BraTS gives")


def _grade(folder: Path, mapped: Mapped | None) -> tuple[str, list[Finding]]:
    above = folder.parent.name.upper()
    by_folder = above if above in CLASSES else ""
    if mapped is None:
        kind = [] if by_folder else [Finding(folder.name, "missing-label", "in no name mapping, nor below HGG or LGG")]
        return by_folder, kind
    if mapped.grade not in CLASSES:
        return by_folder, [Finding(folder.name, "unknown-class", "the name mapping's grade is neither HGG nor LGG")]
    if by_folder not in ("", mapped.grade):
        detail = f"the folder says {by_folder}, the name mapping {mapped.grade}, which is used"
        return mapped.grade, [Finding(folder.name, "label-mismatch", detail)]
    return mapped.grade, []


def _left_out(folders: list[Path], release: int) -> list[Finding]:
    releases = Counter(_year(folder.name) for folder in folders)
    return [
        Finding(NAME, "pooled-releases", f"{count} cases of BraTS 20{year} left out: 20{release} contains that release")
        for year, count in sorted(releases.items())
        if year != release
    ]


def _missing_folders(mapping: Mapping[str, Mapped], used: list[Path]) -> list[Finding]:
    there, release = {folder.name for folder in used}, _year(used[0].name)
    absent = (name for name in mapping if FOLDER.fullmatch(name) and _year(name) == release and name not in there)
    return [Finding(name, "label-without-image", "in the name mapping, without a folder") for name in absent]


def _year(name: str) -> int:
    matched = FOLDER.fullmatch(name)
    if matched is None:
        raise ConfigError(f"{name} is no name of a BraTS case")
    return int(matched["year"])


def _is_numbered(name: str) -> bool:
    """Whether a name only counts, as those of 2020 do, and tells neither patient nor site."""
    return "_training_" in name.lower()


def _patient(name: str) -> str:
    """Return the patient of Brats18_TCIA01_147_1: TCIA01_147; the last number counts scans."""
    return "_".join(name.split("_")[1:-1])


def _site(name: str) -> str:
    return name.split("_")[1]
