"""The work's side: the outbox, claims, leases, fences, attempts."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.job import JobState
from service.ledger import Ledger, retry_delay
from tests.ledger.conftest import Clock
from tests.ledger.making import OWNER, RULES, run, submit


def test_accepted_jobs_are_taken_once_and_oldest_first(ledger: Ledger, clock: Clock) -> None:
    jobs = []
    for _ in range(3):
        clock.advance(1)
        jobs.append(submit(ledger).id)

    assert ledger.take_accepted(2) == jobs[:2]
    assert ledger.take_accepted(2) == jobs[2:]
    assert ledger.take_accepted(2) == []
    ledger.mark_queued(jobs)
    assert ledger.find_job(jobs[0], OWNER).state is JobState.QUEUED


def test_a_job_whose_dispatcher_died_before_publishing_is_taken_again(ledger: Ledger, clock: Clock) -> None:
    job = submit(ledger)
    assert ledger.take_accepted(9) == [job.id]
    clock.advance(6)

    assert ledger.take_accepted(9) == [job.id]


def test_a_job_claimed_before_it_is_marked_stays_running(ledger: Ledger) -> None:
    job = submit(ledger)
    ledger.take_accepted(9)
    ledger.claim(job.id, "w", 30, 3)

    ledger.mark_queued([job.id])

    assert ledger.find_job(job.id, OWNER).state is JobState.RUNNING


def test_a_duplicate_delivery_finds_nothing_to_do(ledger: Ledger) -> None:
    claim = run(ledger)

    assert ledger.claim(claim.job.id, "w2", 30, 3) is None
    ledger.finish(claim, {})
    assert ledger.claim(claim.job.id, "w2", 30, 3) is None
    assert ledger.claim(uuid.uuid4().hex, "w2", 30, 3) is None


def test_every_job_is_claimed_once_by_many_workers_at_once(
    ledger: Ledger, open_ledger: Callable[..., Ledger], clock: Clock
) -> None:
    jobs = [submit(ledger).id for _ in range(20)]
    ledgers = [open_ledger(clock) for _ in range(4)]

    def work(number: int) -> list[str]:
        claims = [ledgers[number].claim(job_id, f"w{number}", 30, 3) for job_id in jobs]
        return [claim.job.id for claim in claims if claim is not None]

    with ThreadPoolExecutor(4) as pool:
        claimed = [job_id for ids in pool.map(work, range(4)) for job_id in ids]

    assert sorted(claimed) == sorted(jobs)


def test_every_job_is_taken_once_by_many_dispatchers_at_once(
    ledger: Ledger, open_ledger: Callable[..., Ledger], clock: Clock
) -> None:
    jobs = [submit(ledger).id for _ in range(40)]
    ledgers = [open_ledger(clock) for _ in range(4)]

    def take(number: int) -> list[str]:
        return [job_id for _ in range(10) for job_id in ledgers[number].take_accepted(3)]

    with ThreadPoolExecutor(4) as pool:
        taken = [job_id for ids in pool.map(take, range(4)) for job_id in ids]

    assert len(taken) == len(set(taken))
    assert set(taken) <= set(jobs)


def test_only_the_last_claim_may_write(ledger: Ledger, clock: Clock) -> None:
    first = run(ledger, "w1", lease_seconds=10)
    clock.advance(11)
    second = ledger.claim(first.job.id, "w1", 10, 3)
    assert second is not None
    assert second.attempt == 2

    assert not ledger.report_stage(first, "encoder")
    assert not ledger.finish(first, {"from": "first"})
    assert not ledger.fail(first, {"title": "first"})
    assert ledger.finish(second, {"from": "second"})
    assert not ledger.finish(second, {"from": "second again"})
    assert ledger.find_result(first.job.id, OWNER) == {"from": "second"}


def test_a_renewed_lease_holds_and_a_lost_one_is_reported(ledger: Ledger, clock: Clock) -> None:
    claim = run(ledger, lease_seconds=10)
    waiting = submit(ledger).id
    clock.advance(8)

    assert ledger.renew("w1", [claim.job.id, waiting], 10) == []
    clock.advance(8)
    assert ledger.reconcile(**RULES).counts == {}
    clock.advance(3)
    taken = ledger.claim(claim.job.id, "w2", 10, 3)
    assert taken is not None
    assert ledger.renew("w1", [claim.job.id, waiting], 10) == [claim.job.id]
    ledger.finish(taken, {})
    assert ledger.renew("w1", [claim.job.id], 10) == []


def test_an_expired_lease_brings_the_job_back_after_its_backoff(ledger: Ledger, clock: Clock) -> None:
    claim = run(ledger, lease_seconds=10)
    ledger.reconcile(**RULES)
    ledger.release(claim.job.id, "w1", 0)
    again = ledger.claim(claim.job.id, "w1", 10, 3)
    assert again is not None
    clock.advance(11)

    assert ledger.reconcile(**RULES).counts == {"recovered": 1}

    assert ledger.take_accepted(9) == []
    assert ledger.claim(claim.job.id, "w2", 10, 3) is None
    clock.advance(retry_delay(2))
    assert ledger.take_accepted(9) == [claim.job.id]


def test_a_job_without_attempts_left_fails_as_worker_lost(ledger: Ledger, clock: Clock) -> None:
    job = submit(ledger)
    for attempt in (1, 2, 3):
        claim = ledger.claim(job.id, "w", 10, 3)
        assert claim is not None
        assert claim.attempt == attempt
        assert ledger.release(job.id, "w", 0)
    assert ledger.claim(job.id, "w", 10, 3) is None

    failed = ledger.find_job(job.id, OWNER)

    assert failed.state is JobState.FAILED
    assert failed.problem is not None
    assert failed.problem["type"] == "/problems/worker-lost"
    assert failed.finished_at is not None


def test_an_expired_last_attempt_fails_in_the_reconciler(ledger: Ledger, clock: Clock) -> None:
    claim = run(ledger, lease_seconds=10)
    clock.advance(11)

    assert ledger.reconcile(**RULES | {"max_attempts": 1}).counts == {"failed": 1}
    assert ledger.find_job(claim.job.id, OWNER).state is JobState.FAILED


def test_only_its_own_worker_releases_a_job(ledger: Ledger) -> None:
    claim = run(ledger)

    assert not ledger.release(claim.job.id, "w2", 0)
    assert ledger.release(claim.job.id, "w1", 0)
    assert not ledger.release(claim.job.id, "w1", 0)
    assert ledger.find_job(claim.job.id, OWNER).state is JobState.ACCEPTED


def test_all_jobs_of_a_dead_worker_are_released(ledger: Ledger) -> None:
    mine = [run(ledger, "w1").job.id for _ in range(2)]
    other = run(ledger, "w2").job.id
    assert sorted(ledger.list_holders()) == ["w1", "w2"]

    assert ledger.release_worker("w1") == 2

    assert sorted(ledger.take_accepted(9)) == sorted(mine)
    assert ledger.find_job(other, OWNER).state is JobState.RUNNING


def test_a_worker_that_is_told_to_go_does_not_use_up_attempts(ledger: Ledger) -> None:
    claim = run(ledger, "w1")

    assert ledger.release_worker("w1", forgive=True) == 1

    again = ledger.claim(claim.job.id, "w2", 30, 3)
    assert again is not None
    assert again.attempt == 1
    assert not ledger.finish(claim, {})
    assert ledger.finish(again, {})


def test_jobs_that_could_not_be_published_are_taken_again_at_once(ledger: Ledger) -> None:
    jobs = [submit(ledger).id for _ in range(2)]
    ids = ledger.take_accepted(9)
    ledger.mark_queued(ids[:1])

    ledger.put_back(ids)

    assert ledger.take_accepted(9) == ids[1:]
    assert sorted(ids) == sorted(jobs)


def test_an_unclaimed_message_is_sent_again_later_and_later(ledger: Ledger, clock: Clock) -> None:
    job = submit(ledger)
    for wait in (60, 120, 240):
        ledger.mark_queued(ledger.take_accepted(9))
        clock.advance(wait - 1)
        assert ledger.reconcile(**RULES).counts == {}
        clock.advance(2)
        assert ledger.reconcile(**RULES).counts == {"requeued": 1}
        assert ledger.find_job(job.id, OWNER).state is JobState.ACCEPTED


def test_everything_queued_is_sent_again_when_the_broker_forgot(ledger: Ledger) -> None:
    jobs = [submit(ledger).id for _ in range(3)]
    ledger.mark_queued(ledger.take_accepted(9))

    assert ledger.requeue() == 3
    assert sorted(ledger.take_accepted(9)) == sorted(jobs)


def test_every_change_raises_the_version(ledger: Ledger) -> None:
    claim = run(ledger)
    versions = [ledger.find_job(claim.job.id, OWNER).version]
    ledger.report_stage(claim, "reading")
    versions.append(ledger.find_job(claim.job.id, OWNER).version)
    ledger.finish(claim, {})
    versions.append(ledger.find_job(claim.job.id, OWNER).version)

    assert versions == sorted(set(versions))


def test_a_result_that_json_cannot_hold_is_refused_and_the_job_goes_on(ledger: Ledger) -> None:
    claim = run(ledger)

    with pytest.raises(ValueError, match="not JSON compliant"):
        ledger.finish(claim, {"value": float("nan")})

    assert ledger.finish(claim, {"value": None})


def test_files_are_needed_until_the_end_or_kept(ledger: Ledger) -> None:
    waiting = submit(ledger).id
    done = run(ledger)
    ledger.finish(done, {})
    unknown = uuid.uuid4().hex
    ids = [waiting, done.job.id, unknown]

    assert ledger.need_files(ids, keep_inputs=False) == {waiting}
    assert ledger.need_files(ids, keep_inputs=True) == {waiting, done.job.id}
    assert ledger.know(ids) == {waiting, done.job.id}


def test_live_processes_are_those_heard_of(ledger: Ledger, clock: Clock) -> None:
    ledger.beat("d", "dispatcher")
    ledger.beat("w", "worker")
    ledger.report_device("w", "CPUExecutionProvider")
    clock.advance(5)
    ledger.beat("w", "worker")

    (worker,) = ledger.list_processes(4)
    assert (worker.name, worker.kind, worker.device) == ("w", "worker", "CPUExecutionProvider")
    assert len(ledger.list_processes(6)) == 2
    ledger.leave("w")
    assert [process.name for process in ledger.list_processes(6)] == ["d"]
