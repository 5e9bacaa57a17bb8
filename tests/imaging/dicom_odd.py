"""What becomes of every file of the collection of odd DICOM files, as a table without pixel data.

`python -m tests.imaging.dicom_odd FOLDER > tests/golden/dicom_odd.csv` writes the golden table anew.

A file of dicom2nifti, dcmqi or rt-utils is sent with the other images of its folder, as a series; every other one by
itself. SEG and RTSTRUCT are sent as masks, all regions of them, on the series of their frame of reference where the
collection holds it, else on dcmqi/ct-3slice, to which they then do not belong.
"""

import csv
import hashlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import RTStructureSetStorage, SegmentationStorage

from service.errors import CaseError
from service.imaging.case import Image
from service.imaging.guard import Limits
from service.imaging.reader import CaseFiles, read_case, read_image

LIMITS = Limits(decoded_bytes=2**30, voxels=2**28, files=2000)
COLUMNS = ("file", "sent", "outcome", "shape", "spacing_mm", "voxels_sha256", "regions")
SERIES_OF = ("dicom2nifti", "dcmqi", "rt-utils")
MASKS = (RTStructureSetStorage, SegmentationStorage, "1.2.840.10008.5.1.4.1.1.66.7")
Row = dict[str, str]


def list_outcomes(root: Path) -> list[Row]:
    """Return a row for each file that the collection's manifest lists, in its order."""
    with (root / "manifest.csv").open() as file:
        names = [row["file"] for row in csv.DictReader(file)]
    headers = {name: _header(root / name) for name in names}
    series = {name: _series(name, headers) for name in names}
    known: dict[tuple[str, ...], Row] = {}
    rows = []
    for name in names:
        if headers[name].get("SOPClassUID") in MASKS:
            rows.append({"file": name, **_as_mask(root, name, headers, series)})
        else:
            if series[name] not in known:
                known[series[name]] = _as_image(root, series[name])
            rows.append({"file": name, **known[series[name]]})
    return [{column: row.get(column, "") for column in COLUMNS} for row in rows]


def _header(path: Path) -> pydicom.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return pydicom.dcmread(path, specific_tags=["SOPClassUID", "FrameOfReferenceUID"], stop_before_pixels=True)
        except (InvalidDicomError, ValueError, AttributeError):
            return pydicom.Dataset()


def _series(name: str, headers: dict[str, pydicom.Dataset]) -> tuple[str, ...]:
    folder = str(Path(name).parent)
    if not name.startswith(SERIES_OF):
        return (name,)
    beside = [one for one in headers if str(Path(one).parent) == folder]
    return tuple(one for one in beside if headers[one].get("SOPClassUID") not in MASKS) or (name,)


def _as_image(root: Path, names: Sequence[str]) -> Row:
    row = {"sent": f"image of {len(names)}"}
    try:
        image = read_image([root / name for name in names], LIMITS)
    except CaseError as refusal:
        return row | {"outcome": refusal.slug}
    return row | {"outcome": "read", **_describe(image)}


def _as_mask(root: Path, name: str, headers: dict[str, pydicom.Dataset], series: dict[str, tuple[str, ...]]) -> Row:
    frames = set(_frames(root / name))
    home = next((one for one in series if one not in (name,) and headers[one].get("FrameOfReferenceUID") in frames
                 and headers[one].get("SOPClassUID") not in MASKS), None)  # fmt: skip
    names = series[home or "dcmqi/ct-3slice/01.dcm"]
    row = {"sent": "mask of its image" if home else "mask of another image"}
    files = CaseFiles({"image": [root / one for one in names]}, [root / name])
    try:
        case = read_case(files, roi="all", resample_mask=False, limits=LIMITS, case_id=None)
    except CaseError as refusal:
        return row | {"outcome": refusal.slug}
    regions = " ".join(f"{mask.name}={mask.count}" for mask in case.masks)
    return row | {"outcome": "read", **_describe(case.images["image"]), "regions": regions}


def _frames(path: Path) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        yield str(dataset.get("FrameOfReferenceUID"))
        for item in dataset.get("ReferencedFrameOfReferenceSequence") or ():
            yield str(item.FrameOfReferenceUID)


def _describe(image: Image) -> Row:
    voxels = np.asfortranarray(image.voxels.astype(np.float64))
    return {
        "shape": " ".join(map(str, image.geometry.shape)),
        "spacing_mm": " ".join(f"{edge:.5g}" for edge in image.geometry.spacing_mm),
        "voxels_sha256": hashlib.sha256(voxels.tobytes("F")).hexdigest()[:12],
    }


if __name__ == "__main__":
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(list_outcomes(Path(sys.argv[1])))
