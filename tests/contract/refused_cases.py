"""One case for every refusal that a caller can rely on, in every format that can show it."""

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import RTDoseStorage, generate_uid

from service.imaging.case import Image, Mask
from tests.build import (
    build_geometry,
    build_image,
    build_mask,
    to_bytes,
    write_dicom_series,
    write_mha,
    write_nifti,
    write_nifti_array,
    write_nrrd,
    zip_bytes,
)
from tests.faults.attacks_files import (
    deflated_bomb,
    forged_nifti,
    forged_nifti_gzip,
    forged_nrrd,
    huge_picture,
    huge_segmentation,
    zip_bomb,
    zip_with_link,
)
from tests.imaging.segments import write_seg
from tests.imaging.structures import FRAME, box, on_slice, write_rtstruct

PLANTED = "Mustermann^Erika"
MOST_FILES = 30
GRID = build_geometry((12, 11, 6))
OTHER_GRID = build_geometry((12, 11, 6), (0.75, 0.8, 3.5))
WRITERS: dict[str, Callable[[Path, Image | Mask], Path]] = {
    "nifti": write_nifti,
    "nifti-gzip": lambda path, volume: write_nifti(path, volume, compressed=True),
    "nrrd": write_nrrd,
    "mha": write_mha,
}


@dataclass(frozen=True)
class Refused:
    """A case, the kind of its refusal, and what the text must hold (regular expressions)."""

    name: str
    kind: str
    words: tuple[str, ...]
    image: tuple[bytes, ...]
    mask: bytes
    fields: dict[str, str] = field(default_factory=dict)
    status: int = 422


def every_case(folder: Path) -> Iterator[Refused]:
    """Yield one case for each refusal and format."""
    made = Maker(folder)
    for rows in (
        made.too_large, made.unreadable, made.other_grids, made.regions, made.irregular, made.unusable, made.fields,
    ):  # fmt: skip
        yield from rows()


class Maker:
    """Makes the cases; the good parts are made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ball = build_mask(GRID, 3.0)
        self.image = {name: bytes_of(write, build_image(GRID)) for name, write in WRITERS.items()}
        self.mask = {name: bytes_of(write, self.ball) for name, write in WRITERS.items()}
        self.paths = write_dicom_series(folder / "series", build_image(GRID), change=plant)
        self.series = tuple(path.read_bytes() for path in self.paths)
        self.count = 0

    def image_row(self, name: str, kind: str, words: tuple[str, ...], *image: bytes) -> Refused:
        return Refused(name, kind, words, image, self.mask["nifti"])

    def mask_row(self, name: str, kind: str, words: tuple[str, ...], mask: bytes, **fields: str) -> Refused:
        return Refused(name, kind, words, (self.image["nifti"],), mask, fields)

    def dicom_row(self, name: str, kind: str, words: tuple[str, ...], mask: bytes, **fields: str) -> Refused:
        return Refused(name, kind, words, self.series, mask, fields)

    def built(self, build: Callable[[Path], Path]) -> bytes:
        return build(self.new_path()).read_bytes()

    def new_path(self) -> Path:
        self.count += 1
        return self.folder / f"built-{self.count}"

    def too_large(self) -> Iterator[Refused]:
        voxels, limit = ("voxels", "at most [0-9]+ are accepted"), ("at most [0-9]+ are accepted",)
        for form, build in (("nifti", forged_nifti), ("nifti-gzip", forged_nifti_gzip), ("nrrd", forged_nrrd)):
            yield self.image_row(f"{form} of too many voxels", "too-large", voxels, self.built(build))
        mha = self.image["mha"].replace(b"DimSize = 12 11 6", b"DimSize = 12000 11000 6000")
        yield self.image_row("mha of too many voxels", "too-large", voxels, mha)
        yield self.image_row("dicom of too many pixels", "too-large", ("bytes",), self.built(huge_picture))
        yield self.image_row("dicom deflated bomb", "too-large", ("[0-9]+ bytes",), self.built(deflated_bomb))
        yield self.image_row("zip bomb", "too-large", ("decodes to more than [0-9]+ bytes",), self.built(zip_bomb))
        many = zip_bytes({str(number): self.series[0] for number in range(2 * MOST_FILES + 1)})
        yield self.image_row("zip of too many files", "too-large", ("61 entries", "30 files"), many)
        yield self.mask_row("seg of too many frames", "too-large", limit, self.built(huge_segmentation))
        parts = (self.series[0],) * (MOST_FILES + 1)
        yield Refused("too many files", "too-large", ("30 files",), parts, self.mask["nifti"], status=413)
        labels = np.arange(GRID.shape[0] * GRID.shape[1] * GRID.shape[2], dtype=np.int16).reshape(GRID.shape) // 2
        mask = to_bytes(lambda path: write_nifti_array(path, labels, GRID.affine))
        yield self.mask_row("all of too many labels", "too-large", ("395 labels", "at most [0-9]+"), mask, roi="all")

    def unreadable(self) -> Iterator[Refused]:
        for form, content in self.image.items():
            cut = content[: len(content) - 400]
            yield self.image_row(f"{form} cut short", "unreadable-image", ("truncated|ends early",), cut)
        cut_series = (*self.series[:-1], self.series[-1][:-60])
        yield self.image_row("dicom cut short", "unreadable-image", ("cannot be decoded|damaged",), *cut_series)
        for name, content in (
            ("text", PLANTED.encode() * 100), ("a picture", b"\x89PNG" + bytes(2000)), ("a document", b"%PDF-1.7" * 99),
            ("a gzipped text", gzip.compress(PLANTED.encode() * 100)), ("a tar", bytes(257) + b"ustar" + bytes(999)),
        ):  # fmt: skip
            yield self.image_row(f"{name} as image", "unreadable-image", ("accepted are NIfTI, NRRD",), content)
            yield self.mask_row(f"{name} as mask", "unreadable-image", ("accepted are NIfTI, NRRD",), content)
        plain, newer = b"UI\x14\x001.2.840.10008.1.2.1\0", b"UI\x18\x001.2.840.10008.1.2.4.100\0"
        syntax = tuple(content.replace(plain, newer) for content in self.series)
        yield self.image_row("dicom of another syntax", "unreadable-image", ("transfer syntax MPEG2",), *syntax)
        other = self.edited(lambda one: setattr(one, "SOPClassUID", RTDoseStorage))
        yield self.image_row("dicom of another class", "unreadable-image", ("class RT Dose Storage",), *other)
        encoding = self.image["nrrd"].replace(b"encoding: raw", b"encoding: hex")
        yield self.image_row("nrrd as text", "unreadable-image", ("encoding is hex; raw and gzip",), encoding)
        outside = self.image["mha"].replace(b"ElementDataFile = LOCAL", b"ElementDataFile = /etc/passwd")
        yield self.image_row("mha with voxels elsewhere", "unreadable-image", ("in another file",), outside)
        link = self.built(zip_with_link)
        yield self.image_row("zip with a link", "unreadable-image", ("holds a link",), link)
        yield self.image_row("zip in a zip", "unreadable-image", ("not DICOM",), zip_bytes({PLANTED: link}))
        yield self.image_row("zip cut short", "unreadable-image", ("truncated|damaged",), link[:-10])
        yield self.mask_row("zip as mask", "unreadable-image", ("one file is accepted",), link)

    def other_grids(self) -> Iterator[Refused]:
        both = ("12 x 11 x 6", "2.5", "3.5")
        hint = ("resample_mask=true",)
        for form, write in WRITERS.items():
            mask = bytes_of(write, build_mask(OTHER_GRID, 3.0))
            yield self.mask_row(f"{form} mask on another grid", "geometry-mismatch", both + hint, mask)
        series = write_dicom_series(self.folder / "other", build_image(OTHER_GRID), change=same_frame(self.paths[0]))
        seg = self.written_seg(series, build_mask(OTHER_GRID, 3.0).voxels[..., None], ("a",))
        yield self.dicom_row("seg on another grid", "geometry-mismatch", both + hint, seg)
        tilted = [np.array([[0, 0, 0], [4, 0, 5], [4, 4, 9], [0, 4, 2]], float) + GRID.to_world((3, 3, 2))]
        contours = self.contours({"a": tilted})
        yield self.dicom_row("rtstruct across slices", "geometry-mismatch", ("3.6 slices apart",), contours)
        elsewhere = self.contours({"a": [self.square(2)]}, frame=FRAME)
        yield self.dicom_row("rtstruct of another frame", "geometry-mismatch", ("frame of reference",), elsewhere)

    def regions(self) -> Iterator[Refused]:
        for form, write in WRITERS.items():
            empty = self.labels(write, {})
            yield self.mask_row(f"{form} mask without a voxel", "empty-roi", ("no voxel",), empty)
            one = self.labels(write, {7: [(3, 3, 3)]})
            yield self.mask_row(f"{form} mask of one voxel", "roi-too-small", ("label 7 holds 1", "at least 2"), one)
            two = self.labels(write, {1: [(3, 3, 3), (3, 3, 2)], 5: [(6, 6, 3), (6, 6, 2)]})
            yield self.mask_row(f"{form} mask of two labels", "unknown-roi", ("2 labels", "holds 1, 5"), two)
            yield self.mask_row(f"{form} mask without the label", "unknown-roi", ("holds 1, 5",), two, roi="3")
        segments = np.zeros((*GRID.shape, 3), np.uint8)
        segments[3, 3, 3, 1], segments[4:6, 4, 2:4, 2] = 1, 1
        seg = self.written_seg(self.paths, segments, ("none", "one", "some"))
        yield self.dicom_row("seg, empty segment", "empty-roi", ("segment 1 holds no voxel",), seg, roi="none")
        yield self.dicom_row("seg, one voxel", "roi-too-small", ("segment 2 holds 1 voxel",), seg, roi="one")
        yield self.dicom_row("seg of three", "unknown-roi", ("1 .none.", "3 .some."), seg)
        yield self.dicom_row("seg without the segment", "unknown-roi", ("1 .none.",), seg, roi="absent")
        tiny = on_slice(GRID, 2, box((2.8, 3.2), (2.8, 3.2)))
        structures = self.contours({"none": [], "tiny": [tiny], "some": [self.square(1), self.square(2)]})
        yield self.dicom_row("rtstruct, no contour", "empty-roi", ("ROI 1 has no contours",), structures, roi="none")
        yield self.dicom_row("rtstruct, one voxel", "roi-too-small", ("ROI 2 holds 1 voxel",), structures, roi="tiny")
        yield self.dicom_row("rtstruct of two", "unknown-roi", ("2 .tiny.", "3 .some."), structures)
        yield self.dicom_row("rtstruct without the ROI", "unknown-roi", ("2 .tiny.",), structures, roi="absent")

    def irregular(self) -> Iterator[Refused]:
        tilt = self.edited(shifted(lambda at: (0.0, 0.5 * at, 0.0)))
        uneven = self.edited(shifted(lambda at: (0.0, 0.0, 0.6 if at == 3 else 0.0)))
        turned = self.edited(lambda one: turn(one) if one.InstanceNumber == 2 else None)
        strange = self.edited(lambda one: rename(one) if one.InstanceNumber == 2 else None)
        for name, files, words in (
            ("gantry tilt", tilt, ("degrees", "mm sideways")),
            ("a missing slice", self.series[:2] + self.series[3:], ("5 mm after", "mm apart")),
            ("a doubled slice", (*self.series, self.series[2]), ("1 of 7 slices", "mm along")),
            ("uneven spacing", uneven, ("mm after", "mm apart")),
            ("mixed orientations", turned, ("1 of 6 slices are oriented otherwise", "mm")),
            ("two series", strange, ("6 files belong to 2 series",)),
        ):
            yield self.image_row(name, "irregular-series", words, *files)
            zipped = zip_bytes({f"{PLANTED}{at}": content for at, content in enumerate(files)})
            yield self.image_row(f"{name}, zipped", "irregular-series", words, zipped)

    def unusable(self) -> Iterator[Refused]:
        spoilt = build_image(GRID, "float32").voxels.copy()
        spoilt[2, 2, 2], spoilt[3, 3, 3] = np.nan, np.inf
        nan = to_bytes(lambda path: write_nifti_array(path, spoilt, GRID.affine))
        yield self.image_row("nifti with NaN", "unusable-image", ("2 of 792|NaN", "[0-9]"), nan)
        start = len(self.image["mha"]) - 2 * spoilt.size
        for form, old, new in (("nrrd", b"type: short", b"type: float"), ("mha", b"MET_SHORT", b"MET_FLOAT")):
            at = len(self.image[form]) - 2 * spoilt.size
            content = self.image[form][:at].replace(old, new) + spoilt.tobytes("F")
            yield self.image_row(f"{form} with NaN", "unusable-image", ("NaN|finite", "[0-9]"), content)
        assert start > 0
        for name, affine in (("singular", np.diag([1.0, 1, 0, 1])), ("infinite", np.diag([np.inf, 1, 1, 1]))):
            content = to_bytes(lambda path, affine=affine: write_nifti(path, build_image(GRID), change=affines(affine)))
            yield self.image_row(f"nifti, {name} affine", "unusable-image", ("edges of 1, 1, 0 mm|finite",), content)
        flat = self.image["mha"].replace(b"ElementSpacing = 0.75", b"ElementSpacing = 0")
        yield self.image_row("mha, singular affine", "unusable-image", ("edges of 0, 0.8, 2.5 mm",), flat)
        four = np.zeros((*GRID.shape, 3), np.int16)
        content = to_bytes(lambda path: write_nifti_array(path, four, GRID.affine))
        yield self.image_row("nifti, 4D", "unusable-image", ("12 x 11 x 6 x 3", "one 3D volume"), content)
        rgb = to_bytes(
            lambda path: write_nifti(path, build_image(GRID), change=lambda header: header.__setitem__("datatype", 128))
        )
        yield self.image_row("nifti, RGB", "unusable-image", ("got RGB voxels",), rgb)
        channels = self.image["mha"].replace(b"ElementType", b"ElementNumberOfChannels = 3\nElementType")
        yield self.image_row("mha, RGB", "unusable-image", ("channels",), channels)
        for name, keyword, value, words in (
            ("colour", "SamplesPerPixel", 3, "3 samples per pixel"),
            ("inverted", "PhotometricInterpretation", "MONOCHROME1", "MONOCHROME1"),
            ("slope of 0", "RescaleSlope", "0", "RescaleSlope is 0"),
        ):
            files = self.edited(lambda one, keyword=keyword, value=value: setattr(one, keyword, value))
            yield self.image_row(f"dicom, {name}", "unusable-image", (words,), *files)
        fractions = to_bytes(lambda path: write_nifti(path, build_image(GRID, "float32")))
        yield self.mask_row("a mask of fractions", "unusable-image", ("of the mask's 792 voxels",), fractions)
        tubes = self.contours({"a": [self.square(2)]}, kind="OPEN_PLANAR")
        yield self.dicom_row(
            "rtstruct, open contours", "unusable-image", ("OPEN_PLANAR", "CLOSED_PLANAR"), tubes, roi="a"
        )

    def fields(self) -> Iterator[Refused]:
        image, mask = (self.image["nifti"],), self.mask["nifti"]
        for name, fields, words in (
            ("an unknown field", {"colour": "red"}, "form field"),
            ("an unknown model", {"model": "none"}, "no such model"),
            ("an unknown preset", {"radiomics": "none"}, "no such preset"),
            ("a wrong truth", {"resample_mask": "perhaps"}, "true or false"),
        ):
            yield Refused(name, "invalid-field", (words,), image, mask, fields)

    def edited(self, change: Callable[[Any], object]) -> tuple[bytes, ...]:
        """The series with every file changed."""
        folder = self.new_path()
        folder.mkdir()
        for path in self.paths:
            dataset = pydicom.dcmread(path)
            change(dataset)
            dataset.save_as(folder / path.name)
        return tuple((folder / path.name).read_bytes() for path in self.paths)

    def labels(self, write: Callable[[Path, Any], Path], at: dict[int, list[tuple[int, int, int]]]) -> bytes:
        voxels = np.zeros(GRID.shape, np.uint8)
        for label, places in at.items():
            for place in places:
                voxels[place] = label
        return bytes_of(write, Image(voxels, GRID))

    def contours(self, rois: dict[str, list[Any]], **more: Any) -> bytes:
        own = pydicom.dcmread(self.paths[0]).FrameOfReferenceUID
        return write_rtstruct(self.new_path(), rois, **{"frame": own, **more}).read_bytes()

    def square(self, k: int) -> Any:
        return on_slice(GRID, k, box((2, 6), (2, 6)))

    def written_seg(self, series: list[Path], segments: Any, labels: tuple[str, ...]) -> bytes:
        return write_seg(self.new_path(), series, segments, labels).read_bytes()


def bytes_of(write: Callable[[Path, Any], Path], volume: Any) -> bytes:
    return to_bytes(lambda path: write(path, volume))


def plant(dataset: Any, _index: int) -> None:
    dataset.PatientName, dataset.PatientID = PLANTED, PLANTED


def same_frame(path: Path) -> Callable[[Any, int], None]:
    frame = pydicom.dcmread(path).FrameOfReferenceUID

    def change(dataset: Any, _index: int) -> None:
        dataset.FrameOfReferenceUID = frame

    return change


def shifted(by: Callable[[int], tuple[float, float, float]]) -> Callable[[Any], None]:
    def change(dataset: Any) -> None:
        moved = zip(dataset.ImagePositionPatient, by(int(dataset.InstanceNumber)), strict=True)
        dataset.ImagePositionPatient = [f"{float(at) + more:.8g}" for at, more in moved]

    return change


def turn(dataset: Any) -> None:
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "0", "-1"]


def rename(dataset: Any) -> None:
    dataset.SeriesInstanceUID = generate_uid()


def affines(affine: Any) -> Callable[[Any], None]:
    def change(header: Any) -> None:
        header["qform_code"], header["sform_code"] = 0, 1
        for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
            header[name] = affine[row]

    return change
