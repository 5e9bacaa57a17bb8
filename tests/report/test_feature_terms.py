"""What a feature's name says: image, unit and code."""

import pytest

from service.feature_terms import describe_feature
from service.ibsi_names import FEATURES
from service.radiomics_settings import PRESETS

HU = "[hnsf'U]"


@pytest.mark.parametrize(
    ("name", "channel", "image_type", "feature_class", "unit", "ibsi"),
    [
        ("original_shape_MeshVolume", "", "original", "shape", "mm3", "RNU0"),
        ("original_shape_SurfaceVolumeRatio", "", "original", "shape", "/mm", "2PR5"),
        ("original_shape_Sphericity", "", "original", "shape", "1", "QCFX"),
        ("original_shape_Maximum2DDiameterRow", "", "original", "shape", "mm", ""),
        ("original_firstorder_Mean", "", "original", "firstorder", HU, "Q4LE"),
        ("original_firstorder_Variance", "", "original", "firstorder", f"{HU}2", "ECT3"),
        ("original_firstorder_TotalEnergy", "", "original", "firstorder", f"{HU}2.mm3", ""),
        ("original_firstorder_Skewness", "", "original", "firstorder", "1", "KE2M"),
        ("wavelet-HLL_firstorder_Mean", "", "wavelet-HLL", "firstorder", "[arb'U]", "Q4LE"),
        ("original_glcm_JointEntropy", "", "original", "glcm", "1", "TU9B"),
        ("original_glcm_MCC", "", "original", "glcm", "1", ""),
        ("t1_ce_log-sigma-1-0-mm-3D_ngtdm_Busyness", "t1_ce", "log-sigma-1-0-mm-3D", "ngtdm", "1", "NQ30"),
        ("deep_0042", "", "", "deep", "1", ""),
        ("original_firstorder_Kurtosis", "", "original", "firstorder", "1", ""),
        ("ibsi_firstorder_Kurtosis", "", "ibsi", "firstorder", "1", "IPH6"),
    ],
)
def test_a_name_tells_image_class_unit_and_code(name, channel, image_type, feature_class, unit, ibsi):
    term = describe_feature(name, HU)
    assert (term.channel, term.image_type, term.feature_class, term.unit, term.ibsi) == (
        channel,
        image_type,
        feature_class,
        unit,
        ibsi,
    )


def test_pyradiomics_kurtosis_is_told_from_ibsi_s():
    assert "excess" in describe_feature("original_firstorder_Kurtosis").deviation
    assert describe_feature("ibsi_firstorder_Kurtosis").deviation == ""


def test_a_quotient_of_units_is_squared_as_a_whole():
    assert describe_feature("original_firstorder_Energy", "g/ml{SUVbw}").unit == "(g/ml{SUVbw})2"


def test_every_feature_of_the_presets_and_of_ibsi_is_described():
    names = [*PRESETS["full"].feature_names(), *(f"ibsi_{feature.name}" for feature in FEATURES)]
    for name in names:
        term = describe_feature(name)
        assert (f"{term.image}_{term.plain_name}", term.name) == (name, name)
        assert term.unit


def test_codes_tell_features_apart():
    assert len({feature.code for feature in FEATURES}) == len(FEATURES)


@pytest.mark.parametrize("name", ["", "Mean", "firstorder_Mean"])
def test_what_is_no_feature_is_an_error(name):
    with pytest.raises(ValueError, match="unpack"):
        describe_feature(name)
