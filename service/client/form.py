"""One case as a multipart form: its text fields, and its files, streamed."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from service.radiomics_settings import Axes

SKIPPED: Final = frozenset({"DICOMDIR"})

Images: TypeAlias = Path | Sequence[Path] | Mapping[str, Path | Sequence[Path]]


@dataclass(frozen=True)
class Submission:
    """One case as it is sent: `images` by channel ("" where the model has one channel)."""

    images: Mapping[str, Sequence[Path]]
    mask: Sequence[Path]
    model: str | None = None
    roi: str | None = None
    radiomics: str | Path | None = None
    case_id: str | None = None
    resample_mask: bool = False
    radiomics_axes: Axes = "canonical"

    def texts(self) -> dict[str, str]:
        """Return the form's text fields."""
        fields = {"model": self.model, "roi": self.roi, "case_id": self.case_id}
        if isinstance(self.radiomics, str):
            fields["radiomics"] = self.radiomics
        if self.resample_mask:
            fields["resample_mask"] = "true"
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


def collect_files(paths: Path | Sequence[Path]) -> list[Path]:
    """Return the files that `paths` name; a folder stands for all files in it, at any depth.

    Hidden files and DICOMDIR, which is an index and no image, are left out.
    """
    files: list[Path] = []
    for path in [paths] if isinstance(paths, Path) else paths:
        inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        files += [p for p in inside if p == path or not (p.name.startswith(".") or p.name in SKIPPED)]
    return files
