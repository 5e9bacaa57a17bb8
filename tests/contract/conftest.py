from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.bundle_builder import write_bundle
from tests.serving import Service, make_settings, serving


@pytest.fixture(scope="session", autouse=True)
def quiet_log() -> Iterator[None]:
    """The server runs in a thread of the test's process: its log lines belong to no test."""
    structlog.configure(
        logger_factory=structlog.ReturnLoggerFactory(), processors=[lambda _logger, _method, event: event]
    )
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles: `small-ct` with one channel, `small-mr` with two."""
    folder = tmp_path_factory.mktemp("models")
    write_bundle(folder)
    write_bundle(folder, name="small-mr", version="2.1.0", channels=("t1ce", "flair"))
    return folder


@pytest.fixture
def service(tmp_path: Path, models: Path) -> Iterator[Service]:
    """An API of its own for one test."""
    with serving(make_settings(tmp_path / "home", models)) as running:
        yield running


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[Service]:
    """One API for tests that leave nothing behind and do not mind what others left."""
    with serving(make_settings(tmp_path_factory.mktemp("shared"), models)) as running:
        yield running
