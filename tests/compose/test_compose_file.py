"""What can be said of the compose file without an engine."""

from typing import Any

import pytest
import yaml

from service.config import Settings
from tests.compose.stack import LONG_RUNNING, REPOSITORY

# What the compose file decides itself, or hands over as secrets.
DECIDED = {"host", "port", "home", "database_url", "redis_url", "models", "device", "report_python"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return dict(yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"])


@pytest.mark.parametrize("service", ["api", "dispatcher", "worker"])
def test_every_setting_can_be_given(services: dict[str, Any], service: str) -> None:
    passed = {name.removeprefix("RADFUSE_").lower() for name in services[service]["environment"]}
    assert passed | DECIDED == set(Settings.model_fields)


def test_every_container_is_hardened_and_only_the_api_published(services: dict[str, Any]) -> None:
    for service in services.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service
    assert [name for name, service in services.items() if "ports" in service] == ["api"]


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_what_keeps_running_is_watched_limited_and_restarted(services: dict[str, Any], service: str) -> None:
    assert {"healthcheck", "stop_grace_period", "pids_limit"} <= services[service].keys()
    assert services[service]["restart"] == "unless-stopped"
    assert services[service]["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}


def test_no_secret_is_written_in_the_file(services: dict[str, Any]) -> None:
    names = {name for service in services.values() for name in service.get("environment", {})}
    assert not names & {"POSTGRES_PASSWORD", "REDIS_PASSWORD", "RADFUSE_DATABASE_URL", "RADFUSE_REDIS_URL"}


def test_the_gpu_file_changes_the_worker_alone() -> None:
    override = yaml.safe_load((REPOSITORY / "docker" / "compose.gpu.yml").read_text())["services"]
    assert override.keys() == {"worker"}
    assert override["worker"]["environment"] == {"RADFUSE_DEVICE": "cuda", "RADFUSE_WORKERS": "1"}


def test_the_webhooks_file_lets_the_dispatcher_alone_out() -> None:
    override = yaml.safe_load((REPOSITORY / "docker" / "compose.webhooks.yml").read_text())["services"]
    assert override == {"dispatcher": {"networks": ["edge", "backend"]}}
