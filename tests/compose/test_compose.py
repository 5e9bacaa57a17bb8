"""The compose file in a real container engine: set-up, a real case, what is locked, and kills (`make test-compose`)."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from tests.compose.stack import LONG_RUNNING, REPOSITORY, Caller, Stack, missing_engine, running_stack, wait_for

pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]

COMPOSE_FILE = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
EXAMPLE = REPOSITORY / "models" / "phantom-ct" / "example"
CASE = {"image": EXAMPLE / "image.nii.gz", "mask": EXAMPLE / "mask.nii.gz"}
# Long enough to be under way when the kill comes.
WORK = {"model": "phantom-ct", "radiomics": "full"}
JOBS = 6
JOB_SECONDS = 120.0
RECOVERY_SECONDS = 300.0

PRINT_STATUS = ("cat", "/proc/1/status")
KILL_A_CHILD = """
import os, pathlib, signal
children = [int(p.parent.name) for p in pathlib.Path("/proc").glob("[0-9]*/stat")
            if p.read_text().rpartition(")")[2].split()[1] == "1" and int(p.parent.name) != os.getpid()]
os.kill(min(children), signal.SIGKILL)
"""
FIND_IMAGING = """
import importlib.util
names = "numpy", "SimpleITK", "nibabel", "pydicom", "radiomics", "PIL", "onnxruntime", "torch"
print([name for name in names if importlib.util.find_spec(name)])
"""
PRINT_ROUTES = ("cat", "/proc/net/route")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    reason = missing_engine()
    if reason:
        pytest.skip(reason)
    with running_stack() as running:
        check_it_starts_locked(running.url)
        yield running


@pytest.fixture(scope="module")
def caller(stack: Stack) -> Iterator[Caller]:
    key = stack.exec("api", "radfuse", "keys", "create", "compose-test").split()[-1]
    with Caller(stack.url, key) as somebody:
        yield somebody


@pytest.fixture(scope="module")
def undisturbed(caller: Caller) -> dict[str, Any]:
    return caller.outcome(caller.submit(CASE, **WORK), JOB_SECONDS)


def check_it_starts_locked(url: str) -> None:
    """Before the first key exists nobody gets in from outside; the fixture checks it, for later it is too late."""
    assert httpx.get(f"{url}/livez").status_code == 200
    refused = httpx.get(f"{url}/features")
    assert refused.status_code == 401
    assert "radfuse keys create" in refused.json()["detail"]
    assert httpx.post(f"{url}/features").status_code == 401


def test_a_case_through_the_published_port_yields_features_and_a_prediction(undisturbed: dict[str, Any]) -> None:
    assert undisturbed["status"] == "succeeded"
    (row,) = undisturbed["rois"]
    names = set(row["features"])
    assert {"original_shape_MeshVolume", "log-sigma-1-0-mm-3D_firstorder_Mean", "deep_0000"} <= names
    assert row["predictions"]
    assert all(sum(p["probabilities"].values()) == pytest.approx(1) for p in row["predictions"])


def test_without_a_valid_key_nobody_gets_in(stack: Stack, caller: Caller) -> None:
    assert httpx.get(f"{stack.url}/features").status_code == 401
    assert httpx.get(f"{stack.url}/features", headers={"Authorization": "Bearer wrong"}).status_code == 401


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_containers_run_without_root_rights_or_a_writable_root(stack: Stack, service: str) -> None:
    status = dict(line.split(":", 1) for line in stack.exec(service, *PRINT_STATUS).splitlines())
    assert "0" not in status["Uid"].split() + status["Gid"].split()
    assert {int(status[kind], 16) for kind in ("CapEff", "CapPrm", "CapBnd")} == {0}
    assert int(status["NoNewPrivs"]) == 1
    known = stack.inspect(service)["HostConfig"]
    assert known["ReadonlyRootfs"] is True
    assert known["Memory"] > 0
    assert known["PidsLimit"] > 0
    assert known["RestartPolicy"]["Name"] == "unless-stopped"


def test_only_the_api_is_published(stack: Stack) -> None:
    host, port = stack.published.split(":")
    published = {}
    for service in LONG_RUNNING:
        ports = stack.inspect(service)["HostConfig"]["PortBindings"] or {}
        published |= {(service, inside): outside for inside, outside in ports.items() if outside}
    assert published == {("api", "8080/tcp"): [{"HostIp": host, "HostPort": port}]}


@pytest.mark.parametrize("service", ["dispatcher", "worker", "redis", "postgres"])
def test_only_the_api_has_a_way_out(stack: Stack, service: str) -> None:
    routes = [line.split() for line in stack.exec(service, *PRINT_ROUTES).splitlines()[1:]]
    assert routes
    assert not [route for route in routes if route[1] == "00000000"]


def test_no_password_is_in_what_the_engine_shows_or_logs(stack: Stack) -> None:
    passwords = (
        stack.exec("redis", "cat", "/secrets/redis.conf").split()[-1],
        stack.exec("postgres", "cat", "/secrets/password").strip(),
    )
    assert min(map(len, passwords)) >= 32
    shown = [str(stack.inspect(service)) for service in ("init", "migrate", *LONG_RUNNING)]
    shown += [stack.logs(service) for service in ("init", "migrate", *LONG_RUNNING)]
    assert not [text for text in shown for password in passwords if password in text]


def test_each_container_sees_its_own_secrets_only(stack: Stack) -> None:
    assert stack.exec("redis", "ls", "/secrets").split() == ["redis.conf"]
    assert stack.exec("postgres", "ls", "/secrets").split() == ["password"]
    for service in ("api", "dispatcher", "worker"):
        shown = stack.exec(service, "ls", "-l", "/run/radfuse").splitlines()[1:]
        assert [line.split()[0] for line in shown] == ["-r--------"] * 2


def test_redis_refuses_strangers_and_forgets_nothing(stack: Stack) -> None:
    assert "NOAUTH" in stack.exec("redis", "redis-cli", "ping")
    command = 'REDISCLI_AUTH="$(cut -d" " -f2 /secrets/redis.conf)" redis-cli config get "$0" | tail -1'
    wanted = {"appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction"}
    assert {name: stack.exec("redis", "sh", "-c", command, name).strip() for name in wanted} == wanted


@pytest.mark.parametrize("service", ["api", "dispatcher"])
def test_the_api_image_holds_no_imaging_library(stack: Stack, service: str) -> None:
    assert stack.exec(service, "python", "-c", FIND_IMAGING).strip() == "[]"


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_a_container_that_works_is_healthy(stack: Stack, service: str) -> None:
    kind, *command = COMPOSE_FILE["services"][service]["healthcheck"]["test"]
    shell = ("sh", "-c") if kind == "CMD-SHELL" else ()
    stack.exec(service, *shell, *(part.replace("$$", "$") for part in command))


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_no_accepted_job_is_lost_when_a_container_is_killed(
    stack: Stack, caller: Caller, undisturbed: dict[str, Any], service: str
) -> None:
    jobs = send_and_wait_for_the_first(caller)
    stack.kill(service)
    time.sleep(2)
    stack.compose("start", service)
    check_all_succeed(caller, jobs, undisturbed)


def test_no_accepted_job_is_lost_when_a_process_in_the_worker_is_killed(
    stack: Stack, caller: Caller, undisturbed: dict[str, Any]
) -> None:
    jobs = send_and_wait_for_the_first(caller)
    stack.exec("worker", "python", "-c", KILL_A_CHILD)
    check_all_succeed(caller, jobs, undisturbed)


def test_jobs_and_passwords_outlive_the_containers(stack: Stack, caller: Caller, undisturbed: dict[str, Any]) -> None:
    waiting = caller.submit(CASE, **WORK)
    stack.compose("down")
    stack.compose("up", "-d")
    stack.wait_until_ready()
    assert caller.job(undisturbed["id"]) == undisturbed
    check_all_succeed(caller, [waiting], undisturbed)


def send_and_wait_for_the_first(caller: Caller) -> list[str]:
    jobs = [caller.submit(CASE, **WORK) for _ in range(JOBS)]
    wait_for(lambda: any(caller.job(job)["status"] == "running" for job in jobs), JOB_SECONDS, "a first job")
    return jobs


def check_all_succeed(caller: Caller, jobs: list[str], undisturbed: dict[str, Any]) -> None:
    outcomes = [caller.outcome(job, RECOVERY_SECONDS) for job in jobs]
    assert [outcome["status"] for outcome in outcomes] == ["succeeded"] * len(jobs)
    assert all(outcome["rois"] == undisturbed["rois"] for outcome in outcomes)
