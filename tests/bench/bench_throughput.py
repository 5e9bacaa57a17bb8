"""Throughput of many small cases: the service with two workers over a plain loop in two processes.

    python -m tests.bench.bench_throughput [--cases 200]

The plain loop is what a script would do: SimpleITK reads, PyRadiomics computes the original features, ONNX Runtime
embeds a crop. Both run in this session, one after the other, twice; the medians are compared.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from service.config import BUILT_IN_MODELS
from service.up.installation import Installation
from tests.build import write_nifti
from training.phantoms import make_phantom

MODEL = "phantom-ct"
DIFFERENT = 20


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pairs = write_cases(Path(folder))
        work = [pairs[number % len(pairs)] for number in range(arguments.cases)]
        with two_workers(Path(folder) / "home") as url:
            rates = [(run_service(url, work), run_plain(work)) for _ in range(arguments.rounds)]
    for service, plain in rates:
        print(f"service {service:6.2f} cases/s   plain loop {plain:6.2f} cases/s   ratio {service / plain:.2f}")
    print(f"median ratio: {np.median([service / plain for service, plain in rates]):.2f} (goal: at least 0.9)")


@contextmanager
def two_workers(home: Path) -> Iterator[str]:
    """Start the service with two workers on the CPU; yields its address."""
    settings = {"RADFUSE_HOME": str(home), "RADFUSE_PORT": "0", "RADFUSE_WORKERS": "2", "RADFUSE_DEVICE": "cpu"}
    installation = Installation(os.environ | settings, tell=print)
    installation.start()
    try:
        yield installation.url
    finally:
        installation.stop()


def write_cases(folder: Path) -> list[tuple[Path, Path]]:
    pairs = []
    for seed in range(DIFFERENT):
        phantom = make_phantom(seed)
        image, mask = folder / f"image-{seed}.nii.gz", folder / f"mask-{seed}.nii.gz"
        write_nifti(image, phantom.image)
        write_nifti(mask, phantom.mask)
        pairs.append((image, mask))
    return pairs


def run_service(url: str, work: list[tuple[Path, Path]]) -> float:
    """Return cases per second from the first submission to the last result."""
    with httpx.Client(base_url=url, timeout=300) as client, ThreadPoolExecutor(4) as callers:

        def run_one(pair: tuple[Path, Path]) -> None:
            answer = client.post(
                "/features",
                files={"image": pair[0].read_bytes(), "mask": pair[1].read_bytes()},
                data={"model": MODEL},
                headers={"Prefer": "wait=60"},
            )
            answer.raise_for_status()
            assert answer.json()["status"] == "succeeded", answer.text

        list(callers.map(run_one, work[:8]))
        begun = time.perf_counter()
        list(callers.map(run_one, work))
        return len(work) / (time.perf_counter() - begun)


def run_plain(work: list[tuple[Path, Path]]) -> float:
    """Return cases per second of two processes that share the list."""
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(plain_case, work[:8]))
        begun = time.perf_counter()
        list(pool.map(plain_case, work, chunksize=1))
        return len(work) / (time.perf_counter() - begun)


_loaded: dict[str, object] = {}


def plain_case(pair: tuple[Path, Path]) -> int:
    import SimpleITK

    if not _loaded:
        import logging

        import onnxruntime
        from radiomics.featureextractor import RadiomicsFeatureExtractor

        logging.getLogger("radiomics").setLevel(logging.CRITICAL)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        _loaded["session"] = onnxruntime.InferenceSession(
            str(BUILT_IN_MODELS / MODEL / "encoder.onnx"), options, providers=["CPUExecutionProvider"]
        )
        _loaded["extractor"] = RadiomicsFeatureExtractor()
        _loaded["pid"] = os.getpid()
    image, mask = (SimpleITK.ReadImage(str(path)) for path in pair)
    features = _loaded["extractor"].execute(image, mask)  # type: ignore[attr-defined]
    session = _loaded["session"]
    shape = session.get_inputs()[0].shape[1:]  # type: ignore[attr-defined]
    voxels = SimpleITK.GetArrayFromImage(image).T.astype(np.float32)
    middle = [int(axis.mean()) for axis in np.nonzero(SimpleITK.GetArrayViewFromImage(mask).T)]
    crop = np.full(shape, -1, np.float32)
    half = shape[-1] // 2
    cut = np.clip(voxels[tuple(slice(max(0, m - half), m + half) for m in middle)] / 1000, -1, 1)
    crop[(0, *(slice(0, n) for n in cut.shape))] = cut
    (embedding,) = session.run(None, {"crops": crop[None]})  # type: ignore[attr-defined]
    return len(features) + embedding.size


if __name__ == "__main__":
    main()
