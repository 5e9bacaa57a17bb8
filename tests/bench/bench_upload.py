"""Memory and speed of the API process while it takes in one large file.

python -m tests.bench.bench_upload [MiB]     1024 by default; goal: a peak under 200 MB
"""

import sys
import tempfile
import time
from pathlib import Path

from tests.bundle_builder import write_bundle
from tests.serving import Zeros, process

MIB = 1024**2


def main(size_mib: int = 1024) -> None:
    """Upload, print, remove."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        write_bundle(Path(folder) / "models")
        with process(home, Path(folder) / "models") as api, Zeros(size_mib * MIB) as content:
            before = api.peak_bytes()
            started = time.perf_counter()
            answer = api.http.post("/features", files=[("image", ("x", content)), ("mask", ("m", b"x"))])
            seconds = time.perf_counter() - started
            print(f"status {answer.status_code}, {size_mib} MiB in {seconds:.1f} s: {size_mib / seconds:.0f} MiB/s")
            print(f"peak resident memory of the API: {api.peak_bytes() / 1e6:.0f} MB ({before / 1e6:.0f} MB at start)")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
