"""A prediction head: a softmax over a linear map of standardised features, and how unlike training a case is.

A head is a JSON document of a bundle: numbers only, so that loading one can run no code.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from service.errors import BundleDamaged, UnfitCase
from service.features.vector import FeatureVector
from service.manifest import Strict

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Vector = NDArray[np.float64]


class Novelty(Strict):
    """Distance to the training cases: components of the standardised features, whitened.

    `components` (q x F) are applied to the standardised features, `scale` (q) are the standard deviations of
    those projections over the training cases, and `threshold` bounds the mean of the squared whitened
    projections (about 1 on a typical training case).
    """

    components: list[list[Finite]] = Field(min_length=1)
    scale: list[Positive] = Field(min_length=1)
    threshold: Positive


class HeadDocument(Strict):
    """All of a head: F features in order, C classes.

    Probabilities are softmax((weights z + intercept) / temperature) with z = (x - mean) / scale. A binary
    head has two rows, too.
    """

    schema_version: Literal[1] = 1
    target: str = Field(min_length=1, max_length=64)
    classes: list[str] = Field(min_length=2)
    features: list[str] = Field(min_length=1)
    mean: list[Finite]
    scale: list[Positive]
    weights: list[list[Finite]]
    intercept: list[Finite]
    temperature: Positive = 1.0
    calibrated: bool = Field(description="whether the temperature was fitted on cases the weights never saw")
    novelty: Novelty
    evidence: str = Field(description="where the head's validation is written down, as `models/<name>/card.md`")

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        features, classes = len(self.features), len(self.classes)
        if len(set(self.features)) != features or len(set(self.classes)) != classes:
            raise ValueError("features and classes must be unique")
        if len(self.mean) != features or len(self.scale) != features:
            raise ValueError(f"mean and scale must have one number for each of the {features} features")
        if len(self.intercept) != classes or [len(row) for row in self.weights] != [features] * classes:
            raise ValueError(f"weights must be {classes} x {features} and intercept {classes}")
        if [len(row) for row in self.novelty.components] != [features] * len(self.novelty.scale):
            raise ValueError(f"novelty.components must be {len(self.novelty.scale)} x {features}")
        return self


def parse_head(content: bytes, where: str) -> HeadDocument:
    """Read a head's JSON document.

    Raises:
        BundleDamaged: it is not one; `where` names the bundle and file.
    """
    try:
        return HeadDocument.model_validate_json(content)
    except ValidationError as error:
        raise BundleDamaged(f"{where}: {error}") from error


@dataclass(frozen=True)
class Prediction:
    """What a head says of one region.

    Attributes:
        target: what is predicted.
        label: the most probable class; the first of equals.
        probabilities: by class, in the head's order; they sum to 1.
        calibrated: whether the probabilities were calibrated.
        in_distribution: whether `novelty` is within the head's threshold.
        novelty: mean squared whitened projection, about 1 on a typical training case.
        demonstration: the bundle is for trying the software only.
        evidence: where the head's validation is written down.
    """

    target: str
    label: str
    probabilities: dict[str, float]
    calibrated: bool
    in_distribution: bool
    novelty: float
    demonstration: bool
    evidence: str

    def document(self) -> dict[str, Any]:
        """Return the prediction as the result's JSON holds it."""
        return {
            "target": self.target,
            "class": self.label,
            "probabilities": self.probabilities,
            "calibrated": self.calibrated,
            "in_distribution": self.in_distribution,
            "novelty": self.novelty,
            "demonstration": self.demonstration,
            "evidence": self.evidence,
        }


class Head:
    """A head document ready to predict."""

    def __init__(self, document: HeadDocument, *, demonstration: bool = False) -> None:
        self.document = document
        self.demonstration = demonstration
        self._mean = np.array(document.mean)
        self._scale = np.array(document.scale)
        self._weights = np.array(document.weights)
        self._intercept = np.array(document.intercept)
        self._components = np.array(document.novelty.components)
        self._spread = np.array(document.novelty.scale)

    def predict(self, features: FeatureVector) -> Prediction:
        """Predict one region from its fused features, of which the head takes what it needs.

        Raises:
            BundleDamaged: the vector lacks a feature of the head.
            UnfitCase: a feature of the head is not a finite number on this region, or too large to compute with.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            standardised = self._standardise(features)
            logits = (self._weights @ standardised + self._intercept) / self.document.temperature
            novelty = float(np.mean((self._components @ standardised / self._spread) ** 2))
        if not np.isfinite([*logits, novelty]).all():
            raise UnfitCase(f"{self.document.target} cannot be predicted: its features are so large that they overflow")
        probabilities = softmax(logits)
        return Prediction(
            target=self.document.target,
            label=self.document.classes[int(np.argmax(probabilities))],
            probabilities=dict(zip(self.document.classes, probabilities.tolist(), strict=True)),
            calibrated=self.document.calibrated,
            in_distribution=novelty <= self.document.novelty.threshold,
            novelty=novelty,
            demonstration=self.demonstration,
            evidence=self.document.evidence,
        )

    def _standardise(self, features: FeatureVector) -> Vector:
        try:
            chosen = features.select(self.document.features)
        except KeyError as error:
            raise BundleDamaged(
                f"the head for {self.document.target} needs the feature {error.args[0]}, which is not computed"
            ) from error
        if undefined := chosen.not_finite():
            raise UnfitCase(
                f"{self.document.target} cannot be predicted: {len(undefined)} of the {len(chosen.names)} features it "
                f"needs have no finite value on this region, among them {undefined[0]}",
                features=list(undefined),
            )
        standardised: Vector = (chosen.values - self._mean) / self._scale
        return standardised


def softmax(logits: Vector) -> Vector:
    """Return exp(logits) / sum(exp(logits)), shifted so that nothing overflows."""
    weights = np.exp(logits - logits.max())
    normalised: Vector = weights / weights.sum()
    return normalised
