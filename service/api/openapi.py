"""What FastAPI cannot derive for the OpenAPI document: the multipart form, every error, and examples."""

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from service.api.examples import JOBS, PROBLEMS
from service.api.form_schema import BINARY, FORM, RELATED, TEXT, Extra, form_options
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
SUBMISSION = (
    RequestError,
    *ALWAYS,
    UploadStalled,
    BodyTooLarge,
    UnsupportedMedia,
    InvalidField,
    IdempotencyConflict,
    QueueFull,
    DiskFull,
)


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


SUBMIT: Extra = {
    "openapi_extra": {
        "parameters": form_options(),
        "requestBody": {
            "required": True,
            "description": "The form. File names and content types of its parts are ignored and dropped. `webhook` is "
            "refused where the operator has named no address that webhooks may go to.",
            "content": {"multipart/form-data": {"schema": FORM}, "multipart/related": {"schema": RELATED}},
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
        **answer_problems(*SUBMISSION),
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
    "text/csv": {"schema": TEXT, "example": "case_id,roi,original_shape_MeshVolume\r\n"},
    "application/vnd.apache.parquet": {"schema": BINARY},
    "application/dicom": {"schema": BINARY},
}
EVENTS: Extra = {
    "responses": {
        200: {
            "description": "The events.",
            "content": {
                "text/event-stream": {
                    "schema": TEXT,
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
    "responses": {200: {"content": {"text/markdown": {"schema": TEXT}}}, **answer_problems(*ALWAYS, NotFound)}
}
METRICS: Extra = {"responses": {200: {"content": {"text/plain": {"schema": TEXT}}}, **answer_problems(*ALWAYS)}}


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
