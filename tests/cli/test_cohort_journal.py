from pathlib import Path

import pytest

from service.cohort.journal import Journal, journal_of
from service.errors import JournalUnusable


def test_outcomes_are_found_again_after_the_file_was_closed(tmp_path: Path) -> None:
    path = tmp_path / "out.journal"
    with Journal(path) as journal:
        journal.note("a", True, {"rois": [1.5]})
        journal.note("b", False, {"type": "/problems/empty-roi"})
        journal.note_cohort("c1", {"a": 1, "b": 2})
    with Journal(path) as journal:
        assert journal.find("a") == (True, {"rois": [1.5]})
        assert journal.find("b") == (False, {"type": "/problems/empty-roi"})
        assert journal.find("c") is None
        assert journal.known(failures=True) == {"a", "b"}
        assert journal.known(failures=False) == {"a"}
        assert journal.items() == ("c1", {"a": 1, "b": 2})


def test_a_later_outcome_and_a_later_cohort_take_the_place_of_the_earlier(tmp_path: Path) -> None:
    with Journal(tmp_path / "out.journal") as journal:
        journal.note("a", False, {})
        journal.note("a", True, {"rois": []})
        journal.note_cohort("c1", {"a": 1})
        journal.note_cohort("c2", {"b": 1})
        assert journal.known(failures=False) == {"a"}
        assert journal.items() == ("c2", {"b": 1})
        journal.forget()
        assert journal.known(failures=True) == set()


def test_two_runs_cannot_share_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "out.journal"
    with Journal(path), pytest.raises(JournalUnusable, match="another run has it open"):
        Journal(path)
    with Journal(path) as journal:
        assert journal.items() == (None, {})


def test_another_file_is_no_journal_and_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.journal"
    path.write_text("a diary, and no journal of a cohort" * 100)
    with pytest.raises(JournalUnusable, match="it is no journal"):
        Journal(path)
    assert path.read_text().startswith("a diary")


def test_a_journal_lies_beside_its_output() -> None:
    assert journal_of(Path("x") / "features.parquet") == Path("x") / "features.parquet.journal"
