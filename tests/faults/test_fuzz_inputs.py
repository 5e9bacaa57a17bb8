"""A small fuzz of the readers; `python -m tests.faults.fuzz_inputs` is the large one."""

import random
from pathlib import Path

import pytest

from service.errors import UnreadableImage
from service.imaging.dicom import read_series
from service.imaging.guard import Limits
from tests.faults.fuzz import COMPUTED, make_cases, run_cases
from tests.faults.fuzz_dicom import nest_sequences
from tests.faults.fuzz_seeds import build_seeds

FILES = 84
LIMITS = Limits(decoded_bytes=10**8, voxels=10**7, files=100)


def test_mutated_cases_end_typed_in_bounded_time_and_memory(tmp_path: Path) -> None:
    (tmp_path / "seeds").mkdir()

    report = run_cases(tmp_path / "home", make_cases(tmp_path / "seeds", 11, range(FILES)))

    assert len(report.endings) == FILES
    assert report.wrong() == [], report.table()
    assert len({end.case.form for end in report.endings}) == len(build_seeds(tmp_path / "seeds"))
    outcomes = {end.outcome for end in report.endings}
    assert {COMPUTED, "unreadable-image", "unusable-image"} <= outcomes


@pytest.mark.parametrize("number", range(8))
def test_unfinished_sequences_are_refused(tmp_path: Path, number: int) -> None:
    """pydicom reports some of them as a failure to read the file."""
    (tmp_path / "seeds").mkdir()
    series = next(seed for seed in build_seeds(tmp_path / "seeds") if seed.form == "dicom")
    upload = tmp_path / "upload"
    upload.write_bytes(nest_sequences(random.Random(number), series.image[0])[:-500])
    with pytest.raises(UnreadableImage):
        read_series([upload], LIMITS)
