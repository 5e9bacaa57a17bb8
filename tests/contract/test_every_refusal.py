"""Every refusal that the contract promises, in every format, through the whole service with a real worker."""

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from service.errors import CaseError
from tests.contract.refused_cases import MOST_FILES, PLANTED, Refused, every_case
from tests.faults.attacks_service import Target, attacked

# What no file brings about: it takes a slow, a starved or a killed worker, another model, settings or archive.
NOT_BY_A_FILE = {"unfit-case", "radiomics-refused", "out-of-time", "out-of-memory", "worker-lost"}
NOT_BY_A_FILE |= {"suv-unknown", "not-in-archive"}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with attacked(tmp_path_factory.mktemp("service"), RADFUSE_MAX_FILES=str(MOST_FILES)) as running:
        yield running


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[Refused]:
    return list(every_case(tmp_path_factory.mktemp("cases")))


def test_every_refusal_is_of_its_kind_and_says_what_was_got(target: Target, cases: list[Refused]) -> None:
    wrong = []
    for case in cases:
        problem = refuse(target, case)
        text = f"{problem['type']} {problem['detail']}"
        if problem["type"] != f"/problems/{case.kind}" or problem["status"] != case.status:
            wrong.append(f"{case.name}: {problem['status']} {text}")
        elif missing := [words for words in case.words if not re.search(words, problem["detail"])]:
            wrong.append(f"{case.name}: {missing} not in: {text}")
        if PLANTED in str(problem):
            wrong.append(f"{case.name}: the file's own text is repeated")
    assert wrong == []
    assert PLANTED not in target.logs()
    assert target.find_processes() == target.processes
    assert target.wait_until_clean()


def test_every_kind_that_a_file_can_bring_about_is_there(cases: list[Refused]) -> None:
    kinds = Counter(case.kind for case in cases)
    assert set(kinds) - {"invalid-field"} == {kind.slug for kind in CaseError.__subclasses__()} - NOT_BY_A_FILE
    assert len({case.name for case in cases}) == len(cases)


def refuse(target: Target, case: Refused) -> dict[str, object]:
    """Submit a case under a planted file name and return the problem that it meets."""
    answer = target.submit_files(list(case.image), case.mask, filename=f"{PLANTED}.nii", **case.fields)
    outcome, problem = target.outcome(answer)
    assert outcome != "computed", case.name
    return problem
