"""A request for ten regions against ten requests for one each, through a running service, with the preset `full`.

    python -m tests.bench.bench_many_rois [--scene "nodules in both lungs"] [--rounds 3] [--model phantom-ct]

The scenes are those of `bench_many`: ten regions in a CT of 256 x 256 x 120 voxels, here in one label image. One
worker, requests one after another with `Prefer: wait`. Prints the seconds of both ways, their ratio, and whether the
features agree.
"""

import argparse
import gzip
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from service.up.installation import Installation
from tests.bench.bench_many import GEOMETRY, SCENES, Bools, thorax
from tests.build import write_nifti, write_nifti_array


def main() -> None:
    """Measure the scenes named; those whose regions overlap cannot be in one label image."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scene", action="append", choices=SCENES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="phantom-ct")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = {"RADFUSE_HOME": f"{folder}/home", "RADFUSE_PORT": "0", "RADFUSE_WORKERS": "1"}
        installation = Installation(os.environ | settings, tell=lambda _line: None)
        image = write_nifti(Path(folder) / "image", thorax())
        try:
            installation.start()
            with httpx.Client(base_url=installation.url, timeout=300, trust_env=False) as http:
                for scene in arguments.scene or ["nodules in both lungs", "nodules in one lobe"]:
                    mask = write_labels(Path(folder) / "mask", SCENES[scene]())
                    measure(http, scene, image, mask, arguments.rounds, arguments.model)
        finally:
            installation.stop()


def write_labels(path: Path, regions: list[Bools]) -> Path:
    """Write regions as labels 1 to 10; where two overlap, the later one wins."""
    labels = np.zeros(GEOMETRY.shape, np.uint8)
    for label, region in enumerate(regions, start=1):
        labels[region] = label
    write_nifti_array(path, labels, GEOMETRY.affine)
    path.write_bytes(gzip.compress(path.read_bytes(), 1))
    return path


def measure(http: httpx.Client, scene: str, image: Path, mask: Path, rounds: int, model: str) -> None:
    """Print one line: the best round of each way."""
    labels = [str(label) for label in range(1, 11)]
    files = {"image": image.read_bytes(), "mask": mask.read_bytes()}
    request(http, files, model, "1")  # everything is loaded afterwards
    single = together = np.inf
    for _ in range(rounds):
        began = time.perf_counter()
        alone = [request(http, files, model, label)[0] for label in labels]
        single = min(single, time.perf_counter() - began)
        began = time.perf_counter()
        joined = request(http, files, model, ",".join(labels))
        together = min(together, time.perf_counter() - began)
    same = all(one["features"] == other["features"] for one, other in zip(alone, joined, strict=True))
    sys.stdout.write(
        f"{scene}: ten requests {single:.2f} s, one request {together:.2f} s, ratio {together / single:.2f}, "
        f"equal features: {same}\n"
    )


def request(http: httpx.Client, files: dict[str, bytes], model: str, roi: str) -> list[dict[str, Any]]:
    """Send a case and return its regions."""
    answer = http.post(
        "/features",
        data={"model": model, "radiomics": "full", "roi": roi},
        files=files,
        headers={"Prefer": "wait=60"},
    )
    document = answer.raise_for_status().json()
    while document["status"] in ("queued", "running"):
        document = http.get(f"/features/{document['id']}", headers={"Prefer": "wait=60"}).raise_for_status().json()
    if document["status"] != "succeeded":
        raise SystemExit(f"the case ended as {document['status']}: {document.get('problem')}")
    http.delete(f"/features/{document['id']}")
    regions: list[dict[str, Any]] = document["rois"]
    return regions


if __name__ == "__main__":
    main()
