import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.errors import BundleDamaged, UnfitCase
from service.features.vector import FeatureVector
from service.heads import Head, HeadDocument, parse_head, softmax

FEATURES = ("volume", "texture", "deep_0000")


def build_document(seed: int = 0, count: int = 3, **changes: Any) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "schema_version": 1,
        "target": "kind",
        "classes": [f"class-{number}" for number in range(count)],
        "features": list(FEATURES),
        "mean": random.normal(size=3).tolist(),
        "scale": random.uniform(0.5, 2, size=3).tolist(),
        "weights": random.normal(size=(count, 3)).tolist(),
        "intercept": random.normal(size=count).tolist(),
        "temperature": 1.7,
        "calibrated": True,
        "novelty": {"components": random.normal(size=(2, 3)).tolist(), "scale": [0.5, 2.0], "threshold": 3.0},
        "evidence": "models/small/card.md",
        **changes,
    }


def build_head(**changes: Any) -> Head:
    return Head(HeadDocument.model_validate(build_document(**changes)))


def vector(values: list[float]) -> FeatureVector:
    return FeatureVector(("other", *FEATURES), np.array([99.0, *values]))


def predict_slowly(document: dict[str, Any], values: list[float]) -> tuple[list[float], float]:
    """The head's formulas, one number at a time."""
    z = [(x - mean) / scale for x, mean, scale in zip(values, document["mean"], document["scale"], strict=True)]
    logits = [
        (sum(w * x for w, x in zip(row, z, strict=True)) + b) / document["temperature"]
        for row, b in zip(document["weights"], document["intercept"], strict=True)
    ]
    total = sum(math.exp(logit) for logit in logits)
    novelty = document["novelty"]
    whitened = [
        sum(c * x for c, x in zip(row, z, strict=True)) / scale
        for row, scale in zip(novelty["components"], novelty["scale"], strict=True)
    ]
    return [math.exp(logit) / total for logit in logits], sum(x * x for x in whitened) / len(whitened)


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=3), st.integers(0, 50), st.integers(2, 5))
def test_predictions_are_those_of_the_formulas(values, seed, count):
    document = build_document(seed, count)
    prediction = Head(HeadDocument.model_validate(document)).predict(vector(values))
    probabilities, novelty = predict_slowly(document, values)
    assert list(prediction.probabilities.values()) == pytest.approx(probabilities, rel=1e-9)
    assert prediction.novelty == pytest.approx(novelty, rel=1e-9, abs=1e-12)
    assert prediction.probabilities[prediction.label] == max(prediction.probabilities.values())
    assert sum(prediction.probabilities.values()) == pytest.approx(1)


def test_two_classes_are_a_logistic_function_of_the_difference():
    head = build_head(count=2, mean=[0, 0, 0], scale=[1, 1, 1], weights=[[0, 0, 0], [2, 0, 0]], intercept=[0, 0])
    for x in (-3.0, 0.0, 0.4, 2.5):
        expected = 1 / (1 + math.exp(-2 * x / 1.7))
        assert head.predict(vector([x, 5, 7])).probabilities["class-1"] == pytest.approx(expected, rel=1e-12)


@given(st.floats(-100, 100))
def test_adding_the_same_to_every_intercept_changes_nothing(shift):
    document = build_document()
    shifted = build_head(intercept=[value + shift for value in document["intercept"]])
    expected = build_head().predict(vector([1, 2, 3])).probabilities
    assert shifted.predict(vector([1, 2, 3])).probabilities == pytest.approx(expected, rel=1e-9)


def test_the_order_of_the_fused_vector_does_not_matter():
    head, features = build_head(), vector([1, 2, 3])
    shuffled = features.select(["deep_0000", "other", "texture", "volume"])
    assert head.predict(shuffled) == head.predict(features)


def test_a_higher_temperature_flattens_and_keeps_the_class():
    sharp, flat = (build_head(temperature=t).predict(vector([1, 2, 3])) for t in (0.5, 50.0))
    assert sharp.label == flat.label
    assert max(sharp.probabilities.values()) > max(flat.probabilities.values())
    assert list(flat.probabilities.values()) == pytest.approx([1 / 3] * 3, abs=0.05)


def test_the_training_mean_is_the_most_familiar_case():
    document = build_document()
    prediction = build_head().predict(vector(document["mean"]))
    assert prediction.novelty == 0
    assert prediction.in_distribution
    far = build_head().predict(vector([1e3, -1e3, 1e3]))
    assert not far.in_distribution


def test_the_threshold_itself_is_in_distribution():
    novelty = build_head().predict(vector([1, 2, 3])).novelty
    part = build_document()["novelty"]
    on, under = ({**part, "threshold": value} for value in (novelty, math.nextafter(novelty, 0)))
    assert build_head(novelty=on).predict(vector([1, 2, 3])).in_distribution
    assert not build_head(novelty=under).predict(vector([1, 2, 3])).in_distribution


def test_softmax_of_huge_logits_does_not_overflow():
    assert softmax(np.array([1e4, 0.0, -1e4])).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("value", [1e200, -1e308])
def test_absurd_values_give_no_nan(value):
    prediction = build_head(scale=[1e-3, 1, 1])
    with pytest.raises(UnfitCase, match="overflow"):
        prediction.predict(vector([value, 0, 0]))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_feature_without_a_finite_value_stops_the_prediction_by_name(value):
    with pytest.raises(UnfitCase, match="texture") as refusal:
        build_head().predict(vector([1, value, 3]))
    assert refusal.value.facts["features"] == ["texture"]


def test_a_feature_that_is_not_computed_damns_the_bundle():
    with pytest.raises(BundleDamaged, match="deep_0000"):
        build_head().predict(FeatureVector(("volume", "texture"), np.zeros(2)))


def test_demonstration_is_marked():
    document = HeadDocument.model_validate(build_document())
    prediction = Head(document, demonstration=True).predict(vector([1, 2, 3]))
    assert prediction.document()["demonstration"] is True
    assert prediction.document()["class"] == prediction.label


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": [0, 0]},
        {"scale": [1, 1, 0]},
        {"scale": [1, 1, -1]},
        {"weights": [[1, 1, 1]]},
        {"weights": [[1, 1], [1, 1], [1, 1]]},
        {"intercept": [0]},
        {"temperature": 0},
        {"mean": [0, 0, math.nan]},
        {"features": ["volume", "volume", "texture"]},
        {"classes": ["a", "a", "b"]},
        {"novelty": {"components": [[1, 1]], "scale": [1], "threshold": 1}},
        {"novelty": {"components": [[1, 1, 1]], "scale": [1, 1], "threshold": 1}},
        {"novelty": {"components": [], "scale": [], "threshold": 1}},
        {"schema_version": 2},
        {"extra": 1},
    ],
)
def test_a_document_that_does_not_fit_together_is_refused(changes):
    with pytest.raises(ValidationError):
        HeadDocument.model_validate(build_document(**changes))


def test_a_document_survives_its_json_bit_for_bit():
    document = HeadDocument.model_validate(build_document())
    assert parse_head(document.model_dump_json().encode(), "here") == document


def test_bytes_that_are_no_head_name_their_file():
    with pytest.raises(BundleDamaged, match=r"bundle x: head\.json"):
        parse_head(b"{}", "bundle x: head.json")
