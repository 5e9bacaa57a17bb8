"""The broker: ids alone, failing fast, and what it forgets."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service import broker
from service.config import Settings, settings
from tests.running import Installation


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    installation = Installation(tmp_path / "home")
    monkeypatch.setenv("RADFUSE_HOME", str(installation.home))
    for cached in (settings, broker.app):
        cached.cache_clear()
    yield installation
    broker.app().close()
    installation.stop()
    for cached in (settings, broker.app):
        cached.cache_clear()


def test_a_message_is_a_job_id(installation: Installation) -> None:
    installation.start("redis")

    broker.publish(broker.app(), "0123")

    (message,) = installation.redis.lrange(broker.QUEUE, 0, -1)
    headers = json.loads(message)["headers"]
    assert (headers["task"], headers["argsrepr"]) == (broker.TASK, "['0123']")


def test_publishing_still_works_after_a_flush(installation: Installation) -> None:
    installation.start("redis")
    broker.publish(broker.app(), "1")
    installation.redis.flushall()

    broker.publish(broker.app(), "2")

    assert installation.redis.llen(broker.QUEUE) == 1


def test_publishing_fails_within_a_second_while_redis_is_away(installation: Installation) -> None:
    installation.start("redis")
    broker.publish(broker.app(), "1")
    installation.kill("redis")
    began = time.monotonic()

    with pytest.raises(broker.BrokerDown):
        broker.publish(broker.app(), "2")

    assert time.monotonic() - began < 1


def test_a_flush_and_a_restart_are_noticed(installation: Installation) -> None:
    installation.start("redis")
    client = broker.connect(Settings(home=installation.home).broker_url)
    assert broker.has_forgotten(client)
    broker.remember(client)
    assert not broker.has_forgotten(client)

    installation.redis.flushall()
    assert broker.has_forgotten(client)
    broker.remember(client)
    installation.kill("redis")
    assert not broker.ping(client)
    installation.start("redis")
    assert broker.has_forgotten(client)
    client.close()
