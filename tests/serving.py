"""Runs the real API: Uvicorn as configured for production, a real ledger and storage, in a thread or a process."""

import io
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from service.api.__main__ import create_server
from service.api.app import create_app
from service.api.context import Context
from service.config import Settings, read_settings
from service.ledger import Claim

WORKER = "worker-under-test"
FEATURES = {"original_firstorder_Mean": -12.5, "original_shape_MeshVolume": None, "deep_0000": 0.25}


@dataclass
class Service:
    """A running API and what lies behind it."""

    http: httpx.Client
    context: Context
    settings: Settings
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.settings.home

    @property
    def address(self) -> tuple[str, int]:
        return str(self.http.base_url.host), int(self.http.base_url.port or 0)

    def submit(self, *, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        """POST a case; `fields` override or add form fields: text, bytes (a file), or a list of either."""
        return self.http.post("/features", files=form(**fields), headers={**self.headers, **(headers or {})})

    def accepted(self, **fields: Any) -> dict[str, Any]:
        answer = self.submit(**fields)
        assert answer.status_code == 202, answer.text
        return dict(answer.json())

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.http.get(path, headers={**self.headers, **headers})

    def claim(self, job_id: str) -> Claim:
        """Claim a job as a worker does."""
        claim = self.context.ledger.claim(job_id, WORKER, lease_seconds=60, max_attempts=3)
        assert claim is not None
        return claim

    def succeed(self, job_id: str, preview: bytes | None = b"\x89PNG") -> None:
        assert self.context.ledger.finish(self.claim(job_id), result_document())
        if preview is not None:
            self.context.ledger.add_preview(job_id, preview)

    def fail(self, job_id: str, problem: dict[str, Any]) -> None:
        assert self.context.ledger.fail(self.claim(job_id), problem)

    def files(self) -> list[Path]:
        """Every upload on the disk, staged or committed."""
        return [path for folder in ("incoming", "jobs") for path in (self.home / folder).rglob("*")]


def result_document() -> dict[str, Any]:
    """A result as the worker stores it."""
    roi = {"name": "1", "voxels": 9, "volume_mm3": 13.5, "centroid_mm": [1.0, 2.0, 3.0], "bounding_box": [[0, 3]] * 3}
    prediction = {
        "target": "texture",
        "class": "smooth",
        "probabilities": {"smooth": 0.75, "rough": 0.25},
        "calibrated": True,
        "in_distribution": True,
        "demonstration": True,
        "evidence": "models/small-ct/card.md",
    }
    return {
        "model": {"name": "small-ct", "version": "1.0.0", "sha256": "0" * 64},
        "rois": [{"roi": roi, "features": FEATURES, "predictions": [prediction]}],
        "provenance": {
            "versions": {"radfuse": "0.1.0"},
            "radiomics_settings_sha256": "1" * 64,
            "device": "CPUExecutionProvider",
            "seconds": {"reading": 0.1},
            "notes": [],
        },
    }


def form(**fields: Any) -> list[tuple[str, Any]]:
    """A multipart form with an image and a mask unless told otherwise; None leaves a field out."""
    given = {"image": b"image bytes", "mask": b"mask bytes", **fields}
    parts: list[tuple[str, Any]] = []
    for name, values in given.items():
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, str):
                parts.append((name.replace("__", "."), (None, value)))
            elif value is not None:
                parts.append((name.replace("__", "."), ("file", value)))
    return parts


def make_settings(home: Path, models: Path, **values: Any) -> Settings:
    changes = {f"RADFUSE_{name.upper()}": str(value) for name, value in values.items()}
    return read_settings(
        {"RADFUSE_HOME": str(home), "RADFUSE_MODELS": str(models), "RADFUSE_MIN_FREE_BYTES": "0", "RADFUSE_PORT": "0"}
        | changes
    )


@contextmanager
def serving(settings: Settings) -> Iterator[Service]:
    """Serve in a thread until the end of the block."""
    app = create_app(settings)
    server = create_server(app, settings)
    # With the protocol named, asyncio turns Nagle's algorithm off, as it does for sockets that it opens itself.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.002)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with httpx.Client(base_url=url, timeout=30, trust_env=False) as http:
        yield Service(http, app.state.context, settings)
    server.should_exit = True
    thread.join(timeout=20)
    listener.close()
    assert not thread.is_alive()


@dataclass
class Process:
    """`python -m service.api` as a process of its own."""

    popen: subprocess.Popen[bytes]
    http: httpx.Client
    port: int
    log: Path

    def peak_bytes(self) -> int:
        """The most memory that was resident so far (VmHWM)."""
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


@contextmanager
def process(home: Path, models: Path, **values: Any) -> Iterator[Process]:
    """Run the API as it is run in production, and end it with TERM."""
    port = free_port()
    settings = {"HOME": home, "MODELS": models, "MIN_FREE_BYTES": 0, "PORT": port} | {
        name.upper(): value for name, value in values.items()
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RADFUSE_")}
    environment |= {f"RADFUSE_{name}": str(value) for name, value in settings.items()}
    log = home.parent / f"{home.name}.log"
    with log.open("wb") as stream:
        popen = subprocess.Popen([sys.executable, "-m", "service.api"], env=environment, stderr=stream, stdout=stream)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False) as http:
                _await_life(http, popen, log)
                yield Process(popen, http, port, log)
        finally:
            popen.terminate()
            popen.wait(timeout=20)


def _await_life(http: httpx.Client, popen: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and popen.poll() is None:
        try:
            http.get("/livez")
        except httpx.ConnectError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(log.read_text())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Zeros(io.RawIOBase):
    """A file of `size` zero bytes that takes no memory."""

    def __init__(self, size: int) -> None:
        self._left = self._size = size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._left = 0 if whence == io.SEEK_END else self._size - offset
        return self._size - self._left

    def tell(self) -> int:
        return self._size - self._left

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self._left)
        buffer[:count] = bytes(count)
        self._left -= count
        return count
