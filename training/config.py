"""An experiment's configuration: one TOML document, every key checked, unknown ones refused."""

import hashlib
import tomllib
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from service.manifest import Preprocessing, Strict
from training.views import ViewRanges


class ConfigError(ValueError):
    """The configuration, or what was asked with it, is wrong."""


class About(Strict):
    """What the bundle says of itself."""

    name: str
    version: str
    summary: str
    licence: str
    command: str = Field(description="that makes the bundle anew")
    channel: str = "ct"


class Cohorts(Strict):
    """How many phantoms; their seeds follow one another from `first_seed`, cohort after cohort."""

    first_seed: int = Field(ge=0)
    training: int = Field(ge=40, description="the unlabelled set of the encoder, and the labelled one of the heads")
    test: int = Field(ge=20, description="fresh phantoms that nothing was fitted on")
    strangers: int = Field(ge=4, description="phantoms of each out-of-distribution layout")
    example_seed: int = Field(ge=0)


class EncoderShape(Strict):
    """See `training.encoder.Encoder`."""

    widths: list[int] = Field(min_length=1)
    dimension: int = Field(gt=1)


class Balance(Strict):
    """How imbalance among the cases is met: not at all, by weights (RE), by the batches (SE), or by a later idea.

    `re` A is 1 / (p + c), C is p^-alpha, D the effective number, E the density among neighbours; `se` A takes equal
    shares of the clusters, B balances a drawn pool, C draws clusters by n^(1 - alpha); `re+se` does both, each tempered
    by `alpha`. `dro` is group DRO over the clusters and `bcl` strengthens the views of cases that are hard to learn.
    """

    strategy: Literal["none", "re", "se", "re+se", "dro", "bcl"] = "none"
    variant: Literal["A", "B", "C", "D", "E"] = "A"
    scope: Literal["dataset", "batch"] = Field("dataset", description="where RE counts the clusters' shares")
    alpha: float = Field(1.0, ge=0, le=1, description="tempering, 1 in full; one half on each for re+se")
    constant: float = Field(0.0, ge=0, description="c of RE-A")
    beta: float = Field(0.999, gt=0, lt=1, description="of RE-D")
    neighbours: int = Field(10, ge=1, description="of RE-E")
    eta: float = Field(0.1, ge=0, description="step of group DRO")
    ema: float = Field(0.97, ge=0, lt=1, description="memory of BCL")
    clusters: int | Literal["auto"] = "auto"
    refresh_epochs: int = Field(5, ge=1)
    grouping: Literal["embeddings", "shuffled", "labels"] = Field(
        "embeddings",
        description="clusters; `shuffled` (control): their ids at random; `labels` (oracle): the true classes",
    )

    @model_validator(mode="after")
    def _variant_exists(self) -> "Balance":
        known = {"re": "ACDE", "se": "ABC", "re+se": "AC"}.get(self.strategy)
        if known is not None and self.variant not in known:
            raise ValueError(f"strategy {self.strategy!r} has the variants {', '.join(known)}, not {self.variant}")
        if isinstance(self.clusters, int) and self.clusters < 2:
            raise ValueError("clusters must be 2 or more, or 'auto'")
        return self


class Pretraining(Strict):
    """The optimisation: SGD with a cosine schedule (arXiv 2011.10566, Sec. 4.1 and Appendix D)."""

    objective: Literal["simsiam", "vicreg", "infonce", "rubik", "genesis"] = "simsiam"
    epochs: int = Field(gt=0)
    batch: int = Field(ge=8, description="of all processes together")
    learning_rate: float = Field(gt=0, description="at the start, for this batch size")
    warmup_epochs: int = Field(0, ge=0, description="of the learning rate")
    warmup_share: float = Field(0.2, ge=0, lt=1, description="of the epochs: plain, before `balance` begins")
    momentum: float = 0.9
    weight_decay: float = 1e-4
    width: int = Field(gt=7, description="of the projections")
    views: ViewRanges = ViewRanges()
    balance: Balance = Balance()
    amp: Literal["off", "bf16"] = "off"
    compile: bool = False
    checkpoint_epochs: int = Field(5, ge=1)

    @model_validator(mode="after")
    def _strength_has_views(self) -> "Pretraining":
        if self.balance.strategy == "bcl" and self.objective in ("rubik", "genesis"):
            raise ValueError(f"bcl changes the strength of views, and {self.objective} has none")
        return self


class HeadFitting(Strict):
    """Multinomial logistic regression on standardised features."""

    inverse_penalties: list[float] = Field(min_length=1, description="C, chosen by inner cross-validation")
    folds: int = Field(ge=2)
    novelty_variance: float = Field(gt=0, lt=1, description="share of the variance that the novelty space keeps")
    novelty_percentile: float = Field(gt=50, lt=100)
    bootstrap: int = Field(ge=100)


class Source(Strict):
    """A collection of cases on disk."""

    reader: str = Field(description="of training.readers: brats, lung1, manifest, lidc, ...")
    folder: str = Field(description="below the folder of the data that the command line names")
    unlabelled: bool = Field(False, description="use the images alone, whatever labels there are")


def check_edges(preprocessing: Preprocessing, encoder: EncoderShape, image_channels: Sequence[str]) -> None:
    """Refuse crops that the encoder cannot halve often enough, or that lack a channel's window.

    Raises:
        ValueError: saying which.
    """
    halvings = 2 ** len(encoder.widths)
    if preprocessing.crop_voxels % halvings:
        raise ValueError(f"crop_voxels must be a multiple of {halvings} with {len(encoder.widths)} widths")
    missing = [channel for channel in image_channels if channel not in preprocessing.windows]
    if missing:
        raise ValueError(f"preprocessing.windows has none for channel {missing[0]!r}")


class Settings(Strict):
    """What every training run needs to know, whatever it trains on."""

    seed: int
    threads: int = Field(gt=0)
    radiomics: Literal["original", "full"]
    preprocessing: Preprocessing
    encoder: EncoderShape
    pretraining: Pretraining
    heads: HeadFitting

    @model_validator(mode="after")
    def _edges_fit(self) -> "Settings":
        check_edges(self.preprocessing, self.encoder, self.image_channels)
        return self

    @property
    @abstractmethod
    def image_channels(self) -> list[str]:
        """Names of the image channels, in the order of the crops' channels."""

    @property
    def input_channels(self) -> int:
        """Channels of a crop: the images, and the mask where it is used."""
        return len(self.image_channels) + int(self.preprocessing.mask_channel)

    def sha256(self) -> str:
        """Return the digest of the values that are written down, whatever the document's layout and comments."""
        return hashlib.sha256(self.model_dump_json(exclude_unset=True).encode()).hexdigest()


class BundleConfig(Settings):
    """The TOML document of a bundle that is trained on phantoms."""

    about: About
    cohorts: Cohorts

    @property
    def image_channels(self) -> list[str]:
        """The one channel of the phantoms."""
        return [self.about.channel]


class Experiment(Settings):
    """The TOML document of a training run on real cases."""

    channels: list[str] = Field(min_length=1)
    sources: list[Source] = Field(min_length=1)

    @property
    def image_channels(self) -> list[str]:
        """The channels, as they are listed."""
        return self.channels

    def encoder_sha256(self) -> str:
        """Return the digest of the values that decide the encoder: heads may be fitted anew without it changing."""
        parts = {"seed", "threads", "preprocessing", "encoder", "pretraining", "channels", "sources"}
        return hashlib.sha256(self.model_dump_json(exclude_unset=True, include=parts).encode()).hexdigest()


def read_config(path: Path) -> BundleConfig:
    """Read and check the configuration of a bundle of phantoms.

    Raises:
        ConfigError: not TOML, an unknown key, or a value out of range; the message names it.
    """
    return read_document(path, BundleConfig)


def read_experiment(path: Path) -> Experiment:
    """Read and check the configuration of a training run on real cases.

    Raises:
        ConfigError: not TOML, an unknown key, or a value out of range; the message names it.
    """
    return read_document(path, Experiment)


Document = TypeVar("Document", bound=Settings)


def read_document(path: Path, kind: type[Document]) -> Document:
    """Read and check a TOML document of some kind.

    Raises:
        ConfigError: not TOML, an unknown key, or a value out of range; the message names it.
    """
    try:
        return kind.model_validate(tomllib.loads(path.read_text()))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise ConfigError(f"{path.name}: {error}") from error
