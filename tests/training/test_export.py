import hashlib

import numpy as np
import onnx
import pytest
import torch

from service.features.encoder import Encoder as OnnxEncoder
from training.encoder import Encoder
from training.export import ExportError, check_file, export_encoder, measure_parity


@pytest.fixture(scope="module")
def trained():
    """An encoder whose normalisation has seen data, and crops."""
    torch.manual_seed(0)
    encoder, crops = Encoder(2, widths=[4, 8], dimension=6), torch.rand(8, 2, 16, 16, 16)
    with torch.no_grad():
        for _ in range(3):
            encoder.train()(crops)
    return encoder.eval(), crops.numpy()


def test_the_file_computes_what_torch_computes_at_every_batch_size(trained, tmp_path):
    encoder, crops = trained
    part = export_encoder(encoder, tmp_path / "encoder.onnx", crops)
    assert part.parity_relative <= 1e-4
    assert part.sha256 == hashlib.sha256((tmp_path / "encoder.onnx").read_bytes()).hexdigest()
    session = OnnxEncoder(tmp_path / "encoder.onnx", 6, device="cpu")
    with torch.no_grad():
        expected = encoder(torch.from_numpy(crops)).numpy()
    for size in (1, 2, 5, 8):
        assert np.abs(session.embed(crops[:size]) - expected[:size]).max() <= 1e-4 * expected.std()


def test_the_file_is_whole_and_says_nothing_of_where_it_was_made(trained, tmp_path):
    path = tmp_path / "encoder.onnx"
    part = export_encoder(trained[0], path, trained[1])
    assert [each.name for each in tmp_path.iterdir()] == ["encoder.onnx"]
    model = onnx.load(path)
    assert model.opset_import[0].version == part.opset
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert b"site-packages" not in path.read_bytes()


def test_another_network_is_not_passed_off_as_the_exported_one(trained, tmp_path):
    encoder, crops = trained
    path = tmp_path / "encoder.onnx"
    export_encoder(encoder, path, crops)
    torch.manual_seed(1)
    other = Encoder(2, widths=[4, 8], dimension=6).eval()
    assert measure_parity(other, path, crops) > 0.1
    with pytest.raises(ExportError, match="expected crops"):
        check_file(path, Encoder(1, widths=[4, 8], dimension=6))
    with pytest.raises(ExportError, match="embedding"):
        check_file(path, Encoder(2, widths=[4, 8], dimension=7))


def test_a_collapsed_network_is_refused(trained, tmp_path):
    encoder = Encoder(2, widths=[4, 8], dimension=6).eval()
    with torch.no_grad():
        encoder.embed.weight.zero_()
    with pytest.raises(ExportError, match="the same embedding"):
        export_encoder(encoder, tmp_path / "encoder.onnx", trained[1])
