"""What the service adds to the pipeline: end-to-end time of one case on a warm service, over `pipeline.extract`.

    python -m tests.bench.bench_latency [IMAGE MASK] [--requests 50]

One worker; requests one after another with `Prefer: wait`. The pipeline runs in this process on the same case with
the same number of threads, in turn with the requests, so that both meet the same machine.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np

from service.bundle import ModelBundle
from service.config import BUILT_IN_MODELS
from service.imaging.guard import Limits
from service.imaging.reader import CaseFiles, read_case
from service.pipeline import extract
from service.up.installation import Installation

MODEL = "phantom-ct"
WARM_UP = 5
LIMITS = Limits(decoded_bytes=2**32, voxels=2**29, files=2000)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--requests", type=int, default=50)
    arguments = parser.parse_args()
    example = BUILT_IN_MODELS / MODEL / "example"
    image, mask = arguments.files or (example / "image.nii.gz", example / "mask.nii.gz")
    with tempfile.TemporaryDirectory() as home:
        settings = {"RADFUSE_HOME": home, "RADFUSE_PORT": "0", "RADFUSE_WORKERS": "1", "RADFUSE_DEVICE": "cpu"}
        installation = Installation(os.environ | settings, tell=print)
        installation.start()
        try:
            report(*measure(installation.url, image, mask, arguments.requests))
        finally:
            installation.stop()


def measure(url: str, image: Path, mask: Path, requests: int) -> tuple[list[float], list[float], list[float]]:
    """Return seconds per request end to end, for read_case and extract, and for extract alone."""
    bundle = ModelBundle.load(BUILT_IN_MODELS / MODEL, device="cpu", threads=2)
    files = CaseFiles(images={bundle.manifest.channels[0]: [image]}, mask=[mask])
    served, read, alone = [], [], []
    image_bytes, mask_bytes = image.read_bytes(), mask.read_bytes()
    with httpx.Client(base_url=url, timeout=120) as client:
        for number in range(requests + WARM_UP):
            begun = time.perf_counter()
            answer = client.post(
                "/features",
                files={"image": image_bytes, "mask": mask_bytes},
                data={"model": MODEL, "radiomics": "original"},
                headers={"Prefer": "wait=60"},
            )
            ended = time.perf_counter()
            answer.raise_for_status()
            assert answer.json()["status"] == "succeeded", answer.text
            case = read_case(files, roi=None, resample_mask=False, limits=LIMITS, case_id=None)
            before = time.perf_counter()
            extract(case, bundle)
            after = time.perf_counter()
            if number >= WARM_UP:
                served.append(ended - begun)
                read.append(after - ended)
                alone.append(after - before)
    return served, read, alone


def report(served: list[float], read: list[float], alone: list[float]) -> None:
    for name, seconds in (("end to end", served), ("read_case + extract", read), ("extract alone", alone)):
        p50, p95 = np.percentile(seconds, [50, 95]) * 1000
        print(f"{name:<20} p50 {p50:7.1f} ms   p95 {p95:7.1f} ms   n {len(seconds)}")
    print(f"end to end / extract alone, medians: {np.median(served) / np.median(alone):.2f} (goal: at most 1.15)")
    print(f"added by the service, median: {(np.median(served) - np.median(alone)) * 1000:.1f} ms")


if __name__ == "__main__":
    main()
