"""A job: one request's life, from the accepted upload to its one terminal state."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, field_validator

from service.manifest import Strict
from service.radiomics_settings import Axes

Role: TypeAlias = Literal["image", "mask", "unsorted"]
Uid = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)+$", max_length=64)]


class JobState(StrEnum):
    """Where a job stands.

    accepted -> queued -> running -> succeeded | failed, with running -> accepted when a worker is lost;
    cancelled from any state before the end; expired after the retention period.
    """

    ACCEPTED = "accepted"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        """Whether the job will not change again (but for its removal)."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED)

    @property
    def public(self) -> str:
        """The name callers see: whether the broker has been told yet is not their concern."""
        return "queued" if self is JobState.ACCEPTED else self.value


class Upload(Strict):
    """One stored file of a request, under an opaque name inside the job's folder.

    `unsorted` is a DICOM object that the worker's child takes for an image or a mask by its class.
    """

    role: Role
    channel: str | None = None
    file: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class RemoteSeries(Strict):
    """A series, or one instance of it, on a DICOMweb server of the operator's list."""

    role: Literal["image", "mask"]
    channel: str | None = None
    server: str
    study: Uid
    series: Uid
    instance: Uid | None = None


class JobRequest(Strict):
    """What was asked for; everything a worker needs beside the files."""

    model: str = Field(description="name@version, already resolved")
    roi: tuple[str, ...] = Field((), description="names, numbers, lists, `all` or `whole`; empty for the only one")
    preset: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="a checked PyRadiomics parameter document")
    resample_mask: bool = False
    reference: str | None = Field(None, description="the channel onto whose grid the others are resampled, if at all")
    suv: Literal["bw"] | None = None
    radiomics_axes: Axes = "canonical"
    webhook: str | None = Field(None, description="where the end is told; on the operator's list")
    preview: bool = Field(True, description="draw the picture")
    files: tuple[Upload, ...]
    remote: tuple[RemoteSeries, ...] = ()

    @field_validator("roi", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        """Take one text, or null, too: requests were stored so before several could be asked for."""
        if value is None or isinstance(value, str):
            return () if value is None else (value,)
        return value

    def fingerprint(self, case_id: str | None) -> str:
        """Return a digest of the content: equal for two uploads of the same files with the same options.

        The order of the files and the names they are stored under do not count.
        """
        files = sorted([f.role, f.channel or "", f.sha256, f.bytes] for f in self.files)
        content = {**self.model_dump(exclude={"files"}), "files": files, "case_id": case_id}
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class Job:
    """A job as the ledger knows it. Times are UTC and aware.

    `version` grows with every change (it makes the ETag). `request` and `case_id` are None once the job
    has been cancelled or has expired: a tombstone holds nothing of the case.
    """

    id: str
    owner: str
    case_id: str | None
    state: JobState
    request: JobRequest | None
    attempt: int
    stage: str | None
    problem: dict[str, Any] | None
    version: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def cursor(self) -> str:
        """The opaque place of this job in its owner's list; it stays valid when the job is removed."""
        return f"{self.created_at.timestamp():.6f}-{self.id}"
