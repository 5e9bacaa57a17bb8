"""The API as a process: memory, hostile and broken uploads, and what its log and disk must never hold."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serving import Process, Zeros, form, process

MIB = 1024**2
PLANTED = "Mustermann^Erika"
HEAD = b"POST /features HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=b\r\n"
IMAGE_PART = b'--b\r\nContent-Disposition: form-data; name="image"; filename="' + PLANTED.encode() + b'.nii"\r\n\r\n'


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("process") / "home"


@pytest.fixture(scope="module")
def api(home: Path, models: Path) -> Iterator[Process]:
    with process(home, models, upload_idle_seconds=1, max_files=200) as running:
        yield running


def uploads(home: Path) -> list[Path]:
    return [*(home / "incoming").iterdir(), *(home / "jobs").iterdir()]


def wait_until_gone(home: Path) -> None:
    deadline = time.monotonic() + 10
    while uploads(home):
        assert time.monotonic() < deadline, "a broken upload was left on the disk"
        time.sleep(0.02)


def open_upload(api: Process, length: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", api.port), timeout=10)
    connection.sendall(HEAD + f"Content-Length: {length}\r\n\r\n".encode() + IMAGE_PART)
    return connection


def read_answer(connection: socket.socket) -> tuple[int, dict[str, Any]]:
    answer = HTTPResponse(connection)
    answer.begin()
    document: dict[str, Any] = json.loads(answer.read())
    answer.close()
    return answer.status, document


def test_a_large_upload_takes_no_memory(api: Process, home: Path) -> None:
    api.http.post("/features", files=form())
    before = api.peak_bytes()
    with Zeros(256 * MIB) as content:
        answer = api.http.post("/features", files=[("image", ("x", content)), ("mask", ("m", b"x"))])
    assert answer.status_code == 202
    assert (home / "jobs" / answer.json()["id"] / "image-0000").stat().st_size == 256 * MIB
    assert api.peak_bytes() < 200 * MIB
    assert api.peak_bytes() - before < 16 * MIB
    for job in api.http.get("/features").json()["items"]:
        assert api.http.delete(f"/features/{job['id']}").status_code == 204
    assert not uploads(home)


def test_other_requests_are_answered_during_an_upload(api: Process, home: Path) -> None:
    with open_upload(api, 64 * MIB) as connection:
        slowest = 0.0
        for _ in range(24):
            connection.sendall(b"x" * MIB)
            started = time.perf_counter()
            assert api.http.get("/livez").status_code == 200
            slowest = max(slowest, time.perf_counter() - started)
    assert slowest < 1
    wait_until_gone(home)


def test_a_client_that_goes_away_leaves_nothing_behind(api: Process, home: Path) -> None:
    with open_upload(api, 64 * MIB) as connection:
        connection.sendall(b"x" * 5 * MIB)
        while not uploads(home):
            time.sleep(0.01)
    wait_until_gone(home)
    assert api.http.get("/features?status=queued").json()["items"] == []


def test_a_stalled_upload_is_408_and_leaves_nothing_behind(api: Process, home: Path) -> None:
    with open_upload(api, 64 * MIB) as connection:
        status, answer = read_answer(connection)
    assert (status, answer["type"]) == (408, "/problems/upload-stalled")
    wait_until_gone(home)


def test_a_slow_upload_arrives(api: Process, home: Path) -> None:
    rest = IMAGE_PART.replace(b"image", b"mask", 1)
    body = b"slow image\r\n" + rest + b"slow mask\r\n--b--\r\n"
    with open_upload(api, len(IMAGE_PART) + len(body)) as connection:
        for start in range(0, len(body), 16):
            time.sleep(0.1)
            connection.sendall(body[start : start + 16])
        status, job = read_answer(connection)
    assert status == 202
    assert (home / "jobs" / job["id"] / "image-0000").read_bytes() == b"slow image"
    api.http.delete(f"/features/{job['id']}")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(b"".join(IMAGE_PART + b"x\r\n" for _ in range(10_000)), 413, id="10000 parts"),
        pytest.param(b"--b\r\n" + b"A: b\r\n" * 100_000, 400, id="100000 headers"),
        pytest.param(b"--b\r\nA: " + b"b" * 20 * MIB, 400, id="giant header"),
        pytest.param(b"--b\r\n" + b"b" * 20 * MIB, 400, id="giant header name"),
        pytest.param(
            b'--b\r\nContent-Disposition: form-data; name="case_id"\r\n\r\n' + b"b" * 20 * MIB, 413, id="giant field"
        ),
        pytest.param(b"x" * 20 * MIB, 400, id="giant preamble"),
        pytest.param(IMAGE_PART.replace(b'"image"', b'"' + b"i" * 3000 + b'"'), 422, id="giant name"),
    ],
)
def test_bombs_are_refused_in_bounded_memory(api: Process, home: Path, body: bytes, status: int) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    before = api.peak_bytes()
    answer = api.http.post("/features", content=body, headers=headers)
    assert answer.status_code == status
    assert len(answer.content) < 2000
    assert api.peak_bytes() - before < 16 * MIB
    assert not uploads(home)


def test_giant_request_headers_are_refused(api: Process) -> None:
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100_000)
        assert connection.recv(100).startswith(b"HTTP/1.1 4")


def test_planted_names_reach_neither_log_nor_disk_nor_ledger(tmp_path: Path, models: Path) -> None:
    home = tmp_path / "home"
    planted = f"{PLANTED}.nii"
    with process(home, models, log_level="DEBUG") as api:
        good = [("image", (planted, b"x", planted)), ("mask", (planted, b"y"))]
        bad = [
            ("image", (planted, b"x")),
            ("radiomics", (planted, f"{PLANTED}: [".encode())),
            ("mask", (planted, b"x")),
        ]
        assert api.http.post("/features", files=good).status_code == 202
        assert api.http.post("/features", files=bad).status_code == 422
        assert api.http.post("/features", files=[(f"{PLANTED} {PLANTED}", (planted, b"x"))]).status_code == 422
        assert api.http.post("/features", files=good, data={"roi": f"{PLANTED}\n"}).status_code == 422
        assert api.http.get(f"/{PLANTED}?{PLANTED}=1", headers={"X-Name": PLANTED}).status_code == 404
        assert api.http.get(f"/features?before={PLANTED}").status_code == 422
        cut_short = IMAGE_PART + PLANTED.encode()
        headers = {"Content-Type": f"multipart/form-data; boundary=b; filename={PLANTED}"}
        assert api.http.post("/features", content=cut_short, headers=headers).status_code == 400
    log = api.log.read_text()
    assert '"event": "request"' in log
    held = [
        path
        for path in home.rglob("*")
        if PLANTED in str(path) or (path.is_file() and PLANTED.encode() in path.read_bytes())
    ]
    assert PLANTED not in log
    assert "Mustermann" not in log
    assert not held


def test_term_ends_the_process_in_order(tmp_path: Path, models: Path) -> None:
    with process(tmp_path / "home", models) as api, httpx.Client(base_url=api.http.base_url, trust_env=False) as http:
        assert http.get("/livez").status_code == 200
        api.popen.terminate()
        assert api.popen.wait(timeout=15) == 0


def test_the_api_never_imports_what_reads_images_or_runs_models(tmp_path: Path, models: Path) -> None:
    code = (
        "import sys; from service.config import settings; from service.api.app import create_app; "
        "import service.api.__main__; create_app(settings()); print(' '.join(sys.modules))"
    )
    environment = {**os.environ, "RADFUSE_HOME": str(tmp_path), "RADFUSE_MODELS": str(models)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    heavy = {"numpy", "SimpleITK", "nibabel", "pydicom", "radiomics", "onnxruntime", "onnx", "torch", "PIL", "scipy"}
    assert "fastapi" in loaded
    assert not loaded & heavy
