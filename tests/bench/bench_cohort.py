"""A cohort of 1,000 small cases: the service with two workers over the pipeline alone in two processes.

    python -m tests.bench.bench_cohort [--cases 1000] [--rounds 1] [--senders 3]

The pipeline alone is a loop of `read_case` and `extract` over the same files in two processes, each with its bundle
loaded once: no upload, queue, ledger or picture. The service's time runs from the manifest to the last byte of the
table of results, files being sent by a few threads of this process, which share the machine's cores with it. Both run
in this session, one after the other.
"""

import argparse
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.bench.bench_throughput import MODEL, two_workers, write_cases

Pair = tuple[Path, Path]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--senders", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pairs = write_cases(Path(folder))
        work = [pairs[number % len(pairs)] for number in range(arguments.cases)]
        with two_workers(Path(folder) / "home") as url:
            run_cohort(url, work[:20], arguments.senders)
            for _ in range(arguments.rounds):
                service, table = run_cohort(url, work, arguments.senders)
                plain = run_plain(work)
                print(
                    f"{len(work)} cases: service {service:.1f} s ({len(work) / service:.1f} cases/s; of it the table "
                    f"{table:.1f} s), pipeline alone {plain:.1f} s ({len(work) / plain:.1f} cases/s), "
                    f"overhead {service / plain - 1:+.1%} (goal: at most 10 %)"
                )


def run_cohort(url: str, work: list[Pair], senders: int) -> tuple[float, float]:
    """Return the seconds of a whole cohort, and those that its table took at the end."""
    contents = {path: path.read_bytes() for pair in set(work) for path in pair}
    manifest = "Image,Mask\n" + "".join(f"{image.name},{mask.name}\n" for image, mask in work)
    with httpx.Client(base_url=url, timeout=300) as client, ThreadPoolExecutor(senders) as callers:
        begun = time.perf_counter()
        answer = client.post(f"/cohorts?model={MODEL}", content=manifest, headers={"Content-Type": "text/csv"})
        answer.raise_for_status()
        address = answer.headers["Location"]

        def send(item: int) -> None:
            image, mask = work[item - 1]
            files = {"image": contents[image], "mask": contents[mask]}
            client.post(f"{address}/items/{item}", files=files).raise_for_status()

        list(callers.map(send, range(1, len(work) + 1)))
        while (document := client.get(address).json())["status"] != "ended":
            time.sleep(0.1)
        asked = time.perf_counter()
        table = client.get(f"{address}/results").raise_for_status().text
        ended = time.perf_counter()
        assert document["counts"]["succeeded"] == len(work), document
        assert table.count("\n") == len(work) + 1
        return ended - begun, ended - asked


def run_plain(work: list[Pair]) -> float:
    """Return the seconds of two processes that share the list, after each has loaded the bundle."""
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(run_case, work[:20]))
        begun = time.perf_counter()
        assert all(pool.map(run_case, work, chunksize=1))
        return time.perf_counter() - begun


_loaded: dict[str, Any] = {}


def run_case(pair: Pair) -> bool:
    """Read and extract one case with the bundle that this process holds."""
    from service.bundle import ModelBundle
    from service.config import BUILT_IN_MODELS, GIB
    from service.imaging.guard import Limits
    from service.imaging.reader import CaseFiles, read_case
    from service.pipeline import extract

    if not _loaded:
        _loaded["bundle"] = ModelBundle.load(BUILT_IN_MODELS / MODEL, device="cpu")
    bundle = _loaded["bundle"]
    files = CaseFiles(images={bundle.manifest.channels[0]: [pair[0]]}, mask=[pair[1]])
    limits = Limits(decoded_bytes=GIB, voxels=GIB, files=10)
    case = read_case(files, roi=None, resample_mask=False, limits=limits, case_id=None)
    return bool(extract(case, bundle).document()["rois"])


if __name__ == "__main__":
    main()
