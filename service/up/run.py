"""The command `radfuse up`: start, say where it listens, watch, stop."""

import signal
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from types import FrameType
from typing import Final

from rich.console import Console

from service.config import Settings
from service.errors import RadfuseError
from service.manifest import read_manifests
from service.up.installation import Installation, Stopped

LOOK_SECONDS: Final = 0.25


class StopRequests:
    """Counts Ctrl-C, TERM and hang-up from the moment it is made."""

    def __init__(self) -> None:
        self.count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._receive)

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1


def run(environment: Mapping[str, str], console: Console, *, show_logs: bool = False) -> int:
    """Run an installation until it is told to stop; return the exit status of the command.

    Everything keeps running while single processes die: they are started again. A second Ctrl-C during the
    shutdown kills what is left, which loses nothing either.
    """

    def tell(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    requests = StopRequests()
    began = time.monotonic()
    try:
        installation = Installation(environment, tell, stopping=lambda: requests.count > 0, show_logs=show_logs)
    except RadfuseError as error:
        tell(f"Radfuse did not start: {error.detail}")
        return 1
    try:
        installation.start()
        tell(describe(installation, time.monotonic() - began))
        _watch(installation, requests)
    except Stopped:
        return 0
    except RadfuseError as error:
        tell(f"Radfuse did not start: {error.detail}")
        return 1
    finally:
        _stop(installation, requests, tell)
    return 0


def describe(installation: Installation, seconds: float) -> str:
    """Return what the user sees once everything is ready."""
    settings = installation.settings
    models = [
        manifest.reference + " (demonstration)" * manifest.demonstration
        for manifest in read_manifests(settings.models).values()
    ]
    lines = {
        "address": f"{installation.url}   documentation: {installation.url}/docs",
        "access": _describe_access(settings, has_keys=installation.has_keys),
        "models": ", ".join(models),
        "workers": f"{settings.workers} on {installation.device}",
        "home": f"{settings.home}   logs: {settings.home / 'logs'}",
    }
    return "\n".join(
        [
            f"Radfuse {version('radfuse')} is ready after {seconds:.1f} s.",
            *(f"  {name:<8} {text}" for name, text in lines.items()),
            "Ctrl-C stops it.",
        ]
    )


def _describe_access(settings: Settings, *, has_keys: bool) -> str:
    if has_keys:
        return "API keys are demanded"
    if settings.on_loopback:
        return "open, but to this machine alone; `radfuse keys create NAME` makes API keys obligatory"
    return "LOCKED until an API key exists: run `radfuse keys create NAME` on this machine"


def _watch(installation: Installation, requests: StopRequests) -> None:
    while not requests.count:
        installation.look()
        time.sleep(LOOK_SECONDS)


def _stop(installation: Installation, requests: StopRequests, tell: Callable[[str], None]) -> None:
    asked = requests.count
    if asked:
        tell("Stopping: accepted cases are kept and taken up at the next start. Ctrl-C again stops at once.")
    began = time.monotonic()
    installation.stop(hurry=lambda: requests.count > max(asked, 1))
    if asked:
        tell(f"Stopped after {time.monotonic() - began:.1f} s.")
