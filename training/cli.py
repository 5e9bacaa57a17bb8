"""`radfuse-train`: the command line of the training half."""

import json
from pathlib import Path
from typing import Annotated

import typer

from training.bundle import make_bundle
from training.bundle_evaluation_command import evaluate_bundle
from training.config import ConfigError, read_config
from training.evaluation import evaluate
from training.pretrain_command import export, pretrain
from training.readers.command import check
from training.release_command import fit_heads, phantoms, release

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Train Radfuse's models.")


@app.callback()
def _commands() -> None:
    """Train Radfuse's models."""


app.command()(check)
app.command()(pretrain)
app.command()(export)
app.command()(fit_heads)
app.command()(evaluate)
app.command()(evaluate_bundle)
app.command()(release)
app.command()(phantoms)


@app.command()
def bundle(
    config: Annotated[Path, typer.Argument(help="TOML configuration, see training/configs")],
    out: Annotated[Path, typer.Argument(help="folder of the bundle, named after it")],
    processes: Annotated[int, typer.Option(min=1, help="processes that draw phantoms")] = 2,
) -> None:
    """Make a model bundle, from nothing to a folder that the service loads."""
    try:
        result = make_bundle(read_config(config), out, processes)
    except ConfigError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    typer.echo((out / "card.md").read_text())
    document = result.document()
    typer.echo(json.dumps({"model": document["model"], "example": document["rois"][0]["predictions"]}, indent=2))


def main() -> None:
    """Run the command line."""
    app(prog_name="radfuse-train")


if __name__ == "__main__":
    main()
