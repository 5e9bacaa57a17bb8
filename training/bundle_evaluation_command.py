"""`radfuse-train evaluate-bundle`: a finished bundle on cases that it has not seen."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from service.errors import BundleDamaged
from training.bundle_evaluation import (
    PREDICTIONS,
    SCORES,
    describe,
    judge_cases,
    score,
    write_predictions,
    write_scores,
)
from training.config import ConfigError
from training.readers.catalogue import Name, read_collection
from training.readers.command import LISTED, list_findings


def evaluate_bundle(
    bundle: Annotated[Path, typer.Argument(help="folder of the bundle")],
    manifest: Annotated[Path, typer.Option(help="CSV of the cases, or a collection's folder with --reader")],
    *,
    reader: Annotated[Name, typer.Option(help="how the collection is laid out")] = "manifest",
    out: Annotated[Path | None, typer.Option(help=f"folder for {PREDICTIONS} and {SCORES}")] = None,
    ordered: Annotated[list[str] | None, typer.Option(help="target whose classes have an order")] = None,
    processes: Annotated[int, typer.Option(min=1, help="processes, one thread each")] = 2,
) -> None:
    """Run a finished bundle as the service does on labelled cases, and tell what it is worth, with intervals.

    The exit code is 1 where a case was left out.
    """
    with tempfile.TemporaryDirectory(prefix="radfuse-") as cache:
        try:
            index, findings = read_collection(reader, manifest, Path(cache))
            judged, refused = judge_cases(bundle, index, processes)
        except (ConfigError, BundleDamaged) as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from error
    left_out = [finding for finding in findings + refused if finding.kind != "missing-label"]
    if left_out:
        typer.echo(list_findings(left_out, LISTED), err=True)
    if not judged:
        typer.echo(f"no case of {len(index)} has a class that the bundle predicts", err=True)
        raise typer.Exit(2)
    scored = score(judged, ordered or ())
    typer.echo("\n".join(map(describe, scored)))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_predictions(out / PREDICTIONS, judged)
        write_scores(out / SCORES, scored)
    raise typer.Exit(1 if left_out else 0)
