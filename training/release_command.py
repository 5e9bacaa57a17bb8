"""`radfuse-train release` and `phantoms`: bundles from real cases, and a folder to try the way there on."""

from pathlib import Path
from typing import Annotated

import typer

from training.brain_phantoms import write_brats_tree
from training.config import ConfigError
from training.release import release as make_release
from training.release_config import read_release


def release(
    config: Annotated[Path, typer.Argument(help="TOML configuration, see training/configs")],
    out: Annotated[Path, typer.Argument(help="folder of the bundle, named after it")],
    *,
    data: Annotated[Path, typer.Option(help="folder that the configuration's sources lie in")],
    cache: Annotated[Path, typer.Option(help="keeps crops and radiomics between runs")] = Path(".cache/training"),
    processes: Annotated[int, typer.Option(min=1, help="processes that read the cases")] = 2,
) -> None:
    """Make a model bundle from real cases, from files to a folder that the service loads."""
    try:
        bundle = make_release(read_release(config), data, out, cache, processes)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    typer.echo((out / bundle.manifest.card.file).read_text())


def phantoms(
    folder: Annotated[Path, typer.Argument(help="where to; must not hold the cases yet")],
    *,
    count: Annotated[int, typer.Option(min=1)] = 60,
    first_seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Write brain phantoms in the layout of BraTS 2019."""
    try:
        write_brats_tree(folder, count, first_seed)
    except FileExistsError as error:
        typer.echo(f"{folder.name} holds such cases already", err=True)
        raise typer.Exit(2) from error
