"""Figures of a study, small PNG files: bars with intervals, maps of embeddings, reliability, confusion."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from training.metrics import Matrix, Predictions, Score, confusion, reliability

DOTS_PER_INCH = 80
COLOURS = mpl.colormaps["tab10"]
UNKNOWN = ""  # category that is drawn grey and first


def draw_bars(path: Path, title: str, panels: Mapping[str, Mapping[str, Score]], chance: Mapping[str, float]) -> None:
    """Draw one panel of horizontal bars per measure: a bar per row of the table, its interval, and chance."""
    rows = max(len(scores) for scores in panels.values())
    figure = Figure(figsize=(3.6 * len(panels) + 1.6, 0.22 * rows + 1.2), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (metric, scores) in zip(axes, panels.items(), strict=True):
        at = np.arange(len(scores))
        values = np.array([score.value for score in scores.values()])
        reach = np.array([(score.value - score.low, score.high - score.value) for score in scores.values()]).T
        axis.barh(at, values, xerr=np.maximum(reach, 0.0), color=COLOURS(0), alpha=0.75, ecolor="black", capsize=2)
        axis.set_yticks(at, list(scores), fontsize=7)
        axis.set_xlabel(metric, fontsize=8)
        axis.tick_params(axis="x", labelsize=7)
        if metric in chance:
            axis.axvline(chance[metric], color="grey", linestyle=":")
        low = min(float((values - reach[0]).min()), chance.get(metric, 1.0))
        axis.set_xlim(max(0.0, low - 0.05), min(1.0, float((values + reach[1]).max()) + 0.03))
    axes[0].invert_yaxis()
    figure.suptitle(title, fontsize=9)
    _save(figure, path)


def draw_map(path: Path, title: str, embeddings: Matrix, colourings: Mapping[str, NDArray[np.str_]], seed: int) -> None:
    """Draw a t-SNE map of the embeddings [N, d], once per colouring [N]."""
    z = (embeddings - embeddings.mean(axis=0)) / (embeddings.std(axis=0) + 1e-9)
    perplexity = float(min(30, (len(z) - 1) // 3))
    places = TSNE(random_state=seed, perplexity=perplexity, init="pca", learning_rate="auto").fit_transform(z)
    figure = Figure(figsize=(3.2 * len(colourings), 3.3), layout="constrained")
    for axis, (name, values) in zip(
        figure.subplots(1, len(colourings), squeeze=False)[0], colourings.items(), strict=True
    ):
        for number, value in enumerate(np.unique(values)):
            colour = "lightgrey" if value == UNKNOWN else COLOURS(number % 10)
            chosen = places[values == value]
            axis.scatter(*chosen.T, s=3, color=colour, label=value or "not known", linewidths=0)
        axis.set_title(name, fontsize=8)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.legend(fontsize=6, markerscale=2, loc="best", framealpha=0.6)
    figure.suptitle(title, fontsize=9)
    _save(figure, path)


def draw_reliability(path: Path, title: str, predictions: Mapping[str, Sequence[Predictions]]) -> None:
    """Draw how often the most probable class is right against its probability; classes weighted to be equal."""
    figure = Figure(figsize=(3.0 * len(predictions), 3.1), layout="constrained")
    axes = figure.subplots(1, len(predictions), sharey=True, squeeze=False)[0]
    for axis, (name, per_seed) in zip(axes, predictions.items(), strict=True):
        axis.plot([0, 1], [0, 1], color="grey", linestyle=":")
        for number, one in enumerate(per_seed):
            diagram = reliability(one)
            axis.plot(diagram.confidence, diagram.accuracy, color=COLOURS(number % 10), linewidth=1, alpha=0.7)
            axis.scatter(diagram.confidence, diagram.accuracy, s=200 * diagram.share, color=COLOURS(number % 10))
        axis.set_title(name, fontsize=8)
        axis.set_xlabel("probability", fontsize=8)
        axis.set_xlim(1 / per_seed[0].probabilities.shape[1] - 0.05, 1.0)
        axis.tick_params(labelsize=7)
    axes[0].set_ylabel("share right", fontsize=8)
    figure.suptitle(title, fontsize=9)
    _save(figure, path)


def draw_confusions(
    path: Path, title: str, predictions: Mapping[str, Sequence[Predictions]], classes: Sequence[str]
) -> None:
    """Draw confusion matrices, rows scaled to one, averaged over the seeds."""
    figure = Figure(figsize=(2.7 * len(predictions), 2.9), layout="constrained")
    axes = figure.subplots(1, len(predictions), squeeze=False)[0]
    for axis, (name, per_seed) in zip(axes, predictions.items(), strict=True):
        counts = np.mean([confusion(one, np.ones((1, len(one.labels))))[0] for one in per_seed], axis=0)
        _draw_matrix(axis, counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-9), classes)
        axis.set_title(name, fontsize=8)
    axes[0].set_ylabel("true", fontsize=8)
    figure.suptitle(title, fontsize=9)
    _save(figure, path)


def _draw_matrix(axis: Axes, shares: Matrix, classes: Sequence[str]) -> None:
    axis.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    for (row, column), share in np.ndenumerate(shares):
        axis.text(
            column, row, f"{share:.2f}", ha="center", va="center", fontsize=7, color="white" if share > 0.6 else "black"
        )
    axis.set_xticks(range(len(classes)), list(classes), fontsize=6)
    axis.set_yticks(range(len(classes)), list(classes), fontsize=6)
    axis.set_xlabel("predicted", fontsize=8)


def _save(figure: Figure, path: Path) -> None:
    """Write a PNG without anything that changes from run to run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})
