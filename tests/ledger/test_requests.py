"""The callers' side: submit once, see only one's own, page, remove."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.errors import IdempotencyConflict, InvalidField, NotFound
from service.job import JobState
from service.ledger import Ledger
from tests.ledger.conftest import Clock
from tests.ledger.making import OWNER, RULES, make_request, run, submit


def test_a_job_comes_back_as_it_was_accepted(ledger: Ledger, clock: Clock) -> None:
    job = submit(ledger, roi="2", parameters={"setting": {"binWidth": 25}})

    found = ledger.find_job(job.id, OWNER)

    assert found == job
    assert (found.state, found.version, found.attempt) == (JobState.ACCEPTED, 1, 0)
    assert found.request == make_request(roi="2", parameters={"setting": {"binWidth": 25}})
    assert found.created_at.timestamp() == clock.now
    assert found.state.public == "queued"


def test_another_owners_job_is_not_found(ledger: Ledger) -> None:
    claim = run(ledger)
    ledger.finish(claim, {"rois": []})
    ledger.add_preview(claim.job.id, b"png")

    for look in (ledger.find_job, ledger.remove_job):
        with pytest.raises(NotFound):
            look(claim.job.id, "mallory")
    assert ledger.find_result(claim.job.id, "mallory") is None
    assert ledger.find_preview(claim.job.id, "mallory") is None
    assert ledger.find_result(claim.job.id, OWNER) == {"rois": []}


def test_the_same_key_and_content_give_the_same_job(ledger: Ledger) -> None:
    first = submit(ledger, key="k")
    again, created = ledger.create_job(
        job_id=uuid.uuid4().hex, owner=OWNER, request=make_request(), case_id="case-1", idempotency_key="k"
    )

    assert (again, created) == (first, False)
    assert submit(ledger, owner="bob", key="k").id != first.id
    assert submit(ledger).id != first.id


@pytest.mark.parametrize("change", [{"content": "1"}, {"roi": "3"}, {"preset": "full"}])
def test_the_same_key_with_other_content_is_refused(ledger: Ledger, change: dict[str, str]) -> None:
    submit(ledger, key="k")

    with pytest.raises(IdempotencyConflict):
        submit(ledger, key="k", **change)


def test_the_order_of_the_files_does_not_change_the_fingerprint() -> None:
    request = make_request()
    turned = request.model_copy(update={"files": request.files[::-1]})

    assert turned.fingerprint("a") == request.fingerprint("a") != request.fingerprint("b")


def test_requests_with_one_key_at_the_same_moment_give_one_job(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda _: submit(ledger, key="k"), range(16)))

    assert len({job.id for job in jobs}) == 1
    assert ledger.count_unfinished() == 1


def test_pages_do_not_shift_when_jobs_arrive_or_go(ledger: Ledger, clock: Clock) -> None:
    jobs = []
    for step in (1, 0, 1, 0, 1, 1):  # some at the very same moment
        clock.advance(step)
        jobs.append(submit(ledger))
    expected = sorted(jobs, key=lambda job: (job.created_at, job.id), reverse=True)

    first = ledger.list_jobs(OWNER, limit=3)
    clock.advance(1)
    submit(ledger)
    ledger.finish(ledger.claim(first[-1].id, "w", 30, 3), {})  # type: ignore[arg-type]
    ledger.remove_job(first[-1].id, OWNER)
    second = ledger.list_jobs(OWNER, limit=3, before=first[-1].cursor)

    assert [job.id for job in first + second] == [job.id for job in expected]
    assert ledger.list_jobs(OWNER, limit=3, before=second[-1].cursor) == []


def test_a_list_can_be_narrowed_to_states(ledger: Ledger) -> None:
    running = run(ledger).job
    waiting = submit(ledger)

    assert [job.id for job in ledger.list_jobs(OWNER, limit=9, states=[JobState.RUNNING])] == [running.id]
    assert [job.id for job in ledger.list_jobs(OWNER, limit=9, states=[JobState.ACCEPTED])] == [waiting.id]
    assert ledger.list_jobs("bob", limit=9) == []


@pytest.mark.parametrize("cursor", ["", "nonsense", "1-"])
def test_a_forged_cursor_is_refused_or_empty(ledger: Ledger, cursor: str) -> None:
    submit(ledger)
    if cursor == "1-":
        assert ledger.list_jobs(OWNER, limit=9, before=cursor) == []
        return
    with pytest.raises(InvalidField):
        ledger.list_jobs(OWNER, limit=9, before=cursor)


def test_the_queue_position_counts_those_ahead(ledger: Ledger, clock: Clock) -> None:
    jobs = []
    for _ in range(3):
        clock.advance(1)
        jobs.append(submit(ledger))
    assert [ledger.queue_position(job.id) for job in jobs] == [1, 2, 3]

    ledger.claim(jobs[0].id, "w", 30, 3)

    assert [ledger.queue_position(job.id) for job in jobs] == [None, 1, 2]


def test_states_and_unfinished_jobs_are_counted(ledger: Ledger) -> None:
    run(ledger)
    submit(ledger, owner="bob")
    ledger.finish(run(ledger), {})

    states = ledger.count_states()

    assert states[JobState.RUNNING] == states[JobState.ACCEPTED] == states[JobState.SUCCEEDED] == 1
    assert states[JobState.FAILED] == 0
    assert (ledger.count_unfinished(), ledger.count_unfinished("bob")) == (2, 1)


def test_removing_a_running_job_leaves_an_empty_tombstone(ledger: Ledger) -> None:
    job = submit(ledger, key="k")
    claim = ledger.claim(job.id, "w", 30, 3)
    assert claim is not None

    tombstone = ledger.remove_job(job.id, OWNER)

    assert (tombstone.state, tombstone.request, tombstone.case_id) == (JobState.CANCELLED, None, None)
    assert tombstone.version > claim.job.version
    assert ledger.renew("w", [job.id], 30) == [job.id]
    assert not ledger.finish(claim, {"rois": []})
    assert ledger.find_result(job.id, OWNER) is None
    assert ledger.find_job(job.id, OWNER) == tombstone
    assert submit(ledger, key="k").id != job.id


def test_removing_a_finished_job_leaves_nothing(ledger: Ledger) -> None:
    claim = run(ledger)
    ledger.finish(claim, {"rois": []})
    ledger.add_preview(claim.job.id, b"png")

    assert ledger.remove_job(claim.job.id, OWNER).state is JobState.SUCCEEDED

    with pytest.raises(NotFound):
        ledger.find_job(claim.job.id, OWNER)
    assert ledger.find_result(claim.job.id, OWNER) is None


def test_content_expires_and_then_its_tombstone(ledger: Ledger, clock: Clock) -> None:
    claim = run(ledger)
    ledger.finish(claim, {"rois": []})
    ledger.add_preview(claim.job.id, b"png")
    waiting = submit(ledger)
    clock.advance(1001)

    found = ledger.reconcile(**RULES)

    assert found.delete == (claim.job.id,)
    expired = ledger.find_job(claim.job.id, OWNER)
    assert (expired.state, expired.request, expired.case_id) == (JobState.EXPIRED, None, None)
    assert ledger.find_result(claim.job.id, OWNER) is None
    assert ledger.find_job(waiting.id, OWNER).state is JobState.ACCEPTED
    clock.advance(1001)
    assert ledger.reconcile(**RULES).counts == {"removed": 1}
    with pytest.raises(NotFound):
        ledger.find_job(claim.job.id, OWNER)


def test_a_job_is_found_with_its_result_once_it_has_one(ledger: Ledger) -> None:
    claim = run(ledger)
    assert ledger.find_job_with_result(claim.job.id, OWNER) == (ledger.find_job(claim.job.id, OWNER), None)
    ledger.finish(claim, {"rois": []})
    job, result = ledger.find_job_with_result(claim.job.id, OWNER)
    assert (job.state, result) == (JobState.SUCCEEDED, {"rois": []})
    with pytest.raises(NotFound):
        ledger.find_job_with_result(claim.job.id, "mallory")


def test_a_picture_is_added_to_a_result_and_never_to_a_removed_job(ledger: Ledger) -> None:
    kept, removed = run(ledger), run(ledger)
    for claim in (kept, removed):
        ledger.finish(claim, {"rois": []})
    ledger.remove_job(removed.job.id, OWNER)
    for claim in (kept, removed):
        ledger.add_preview(claim.job.id, b"png")
    assert ledger.find_preview(kept.job.id, OWNER) == b"png"
    assert ledger.find_preview(removed.job.id, OWNER) is None
