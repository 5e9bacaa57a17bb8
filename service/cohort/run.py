"""From a table of cases to a table of results: what is known is kept, the rest is computed, many at once."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import anyio

from service.client import Options, Submission
from service.cohort.cases import CohortCase, fingerprint
from service.cohort.journal import Journal
from service.errors import FileMissing, RadfuseError, Refused, problem_type
from service.report.columns import Columns, Entry

Document: TypeAlias = dict[str, Any]

# Statuses of problems that lie in a case, or came with its job: those of its row alone. Any other ends the run.
OF_ONE_CASE: Final = frozenset({0, 400, 413, 415, 422, 500})


@dataclass(frozen=True)
class Task:
    """One case to be computed: what is sent or read, and the digest of all that decides its result."""

    submission: Submission
    fingerprint: str


Compute: TypeAlias = Callable[[Task], Awaitable[Document]]
Lane: TypeAlias = Callable[[], AbstractAsyncContextManager[Compute]]


@dataclass
class Cohort:
    """The rows of a table, and what became of each.

    Attributes:
        cases: the rows.
        journal: what is known.
        tasks: by line of the table; those whose files are there.
        problems: by line; those whose files are not.
    """

    cases: Sequence[CohortCase]
    journal: Journal
    tasks: dict[int, Task] = field(default_factory=dict)
    problems: dict[int, Document] = field(default_factory=dict)

    def look(self, options: Options, models: Mapping[str, str]) -> None:
        """Find the files of every row.

        Args:
            options: what holds for all rows.
            models: digests of the bundles that may be used, by `name@version`.
        """
        for case in self.cases:
            try:
                submission = case.submission(options)
                self.tasks[case.line] = Task(submission, fingerprint(submission, case.folder, models))
            except FileMissing as error:
                self.problems[case.line] = error.problem(0)
            except OSError as error:
                self.problems[case.line] = _unreadable(error).problem(0)

    def pending(self, *, retry: bool) -> list[Task]:
        """Return what is to be computed; of rows that rest on the same, one.

        Args:
            retry: whether what failed is tried again.
        """
        known = self.journal.known(failures=not retry)
        return list({task.fingerprint: task for task in self.tasks.values() if task.fingerprint not in known}.values())

    def entries(self) -> Iterator[Entry]:
        """Yield every row's document and kept cells, in the table's order; of failures, their problem."""
        for case in self.cases:
            yield {**self._outcome(case), "case_id": case.case_id}, case.extra

    def failures(self) -> Iterator[tuple[CohortCase, Document]]:
        """Yield the rows without a result, with their problems."""
        succeeded = self.journal.known(failures=False)
        for case in self.cases:
            task = self.tasks.get(case.line)
            if task is None or task.fingerprint not in succeeded:
                yield case, self._outcome(case)["problem"]

    def done(self) -> int:
        """Return how many rows have an outcome."""
        known = self.journal.known(failures=True)
        return len(self.problems) + sum(task.fingerprint in known for task in self.tasks.values())

    def columns(self) -> Columns:
        """Return the columns of the table of results."""
        extra = list(self.cases[0].extra)
        return Columns.gather((document for document, _ in self.entries()), extra, with_problem=True)

    def _outcome(self, case: CohortCase) -> Document:
        if case.line in self.problems:
            return {"status": "failed", "problem": self.problems[case.line]}
        found = self.journal.find(self.tasks[case.line].fingerprint)
        if found is None:
            return {"status": "failed", "problem": {"type": problem_type("not-computed"), "detail": "not computed yet"}}
        succeeded, content = found
        return content if succeeded else {"status": "failed", "problem": content}


async def compute_all(
    tasks: Iterable[Task], lanes: int, open_lane: Lane, note: Callable[[Task, bool, Document], None]
) -> None:
    """Compute cases, several at once.

    Args:
        tasks: what to compute.
        lanes: how many at once.
        open_lane: gives each lane what computes a case; it raises `Refused` where the case cannot be used.
        note: receives a case, whether it succeeded, and its result or problem, as soon as they are known.

    Raises:
        RadfuseError: the whole run cannot go on; what was noted stays.
    """
    waiting = iter(tasks)

    async def work() -> None:
        async with open_lane() as compute:
            for task in waiting:
                note(task, *await _attempt(compute, task))

    try:
        async with anyio.create_task_group() as group:
            for _ in range(lanes):
                group.start_soon(work)
    except BaseExceptionGroup as several:
        raise _first(several) from None


async def _attempt(compute: Compute, task: Task) -> tuple[bool, Document]:
    try:
        return True, await compute(task)
    except Refused as error:
        if error.status not in OF_ONE_CASE:
            raise
        return False, {"type": problem_type(error.slug), **error.facts, "detail": error.detail}
    except FileMissing as error:
        return False, error.problem(0)


def _first(several: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return one of the exceptions that ended the lanes: they all met the same, or only one met anything."""
    first = several.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _unreadable(error: OSError) -> RadfuseError:
    return FileMissing(f"{error.filename or 'a file'} cannot be read ({error.strerror})")
