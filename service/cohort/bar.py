"""How far a cohort has come: a bar with pace and time left, or, where nobody looks at a screen, a line now and then."""

from types import TracebackType
from typing import Final, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

PACE_SECONDS: Final = 600.0  # the last so many seconds tell the pace
LINES: Final = 10  # in all, where there is no screen


class Pace(ProgressColumn):
    """Cases per second, or per minute or hour where they take long."""

    def render(self, task: Task) -> Text:
        """Return the pace."""
        speed = task.finished_speed or task.speed
        if speed is None:
            return Text("")
        for factor, unit in ((1, "s"), (60, "min"), (3600, "h")):
            if speed * factor >= 1:
                return Text(f"{speed * factor:.1f}/{unit}")
        return Text(f"{speed * 86400:.1f}/day")


class Bar:
    """Shown from the beginning to the end of a `with` block.

    Args:
        console: where.
        done: cases that were done before.
        total: cases in all.
    """

    def __init__(self, console: Console, *, done: int, total: int) -> None:
        self._console = console
        self._done = done
        self._total = total
        self._failed = 0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            Pace(),
            TextColumn("{task.fields[failed]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            speed_estimate_period=PACE_SECONDS,
        )
        self._task = self._progress.add_task("cases", total=total, completed=done, failed="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def advance(self, succeeded: bool) -> None:
        """One more case has ended."""
        self._failed += not succeeded
        self._done += 1
        failed = f"{self._failed} failed" if self._failed else ""
        self._progress.update(self._task, completed=self._done, failed=failed)
        if self._progress.disable and self._done * LINES // self._total > (self._done - 1) * LINES // self._total:
            self._console.print(f"{self._done} of {self._total} cases{', ' if failed else ''}{failed}", highlight=False)
