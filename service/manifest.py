"""The manifest of a model bundle: what its weights were trained for and with, in one checked document.

It is read by the API (to list bundles and check requests) and by `service.bundle` (to run them), and
written by `training.export`. It needs no imaging library and no model runtime.
"""

import hashlib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.errors import BundleDamaged

FILE_NAME = "manifest.json"
SCHEMA = 1

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Strict(BaseModel):
    """Unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Window(Strict):
    """Intensities are clipped to [low, high] and mapped linearly to [-1, 1].

    `unit`: "value" takes the bounds as intensities (HU for CT); "percentile" as percentiles of the channel's voxels
    that are not zero, for images without a scale of their own, such as MR.
    """

    low: float
    high: float
    unit: Literal["value", "percentile"] = "value"

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low {self.low:g} must be below high {self.high:g}")
        if self.unit == "percentile" and not (self.low >= 0 and self.high <= 100):
            raise ValueError(f"percentiles {self.low:g} and {self.high:g} must lie in [0, 100]")
        return self


class Preprocessing(Strict):
    """How a crop is cut: a cube around the ROI, resampled linearly.

    `extent`: "fixed" takes `extent_mm` on a side, centred on the bounding box; "roi" takes the longest
    side of the ROI's bounding box times `roi_scale`, at least `extent_mm`. With `context_mm` nothing further than
    that from the bounding box is seen: a crop is then the same from a whole scan and from one cut out of it.
    """

    crop_voxels: int = Field(gt=7, le=256, description="edge of the cubic crop, in voxels")
    extent: Literal["fixed", "roi"]
    extent_mm: float = Field(gt=0, description="edge of the crop in mm (the least edge for `roi`)")
    roi_scale: float = Field(1.0, gt=0)
    windows: dict[str, Window] = Field(min_length=1, description="by channel")
    context_mm: float | None = Field(None, ge=0, description="margin seen around the ROI's bounding box; null: all")
    mask_channel: bool = Field(False, description="append the mask, in [0, 1], as the last channel")


class EncoderPart(Strict):
    """The exported network: input `crops` float32 [N, C, D, H, W], output `embedding` float32 [N, dimension]."""

    file: str
    sha256: Sha256
    dimension: int = Field(gt=0)
    opset: int
    parity_relative: float = Field(ge=0, description="largest |onnx - torch| over the embedding's std, at export")


class HeadPart(Strict):
    """One head: a JSON document, see `service.heads`."""

    file: str
    sha256: Sha256
    target: str
    classes: list[str] = Field(min_length=2)


class FilePart(Strict):
    """A further file of the bundle."""

    file: str
    sha256: Sha256


class Manifest(Strict):
    """All of `manifest.json`."""

    schema_version: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=64)
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    summary: str
    demonstration: bool = Field(description="not for any use on patients' data beyond trying the software")
    licence: str
    channels: list[str] = Field(min_length=1)
    modality: Literal["CT", "MR", "PT"]
    preprocessing: Preprocessing
    encoder: EncoderPart
    radiomics: FilePart = Field(description="PyRadiomics parameter file")
    heads: list[HeadPart]
    card: FilePart
    feature_names: list[str] = Field(description="the fused vector, in order")
    trained_with: dict[str, str] = Field(description="library versions and configuration digests")

    @property
    def reference(self) -> str:
        """`name@version`."""
        return f"{self.name}@{self.version}"


def read_manifest(folder: Path) -> Manifest:
    """Read and check `folder/manifest.json` (not the digests of the files it names).

    Raises:
        BundleDamaged: missing, not valid, or its folder is not named after it.
    """
    path = folder / FILE_NAME
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BundleDamaged(f"bundle {folder.name}: {FILE_NAME} cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise BundleDamaged(f"bundle {folder.name}: {error}") from error
    if manifest.name != folder.name:
        raise BundleDamaged(f"bundle {folder.name}: its manifest names {manifest.name}")
    return manifest


def manifest_sha256(folder: Path) -> str:
    """Return the digest that stands for the whole bundle: the manifest names every other file's digest."""
    return hashlib.sha256((folder / FILE_NAME).read_bytes()).hexdigest()


def read_manifests(models: Path) -> dict[str, Manifest]:
    """Read every bundle's manifest under `models`, by name, in alphabetical order."""
    folders = sorted(path.parent for path in models.glob(f"*/{FILE_NAME}"))
    return {folder.name: read_manifest(folder) for folder in folders}
