"""`radfuse extract-cohort`: options in, progress on the screen, a table of results and one of failures out."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import anyio
import typer
from anyio import CapacityLimiter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from service.case_options import (
    Key,
    Model,
    Radiomics,
    Reference,
    ResampleImages,
    ResampleMask,
    StoredAxes,
    Suv,
    Url,
    check_reference,
    read_radiomics,
)
from service.client import AsyncClient, Options, Patience
from service.cohort.bar import Bar
from service.cohort.cases import read_cases
from service.cohort.here import installed_models, open_helper
from service.cohort.journal import Journal, journal_of
from service.cohort.run import Cohort, Document, Lane, Task, compute_all
from service.cohort.table import OUTPUTS, write_table
from service.cohort.there import CohortThere, offered_models
from service.config import read_settings
from service.errors import ManifestInvalid, RadfuseError
from service.exit_status import Exit

LANES_THERE: Final = 4
PATIENCE_SECONDS: Final = 300.0
FAILURES_SHOWN: Final = 20

console = Console()
complaints = Console(stderr=True)


def extract_cohort(  # noqa: PLR0913, PLR0917  # one parameter per option
    cases: Annotated[
        Path,
        typer.Argument(
            metavar="CASES",
            help="CSV with the columns Image and Mask, paths relative to it; Label, case_id and others may follow.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The table to write: .csv or .parquet.")],
    model: Model = None,
    radiomics: Radiomics = None,
    roi: Annotated[str | None, typer.Option(help="As for `extract`; a row's own Label goes first.")] = None,
    resample_mask: ResampleMask = False,
    resample_images: ResampleImages = False,
    reference: Reference = None,
    suv: Suv = None,
    stored_axes: StoredAxes = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Cases at once: 4, or with --local as many as there are processors.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Also try again what failed.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Compute everything anew.")] = False,
    url: Url = None,
    key: Key = None,
    local: Annotated[bool, typer.Option("--local", help="Compute on this machine, without a service.")] = False,
) -> None:
    """Compute the features and predictions of many cases, and write one table in their order.

    What is done is kept in OUTPUT.journal: the same command goes on where it was interrupted, and computes only what is
    new or has changed. Exit status: 0 every case done, 2 wrong usage, 3 some cases failed (the table says why),
    4 no service answers, 130 interrupted.
    """
    if output.suffix not in OUTPUTS:
        raise typer.BadParameter(f"the output must end in {' or '.join(OUTPUTS)}", param_hint="--output")
    check_reference(reference, resample_images)
    try:
        rows = read_cases(cases)
    except ManifestInvalid as error:
        raise typer.BadParameter(error.detail, param_hint="CASES") from error
    options = Options(
        model=model,
        radiomics=read_radiomics(radiomics),
        roi=roi,
        resample_mask=resample_mask,
        resample_images=resample_images,
        reference=reference,
        suv=suv,
        radiomics_axes="stored" if stored_axes else "canonical",
    )
    with Journal(journal_of(output)) as journal:
        if fresh:
            journal.forget()
        cohort = Cohort(rows, journal)
        run = _Run(cohort, options, retry=retry, anew=retry or fresh)
        with _keeping(cohort):
            anyio.run(partial(run.here, jobs) if local else partial(run.there, jobs, url or read_settings().url, key))
        makers = write_table(cohort, output)
        status = _tell(cohort)
    console.print(Text(f"written: {output}"), soft_wrap=True)
    if len(makers) > 1:
        complaints.print(
            Text(f"note: results come from {'; '.join(makers)}. --fresh computes all anew."), soft_wrap=True
        )
    raise typer.Exit(status)


class _Run:
    """One run of the command."""

    def __init__(self, cohort: Cohort, options: Options, *, retry: bool, anew: bool) -> None:
        self._cohort = cohort
        self._options = options
        self._retry = retry
        self._anew = anew

    async def here(self, jobs: int | None) -> None:
        """Compute in processes of this machine."""
        settings = read_settings()
        tasks = self._look(installed_models(settings))
        lanes = min(jobs or len(os.sched_getaffinity(0)), len(tasks))
        limiter = CapacityLimiter(max(lanes, 1))
        await self._compute(tasks, lanes, lambda: open_helper(settings, limiter))

    async def there(self, jobs: int | None, url: str, key: str | None) -> None:
        """Compute through a service."""
        patience = Patience(PATIENCE_SECONDS, for_room=True)
        async with AsyncClient(url, key, patience=patience) as client:
            await client.check()
            tasks = self._look(await offered_models(client))
            if tasks:
                kept = CohortThere(client, self._cohort.journal)
                await kept.prepare(tasks, self._options, anew=self._anew)
                await self._compute(tasks, min(jobs or LANES_THERE, len(tasks)), kept.open)

    def _look(self, models: Mapping[str, str]) -> list[Task]:
        wanted = self._options.get("model")
        named = {
            reference: sha
            for reference, sha in models.items()
            if wanted in (None, reference, reference.partition("@")[0])
        }
        self._cohort.look(self._options, named)
        return self._cohort.pending(retry=self._retry)

    async def _compute(self, tasks: Sequence[Task], lanes: int, open_lane: Lane) -> None:
        with Bar(complaints, done=len(self._cohort.cases) - len(tasks), total=len(self._cohort.cases)) as bar:

            def note(task: Task, succeeded: bool, content: Document) -> None:
                self._cohort.journal.note(task.fingerprint, succeeded, content)
                bar.advance(succeeded)

            await compute_all(tasks, lanes, open_lane, note)


@contextmanager
def _keeping(cohort: Cohort) -> Iterator[None]:
    """Say, where a run ends early, that nothing is lost."""
    try:
        yield
    except (KeyboardInterrupt, RadfuseError) as error:
        if done := cohort.done():
            complaints.print(
                Text(
                    f"{done} of {len(cohort.cases)} cases are done and kept in {cohort.journal.path}; "
                    "the same command goes on from there."
                ),
                soft_wrap=True,
            )
        if isinstance(error, KeyboardInterrupt):
            raise typer.Exit(Exit.INTERRUPTED) from None
        raise


def _tell(cohort: Cohort) -> Exit:
    """Print how many cases are done, and the first of those that are not."""
    table = Table("line", "case", "problem", "", box=None)
    failed = 0
    for case, problem in cohort.failures():
        failed += 1
        if failed <= FAILURES_SHOWN:
            slug = str(problem["type"]).rpartition("/")[2]
            table.add_row(str(case.line), Text(case.name), Text(slug), Text(problem["detail"]))
    if failed:
        complaints.print(table)
    if failed > FAILURES_SHOWN:
        complaints.print(f"and {failed - FAILURES_SHOWN} more; the table of results has them all", highlight=False)
    total = len(cohort.cases)
    console.print(f"{total - failed} of {total} cases done, {failed} failed", highlight=False)
    return Exit.REFUSED if failed else Exit.OK
