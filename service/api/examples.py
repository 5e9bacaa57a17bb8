"""The examples of the OpenAPI document: one problem of each kind, and a job in three states."""

from typing import Any, Final

from service.errors import (
    BodyTooLarge,
    DiskFull,
    Forbidden,
    IdempotencyConflict,
    InvalidField,
    MethodNotAllowed,
    NoResult,
    NotAcceptable,
    NotFound,
    NotRepresentable,
    QueueFull,
    RequestError,
    StreamsFull,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
    UploadStalled,
)

PROBLEMS: Final[dict[type[RequestError], RequestError]] = {
    RequestError: RequestError("the multipart body ends before its closing boundary"),
    Unauthenticated: Unauthenticated("the API key is missing; send `Authorization: Bearer <key>`"),
    Forbidden: Forbidden("this key lacks the scope submit", scopes=["submit"]),
    NotFound: NotFound("there is no such job"),
    MethodNotAllowed: MethodNotAllowed("this address does not offer the method"),
    NotAcceptable: NotAcceptable(
        "this address offers application/json, text/csv", offers=["application/json", "text/csv"]
    ),
    NotRepresentable: NotRepresentable("a DICOM report (TID 1500) must point at its source"),
    UploadStalled: UploadStalled("no byte of the upload came for 60 s", idle_seconds=60),
    NoResult: NoResult("the job is running; only a job that has succeeded has this", job_status="running"),
    BodyTooLarge: BodyTooLarge("the body is larger than 2147483648 bytes", max_bytes=2147483648),
    UnsupportedMedia: UnsupportedMedia("expected multipart/form-data with a boundary of 1 to 70 characters"),
    InvalidField: InvalidField("mask: missing", field="mask"),
    IdempotencyConflict: IdempotencyConflict("the files or the options differ from those first sent with this key"),
    QueueFull: QueueFull("10000 jobs are unfinished; at most 10000 may be", retry_after_seconds=30, max_queued=10000),
    StreamsFull: StreamsFull("200 event streams are open; at most 200 may be", retry_after_seconds=5, max_streams=200),
    Unavailable: Unavailable("the ledger cannot be reached", retry_after_seconds=5),
    DiskFull: DiskFull("the upload would leave 0 bytes free; 1073741824 must stay free", retry_after_seconds=60),
}
_JOB: Final[dict[str, Any]] = {
    "id": "6f1b0c9a7e5d4c3b8a29100f1e2d3c4b",
    "case_id": "case-7",
    "status": "queued",
    "model": {"name": "phantom-ct", "version": "1.0.0"},
    "created_at": "2026-11-23T16:00:00Z",
    "started_at": None,
    "finished_at": None,
    "queue_position": 1,
    "estimated_seconds": 1.8,
    "stage": None,
    "progress": 0.0,
}
_DONE: Final[dict[str, Any]] = _JOB | {
    "status": "succeeded",
    "model": {"name": "phantom-ct", "version": "1.0.0", "sha256": "5e88...a1"},
    "started_at": "2026-11-23T16:00:00.1Z",
    "finished_at": "2026-11-23T16:00:01Z",
    "queue_position": None,
    "estimated_seconds": None,
    "progress": 1.0,
    "rois": [
        {
            "roi": {
                "name": "1",
                "voxels": 5120,
                "volume_mm3": 5120.0,
                "centroid_mm": [12.5, -40.0, 311.0],
                "bounding_box": [[20, 36], [41, 60], [12, 29]],
            },
            "features": {"original_shape_MeshVolume": 5078.3, "deep_0000": 0.113},
            "predictions": [
                {
                    "target": "kind",
                    "class": "nodule",
                    "probabilities": {"nodule": 0.9, "tumour": 0.1},
                    "calibrated": True,
                    "in_distribution": True,
                    "demonstration": True,
                    "evidence": "models/phantom-ct/card.md",
                }
            ],
        }
    ],
    "provenance": {
        "versions": {"pyradiomics": "3.0.1"},
        "radiomics_settings_sha256": "9c1d...07",
        "device": "CPUExecutionProvider",
        "seconds": {"reading": 0.1, "radiomics": 0.6, "encoder": 0.2},
        "notes": ["image: axes flipped to the canonical order"],
    },
}
_FAILED: Final[dict[str, Any]] = _JOB | {
    "status": "failed",
    "queue_position": None,
    "estimated_seconds": None,
    "started_at": "2026-11-23T16:00:00.1Z",
    "finished_at": "2026-11-23T16:00:00.4Z",
    "problem": {
        "type": "/problems/empty-roi",
        "title": "The region of interest is empty",
        "status": 422,
        "detail": "the mask holds no voxel",
    },
}
JOBS: Final[dict[str, dict[str, Any]]] = {"queued": _JOB, "succeeded": _DONE, "failed": _FAILED}
