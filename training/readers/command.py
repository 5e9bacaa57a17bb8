"""`radfuse-train check`: list what is missing or odd in a collection, before hours are spent on it."""

import tempfile
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from training.cases import CaseIndex, Finding
from training.config import ConfigError
from training.readers.catalogue import ONE_CASE_PER_PATIENT, Name, read_collection
from training.readers.check import check_files, check_patients

LISTED = 10


def check(
    reader: Annotated[Name, typer.Argument(help="how the collection is laid out")],
    root: Annotated[Path, typer.Argument(help="its folder, or the CSV of a manifest")],
    *,
    quick: Annotated[bool, typer.Option("--quick", help="do not open images and masks")] = False,
    every: Annotated[bool, typer.Option("--all", help=f"list every finding, not {LISTED} of a kind")] = False,
) -> None:
    """List what is missing or odd in a collection of cases. The exit code is 1 where something was found."""
    with tempfile.TemporaryDirectory(prefix="radfuse-") as cache:
        try:
            index, findings = read_collection(reader, root, Path(cache))
        except ConfigError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from error
        if reader in ONE_CASE_PER_PATIENT:
            findings += check_patients(index)
        if not quick:
            findings += check_files(index)
    typer.echo(describe(index))
    typer.echo(list_findings(findings, None if every else LISTED))
    raise typer.Exit(1 if findings else 0)


def describe(index: CaseIndex) -> str:
    """Say in a few lines what a collection holds."""
    records = index.records
    patients, sites = ({getattr(record, name) for record in records} for name in ("patient_id", "site"))
    channels = sorted({channel for record in records for channel in record.images})
    lines = [
        f"{index.name}: {len(index)} cases of {len(patients)} patients from {len(sites)} sites",
        f"channels: {', '.join(channels) or 'none'}",
    ]
    for target in index.targets:
        counts = index.counts(target)
        named = ", ".join(f"{name} {count}" for name, count in counts.items())
        lines.append(f"{target}: {named}, unlabelled {len(index) - sum(counts.values())}")
    return "\n".join(lines)


def list_findings(findings: list[Finding], listed: int | None) -> str:
    """List findings kind by kind, `listed` of each."""
    if not findings:
        return "nothing is missing or odd"
    lines = []
    for kind, group in groupby(sorted(findings, key=lambda one: (one.kind, one.case_id)), key=lambda one: one.kind):
        same = list(group)
        lines.append(f"{kind}: {len(same)}")
        lines += [f"  {one.case_id}: {one.detail}" for one in same[:listed]]
        if listed is not None and len(same) > listed:
            lines.append(f"  ... and {len(same) - listed} more (--all)")
    return "\n".join(lines)
