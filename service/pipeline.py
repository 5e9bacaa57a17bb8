"""The product on one page: a case and a bundle in, one fused feature vector and predictions per region out."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np

from service.bundle import ModelBundle, channel_prefix, deep_feature_names
from service.errors import UnfitCase
from service.feature_terms import ARBITRARY_UNIT, HOUNSFIELD_UNIT
from service.features.radiomics import compute_radiomics_many, name_engine
from service.features.vector import FeatureVector
from service.heads import Prediction
from service.imaging.case import Case, Image, Mask
from service.imaging.orientation import as_stored
from service.imaging.preprocess import cut_crop
from service.imaging.references import describe_references
from service.radiomics_settings import AnySettings, Axes, RadiomicsSettings


class Stage(StrEnum):
    """What a job is doing; reading comes before the pipeline."""

    READING = "reading"
    RADIOMICS = "radiomics"
    ENCODER = "encoder"
    PREDICTION = "prediction"


@dataclass(frozen=True)
class RegionResult:
    """One region's fused vector and predictions."""

    mask: Mask
    features: FeatureVector
    predictions: tuple[Prediction, ...]


@dataclass(frozen=True)
class Result:
    """Everything that was computed, and where it came from."""

    bundle: ModelBundle
    regions: tuple[RegionResult, ...]
    settings_sha256: str
    engine: str
    device: str
    seconds: Mapping[str, float]
    notes: tuple[str, ...]
    intensity_unit: str
    references: Mapping[str, Any] | None

    def document(self) -> dict[str, Any]:
        """Return the result as JSON holds it: plain types, null where a feature has no finite value.

        `references` names the DICOM objects that it was made from, for a report; callers are not shown it.
        """
        manifest = self.bundle.manifest
        return {
            "model": {"name": manifest.name, "version": manifest.version, "sha256": self.bundle.sha256},
            "rois": [_describe(region) for region in self.regions],
            "provenance": {
                "versions": dict(_versions(self.bundle.encoder.runtime_version)),
                "radiomics_engine": self.engine,
                "radiomics_settings_sha256": self.settings_sha256,
                "intensity_unit": self.intensity_unit,
                "device": self.device,
                "seconds": dict(self.seconds),
                "notes": list(self.notes),
            },
        } | ({"references": self.references} if self.references else {})


@dataclass
class _Log:
    """What happens along the way: the stage, the time it takes, and what is worth telling."""

    on_stage: Callable[[Stage], None]
    clock: Callable[[], float]
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        self.on_stage(stage)
        begun = self.clock()
        yield
        self.seconds[stage.value] = round(self.clock() - begun, 6)


def _tell_nobody(stage: Stage) -> None:
    del stage


def extract(
    case: Case,
    bundle: ModelBundle,
    settings: AnySettings | None = None,
    on_stage: Callable[[Stage], None] = _tell_nobody,
    axes: Axes = "canonical",
    clock: Callable[[], float] = time.perf_counter,
) -> Result:
    """Describe every region of a case with radiomics and an embedding, and predict from both.

    Each region is embedded by itself, so that its values do not depend on which others were asked for.

    Args:
        case: images by channel, masks.
        bundle: the model.
        settings: the caller's radiomics settings; the bundle's own where None. Predictions are made from the
            bundle's own settings in any case.
        on_stage: called as each stage begins.
        axes: "canonical" gives equal features for one acquisition however its file stores it; "stored" gives the
            radiomics that PyRadiomics computes on the file itself. Embedding and predictions are always canonical.
        clock: seconds, for the time spent in each stage.

    Raises:
        UnfitCase: the case's channels, or their modality, are not the bundle's.
        RadiomicsRefused, RoiTooSmall: PyRadiomics cannot compute the settings on a region.
        BundleDamaged, DeviceUnavailable: the encoder cannot run.
    """
    _check_fit(case, bundle)
    log = _Log(on_stage, clock, notes=list(case.notes))
    wanted = settings or bundle.settings
    with log.stage(Stage.RADIOMICS):
        radiomics = _radiomics(case, bundle, wanted, axes)
        reusable = axes == "canonical" and wanted.covers(bundle.settings)
        known = radiomics if reusable else _radiomics_of_bundle(case, bundle, log)
    with log.stage(Stage.ENCODER):
        embeddings = [_embedding(case, mask, bundle) for mask in case.masks]
        device = bundle.encoder.provider
    with log.stage(Stage.PREDICTION):
        regions = tuple(
            RegionResult(
                mask,
                _fused(shown, embedding, mask, log),
                _predictions(FeatureVector.concatenate([own, embedding]), mask, bundle, log),
            )
            for mask, shown, own, embedding in zip(case.masks, radiomics, known, embeddings, strict=True)
        )
    return Result(
        bundle,
        regions,
        wanted.sha256(),
        name_engine(wanted),
        device,
        log.seconds,
        tuple(log.notes),
        _intensity_unit(bundle, wanted),
        describe_references(
            {channel: image.source for channel, image in case.images.items()}, [mask.source for mask in case.masks]
        ),
    )


def _intensity_unit(bundle: ModelBundle, settings: AnySettings) -> str:
    """Return the UCUM unit of the intensities that features of the original image are computed on."""
    normalised = isinstance(settings, RadiomicsSettings) and settings.setting["normalize"]
    return HOUNSFIELD_UNIT if bundle.manifest.modality == "CT" and not normalised else ARBITRARY_UNIT


def _check_fit(case: Case, bundle: ModelBundle) -> None:
    manifest = bundle.manifest
    if set(case.images) != set(manifest.channels):
        raise UnfitCase(
            f"the case has the channels {', '.join(sorted(case.images))}; "
            f"{manifest.reference} takes {', '.join(manifest.channels)}",
            got=sorted(case.images),
            expected=manifest.channels,
        )
    for channel, image in case.images.items():
        if image.modality not in (None, manifest.modality):
            raise UnfitCase(
                f"channel {channel} is of another modality than {manifest.modality}, which {manifest.reference} takes",
                expected=manifest.modality,
            )


def _radiomics(case: Case, bundle: ModelBundle, settings: AnySettings, axes: Axes) -> list[FeatureVector]:
    """Describe every region: one vector for each, of all channels."""
    channels, modality, threads = bundle.manifest.channels, bundle.manifest.modality, bundle.encoder.threads
    parts = []
    for channel, (image, masks) in zip(channels, _laid_out(case, channels, axes), strict=True):
        prefix = channel_prefix(channel, channels)
        described = compute_radiomics_many(image, masks, settings, modality, threads)
        parts.append([features.prefixed(prefix) for features in described])
    return [FeatureVector.concatenate(list(of_one_region)) for of_one_region in zip(*parts, strict=True)]


def _laid_out(case: Case, channels: Sequence[str], axes: Axes) -> Iterator[tuple[Image, Sequence[Mask]]]:
    """Yield every channel and its masks; channels stored alike have the very same masks, measured only once."""
    turned: dict[bytes, Sequence[Mask]] = {}
    for image in (case.images[channel] for channel in channels):
        if axes == "canonical" or image.stored_direction is None:
            yield image, case.masks
        else:
            stored, masks = as_stored(image, case.masks)
            yield stored, turned.setdefault(image.stored_direction.tobytes(), masks)


def _radiomics_of_bundle(case: Case, bundle: ModelBundle, log: _Log) -> list[FeatureVector]:
    log.notes.append("predictions use the model's own radiomics, computed beside what was asked for")
    return _radiomics(case, bundle, bundle.settings, "canonical")


def _embedding(case: Case, mask: Mask, bundle: ModelBundle) -> FeatureVector:
    manifest = bundle.manifest
    crop = cut_crop(case.images, mask, manifest.channels, manifest.preprocessing)
    embedding = bundle.encoder.embed(crop[np.newaxis])[0]
    return FeatureVector(deep_feature_names(manifest.encoder.dimension), embedding)


def _fused(radiomics: FeatureVector, embedding: FeatureVector, mask: Mask, log: _Log) -> FeatureVector:
    fused = FeatureVector.concatenate([radiomics, embedding])
    if undefined := fused.not_finite():
        log.notes.append(f"ROI {mask.name}: no finite value for {', '.join(undefined)}")
    return fused


def _predictions(features: FeatureVector, mask: Mask, bundle: ModelBundle, log: _Log) -> tuple[Prediction, ...]:
    """Predict every target that can be; the features are worth returning where one cannot."""
    predictions = []
    for head in bundle.heads:
        try:
            predictions.append(head.predict(features))
        except UnfitCase as error:
            log.notes.append(f"ROI {mask.name}: {error.detail}")
    return tuple(predictions)


def _describe(region: RegionResult) -> dict[str, Any]:
    mask = region.mask
    return {
        "roi": {
            "name": mask.name,
            "voxels": mask.count,
            "volume_mm3": mask.volume_mm3,
            "centroid_mm": list(mask.centroid_mm),
            "bounding_box": [list(span) for span in mask.bounding_box],
        },
        "features": {name: value if np.isfinite(value) else None for name, value in region.features.items()},
        "predictions": [prediction.document() for prediction in region.predictions],
    }


@cache
def _versions(runtime: str) -> Mapping[str, str]:
    packages = {name: version(name) for name in ("radfuse", "pyradiomics", "SimpleITK", "numpy", "numba", "PyWavelets")}
    return packages | {"onnxruntime": runtime}
