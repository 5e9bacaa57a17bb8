"""The whole service, watched while it is attacked: the memory of its processes, their lives, and what stays on disk."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from service.up.installation import Installation
from tests.bundle_builder import NAME, write_bundle

MOST_SECONDS = 120.0


@dataclass(frozen=True)
class Cost:
    """What something took: seconds, and bytes that were resident at most beyond before."""

    seconds: float
    api_bytes: int
    child_bytes: int


class Target:
    """A running installation with one worker."""

    def __init__(self, installation: Installation, http: httpx.Client) -> None:
        self.http = http
        self.home = installation.settings.home
        self.address = (installation.settings.host, installation.settings.port)
        self._installation = installation
        self.processes = self.find_processes()

    def find_processes(self) -> dict[str, int]:
        """The ids of the API and of the worker's child."""
        ids = self._installation.process_ids()
        return {"api": ids["api"], "child": newest_child(psutil.Process(ids["worker"]))}

    @contextmanager
    def watched(self) -> Iterator[list[Cost]]:
        """Put what the block took into the list."""
        costs: list[Cost] = []
        before = {name: reset_peak(pid) for name, pid in self.processes.items()}
        began = time.perf_counter()
        yield costs
        seconds = time.perf_counter() - began
        grown = {name: max(0, read_status(pid, "VmHWM") - before[name]) for name, pid in self.processes.items()}
        costs.append(Cost(seconds, grown["api"], grown["child"]))

    def submit(self, image: Path | bytes, mask: Path | bytes, **fields: str) -> httpx.Response:
        """POST a case, streamed from the disk where it lies there."""
        return self.submit_files([image], mask, **fields)

    def submit_files(
        self, images: Sequence[Path | bytes], mask: Path | bytes, filename: str = "file", **fields: str
    ) -> httpx.Response:
        """POST a case whose image has several files."""
        with ExitStack() as stack:
            files = [
                (name, (filename, stack.enter_context(part.open("rb")) if isinstance(part, Path) else part))
                for name, part in (*(("image", image) for image in images), ("mask", mask))
            ]
            return self.http.post("/features", files=files, data={"model": NAME, **fields})

    def wait_for(self, job_id: str) -> dict[str, Any]:
        """Wait until the job has ended."""
        deadline = time.monotonic() + MOST_SECONDS
        while time.monotonic() < deadline:
            document: dict[str, Any] = self.http.get(f"/features/{job_id}", headers={"Prefer": "wait=30"}).json()
            if document["status"] not in ("queued", "running"):
                return document
        raise TimeoutError(f"the job is still {document['status']} after {MOST_SECONDS:g} s")

    def outcome(self, answer: httpx.Response) -> tuple[str, dict[str, Any]]:
        """What came of a submitted case: "computed" or a problem's slug, and the problem."""
        if answer.status_code != 202:
            problem = answer.json()
        else:
            document = self.wait_for(answer.json()["id"])
            if document["status"] == "succeeded":
                return "computed", {}
            problem = document["problem"]
        return str(problem["type"]).removeprefix("/problems/"), problem

    def uploads(self) -> list[Path]:
        """Whatever lies in the folders of uploads."""
        return [*(self.home / "incoming").iterdir(), *(self.home / "jobs").iterdir()]

    def wait_until_clean(self, seconds: float = 10) -> bool:
        """Whether every upload goes within this time."""
        deadline = time.monotonic() + seconds
        while self.uploads() and time.monotonic() < deadline:
            time.sleep(0.02)
        return not self.uploads()

    def logs(self) -> str:
        """Every line of every process's log."""
        return "".join(path.read_text() for path in sorted((self.home / "logs").glob("*.log")))


@contextmanager
def attacked(folder: Path, **environment: str) -> Iterator[Target]:
    """Run the whole service below a folder."""
    write_bundle(folder / "models")
    values = {
        "RADFUSE_HOME": str(folder / "home"),
        "RADFUSE_MODELS": str(folder / "models"),
        "RADFUSE_PORT": "0",
        "RADFUSE_DEVICE": "cpu",
        "RADFUSE_WORKERS": "1",
        **environment,
    }
    given = {key: value for key, value in os.environ.items() if not key.startswith("RADFUSE_")}
    installation = Installation(given | values, tell=lambda _: None)
    installation.start()
    try:
        with httpx.Client(base_url=installation.url, timeout=MOST_SECONDS, trust_env=False) as http:
            yield Target(installation, http)
    finally:
        installation.stop()


def newest_child(worker: psutil.Process) -> int:
    """The worker's child that runs jobs."""
    deadline = time.monotonic() + 30
    while not (children := worker.children()):
        if time.monotonic() > deadline:
            raise TimeoutError("the worker has no child")
        time.sleep(0.05)
    return max(children, key=lambda child: child.create_time()).pid


def reset_peak(pid: int) -> int:
    """Begin a new peak and return what is resident now (`clear_refs`, proc(5))."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return read_status(pid, "VmRSS")


def read_status(pid: int, name: str) -> int:
    """A size of a process in bytes (`status`, proc(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
