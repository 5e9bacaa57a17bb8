"""What a study compares, on which cases and how often: one TOML document."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from service.manifest import Preprocessing, Strict
from training.config import Balance, EncoderShape, Pretraining, Settings, Source, check_edges, read_document

OWN_RECIPE = ""  # the study's [preprocessing] as it is

# How each method's balance, or its objective, differs from plain SimSiam.
METHODS: dict[str, dict[str, Any]] = {
    "plain": {},
    "re-a": {"strategy": "re", "variant": "A"},
    "re-c": {"strategy": "re", "variant": "C"},
    "re-d": {"strategy": "re", "variant": "D"},
    "re-e": {"strategy": "re", "variant": "E"},
    "re-a-batch": {"strategy": "re", "variant": "A", "scope": "batch"},
    "se-a": {"strategy": "se", "variant": "A"},
    "se-b": {"strategy": "se", "variant": "B"},
    "se-c": {"strategy": "se", "variant": "C"},
    "re+se": {"strategy": "re+se", "variant": "C", "alpha": 0.5},
    "shuffled-re": {"strategy": "re", "variant": "A", "grouping": "shuffled"},
    "shuffled-se": {"strategy": "se", "variant": "A", "grouping": "shuffled"},
    "oracle-re": {"strategy": "re", "variant": "A", "grouping": "labels"},
    "oracle-se": {"strategy": "se", "variant": "A", "grouping": "labels"},
    "dro": {"strategy": "dro"},
    "bcl": {"strategy": "bcl"},
    "vicreg": {"objective": "vicreg"},
    "infonce": {"objective": "infonce"},
    "rubik": {"objective": "rubik"},
    "genesis": {"objective": "genesis"},
    "supervised": {},
    "untrained": {},
}


def _known(method: str) -> str:
    if method not in METHODS:
        raise ValueError(f"there is no method {method!r}; the methods are {', '.join(METHODS)}")
    return method


MethodName = Annotated[str, AfterValidator(_known)]
RowName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9 .+-]*$", max_length=40)]


class Target(Strict):
    """What is predicted."""

    name: str
    classes: list[str] = Field(min_length=2, description="in order, where they have one")
    ordered: bool = False
    positive: str | None = Field(None, description="of two classes: the one whose recall is the sensitivity")
    within_sites: list[str] = Field([], description="sites that the out-of-fold predictions are also scored within")
    covariates: list[str] = Field([], description="what else is told of the cases, each a reference: clinical T")

    @model_validator(mode="after")
    def _positive_is_one_of_two(self) -> "Target":
        if self.positive is not None and (len(self.classes) != 2 or self.positive not in self.classes):
            raise ValueError(f"positive {self.positive!r} must be one of two classes")
        return self


class TableRow(Strict):
    """A row of the tables that is one of the methods, but for what is said here."""

    method: MethodName
    recipe: str = Field(OWN_RECIPE, description="of [recipes]: how its crops are cut")
    encoder: EncoderShape | None = Field(None, description="in place of [encoder]")
    pretraining: dict[str, Any] = Field({}, description="in place of these keys of [pretraining], tables merged")


class Skew(Strict):
    """A cohort made rarer in one class, in the training folds alone: pretraining and heads see the rarity."""

    name: str
    target: str
    minority: str
    share: float = Field(gt=0, lt=0.5)
    methods: list[str] = Field(min_length=1)


class Plan(Strict):
    """Rows and columns of the tables."""

    seeds: list[int] = Field(min_length=1)
    folds: int = Field(5, ge=2)
    methods: list[str] = Field(min_length=1, description="of METHODS, or of `rows`")
    transductive: list[str] = Field([], description="also pretrained on all cases, the test folds included")
    label_shares: list[float] = Field([1.0, 0.5], min_length=1, description="1 is all labels")
    every_head: bool = Field(True, description="logistic and SVM, weighted and not; otherwise the first alone")
    targets: list[Target] = Field(min_length=1)
    skews: list[Skew] = Field([])
    rows: dict[RowName, TableRow] = Field({}, description="methods that differ from what the study says of all")

    @model_validator(mode="after")
    def _rows_are_known(self) -> "Plan":
        for name, row in self.rows.items():
            if name in METHODS and row.method != name:
                raise ValueError(f"row {name!r} has the name of another method than {row.method!r}")
        for name in self.every_row:
            if name not in self.rows:
                _known(name)
        return self

    @property
    def every_row(self) -> Iterator[str]:
        """Every row that some table has."""
        yield from self.methods
        yield from self.transductive
        for skew in self.skews:
            yield from skew.methods


class Phantoms(Strict):
    """A cohort of phantoms in place of a collection; their kind is the target `kind`."""

    first_seed: int = Field(ge=0)
    count: int = Field(ge=20)
    small: bool = Field(False, description="small volumes, for tests")


class StudyConfig(Settings):
    """The TOML document of a study."""

    channels: list[str] = Field(min_length=1)
    sources: list[Source] = Field([])
    phantoms: Phantoms | None = None
    recipes: dict[RowName, dict[str, Any]] = Field({}, description="other crops: changes of [preprocessing], by name")
    study: Plan

    @model_validator(mode="after")
    def _parts_fit(self) -> "StudyConfig":
        if not self.sources and self.phantoms is None:
            raise ValueError("a study needs sources or phantoms")
        known = {target.name: target.classes for target in self.study.targets}
        for skew in self.study.skews:
            if skew.minority not in known.get(skew.target, []):
                raise ValueError(f"skew {skew.name!r}: {skew.target} has no class {skew.minority!r}")
        for name in (*self.study.every_row, *self.study.rows):
            self.pretraining_of(name)
            recipe = self.row(name).recipe
            if recipe != OWN_RECIPE and recipe not in self.recipes:
                raise ValueError(f"row {name!r}: there is no recipe {recipe!r}")
            check_edges(self.preprocessing_of(recipe), self.encoder_of(name), self.image_channels)
        return self

    @property
    def image_channels(self) -> list[str]:
        """The channels, as they are listed."""
        return self.channels

    def row(self, name: str) -> TableRow:
        """Return what a row of the tables is: one of `rows`, or the method of that name as it is."""
        return self.study.rows.get(name) or TableRow(method=name)

    def pretraining_of(self, name: str) -> Pretraining:
        """Return how a row is pretrained: as `[pretraining]` says, but for its method, but for what the row says."""
        row = self.row(name)
        changes = METHODS[row.method]
        balance = {key: value for key, value in changes.items() if key in Balance.model_fields}
        others = {key: value for key, value in changes.items() if key not in balance}
        document = _merge(self.pretraining.model_dump(), others | {"balance": balance})
        return Pretraining.model_validate(_merge(document, row.pretraining))

    def encoder_of(self, name: str) -> EncoderShape:
        """Return the shape of a row's network."""
        return self.row(name).encoder or self.encoder

    def preprocessing_of(self, recipe: str) -> Preprocessing:
        """Return how the crops of a recipe are cut."""
        return Preprocessing.model_validate(_merge(self.preprocessing.model_dump(), self.recipes.get(recipe, {})))


def _merge(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document with the changes in it; tables are merged key by key, everything else is replaced."""
    merged = dict(document)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def read_study(path: Path) -> StudyConfig:
    """Read and check the configuration of a study.

    Raises:
        ConfigError: not TOML, an unknown key, or a value out of range; the message names it.
    """
    return read_document(path, StudyConfig)
