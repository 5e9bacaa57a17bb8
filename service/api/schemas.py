"""The JSON documents of the API, as published in the OpenAPI document.

Results are handed through from the ledger as the worker stored them; a contract test holds them against these schemas.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["queued", "running", "succeeded", "failed", "cancelled", "expired"]
Sha256Hex = str


class Document(BaseModel):
    """A JSON document of the API."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class ModelReference(Document):
    """The bundle a job runs, or ran, on."""

    name: str
    version: str
    sha256: Sha256Hex | None = Field(None, description="Digest of the bundle that made the result.")


class Roi(Document):
    """One region of interest as it was measured."""

    model_config = ConfigDict(extra="allow")

    name: str
    voxels: int = Field(description="Voxels in the region.")
    volume_mm3: float
    centroid_mm: list[float] = Field(description="World coordinates (R, A, S) of the centroid, mm.")
    bounding_box: list[Any] = Field(description="In voxel indices.")


class Prediction(Document):
    """What one head of the bundle says about one region."""

    model_config = ConfigDict(extra="allow")

    target: str
    label: str = Field(alias="class")
    probabilities: dict[str, float]
    calibrated: bool = Field(description="Whether the probabilities were calibrated on held-out cases.")
    in_distribution: bool = Field(description="False: the case is unlike those the model was made with.")
    demonstration: bool | None = Field(None, description="True: from a demonstration model; not for use on patients.")
    evidence: str = Field(description="Where the model's card says how this was tested.")


class RoiResult(Document):
    """Features and predictions of one region."""

    roi: Roi
    features: dict[str, float | None] = Field(
        description="The fused vector: flat and ordered; PyRadiomics' names verbatim, then `deep_0000` and on. "
        "Null where a value is not finite; `provenance.notes` says so."
    )
    predictions: list[Prediction]


class Provenance(Document):
    """How the result came about."""

    model_config = ConfigDict(extra="allow")

    versions: dict[str, str]
    radiomics_settings_sha256: Sha256Hex
    device: str = Field(description="ONNX Runtime's execution provider that really ran.")
    seconds: dict[str, float]
    notes: list[str] = Field(description="Everything that was changed or resampled on the way.")


class Problem(BaseModel):
    """RFC 9457 problem details, with further facts as members of their own."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Stable: a reference to a page of this service that explains the problem.")
    title: str
    status: int
    detail: str = Field(description="What was got and what was expected, with units.")


class JobDocument(Document):
    """A job; with its result once it has succeeded, with its problem once it has failed."""

    id: str
    case_id: str | None = Field(description="The caller's pseudonym; null too once the job is cancelled or expired.")
    status: Status
    model: ModelReference | None = Field(description="Null once the job is cancelled or expired.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    queue_position: int | None = Field(None, description="1 is next; only while queued.")
    estimated_seconds: float | None = Field(
        None,
        description="Seconds until the job's end, were it to run as long as the last ones did; null where that is not "
        "known, and once it has ended.",
    )
    stage: str | None = Field(None, description="reading, radiomics, encoder or prediction; only while running.")
    progress: float = Field(
        ge=0, le=1, description="Share of the four stages that are behind the job; stages take unequal time."
    )
    rois: list[RoiResult] | None = Field(None, description="One entry per region; only once succeeded.")
    provenance: Provenance | None = Field(None, description="Only once succeeded.")
    problem: Problem | None = Field(None, description="Only once failed.")


class JobPage(Document):
    """One page of the caller's jobs, newest first, without results."""

    items: list[JobDocument]
    next: str | None = Field(description="The `before` of the next page; null on the last. Also a `Link` header.")


class Target(Document):
    """What one head predicts."""

    target: str
    classes: list[str]


class ModelDocument(Document):
    """An installed model bundle."""

    name: str
    version: str
    sha256: Sha256Hex
    summary: str
    demonstration: bool = Field(description="Made to try the software; not for use on patients.")
    licence: str
    modality: str
    channels: list[str]
    targets: list[Target]
    features: int = Field(description="Length of the fused vector per region.")
    card: str = Field(description="Where the card is (Markdown).")


class ModelDetail(ModelDocument):
    """An installed model bundle with all its names."""

    feature_names: list[str] = Field(description="The fused vector, in order.")
    card_text: str = Field(description="The card, in Markdown.")


class Check(Document):
    """One thing the service needs."""

    ok: bool
    detail: str


class Readiness(Document):
    """Whether the service can take a case through."""

    ready: bool
    checks: dict[str, Check]


class Liveness(Document):
    """The process answers."""

    status: Literal["alive"]
