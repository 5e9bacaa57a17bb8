"""One running installation: everything `radfuse up` starts, as an object that starts, looks and stops."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import httpx
from sqlalchemy.exc import SQLAlchemyError

from service.config import PREFIX, read_settings
from service.errors import StartFailed
from service.identity import is_dead
from service.ledger import Ledger
from service.manifest import read_manifests
from service.redis_server import find_redis_server
from service.up.home import lock_home, open_home
from service.up.ports import check_port, free_port
from service.up.programs import redis_program, service_programs, supervisord_configuration
from service.up.supervisor import Supervisor
from service.up.watch import LogFollower, Watch, describe_log

START_SECONDS: Final = 90.0
WARM_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.1
ANSWER_SECONDS: Final = 10.0
REVIVE_SECONDS: Final = 15.0
STOP_MARGIN_SECONDS: Final = 10


class Stopped(Exception):  # noqa: N818  # not an error: the user asked
    """The start was interrupted by the user."""


class Installation:
    """Redis, API, dispatcher and worker of one home, from their start to their end.

    Args:
        environment: what its processes get, and where the settings are read from; port 0 takes a free port.
        tell: receives each line meant for the user.
        stopping: says whether the user asked to stop while something is waited for.
        show_logs: tell the processes' log lines too.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        tell: Callable[[str], None],
        stopping: Callable[[], bool] = lambda: False,
        *,
        show_logs: bool = False,
    ) -> None:
        self._tell = tell
        self._stopping = stopping
        settings = read_settings(environment)
        self._given = dict(environment)
        self._home = open_home(settings.home)
        self.settings = settings.model_copy(update={"port": settings.port or free_port(settings.host)})
        self._programs = service_programs()
        if not settings.redis_url:
            self._programs = (redis_program(_redis_server(), self._home), *self._programs)
        self._watch = Watch(self._home.logs, tell)
        self._follower = LogFollower(self._home.logs, tell) if show_logs else None
        self._supervisor: Supervisor | None = None
        self._lock = contextlib.ExitStack()
        self._gave_up_at: dict[str, float] = {}
        self.has_keys = False
        self.device = ""

    @property
    def url(self) -> str:
        """Where the API answers on this machine."""
        return self.settings.url

    def start(self) -> None:
        """Start everything and wait until it is ready.

        Raises:
            StartFailed: another one runs on the same home, the port is taken, or a process does not come up.
            Stopped: the user asked to stop meanwhile.
        """
        lock = self._lock.enter_context(lock_home(self._home, self._tell))
        self._lock.callback(self._home.remove_sockets)
        check_port(self.settings.host, self.settings.port)
        if not read_manifests(self.settings.models):
            raise StartFailed(f"there is no model bundle in {self.settings.models}; see RADFUSE_MODELS")
        self._prepare_ledger()
        configuration = supervisord_configuration(self._programs, self._home)
        self._supervisor = Supervisor(self._home, configuration, self._environment(), lock)
        self._supervisor.start()
        self._wait_until_ready()

    def look(self) -> None:
        """Report what died since the last look, and start again what supervisord does not."""
        supervisor = self._started()
        self._show_logs()
        if not supervisor.running:
            self._tell("supervisord was killed: everything is started again.")
            supervisor.kill()
            self._watch.forget()
            supervisor.start()
            return
        processes = supervisor.processes()
        self._watch.look(processes)
        for process in processes:
            if process.state != "FATAL":
                self._gave_up_at.pop(process.name, None)
            elif time.monotonic() - self._gave_up_at.setdefault(process.name, time.monotonic()) > REVIVE_SECONDS:
                supervisor.revive(process.name)

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> None:
        """Stop API, dispatcher, worker and Redis in this order; return when no process is left.

        Args:
            hurry: says whether the user has lost patience: then all is killed at once, which loses nothing.
        """
        if self._supervisor is not None:
            self._supervisor.terminate()
            deadline = time.monotonic() + sum(p.stop_seconds for p in self._programs) + STOP_MARGIN_SECONDS
            while self._supervisor.running and time.monotonic() < deadline and not hurry():
                self._supervisor.processes()  # an idle supervisord looks for what has ended only once a second
                self._show_logs()
                time.sleep(POLL_SECONDS)
            self._supervisor.kill()
        self._lock.close()

    def describe_logs(self) -> str:
        """Return the last lines of every process's log."""
        return "\n\n".join(describe_log(self._home.logs, program.name) for program in self._programs)

    def processes_left(self) -> list[int]:
        """Return the ids of all processes that were started and still live; none after `stop`."""
        return self._supervisor.members() if self._supervisor else []

    def process_ids(self) -> dict[str, int]:
        """Return the id of each process that runs, by name."""
        return {process.name: process.pid for process in self._started().processes() if process.pid}

    def _show_logs(self) -> None:
        if self._follower is not None:
            self._follower.look()

    def _started(self) -> Supervisor:
        if self._supervisor is None:
            raise StartFailed("the installation was not started")
        return self._supervisor

    def _prepare_ledger(self) -> None:
        try:
            with self._open_ledger() as ledger:
                ledger.upgrade()
                self.has_keys = ledger.has_keys()
        except SQLAlchemyError as error:
            raise StartFailed(
                f"the ledger cannot be opened ({type(error).__name__}); see RADFUSE_DATABASE_URL"
            ) from error

    @contextlib.contextmanager
    def _open_ledger(self) -> Iterator[Ledger]:
        ledger = Ledger(self.settings.ledger_url)
        try:
            yield ledger
        finally:
            ledger.dispose()

    def _environment(self) -> dict[str, str]:
        """Return the environment of the processes: the given one, and what was decided here."""
        decided = {"home": str(self.settings.home), "port": str(self.settings.port)}
        if not self.settings.redis_url:
            decided["redis_url"] = f"redis+socket://{self._home.redis_socket}"
        return self._given | {PREFIX + name.upper(): value for name, value in decided.items()}

    def _wait_until_ready(self) -> None:
        supervisor = self._started()
        deadline = time.monotonic() + START_SECONDS
        with httpx.Client(base_url=self.url, trust_env=False, timeout=ANSWER_SECONDS) as client:
            while lacking := _find_lacking(client):
                self._check_start(supervisor, lacking, late=time.monotonic() > deadline)
                time.sleep(POLL_SECONDS)
        self.device = self._await_device(supervisor)

    def _await_device(self, supervisor: Supervisor) -> str:
        """Wait until a worker has loaded the models, and return what they really run on."""
        deadline = time.monotonic() + WARM_SECONDS
        with self._open_ledger() as ledger:
            while not (device := _find_device(ledger)):
                late = time.monotonic() > deadline
                self._check_start(supervisor, "no worker could load the models; is RADFUSE_DEVICE right?", late=late)
                time.sleep(POLL_SECONDS)
        return device

    def _check_start(self, supervisor: Supervisor, lacking: str, *, late: bool) -> None:
        self._show_logs()
        if self._stopping():
            raise Stopped
        if not supervisor.running:
            raise StartFailed(f"supervisord did not start.\n{describe_log(self._home.logs, 'supervisord')}")
        self._watch.look(supervisor.processes())
        for program in self._programs:
            if self._watch.looping(program.name):
                raise StartFailed(f"{program.name} keeps stopping, see above")
        if late:
            raise StartFailed(f"not ready in time: {lacking}\n{self.describe_logs()}")


def _find_device(ledger: Ledger) -> str | None:
    """Return what the encoder really runs on, once a worker has loaded it."""
    workers = (each for each in ledger.list_processes(WARM_SECONDS) if each.kind == "worker" and not is_dead(each.name))
    return next((worker.device for worker in workers if worker.device), None)


def _find_lacking(client: httpx.Client) -> str:
    """Return what `/readyz` finds lacking; nothing once all is ready."""
    try:
        response = client.get("/readyz")
    except httpx.TransportError:
        return "the API does not answer"
    if response.status_code == httpx.codes.OK:
        return ""
    checks = response.json().get("checks", {})
    return "; ".join(f"{name}: {check['detail']}" for name, check in checks.items() if not check["ok"]) or "not ready"


def _redis_server() -> Path:
    server = find_redis_server()
    if server is None:
        raise StartFailed("no redis-server is installed; install one, or set RADFUSE_REDIS_URL to one that runs")
    return server
