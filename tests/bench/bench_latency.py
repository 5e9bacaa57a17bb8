"""What the service adds to the pipeline: end-to-end time of one case on a warm service, over `pipeline.extract`.

    python -m tests.bench.bench_latency [IMAGE MASK] [--requests 50] [--stock 10]

One worker; requests one after another with `Prefer: wait`. The pipeline runs in this process on the same case with
the same number of threads, in turn with the requests, so that both meet the same machine; a pause after each answer
lets the service finish what it does behind it. So does, a few times, what a script would do without this service:
read the case, run PyRadiomics itself (the stock release, same settings), run the encoder.
"""

import argparse
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from service.bundle import ModelBundle
from service.config import BUILT_IN_MODELS
from service.imaging.case import Case
from service.imaging.guard import Limits
from service.imaging.preprocess import cut_crop
from service.imaging.reader import CaseFiles, read_case
from service.pipeline import extract
from service.radiomics_settings import PRESETS
from service.up.installation import Installation
from tests.engine.reference import Deviations, Volume, pyradiomics

MODEL = "phantom-ct"
ORIGINAL = PRESETS["original"]
WARM_UP = 5
SETTLE_SECONDS = 0.1
LIMITS = Limits(decoded_bytes=2**32, voxels=2**29, files=2000)


@dataclass
class Seconds:
    """Of every round."""

    served: list[float] = field(default_factory=list)
    read: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    stock: list[float] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("--stock", type=int, default=10, help="rounds of stock PyRadiomics")
    arguments = parser.parse_args()
    example = BUILT_IN_MODELS / MODEL / "example"
    image, mask = arguments.files or (example / "image.nii.gz", example / "mask.nii.gz")
    with tempfile.TemporaryDirectory() as home:
        settings = {"RADFUSE_HOME": home, "RADFUSE_PORT": "0", "RADFUSE_WORKERS": "1", "RADFUSE_DEVICE": "cpu"}
        installation = Installation(os.environ | settings, tell=print)
        installation.start()
        try:
            report(measure(installation.url, image, mask, arguments.requests, arguments.stock))
        finally:
            installation.stop()


def measure(url: str, image: Path, mask: Path, requests: int, stock: int) -> Seconds:
    """Return the seconds of each round: the service, the pipeline here, and now and then stock PyRadiomics."""
    bundle = ModelBundle.load(BUILT_IN_MODELS / MODEL, device="cpu", threads=2)
    files = CaseFiles(images={bundle.manifest.channels[0]: [image]}, mask=[mask])
    seconds = Seconds()
    with httpx.Client(base_url=url, timeout=120) as client:
        for number in range(-WARM_UP, requests):
            served = request(client, image.read_bytes(), mask.read_bytes())
            time.sleep(SETTLE_SECONDS)
            begun = time.perf_counter()
            case = read_case(files, roi=None, resample_mask=False, limits=LIMITS, case_id=None)
            between = time.perf_counter()
            extract(case, bundle, ORIGINAL)
            ended = time.perf_counter()
            if number >= 0:
                seconds.served.append(served)
                seconds.read.append(between - begun)
                seconds.alone.append(ended - between)
            if number >= 0 and number * stock // requests != (number - 1) * stock // requests:
                seconds.stock.append(run_stock(files, bundle))
    return seconds


def request(client: httpx.Client, image: bytes, mask: bytes) -> float:
    begun = time.perf_counter()
    answer = client.post(
        "/features",
        files={"image": image, "mask": mask},
        data={"model": MODEL, "radiomics": "original"},
        headers={"Prefer": "wait=60"},
    )
    ended = time.perf_counter()
    answer.raise_for_status()
    assert answer.json()["status"] == "succeeded", answer.text
    return ended - begun


def run_stock(files: CaseFiles, bundle: ModelBundle) -> float:
    """Return the seconds of read_case, stock PyRadiomics and the encoder; its values must be the service's."""
    begun = time.perf_counter()
    case = read_case(files, roi=None, resample_mask=False, limits=LIMITS, case_id=None)
    values = pyradiomics(as_volume(case), ORIGINAL.document())
    bundle.encoder.embed(
        cut_crop(case.images, case.masks[0], bundle.manifest.channels, bundle.manifest.preprocessing)[np.newaxis]
    )
    seconds = time.perf_counter() - begun
    features = extract(case, bundle, ORIGINAL).regions[0].features
    found = Deviations()
    found.compare(values, {name: value for name, value in features.items() if not name.startswith("deep_")})
    assert not found.wrong, found.wrong
    return seconds


def as_volume(case: Case) -> Volume:
    (image,) = case.images.values()
    i, j, k = image.geometry.spacing_mm
    return Volume(image.voxels.T, case.masks[0].voxels.T, (k, j, i))


def report(seconds: Seconds) -> None:
    read_and_extract = np.add(seconds.read, seconds.alone)
    for name, values in (
        ("end to end", seconds.served),
        ("read_case + extract", read_and_extract),
        ("extract alone", seconds.alone),
        ("read + stock PyRadiomics + encoder", seconds.stock),
    ):
        p50, p95 = np.percentile(values, [50, 95]) * 1000
        print(f"{name:<34} p50 {p50:7.1f} ms   p95 {p95:7.1f} ms   n {len(values)}")
    served, alone, stock = np.median(seconds.served), np.median(seconds.alone), np.median(seconds.stock)
    print(f"end to end / extract alone, medians: {served / alone:.2f} (goal: at most 1.15)")
    print(f"end to end / (read_case + extract), medians: {served / np.median(read_and_extract):.2f}")
    print(f"end to end / (read + stock PyRadiomics + encoder), medians: {served / stock:.3f}")
    added = (served - np.median(read_and_extract)) * 1000
    print(f"added by the service to read_case + extract, median: {added:.1f} ms")


if __name__ == "__main__":
    main()
