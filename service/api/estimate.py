"""How long a job will still take, from what the ledger knows: recent runs, live workers, jobs ahead.

No more than that: a job is taken to run as long as the last ones did. Where there is nothing to go by - no job has
succeeded lately, no worker lives, a job runs longer than any before it - there is no estimate.
"""

import math
import threading
import time
from collections.abc import Sequence

from service.job import Job, JobState
from service.ledger import Ledger, Load

FRESH_SECONDS = 1.0
LEAST_RUNS = 3
LONGEST_RETRY_SECONDS = 120
LONGEST_BLIND_RETRY_SECONDS = 30


class Estimator:
    """Estimates from figures that are at most `FRESH_SECONDS` old, however many ask."""

    def __init__(self, ledger: Ledger, beat_within_seconds: float) -> None:
        self._ledger = ledger
        self._beat_within_seconds = beat_within_seconds
        self._lock = threading.Lock()
        self._load = Load((), (), 0)
        self._stale_at = -math.inf

    def estimate(self, job: Job, position: int | None) -> float | None:
        """Return the seconds until the job's end, or None where they are not known.

        Args:
            job: any job.
            position: its place in the queue, 1 being next; None unless it waits.
        """
        if job.state.terminal:
            return None
        load = self._measure()
        if job.state is JobState.RUNNING and job.started_at is not None:
            elapsed = max(0.0, time.time() - job.started_at.timestamp())
            return _rounded(remaining_seconds(load.run_seconds, elapsed))
        return None if position is None else _rounded(seconds_in_queue(load, position))

    def _measure(self) -> Load:
        with self._lock:
            if time.monotonic() >= self._stale_at:
                self._load = self._ledger.measure_load(self._beat_within_seconds)
                self._stale_at = time.monotonic() + FRESH_SECONDS
            return self._load


def remaining_seconds(runs: Sequence[float], elapsed: float) -> float | None:
    """Return what a run that has lasted `elapsed` seconds still has before it: the mean of those that lasted longer."""
    longer = [seconds for seconds in runs if seconds > elapsed]
    return sum(longer) / len(longer) - elapsed if len(runs) >= LEAST_RUNS and longer else None


def seconds_in_queue(load: Load, position: int) -> float | None:
    """Return the seconds until the end of the job at a place in the queue, 1 being next.

    Every job is taken to run for the mean of the recent runs, each on the slot that is free first. Then slots become
    free in the same order in every round.
    """
    if load.slots < 1 or len(load.run_seconds) < LEAST_RUNS:
        return None
    mean = sum(load.run_seconds) / len(load.run_seconds)
    # A run that outlasts all others is as good as new: nobody knows.
    busy = sorted(_left(load.run_seconds, elapsed, mean) for elapsed in load.running_seconds)
    free = [0.0] * max(0, load.slots - len(busy)) + busy[: load.slots]
    rounds, place = divmod(position - 1, load.slots)
    return free[place] + (rounds + 1) * mean


def seconds_to_retry(estimate: float | None, position: int | None) -> int:
    """Return after how many seconds another look makes sense: at the estimated end, or sooner where there is none."""
    if estimate is None:
        return min(1 + (position or 0) // 2, LONGEST_BLIND_RETRY_SECONDS)
    return min(max(1, math.ceil(estimate)), LONGEST_RETRY_SECONDS)


def _left(runs: Sequence[float], elapsed: float, mean: float) -> float:
    left = remaining_seconds(runs, elapsed)
    return mean if left is None else min(left, mean)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
