"""Cohorts in the ledger: manifests, the jobs of their items, their place in the queue, their end."""

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from service.errors import IdempotencyConflict, NotFound
from service.job import Job, JobState
from service.ledger import Cohort, Ledger
from tests.ledger.conftest import Clock
from tests.ledger.making import OWNER, RULES, make_request, submit

OPTIONS = {"texts": {"model": "lung-ct@1.0.0"}, "rois": [], "parameters": None}


def record(ledger: Ledger, items: int = 3, owner: str = OWNER, key: str | None = None, **changes: Any) -> Cohort:
    values: dict[str, Any] = {
        "cohort_id": uuid.uuid4().hex,
        "owner": owner,
        "options": OPTIONS,
        "columns": ("Image", "Mask"),
        "rows": [(f"image {number}", f"mask {number}") for number in range(1, items + 1)],
        "idempotency_key": key,
    }
    cohort, _ = ledger.create_cohort(**values | changes)
    return cohort


def send(ledger: Ledger, cohort: Cohort, item: int, content: str = "0") -> tuple[Job, str | None]:
    return ledger.create_item_job(
        cohort.id,
        item,
        job_id=uuid.uuid4().hex,
        owner=cohort.owner,
        request=make_request(content),
        case_id=f"case-{item}",
    )


def end(ledger: Ledger, job: Job, *, well: bool = True) -> None:
    claim = ledger.claim(job.id, "w1", 30, 3)
    assert claim is not None
    assert ledger.finish(claim, {"rois": []}) if well else ledger.fail(claim, {"title": "no"})


def test_a_manifest_is_kept_in_order(ledger: Ledger) -> None:
    cohort = record(ledger)

    assert ledger.find_cohort(cohort.id, OWNER) == cohort
    assert (cohort.columns, cohort.options, cohort.items) == (("Image", "Mask"), OPTIONS, 3)
    items = ledger.list_items(cohort.id, OWNER, after=1, limit=9)
    assert [(item.item, item.cells, item.job) for item in items] == [
        (2, ("image 2", "mask 2"), None),
        (3, ("image 3", "mask 3"), None),
    ]


def test_the_same_key_and_manifest_give_the_same_cohort(ledger: Ledger) -> None:
    first = record(ledger, key="k")

    assert record(ledger, key="k").id == first.id
    assert record(ledger, key="k", owner="bob").id != first.id
    for change in ({"items": 2}, {"options": {**OPTIONS, "rois": ["1"]}}, {"columns": ("Image", "Maske")}):
        with pytest.raises(IdempotencyConflict):
            record(ledger, key="k", **change)


def test_two_requests_with_one_key_at_once_make_one_cohort(open_ledger: Callable[..., Ledger]) -> None:
    ledgers = [open_ledger() for _ in range(4)]
    ledgers[0].upgrade()
    ready = threading.Barrier(4)

    def race(ledger: Ledger) -> str:
        ready.wait()
        return record(ledger, items=200, key="k").id

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(race, ledgers))) == 1


def test_nothing_of_a_cohort_is_another_owners(ledger: Ledger) -> None:
    cohort = record(ledger)
    send(ledger, cohort, 1)

    asks: list[Callable[[], object]] = [
        lambda: ledger.find_cohort(cohort.id, "bob"),
        lambda: ledger.list_items(cohort.id, "bob", after=0, limit=9),
        lambda: ledger.find_item(cohort.id, "bob", 1),
        lambda: list(ledger.list_item_results(cohort.id, "bob", after=0, limit=9)),
        lambda: ledger.cancel_cohort(cohort.id, "bob"),
        lambda: ledger.doom_cohort(cohort.id, "bob"),
        lambda: ledger.create_item_job(
            cohort.id, 2, job_id=uuid.uuid4().hex, owner="bob", request=make_request(), case_id=None
        ),
    ]
    for ask in asks:
        with pytest.raises(NotFound):
            ask()
    assert ledger.list_cohorts("bob", limit=9) == []


def test_cohorts_are_listed_newest_first_page_by_page(ledger: Ledger, clock: Clock) -> None:
    made = []
    for _ in range(3):
        clock.advance(1)
        made.append(record(ledger))

    first = ledger.list_cohorts(OWNER, limit=2)
    assert first == [made[2], made[1]]
    assert ledger.list_cohorts(OWNER, limit=2, before=first[-1].cursor) == [made[0]]


def test_the_same_files_of_an_item_give_the_same_job(ledger: Ledger) -> None:
    cohort = record(ledger)
    job, replaced = send(ledger, cohort, 2)

    assert replaced is None
    assert send(ledger, cohort, 2) == (job, None)
    end(ledger, job)
    assert send(ledger, cohort, 2)[0].id == job.id


def test_other_files_are_refused_while_the_job_may_succeed_or_has(ledger: Ledger) -> None:
    cohort = record(ledger)
    job, _ = send(ledger, cohort, 2)

    with pytest.raises(IdempotencyConflict):
        send(ledger, cohort, 2, "1")
    end(ledger, job)
    with pytest.raises(IdempotencyConflict):
        send(ledger, cohort, 2, "1")


def test_other_files_take_the_place_of_a_failed_job(ledger: Ledger) -> None:
    cohort = record(ledger)
    job, _ = send(ledger, cohort, 2)
    end(ledger, job, well=False)

    assert send(ledger, cohort, 2) == (ledger.find_job(job.id, OWNER), None)  # the same would fail again
    other, replaced = send(ledger, cohort, 2, "1")
    assert (replaced, other.state) == (job.id, JobState.ACCEPTED)
    with pytest.raises(NotFound):
        ledger.find_job(job.id, OWNER)


def test_an_item_that_is_not_in_the_manifest_is_not_found(ledger: Ledger) -> None:
    cohort = record(ledger, items=2)
    for item in (0, 3):
        with pytest.raises(NotFound):
            send(ledger, cohort, item)
        with pytest.raises(NotFound):
            ledger.find_item(cohort.id, OWNER, item)


def test_uploads_of_one_item_at_once_make_one_job(open_ledger: Callable[..., Ledger]) -> None:
    ledgers = [open_ledger() for _ in range(4)]
    ledgers[0].upgrade()
    cohort = record(ledgers[0])
    ready = threading.Barrier(4)

    def race(ledger: Ledger) -> str:
        ready.wait()
        return send(ledger, cohort, 1)[0].id

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(race, ledgers))) == 1
    assert ledgers[0].tally(cohort.id)[JobState.ACCEPTED] == 1


def test_items_are_counted_and_found_by_state(ledger: Ledger) -> None:
    cohort = record(ledger, items=5)
    for item, well in ((1, True), (2, False)):
        end(ledger, send(ledger, cohort, item)[0], well=well)
    send(ledger, cohort, 4)

    tally = ledger.tally(cohort.id)
    assert {state: count for state, count in tally.items() if count} == {
        JobState.ACCEPTED: 1,
        JobState.SUCCEEDED: 1,
        JobState.FAILED: 1,
    }

    def find(**options: Any) -> list[int]:
        return [item.item for item in ledger.list_items(cohort.id, OWNER, after=0, limit=9, **options)]

    assert find(awaiting=True) == [3, 5]
    assert find(states=[JobState.FAILED]) == [2]
    pairs = list(ledger.list_item_results(cohort.id, OWNER, after=0, limit=2))
    assert [(item.item, document) for item, document in pairs] == [(1, {"rois": []}), (2, None)]


def test_what_is_sent_by_itself_goes_before_cohorts_and_these_take_turns(ledger: Ledger, clock: Clock) -> None:
    large, small = record(ledger, items=4), record(ledger, items=2)
    of_large = [send(ledger, large, item)[0].id for item in range(1, 5)]
    clock.advance(1)
    of_small = [send(ledger, small, item)[0].id for item in (1, 2)]
    clock.advance(1)
    alone = submit(ledger).id

    turns = [of_large[0], of_small[0], of_large[1], of_small[1], of_large[2], of_large[3]]
    assert [ledger.queue_position(job_id) for job_id in [alone, *turns]] == [1, 2, 3, 4, 5, 6, 7]
    assert ledger.take_accepted(9) == [alone]
    assert [job_id for _ in range(6) for job_id in take_and_mark(ledger, window=1)] == [turns[0]]
    ledger.claim(turns[0], "w1", 30, 3)
    assert take_and_mark(ledger, window=1) == [turns[1]]


def take_and_mark(ledger: Ledger, window: int) -> list[str]:
    ids = ledger.take_items(window)
    ledger.mark_queued(ids)
    return ids


def test_only_a_window_of_items_is_with_the_broker(ledger: Ledger) -> None:
    cohort = record(ledger, items=6)
    jobs = [send(ledger, cohort, item)[0] for item in range(1, 7)]

    first = take_and_mark(ledger, window=4)
    assert first == [job.id for job in jobs[:4]]
    assert ledger.take_items(4) == []
    end(ledger, jobs[0])
    assert ledger.take_items(4) == []  # several at once, when half of them are gone
    end(ledger, jobs[1])
    assert take_and_mark(ledger, window=4) == [job.id for job in jobs[4:]]
    ledger.requeue()  # the broker has forgotten
    assert take_and_mark(ledger, window=4) == [job.id for job in jobs[2:]]


def test_queues_are_counted_apart(ledger: Ledger) -> None:
    cohort = record(ledger)
    send(ledger, cohort, 1)
    send(ledger, cohort, 2)
    submit(ledger)

    assert (ledger.count_unfinished(), ledger.count_unfinished(in_cohorts=True)) == (1, 2)


def test_cancelling_keeps_what_has_ended(ledger: Ledger) -> None:
    cohort = record(ledger)
    done, waiting = send(ledger, cohort, 1)[0], send(ledger, cohort, 2)[0]
    end(ledger, done)

    assert ledger.cancel_cohort(cohort.id, OWNER) == [waiting.id]
    assert ledger.cancel_cohort(cohort.id, OWNER) == []
    states = [item.job and item.job.state for item in ledger.list_items(cohort.id, OWNER, after=0, limit=9)]
    assert states == [JobState.SUCCEEDED, JobState.CANCELLED, None]
    assert send(ledger, cohort, 2)[1] == waiting.id  # to go on, the files are sent again


def test_a_removed_cohort_is_gone_at_once_and_then_in_full(ledger: Ledger) -> None:
    cohort, other = record(ledger, key="k"), record(ledger)
    done, running = send(ledger, cohort, 1)[0], send(ledger, cohort, 2)[0]
    kept = send(ledger, other, 1)[0]
    end(ledger, done)
    claim = ledger.claim(running.id, "w1", 30, 3)
    assert claim is not None

    ledger.doom_cohort(cohort.id, OWNER)
    for ask in (ledger.find_cohort, ledger.doom_cohort):
        with pytest.raises(NotFound):
            ask(cohort.id, OWNER)
    with pytest.raises(NotFound):
        send(ledger, cohort, 3)
    assert not ledger.finish(claim, {"rois": []})
    assert record(ledger, key="k").id != cohort.id
    assert sorted(ledger.list_doomed(9)) == sorted([done.id, running.id])
    assert ledger.erase_cohorts() == 0  # not before its jobs
    ledger.erase_jobs(ledger.list_doomed(9))
    assert ledger.renew("w1", [running.id], 30) == [running.id]  # its worker is told to stop
    assert (ledger.erase_cohorts(), ledger.list_doomed(9)) == (1, [])
    assert ledger.find_job(kept.id, OWNER).id == kept.id


def test_a_cohort_expires_as_a_whole_after_its_last_end(ledger: Ledger, clock: Clock) -> None:
    cohort = record(ledger)
    early, late = send(ledger, cohort, 1)[0], send(ledger, cohort, 2)[0]
    end(ledger, early)
    clock.advance(RULES["retention_seconds"] + 1)
    ledger.reconcile(**RULES)
    assert ledger.find_job(early.id, OWNER).state is JobState.SUCCEEDED  # the other still waits
    end(ledger, late)
    clock.advance(RULES["retention_seconds"] - 1)
    ledger.reconcile(**RULES)
    assert ledger.find_cohort(cohort.id, OWNER).id == cohort.id
    clock.advance(2)
    assert ledger.reconcile(**RULES).counts == {"cohorts": 1}
    with pytest.raises(NotFound):
        ledger.find_cohort(cohort.id, OWNER)
    assert sorted(ledger.list_doomed(9)) == sorted([early.id, late.id])


def test_a_manifest_whose_files_never_come_expires(ledger: Ledger, clock: Clock) -> None:
    cohort = record(ledger)
    clock.advance(RULES["retention_seconds"] + 1)
    ledger.reconcile(**RULES)
    with pytest.raises(NotFound):
        ledger.find_cohort(cohort.id, OWNER)
    assert ledger.erase_cohorts() == 1


def test_the_pace_is_that_of_the_last_ends(ledger: Ledger, clock: Clock) -> None:
    cohort = record(ledger, items=4)
    assert ledger.seconds_per_item(cohort.id) is None
    for item in range(1, 5):
        end(ledger, send(ledger, cohort, item)[0])
        clock.advance(2)
    assert ledger.seconds_per_item(cohort.id) == pytest.approx(2)
