"""The folders, the lock and the sockets of one installation."""

import fcntl
import hashlib
import os
import socket
import stat
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

from service.errors import StartFailed

PRIVATE = 0o700
# supervisord first binds its socket under a longer name: ".<pid>" is appended.
LONGEST_SUFFIX = ".4194304"
LOCK_RETRY_SECONDS = 0.1


@dataclass(frozen=True)
class Home:
    """Where one installation keeps its state.

    `sockets` is the `run` folder, or a short private folder elsewhere where the path of the home is too
    long for a Unix socket (108 bytes) or cannot stand in a URL as it is, or its file system holds no sockets.
    """

    path: Path
    sockets: Path

    @property
    def run(self) -> Path:
        """Lock, process ids, generated configuration."""
        return self.path / "run"

    @property
    def logs(self) -> Path:
        """One rotated log per process."""
        return self.path / "logs"

    @property
    def redis(self) -> Path:
        """What the embedded Redis keeps."""
        return self.path / "redis"

    @property
    def redis_socket(self) -> Path:
        """Where the embedded Redis listens."""
        return self.sockets / "redis.sock"

    @property
    def supervisor_socket(self) -> Path:
        """Where supervisord answers."""
        return self.sockets / "supervisor.sock"

    def remove_sockets(self) -> None:
        """Remove the sockets, and their folder where it lies outside the home."""
        self.redis_socket.unlink(missing_ok=True)
        self.supervisor_socket.unlink(missing_ok=True)
        if self.sockets != self.run and self.sockets.exists():
            self.sockets.rmdir()


def open_home(path: Path) -> Home:
    """Create what is missing of the folders of an installation, readable by its user alone.

    Raises:
        StartFailed: the home cannot be created or written.
    """
    try:
        for folder in (path, path / "run", path / "logs", path / "redis"):
            folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        sockets = path / "run" if _takes_sockets(path / "run") else _short_folder(path)
    except OSError as error:
        raise StartFailed(f"{error.filename} cannot be used: {error.strerror}; see RADFUSE_HOME") from error
    return Home(path, sockets)


def _takes_sockets(folder: Path) -> bool:
    """Whether supervisord's socket, the longest name, can be bound in `folder` and Redis' be named in a URL."""
    if quote(str(folder)) != str(folder):
        return False
    probe = folder / f"supervisor.sock{LONGEST_SUFFIX}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as attempt:
        try:
            probe.unlink(missing_ok=True)
            attempt.bind(str(probe))
        except OSError:
            return False
    probe.unlink()
    return True


def _short_folder(home: Path) -> Path:
    """Create a private folder with a short path that depends on the home and the user alone."""
    name = f"radfuse-{os.getuid()}-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}"
    for parent in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108  # checked below to be ours alone
        folder = parent / name
        folder.mkdir(mode=PRIVATE, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) != PRIVATE:
            raise StartFailed(f"{folder} is not a private folder of this user")
        if _takes_sockets(folder):
            return folder
        folder.rmdir()
    raise StartFailed(f"no Unix socket can be created in {folder}")


def lock_home(home: Home, tell: Callable[[str], None], wait_seconds: float = 90.0) -> IO[str]:
    """Take the lock of an installation: it is held as long as a process keeps the returned file open.

    supervisord inherits it, so that the lock outlives a `radfuse up` that was killed until all is stopped.
    That, and that alone, is waited for.

    Raises:
        StartFailed: another `radfuse up` runs on this home.
    """
    file = (home.run / "radfuse.lock").open("a+")
    deadline = time.monotonic() + wait_seconds
    waiting = False
    while not _locked(file):
        holder = _holder(file)
        if (holder and _is_alive(holder)) or time.monotonic() > deadline:
            file.close()
            raise StartFailed(
                f"Radfuse already runs on {home.path} (process {holder}); stop it, or set another RADFUSE_HOME"
            )
        if not waiting:
            tell("An earlier Radfuse on this home was killed and is still shutting down; waiting for it.")
            waiting = True
        time.sleep(LOCK_RETRY_SECONDS)
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(file: IO[str]) -> int | None:
    file.seek(0)
    text = file.read().strip()
    return int(text) if text.isdigit() else None


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
