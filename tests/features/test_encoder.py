import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from service.errors import BundleDamaged, DeviceUnavailable
from service.features.encoder import CPU, CUDA, Encoder
from tests.bundle_builder import DIMENSION, build_encoder

HAS_CUDA = CUDA in onnxruntime.get_available_providers()


def write_encoder(folder: Path, planes: int = 1) -> Path:
    path = folder / "encoder.onnx"
    onnx.save(build_encoder(planes), path)
    return path


def draw_crops(count: int, planes: int = 1, edge: int = 9) -> NDArray[np.float32]:
    return np.random.default_rng(count).uniform(-1, 1, (count, planes, edge, edge, edge)).astype(np.float32)


def embed_slowly(path: Path, crops: NDArray[np.float32]) -> NDArray[np.float64]:
    """The graph of `build_encoder`, written out in double precision."""
    kernel, bias, linear = (numpy_helper.to_array(weight).astype(float) for weight in onnx.load(path).graph.initializer)
    padded = np.pad(crops.astype(float), [(0, 0), (0, 0), (1, 1), (1, 1), (1, 1)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3, 3), axis=(2, 3, 4))[:, :, ::2, ::2, ::2]
    maps = np.einsum("ncdhwxyz,ocxyz->nodhw", windows, kernel) + bias[:, None, None, None]
    return np.maximum(maps, 0).mean(axis=(2, 3, 4)) @ linear


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("planes", [1, 2])
def test_embeddings_are_those_of_the_graph(tmp_path, count, planes):
    path, crops = write_encoder(tmp_path, planes), draw_crops(count, planes)
    embedding = Encoder(path, DIMENSION, "cpu").embed(crops)
    assert (embedding.dtype, embedding.shape) == (np.float32, (count, DIMENSION))
    np.testing.assert_allclose(embedding, embed_slowly(path, crops), rtol=1e-4, atol=1e-5)


def test_a_crop_gives_the_same_bits_again_in_another_session(tmp_path):
    path, crops = write_encoder(tmp_path), draw_crops(1)
    first = Encoder(path, DIMENSION, "cpu").embed(crops)
    assert np.array_equal(first, Encoder(path, DIMENSION, "cpu").embed(crops))


def test_a_batch_agrees_with_its_crops_one_by_one(tmp_path):
    encoder, crops = Encoder(write_encoder(tmp_path), DIMENSION, "cpu"), draw_crops(5)
    single = np.concatenate([encoder.embed(crop[np.newaxis]) for crop in crops])
    np.testing.assert_allclose(encoder.embed(crops), single, rtol=1e-5, atol=1e-6)


def test_the_provider_in_use_is_told(tmp_path):
    assert Encoder(write_encoder(tmp_path), DIMENSION, "cpu").provider == CPU
    assert Encoder(write_encoder(tmp_path), DIMENSION, "auto").provider == (CUDA if HAS_CUDA else CPU)


@pytest.mark.skipif(HAS_CUDA, reason="this machine has CUDA")
def test_asking_for_cuda_where_there_is_none_fails(tmp_path):
    with pytest.raises(DeviceUnavailable, match="cuda"):
        Encoder(write_encoder(tmp_path), DIMENSION, "cuda").embed(draw_crops(1))


def test_nothing_is_loaded_before_first_use(tmp_path):
    encoder = Encoder(tmp_path / "absent.onnx", DIMENSION)
    with pytest.raises(BundleDamaged, match=r"absent\.onnx"):
        encoder.embed(draw_crops(1))


def test_onnx_runtime_is_not_imported_with_the_module():
    code = "import sys, service.pipeline; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0


def test_weights_in_another_file_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "encoder.onnx"
    onnx.save(build_encoder(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").exists()
    monkeypatch.chdir(tmp_path)  # where a graph given as bytes would look for them
    with pytest.raises(BundleDamaged, match=r"encoder\.onnx"):
        Encoder(path, DIMENSION, "cpu").embed(draw_crops(1))


@pytest.mark.parametrize("content", [b"", b"not an onnx file", None])
def test_a_damaged_file_is_refused(tmp_path, content):
    path = write_encoder(tmp_path)
    path.write_bytes(path.read_bytes()[:-300] if content is None else content)
    with pytest.raises(BundleDamaged, match=r"encoder\.onnx"):
        Encoder(path, DIMENSION, "cpu").embed(draw_crops(1))


def test_a_graph_with_other_inputs_or_outputs_is_refused(tmp_path):
    model = build_encoder()
    model.graph.output[0].name = model.graph.node[-1].output[0] = "features"
    onnx.save(model, tmp_path / "encoder.onnx")
    with pytest.raises(BundleDamaged, match="embedding"):
        Encoder(tmp_path / "encoder.onnx", DIMENSION, "cpu").embed(draw_crops(1))


def test_an_embedding_of_another_length_is_refused(tmp_path):
    with pytest.raises(BundleDamaged, match=r"\[2, 8\], expected \[2, 9\]"):
        Encoder(write_encoder(tmp_path), DIMENSION + 1, "cpu").embed(draw_crops(2))


def test_an_embedding_that_is_not_finite_is_refused(tmp_path):
    model = build_encoder()
    weight = next(value for value in model.graph.initializer if value.name == "linear")
    weight.CopyFrom(numpy_helper.from_array(np.full((4, DIMENSION), np.inf, np.float32), "linear"))
    onnx.save(model, tmp_path / "encoder.onnx")
    with pytest.raises(BundleDamaged, match="NaN"):
        Encoder(tmp_path / "encoder.onnx", DIMENSION, "cpu").embed(draw_crops(1))


@pytest.mark.parametrize(
    "crops", [draw_crops(1).astype(np.float64), draw_crops(1)[0], draw_crops(1, planes=2), draw_crops(1)[:0]]
)
def test_crops_of_another_type_or_shape_are_refused(tmp_path, crops):
    with pytest.raises(ValueError, match="expected float32"):
        Encoder(write_encoder(tmp_path), DIMENSION, "cpu").embed(crops)
