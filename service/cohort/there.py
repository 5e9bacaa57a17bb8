"""`extract-cohort` through a service: the cohort that it keeps, its items sent and awaited a few at a time.

The service sees files and pseudonyms. The table's cells, among them the files' names, stay here.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import httpx

from service.client import AsyncClient, CohortItem, Options
from service.cohort.journal import Journal
from service.cohort.run import Compute, Document, Task
from service.errors import FileMissing, Refused

NAMELESS: Final = "file"


class CohortThere:
    """The cohort of one journal at a service."""

    def __init__(self, client: AsyncClient, journal: Journal) -> None:
        self._client = client
        self._journal = journal
        self._cohort = ""
        self._numbers: Mapping[str, int] = {}

    async def prepare(self, tasks: Sequence[Task], options: Options, *, anew: bool) -> None:
        """Take up the cohort that was begun, where it holds all of these cases; else have another made of them.

        Args:
            tasks: what is to be computed.
            options: what holds for all of them.
            anew: make another one in any case: what failed there would not be computed again.
        """
        before, numbers = self._journal.items()
        if before and not anew and all(task.fingerprint in numbers for task in tasks) and await self._exists(before):
            self._cohort, self._numbers = before, numbers
            return
        made = await self._client.create_cohort([_item(task, options) for task in tasks], **options)
        self._numbers = {task.fingerprint: number for number, task in enumerate(tasks, 1)}
        self._cohort = str(made["id"])
        self._journal.note_cohort(self._cohort, self._numbers)
        if before and await self._exists(before):
            await self._client.delete_cohort(before)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Compute]:
        """Give what computes a case: its files are sent, and its end awaited."""
        yield self._compute

    async def _compute(self, task: Task) -> Document:
        submission = task.submission
        try:
            item = await self._client.submit_item(
                self._cohort, self._numbers[task.fingerprint], submission.images, submission.mask
            )
        except OSError as error:
            raise FileMissing(f"a file cannot be read ({error.strerror})") from error
        return await self._client.wait(item["job"])

    async def _exists(self, cohort: str) -> bool:
        try:
            await self._client.cohort(cohort)
        except Refused as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise
            return False
        return True


async def offered_models(client: AsyncClient) -> Mapping[str, str]:
    """Return the digests of the service's bundles, by `name@version`."""
    return {f"{model['name']}@{model['version']}": model["sha256"] for model in await client.models()}


def _item(task: Task, options: Options) -> CohortItem:
    """Return what the service is told of a case; for its files, that there are some."""
    submission = task.submission
    channels = list(submission.images)
    item = CohortItem(
        image=NAMELESS if channels == [""] else dict.fromkeys(channels, NAMELESS),
        mask=NAMELESS,
        case_id=submission.case_id,
    )
    if submission.roi != options.get("roi"):
        item["roi"] = str(submission.roi)
    return item
