"""One ledger on each database: SQLite and a real PostgreSQL from the `pgserver` wheel."""

import shutil
import signal
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from service.ledger import Ledger


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its import says where it will look for a folder
        import pgserver  # noqa: PLC0415

        # Not below pytest's own folder: a server started by root runs as another user and could not reach it.
        folder = Path("/tmp") / f"radfuse-{uuid.uuid4().hex[:8]}"
        server = pgserver.get_server(folder, cleanup_mode=None)
    yield server.get_uri()
    # Its own clean-up waits a minute for a process that nobody collects, as in containers without an init.
    postmaster = psutil.Process(int((folder / "postmaster.pid").read_text().split()[0]))
    postmaster.send_signal(signal.SIGQUIT)
    while postmaster.is_running() and postmaster.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.02)
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'ledger.sqlite3'}"
        return
    server = sa.make_url(request.getfixturevalue("postgres")).set(drivername="postgresql+psycopg")
    name = f"ledger_{uuid.uuid4().hex[:8]}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE SCHEMA {name}"))
    engine.dispose()
    yield server.update_query_dict({"options": f"-csearch_path={name}"}).render_as_string(hide_password=False)


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_ledger(url: str) -> Iterator[Callable[..., Ledger]]:
    """Open further ledgers on the same database."""
    opened: list[Ledger] = []

    def open_one(clock: Callable[[], float] | None = None) -> Ledger:
        opened.append(Ledger(url, clock=clock))
        return opened[-1]

    yield open_one
    for ledger in opened:
        ledger.dispose()


@pytest.fixture
def ledger(open_ledger: Callable[..., Ledger], clock: Clock) -> Ledger:
    ledger = open_ledger(clock)
    ledger.upgrade()
    return ledger
