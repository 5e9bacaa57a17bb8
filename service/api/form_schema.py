"""The form of `POST /features` as the OpenAPI document shows it: every field with its meaning."""

from typing import Any, TypeAlias, get_args

from service.radiomics_settings import Axes

Extra: TypeAlias = dict[Any, Any]

TEXT: Extra = {"type": "string"}
BINARY: Extra = {"type": "string", "format": "binary"}
_BY_REFERENCE = ("image_series", "mask_series")
FORM: Extra = {
    "type": "object",
    # Of the images nothing can be said here: `image`, `image_series` and their channels stand in for each other.
    "anyOf": [{"required": ["mask"]}, {"required": ["mask_series"]}],
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
        "image_series": TEXT
        | {
            "description": "Instead of `image`: SERVER/STUDY UID/SERIES UID, of a DICOMweb server the operator allows.",
            "examples": ["archive/1.2.3/1.2.3.4"],
        },
        "mask_series": TEXT
        | {
            "description": "Instead of `mask`: SERVER/STUDY UID/SERIES UID[/INSTANCE UID] of one SEG or RTSTRUCT.",
            "examples": ["archive/1.2.3/1.2.3.5/1.2.3.5.1"],
        },
        "model": TEXT
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
        "radiomics": TEXT
        | {
            "description": "A preset's name (`original`, `full`, `ibsi`, `ibsi-a` to `ibsi-e`) as text, or a "
            "PyRadiomics parameter file (YAML, at most 64 KiB) as a file. Without it the model's own settings apply.",
            "examples": ["original"],
        },
        "case_id": TEXT
        | {
            "description": "Your pseudonym for the case, 1 to 128 printable characters.",
            "maxLength": 128,
            "examples": ["case-7"],
        },
        "radiomics_axes": TEXT
        | {
            "description": "`canonical` (left, posterior, superior): one acquisition gives one vector however its file "
            "stores it. `stored`: radiomics as PyRadiomics computes them on the file itself, along its own axes.",
            "enum": list(get_args(Axes)),
            "default": "canonical",
        },
        "webhook": TEXT
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
        "reference": TEXT
        | {
            "description": "The channel onto whose grid the others are resampled; by default the model's first.",
            "examples": ["t1ce"],
        },
        "suv": TEXT
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
RELATED: Extra = {
    "description": 'DICOM objects as STOW-RS sends them (`type="application/dicom"`), one part each: the images of '
    "one series and one SEG or RTSTRUCT, told apart by their class. The options go into the address.",
    "type": "string",
    "format": "binary",
}


def form_options() -> list[Extra]:
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
