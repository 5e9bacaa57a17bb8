"""Webhooks in the ledger: due from the end of the job on, sent by one at a time, sent again when a sender dies."""

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.job import Job
from service.ledger import Ledger
from tests.ledger.conftest import Clock
from tests.ledger.making import OWNER, RULES, make_request

TARGET = "https://pipeline.example:443/hooks"
ADDRESS = "https://pipeline.example/hooks/radfuse?run=7"
HOLD = 30


def submit(ledger: Ledger, target: str = TARGET, key: str | None = None) -> Job:
    job, _ = ledger.create_job(
        job_id=uuid.uuid4().hex,
        owner=OWNER,
        request=make_request(webhook=ADDRESS),
        case_id="case-1",
        idempotency_key=key,
        webhook_target=target,
    )
    return job


def succeed(ledger: Ledger, job: Job) -> None:
    claim = ledger.claim(job.id, "w1", 30, 3)
    assert claim is not None
    assert ledger.finish(claim, {"rois": []})


def fail(ledger: Ledger, job: Job) -> None:
    claim = ledger.claim(job.id, "w1", 30, 3)
    assert claim is not None
    assert ledger.fail(claim, {"title": "no"})


def fail_from_outside(ledger: Ledger, job: Job) -> None:
    ledger.claim(job.id, "w1", 30, 3)
    assert ledger.fail_running(job.id, "w1", {"title": "late"})


def lose_the_worker(ledger: Ledger, job: Job) -> None:
    ledger.claim(job.id, "w1", 30, 1)
    ledger.release(job.id, "w1", 0)
    assert ledger.claim(job.id, "w2", 30, 1) is None


def cancel(ledger: Ledger, job: Job) -> None:
    ledger.remove_job(job.id, OWNER)


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (succeed, "succeeded"),
        (fail, "failed"),
        (fail_from_outside, "failed"),
        (lose_the_worker, "failed"),
        (cancel, "cancelled"),
    ],
)
def test_every_end_makes_its_webhook_due(
    ledger: Ledger, clock: Clock, end: Callable[[Ledger, Job], None], status: str
) -> None:
    job = submit(ledger)
    assert ledger.take_delivery(TARGET, HOLD) is None
    clock.advance(5)

    end(ledger, job)

    delivery = ledger.take_delivery(TARGET, HOLD)
    assert delivery is not None
    assert (delivery.job_id, delivery.status, delivery.address) == (job.id, status, ADDRESS)
    assert delivery.ended_at.timestamp() == clock.now
    assert ledger.take_delivery(TARGET, HOLD) is None


def test_an_expired_lease_on_the_last_attempt_makes_the_webhook_due(ledger: Ledger, clock: Clock) -> None:
    job = submit(ledger)
    ledger.claim(job.id, "w1", 10, 1)
    clock.advance(11)
    ledger.reconcile(**RULES | {"max_attempts": 1})

    delivery = ledger.take_delivery(TARGET, HOLD)
    assert delivery is not None
    assert delivery.status == "failed"


def test_an_end_that_is_not_this_claims_makes_nothing_due(ledger: Ledger, clock: Clock) -> None:
    job = submit(ledger)
    claim = ledger.claim(job.id, "w1", 10, 3)
    assert claim is not None
    clock.advance(11)
    ledger.claim(job.id, "w2", 10, 3)

    assert not ledger.finish(claim, {"rois": []})
    assert not ledger.fail(claim, {"title": "no"})
    assert not ledger.fail_running(job.id, "w1", {"title": "no"})
    assert ledger.take_delivery(TARGET, HOLD) is None


def test_a_delivery_whose_sender_died_is_taken_again_and_no_longer_the_dead_ones(ledger: Ledger, clock: Clock) -> None:
    succeed(ledger, submit(ledger))
    first = ledger.take_delivery(TARGET, HOLD)
    assert first is not None
    clock.advance(HOLD + 1)

    second = ledger.take_delivery(TARGET, HOLD)

    assert second is not None
    assert (second.job_id, second.attempts) == (first.job_id, 2)
    ledger.postpone_delivery(first, 1000)
    ledger.end_delivery(first)
    clock.advance(HOLD + 1)
    assert ledger.take_delivery(TARGET, HOLD) is not None


def test_a_postponed_delivery_waits_and_an_ended_one_is_gone(ledger: Ledger, clock: Clock) -> None:
    succeed(ledger, submit(ledger))
    first = ledger.take_delivery(TARGET, HOLD)
    assert first is not None
    ledger.postpone_delivery(first, 300)
    clock.advance(299)
    assert ledger.take_delivery(TARGET, HOLD) is None
    clock.advance(1)
    second = ledger.take_delivery(TARGET, HOLD)
    assert second is not None
    assert second.attempts == 2
    assert ledger.count_deliveries() == 1

    ledger.end_delivery(second)

    clock.advance(1e6)
    assert ledger.take_delivery(TARGET, HOLD) is None
    assert ledger.count_deliveries() == 0


def test_each_target_has_a_queue_of_its_own_oldest_first(ledger: Ledger, clock: Clock) -> None:
    other = submit(ledger, "https://other.example:443/")
    jobs = [submit(ledger) for _ in range(2)]
    for job in (*jobs[::-1], other):
        clock.advance(1)
        succeed(ledger, job)

    taken = [ledger.take_delivery(TARGET, HOLD) for _ in range(3)]

    assert [each.job_id if each else None for each in taken] == [jobs[1].id, jobs[0].id, None]
    elsewhere = ledger.take_delivery("https://other.example:443/", HOLD)
    assert elsewhere is not None
    assert elsewhere.job_id == other.id


def test_a_delivery_is_taken_once_by_many_at_once(
    ledger: Ledger, open_ledger: Callable[..., Ledger], clock: Clock
) -> None:
    jobs = [submit(ledger) for _ in range(12)]
    for job in jobs:
        succeed(ledger, job)
    ledgers = [open_ledger(clock) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        taken = [
            each.job_id
            for some in pool.map(lambda one: [one.take_delivery(TARGET, HOLD) for _ in range(12)], ledgers)
            for each in some
            if each is not None
        ]

    assert len(taken) == len(set(taken))


def test_what_is_removed_is_not_told(ledger: Ledger, clock: Clock) -> None:
    job = submit(ledger)
    succeed(ledger, job)
    ledger.remove_job(job.id, OWNER)

    assert ledger.take_delivery(TARGET, HOLD) is None
    assert ledger.count_deliveries() == 0


def test_a_repeated_request_is_told_of_once_and_the_webhook_is_part_of_its_content(ledger: Ledger) -> None:
    job = submit(ledger, key="k")
    assert submit(ledger, key="k").id == job.id
    succeed(ledger, job)

    assert ledger.take_delivery(TARGET, HOLD) is not None
    assert ledger.take_delivery(TARGET, HOLD) is None
    assert make_request().fingerprint("a") != make_request(webhook=ADDRESS).fingerprint("a")
