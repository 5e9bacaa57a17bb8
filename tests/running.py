"""Redis, the dispatcher and a worker as real processes, over a ledger and a storage that the test holds too."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import redis

from service.config import Settings
from service.job import Job, JobRequest, JobState, Upload
from service.ledger import Ledger
from service.redis_server import find_redis_server
from service.storage import Storage
from tests.bundle_builder import NAME, write_bundle

OWNER = "local"
REPOSITORY = Path(__file__).resolve().parent.parent


class Installation:
    """What `radfuse up` runs, less the API, with every process at hand to be killed."""

    def __init__(self, home: Path, **environment: str) -> None:
        (home / "run").mkdir(parents=True)
        self.home = home
        self.models = home / "models"
        self.model = f"{NAME}@1.0.0"
        write_bundle(self.models)
        self.values = {
            "RADFUSE_HOME": str(home),
            "RADFUSE_MODELS": str(self.models),
            "RADFUSE_WORKERS": "1",
            "RADFUSE_DEVICE": "cpu",
            "RADFUSE_LEASE_SECONDS": "4",
            "RADFUSE_HEARTBEAT_SECONDS": "0.5",
            "RADFUSE_RECONCILE_SECONDS": "0.5",
            "RADFUSE_REQUEUE_SECONDS": "4",
            **environment,
        }
        self.settings = Settings(home=home)
        self.ledger = Ledger(environment.get("RADFUSE_DATABASE_URL", self.settings.ledger_url))
        self.ledger.upgrade()
        self.storage = Storage(home)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def redis(self) -> Any:
        return redis.Redis(unix_socket_path=str(self.home / "run" / "redis.sock"))

    def start(self, name: str) -> None:
        """Start `redis`, `dispatcher` or `worker`."""
        command = self._redis_command() if name == "redis" else [sys.executable, "-m", f"service.{name}"]
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("RADFUSE_")}
        with (self.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, cwd=REPOSITORY, env=inherited | self.values, stderr=log, stdout=log
            )
        if name == "redis":
            wait_until(self._redis_answers, 10)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Signal a process and wait for its end."""
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(60)

    def children(self) -> list[psutil.Process]:
        """The worker's children."""
        return psutil.Process(self.processes["worker"].pid).children()

    def stop(self) -> None:
        """End everything, in order."""
        for name in ("worker", "dispatcher", "redis"):
            if name in self.processes:
                self.kill(name, signal.SIGTERM)
        self.ledger.dispose()

    def log(self, name: str) -> str:
        return (self.home / f"{name}.log").read_text()

    def submit(self, image: bytes, mask: bytes, **options: Any) -> str:
        """Accept a job as the API does: files first, then the row."""
        job_id, uploads = self.store(image, mask)
        request = JobRequest(model=options.pop("model", self.model), files=uploads, **options)
        self.ledger.create_job(job_id=job_id, owner=OWNER, request=request, case_id=None, idempotency_key=None)
        return job_id

    def store(self, image: bytes, mask: bytes) -> tuple[str, tuple[Upload, ...]]:
        """Store the files of a new job and return its id and what they are."""
        job_id = uuid.uuid4().hex
        with self.storage.stage() as staging:
            uploads = []
            for role, channel, content in (("image", "ct", image), ("mask", None, mask)):
                with staging.open_part(f"{role}-0000") as part:
                    part.write(content)
                uploads.append(part.upload(role, channel))
            staging.commit(job_id)
        return job_id, tuple(uploads)

    def job(self, job_id: str) -> Job:
        return self.ledger.find_job(job_id, OWNER)

    def features(self, job_id: str) -> list[dict[str, float]]:
        """The job's fused vectors."""
        document = self.ledger.find_result(job_id, OWNER)
        assert document is not None
        return [roi["features"] for roi in document["rois"]]

    def wait_for(self, job_id: str, *states: JobState, seconds: float = 60) -> Job:
        """Wait until the job is in one of the states (by default a terminal one)."""
        wanted = states or tuple(state for state in JobState if state.terminal)
        wait_until(lambda: self.job(job_id).state in wanted, seconds)
        return self.job(job_id)

    def _redis_command(self) -> list[str]:
        server = find_redis_server()
        assert server is not None
        run = self.home / "run"
        options = {"port": "0", "unixsocket": str(run / "redis.sock"), "dir": str(run), "appendonly": "yes", "save": ""}
        return [str(server), *(part for name, value in options.items() for part in (f"--{name}", value))]

    def _redis_answers(self) -> bool:
        try:
            return bool(self.redis.ping())
        except redis.exceptions.RedisError:
            return False


@contextmanager
def running(home: Path, *names: str, **environment: str) -> Iterator[Installation]:
    """Start an installation; stop it at the end."""
    installation = Installation(home, **environment)
    try:
        for name in names or ("redis", "dispatcher", "worker"):
            installation.start(name)
        yield installation
    finally:
        installation.stop()


def wait_until(holds: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: it does not hold in time.
    """
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not happen within {seconds} s")
        time.sleep(0.02)
