"""What FastAPI cannot derive for the OpenAPI document: the multipart form, every error, and examples."""

from typing import Any, TypeAlias, get_args

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.api.examples import JOBS, PROBLEMS
from service.api.problems import MEDIA_TYPE
from service.api.schemas import JobDocument, Problem
from service.errors import (
    BodyTooLarge,
    DiskFull,
    Forbidden,
    IdempotencyConflict,
    InvalidField,
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

ALWAYS = (Unauthenticated, Forbidden, Unavailable)


def answer_problems(*kinds: type[RequestError]) -> Extra:
    """Return the `responses` of a route that may refuse in these ways, with an example of each."""
    by_status: dict[int, list[type[RequestError]]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status, []).append(kind)
    return {status: _answer(status, of_status) for status, of_status in sorted(by_status.items())}


def _answer(status: int, kinds: list[type[RequestError]]) -> Extra:
    examples = {kind.slug: {"summary": kind.title, "value": PROBLEMS[kind].problem(status)} for kind in kinds}
    answer: Extra = {
        "model": Problem,
        "description": " ".join((kind.__doc__ or "").strip() for kind in kinds),
        "content": {MEDIA_TYPE: {"examples": examples}},
    }
    if any("retry_after_seconds" in PROBLEMS[kind].facts for kind in kinds):
        answer["headers"] = {"Retry-After": describe_header("Seconds after which another try makes sense.", "integer")}
    if status == 401:
        answer["headers"] = {"WWW-Authenticate": describe_header("`Bearer`.")}
    return answer


def describe_header(description: str, kind: str = "string") -> Extra:
    """Return the description of a header of an answer."""
    return {"description": description, "schema": {"type": kind}}


_JOB_HEADERS: Extra = {
    "ETag": describe_header("Changes with every change of the job; for `If-None-Match`."),
    "Retry-After": describe_header("Seconds after which to look again, while the job has not ended.", "integer"),
    "Preference-Applied": describe_header("`wait=N`, where waiting was asked for."),
}
_LOCATION: Extra = {"Location": describe_header("`/features/{id}`")}


def _job_answer(description: str, headers: Extra, *examples: str) -> Extra:
    values = {name: {"value": JOBS[name]} for name in examples}
    content = {"application/json": {"examples": values}}
    return {"model": JobDocument, "description": description, "headers": headers, "content": content}


_TEXT: Extra = {"type": "string"}
_BINARY: Extra = {"type": "string", "format": "binary"}
_BY_REFERENCE = ("image_series", "mask_series")
FORM: Extra = {
    "type": "object",
    "required": ["image", "mask"],
    "additionalProperties": False,
    "properties": {
        "image": {
            "description": "One file (NIfTI .nii or .nii.gz, NRRD, MHA, enhanced multi-frame DICOM), or a DICOM series "
            "as one part per file or as one .zip.",
            "type": "array",
            "items": {"type": "string", "format": "binary"},
        },
        "mask": {
            "description": "A label image (NIfTI, NRRD, MHA) on the image's grid, a DICOM SEG, or an RTSTRUCT with "
            "closed planar contours.",
            "type": "string",
            "format": "binary",
        },
        "image_series": _TEXT
        | {
            "description": "Instead of `image`: SERVER/STUDY UID/SERIES UID, of a DICOMweb server the operator allows.",
            "examples": ["archive/1.2.3/1.2.3.4"],
        },
        "mask_series": _TEXT
        | {
            "description": "Instead of `mask`: SERVER/STUDY UID/SERIES UID[/INSTANCE UID] of one SEG or RTSTRUCT.",
            "examples": ["archive/1.2.3/1.2.3.5/1.2.3.5.1"],
        },
        "model": _TEXT
        | {
            "description": "`name` or `name@version`; may be left out where one model fits.",
            "examples": ["phantom-ct"],
        },
        "roi": {
            "description": "Label values, or segment labels or ROI names, or their numbers: one, a list separated by "
            "commas, or the field several times (each text is first taken as a name, commas and all). One result per "
            "region, in the order asked for. `all`: each region; `whole`: their union. Needed where the mask holds "
            "several.",
            "type": "array",
            "maxItems": 256,
            "items": {"type": "string", "minLength": 1, "maxLength": 4096},
            "examples": [["1"], ["1,3"], ["GTV-1, left", "2"], ["all"], ["whole"]],
        },
        "radiomics": _TEXT
        | {
            "description": "A preset's name (`original`, `full`, `ibsi`, `ibsi-a` to `ibsi-e`) as text, or a "
            "PyRadiomics parameter file (YAML, at most 64 KiB) as a file. Without it the model's own settings apply.",
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
        "webhook": _TEXT
        | {
            "description": "Where the job's end is told: an address of the operator's list. The message, signed by "
            "Standard Webhooks, names the job and how it ended, and nothing of the case.",
            "maxLength": 2000,
            "examples": ["https://pipeline.example:8443/hooks/radfuse"],
        },
        "resample_images": {
            "description": "Resample channels on another grid than the reference's onto it, linearly; the result's "
            "notes say so.",
            "type": "boolean",
            "default": False,
        },
        "reference": _TEXT
        | {
            "description": "The channel onto whose grid the others are resampled; by default the model's first.",
            "examples": ["t1ce"],
        },
        "suv": _TEXT
        | {
            "description": "Make standardised uptake values (`bw`: by body weight) of every DICOM PET series. Refused "
            "where the file lacks what they need; the result's notes say so.",
            "enum": ["bw"],
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
        },
        "^image_series\\.[A-Za-z0-9_]{1,32}$": {
            "description": "Instead of `image_series`: the series of one channel, for models with several.",
            "type": "string",
        },
    },
}
_RELATED: Extra = {
    "description": 'DICOM objects as STOW-RS sends them (`type="application/dicom"`), one part each: the images of '
    "one series and one SEG or RTSTRUCT, told apart by their class. The options go into the address.",
    "type": "string",
    "format": "binary",
}


def _options() -> list[Extra]:
    """Return the form's options as query parameters, which a `multipart/related` body takes instead."""
    options = {name: each for name, each in FORM["properties"].items() if name not in ("image", "mask", *_BY_REFERENCE)}
    return [
        {
            "name": name,
            "in": "query",
            "description": f"With `multipart/related` alone: as `{name}` of the form"
            + (", a preset's name." if name == "radiomics" else "."),
            "schema": {key: value for key, value in each.items() if key not in ("description", "examples")},
        }
        for name, each in options.items()
    ]


SUBMIT: Extra = {
    "openapi_extra": {
        "parameters": _options(),
        "requestBody": {
            "required": True,
            "description": "The form. File names and content types of its parts are ignored and dropped. `webhook` is "
            "refused where the operator has named no address that webhooks may go to.",
            "content": {"multipart/form-data": {"schema": FORM}, "multipart/related": {"schema": _RELATED}},
        },
    },
    "responses": {
        200: _job_answer(
            "The job ended within the time that `Prefer: wait` gave.",
            _JOB_HEADERS | _LOCATION,
            "succeeded",
            "failed",
        ),
        202: _job_answer("Accepted.", _JOB_HEADERS | _LOCATION, "queued"),
        **answer_problems(
            RequestError,
            *ALWAYS,
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
        200: {"headers": {"Link": describe_header('The next page, `rel="next"`.')}},
        **answer_problems(*ALWAYS, InvalidField),
    }
}
FETCH: Extra = {
    "responses": {
        200: _job_answer("The job.", _JOB_HEADERS, "queued", "succeeded", "failed") | {},
        304: {"description": "Nothing has changed since the `ETag` in `If-None-Match`."},
        **answer_problems(*ALWAYS, NotFound, NotAcceptable, NotRepresentable, NoResult),
    }
}
FETCH["responses"][200]["content"] |= {
    "text/csv": {"schema": _TEXT, "example": "case_id,roi,original_shape_MeshVolume\r\n"},
    "application/vnd.apache.parquet": {"schema": _BINARY},
    "application/dicom": {"schema": _BINARY},
}
EVENTS: Extra = {
    "responses": {
        200: {
            "description": "The events.",
            "content": {
                "text/event-stream": {
                    "schema": _TEXT,
                    "example": 'id: 2-0\nevent: update\ndata: {"id": "6f1b...", "status": "running", '
                    '"stage": "radiomics", "progress": 0.25, "estimated_seconds": 1.2}\n\n',
                }
            },
        },
        204: {"description": "The job has ended, and `Last-Event-ID` says that its end was seen."},
        **answer_problems(*ALWAYS, NotFound, NotAcceptable, StreamsFull),
    }
}
PREVIEW: Extra = {
    "responses": {
        200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
        **answer_problems(*ALWAYS, NotFound, NoResult),
    }
}
REMOVE: Extra = {"responses": {204: {"description": "Gone."}, **answer_problems(*ALWAYS, NotFound)}}
MODELS: Extra = {"responses": answer_problems(Unauthenticated, Forbidden, Unavailable)}
MODEL: Extra = {"responses": answer_problems(*ALWAYS, NotFound)}
CARD: Extra = {
    "responses": {200: {"content": {"text/markdown": {"schema": _TEXT}}}, **answer_problems(*ALWAYS, NotFound)}
}
METRICS: Extra = {"responses": {200: {"content": {"text/plain": {"schema": _TEXT}}}, **answer_problems(*ALWAYS)}}


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
            for answer in answers.values():
                _restore_nulls(answer or {})
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


def _restore_nulls(answer: Extra) -> None:
    """Put a job's nulls back into its examples: FastAPI drops every null from the document."""
    for name, example in answer.get("content", {}).get("application/json", {}).get("examples", {}).items():
        example["value"] = JOBS[name]
