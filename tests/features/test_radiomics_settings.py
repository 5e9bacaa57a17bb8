import json
import warnings

import pytest
import pywt
import radiomics
from hypothesis import given
from hypothesis import strategies as st
from radiomics.featureextractor import RadiomicsFeatureExtractor

from service.errors import InvalidField
from service.radiomics_names import DEPRECATED, FEATURES, UNCOMPUTED, WAVELETS
from service.radiomics_options import FILTER_OPTIONS
from service.radiomics_settings import MAX_BYTES, PRESETS, RadiomicsSettings, parse_parameters


def refused_key(text: str) -> str:
    with pytest.raises(InvalidField) as refusal:
        parse_parameters(text)
    key = refusal.value.facts["field"]
    assert refusal.value.detail.startswith(key)
    assert isinstance(key, str)
    return key


def test_names_are_those_of_pyradiomics():
    classes = radiomics.getFeatureClasses()
    assert {name: tuple(kind.getFeatureNames()) for name, kind in classes.items()} == FEATURES
    deprecated = {
        name: tuple(feature for feature, old in kind.getFeatureNames().items() if old) for name, kind in classes.items()
    }
    assert {name: features for name, features in deprecated.items() if features} == DEPRECATED
    assert all(set(UNCOMPUTED[name]) <= set(DEPRECATED[name]) for name in UNCOMPUTED)
    assert set(WAVELETS) == set(pywt.wavelist(kind="discrete"))
    assert {*FILTER_OPTIONS, "LBP2D", "LBP3D"} == set(radiomics.getImageTypes())


@pytest.mark.parametrize("name", PRESETS)
def test_pyradiomics_own_validation_accepts_a_resolved_document(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pykwalify loads its extensions in a deprecated way
        extractor = RadiomicsFeatureExtractor(PRESETS[name].document())
    assert extractor.enabledImagetypes == PRESETS[name].document()["imageType"]


def test_defaults_are_those_of_pyradiomics():
    stock = RadiomicsFeatureExtractor().settings
    ours = PRESETS["original"].setting
    elsewhere = {"label", "additionalInfo"}
    assert {key: ours[key] for key in stock if key not in elsewhere} == {
        key: stock[key] for key in stock if key not in elsewhere
    }
    assert ours["binWidth"] == 25
    assert ours["symmetricalGLCM"] is True


def test_presets_have_the_promised_features():
    original, full = PRESETS["original"].feature_names(), PRESETS["full"].feature_names()
    assert (len(original), len(full)) == (107, 1130)
    assert full[:107] == original
    assert "log-sigma-2-0-mm-3D_glcm_Idm" in full
    assert full[-1] == "wavelet-LLL_ngtdm_Strength"


def test_an_empty_file_is_the_preset_original():
    for text in ("", "{}", "setting: {}\nimageType:\nfeatureClass: {}", "setting: {binWidth: 25}"):
        assert parse_parameters(text) == PRESETS["original"]


def test_the_order_in_the_file_changes_nothing():
    one = parse_parameters("imageType: {Wavelet: {}, Original: {}}\nfeatureClass: {glcm: [Idm, Id], shape: }")
    two = parse_parameters("featureClass: {shape: [], glcm: [Id, Idm]}\nimageType: {Original: , Wavelet: {level: 1}}")
    assert one.sha256() == two.sha256()
    assert one.feature_names() == two.feature_names()


def test_resolving_is_idempotent_and_survives_json():
    for settings in (*PRESETS.values(), parse_parameters("imageType: {LoG: {sigma: [1, 1.0, 0.5]}}")):
        again = RadiomicsSettings.model_validate(json.loads(json.dumps(settings.document(), sort_keys=True)))
        assert again == settings
        assert (again.sha256(), again.feature_names()) == (settings.sha256(), settings.feature_names())
        assert RadiomicsSettings.model_validate(settings) == settings


def test_every_setting_changes_the_digest():
    texts = [
        "",
        "setting: {binWidth: 24}",
        "setting: {normalize: true}",
        "imageType: {Square: }",
        "featureClass: {glcm: }",
    ]
    assert len({parse_parameters(text).sha256() for text in texts}) == len(texts)


def test_a_filter_option_under_setting_moves_to_its_image_type():
    assert parse_parameters("imageType: {LoG: }\nsetting: {sigma: [2]}") == parse_parameters(
        "imageType: {LoG: {sigma: [2]}}"
    )
    both = parse_parameters("imageType: {LoG: {sigma: [1.5]}}\nsetting: {sigma: [2]}")
    assert both.image_names() == ("log-sigma-1-5-mm-3D",)


def test_keys_of_published_files_that_hold_here_anyway_are_accepted():
    text = "setting: {label: 1, additionalInfo: true, correctMask: false, label_channel: 0, geometryTolerance: }"
    assert parse_parameters(text) == PRESETS["original"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("settings: {}", "radiomics.settings"),
        ("voxelSetting: {kernelRadius: 1}", "radiomics.voxelSetting"),
        ("setting: {binWdth: 25}", "radiomics.setting.binWdth"),
        ("setting: {binWidth: 0}", "radiomics.setting.binWidth"),
        ("setting: {binWidth: -1.5}", "radiomics.setting.binWidth"),
        ("setting: {binWidth: .nan}", "radiomics.setting.binWidth"),
        ("setting: {binWidth: .inf}", "radiomics.setting.binWidth"),
        ("setting: {binWidth: '25'}", "radiomics.setting.binWidth"),
        ("setting: {binWidth: true}", "radiomics.setting.binWidth"),
        ("setting: {binWidth: }", "radiomics.setting.binWidth"),
        ("setting: {normalize: 1}", "radiomics.setting.normalize"),
        ("setting: {binCount: 1.5}", "radiomics.setting.binCount"),
        ("setting: {distances: []}", "radiomics.setting.distances"),
        ("setting: {distances: [1, 99999999999]}", "radiomics.setting.distances"),
        ("setting: {resampledPixelSpacing: [1, 1]}", "radiomics.setting.resampledPixelSpacing"),
        ("setting: {resampledPixelSpacing: [1, 1, -1]}", "radiomics.setting.resampledPixelSpacing"),
        ("setting: {interpolator: linear}", "radiomics.setting.interpolator"),
        ("setting: {resegmentRange: [1, 2, 3]}", "radiomics.setting.resegmentRange"),
        ("setting: {resegmentMode: other}", "radiomics.setting.resegmentMode"),
        ("setting: {resegmentShape: true}", "radiomics.setting.resegmentShape"),
        ("setting: {force2Ddimension: 3}", "radiomics.setting.force2Ddimension"),
        ("setting: {minimumROIDimensions: 0}", "radiomics.setting.minimumROIDimensions"),
        ("setting: {weightingNorm: max}", "radiomics.setting.weightingNorm"),
        ("setting: {label: 2}", "radiomics.setting.label"),
        ("setting: {label: true}", "radiomics.setting.label"),
        ("setting: {label_channel: 1}", "radiomics.setting.label_channel"),
        ("setting: {correctMask: true}", "radiomics.setting.correctMask"),
        ("setting: {geometryTolerance: 0.1}", "radiomics.setting.geometryTolerance"),
        ("setting: {sigma: [1]}", "radiomics.setting.sigma"),
        ("setting: [binWidth]", "radiomics.setting"),
        ("setting: {1: 2}", "radiomics.setting"),
        ("imageType: {Log: {sigma: [1]}}", "radiomics.imageType.Log"),
        ("imageType: {LoG: }", "radiomics.imageType.LoG.sigma"),
        ("imageType: {LoG: {sigma: [1, 1]}}", "radiomics.imageType.LoG.sigma"),
        ("imageType: {LoG: {sigma: [0]}}", "radiomics.imageType.LoG.sigma"),
        ("imageType: {Wavelet: {wavelet: morl}}", "radiomics.imageType.Wavelet.wavelet"),
        ("imageType: {Wavelet: {level: 0}}", "radiomics.imageType.Wavelet.level"),
        ("imageType: {Wavelet: {level: 1000000000}}", "radiomics.imageType.Wavelet.level"),
        ("imageType: {Wavelet: {sigma: [1]}}", "radiomics.imageType.Wavelet.sigma"),
        ("imageType: {Original: {normalize: true}}", "radiomics.imageType.Original.normalize"),
        ("imageType: {Original: {label: 1}}", "radiomics.imageType.Original.label"),
        ("imageType: {LBP2D: {}}", "radiomics.imageType.LBP2D"),
        ("imageType: {LBP3D: {}}", "radiomics.imageType.LBP3D"),
        ("imageType: [Original]", "radiomics.imageType"),
        ("featureClass: {texture: }", "radiomics.featureClass.texture"),
        ("featureClass: {glcm: [Foo]}", "radiomics.featureClass.glcm.Foo"),
        ("featureClass: {glcm: Idm}", "radiomics.featureClass.glcm"),
        ("featureClass: {glcm: [SumVariance]}", "radiomics.featureClass.glcm.SumVariance"),
        ("featureClass: {shape2D: }", "radiomics.featureClass.shape2D"),
        (
            "featureClass: {shape2D: }\nsetting: {force2D: true, force2Ddimension: 1}",
            "radiomics.featureClass.shape2D",
        ),
        ("x" * (MAX_BYTES + 1), "radiomics"),
        ("- a", "radiomics"),
        ("a: [", "radiomics"),
        ("[" * 5000, "radiomics"),
        ("a: &x [1]\nb: *x", "radiomics"),
        ("setting: {binWidth: 1, binWidth: 2}", "radiomics"),
        ("setting: {binWidth: " + "9" * 5000 + "}", "radiomics"),
        ("a: 2001-99-99", "radiomics"),
        ("!!python/object/apply:os.getcwd []", "radiomics"),
        ("\0", "radiomics"),
        ("\ud800", "radiomics"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(text, key):
    assert refused_key(text) == key


def test_a_refused_key_is_shown_short_and_printable():
    key = refused_key('setting: {"a\\nb\\e' + "c" * 500 + '": 1}')
    assert len(key) <= 100
    assert key.isprintable()


def test_bytes_that_are_not_utf8_are_refused():
    with pytest.raises(InvalidField):
        parse_parameters(b"setting: \xff\xfe\xfd")


@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused(text):
    try:
        settings = parse_parameters(text)
    except InvalidField:
        return
    assert settings.feature_names()


def test_deprecated_features_come_only_when_named():
    assert "original_shape_Compactness1" not in PRESETS["original"].feature_names()
    named = parse_parameters("featureClass: {shape: [Compactness1, Sphericity]}")
    assert named.feature_names() == ("original_shape_Compactness1", "original_shape_Sphericity")


@pytest.mark.parametrize(
    ("wide", "narrow", "covers"),
    [
        ("imageType: {Original: , Wavelet: }", "", True),
        ("", "imageType: {Original: , Wavelet: }", False),
        ("", "featureClass: {glcm: [Idm]}", True),
        ("featureClass: {glcm: [Idm]}", "", False),
        ("setting: {binWidth: 5}", "", False),
        ("imageType: {LoG: {sigma: [1, 2]}}", "imageType: {LoG: {sigma: [2]}}", True),
        ("imageType: {LoG: {sigma: [2]}}", "imageType: {LoG: {sigma: [1, 2]}}", False),
        ("imageType: {LoG: {sigma: [1, 2], binWidth: 5}}", "imageType: {LoG: {sigma: [2]}}", False),
        ("imageType: {Wavelet: {wavelet: haar}}", "imageType: {Wavelet: }", False),
        ("imageType: {Wavelet: {level: 2}}", "imageType: {Wavelet: }", False),
        ("imageType: {Square: }", "featureClass: {shape: }", False),
        ("imageType: {Original: , Square: }", "featureClass: {shape: }", True),
    ],
)
def test_covering_means_same_settings_and_no_feature_missing(wide, narrow, covers):
    assert parse_parameters(wide).covers(parse_parameters(narrow)) is covers
