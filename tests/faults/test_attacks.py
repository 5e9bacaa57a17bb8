"""Every attack comes to what it must, within its time and memory; `python -m tests.faults.attacks` prints the table."""

from pathlib import Path

import pytest

from service.errors import TooLarge
from service.imaging.dataset import parse
from service.imaging.guard import Limits
from tests.faults.attacks import SETTINGS, list_attacks, run
from tests.faults.attacks_files import many_items
from tests.faults.attacks_service import attacked


def test_every_attack_is_withstood(tmp_path: Path) -> None:
    with attacked(tmp_path, **SETTINGS) as target:
        outcomes = run(target, list_attacks(tmp_path, quick=True))

        assert [line for outcome in outcomes for line in outcome.wrong()] == []
        assert target.http.get("/readyz").status_code == 200
    assert len(outcomes) > 40


def test_a_sequence_of_millions_of_items_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="8388608 items of sequences, at most 1000000"):
        parse(many_items(tmp_path / "items").read_bytes(), Limits(decoded_bytes=10**9, voxels=10**8, files=10))
