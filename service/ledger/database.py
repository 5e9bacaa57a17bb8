"""The ledger's connection: SQLite or PostgreSQL, its transactions, its clock, its migrations."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy import event
from sqlalchemy.pool import NullPool

from service import log

_logger = log.logger("ledger")
Clock: TypeAlias = Callable[[], float]
T = TypeVar("T")

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
BUSY_MILLISECONDS = 15_000
RETRY_SECONDS = 1.0
# A server that cannot be reached any more, its connection never closed, must not hold a process for long.
POSTGRES_OPTIONS = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,  # milliseconds
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}
MIGRATION_LOCK = 0x7261_6466_7573_65  # any fixed number: it names the advisory lock


class Database:
    """One engine and its two kinds of transaction, `read` and `write`."""

    def __init__(self, url: str, *, clock: Clock | None = None, pooled: bool = True) -> None:
        """Connect lazily.

        Args:
            url: an SQLAlchemy URL; `postgresql://` is taken as psycopg 3.
            clock: seconds since 1970; by default the database's own clock on PostgreSQL, for several machines
                share it, and this machine's on SQLite.
            pooled: keep connections open. A process that forks must not, for a connection cannot be inherited.
        """
        self._engine = create_engine(url, pooled=pooled)
        self._postgres = self._engine.dialect.name == "postgresql"
        self._clock = clock

    def upgrade(self) -> None:
        """Bring the schema up to date; safe when several processes do so at once."""
        if not self._postgres:
            _use_wal(self._engine)
        with self._engine.connect().execution_options(exclusive=True) as connection, connection.begin():
            if self._postgres:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
            config = Config()
            config.set_main_option("script_location", str(MIGRATIONS))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def upgrade_when_reachable(self, stop: threading.Event) -> bool:
        """Upgrade, and try again every second while the database cannot be reached; False if `stop` came first."""
        while not stop.is_set():
            try:
                self.upgrade()
            except sa.exc.OperationalError as error:
                _logger.warning("outage", stage="open", error=type(error).__name__)
                stop.wait(RETRY_SECONDS)
            else:
                return True
        return False

    def ping(self) -> None:
        """Run an empty query.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: the database cannot be reached.
        """
        with self.read() as (connection, _):
            connection.execute(sa.select(1))

    def dispose(self) -> None:
        """Close every pooled connection."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[tuple[sa.Connection, float]]:
        """Open a transaction that only reads; yields the connection and the time."""
        with self._engine.begin() as connection:
            yield connection, self._now(connection)

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[tuple[sa.Connection, float]]:
        """Open a transaction that may write; on SQLite it takes the one writer's place at once.

        A deferred SQLite transaction that turns into a writer fails instead of waiting.

        Args:
            durable: wait until the disk has it. Without, a power cut may undo the last moments' transactions (never
                a part of one, and no process's death does): for what is found again anyway, such as who runs a job.
        """
        with (
            self._engine.connect().execution_options(immediate=True, durable=durable) as connection,
            connection.begin(),
        ):
            if self._postgres and not durable:
                connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")
            yield connection, self._now(connection)

    def insert_once(
        self, find: Callable[[sa.Connection], T | None], insert: Callable[[sa.Connection, float], T]
    ) -> tuple[T, bool]:
        """Insert what is not there yet, in one transaction.

        Args:
            find: looks for what came earlier under the same key.
            insert: adds it, given the connection and the time.

        Returns:
            What was inserted and True, or what was found and False.
        """
        try:
            with self.write() as (connection, now):
                earlier = find(connection)
                return (insert(connection, now), True) if earlier is None else (earlier, False)
        except sa.exc.IntegrityError:
            # Two requests with the same key at the same moment (PostgreSQL only): the other one came first.
            with self.read() as (connection, _):
                earlier = find(connection)
            if earlier is None:
                raise
            return earlier, False

    def _now(self, connection: sa.Connection) -> float:
        if self._clock is not None:
            return round(self._clock(), 6)
        if not self._postgres:
            return round(time.time(), 6)
        epoch = sa.func.extract("epoch", sa.func.clock_timestamp())
        return float(connection.execute(sa.select(sa.cast(epoch, sa.Double))).scalar_one())


def create_engine(url: str, *, pooled: bool) -> sa.Engine:
    """Build the engine for SQLite or PostgreSQL."""
    parsed = sa.make_url(url)
    pool: dict[str, Any] = {} if pooled else {"poolclass": NullPool}
    if parsed.get_backend_name() == "sqlite":
        engine = sa.create_engine(parsed, connect_args={"timeout": BUSY_MILLISECONDS / 1000}, **pool)
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    return sa.create_engine(parsed, pool_pre_ping=True, connect_args=POSTGRES_OPTIONS, **pool)


def _configure_sqlite(connection: Any, _record: Any) -> None:
    # No implicit BEGIN of the driver: `_begin_sqlite` says which kind is meant.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA secure_delete=ON")
    cursor.close()


def _begin_sqlite(connection: sa.Connection) -> None:
    options = connection.get_execution_options()
    level = "FULL" if options.get("durable", True) else "NORMAL"
    if connection.info.get("synchronous") != level:
        connection.exec_driver_sql(f"PRAGMA synchronous={level}")
        connection.info["synchronous"] = level
    kind = "EXCLUSIVE" if options.get("exclusive") else "IMMEDIATE" if options.get("immediate") else "DEFERRED"
    connection.exec_driver_sql(f"BEGIN {kind}")


def _use_wal(engine: sa.Engine) -> None:
    """Switch the SQLite file to write-ahead logging (a lasting property of the file)."""
    path = engine.url.database
    if path:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    deadline = time.monotonic() + BUSY_MILLISECONDS / 1000
    while not _is_wal(engine):
        # SQLite's busy handler does not cover this switch: another process may be in the middle of it.
        if time.monotonic() > deadline:
            raise TimeoutError("the ledger's SQLite file cannot be switched to write-ahead logging")
        time.sleep(0.02)


def _is_wal(engine: sa.Engine) -> bool:
    raw = engine.raw_connection()
    try:
        return bool(raw.cursor().execute("PRAGMA journal_mode=WAL").fetchone()[0] == "wal")
    except sa.exc.OperationalError:
        return False
    finally:
        raw.close()
