"""How long a job will take: against a simulation of the queue, and unknown where nobody can know."""

import heapq

import pytest

from service.api.estimate import remaining_seconds, seconds_in_queue, seconds_to_retry
from service.ledger import Load


def simulate(load: Load, position: int) -> float:
    """Run the queue job by job: each takes the mean time, on the slot that is free first."""
    mean = sum(load.run_seconds) / len(load.run_seconds)
    free = [0.0] * (load.slots - len(load.running_seconds))
    free += [mean - elapsed for elapsed in load.running_seconds]
    heapq.heapify(free)
    end = 0.0
    for _ in range(position):
        end = heapq.heappop(free) + mean
        heapq.heappush(free, end)
    return end


@pytest.mark.parametrize("running", [(), (1.0,), (0.5, 3.0), (0.5, 1.5, 3.5)])
@pytest.mark.parametrize("position", [1, 2, 3, 4, 7, 100])
def test_waiting_is_estimated_as_the_queue_would_run(running: tuple[float, ...], position: int) -> None:
    load = Load((4.0, 4.0, 4.0), running, slots=3)
    assert seconds_in_queue(load, position) == pytest.approx(simulate(load, position))


def test_more_running_jobs_than_live_slots_are_no_error() -> None:
    assert seconds_in_queue(Load((4.0,) * 3, (1.0, 2.0, 3.0), slots=1), 1) == pytest.approx(5.0)


def test_a_run_is_compared_with_those_that_lasted_longer() -> None:
    assert remaining_seconds((1.0, 3.0, 5.0), 0.0) == pytest.approx(3.0)
    assert remaining_seconds((1.0, 3.0, 5.0), 2.0) == pytest.approx(2.0)
    assert remaining_seconds((1.0, 3.0, 5.0), 4.5) == pytest.approx(0.5)


def test_what_nobody_can_know_is_not_estimated() -> None:
    assert remaining_seconds((1.0, 3.0, 5.0), 5.0) is None
    assert remaining_seconds((1.0, 3.0), 0.5) is None
    assert seconds_in_queue(Load((4.0, 4.0), (), slots=2), 1) is None
    assert seconds_in_queue(Load((4.0, 4.0, 4.0), (), slots=0), 1) is None


def test_another_look_is_due_at_the_estimated_end_within_bounds() -> None:
    assert seconds_to_retry(0.05, None) == 1
    assert seconds_to_retry(7.2, 3) == 8
    assert seconds_to_retry(5000, 900) == 120
    assert [seconds_to_retry(None, position) for position in (None, 1, 10, 900)] == [1, 1, 6, 30]
