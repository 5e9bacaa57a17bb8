"""`radfuse-train pretrain` and `export`: an encoder from real cases, and its file for the service."""

import json
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch.distributed as dist
import typer

from training.arrays import CaseArrays
from training.checkpoints import CheckpointError
from training.config import ConfigError, Experiment, read_experiment
from training.distributed import World, open_world
from training.encoder_files import export_trained, write_trained
from training.export import ExportError
from training.loop import Epoch, Run
from training.pretrain import fix_randomness
from training.pretrain import pretrain as pretrain_encoder
from training.release import gather
from training.release_config import read_release

Config = Annotated[Path, typer.Argument(help="TOML configuration of an experiment or a release")]
Data = Annotated[Path, typer.Option(help="folder that the configuration's sources lie in")]
Cache = Annotated[Path, typer.Option(help="keeps crops and radiomics between runs")]
Processes = Annotated[int, typer.Option(min=1, help="processes that read the cases")]
CACHE = Path(".cache/training")


def pretrain(
    config: Config,
    *,
    data: Data,
    out: Annotated[Path, typer.Option(help="folder of the checkpoints, TensorBoard's curves and the encoder")],
    resume: Annotated[bool, typer.Option(help="go on from the last checkpoint in that folder")] = False,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option()] = "auto",
    cache: Cache = CACHE,
    processes: Processes = 2,
) -> None:
    """Train an encoder without labels; under torchrun, in all its processes together."""
    try:
        settings = read(config)
        run = Run(folder=out, device=device, threads=settings.threads, resume=resume)
        with open_world(device) as world:
            if world.device.type == "cpu":
                fix_randomness(settings.threads)
            epochs = _pretrain(settings, _gather(settings, data, cache, processes, world), run, world)
    except (ConfigError, CheckpointError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    if world.leads:
        last = epochs[-1]
        shown = f"loss {last.loss:.4f}, spread {last.spread:.2f}, effective rank {last.effective_rank:.1f}"
        typer.echo(f"{len(epochs)} epochs; {shown}{'; COLLAPSED' if last.collapsed else ''}")


def export(
    config: Config,
    run: Annotated[Path, typer.Argument(help="folder that `pretrain` wrote")],
    *,
    data: Data,
    cache: Cache = CACHE,
    processes: Processes = 2,
) -> None:
    """Write a pretrained encoder as ONNX beside it and compare both on real crops."""
    try:
        settings = read(config)
        arrays = gather(settings, data, cache, processes)[0]
        part = export_trained(run, settings, np.array(arrays.crops[:5]))
    except (ConfigError, CheckpointError, ExportError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    typer.echo(json.dumps(part.model_dump(), indent=2))


def read(config: Path) -> Experiment:
    """Read the configuration of an experiment, or of a release, which is one too.

    Raises:
        ConfigError: not TOML, an unknown key, or a value out of range; the message names it.
    """
    try:
        document = tomllib.loads(config.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{config.name}: {error}") from error
    return read_release(config) if "release" in document else read_experiment(config)


def _gather(settings: Experiment, data: Path, cache: Path, processes: int, world: World) -> CaseArrays:
    """Gather the cases; the leader fills the cache before the others look there."""
    if not world.leads:
        dist.barrier()
    arrays, findings = gather(settings, data, cache, processes)
    if world.leads:
        typer.echo(f"{len(arrays)} cases; {len(findings)} findings, which `radfuse-train check` lists", err=True)
        if world.size > 1:
            dist.barrier()
    return arrays


def _pretrain(settings: Experiment, arrays: CaseArrays, run: Run, world: World) -> list[Epoch]:
    trained = pretrain_encoder(
        arrays.crops,
        settings.encoder,
        settings.pretraining,
        settings.seed,
        run=run,
        image_channels=len(settings.channels),
    )
    if world.leads and run.folder is not None:
        write_trained(run.folder, trained, settings)
    return trained.epochs
