"""`radfuse-train release`, `fit-heads` and `phantoms`: bundles from real cases, and a folder to try the way on."""

from pathlib import Path
from typing import Annotated

import typer

from service.bundle import ModelBundle
from training.brain_phantoms import write_brats_tree
from training.checkpoints import CheckpointError
from training.config import ConfigError
from training.export import ExportError
from training.release import release as make_release
from training.release import release_pretrained
from training.release_config import read_release

Config = Annotated[Path, typer.Argument(help="TOML configuration of a release, see training/configs")]
Out = Annotated[Path, typer.Argument(help="folder of the bundle, named after it")]
Data = Annotated[Path, typer.Option(help="folder that the configuration's sources lie in")]
Cache = Annotated[Path, typer.Option(help="keeps crops and radiomics between runs")]
Processes = Annotated[int, typer.Option(min=1, help="processes that read the cases")]
CACHE = Path(".cache/training")


def release(config: Config, out: Out, *, data: Data, cache: Cache = CACHE, processes: Processes = 2) -> None:
    """Make a model bundle from real cases, from files to a folder that the service loads."""
    try:
        bundle = make_release(read_release(config), data, out, cache, processes)
    except (ConfigError, ExportError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    _show_card(bundle, out)


def fit_heads(
    config: Config,
    run: Annotated[Path, typer.Argument(help="folder that `pretrain` wrote")],
    out: Out,
    *,
    data: Data,
    cache: Cache = CACHE,
    processes: Processes = 2,
) -> None:
    """Fit and calibrate heads on a pretrained encoder and write the bundle, as `release` does in one go.

    The configuration may differ from that of the pretraining in radiomics, heads, targets and words.
    """
    try:
        bundle = release_pretrained(read_release(config), run, data, out, cache, processes)
    except (CheckpointError, ConfigError, ExportError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    _show_card(bundle, out)


def _show_card(bundle: ModelBundle, out: Path) -> None:
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
