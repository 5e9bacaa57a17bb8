import csv
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.client import Client, Submission
from service.up.home import lock_home, open_home
from tests.build import build_image, build_mask, write_dicom_series, write_nifti
from tests.bundle_builder import write_bundle
from tests.e2e.running import Running, is_ready, radfuse, until


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_bundle(folder)
    return folder


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("case")
    image = build_image()
    write_nifti(folder / "image.nii.gz", image, compressed=True)
    write_nifti(folder / "mask.nii", build_mask(image.geometry))
    write_dicom_series(folder / "series", image)
    return folder


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("up") / "a home of 100%", models, heartbeat_seconds=1)
    running.until_ready()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def url(up: Running) -> str:
    return up.until_ready()


def _features(path: Path) -> dict[str, float]:
    features: dict[str, float] = json.loads(path.read_text())["rois"][0]["features"]
    return features


def test_it_says_where_it_listens_and_what_it_offers(up: Running, url: str) -> None:
    assert f"{url}/docs" in up.text()
    assert "open, but to this machine alone" in up.text()
    assert "small-ct@1.0.0 (demonstration)" in up.text()
    assert "CPUExecutionProvider" in up.text()
    assert str(up.home) in up.text()


def test_a_served_case_equals_the_local_one_to_the_last_bit(url: str, case: Path, models: Path, tmp_path: Path) -> None:
    files = (case / "image.nii.gz", case / "mask.nii")
    served = radfuse("extract", *files, "--case-id", "p-1", "-o", tmp_path / "served.json", url=url)
    local = radfuse("extract", *files, "--case-id", "p-1", "-o", tmp_path / "local.json", "--local", models=models)
    assert (served.returncode, local.returncode) == (0, 0), served.stderr + local.stderr
    assert "DEMONSTRATION" in served.stdout
    assert _features(tmp_path / "served.json") == _features(tmp_path / "local.json")
    one, other = (json.loads((tmp_path / name).read_text()) for name in ("served.json", "local.json"))
    assert one["rois"] == other["rois"]
    assert one["model"] == other["model"]


def test_a_folder_of_dicom_files_is_sent_whole(url: str, case: Path, tmp_path: Path) -> None:
    answer = radfuse("extract", case / "series", case / "mask.nii", "-o", tmp_path / "out.csv", url=url)
    assert answer.returncode == 0, answer.stderr
    with (tmp_path / "out.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["original_shape_VoxelVolume"]) > 0


def test_a_refused_case_exits_with_3_and_says_why(url: str, case: Path) -> None:
    answer = radfuse("extract", case / "image.nii.gz", case / "mask.nii", "--roi", "7", url=url)
    assert answer.returncode == 3
    assert "unknown-roi" in answer.stderr
    assert "it holds 1" in answer.stderr


def test_models_of_a_service_are_listed(url: str) -> None:
    assert "small-ct@1.0.0" in radfuse("models", url=url).stdout


def test_a_second_up_on_the_same_home_is_refused(up: Running, models: Path) -> None:
    second = radfuse("up", home=up.home, models=models, port=0)
    assert second.returncode == 1
    assert f"already runs on {up.home} (process {up.process.pid})" in second.stdout


@pytest.mark.parametrize("victim", ["service.api", "service.dispatcher", "service.worker", "redis-server"])
def test_a_killed_process_comes_back_and_cases_go_through(up: Running, url: str, case: Path, victim: str) -> None:
    killed = up.find(victim)
    os.kill(killed, signal.SIGKILL)
    with Client(url) as client:
        until(lambda: is_ready(url))
        result = client.extract(case / "image.nii.gz", case / "mask.nii")
    assert result.rois[0].predictions[0].demonstration
    until(lambda: up.find(victim) != killed)
    name = victim.removeprefix("service.").removesuffix("-server")
    until(lambda: f"{name} stopped unexpectedly" in up.text())


def test_everything_comes_back_after_supervisord_was_killed(up: Running, url: str, case: Path) -> None:
    old = up.members()
    os.kill(up.supervisord, signal.SIGKILL)
    until(lambda: "everything is started again" in up.text())
    until(lambda: is_ready(url))
    assert not set(old) & set(up.members())
    with Client(url) as client:
        client.extract(case / "image.nii.gz", case / "mask.nii")


def test_a_killed_up_leaves_no_process_and_a_free_home(tmp_path: Path, models: Path) -> None:
    running = Running(tmp_path / "home", models)
    running.until_ready()
    members = running.members()
    assert running.stop(signal.SIGKILL) == -signal.SIGKILL
    lock_home(open_home(running.home), print).close()
    until(lambda: not any(map(_lives, members)))


def test_accepted_cases_survive_a_kill_of_everything_and_term_leaves_nothing(
    tmp_path: Path, models: Path, case: Path
) -> None:
    first = Running(tmp_path / "home", models)
    with Client(first.until_ready()) as client:
        submission = Submission({"": [case / "image.nii.gz"]}, [case / "mask.nii"])
        jobs = [client.submit(submission)["id"] for _ in range(5)]
        for process in [first.process.pid, *first.members()]:
            os.kill(process, signal.SIGKILL)
    first.process.wait()
    second = Running(tmp_path / "home", models)
    with Client(second.until_ready()) as client:
        assert [client.wait(job)["status"] for job in jobs] == ["succeeded"] * 5
    members = second.members()
    assert len(members) >= 5
    assert second.stop(signal.SIGTERM) == 0
    assert not any(map(_lives, members))
    assert sorted(path.name for path in (second.home / "run").iterdir()) == ["radfuse.lock", "supervisord.conf"]


def _lives(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def test_a_taken_port_is_named_before_anything_starts(tmp_path: Path, models: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = radfuse("up", home=tmp_path / "home", models=models, port=port)
    assert answer.returncode == 1
    assert f"port {port} of 127.0.0.1 is taken" in answer.stdout
    assert not (tmp_path / "home" / "run" / "supervisord.conf").exists()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"host": "203.0.113.7"}, "cannot listen on 203.0.113.7"),
        ({"models": "/nonexistent"}, "no model bundle"),
        ({"database_url": "postgresql+psycopg://127.0.0.1:1/none"}, "RADFUSE_DATABASE_URL"),
        ({"prot": "8080"}, "unknown environment variables: RADFUSE_PROT"),
    ],
)
def test_what_prevents_a_start_is_named(settings: dict[str, str], reason: str, tmp_path: Path, models: Path) -> None:
    answer = radfuse("up", **({"home": tmp_path / "home", "models": models, "port": 0} | settings))
    assert answer.returncode == 1
    assert reason in answer.stdout


def test_ctrl_c_during_the_start_stops_what_has_started(tmp_path: Path, models: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    running = Running(tmp_path / "home", models, redis_url=f"redis://127.0.0.1:{port}/0")
    until((running.home / "run" / "supervisord.pid").exists)
    until(lambda: len(running.members()) >= 4)
    members = running.members()
    assert running.stop(signal.SIGINT) == 0
    assert "is ready" not in running.text()
    until(lambda: not any(map(_lives, members)))
