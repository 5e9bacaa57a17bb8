"""From the body of `POST /cohorts` to a checked manifest: a table, one row per case, and options for all of them.

The cells of `Image` and `Mask` are the caller's own names for files. Nothing here or behind opens them; they are kept
for the table of results alone, and no message or log line repeats a cell.

References:
    RFC 4180 (CSV); PyRadiomics' documentation, "Batch Mode" (the columns `Image`, `Mask`, `Label`, `Label_channel`).
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.api.catalogue import Listed
from service.api.submission import build_request, check_roi, check_text, choose_model
from service.api.uploads import Form
from service.errors import BodyTooLarge, InvalidField
from service.job import Upload
from service.radiomics_settings import Axes

IMAGE, MASK, LABEL, CASE_ID, LABEL_CHANNEL = "Image", "Mask", "Label", "case_id", "Label_channel"
CHANNEL = re.compile(r"Image\.([A-Za-z0-9_]{1,32})")
MOST_COLUMNS = 200
CELL_LENGTH = 4096
Text = Annotated[str, Field(max_length=CELL_LENGTH)]


class CohortOptions(BaseModel):
    """The fields of `POST /features` that hold for every case of a cohort."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = Field(None, description="`name` or `name@version`; may be left out where one model fits.")
    radiomics: str | None = Field(None, description="A preset's name. Without it the model's own settings apply.")
    roi: str | None = Field(None, description="The region of every case whose `Label` is empty.")
    resample_mask: bool = Field(False, description="Resample masks on other grids by nearest neighbour.")
    radiomics_axes: Axes = Field("canonical", description="As at `POST /features`.")
    resample_images: bool = Field(False, description="Resample channels on other grids, as at `POST /features`.")
    reference: str | None = Field(None, description="The channel whose grid the others are resampled onto.")
    suv: Literal["bw"] | None = Field(None, description="`bw`: PET images as standardised uptake values.")
    previews: bool = Field(False, description="Draw a picture of every case: time, and some 0.1 MB each, for each.")

    def texts(self) -> dict[str, str]:
        """Return the options, less the region, as the form of `POST /features` would hold them."""
        given = self.model_dump(exclude_none=True, exclude={"roi", "items", "radiomics_parameters", "previews"})
        return {name: _text(value) for name, value in given.items()}


class CohortCase(BaseModel):
    """One case of a cohort."""

    model_config = ConfigDict(extra="forbid")

    image: Text | dict[str, Text] = Field(description="Your name for the image; by channel for models with several.")
    mask: Text = Field(description="Your name for the mask.")
    roi: Text | None = Field(None, description="Label value, segment label or ROI name, as at `POST /features`.")
    case_id: str | None = Field(None, description="Your pseudonym for the case.")
    extra: dict[str, Text | int | float | bool | None] = Field({}, description="Kept as columns of the results.")


class CohortBody(CohortOptions):
    """A cohort as JSON."""

    items: list[CohortCase] = Field(description="The cases, in the order in which the results come.")
    radiomics_parameters: str | None = Field(
        None, description="Instead of `radiomics`: the text of a PyRadiomics parameter file (YAML, at most 64 KiB)."
    )


@dataclass(frozen=True)
class CohortManifest:
    """A checked manifest. `options` are as `item_form` takes them."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    options: Mapping[str, Any]


def read_csv(body: bytes, options: CohortOptions, models: Mapping[str, Listed], most_items: int) -> CohortManifest:
    """Read a manifest in PyRadiomics' batch format.

    Args:
        body: CSV in UTF-8, with a header.
        options: for every case.
        models: what is installed.
        most_items: rows beyond are refused.

    Raises:
        InvalidField: not such a table, or an option is wrong; rows are named by number, cells are not repeated.
        BodyTooLarge: more rows or longer cells than accepted.
    """
    try:
        lines = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        table = [tuple(cell.strip() for cell in line) for line in lines if any(cell.strip() for cell in line)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidField("the manifest is not CSV in UTF-8", field="manifest") from error
    if not table:
        raise InvalidField("the manifest is empty; expected a header with Image and Mask", field="manifest")
    return _check(table[0], table[1:], options, None, models, most_items)


def read_json(body: bytes, models: Mapping[str, Listed], most_items: int) -> CohortManifest:
    """Read a manifest from a `CohortBody`.

    Raises:
        InvalidField: not such a document, or an option is wrong; the place is named, values are not repeated.
        BodyTooLarge: more cases or longer texts than accepted.
    """
    try:
        document = CohortBody.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, found["loc"])) or "manifest"
        raise InvalidField(f"{place}: {found['msg']}", field=place) from None
    rows = [dict(_cells(case)) for case in document.items]
    leading = dict.fromkeys(name for row in rows for name in row)
    columns = tuple(leading)
    table = [tuple(row.get(name, "") for name in columns) for row in rows]
    return _check(columns, table, document, document.radiomics_parameters, models, most_items)


def item_form(columns: Sequence[str], cells: Sequence[str], options: Mapping[str, Any], files: list[Upload]) -> Form:
    """Return the form that `POST /features` would have got for one row of a manifest and its files."""
    label = _cell(columns, cells, LABEL)
    return Form(
        texts=dict(options["texts"]),
        rois=[label] if label else list(options["rois"]),
        parameters=options["parameters"],
        files=files,
    )


def case_id_of(columns: Sequence[str], cells: Sequence[str]) -> str | None:
    """Return the caller's pseudonym in a row."""
    return _cell(columns, cells, CASE_ID) or None


def label_of(columns: Sequence[str], cells: Sequence[str]) -> str | None:
    """Return the region asked for in a row."""
    return _cell(columns, cells, LABEL) or None


def _check(
    columns: tuple[str, ...],
    rows: list[tuple[str, ...]],
    options: CohortOptions,
    parameters: str | None,
    models: Mapping[str, Listed],
    most_items: int,
) -> CohortManifest:
    _check_columns(columns)
    if not rows:
        raise InvalidField("the manifest has no case", field="manifest")
    if len(rows) > most_items:
        raise BodyTooLarge(f"{len(rows)} cases; at most {most_items} are accepted", max_items=most_items)
    for number, cells in enumerate(rows, 1):
        _check_row(columns, cells, number)
    channels = frozenset(found[1] for name in columns if (found := CHANNEL.fullmatch(name)))
    texts, rois = options.texts(), [] if options.roi is None else [options.roi]
    # The model is settled here, so that all cases of the cohort have the same.
    manifest = choose_model(texts.get("model"), channels, models)
    texts = texts | {"model": manifest.reference}
    # A case with these options is refused for what a real one would be refused for.
    pretended = [_pretend("image", channel) for channel in manifest.channels] + [_pretend("mask", None)]
    build_request(Form(texts, rois, parameters, pretended), models)
    settled = {"texts": texts, "rois": rois, "parameters": parameters, "previews": options.previews}
    return CohortManifest(columns, tuple(rows), settled)


def _check_columns(columns: Sequence[str]) -> None:
    if len(columns) > MOST_COLUMNS:
        raise InvalidField(f"{len(columns)} columns; at most {MOST_COLUMNS} are accepted", field="manifest")
    for number, name in enumerate(columns, 1):
        if not (0 < len(name) <= 128 and name.isprintable()):
            raise InvalidField(f"column {number}: its name must have 1 to 128 printable characters", field="manifest")
    if len(set(columns)) < len(columns):
        raise InvalidField("two columns of the manifest have the same name", field="manifest")
    images = [name for name in columns if name == IMAGE or CHANNEL.fullmatch(name)]
    if not images or (IMAGE in images and len(images) > 1) or MASK not in columns:
        raise InvalidField(
            "the manifest needs the columns Mask and Image (or Image.<channel> for each channel)", field="manifest"
        )


def _check_row(columns: Sequence[str], cells: Sequence[str], number: int) -> None:
    if len(cells) != len(columns):
        raise InvalidField(f"row {number}: {len(cells)} cells, the header has {len(columns)}", field="manifest")
    if any(len(cell) > CELL_LENGTH for cell in cells):
        raise BodyTooLarge(f"row {number}: a cell is longer than {CELL_LENGTH} characters", max_characters=CELL_LENGTH)
    for name, cell in zip(columns, cells, strict=True):
        if not cell and (name in (IMAGE, MASK) or CHANNEL.fullmatch(name)):
            raise InvalidField(f"row {number}: {name} is empty", field=name)
    if _cell(columns, cells, LABEL_CHANNEL) not in ("", "0"):
        raise InvalidField(f"row {number}: masks with several channels are not read", field=LABEL_CHANNEL)
    try:
        check_text(CASE_ID, case_id_of(columns, cells))
        if (label := label_of(columns, cells)) is not None:
            check_roi(label)
    except InvalidField as error:
        field = LABEL if error.facts["field"] == "roi" else CASE_ID
        raise InvalidField(f"row {number}: {error.detail}", field=field) from None


def _cells(case: CohortCase) -> Iterator[tuple[str, str]]:
    """Yield the cells of a JSON case by column."""
    if isinstance(case.image, str):
        yield IMAGE, case.image
    else:
        for channel, name in case.image.items():
            yield f"{IMAGE}.{channel}", name
    yield MASK, case.mask
    if case.roi is not None:
        yield LABEL, case.roi
    if case.case_id is not None:
        yield CASE_ID, case.case_id
    taken = {IMAGE, MASK, LABEL, CASE_ID}
    for name, value in case.extra.items():
        if name in taken or CHANNEL.fullmatch(name):
            raise InvalidField("extra: a name is that of a column of the manifest's own", field="extra")
        yield name, "" if value is None else _text(value)


def _cell(columns: Sequence[str], cells: Sequence[str], name: str) -> str:
    return cells[columns.index(name)] if name in columns else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _pretend(role: Literal["image", "mask"], channel: str | None) -> Upload:
    return Upload(role=role, channel=channel, file=role, bytes=0, sha256="0" * 64)
