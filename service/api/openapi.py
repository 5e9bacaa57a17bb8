"""What FastAPI cannot derive for the OpenAPI document: the multipart form, every error, and examples."""

from typing import Any, TypeAlias, get_args

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.api.problems import MEDIA_TYPE
from service.api.schemas import JobDocument, Problem
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
    QueueFull,
    RequestError,
    Unauthenticated,
    Unavailable,
    UnsupportedMedia,
    UploadStalled,
)
from service.radiomics_settings import Axes

Extra: TypeAlias = dict[Any, Any]

SUMMARY = "Fused radiomic and deep features of a tumour, with predictions, from an image and a mask."
DESCRIPTION = """
Send an image and a mask, get one fused feature vector per region (PyRadiomics' features and a deep embedding) and the
predictions of the model's heads.

    curl -F image=@ct.nii.gz -F mask=@tumour.nii.gz -F case_id=case-7 \\
         -H 'Authorization: Bearer rf_...' -H 'Prefer: wait=60' http://127.0.0.1:8080/features

**Nothing is silently changed.** What was re-oriented or resampled is named in `provenance.notes`; what cannot be used
is refused, by the request itself or by the job, with a problem document (RFC 9457) whose `type` is the address of a
[page that explains it](/problems).

**A `202` is a promise.** The job reaches exactly one terminal state. With an `Idempotency-Key` a request can be
repeated safely after a broken connection.

**Keys.** Each key has an owner of its own: whoever asks with another key is told that there is no such job (404).

**No names.** File names are dropped when they arrive. Do not put a patient's name into `case_id`.
"""

_EXAMPLES: dict[type[RequestError], RequestError] = {
    RequestError: RequestError("the multipart body ends before its closing boundary"),
    Unauthenticated: Unauthenticated("the API key is missing; send `Authorization: Bearer <key>`"),
    Forbidden: Forbidden("this key lacks the scope submit", scopes=["submit"]),
    NotFound: NotFound("there is no such job"),
    MethodNotAllowed: MethodNotAllowed("this address does not offer the method"),
    NotAcceptable: NotAcceptable(
        "this address offers application/json, text/csv", offers=["application/json", "text/csv"]
    ),
    UploadStalled: UploadStalled("no byte of the upload came for 60 s", idle_seconds=60),
    NoResult: NoResult("the job is running; only a job that has succeeded has this", job_status="running"),
    BodyTooLarge: BodyTooLarge("the body is larger than 2147483648 bytes", max_bytes=2147483648),
    UnsupportedMedia: UnsupportedMedia("expected multipart/form-data with a boundary of 1 to 70 characters"),
    InvalidField: InvalidField("mask: missing", field="mask"),
    IdempotencyConflict: IdempotencyConflict("the files or the options differ from those first sent with this key"),
    QueueFull: QueueFull("10000 jobs are unfinished; at most 10000 may be", retry_after_seconds=30, max_queued=10000),
    Unavailable: Unavailable("the ledger cannot be reached", retry_after_seconds=5),
    DiskFull: DiskFull("the upload would leave 0 bytes free; 1073741824 must stay free", retry_after_seconds=60),
}
_ALWAYS = (Unauthenticated, Forbidden, Unavailable)


def answer_problems(*kinds: type[RequestError]) -> Extra:
    """Return the `responses` of a route that may refuse in these ways, with an example of each."""
    by_status: dict[int, list[type[RequestError]]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status, []).append(kind)
    return {status: _answer(status, of_status) for status, of_status in sorted(by_status.items())}


def _answer(status: int, kinds: list[type[RequestError]]) -> Extra:
    examples = {kind.slug: {"summary": kind.title, "value": _EXAMPLES[kind].problem(status)} for kind in kinds}
    answer: Extra = {
        "model": Problem,
        "description": " ".join((kind.__doc__ or "").strip() for kind in kinds),
        "content": {MEDIA_TYPE: {"examples": examples}},
    }
    if any("retry_after_seconds" in _EXAMPLES[kind].facts for kind in kinds):
        answer["headers"] = {"Retry-After": _header("Seconds after which another try makes sense.", "integer")}
    if status == 401:
        answer["headers"] = {"WWW-Authenticate": _header("`Bearer`.")}
    return answer


def _header(description: str, kind: str = "string") -> Extra:
    return {"description": description, "schema": {"type": kind}}


_JOB: Extra = {
    "id": "6f1b0c9a7e5d4c3b8a29100f1e2d3c4b",
    "case_id": "case-7",
    "status": "queued",
    "model": {"name": "phantom-ct", "version": "1.0.0"},
    "created_at": "2026-11-23T16:00:00Z",
    "started_at": None,
    "finished_at": None,
    "queue_position": 1,
    "stage": None,
    "progress": 0.0,
}
_DONE: Extra = _JOB | {
    "status": "succeeded",
    "model": {"name": "phantom-ct", "version": "1.0.0", "sha256": "5e88...a1"},
    "started_at": "2026-11-23T16:00:00.1Z",
    "finished_at": "2026-11-23T16:00:01Z",
    "queue_position": None,
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
_FAILED: Extra = _JOB | {
    "status": "failed",
    "queue_position": None,
    "started_at": "2026-11-23T16:00:00.1Z",
    "finished_at": "2026-11-23T16:00:00.4Z",
    "problem": {
        "type": "/problems/empty-roi",
        "title": "The region of interest is empty",
        "status": 422,
        "detail": "the mask holds no voxel",
    },
}
_JOB_HEADERS: Extra = {
    "ETag": _header("Changes with every change of the job; for `If-None-Match`."),
    "Retry-After": _header("Seconds after which to look again, while the job has not ended.", "integer"),
    "Preference-Applied": _header("`wait=N`, where waiting was asked for."),
}
_LOCATION: Extra = {"Location": _header("`/features/{id}`")}


def _job_answer(description: str, headers: Extra, **examples: Extra) -> Extra:
    values = {name: {"value": value} for name, value in examples.items()}
    content = {"application/json": {"examples": values}}
    return {"model": JobDocument, "description": description, "headers": headers, "content": content}


_TEXT: Extra = {"type": "string"}
_FORM: Extra = {
    "type": "object",
    "required": ["image", "mask"],
    "additionalProperties": False,
    "properties": {
        "image": {
            "description": "One file (NIfTI .nii or .nii.gz, NRRD, MHA), or a DICOM series as one part per file or as "
            "one .zip.",
            "type": "array",
            "items": {"type": "string", "format": "binary"},
        },
        "mask": {
            "description": "A label image (NIfTI, NRRD, MHA) on the image's grid.",
            "type": "string",
            "format": "binary",
        },
        "model": _TEXT
        | {
            "description": "`name` or `name@version`; may be left out where one model fits.",
            "examples": ["phantom-ct"],
        },
        "roi": _TEXT
        | {
            "description": "Label value; needed where the mask holds several; `all` gives one result per region.",
            "maxLength": 128,
            "examples": ["1", "all"],
        },
        "radiomics": _TEXT
        | {
            "description": "A preset's name (`original`, `full`) as text, or a PyRadiomics parameter file (YAML, at "
            "most 64 KiB) as a file. Without it the model's own settings apply.",
            "examples": ["original"],
        },
        "case_id": _TEXT
        | {
            "description": "Your pseudonym for the case, 1 to 128 printable characters.",
            "maxLength": 128,
            "examples": ["case-7"],
        },
        "radiomics_axes": _TEXT
        | {
            "description": "`canonical` (left, posterior, superior): one acquisition gives one vector however its file "
            "stores it. `stored`: radiomics as PyRadiomics computes them on the file itself, along its own axes.",
            "enum": list(get_args(Axes)),
            "default": "canonical",
        },
        "resample_mask": {
            "description": "Resample a mask on another grid by nearest neighbour; the result's notes say so.",
            "type": "boolean",
            "default": False,
        },
    },
    # `additionalProperties: false` would forbid these without a pattern.
    "patternProperties": {
        "^image\\.[A-Za-z0-9_]{1,32}$": {
            "description": "Instead of `image`: the files of one channel, for models with several.",
            "type": "string",
            "format": "binary",
        }
    },
}

SUBMIT: Extra = {
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "description": "The form. File names and content types of its parts are ignored and dropped. `webhook` is "
            "refused: this version notifies nobody.",
            "content": {"multipart/form-data": {"schema": _FORM}},
        }
    },
    "responses": {
        200: _job_answer(
            "The job ended within the time that `Prefer: wait` gave.",
            _JOB_HEADERS | _LOCATION,
            succeeded=_DONE,
            failed=_FAILED,
        ),
        202: _job_answer("Accepted.", _JOB_HEADERS | _LOCATION, queued=_JOB),
        **answer_problems(
            RequestError,
            *_ALWAYS,
            UploadStalled,
            BodyTooLarge,
            UnsupportedMedia,
            InvalidField,
            IdempotencyConflict,
            QueueFull,
            DiskFull,
        ),
    },
}
LIST: Extra = {
    "responses": {
        200: {"headers": {"Link": _header('The next page, `rel="next"`.')}},
        **answer_problems(*_ALWAYS, InvalidField),
    }
}
FETCH: Extra = {
    "responses": {
        200: _job_answer("The job.", _JOB_HEADERS, queued=_JOB, succeeded=_DONE, failed=_FAILED) | {},
        304: {"description": "Nothing has changed since the `ETag` in `If-None-Match`."},
        **answer_problems(*_ALWAYS, NotFound, NotAcceptable, NoResult),
    }
}
FETCH["responses"][200]["content"]["text/csv"] = {
    "schema": _TEXT,
    "example": "case_id,roi,original_shape_MeshVolume\r\n",
}
PREVIEW: Extra = {
    "responses": {
        200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
        **answer_problems(*_ALWAYS, NotFound, NoResult),
    }
}
REMOVE: Extra = {"responses": {204: {"description": "Gone."}, **answer_problems(*_ALWAYS, NotFound)}}
MODELS: Extra = {"responses": answer_problems(Unauthenticated, Forbidden, Unavailable)}
MODEL: Extra = {"responses": answer_problems(*_ALWAYS, NotFound)}
CARD: Extra = {
    "responses": {200: {"content": {"text/markdown": {"schema": _TEXT}}}, **answer_problems(*_ALWAYS, NotFound)}
}
METRICS: Extra = {"responses": {200: {"content": {"text/plain": {"schema": _TEXT}}}, **answer_problems(*_ALWAYS)}}


def install_document(app: FastAPI) -> None:
    """Make `app.openapi()` return the finished document."""

    def build() -> Extra:
        if app.openapi_schema is None:
            app.openapi_schema = _finish(
                get_openapi(
                    title="Radfuse",
                    version=app.version,
                    summary=SUMMARY,
                    description=DESCRIPTION,
                    routes=app.routes,
                    tags=app.openapi_tags,
                )
            )
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]


def _finish(document: Extra) -> Extra:
    """Make every error answer a problem document alone, and document the 500 of every route."""
    broken = {
        "description": "The service is at fault; its log says more.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for path in document["paths"].values():
        for operation in path.values():
            answers = {status: _as_problem(status, answer) for status, answer in operation["responses"].items()}
            operation["responses"] = {status: answer for status, answer in answers.items() if answer} | {"500": broken}
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
    return document


def _as_problem(status: str, answer: Extra) -> Extra | None:
    """Move an error's schema to the media type it really has; None for the 422 that FastAPI adds to any parameter."""
    if int(status) < 400:
        return answer
    content = answer.get("content", {})
    schemas = [entry["schema"] for entry in content.values() if "schema" in entry]
    reference = schemas[0].get("$ref", "") if schemas else ""
    if reference.endswith("/HTTPValidationError"):
        return None
    if reference.endswith("/Problem"):
        answer["content"] = {MEDIA_TYPE: {"schema": schemas[0], **content.get(MEDIA_TYPE, {})}}
    return answer
