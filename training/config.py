"""An experiment's configuration: one TOML document, every key checked, unknown ones refused."""

import hashlib
import tomllib
from pathlib import Path
from typing import Literal

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


class Pretraining(Strict):
    """SimSiam's optimisation: SGD with a cosine schedule (arXiv 2011.10566, Sec. 4.1 and Appendix D)."""

    epochs: int = Field(gt=0)
    batch: int = Field(ge=8)
    learning_rate: float = Field(gt=0, description="at the start, for this batch size")
    warmup_epochs: int = Field(0, ge=0)
    momentum: float = 0.9
    weight_decay: float = 1e-4
    width: int = Field(gt=7, description="of the projections")
    views: ViewRanges = ViewRanges()


class HeadFitting(Strict):
    """Multinomial logistic regression on standardised features."""

    inverse_penalties: list[float] = Field(min_length=1, description="C, chosen by inner cross-validation")
    folds: int = Field(ge=2)
    novelty_variance: float = Field(gt=0, lt=1, description="share of the variance that the novelty space keeps")
    novelty_percentile: float = Field(gt=50, lt=100)
    bootstrap: int = Field(ge=100)


class BundleConfig(Strict):
    """All of a bundle's TOML document."""

    seed: int
    threads: int = Field(gt=0)
    about: About
    cohorts: Cohorts
    radiomics: Literal["original", "full"]
    preprocessing: Preprocessing
    encoder: EncoderShape
    pretraining: Pretraining
    heads: HeadFitting

    @model_validator(mode="after")
    def _edges_fit(self) -> "BundleConfig":
        halvings = 2 ** len(self.encoder.widths)
        if self.preprocessing.crop_voxels % halvings:
            raise ValueError(f"crop_voxels must be a multiple of {halvings} with {len(self.encoder.widths)} widths")
        if self.about.channel not in self.preprocessing.windows:
            raise ValueError(f"preprocessing.windows has none for channel {self.about.channel!r}")
        return self

    @property
    def input_channels(self) -> int:
        """Channels of a crop: the image, and the mask where it is used."""
        return 1 + int(self.preprocessing.mask_channel)

    def sha256(self) -> str:
        """Return the digest of the configuration's values, whatever its layout and comments."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def read_config(path: Path) -> BundleConfig:
    """Read and check a configuration.

    Raises:
        ConfigError: not TOML, an unknown key, or a value out of range; the message names it.
    """
    try:
        return BundleConfig.model_validate(tomllib.loads(path.read_text()))
    except (OSError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise ConfigError(f"{path.name}: {error}") from error
