"""Versions and places of many jobs, and the figures behind estimates."""

from service.job import JobState
from service.ledger import Ledger
from tests.ledger.conftest import Clock
from tests.ledger.making import OWNER, run, submit


def test_the_places_of_many_jobs_are_those_of_each(ledger: Ledger, clock: Clock) -> None:
    jobs = []
    for _ in range(4):
        clock.advance(1)
        jobs.append(submit(ledger).id)
    ledger.claim(jobs[0], "w", 30, 3)

    places = ledger.queue_positions([*jobs, "0" * 32])

    assert places == {jobs[1]: 1, jobs[2]: 2, jobs[3]: 3}
    assert places == {job: ledger.queue_position(job) for job in jobs[1:]}
    assert ledger.queue_positions([]) == {}


def test_versions_grow_with_every_change(ledger: Ledger) -> None:
    job = submit(ledger)
    before = ledger.find_versions([job.id, "0" * 32])
    assert before == {job.id: 1}
    ledger.claim(job.id, "w", 30, 3)
    assert ledger.find_versions([job.id])[job.id] > 1


def test_the_load_is_of_recent_successes_of_what_runs_and_of_live_workers(ledger: Ledger, clock: Clock) -> None:
    for seconds in (2.0, 3.0):
        claim = run(ledger)
        clock.advance(seconds)
        ledger.finish(claim, {"rois": []})
    failed = run(ledger)
    clock.advance(50)
    ledger.fail(failed, {"title": "no"})
    ledger.beat("old", "worker", 8)
    clock.advance(100)
    ledger.beat("w1", "worker", 2)
    ledger.beat("w2", "worker", 3)
    ledger.beat("d", "dispatcher")
    run(ledger)
    clock.advance(4)

    load = ledger.measure_load(20)

    assert load.run_seconds == (3.0, 2.0)
    assert load.running_seconds == (4.0,)
    assert load.slots == 5


def test_the_load_of_an_idle_service_is_empty(ledger: Ledger) -> None:
    job = submit(ledger)
    ledger.remove_job(job.id, OWNER)
    assert ledger.find_job(job.id, OWNER).state is JobState.CANCELLED

    load = ledger.measure_load(20)

    assert (load.run_seconds, load.running_seconds, load.slots) == ((), (), 0)
