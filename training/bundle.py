"""Make a bundle from a configuration: phantoms, pretraining, export, head, card, and the proof that it serves."""

import hashlib
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from service.bundle import ModelBundle, fused_feature_names
from service.features.encoder import Encoder as OnnxEncoder
from service.heads import HeadDocument
from service.imaging.guard import Limits
from service.imaging.reader import CaseFiles, read_case
from service.manifest import FILE_NAME, EncoderPart, FilePart, HeadPart, Manifest
from service.pipeline import Result, extract
from service.radiomics_settings import PRESETS
from training import example
from training.arrays import CaseArrays, Recipe
from training.card import Findings, NoveltyFindings, write_card
from training.config import BundleConfig, ConfigError
from training.dataset import build_cohort
from training.encoder import Encoder
from training.evaluate import Blocks, compare
from training.export import export_encoder
from training.fit_heads import (
    NoveltySpace,
    balanced_cross_entropy,
    fit_classifier,
    fit_novelty,
    make_document,
    novelty_threshold,
    usable_features,
)
from training.layouts import LUNG, OFF_ORGAN, UNDEREXPOSED, Layout
from training.metrics import Labels, Matrix
from training.phantoms import KINDS
from training.pretrain import Epoch, Run, embed, fix_randomness, pretrain, untrained_encoder

ENCODER, HEAD, RADIOMICS, CARD = "encoder.onnx", "head-kind.json", "radiomics.yaml", "card.md"
TARGET = "kind"
TRAINING, FRESH = "training", "fresh"
STRANGERS: dict[str, Layout] = {
    "strangers: noise of 180 to 260 HU, at least three times the most seen in training": UNDEREXPOSED,
    "strangers: spheres of 90 to 140 HU in a soft organ": OFF_ORGAN,
}
EXAMPLE_LIMITS = Limits(decoded_bytes=64 * 2**20, voxels=16 * 2**20, files=1)


@dataclass(frozen=True)
class Described:
    """A cohort with the embeddings [N, dimension] of the exported encoder."""

    cohort: CaseArrays
    embeddings: Matrix
    untrained: Matrix  # [N, dimension], of the same network with random weights

    @property
    def labels(self) -> Labels:
        """Row numbers of `KINDS`: [N]."""
        return np.array([KINDS.index(kind) for kind in self.cohort.labels[TARGET]], np.intp)

    @property
    def fused(self) -> Matrix:
        """Radiomics, then the embedding: [N, F]."""
        return np.concatenate([self.cohort.radiomics, self.embeddings], axis=1)


def make_bundle(config: BundleConfig, out: Path, processes: int = 2) -> Result:
    """Make the bundle of `config` in the folder `out` and return what it says of its own example.

    Equal configurations give equal files on one kind of CPU. A bundle already in `out` stays in use until the new
    one has been loaded and run.

    Args:
        config: what to make.
        out: the bundle's folder, named after the bundle.
        processes: to share the phantoms among.

    Raises:
        ConfigError: `out` is not named after the bundle.
        ExportError: the exported encoder is not the trained one.
        BundleDamaged: the service refuses the finished bundle.
    """
    if out.name != config.about.name:
        raise ConfigError(f"the folder is named {out.name}, the bundle {config.about.name}")
    fix_randomness(config.threads)
    with TemporaryDirectory(prefix="radfuse-") as work, threadpool_limits(config.threads):
        made = Path(work) / out.name
        example.write_example(example.make_example(config.cohorts.example_seed), made / example.FOLDER)
        cohorts = build_cohorts(config, Path(work), processes)
        crops, settings = cohorts[TRAINING].crops, config.pretraining
        trained = pretrain(crops, config.encoder, settings, config.seed, run=Run(device="cpu"))
        part = export_encoder(trained.encoder, made / ENCODER, cohorts[FRESH].crops[:5])
        untrained = untrained_encoder(crops, config.encoder, settings, config.seed)
        described = {name: describe(cohort, made / ENCODER, untrained, config) for name, cohort in cohorts.items()}
        head, findings = fit_head(described, trained.epochs, config)
        (made / HEAD).write_text(head.model_dump_json(indent=1) + "\n")
        (made / RADIOMICS).write_text(yaml.safe_dump(PRESETS[config.radiomics].document(), sort_keys=False))
        (made / CARD).write_text(write_card(config, findings))
        (made / FILE_NAME).write_text(write_manifest(config, made, part).model_dump_json(indent=1) + "\n")
        extract_example(made)
        replace_folder(made, out)
    return extract_example(out)


def replace_folder(made: Path, out: Path) -> None:
    """Put the files of `made` into `out`, the manifest last: without it there is no bundle, only files."""
    (out / FILE_NAME).unlink(missing_ok=True)
    files = [path.relative_to(made) for path in made.rglob("*") if path.is_file()]
    for name in sorted(files, key=lambda path: (path.name == FILE_NAME, path)):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(made / name, out / name)


def build_cohorts(config: BundleConfig, work: Path, processes: int) -> dict[str, CaseArrays]:
    """Draw the training phantoms, the fresh ones and the strangers; no two share a seed."""
    recipe = Recipe((config.about.channel,), config.preprocessing, config.radiomics)
    sizes = config.cohorts
    plan = [(TRAINING, sizes.training, LUNG), (FRESH, sizes.test, LUNG)]
    plan += [(name, sizes.strangers, layout) for name, layout in STRANGERS.items()]
    cohorts, seed = {}, sizes.first_seed
    for number, (name, count, layout) in enumerate(plan):
        path = work / f"crops-{number}.npy"
        cohorts[name] = build_cohort(range(seed, seed + count), recipe, layout, path, processes)
        seed += count
    return cohorts


def describe(cohort: CaseArrays, encoder: Path, untrained: Encoder, config: BundleConfig) -> Described:
    """Embed a cohort by the exported file, as the service will: one crop at a time."""
    session = OnnxEncoder(encoder, config.encoder.dimension, device="cpu", threads=config.threads)
    embeddings = [session.embed(np.array(crop[np.newaxis]))[0] for crop in cohort.crops]
    random = embed(untrained, cohort.crops).double().numpy()
    return Described(cohort, np.stack(embeddings).astype(np.float64), random)


def fit_head(
    described: Mapping[str, Described], epochs: list[Epoch], config: BundleConfig
) -> tuple[HeadDocument, Findings]:
    """Fit the head of the fused features and find out what they, and their parts, can do."""
    training, fresh, settings = described[TRAINING], described[FRESH], config.heads
    names = fused_feature_names(PRESETS[config.radiomics], [config.about.channel], config.encoder.dimension)
    used = usable_features(training.fused)
    x, labels = training.fused[:, used], training.labels
    classifier = fit_classifier(x, labels, settings, config.seed)
    space = fit_novelty(x, settings.novelty_variance)
    threshold = novelty_threshold(x, labels, settings, config.seed)
    head = make_document(
        classifier,
        (space, threshold),
        target=TARGET,
        classes=KINDS,
        features=[name for name, kept in zip(names, used, strict=True) if kept],
        evidence=f"models/{config.about.name}/{CARD}",
    )
    findings = Findings(
        rows=compare(_blocks(training), _blocks(fresh), settings, config.seed),
        epochs=epochs,
        novelty=_judge_novelty(described, used, space, threshold),
        temperature=classifier.temperature,
        inverse_penalty=classifier.inverse_penalty,
        cross_entropy=balanced_cross_entropy(np.log(classifier.probabilities(fresh.fused[:, used])), fresh.labels),
    )
    return head, findings


def write_manifest(config: BundleConfig, out: Path, encoder: EncoderPart) -> Manifest:
    """Return the manifest of the files in `out`."""
    channels = [config.about.channel]
    return Manifest(
        schema_version=1,
        name=config.about.name,
        version=config.about.version,
        summary=config.about.summary,
        demonstration=True,
        licence=config.about.licence,
        channels=channels,
        modality="CT",
        preprocessing=config.preprocessing,
        encoder=encoder,
        radiomics=file_part(out / RADIOMICS),
        heads=[HeadPart(**file_part(out / HEAD).model_dump(), target=TARGET, classes=list(KINDS))],
        card=file_part(out / CARD),
        feature_names=list(fused_feature_names(PRESETS[config.radiomics], channels, encoder.dimension)),
        trained_with=provenance(config.sha256()),
    )


def extract_example(out: Path) -> Result:
    """Load the finished bundle as the service does and run it on its own example.

    Raises:
        BundleDamaged: the bundle cannot be loaded or run.
    """
    bundle = ModelBundle.load(out, device="cpu")
    channel = bundle.manifest.channels[0]
    folder = out / example.FOLDER
    files = CaseFiles(images={channel: [folder / example.IMAGE]}, mask=[folder / example.MASK])
    case = read_case(files, roi=None, resample_mask=False, limits=EXAMPLE_LIMITS, case_id="example")
    return extract(case, bundle)


def _blocks(described: Described) -> Blocks:
    return Blocks(
        features={
            "radiomics": described.cohort.radiomics,
            "deep": described.embeddings,
            "deep, untrained": described.untrained,
            "fused": described.fused,
            "volume only": np.log(described.cohort.volumes_mm3)[:, None],
        },
        labels=described.labels,
    )


def _judge_novelty(
    described: Mapping[str, Described], used: NDArray[np.bool_], space: NoveltySpace, threshold: float
) -> NoveltyFindings:
    def fired(cohort: Described) -> tuple[int, int]:
        return int((space.scores(cohort.fused[:, used]) > threshold).sum()), len(cohort.labels)

    return NoveltyFindings(
        fresh=fired(described[FRESH]),
        strangers={name: fired(described[name]) for name in STRANGERS},
        threshold=threshold,
        components=len(space.scale),
    )


def file_part(path: Path) -> FilePart:
    """Return a file of a bundle as its manifest names it."""
    return FilePart(file=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def provenance(configuration_sha256: str) -> dict[str, str]:
    """Return the versions of what a bundle is made with, and the digest of its configuration."""
    packages = ("radfuse", "torch", "onnx", "onnxscript", "scikit-learn", "numpy", "pyradiomics", "SimpleITK")
    versions = {name: version(name) for name in packages}
    return {"python": platform.python_version(), **versions, "configuration_sha256": configuration_sha256}
