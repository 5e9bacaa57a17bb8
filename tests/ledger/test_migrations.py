"""The schema: made by migrations, by several processes at once, equal to the tables in the code."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from service.ledger import Ledger
from service.ledger.tables import metadata
from tests.ledger.making import submit

OPEN = "import sys; from service.ledger import Ledger; ledger = Ledger(sys.argv[1]); ledger.upgrade(); ledger.dispose()"


def test_the_migrations_make_the_tables_of_the_code(ledger: Ledger) -> None:
    with ledger.read() as (connection, _):
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_several_processes_may_start_at_once(url: str, open_ledger: Callable[..., Ledger]) -> None:
    with ThreadPoolExecutor(4) as pool:
        runs = pool.map(lambda _: subprocess.run([sys.executable, "-c", OPEN, url], check=False), range(4))
    assert [run.returncode for run in runs] == [0] * 4

    submit(open_ledger())


def test_times_are_the_databases_own_without_a_clock(url: str, open_ledger: Callable[..., Ledger]) -> None:
    ledger = open_ledger()
    ledger.upgrade()
    job = submit(ledger)

    assert ledger.find_job(job.id, job.owner) == job
    assert ledger.list_jobs(job.owner, limit=1, before=job.cursor) == []


def test_sqlite_commits_reach_the_disk(tmp_path: object) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/a/ledger.sqlite3")
    ledger.upgrade()
    with ledger.read() as (connection, _):
        assert connection.execute(sa.text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(sa.text("PRAGMA synchronous")).scalar_one() == 2
        assert connection.execute(sa.text("PRAGMA foreign_keys")).scalar_one() == 1
    ledger.dispose()
