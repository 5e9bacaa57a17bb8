"""What a pretraining leaves in its folder: the encoder, its epochs, and the exported file with what is known of it."""

import csv
import dataclasses
import hashlib
from pathlib import Path

from pydantic import ValidationError

from service.imaging.preprocess import Crop as Crops
from service.manifest import EncoderPart, Strict
from training.checkpoints import CheckpointError, read_checkpoint, write_checkpoint
from training.config import Experiment
from training.encoder import Encoder
from training.export import export_encoder
from training.loop import Epoch
from training.pretrain import Pretrained

ENCODER, EPOCHS, ONNX, PART = "encoder.pt", "epochs.csv", "encoder.onnx", "encoder.json"


class ExportRecord(Strict):
    """What is written beside an exported encoder."""

    experiment_sha256: str
    encoder: EncoderPart


def write_trained(run: Path, trained: Pretrained, config: Experiment) -> None:
    """Write a pretrained encoder and the record of its epochs into the folder `run`."""
    write_checkpoint(run / ENCODER, trained.encoder.state_dict(), config.encoder_sha256())
    rows = [dataclasses.asdict(epoch) | {"collapsed": epoch.collapsed} for epoch in trained.epochs]
    with (run / EPOCHS).open("w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(row | {"cluster_sizes": " ".join(map(str, row["cluster_sizes"]))} for row in rows)


def read_epochs(run: Path) -> list[Epoch]:
    """Read the record of the epochs.

    Raises:
        CheckpointError: there is none.
    """
    try:
        with (run / EPOCHS).open(newline="") as stream:
            return [
                Epoch(
                    number=int(row["number"]),
                    loss=float(row["loss"]),
                    spread=float(row["spread"]),
                    effective_rank=float(row["effective_rank"]),
                    cluster_sizes=tuple(map(int, row["cluster_sizes"].split())),
                )
                for row in csv.DictReader(stream)
            ]
    except (OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{EPOCHS} is no record of epochs: {type(error).__name__}") from error


def export_trained(run: Path, config: Experiment, crops: Crops) -> EncoderPart:
    """Write the encoder of the folder `run` as ONNX beside it, compared on real crops.

    Args:
        run: that `write_trained` wrote.
        config: of the pretraining.
        crops: [N, C, D, D, D], at least 5.

    Raises:
        CheckpointError: the encoder is not there, or of another experiment.
        ExportError: the file is not the network it was made from.
    """
    state = read_checkpoint(run / ENCODER, config.encoder_sha256())
    encoder = Encoder(config.input_channels, config.encoder.widths, config.encoder.dimension)
    encoder.load_state_dict(state)
    part = export_encoder(encoder.eval(), run / ONNX, crops)
    record = ExportRecord(experiment_sha256=config.encoder_sha256(), encoder=part)
    (run / PART).write_text(record.model_dump_json(indent=1) + "\n")
    return part


def read_exported(run: Path, config: Experiment) -> EncoderPart:
    """Return what is known of the exported encoder in the folder `run`.

    Raises:
        CheckpointError: it is of another experiment, or the file is not the one that was exported.
    """
    try:
        record = ExportRecord.model_validate_json((run / PART).read_bytes())
        digest = hashlib.sha256((run / ONNX).read_bytes()).hexdigest()
    except (OSError, ValidationError) as error:
        raise CheckpointError(f"{PART} is no record of an export: {type(error).__name__}") from error
    if record.experiment_sha256 != config.encoder_sha256():
        raise CheckpointError(f"{ONNX} is of a run with other settings, sources or seed; export it anew")
    if record.encoder.sha256 != digest:
        raise CheckpointError(f"{ONNX} has SHA-256 {digest}, its record says {record.encoder.sha256}")
    return record.encoder
