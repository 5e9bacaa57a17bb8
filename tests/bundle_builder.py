"""Writes a real, small bundle: a random 3D network, a head on fused features and a manifest with true digests."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from service.bundle import fused_feature_names
from service.heads import HeadDocument, Novelty
from service.manifest import EncoderPart, FilePart, HeadPart, Manifest, Preprocessing, Window
from service.radiomics_settings import parse_parameters

NAME = "small-ct"
CHANNELS = ("ct",)
DIMENSION = 8
CROP_VOXELS = 16
CLASSES = ("smooth", "rough")
PARAMETERS = "imageType:\n  Original: {}\n"


def write_bundle(
    folder: Path,
    *,
    name: str = NAME,
    version: str = "1.0.0",
    channels: tuple[str, ...] = CHANNELS,
    parameters: str = PARAMETERS,
    mask_channel: bool = False,
    demonstration: bool = True,
    seed: int = 0,
) -> Path:
    """Write a bundle into `folder/name` and return that folder."""
    bundle = folder / name
    bundle.mkdir(parents=True)
    planes = len(channels) + mask_channel
    onnx.save(build_encoder(planes, seed=seed), bundle / "encoder.onnx")
    (bundle / "radiomics.yaml").write_text(parameters)
    (bundle / "card.md").write_text(f"# {name}\n\nA random network, for tests.\n")
    names = fused_feature_names(parse_parameters(parameters), channels, DIMENSION)
    (bundle / "texture.json").write_text(build_head(names, name, seed).model_dump_json(indent=1))
    write_manifest(bundle, build_manifest(bundle, version, channels, names, mask_channel, demonstration))
    return bundle


def build_encoder(planes: int = 1, dimension: int = DIMENSION, seed: int = 0) -> onnx.ModelProto:
    """Conv3d (stride 2) - ReLU - mean over space - linear, with random weights."""
    random = np.random.default_rng(seed)
    weights = {
        "kernel": random.normal(size=(4, planes, 3, 3, 3)),
        "bias": random.normal(size=4),
        "linear": random.normal(size=(4, dimension)),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["crops", "kernel", "bias"], ["maps"], strides=[2, 2, 2], pads=[1] * 6),
            helper.make_node("Relu", ["maps"], ["active"]),
            helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "linear"], ["embedding"]),
        ],
        "encoder",
        [helper.make_tensor_value_info("crops", TensorProto.FLOAT, ["N", planes, "D", "H", "W"])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", dimension])],
        [numpy_helper.from_array(value.astype(np.float32), key) for key, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def build_head(names: tuple[str, ...], bundle: str = NAME, seed: int = 0, features: int = 12) -> HeadDocument:
    """A random head on the first and last features of the fused vector."""
    random = np.random.default_rng(seed)
    half = features // 2
    return HeadDocument(
        target="texture",
        classes=list(CLASSES),
        features=[*names[:half], *names[-half:]],
        mean=random.normal(size=features).tolist(),
        scale=random.uniform(50, 100, size=features).tolist(),
        weights=random.normal(size=(len(CLASSES), features)).tolist(),
        intercept=[0.1, -0.1],
        temperature=1.5,
        calibrated=True,
        novelty=Novelty(components=random.normal(size=(3, features)).tolist(), scale=[1.0, 2.0, 3.0], threshold=4.0),
        evidence=f"models/{bundle}/card.md",
    )


def build_manifest(
    bundle: Path,
    version: str,
    channels: tuple[str, ...],
    names: tuple[str, ...],
    mask_channel: bool,
    demonstration: bool,
) -> Manifest:
    """The manifest of the files that lie in `bundle`."""
    return Manifest(
        schema_version=1,
        name=bundle.name,
        version=version,
        summary="A random network, for tests.",
        demonstration=demonstration,
        licence="Apache-2.0",
        channels=list(channels),
        modality="CT",
        preprocessing=Preprocessing(
            crop_voxels=CROP_VOXELS,
            extent="fixed",
            extent_mm=32.0,
            windows={channel: Window(low=-1000.0, high=400.0) for channel in channels},
            mask_channel=mask_channel,
        ),
        encoder=EncoderPart(
            file="encoder.onnx",
            sha256=digest(bundle / "encoder.onnx"),
            dimension=DIMENSION,
            opset=20,
            parity_relative=0.0,
        ),
        radiomics=FilePart(file="radiomics.yaml", sha256=digest(bundle / "radiomics.yaml")),
        heads=[
            HeadPart(
                file="texture.json", sha256=digest(bundle / "texture.json"), target="texture", classes=list(CLASSES)
            )
        ],
        card=FilePart(file="card.md", sha256=digest(bundle / "card.md")),
        feature_names=list(names),
        trained_with={},
    )


def write_manifest(bundle: Path, manifest: Manifest) -> None:
    """Write `manifest.json`."""
    (bundle / "manifest.json").write_text(manifest.model_dump_json(indent=1))


def change_manifest(bundle: Path, **changes: Any) -> None:
    """Overwrite top-level keys of a written manifest, valid or not."""
    path = bundle / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
