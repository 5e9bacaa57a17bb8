import json

import pytest

from service.bundle import ModelBundle, fused_feature_names
from service.errors import BundleDamaged
from service.radiomics_settings import PRESETS
from tests.bundle_builder import change_manifest, digest, write_bundle


@pytest.fixture
def folder(tmp_path):
    return write_bundle(tmp_path)


def load_damaged(folder) -> str:
    with pytest.raises(BundleDamaged) as failure:
        ModelBundle.load(folder)
    assert folder.name in failure.value.detail
    return failure.value.detail


def test_a_whole_bundle_loads(folder):
    bundle = ModelBundle.load(folder, device="cpu")
    assert bundle.manifest.reference == "small-ct@1.0.0"
    assert bundle.sha256 == digest(folder / "manifest.json")
    assert bundle.settings == PRESETS["original"]
    assert [head.document.target for head in bundle.heads] == ["texture"]
    assert len(bundle.manifest.feature_names) == 115


@pytest.mark.parametrize("file", ["encoder.onnx", "radiomics.yaml", "card.md", "texture.json"])
def test_one_changed_byte_is_noticed(folder, file):
    path = folder / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert f"{file} has SHA-256" in load_damaged(folder)


@pytest.mark.parametrize("file", ["encoder.onnx", "radiomics.yaml", "card.md", "texture.json", "manifest.json"])
def test_a_missing_file_is_named(folder, file):
    (folder / file).unlink()
    assert file in load_damaged(folder)


@pytest.mark.parametrize("name", ["../card.md", "/etc/passwd", "sub/card.md", "..", "", ".", "a\\b", "manifest.json"])
def test_a_file_outside_the_bundle_is_refused(folder, name):
    change_manifest(folder, card={"file": name, "sha256": digest(folder / "card.md")})
    assert "not a plain file name" in load_damaged(folder)


def test_a_symbolic_link_is_refused(folder, tmp_path):
    outside = tmp_path / "outside.md"
    outside.write_bytes((folder / "card.md").read_bytes())
    (folder / "card.md").unlink()
    (folder / "card.md").symlink_to(outside)
    assert "not a plain file name" in load_damaged(folder)


def test_feature_names_must_be_those_that_are_computed(folder):
    names = json.loads((folder / "manifest.json").read_text())["feature_names"]
    for wrong in (names[:-1], names[::-1], [*names, "deep_0008"]):
        change_manifest(folder, feature_names=wrong)
        assert "features" in load_damaged(folder)


def test_a_parameter_file_that_is_refused_damns_the_bundle(folder):
    (folder / "radiomics.yaml").write_text("setting: {binWdth: 1}")
    change_manifest(folder, radiomics={"file": "radiomics.yaml", "sha256": digest(folder / "radiomics.yaml")})
    assert "radiomics.setting.binWdth" in load_damaged(folder)


@pytest.mark.parametrize(
    "change",
    [{"target": "stage"}, {"classes": ["rough", "smooth"]}, {"features": [f"x{number}" for number in range(12)]}],
)
def test_a_head_must_be_the_one_its_manifest_describes(folder, change):
    path = folder / "texture.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    heads = json.loads((folder / "manifest.json").read_text())["heads"]
    change_manifest(folder, heads=[heads[0] | {"sha256": digest(path)}])
    assert "texture.json" in load_damaged(folder)


def test_channels_and_windows_must_be_the_same(folder):
    preprocessing = json.loads((folder / "manifest.json").read_text())["preprocessing"]
    change_manifest(folder, preprocessing=preprocessing | {"windows": {"pet": {"low": 0, "high": 1}}})
    assert "windows" in load_damaged(folder)


def test_channels_are_named_only_where_there_are_several():
    settings = PRESETS["original"]
    assert fused_feature_names(settings, ["ct"], 2)[-3:] == ("original_ngtdm_Strength", "deep_0000", "deep_0001")
    both = fused_feature_names(settings, ["t1", "flair"], 1)
    assert len(both) == 2 * 107 + 1
    assert both[0] == "t1_original_shape_Elongation"
    assert both[107] == "flair_original_shape_Elongation"
