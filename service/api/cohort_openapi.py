"""What FastAPI cannot derive for the OpenAPI document of `/cohorts`: bodies, headers and errors."""

from typing import Any

from service.api.cohort_manifest import CohortBody
from service.api.openapi import ALWAYS, FORM, Extra, answer_problems, describe_header
from service.errors import (
    BodyTooLarge,
    DiskFull,
    IdempotencyConflict,
    InvalidField,
    NotAcceptable,
    NotFound,
    QueueFull,
    RequestError,
    UnsupportedMedia,
    UploadStalled,
)

_CSV_EXAMPLE = "Image,Mask,Label,case_id,site\r\npatient-1/ct.nii.gz,patient-1/gtv.nii.gz,1,case-1,A\r\n"
_NEXT: Extra = {"Link": describe_header('The next page, `rel="next"`.')}
_RETRY: Extra = {"Retry-After": describe_header("Seconds after which to look again, while it runs.", "integer")}
_FILE: Extra = {"type": "string", "format": "binary"}


def _body_schema() -> Extra:
    """Return the schema of a JSON manifest with everything it refers to inside it."""
    schema = CohortBody.model_json_schema()
    case = schema.pop("$defs")["CohortCase"]
    schema["properties"]["items"]["items"] = case
    return schema


def _item_form() -> Extra:
    files: dict[str, Any] = {name: FORM["properties"][name] for name in ("image", "mask")}
    return {**FORM, "properties": files}


CREATE: Extra = {
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "description": "The manifest: `Image` (or `Image.<channel>`), `Mask`, optionally `Label` (the region) and "
            "`case_id`, and any further columns.",
            "content": {
                "text/csv": {"schema": {"type": "string"}, "example": _CSV_EXAMPLE},
                "application/json": {"schema": _body_schema()},
            },
        }
    },
    "responses": {
        201: {
            "description": "Recorded; the files of its items are awaited.",
            "headers": {"Location": describe_header("`/cohorts/{id}`")},
        },
        **answer_problems(*ALWAYS, UploadStalled, BodyTooLarge, UnsupportedMedia, InvalidField, IdempotencyConflict),
    },
}
LIST: Extra = {"responses": {200: {"headers": _NEXT}, **answer_problems(*ALWAYS, InvalidField)}}
FETCH: Extra = {"responses": {200: {"headers": _RETRY}, **answer_problems(*ALWAYS, NotFound)}}
REMOVE: Extra = {"responses": {204: {"description": "Gone."}, **answer_problems(*ALWAYS, NotFound)}}
ITEMS: Extra = {"responses": {200: {"headers": _NEXT}, **answer_problems(*ALWAYS, NotFound, InvalidField)}}
ITEM: Extra = {"responses": answer_problems(*ALWAYS, NotFound, InvalidField)}
SEND: Extra = {
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "description": "The files, as at `POST /features`; all other fields are the cohort's.",
            "content": {"multipart/form-data": {"schema": _item_form()}},
        }
    },
    "responses": {
        202: {
            "description": "Accepted, or accepted before.",
            "headers": {"Location": describe_header("`/features/{id}` of the job.")},
        },
        **answer_problems(
            RequestError,
            *ALWAYS,
            NotFound,
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
RESULTS: Extra = {
    "responses": {
        200: {
            "description": "The table, sent as it is made.",
            "content": {
                "text/csv": {"schema": {"type": "string"}, "example": "case_id,job_id,model,roi,...\r\n"},
                "application/vnd.apache.parquet": {"schema": _FILE},
            },
        },
        **answer_problems(*ALWAYS, NotFound, NotAcceptable),
    }
}
