"""The stage of the job in hand, told beside the work."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.ledger import Ledger
from service.pipeline import Stage
from service.worker.progress import Progress
from tests.ledger.making import OWNER, run
from tests.running import wait_until

PATIENCE = 0.2


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    ledger.upgrade()
    yield ledger
    ledger.dispose()


def stage(ledger: Ledger, job_id: str) -> str | None:
    return ledger.find_job(job_id, OWNER).stage


def test_a_claimed_job_is_being_read(ledger: Ledger) -> None:
    assert stage(ledger, run(ledger).job.id) == "reading"


def test_a_stage_is_told_once_it_lasts(ledger: Ledger) -> None:
    progress, claim = Progress(ledger, PATIENCE), run(ledger)
    version = ledger.find_job(claim.job.id, OWNER).version
    with progress.until_end():
        for passed in (Stage.RADIOMICS, Stage.ENCODER, Stage.PREDICTION):
            progress.enter(claim, passed)
        wait_until(lambda: stage(ledger, claim.job.id) == "prediction", 10)
    assert ledger.find_job(claim.job.id, OWNER).version == version + 1  # the stages before were over too soon


def test_nothing_is_told_after_the_end(ledger: Ledger) -> None:
    progress, first, second = Progress(ledger, PATIENCE), run(ledger), run(ledger)
    with progress.until_end():
        progress.enter(first, Stage.ENCODER)
    time.sleep(2 * PATIENCE)
    assert stage(ledger, first.job.id) == "reading"
    with progress.until_end():
        progress.enter(second, Stage.RADIOMICS)
        wait_until(lambda: stage(ledger, second.job.id) == "radiomics", 10)


def test_an_outage_of_the_ledger_stops_nothing(ledger: Ledger, tmp_path: Path) -> None:
    progress, claim = Progress(ledger, 0.01), run(ledger)
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE jobs RENAME TO away"))
    progress.enter(claim, Stage.RADIOMICS)
    time.sleep(0.2)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE away RENAME TO jobs"))
    engine.dispose()
    assert "progress" in [thread.name for thread in threading.enumerate()]
    progress.enter(claim, Stage.ENCODER)
    wait_until(lambda: stage(ledger, claim.job.id) == "encoder", 10)
