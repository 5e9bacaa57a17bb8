"""`make demo`: the whole product once, for real, on one machine, in seconds.

A temporary home, a free port on loopback, a real Redis, the API, the dispatcher and a worker; the example case
of the demonstration bundle goes through `POST /features`; then everything is stopped and removed again.
"""

import gzip
import json
import os
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from service.client import Client, Submission
from service.config import PREFIX, read_settings
from service.errors import RadfuseError, Refused
from service.summary import print_problem, print_result
from service.up.installation import Installation

MODEL: Final = "phantom-ct"
OUTPUT: Final = Path(".radfuse") / "demo"
# NIfTI-1: where the header says at which byte the voxels begin (nifti1.h, field vox_offset, little-endian float).
VOXELS_OFFSET_AT: Final = 108

console = Console(highlight=False, soft_wrap=True)


def main() -> None:
    """Run the demonstration; exit with status 1 where something does not work."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="radfuse-demo-") as folder:
            done = _run(Path(folder))
    except KeyboardInterrupt:
        done = False
    sys.exit(0 if done else 1)


def _run(folder: Path) -> bool:
    began = time.monotonic()
    try:
        installation = Installation(_environment(folder / "home"), tell=console.print)
    except RadfuseError as error:
        _complain(error)
        return False
    try:
        _show(installation, folder)
    except RadfuseError as error:
        _complain(error)
        console.print(Text(installation.describe_logs()))
        return False
    finally:
        installation.stop()
    left = installation.processes_left()
    _step(f"Stopped; {len(left) or 'no'} process is left. The demonstration took {time.monotonic() - began:.1f} s.")
    return not left


def _environment(home: Path) -> dict[str, str]:
    """Return this environment with no setting of another installation but the folder of the models."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    models = {PREFIX + "MODELS": str(read_settings().models)}
    return {**kept, **models, PREFIX + "HOME": str(home), PREFIX + "PORT": "0"}


def _show(installation: Installation, folder: Path) -> None:
    _step("Starting Redis, API, dispatcher and worker ...")
    began = time.monotonic()
    installation.start()
    console.print(f"{installation.url} is ready after {time.monotonic() - began:.1f} s")
    example = installation.settings.models / MODEL / "example"
    document = _send_example(installation.url, example)
    _print_truth(example, document)
    _save(installation.url, document)
    _send_empty_mask(installation.url, example, folder)


def _send_example(url: str, example: Path) -> dict[str, Any]:
    _step("POST /features: a synthetic lung CT with one nodule, and its mask")
    began = time.monotonic()
    seen: list[str] = []

    def show(document: Mapping[str, Any]) -> None:
        stage = str(document.get("stage") or document["status"])
        if stage not in seen:
            seen.append(stage)
            console.print(f"  {time.monotonic() - began:5.2f} s  {stage}")

    with Client(url, on_status=show) as client:
        document = client.run(_submission(example, example / "mask.nii.gz", "phantom-0001"))
    console.print(f"  {time.monotonic() - began:5.2f} s  {document['status']}\n")
    print_result(console, document)
    return document


def _submission(example: Path, mask: Path, case_id: str) -> Submission:
    return Submission({"": [example / "image.nii.gz"]}, [mask], model=MODEL, case_id=case_id)


def _print_truth(example: Path, document: Mapping[str, Any]) -> None:
    truth = json.loads((example / "truth.json").read_text())
    for prediction in document["rois"][0]["predictions"]:
        if prediction["target"] in truth:
            console.print(f"[bold]truth: {prediction['target']} {truth[prediction['target']]}[/bold]")


def _save(url: str, document: Mapping[str, Any]) -> None:
    OUTPUT.mkdir(parents=True, exist_ok=True)
    address = f"/features/{document['id']}"
    with Client(url) as client:
        (OUTPUT / "features.csv").write_bytes(client.fetch(address, "text/csv"))
        (OUTPUT / "preview.png").write_bytes(client.fetch(f"{address}/preview.png", "image/png"))
    console.print(f"saved: {OUTPUT / 'features.csv'}, {OUTPUT / 'preview.png'}")


def _send_empty_mask(url: str, example: Path, folder: Path) -> None:
    """Show how a case that cannot be used is refused.

    Raises:
        RadfuseError: it was not refused, or not for being empty.
    """
    _step("POST /features: the same image with an empty mask")
    mask = folder / "empty.nii"
    mask.write_bytes(empty_mask(gzip.decompress((example / "mask.nii.gz").read_bytes())))
    try:
        with Client(url) as client:
            client.run(_submission(example, mask, "phantom-0002"))
    except Refused as refused:
        if refused.kind != "empty-roi":
            raise
        print_problem(console, refused)
    else:
        raise RadfuseError("an empty mask was not refused")


def empty_mask(nifti: bytes) -> bytes:
    """Return an uncompressed NIfTI-1 file with every voxel set to zero."""
    (offset,) = struct.unpack_from("<f", nifti, VOXELS_OFFSET_AT)
    return nifti[: int(offset)] + bytes(len(nifti) - int(offset))


def _step(text: str) -> None:
    console.print(f"\n[bold cyan]{text}[/bold cyan]")


def _complain(error: RadfuseError) -> None:
    console.print(Text(f"The demonstration failed: {error.title}. {error.detail}", style="bold red"))


if __name__ == "__main__":
    main()
