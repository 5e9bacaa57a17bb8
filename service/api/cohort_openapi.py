"""What FastAPI cannot derive for the OpenAPI document of `/cohorts`: bodies, headers and errors."""

from service.api.cohort_manifest import CohortBody
from service.api.form_schema import FORM, Extra
from service.api.openapi import ALWAYS, SUBMISSION, answer_problems, describe_header
from service.errors import (
    BodyTooLarge,
    IdempotencyConflict,
    InvalidField,
    NotAcceptable,
    NotFound,
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
    """Return the schema of an item's files: those of the form that are sent along, and none of its options."""
    channels = next(pattern for pattern in FORM["patternProperties"] if pattern.startswith("^image\\."))
    return {
        "type": "object",
        "required": ["mask"],
        "additionalProperties": False,
        "properties": {name: FORM["properties"][name] for name in ("image", "mask")},
        "patternProperties": {channels: FORM["patternProperties"][channels]},
    }


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
        **answer_problems(*SUBMISSION, NotFound),
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
