"""Uploads on disk: written once, whole, under opaque names, and removed without a trace.

Below the root, `incoming/` holds uploads in progress and `jobs/<job id>/` those of jobs. A folder moves from one
to the other by a rename, so that a job's folder is whole or not there.
"""

import hashlib
import os
import re
import shutil
import time
import uuid
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from service.job import JobRequest, Role, Upload

JOB_ID = re.compile(r"[0-9a-f]{32}")
PART_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
FOLDER_MODE = 0o700
FILE_MODE = 0o600
SYNC_THREADS = 8


class Part:
    """One file being written: its digest and size are known when it is closed."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.bytes = 0
        self._digest = hashlib.sha256()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
        self._file = os.fdopen(descriptor, "wb", buffering=0)

    def write(self, data: bytes) -> int:
        """Append."""
        self._digest.update(data)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) or 0 :]
        self.bytes += len(data)
        return len(data)

    @property
    def sha256(self) -> str:
        """The digest of what has been written so far, in hexadecimal."""
        return self._digest.hexdigest()

    def upload(self, role: Role, channel: str | None = None) -> Upload:
        """Describe the written file."""
        return Upload(role=role, channel=channel, file=self.name, bytes=self.bytes, sha256=self.sha256)

    def close(self) -> None:
        """Close the file; `Staging.commit` brings it to the disk."""
        self._file.close()

    def abandon(self) -> None:
        """Close the file as it is."""
        self._file.close()

    def __enter__(self) -> "Part":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


class Staging:
    """The folder of an upload in progress: closed, it is gone, unless it was committed."""

    def __init__(self, folder: Path, jobs: Path, syncing: Executor) -> None:
        self._folder = folder
        self._jobs = jobs
        self._syncing = syncing
        self._parts: list[Part] = []
        self._committed = False
        folder.mkdir(mode=FOLDER_MODE)

    def open_part(self, name: str) -> Part:
        """Begin a file under an opaque name.

        Raises:
            ValueError: the name could leave the folder or was not made by the service.
        """
        if not PART_NAME.fullmatch(name):
            raise ValueError("parts are stored under opaque names of lower-case letters, digits, '.', '_' and '-'")
        part = Part(self._folder / name)
        self._parts.append(part)
        return part

    def commit(self, job_id: str) -> None:
        """Make this the job's folder, durably: files, folder and the folder's entry are on the disk when it returns."""
        target = _job_folder(self._jobs, job_id)
        for part in self._parts:
            part.close()
        os.utime(self._folder)
        self._folder = self._folder.rename(target)
        # Together, because a disk brings many files home in the time of a few. Until the job's row is committed the
        # folder is an orphan, whatever of it has reached the disk.
        list(self._syncing.map(_sync, (*(target / part.name for part in self._parts), target, self._jobs)))
        self._committed = True

    def close(self) -> None:
        """Remove the folder and what was written to it, unless it was committed."""
        for part in self._parts:
            part.abandon()
        if not self._committed:
            _remove(self._folder)

    def __enter__(self) -> "Staging":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Storage:
    """The files of all jobs under one root."""

    def __init__(self, root: Path) -> None:
        self._incoming = root / "incoming"
        self._jobs = root / "jobs"
        self._syncing = ThreadPoolExecutor(SYNC_THREADS, thread_name_prefix="sync")
        for folder in (root, self._incoming, self._jobs):
            folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            _sync(folder.parent)

    def stage(self) -> Staging:
        """Open a folder for an upload."""
        return Staging(self._incoming / uuid.uuid4().hex, self._jobs, self._syncing)

    def paths(self, job_id: str, request: JobRequest) -> dict[str, Path]:
        """Return where each upload of the request lies, by its opaque name."""
        folder = _job_folder(self._jobs, job_id)
        return {upload.file: folder / upload.file for upload in request.files}

    def open_fetched(self, job_id: str) -> Path:
        """Make an empty folder inside the job's, for files that are fetched for it.

        Raises:
            FileNotFoundError: the job has no folder, or no longer.
        """
        folder = _job_folder(self._jobs, job_id) / "fetched"
        _remove(folder)
        folder.mkdir(mode=FOLDER_MODE)
        return folder

    def delete(self, job_id: str) -> None:
        """Remove a job's files; nothing happens where there are none."""
        _remove(_job_folder(self._jobs, job_id))

    def free_bytes(self) -> int:
        """Return the disk space that is left."""
        return shutil.disk_usage(self._jobs).free

    def list_jobs(self, older_than_seconds: float = 0) -> list[str]:
        """Return the jobs that have a folder at least this old."""
        return sorted(path.name for path in _older(self._jobs, older_than_seconds))

    def sweep_incoming(self, older_than_seconds: float) -> int:
        """Remove uploads that a killed process left behind and nobody has written to for this long."""
        left = [path for path in _older(self._incoming, older_than_seconds) if not _recent(path, older_than_seconds)]
        for path in left:
            _remove(path)
        return len(left)


def _job_folder(jobs: Path, job_id: str) -> Path:
    if not JOB_ID.fullmatch(job_id):
        raise ValueError("a job id is 32 hexadecimal digits")
    return jobs / job_id


def _older(folder: Path, seconds: float) -> list[Path]:
    return [path for path in folder.iterdir() if not _young(path, seconds)]


def _recent(folder: Path, seconds: float) -> bool:
    return any(_young(path, seconds) for path in folder.glob("*"))


def _young(path: Path, seconds: float) -> bool:
    """Whether it has changed within the last `seconds`; what has just been removed counts as young."""
    try:
        return time.time() - path.stat().st_mtime < seconds
    except FileNotFoundError:
        return True


def _remove(folder: Path) -> None:
    """Remove a folder; another process may be removing it too."""
    shutil.rmtree(folder, ignore_errors=False, onerror=_pass_over_missing)


def _pass_over_missing(_function: object, _path: str, info: tuple[type[BaseException], BaseException, object]) -> None:
    if not isinstance(info[1], FileNotFoundError):
        raise info[1]


def _sync(path: Path) -> None:
    """Bring a file, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
