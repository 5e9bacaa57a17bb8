"""The notes of what the broker has been told."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
import sqlalchemy as sa

from service.api.sent import Sent
from service.job import JobState
from service.ledger import Ledger
from tests.ledger.making import OWNER, run, submit


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    ledger.upgrade()
    yield ledger
    ledger.dispose()


def mark_for(sent: Sent, seconds: float) -> None:
    async def live() -> None:
        with anyio.move_on_after(seconds):
            await sent.mark_on()

    anyio.run(live)


def test_published_jobs_are_marked_and_claimed_ones_stay_as_they_are(ledger: Ledger) -> None:
    sent, waiting, claimed = Sent(ledger), submit(ledger), run(ledger)
    for job_id in (waiting.id, claimed.job.id):
        sent.add(job_id)
    mark_for(sent, 0.5)
    assert ledger.find_job(waiting.id, OWNER).state is JobState.QUEUED
    assert ledger.find_job(claimed.job.id, OWNER).state is JobState.RUNNING


def test_the_last_ones_are_marked_at_the_end(ledger: Ledger) -> None:
    sent, job = Sent(ledger), submit(ledger)
    sent.add(job.id)
    mark_for(sent, 0)
    assert ledger.find_job(job.id, OWNER).state is JobState.QUEUED


def test_an_outage_of_the_ledger_leaves_the_job_to_the_dispatcher(ledger: Ledger, tmp_path: Path) -> None:
    sent, job = Sent(ledger), submit(ledger)
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'ledger.sqlite3'}")
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE jobs RENAME TO away"))
    sent.add(uuid.uuid4().hex)
    mark_for(sent, 0.2)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE away RENAME TO jobs"))
    engine.dispose()
    assert ledger.take_accepted(1) == [job.id]
    sent.add(job.id)
    mark_for(sent, 0.2)
    assert ledger.find_job(job.id, OWNER).state is JobState.QUEUED
