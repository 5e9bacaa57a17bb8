"""A real Orthanc with its DICOMweb plugin, where it is installed (Debian: orthanc, orthanc-dicomweb)."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.job import RemoteSeries
from tests.serving import free_port

BINARY = shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "reader", "s3cret"
needs_orthanc = pytest.mark.skipif(
    BINARY is None or not PLUGIN.exists(), reason="Orthanc and its DICOMweb plugin are not installed"
)


@contextmanager
def orthanc(folder: Path, files: Iterable[Path], port: int | None = None) -> Iterator[str]:
    """Run a server that holds some files and demands a password; yields the URL of its DICOMweb service."""
    assert BINARY is not None
    port = port or free_port()
    folder.mkdir(exist_ok=True)
    (folder / "orthanc.json").write_text(
        json.dumps(
            {
                "HttpPort": port,
                "DicomServerEnabled": False,
                "StorageDirectory": str(folder / "storage"),
                "IndexDirectory": str(folder / "storage"),
                "Plugins": [str(PLUGIN)],
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": True,
                "RegisteredUsers": {USER: PASSWORD},
                "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            }
        )
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([BINARY, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=(USER, PASSWORD), trust_env=False) as http:
            _await_life(http, process, folder / "log")
            for file in files:
                http.post("/instances", content=file.read_bytes()).raise_for_status()
        yield f"http://127.0.0.1:{port}/dicom-web"
    finally:
        process.terminate()
        process.wait(20)


def _await_life(http: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            http.get("/system").raise_for_status()
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(log.read_text())


def named(dataset: Any, role: Any = "image", instance: bool = False) -> RemoteSeries:
    """How a request names the series, or the one instance, that a data set is of."""
    return RemoteSeries(
        role=role,
        channel="ct" if role == "image" else None,
        server="archive",
        study=dataset.StudyInstanceUID,
        series=dataset.SeriesInstanceUID,
        instance=dataset.SOPInstanceUID if instance else None,
    )
