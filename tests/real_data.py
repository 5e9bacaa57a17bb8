"""Where the real data lie that some tests read."""

import os
from pathlib import Path

import pytest

BESIDE_THE_REPOSITORY = Path(__file__).resolve().parents[2] / "shared" / "data"


def real_data(*parts: str) -> Path:
    """The data folder, or a path inside it; skips the test where that is absent."""
    path = Path(os.environ.get("RADFUSE_TEST_DATA") or BESIDE_THE_REPOSITORY).joinpath(*parts)
    if not path.exists():
        pytest.skip("the real data are not on this machine (RADFUSE_TEST_DATA)")
    return path
