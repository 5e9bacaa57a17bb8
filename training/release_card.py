"""The card of a bundle that was trained on real cases: sources, licences, numbers with intervals, and limits."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from training.release_config import ReleaseConfig

if TYPE_CHECKING:
    from training.release import Findings
    from training.release_heads import HeadFindings, Scores

REPORT = "report/report.md"


def write_release_card(config: ReleaseConfig, findings: "Findings") -> str:
    """Return the card as Markdown."""
    parts = [_what(config, findings), _sources(config, findings), _training(config, findings)]
    parts += [_head(head, config) for head in findings.heads]
    return "\n\n".join((*parts, _limits(config), _reproduce(config))) + "\n"


def _what(config: ReleaseConfig, findings: "Findings") -> str:
    about = config.release
    mark = "**A demonstration. " if about.demonstration else "**For research. "
    targets = "; ".join(f"`{head.target.name}` ({', '.join(head.target.classes)})" for head in findings.heads)
    return f"""# {about.name} {about.version}

{mark}Not a medical device; not for decisions about a patient.**

{config.narrative.purpose}

Channels: {", ".join(config.channels)} ({about.modality}). Predicts {targets}, each from the fused vector: PyRadiomics'
preset `{config.radiomics}` and {config.encoder.dimension} deep features.

Licence of the weights: {about.licence}"""


def _sources(config: ReleaseConfig, findings: "Findings") -> str:
    rows = "\n".join(
        f"| {one.name} | {one.what} | {one.licence} | {one.reference} |" for one in config.narrative.collections
    )
    sites = ", ".join(f"{site} {count}" for site, count in findings.sites.items())
    return f"""## What it was trained on

| collection | what | licence | reference |
|---|---|---|---|
{rows}

{findings.cases} cases were used ({sites}). {_unusable(findings)}No image, nor part of one, is in the bundle."""


def _unusable(findings: "Findings") -> str:
    if not findings.unusable:
        return ""
    kinds = sorted({finding.kind for finding in findings.unusable})
    counts = ", ".join(f"{sum(one.kind == kind for one in findings.unusable)} `{kind}`" for kind in kinds)
    return f"Found missing or odd: {counts}. "


def _training(config: ReleaseConfig, findings: "Findings") -> str:
    crop, last = config.preprocessing, findings.epochs[-1]
    edge = f"{crop.extent_mm:g} mm"
    if crop.extent == "roi":
        edge = f"{crop.roi_scale:g} times the region's longest side, at least {edge}"
    context = "" if crop.context_mm is None else f", nothing beyond {crop.context_mm:g} mm around its bounding box"
    settings = config.pretraining
    return f"""## How it was made

1. Crops of {crop.crop_voxels}^3 voxels, {edge} wide{context},
   cut by the service's own preprocessing{", the mask as the last channel" if crop.mask_channel else ""}.
2. A residual 3D network (widths {config.encoder.widths}) pretrained without labels on all cases: objective
   `{settings.objective}`, balance `{_balance(config)}`, {settings.epochs} epochs, batches of {settings.batch}.
   Last epoch: loss {last.loss:.3f}, spread of the projections {last.spread:.2f} (1 even, 0 collapsed), effective rank
   of the embeddings {last.effective_rank:.1f} of {config.encoder.dimension}.
3. Exported to ONNX; largest difference from PyTorch at batches of 1, 2 and 5 real crops: {findings.parity:g} of the
   embedding's standard deviation.
4. The network frozen; for each target a class-weighted logistic regression on the standardised fused features, its
   penalty and temperature from inner folds of patients. Probabilities are those of a population in which the classes
   are equally frequent."""


def _balance(config: ReleaseConfig) -> str:
    balance = config.pretraining.balance
    return balance.strategy if balance.strategy in ("none", "dro", "bcl") else f"{balance.strategy} {balance.variant}"


def _head(head: "HeadFindings", config: ReleaseConfig) -> str:
    counts = ", ".join(f"{name} {count}" for name, count in head.counts.items())
    fired = "\n".join(f"- {site}: {_share(counts)}" for site, counts in head.novelty_fired.items())
    return f"""## Head `{head.target.name}`

{config.narrative.meanings[head.target.name]}

{sum(head.counts.values())} labelled cases of {head.patients} patients: {counts}.
C = {head.inverse_penalty:g}, temperature {head.temperature:.3f}.

{config.heads.folds} folds of patients; 95 % bootstrap intervals over patients. The encoder has seen every crop, without
its label (transductive){_where_inside(config)}.

{_table(head.rows)}

`in_distribution` is false where the mean squared whitened projection exceeds {head.novelty_threshold:.3f}, the
{config.heads.novelty_percentile:g}th percentile of out-of-fold scores. On the cases at hand, by source, it fires on

{fired}"""


def _where_inside(config: ReleaseConfig) -> str:
    if config.release.study_command is None:
        return ""
    return f"; [the report]({REPORT}) has pretraining inside the folds, comparators and controls"


def _table(rows: Sequence["Scores"]) -> str:
    measures = list(rows[0].measures)
    lines = ["| features | " + " | ".join(measures) + " |", "|---" * (len(measures) + 1) + "|"]
    lines += [f"| {row.features} | " + " | ".join(str(row.measures[name]) for name in measures) + " |" for row in rows]
    return "\n".join(lines)


def _share(counts: tuple[int, int]) -> str:
    fired, total = counts
    return f"{fired} of {total} ({fired / total:.1%})" if total else "none at hand"


def _limits(config: ReleaseConfig) -> str:
    return f"""## Confounds

{_list(config.narrative.confounds)}

## What it must not be used for

{_list(config.narrative.not_for)}"""


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _reproduce(config: ReleaseConfig) -> str:
    steps: Mapping[str, str | None] = {"the bundle": config.release.command, "the report": config.release.study_command}
    lines = "\n".join(f"- {what}: `{command}`" for what, command in steps.items() if command)
    return f"""## To reproduce

{lines}

On the CPU. Seed {config.seed}; the configuration's SHA-256 is `{config.sha256()}`."""
