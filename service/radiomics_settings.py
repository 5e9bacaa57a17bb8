"""PyRadiomics parameter documents, checked completely without importing PyRadiomics.

A document has three sections: `imageType` (which derived images), `featureClass` (which classes and features)
and `setting`. Whatever PyRadiomics 3.0.1 would silently ignore is refused here, as are the keys whose work
Radfuse does itself. A checked document is resolved: every default is filled in with PyRadiomics' own value
(bin width 25, no resampling, no normalisation, symmetrical GLCM, distance 1), filter options stand with
their image type, and the order of features depends on the content alone, not on the file's order.

`force2Ddimension` counts the axes of the canonical grid, as PyRadiomics does: 0 is the axial direction.

References:
    PyRadiomics 3.0.1, "Customizing the Extraction" and `radiomics/schemas/paramSchema.yaml`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Final, Literal, NoReturn, TypeAlias

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.errors import InvalidField
from service.radiomics_names import DEPRECATED, FEATURES, UNCOMPUTED
from service.radiomics_options import CASE_OPTIONS, FILTER_OPTIONS, HARMLESS, IMAGE_OPTIONS, REFUSED, Option

FIELD: Final = "radiomics"
MAX_BYTES: Final = 64 * 1024
MAX_DEPTH: Final = 6

Document: TypeAlias = dict[str, Any]
Axes: TypeAlias = Literal["canonical", "stored"]  # along which radiomics are computed; see `imaging.orientation`


class RadiomicsSettings(BaseModel):
    """A checked and resolved parameter document."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    image_types: dict[str, Document] = Field(alias="imageType")
    feature_classes: dict[str, list[str]] = Field(alias="featureClass")
    setting: Document

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, document: Any) -> Document:
        return document.document() if isinstance(document, RadiomicsSettings) else _resolve(document)

    def document(self) -> Document:
        """Return the resolved document, as PyRadiomics reads it."""
        return self.model_dump(by_alias=True)

    def sha256(self) -> str:
        """Return the digest of the resolved document's canonical JSON."""
        canonical = json.dumps(self.document(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def covers(self, other: "AnySettings") -> bool:
        """Whether every feature of `other` is one of these, computed in the same way."""
        return (
            isinstance(other, RadiomicsSettings)
            and self.setting == other.setting
            and all(_same_filter(self.image_types.get(name), options) for name, options in other.image_types.items())
            and set(other.feature_names()) <= set(self.feature_names())
        )

    def feature_names(self) -> tuple[str, ...]:
        """Return every feature's name as PyRadiomics writes it, in PyRadiomics' order."""
        shape = [f"original_{name}" for name in self._features(of_shape=True)]
        texture = self._features(of_shape=False)
        return (*shape, *(f"{image}_{name}" for image in self.image_names() for name in texture))

    def image_names(self) -> tuple[str, ...]:
        """Return the names of the derived images, in PyRadiomics' order."""
        return tuple(name for image_type in self.image_types for name in self._names_of(image_type))

    def effective(self, image_type: str) -> Document:
        """Return the settings that hold for one image type."""
        return self.setting | self.image_types[image_type]

    def _features(self, *, of_shape: bool) -> list[str]:
        return [
            f"{name}_{feature}"
            for name, features in self.feature_classes.items()
            if name.startswith("shape") == of_shape
            for feature in features
        ]

    def _names_of(self, image_type: str) -> Iterator[str]:
        options = self.effective(image_type)
        if image_type == "LoG":
            yield from (log_name(sigma) for sigma in options["sigma"])
        elif image_type == "Wavelet":
            axes = 2 if options["force2D"] else 3
            bands = ["".join(band) for band in product("LH", repeat=axes)]
            levels = ["wavelet", *(f"wavelet{level}" for level in range(2, options["level"] + 1))]
            yield from (f"{level}-{band}" for level in levels for band in bands[1:])
            yield f"{levels[-1]}-{bands[0]}"
        else:
            yield image_type.lower()


def log_name(sigma: float) -> str:
    """Return PyRadiomics' name of the Laplacian of Gaussian image of one sigma (mm)."""
    return f"log-sigma-{str(sigma).replace('.', '-')}-mm-3D"


def parse_parameters(text: str | bytes) -> RadiomicsSettings:
    """Read a PyRadiomics parameter file (YAML, or JSON, which is YAML).

    Raises:
        InvalidField: larger than `MAX_BYTES`, not YAML, with aliases or repeated keys, or any key, image type,
            class, feature or value that cannot be honoured; the dotted key is named.
    """
    content = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    if len(content) > MAX_BYTES:
        _refuse("", f"the parameter file has {len(content)} bytes, at most {MAX_BYTES} are accepted")
    try:
        _check_structure(content)
        document = yaml.load(content, Loader=_UniqueKeys)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or number that Python has no value for
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        _refuse("", f"the parameter file is not valid YAML{place}")
    return RadiomicsSettings.model_validate({} if document is None else document)


class _UniqueKeys(yaml.CSafeLoader):
    """YAML's safe loader, except that a key given twice is an error instead of the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key is repeated", node.start_mark)
        return mapping


def _check_structure(content: bytes) -> None:
    depth = 0
    for event in yaml.parse(content, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.AliasEvent):
            _refuse("", "aliases (*name) are not accepted")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            _refuse("", f"nested more than {MAX_DEPTH} deep")


def _resolve(document: Any) -> Document:
    sections = _mapping(document, "")
    for name in sections:
        if name not in ("imageType", "featureClass", "setting"):
            _refuse(name, REFUSED.get(name, "unknown; the sections are imageType, featureClass and setting"))
    images = _mapping(sections.get("imageType"), "imageType") or {"Original": {}}
    given = _mapping(sections.get("setting"), "setting")
    setting = _resolve_setting(given, images)
    resolved_images = _resolve_images(images, given)
    return {
        "imageType": resolved_images,
        "featureClass": _resolve_classes(_mapping(sections.get("featureClass"), "featureClass"), setting),
        "setting": setting,
    }


def _resolve_setting(given: Document, images: Document) -> Document:
    own = CASE_OPTIONS | IMAGE_OPTIONS
    for key, value in given.items():
        readers = [image_type for image_type, options in FILTER_OPTIONS.items() if key in options]
        if key in own or any(reader in images for reader in readers):
            continue
        if readers:
            _refuse(f"setting.{key}", f"has no effect unless the image type {readers[0]} is enabled")
        if key not in HARMLESS:
            _refuse(f"setting.{key}", "unknown")
        if not any(type(value) is type(harmless) and value == harmless for harmless in HARMLESS[key]):
            _refuse(f"setting.{key}", REFUSED[f"setting.{key}"])
    setting = _check_options({key: given[key] for key in given if key in own}, own, "setting")
    if setting["resegmentShape"] and setting["resegmentRange"] is None:
        _refuse("setting.resegmentShape", "has no effect without resegmentRange")
    return setting


def _resolve_images(images: Document, setting: Document) -> Document:
    for name in images:
        if name not in FILTER_OPTIONS:
            known = f"unknown; the image types are {', '.join(FILTER_OPTIONS)}"
            _refuse(f"imageType.{name}", REFUSED.get(f"imageType.{name}", known))
    return {name: _resolve_image(name, images[name], setting) for name in FILTER_OPTIONS if name in images}


def _resolve_image(name: str, options: Any, setting: Document) -> Document:
    where = f"imageType.{name}"
    given = _mapping(options, where)
    own = FILTER_OPTIONS[name]
    for key in given:
        if key in CASE_OPTIONS or f"setting.{key}" in REFUSED:
            _refuse(f"{where}.{key}", "has no effect here, only under setting")
        if key not in own and key not in IMAGE_OPTIONS:
            _refuse(f"{where}.{key}", "unknown for this image type")
    inherited = {key: setting[key] for key in own if key in setting}
    filter_options = _check_options(inherited | {key: given[key] for key in given if key in own}, own, where)
    if name == "LoG" and len({log_name(sigma) for sigma in filter_options["sigma"]}) < len(filter_options["sigma"]):
        _refuse(f"{where}.sigma", "holds a value twice")
    texture = {key: _checked(IMAGE_OPTIONS[key], given[key], f"{where}.{key}") for key in given if key not in own}
    return filter_options | dict(sorted(texture.items()))


def _resolve_classes(given: Document, setting: Document) -> dict[str, list[str]]:
    for name in given:
        if name not in FEATURES:
            _refuse(f"featureClass.{name}", f"unknown; the classes are {', '.join(FEATURES)}")
    if "shape2D" in given and not setting["force2D"]:
        _refuse("featureClass.shape2D", "needs force2D: true under setting")
    if "shape2D" in given and setting["force2Ddimension"] == 1:
        _refuse("featureClass.shape2D", "PyRadiomics 3.0.1 cannot compute it for force2Ddimension 1")
    chosen = given or {name: None for name in FEATURES if name != "shape2D"}
    return {name: _resolve_features(name, chosen[name]) for name in FEATURES if name in chosen}


def _resolve_features(name: str, given: Any) -> list[str]:
    where = f"featureClass.{name}"
    if given is None or given == []:
        return [feature for feature in FEATURES[name] if feature not in DEPRECATED.get(name, ())]
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        _refuse(where, "must be a list of feature names, or empty for all of them")
    for feature in given:
        if feature in UNCOMPUTED.get(name, ()):
            _refuse(f"{where}.{feature}", "PyRadiomics 3.0.1 no longer computes it: it repeats another feature")
        if feature not in FEATURES[name]:
            _refuse(f"{where}.{feature}", "unknown feature")
    return [feature for feature in FEATURES[name] if feature in given]


def _check_options(given: Document, options: Mapping[str, Option], where: str) -> Document:
    missing = [key for key, option in options.items() if key == "sigma" and key not in given]
    if missing:
        _refuse(f"{where}.sigma", "is needed: the widths of the Gaussian, in mm")
    return {
        key: _checked(option, given[key], f"{where}.{key}") if key in given else option.default
        for key, option in options.items()
    }


def _checked(option: Option, value: Any, where: str) -> Any:
    try:
        return option.kind.validate_python(value)
    except ValidationError as error:
        _refuse(where, "; ".join(dict.fromkeys(problem["msg"] for problem in error.errors(include_input=False))))


def _mapping(value: Any, where: str) -> Document:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        _refuse(where, "must be a mapping")
    if not all(isinstance(key, str) for key in value):
        _refuse(where, "every key must be a word")
    return dict(value)


def _same_filter(mine: Document | None, theirs: Document) -> bool:
    return mine is not None and mine | {"sigma": None} == theirs | {"sigma": None}


def _refuse(key: str, reason: str) -> NoReturn:
    shown = "".join(letter if letter.isprintable() else "?" for letter in f"{FIELD}.{key}".rstrip("."))[:100]
    raise InvalidField(f"{shown}: {reason}", field=shown)


PRESETS: Final[Mapping[str, RadiomicsSettings]] = {
    "original": RadiomicsSettings.model_validate({}),
    "full": RadiomicsSettings.model_validate(
        {"imageType": {"Original": {}, "LoG": {"sigma": [1.0, 2.0, 3.0]}, "Wavelet": {"wavelet": "coif1", "level": 1}}}
    ),
}


class IbsiSettings(BaseModel):
    """Features by IBSI's definitions, after IBSI's image processing: one of its benchmark configurations, or a default.

    `auto` takes the processing of configuration C for CT, and that of D without rounding for other modalities; see
    `features.ibsi.configuration`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    configuration: Literal["auto", "A", "B", "C", "D", "E"] = "auto"

    def sha256(self) -> str:
        """Return a digest of the content."""
        return hashlib.sha256(f"ibsi:{self.configuration}".encode()).hexdigest()

    def covers(self, other: "AnySettings") -> bool:
        """Whether every feature of `other` is one of these, computed in the same way."""
        return self == other


AnySettings: TypeAlias = RadiomicsSettings | IbsiSettings

CONFIGURATION_NAMES: Final[tuple[Literal["A", "B", "C", "D", "E"], ...]] = ("A", "B", "C", "D", "E")
IBSI_PRESETS: Final[Mapping[str, IbsiSettings]] = {
    "ibsi": IbsiSettings(),
    **{f"ibsi-{name.lower()}": IbsiSettings(configuration=name) for name in CONFIGURATION_NAMES},
}
EVERY_PRESET: Final[Mapping[str, AnySettings]] = {**PRESETS, **IBSI_PRESETS}
