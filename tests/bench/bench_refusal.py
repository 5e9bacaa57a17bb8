"""Memory of the worker while it refuses what is too large: a gzip bomb, and a gigabyte that is no image.

    python -m tests.bench.bench_refusal

Goal: bounded. The peak is that of the worker's child (VmHWM), beside its peak on an ordinary case.
"""

import contextlib
import gzip
import os
import struct
import tempfile
import threading
import time
from pathlib import Path

import psutil

from service.client import Client
from service.config import BUILT_IN_MODELS
from service.errors import Refused
from service.up.installation import Installation

MIB = 1024**2
MODEL = "phantom-ct"
# The bomb is read up to the voxels it declares, which lie on another grid than the mask.
ANSWERS = ("succeeded", "too-large", "unreadable-image", "geometry-mismatch")


def main() -> None:
    example = BUILT_IN_MODELS / MODEL / "example"
    with tempfile.TemporaryDirectory() as folder:
        cases = {
            "an ordinary case": example / "image.nii.gz",
            "1 MiB of gzip that declares 2 TiB": forged(Path(folder) / "forged", (32767, 32767, 1024)),
            "gzip that decodes to more than declared": bomb(Path(folder) / "bomb"),
            "1 GiB that is no image": noise(Path(folder) / "noise"),
        }
        home = Path(folder) / "home"
        settings = {"RADFUSE_HOME": str(home), "RADFUSE_PORT": "0", "RADFUSE_WORKERS": "1", "RADFUSE_DEVICE": "cpu"}
        installation = Installation(os.environ | settings, tell=print)
        installation.start()
        try:
            with Client(installation.url) as client:
                for name, image in cases.items():
                    print(f"{name:<42} {run(client, installation, image, example / 'mask.nii.gz')}")
        finally:
            installation.stop()


def run(client: Client, installation: Installation, image: Path, mask: Path) -> str:
    peak = Peak(installation.process_ids()["worker"])
    begun = time.perf_counter()
    try:
        client.extract(image, mask, model=MODEL)
        answer = "succeeded"
    except Refused as refusal:
        answer = refusal.kind
    if answer not in ANSWERS:
        raise RuntimeError(f"{answer}: the case never reached the worker")
    seconds = time.perf_counter() - begun
    return f"{answer:<18} {seconds:5.1f} s   worker's child at most {peak.stop() / 1e6:.0f} MB"


class Peak:
    """The largest resident size of any child of a process, looked at every 5 ms."""

    def __init__(self, parent: int) -> None:
        self._parent = psutil.Process(parent)
        self._peak = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def stop(self) -> int:
        self._done.set()
        self._thread.join()
        return self._peak

    def _look(self) -> None:
        while not self._done.wait(0.005):
            with contextlib.suppress(psutil.NoSuchProcess):
                self._peak = max([self._peak, *(child.memory_info().rss for child in self._parent.children())])


def forged(path: Path, shape: tuple[int, int, int]) -> Path:
    path.write_bytes(gzip.compress(header(shape) + os.urandom(MIB)))
    return path


def bomb(path: Path) -> Path:
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(header((64, 64, 64)))
        for _ in range(1024):
            file.write(bytes(MIB))
    return path


def noise(path: Path) -> Path:
    with path.open("wb") as file:
        for _ in range(1024):
            file.write(os.urandom(MIB))
    return path


def header(shape: tuple[int, int, int]) -> bytes:
    """Return a NIfTI-1 header of int16 voxels with a unit sform."""
    raw = bytearray(352)
    struct.pack_into("<i", raw, 0, 348)
    struct.pack_into("<8h", raw, 40, 3, *shape, 1, 1, 1, 1)
    struct.pack_into("<2h", raw, 70, 4, 16)
    struct.pack_into("<8f", raw, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into("<f", raw, 108, 352)
    struct.pack_into("<B", raw, 123, 2)
    struct.pack_into("<2h", raw, 252, 0, 1)
    for row in range(3):
        struct.pack_into("<4f", raw, 280 + 16 * row, *(float(row == column) for column in range(4)))
    raw[344:348] = b"n+1\0"
    return bytes(raw)


if __name__ == "__main__":
    main()
