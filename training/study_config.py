"""What a study compares, on which cases and how often: one TOML document."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from service.manifest import Strict
from training.config import Balance, Pretraining, Settings, Source, read_document

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


class Skew(Strict):
    """A cohort made rarer in one class, in the training folds alone: pretraining and heads see the rarity."""

    name: str
    target: str
    minority: str
    share: float = Field(gt=0, lt=0.5)
    methods: list[MethodName] = Field(min_length=1)


class Plan(Strict):
    """Rows and columns of the tables."""

    seeds: list[int] = Field(min_length=1)
    folds: int = Field(5, ge=2)
    methods: list[MethodName] = Field(min_length=1)
    transductive: list[MethodName] = Field([], description="also pretrained on all cases, the test folds included")
    label_shares: list[float] = Field([1.0, 0.5], min_length=1, description="1 is all labels")
    every_head: bool = Field(True, description="logistic and SVM, weighted and not; otherwise the first alone")
    targets: list[Target] = Field(min_length=1)
    skews: list[Skew] = Field([])
    overrides: dict[MethodName, dict[str, Any]] = Field({}, description="of [pretraining], by method")


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
    study: Plan

    @model_validator(mode="after")
    def _parts_fit(self) -> "StudyConfig":
        if not self.sources and self.phantoms is None:
            raise ValueError("a study needs sources or phantoms")
        known = {target.name: target.classes for target in self.study.targets}
        for skew in self.study.skews:
            if skew.minority not in known.get(skew.target, []):
                raise ValueError(f"skew {skew.name!r}: {skew.target} has no class {skew.minority!r}")
        for method in (*self.study.methods, *self.study.transductive):
            self.pretraining_of(method)
        return self

    @property
    def image_channels(self) -> list[str]:
        """The channels, as they are listed."""
        return self.channels

    def pretraining_of(self, method: MethodName) -> Pretraining:
        """Return how a method is pretrained: as `[pretraining]` says, but for what makes it that method."""
        document = self.pretraining.model_dump() | self.study.overrides.get(method, {})
        changes = METHODS[method]
        balance = {key: value for key, value in changes.items() if key in Balance.model_fields}
        document |= {key: value for key, value in changes.items() if key not in balance}
        document["balance"] = document["balance"] | balance
        return Pretraining.model_validate(document)


def read_study(path: Path) -> StudyConfig:
    """Read and check the configuration of a study.

    Raises:
        ConfigError: not TOML, an unknown key, or a value out of range; the message names it.
    """
    return read_document(path, StudyConfig)
