import itertools
import json

import numpy as np
import pytest

from service.bundle import ModelBundle
from service.errors import UnfitCase
from service.features.radiomics import compute_radiomics
from service.imaging.case import Case, Image, Mask
from service.imaging.preprocess import cut_crop
from service.pipeline import Stage, extract
from service.radiomics_settings import PRESETS, parse_parameters
from tests.build import build_case, build_geometry, build_image, build_mask
from tests.bundle_builder import CLASSES, DIMENSION, write_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return ModelBundle.load(write_bundle(tmp_path_factory.mktemp("models")), device="cpu")


def test_the_fused_vector_is_radiomics_then_embedding(bundle):
    case = build_case()
    (region,) = extract(case, bundle).regions
    image, mask = case.images["ct"], case.masks[0]
    radiomics = compute_radiomics(image, mask, PRESETS["original"])
    crop = cut_crop(case.images, mask, ["ct"], bundle.manifest.preprocessing)
    assert region.features.names == tuple(bundle.manifest.feature_names)
    assert region.features.select(radiomics.names) == radiomics
    assert region.features.values[-DIMENSION:].tolist() == bundle.encoder.embed(crop[None])[0].astype(float).tolist()
    assert region.predictions == (bundle.heads[0].predict(region.features),)


def test_the_document_is_the_contract_s(bundle):
    ticks = itertools.count()
    document = extract(build_case(), bundle, clock=lambda: float(next(ticks))).document()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["model"] == {"name": "small-ct", "version": "1.0.0", "sha256": bundle.sha256}
    (region,) = document["rois"]
    mask = build_mask()
    assert region["roi"] == {
        "name": "1",
        "voxels": mask.count,
        "volume_mm3": mask.volume_mm3,
        "centroid_mm": list(mask.centroid_mm),
        "bounding_box": [list(span) for span in mask.bounding_box],
    }
    assert list(region["features"]) == bundle.manifest.feature_names
    (prediction,) = region["predictions"]
    assert set(prediction) == {
        *("target", "class", "probabilities", "calibrated", "in_distribution", "novelty"),
        *("demonstration", "evidence"),
    }
    assert prediction["demonstration"] is True
    assert list(prediction["probabilities"]) == list(CLASSES)
    assert prediction["evidence"] == "models/small-ct/card.md"
    provenance = document["provenance"]
    assert provenance["radiomics_settings_sha256"] == PRESETS["original"].sha256()
    assert provenance["device"] == "CPUExecutionProvider"
    assert provenance["seconds"] == {"radiomics": 1.0, "encoder": 1.0, "prediction": 1.0}
    assert provenance["versions"]["pyradiomics"] == "3.0.1"
    assert set(provenance["versions"]) >= {"radfuse", "pyradiomics", "SimpleITK", "numpy", "onnxruntime"}
    assert provenance["notes"] == []


def test_stages_are_told_in_order(bundle):
    stages: list[Stage] = []
    extract(build_case(), bundle, on_stage=stages.append)
    assert stages == ["radiomics", "encoder", "prediction"]


def test_the_same_case_gives_the_same_document(bundle):
    one, two = (extract(build_case(), bundle, clock=lambda: 0.0).document() for _ in range(2))
    assert one == two


def test_a_region_s_values_do_not_depend_on_the_others(bundle):
    image = build_image()
    first, second = build_mask(radius_mm=5, name="1"), build_mask(radius_mm=4, name="2")
    both = extract(Case(None, {"ct": image}, (first, second)), bundle).document()["rois"]
    alone = extract(Case(None, {"ct": image}, (second,)), bundle).document()["rois"]
    assert [row["roi"]["name"] for row in both] == ["1", "2"]
    assert both[1] == alone[0]


def test_several_channels_are_prefixed_in_the_bundle_s_order(tmp_path):
    bundle = ModelBundle.load(write_bundle(tmp_path, channels=("t1", "flair"), mask_channel=True))
    images = {"flair": build_image(seed=1), "t1": build_image(seed=2)}
    (region,) = extract(Case(None, images, (build_mask(),)), bundle).regions
    assert region.features.names == tuple(bundle.manifest.feature_names)
    mean = compute_radiomics(images["flair"], build_mask(), PRESETS["original"]).select(["original_firstorder_Mean"])
    assert region.features.select(["flair_original_firstorder_Mean"]).values == mean.values


def test_settings_that_cover_the_bundle_s_give_the_same_predictions(bundle):
    settings = parse_parameters("imageType: {Original: {}, Square: {}}")
    result = extract(build_case(), bundle, settings)
    (region,) = result.regions
    assert region.features.names[: len(settings.feature_names())] == settings.feature_names()
    assert region.predictions == extract(build_case(), bundle).regions[0].predictions
    assert result.notes == ()
    assert result.document()["provenance"]["radiomics_settings_sha256"] == settings.sha256()


def test_other_settings_leave_the_predictions_alone_and_say_so(bundle):
    settings = parse_parameters("setting: {binWidth: 10}\nfeatureClass: {glcm: [Idm]}")
    result = extract(build_case(), bundle, settings)
    (region,) = result.regions
    assert region.features.names == ("original_glcm_Idm", *(f"deep_{index:04d}" for index in range(DIMENSION)))
    assert region.predictions == extract(build_case(), bundle).regions[0].predictions
    assert any("own radiomics, computed beside" in note for note in result.notes)


def test_notes_of_reading_are_kept(bundle):
    case = build_case()
    case = Case(case.case_id, case.images, case.masks, ("axes reordered",))
    assert extract(case, bundle).notes == ("axes reordered",)


def test_a_feature_without_a_value_is_null_and_named_and_its_prediction_left_out(tmp_path):
    parameters = (
        "featureClass: {glcm: [Correlation, Idm], firstorder: [Skewness, Mean]}\nsetting: {minimumROIDimensions: 1}"
    )
    bundle = ModelBundle.load(write_bundle(tmp_path, parameters=parameters))
    voxels = np.zeros(build_geometry().shape, bool)
    voxels[3, 4, 5] = voxels[9, 4, 5] = True  # no two neighbours: no co-occurrence
    case = Case(None, {"ct": build_image()}, (Mask(voxels, build_geometry(), "far"),))
    document = extract(case, bundle).document()
    (region,) = document["rois"]
    assert region["features"]["original_glcm_Idm"] is None
    assert region["features"]["original_firstorder_Mean"] is not None
    assert region["predictions"] == []
    notes = " / ".join(document["provenance"]["notes"])
    assert "original_glcm_Idm" in notes
    assert "texture cannot be predicted" in notes


@pytest.mark.parametrize("channels", [("pet",), ("ct", "pet")])
def test_other_channels_than_the_bundle_s_are_refused(bundle, channels):
    case = Case(None, {channel: build_image() for channel in channels}, (build_mask(),))
    with pytest.raises(UnfitCase) as refusal:
        extract(case, bundle)
    assert refusal.value.facts == {"got": sorted(channels), "expected": ["ct"]}


def test_another_modality_is_refused_where_it_is_known(bundle):
    image = build_image()
    mr = Image(image.voxels, image.geometry, "MR")
    with pytest.raises(UnfitCase, match="modality"):
        extract(Case(None, {"ct": mr}, (build_mask(),)), bundle)
    ct = Image(image.voxels, image.geometry, "CT")
    assert extract(Case(None, {"ct": ct}, (build_mask(),)), bundle).regions


def test_regions_and_channels_together_have_the_values_of_each_alone(tmp_path):
    bundle = ModelBundle.load(write_bundle(tmp_path, channels=("t1", "flair"), mask_channel=True))
    images = {"flair": build_image(seed=1), "t1": build_image(seed=2)}
    radii = (5.0, 4.0, 4.5)

    def build(radius):
        return build_mask(radius_mm=radius, name=str(radius))

    together = extract(Case(None, images, tuple(map(build, radii))), bundle, PRESETS["full"]).regions
    for radius, region in zip(radii, together, strict=True):
        (alone,) = extract(Case(None, images, (build(radius),)), bundle, PRESETS["full"]).regions
        assert region.mask.name == alone.mask.name
        assert region.features == alone.features
        assert region.predictions == alone.predictions
