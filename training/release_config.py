"""What the release of a bundle on real cases needs beyond an experiment: its targets and what its card must say."""

from pathlib import Path

from pydantic import Field

from service.manifest import Strict
from training.config import Experiment, read_document
from training.study_config import Target


class Collection(Strict):
    """A source as the card names it."""

    name: str
    what: str
    licence: str
    reference: str


class Narrative(Strict):
    """What no number says."""

    purpose: str
    meanings: dict[str, str] = Field(description="by target: what its classes are, and who assigned them")
    collections: list[Collection] = Field(min_length=1)
    confounds: list[str]
    not_for: list[str] = Field(min_length=1)


class Release(Strict):
    """What the bundle says of itself."""

    name: str
    version: str
    summary: str
    licence: str
    modality: str
    demonstration: bool
    command: str = Field(description="that makes the bundle anew")
    study_command: str | None = Field(None, description="that makes the report in the bundle's folder anew")


class ReleaseConfig(Experiment):
    """The TOML document of a bundle that is trained on real cases."""

    release: Release
    targets: list[Target] = Field(min_length=1)
    narrative: Narrative


def read_release(path: Path) -> ReleaseConfig:
    """Read and check the configuration of a release.

    Raises:
        ConfigError: not TOML, an unknown key, or a value out of range; the message names it.
    """
    return read_document(path, ReleaseConfig)
