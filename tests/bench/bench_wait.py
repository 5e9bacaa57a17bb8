"""How long after a job's end `Prefer: wait` answers, for jobs of several lengths.

python -m tests.bench.bench_wait     goal: a small part of the job's own time
"""

import statistics
import tempfile
import threading
import time
from pathlib import Path

from tests.bundle_builder import write_bundle
from tests.serving import Service, make_settings, serving

ROUNDS = 8


def main() -> None:
    """Print the delay for each length."""
    with tempfile.TemporaryDirectory() as folder:
        write_bundle(Path(folder) / "models")
        with serving(make_settings(Path(folder) / "home", Path(folder) / "models")) as service:
            for seconds in (0.05, 0.2, 1.0, 3.0):
                delays = [measure(service, seconds) for _ in range(ROUNDS)]
                median, worst = statistics.median(delays), max(delays)
                print(
                    f"job of {seconds:4.2f} s: answered {median * 1e3:5.1f} ms after its end (worst {worst * 1e3:.1f})"
                )


def measure(service: Service, seconds: float) -> float:
    """Return the seconds between a job's end in the ledger and the answer in the client's hands."""
    ended = 0.0
    job = service.accepted()

    def run() -> None:
        nonlocal ended
        time.sleep(seconds)
        service.succeed(job["id"])
        ended = time.perf_counter()

    worker = threading.Thread(target=run)
    worker.start()
    answer = service.get(f"/features/{job['id']}", Prefer="wait=60")
    answered = time.perf_counter()
    worker.join()
    assert answer.json()["status"] == "succeeded"
    return answered - ended


if __name__ == "__main__":
    main()
