"""What the service answers, as typed values."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Received(BaseModel):
    """What a newer service adds is ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


class Prediction(_Received):
    """One head's answer for one region."""

    target: str
    label: str = Field(alias="class")
    probabilities: dict[str, float]
    calibrated: bool
    in_distribution: bool
    demonstration: bool = False
    evidence: str = ""


class RoiResult(_Received):
    """One region: its description, its fused vector in the bundle's order, and the predictions."""

    roi: dict[str, Any]
    features: dict[str, float | None]
    predictions: list[Prediction]


class FeatureVectorResult(_Received):
    """The result of one case."""

    id: str | None = None
    case_id: str | None = None
    model: dict[str, Any]
    rois: list[RoiResult]
    provenance: dict[str, Any]
