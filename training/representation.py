"""What a method makes of the cases: embeddings, the clusters it balanced by, and how its training went."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.arrays import Crops
from training.encoder import Encoder
from training.metrics import Matrix
from training.pretrain import Run, embed, pretrain, untrained_encoder
from training.study_cases import Rows, StudyCases
from training.study_config import StudyConfig
from training.study_heads import OWN, Column, Split, labelled
from training.supervised import fit_supervised

# The modules that decide embeddings and predictions: what another version of them computed is not taken from the store.
DECIDING = [
    "balancing",
    "clusters",
    "distributed",
    "embedding",
    "encoder",
    "feeding",
    "fit_heads",
    "folds",
    "learners",
    "loop",
    "method",
    "objectives",
    "pretexts",
    "pretrain",
    "representation",
    "resampling",
    "reweighting",
    "sampling",
    "study_heads",
    "supervised",
    "views",
]


def digest_sources(folder: Path, modules: Sequence[str]) -> str:
    """Return the digest of the source of `modules` in `folder`."""
    digest = hashlib.sha256()
    for name in modules:
        digest.update(name.encode() + b"\0" + (folder / f"{name}.py").read_bytes())
    return digest.hexdigest()


REVISION = digest_sources(Path(__file__).parent, DECIDING)


@dataclass(frozen=True, eq=False)
class Representation:
    """Embeddings [N, d] of all cases, trained on `rows`.

    `clusters` are the last ones of the training rows, -1 elsewhere and where the method has none: [N]. `epochs` is
    the training's record. `own` holds a supervised network's probabilities [N, C] by `Column.key`.
    """

    embeddings: Matrix
    clusters: Rows
    epochs: list[dict[str, Any]]
    own: Mapping[str, Matrix] = field(default_factory=dict)

    def own_predictions(self, cases: StudyCases, split: Split, config: StudyConfig) -> dict[str, NDArray[Any]]:
        """Return what the network itself predicts for the test fold, as `predict_blocks` returns it."""
        found: dict[str, NDArray[Any]] = {}
        for target in config.study.targets:
            found[f"rows|{target.name}"] = split.test[cases.labels_of(target)[split.test] >= 0]
        for key, probabilities in self.own.items():
            found[key] = probabilities[found[f"rows|{Column.parse(key).target}"]].astype(np.float32)
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays for a file."""
        own = {f"own:{name}": values.astype(np.float32) for name, values in self.own.items()}
        arrays: dict[str, NDArray[Any]] = dict(own)
        arrays["embeddings"], arrays["clusters"] = self.embeddings.astype(np.float32), self.clusters
        arrays["epochs"] = np.array(json.dumps(self.epochs))
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "Representation":
        """Return what `arrays` has made."""
        own = {key[4:]: values.astype(np.float64) for key, values in arrays.items() if key.startswith("own:")}
        epochs = json.loads(str(arrays["epochs"]))
        return cls(arrays["embeddings"].astype(np.float64), arrays["clusters"], epochs, own)


def learn(config: StudyConfig, name: str, cases: StudyCases, rows: Rows, seed: int, warm_up: Path) -> Representation:
    """Train the network of a row of the tables on some cases and embed all.

    Args:
        config: of the study.
        name: of the row.
        cases: of the study.
        rows: the cases that may be seen in training.
        seed: determines the result.
        warm_up: file of the plain warm-up; taken where it is there, written where it is not.
    """
    row, shape, settings = config.row(name), config.encoder_of(name), config.pretraining_of(name)
    everything, channels = cases.crops_of(row.recipe), len(config.image_channels)
    if row.method == "supervised":
        return _learn_supervised(config, name, cases, rows, seed)
    crops = np.ascontiguousarray(everything[rows])
    if row.method == "untrained":
        encoder = untrained_encoder(crops, shape, settings, seed)
        return Representation(_embed_all(encoder, everything), np.full(len(everything), -1), [])
    warm_up.parent.mkdir(parents=True, exist_ok=True)
    groups = cases.joint_labels(config)[rows] if settings.balance.grouping == "labels" else None
    run = Run(threads=1, device="cpu", progress=False, warm_start=warm_up)
    pretrained = pretrain(crops, shape, settings, seed, run=run, groups=groups, image_channels=channels)
    clusters = np.full(len(everything), -1)
    if pretrained.clusters is not None:
        clusters[rows] = pretrained.clusters
    epochs = [asdict(epoch) for epoch in pretrained.epochs]
    return Representation(_embed_all(pretrained.encoder, everything), clusters, epochs)


def _learn_supervised(config: StudyConfig, name: str, cases: StudyCases, rows: Rows, seed: int) -> Representation:
    """Train a network per target and share of the labels; the embeddings are those of the first one."""
    own: dict[str, Matrix] = {}
    embeddings, epochs = np.empty((0, 0)), list[dict[str, Any]]()
    everything = cases.crops_of(config.row(name).recipe)
    for target in config.study.targets:
        for share in config.study.label_shares:
            train = labelled(cases, target, Split(seed, rows, rows[:0]), share)
            network = fit_supervised(
                np.ascontiguousarray(everything[train]),
                cases.labels_of(target)[train],
                config.encoder_of(name),
                config.pretraining_of(name),
                seed,
                run=Run(threads=1, device="cpu", progress=False),
                image_channels=len(config.image_channels),
            )
            own[Column(target.name, share, OWN, "deep").key] = network.probabilities(everything)
            if not epochs:
                embeddings = _embed_all(network.encoder, everything)
                epochs = [asdict(epoch) for epoch in network.epochs]
    return Representation(embeddings, np.full(len(everything), -1), epochs, own)


def _embed_all(encoder: Encoder, crops: Crops) -> Matrix:
    return embed(encoder, crops).double().numpy()
