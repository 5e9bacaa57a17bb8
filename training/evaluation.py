"""`radfuse-train evaluate`: one command from a study's configuration to its report."""

from pathlib import Path
from typing import Annotated

import typer

from training.config import ConfigError
from training.report import MARKDOWN, write_report
from training.study import Bench, Store, run_study
from training.study_cases import build_cases, open_cases
from training.study_config import read_study


def evaluate(
    study: Annotated[Path, typer.Argument(help="TOML configuration, see training/configs/study-*.toml")],
    out: Annotated[Path, typer.Option(help="folder of the report")],
    data: Annotated[Path, typer.Option(help="folder that the study's sources lie in")] = Path(),
    cache: Annotated[
        Path | None, typer.Option(help="folder of crops, embeddings and predictions [OUT/cache]; a study goes on there")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="worker processes, one thread each")] = 2,
    report_only: Annotated[bool, typer.Option("--report-only", help="report what is finished, no more")] = False,
) -> None:
    """Compare methods on cases, fold by fold, and write tables, figures and every number into a folder.

    A study that was stopped goes on where it was when the same command is given again.
    """
    try:
        config = read_study(study)
        kept = cache or out / "cache"
        cases, findings = build_cases(config, data, kept, processes)
        for finding in findings:
            typer.echo(f"{finding.case_id}: {finding.kind}: {finding.detail}", err=True)
        if not report_only:
            run_study(config, cases, kept, processes)
        write_report(Bench(config, open_cases(cases), Store(kept)), out)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    typer.echo(str(out / MARKDOWN))
