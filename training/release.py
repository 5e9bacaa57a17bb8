"""Release a bundle on real cases: arrays, pretraining, export, a head for every target, the card."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory

import numpy as np
import yaml
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from service.bundle import ModelBundle, fused_feature_names
from service.heads import HeadDocument
from service.manifest import FILE_NAME, EncoderPart, HeadPart, Manifest
from service.radiomics_settings import PRESETS
from training.arrays import CaseArrays, Recipe, build_arrays
from training.bundle import CARD, ENCODER, RADIOMICS, file_part, provenance, replace_folder
from training.cases import CaseIndex, Finding
from training.config import ConfigError, Experiment
from training.encoder_files import ONNX, PART, export_trained, read_epochs, read_exported
from training.export import export_encoder
from training.loop import Epoch, Run
from training.pretrain import pretrain
from training.readers.catalogue import read_collection
from training.release_card import write_release_card
from training.release_config import ReleaseConfig
from training.release_heads import HeadFindings, check_head, embed_exported, fit_head


@dataclass(frozen=True)
class Cohort:
    """The cases of a release, and what was found missing or odd among them."""

    arrays: CaseArrays
    unusable: Sequence[Finding]


@dataclass(frozen=True)
class Findings:
    """Everything the card reports."""

    cases: int
    sites: Mapping[str, int]
    unusable: tuple[Finding, ...]
    epochs: tuple[Epoch, ...]
    parity: float
    heads: tuple[HeadFindings, ...]


def release(config: ReleaseConfig, data: Path, out: Path, cache: Path, processes: int = 2) -> ModelBundle:
    """Make the bundle of `config` in the folder `out` and return it, loaded as the service does.

    A bundle already in `out` stays in use until the new one has been loaded and checked. Other files there, such as
    a report, stay.

    Args:
        config: what to make.
        data: the folder that the configuration's sources lie in.
        out: the bundle's folder, named after the bundle.
        cache: for crops and radiomics, which are computed once.
        processes: to share the cases among.

    Raises:
        ConfigError: `out` is not named after the bundle, or a target has too few cases.
        ExportError: the exported encoder, or a head, is not what was trained.
        BundleDamaged: the service refuses the finished bundle.
    """
    with _make_bundle(config, out) as made:
        cohort = Cohort(*gather(config, data, cache, processes))
        trained = pretrain(
            cohort.arrays.crops,
            config.encoder,
            config.pretraining,
            config.seed,
            run=Run(threads=config.threads, progress=True),
            image_channels=len(config.channels),
        )
        part = export_encoder(trained.encoder, made / ENCODER, np.array(cohort.arrays.crops[:5]))
        _fill(made, config, cohort, part, trained.epochs)
    return ModelBundle.load(out, device="cpu")


def release_pretrained(
    config: ReleaseConfig, run: Path, data: Path, out: Path, cache: Path, processes: int = 2
) -> ModelBundle:
    """Make the bundle that `release` makes, around an encoder that is there already.

    Args:
        config: what to make; where it differs from that of the pretraining, it does so in the heads and words alone.
        run: folder that `pretrain` wrote; the encoder is exported there where that was not done.
        data: the folder that the configuration's sources lie in.
        out: the bundle's folder, named after the bundle.
        cache: for crops and radiomics, which are computed once.
        processes: to share the cases among.

    Raises:
        CheckpointError: the encoder is not there, or of another experiment.
        ConfigError: `out` is not named after the bundle, or a target has too few cases.
        ExportError: the exported encoder, or a head, is not what was trained.
        BundleDamaged: the service refuses the finished bundle.
    """
    with _make_bundle(config, out) as made:
        epochs = read_epochs(run)
        cohort = Cohort(*gather(config, data, cache, processes))
        if not (run / PART).exists():
            export_trained(run, config, np.array(cohort.arrays.crops[:5]))
        part = read_exported(run, config)
        copyfile(run / ONNX, made / ENCODER)
        _fill(made, config, cohort, part, epochs)
    return ModelBundle.load(out, device="cpu")


@contextmanager
def _make_bundle(config: ReleaseConfig, out: Path) -> Iterator[Path]:
    """Yield a folder to make the bundle in; put it in its place once the service has loaded it."""
    if out.name != config.release.name:
        raise ConfigError(f"the folder is named {out.name}, the bundle {config.release.name}")
    with TemporaryDirectory(prefix="radfuse-") as work, threadpool_limits(config.threads):
        made = Path(work) / out.name
        made.mkdir()
        yield made
        ModelBundle.load(made, device="cpu")
        replace_folder(made, out)


def _fill(made: Path, config: ReleaseConfig, cohort: Cohort, part: EncoderPart, epochs: Sequence[Epoch]) -> None:
    """Write everything but the encoder, which is there, into a bundle's folder."""
    arrays = cohort.arrays
    fused = np.concatenate([arrays.radiomics, embed_exported(arrays, made / ENCODER, config)], axis=1)
    heads = [fit_head(target, arrays, fused, config) for target in config.targets]
    for document, _ in heads:
        (made / head_file(document.target)).write_text(document.model_dump_json(indent=1) + "\n")
        check_head(document, fused, config)
    (made / RADIOMICS).write_text(yaml.safe_dump(PRESETS[config.radiomics].document(), sort_keys=False))
    findings = Findings(
        cases=len(arrays),
        sites=_count(arrays.sites),
        unusable=tuple(cohort.unusable),
        epochs=tuple(epochs),
        parity=part.parity_relative,
        heads=tuple(found for _, found in heads),
    )
    (made / CARD).write_text(write_release_card(config, findings))
    documents = [document for document, _ in heads]
    (made / FILE_NAME).write_text(write_manifest(config, made, part, documents).model_dump_json(indent=1) + "\n")


def gather(config: Experiment, data: Path, cache: Path, processes: int) -> tuple[CaseArrays, list[Finding]]:
    """Read every source and compute its crops and radiomics: all usable cases, and what the others lack."""
    recipe = Recipe(tuple(config.channels), config.preprocessing, config.radiomics)
    parts, findings = [], []
    for source in config.sources:
        index, odd = read_collection(source.reader, data / source.folder, cache)
        if source.unlabelled:
            index = CaseIndex(index.name, tuple(replace(record, labels={}) for record in index.records))
        arrays, refused = build_arrays(index, recipe, cache, processes)
        parts.append(arrays)
        findings += [*odd, *refused]
    return parts[0].join(*parts[1:]) if len(parts) > 1 else parts[0], findings


def write_manifest(config: ReleaseConfig, made: Path, encoder: EncoderPart, heads: list[HeadDocument]) -> Manifest:
    """Return the manifest of the files in `made`."""
    about = config.release
    return Manifest(
        schema_version=1,
        name=about.name,
        version=about.version,
        summary=about.summary,
        demonstration=about.demonstration,
        licence=about.licence,
        channels=config.channels,
        modality=about.modality,
        preprocessing=config.preprocessing,
        encoder=encoder,
        radiomics=file_part(made / RADIOMICS),
        heads=[
            HeadPart(**file_part(made / head_file(head.target)).model_dump(), target=head.target, classes=head.classes)
            for head in heads
        ],
        card=file_part(made / CARD),
        feature_names=list(fused_feature_names(PRESETS[config.radiomics], config.channels, config.encoder.dimension)),
        trained_with=provenance(config.sha256()),
    )


def head_file(target: str) -> str:
    """Return the file name of a target's head."""
    return f"head-{target}.json"


def _count(values: np.ndarray[tuple[int], np.dtype[np.str_]]) -> dict[str, int]:
    names, counts = np.unique(values, return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}
