"""One case as a multipart form: its text fields, and its files, streamed."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAlias, TypedDict, Unpack

from service.radiomics_settings import Axes

SKIPPED: Final = frozenset({"DICOMDIR"})

Images: TypeAlias = Path | Sequence[Path] | Mapping[str, Path | Sequence[Path]]
Masks: TypeAlias = Path | Sequence[Path]
Rois: TypeAlias = str | Sequence[str]
TextParts: TypeAlias = dict[str, str | list[str]]  # several texts are sent as one field each
FileParts: TypeAlias = list[tuple[str, tuple[str, Any]]]


class Options(TypedDict, total=False):
    """What may be said of a case beside its files.

    Attributes:
        model: bundle, as `name` or `name@version`.
        roi: which regions, where the mask holds several: names or numbers, one or several; `all` for each of them,
            `whole` for their union.
        radiomics: a preset's name, or the path of a PyRadiomics parameter file.
        case_id: your pseudonym for the case.
        resample_mask: take a mask on another grid, by nearest neighbour.
        resample_images: resample channels on other grids onto one, linearly.
        reference: the channel that gives this grid; by default the model's first.
        suv: "bw" makes standardised uptake values, by body weight, of DICOM PET series.
        webhook: where the service tells of the end; an address that its operator allows.
        radiomics_axes: "stored" computes radiomics along the file's own axes, as PyRadiomics on the file would.
    """

    model: str | None
    roi: Rois | None
    radiomics: str | Path | None
    case_id: str | None
    resample_mask: bool
    radiomics_axes: Axes
    webhook: str | None
    resample_images: bool
    reference: str | None
    suv: Literal["bw"] | None


@dataclass(frozen=True)
class Submission:
    """One case as it is sent: `images` by channel ("" where the model has one channel)."""

    images: Mapping[str, Sequence[Path]]
    mask: Sequence[Path]
    model: str | None = None
    roi: Rois | None = None
    radiomics: str | Path | None = None
    case_id: str | None = None
    resample_mask: bool = False
    radiomics_axes: Axes = "canonical"
    resample_images: bool = False
    reference: str | None = None
    suv: Literal["bw"] | None = None
    webhook: str | None = None

    @classmethod
    def of(cls, image: Images, mask: Masks, **options: Unpack[Options]) -> Self:
        """Collect the files of a case.

        Args:
            image: a file, a folder of DICOM files, several files, or any of these by channel.
            mask: the mask's file, or files.
            options: see `Options`.
        """
        return cls(collect_images(image), collect_files(mask), **options)

    def texts(self) -> TextParts:
        """Return the form's text fields."""
        fields: dict[str, str | list[str] | None] = {"model": self.model, "case_id": self.case_id}
        if self.roi is not None:
            fields["roi"] = self.roi if isinstance(self.roi, str) else list(self.roi)
        if isinstance(self.radiomics, str):
            fields["radiomics"] = self.radiomics
        if self.resample_mask:
            fields["resample_mask"] = "true"
        if self.resample_images:
            fields["resample_images"] = "true"
        fields |= {"reference": self.reference, "suv": self.suv, "webhook": self.webhook}
        if self.radiomics_axes != "canonical":
            fields["radiomics_axes"] = self.radiomics_axes
        return {name: value for name, value in fields.items() if value is not None}

    def files(self) -> Iterator[tuple[str, Path]]:
        """Yield the form's file fields."""
        for channel, paths in self.images.items():
            for path in paths:
                yield (f"image.{channel}" if channel else "image"), path
        for path in self.mask:
            yield "mask", path
        if isinstance(self.radiomics, Path):
            yield "radiomics", self.radiomics


def form_parts(
    submission: Submission, on_upload: Callable[[int, int], None] | None = None
) -> tuple[TextParts, FileParts]:
    """Return a form's text fields and its files, under names that say nothing.

    Args:
        submission: the case.
        on_upload: receives bytes sent so far, and in all.
    """
    files = list(submission.files())
    total = sum(path.stat().st_size for _, path in files) if on_upload else 0
    sent = 0

    def count(size: int) -> None:
        nonlocal sent
        sent += size
        if on_upload:
            on_upload(sent, total)

    parts: FileParts = [
        (field, (f"{field}-{number:04d}", Part(path, count))) for number, (field, path) in enumerate(files)
    ]
    return submission.texts(), parts


class Part(io.RawIOBase):
    """A file of a form, opened when its turn comes (a series has more files than a process may open)."""

    def __init__(self, path: Path, on_read: Callable[[int], None]) -> None:
        self._path = path
        self._on_read = on_read
        self._size = path.stat().st_size
        self._position = 0
        self._file: io.BufferedReader | None = None

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; a part is asked for its length this way before it is opened."""
        self._close_file()
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer from where we are; the file closes at its end."""
        if self._file is None:
            self._file = self._path.open("rb")
            self._file.seek(self._position)
        count = self._file.readinto(buffer)
        self._position += count
        if count:
            self._on_read(count)
        else:
            self._close_file()
        return count

    def close(self) -> None:
        """Close."""
        self._close_file()
        super().close()

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def collect_images(image: Images) -> dict[str, Sequence[Path]]:
    """Return the files of a case's images by channel; "" stands for the only one."""
    if isinstance(image, Mapping):
        return {channel: collect_files(paths) for channel, paths in image.items()}
    return {"": collect_files(image)}


def collect_files(paths: Masks) -> list[Path]:
    """Return the files that `paths` name; a folder stands for all files in it, at any depth.

    Hidden files and DICOMDIR, which is an index and no image, are left out.
    """
    files: list[Path] = []
    for path in [paths] if isinstance(paths, Path) else paths:
        inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        files += [p for p in inside if p == path or not (p.name.startswith(".") or p.name in SKIPPED)]
    return files
