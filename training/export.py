"""Export an encoder to ONNX and prove that the file computes what torch computes, before anybody relies on it."""

import hashlib
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from service.features.encoder import INPUT, OUTPUT
from service.features.encoder import Encoder as OnnxEncoder
from service.manifest import EncoderPart
from training.encoder import Encoder

OPSET = 20
PARITY_BATCHES = (1, 2, 5)
PARITY_LIMIT = 1e-4  # largest |onnx - torch|, of the embedding's standard deviation


class ExportError(RuntimeError):
    """The exported file is not the network it was made from."""


def export_encoder(encoder: Encoder, path: Path, crops: NDArray[np.float32]) -> EncoderPart:
    """Write `path`, one file, dynamic in the batch, and verify it on real crops.

    Args:
        encoder: in evaluation mode.
        path: of the .onnx file.
        crops: [N, C, D, D, D], N at least 5, to compare on.

    Raises:
        ExportError: the checker's complaints, external data, another signature, or values beyond `PARITY_LIMIT`.
    """
    model = to_onnx(encoder, torch.from_numpy(crops[:2].copy()))
    path.write_bytes(model.SerializeToString(deterministic=True))
    check_file(path, encoder)
    parity = measure_parity(encoder, path, crops)
    if not parity <= PARITY_LIMIT:
        raise ExportError(f"ONNX and torch differ by {parity:.2g} of the embedding's std, at most {PARITY_LIMIT:g}")
    return EncoderPart(
        file=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        dimension=encoder.dimension,
        opset=OPSET,
        parity_relative=float(f"{parity:.2g}"),
    )


def to_onnx(encoder: Encoder, crops: torch.Tensor) -> onnx.ModelProto:
    """Return the graph `crops` -> `embedding`, traced on a batch of two so that the batch stays free."""
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)  # on torchvision's absence
    with warnings.catch_warnings():
        # The exporter calls parts of torch that torch itself has deprecated.
        warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
        program = torch.onnx.export(
            encoder.to(memory_format=torch.contiguous_format).eval(),  # type: ignore[call-overload]
            (crops,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
            verbose=False,
        )
    if program is None:
        raise ExportError("torch exported nothing")
    model: onnx.ModelProto = program.model_proto
    _forget_origin(model)
    return model


def check_file(path: Path, encoder: Encoder) -> None:
    """Check structure, signature and self-containedness of the written file.

    Raises:
        ExportError: naming what is wrong.
    """
    model = onnx.load(path, load_external_data=False)
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"onnx.checker: {error}") from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ExportError("weights lie outside the file")
    got = [_shape(value) for value in (*model.graph.input, *model.graph.output)]
    if got[0][0] != INPUT or got[0][1][1] != encoder.channels or isinstance(got[0][1][0], int):
        raise ExportError(f"input {got[0]}, expected {INPUT} [batch, {encoder.channels}, D, H, W]")
    if got[1][0] != OUTPUT or got[1][1][1:] != [encoder.dimension]:
        raise ExportError(f"output {got[1]}, expected {OUTPUT} [batch, {encoder.dimension}]")


def measure_parity(
    encoder: Encoder, path: Path, crops: NDArray[np.float32], batches: Sequence[int] = PARITY_BATCHES
) -> float:
    """Return the largest |onnx - torch| over the given batch sizes, in units of the embedding's standard deviation.

    Raises:
        ExportError: the embeddings of different crops are one and the same.
    """
    session = OnnxEncoder(path, encoder.dimension, device="cpu")
    with torch.inference_mode():
        expected = encoder(torch.from_numpy(np.array(crops))).numpy()
    deviation = float(expected.std(axis=0).mean())
    if not np.ptp(expected, axis=0).any():
        raise ExportError("the encoder gives every crop the same embedding")
    differences = [np.abs(session.embed(np.array(crops[:size])) - expected[:size]).max() for size in batches]
    return float(max(differences)) / deviation


def _forget_origin(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes about the source: stack traces and paths are no part of the weights."""
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, model.graph):
        del part.metadata_props[:]
        part.doc_string = ""
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    del model.metadata_props[:]
    model.graph.name = "encoder"


def _shape(value: onnx.ValueInfoProto) -> tuple[str, list[int | str]]:
    dimensions = value.type.tensor_type.shape.dim
    return value.name, [each.dim_value if each.HasField("dim_value") else each.dim_param for each in dimensions]
