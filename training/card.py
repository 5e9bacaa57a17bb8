"""A bundle's card: what it is, how it was made, what it can and cannot do, in numbers with intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

from training.config import BundleConfig
from training.evaluate import Row
from training.phantoms import FREQUENCIES, KINDS
from training.pretrain import Epoch


@dataclass(frozen=True)
class NoveltyFindings:
    """How often the novelty flag fires, as (fired, of how many)."""

    fresh: tuple[int, int]
    strangers: dict[str, tuple[int, int]]
    threshold: float
    components: int


@dataclass(frozen=True)
class Findings:
    """Everything the card reports."""

    rows: Sequence[Row]
    epochs: Sequence[Epoch]
    novelty: NoveltyFindings
    temperature: float
    inverse_penalty: float
    cross_entropy: float  # of the fused head on fresh phantoms, nats, class-balanced


def write_card(config: BundleConfig, findings: Findings) -> str:
    """Return the card as Markdown."""
    parts = (_what(config), _training(config, findings), _table(findings.rows), _novelty(findings, config))
    return "\n\n".join((*parts, _limits(), _reproduce(config))) + "\n"


def _what(config: BundleConfig) -> str:
    mix = ", ".join(f"{kind} {share:.0%}" for kind, share in FREQUENCIES.items())
    return f"""# {config.about.name} {config.about.version}

**A demonstration, trained on synthetic images alone. Not for use on patients.**

It tells which of four kinds a lesion in a lung CT phantom is ({mix}),
from {config.encoder.dimension} deep features fused with PyRadiomics' preset `{config.radiomics}`.
Sizes overlap, so that volume does not tell the kind. The mask follows the lesion's body; the spicules of a spiculated
lesion lie outside it, where radiomics cannot see them and the crop can.

Licence: {config.about.licence}. No patient's image, and nothing derived from one, went into it."""


def _training(config: BundleConfig, findings: Findings) -> str:
    crop, pretraining, last = config.preprocessing, config.pretraining, findings.epochs[-1]
    edge = f"{crop.extent_mm:g} mm"
    if crop.extent == "roi":
        edge = f"{crop.roi_scale:g} times the lesion's longest side, at least {edge}"
    return f"""## How it was made

1. {config.cohorts.training} phantoms (seeds from {config.cohorts.first_seed});
   crops of {crop.crop_voxels}^3 voxels, {edge} wide,
   cut by the service's own preprocessing{", the mask as second channel" if crop.mask_channel else ""}.
2. A residual 3D network (widths {config.encoder.widths}) pretrained without labels by SimSiam (arXiv 2011.10566):
   {pretraining.epochs} epochs, batches of {pretraining.batch}. Last epoch: loss {last.loss:.3f} (-1 at best),
   spread of the projections {last.spread:.2f} (1 even, 0 collapsed),
   effective rank of the embeddings {last.effective_rank:.1f} of {config.encoder.dimension}.
3. The network frozen; a class-weighted multinomial logistic regression on the standardised fused features;
   penalty (C = {findings.inverse_penalty:g}) and temperature ({findings.temperature:.3f}) from inner folds.
   Probabilities are those of a population in which the kinds are equally frequent."""


def _table(rows: Sequence[Row]) -> str:
    lines = [
        "## What the features can do",
        "",
        "Balanced accuracy and macro AUC (one against rest) with 95 % bootstrap intervals over cases, and the recall",
        f"of each kind ({', '.join(KINDS)}). *Cross-validated*: folds of the training phantoms, the network",
        "having seen all of them without labels. *Fresh*: phantoms that nothing was fitted on. *Untrained*: the same",
        "network with random weights; where its intervals overlap those of *deep*, pretraining has added nothing that",
        "so many phantoms can show.",
        "",
        "| features | cases | balanced accuracy | macro AUC | recalls |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        recalls = " / ".join(f"{recall:.2f}" for recall in row.recalls)
        lines.append(f"| {row.features} | {row.cases} | {row.balanced_accuracy} | {row.macro_auc} | {recalls} |")
    return "\n".join(lines)


def _novelty(findings: Findings, config: BundleConfig) -> str:
    novelty = findings.novelty
    strangers = "\n".join(f"- {name}: {_share(counts)}" for name, counts in novelty.strangers.items())
    return f"""## Probabilities and the novelty flag

Class-balanced cross-entropy of the fused head on the fresh phantoms: {findings.cross_entropy:.3f} nats
(knowing nothing: 1.386).

`in_distribution` is false where the mean squared whitened projection on {novelty.components} principal components
exceeds {novelty.threshold:.3f}, the {config.heads.novelty_percentile:g}th percentile of out-of-fold scores. It fires on

- fresh phantoms of the training layout (false alarms): {_share(novelty.fresh)}
{strangers}"""


def _share(counts: tuple[int, int]) -> str:
    fired, total = counts
    return f"{fired} of {total} ({fired / total:.1%})"


def _limits() -> str:
    return """## What it must not be used for

Anything about a patient. Real lungs, scanners, readers' outlines and lesions vary in ways that these phantoms do not;
the numbers above say how well the software works on its own synthetic data and nothing more."""


def _reproduce(config: BundleConfig) -> str:
    return f"""## To reproduce

`{config.about.command}`, on the CPU. Seed {config.seed}; the configuration's SHA-256 is `{config.sha256()}`."""
