"""The words and tables of a study's report, as Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.fit_heads import HEAD_KINDS
from training.metrics import Score
from training.study import ALL, REFERENCES, TRANSDUCTIVE
from training.study_config import StudyConfig, TableRow, Target
from training.study_heads import OWN
from training.study_results import EVERYWHERE, Difference, Line, Results, choose, main_metrics

if TYPE_CHECKING:
    from training.report import Agreement

MAIN_HEAD = HEAD_KINDS[0].name
EXPECTED_RECALL = 0.8  # that the size of the noise is worked out for


def write_markdown(
    results: Results, differences: Sequence[Difference], agreements: "Sequence[Agreement]", figures: Sequence[Path]
) -> str:
    """Return the report."""
    parts = ["# Study", *_what(results), *_noise(results, differences)]
    for cohort in dict.fromkeys(line.cohort for line in results.lines):
        for target in results.bench.config.study.targets:
            parts += _tables(results, differences, cohort, target)
    parts += ["## Kinds of heads", *_heads(results), "## Clusters and training", *_clusters(agreements)]
    parts += ["## Figures", *(f"![{path.stem}]({path.name})" for path in figures)]
    return "\n\n".join(parts) + "\n"


def _what(results: Results) -> Iterator[str]:
    config, arrays = results.bench.config, results.bench.cases.arrays
    study = config.study
    yield (
        f"{len(arrays)} cases of {len(np.unique(arrays.patient_ids))} patients from "
        f"{', '.join(np.unique(arrays.sites))}; {len(arrays.feature_names)} radiomics features; folds of patients, "
        f"{study.folds}, the same for all targets; seeds {', '.join(map(str, results.seeds))}"
        f" of {', '.join(map(str, study.seeds))} planned. A seed determines folds, networks and heads."
    )
    if results.unfinished:
        names = ", ".join(f"{source} ({cohort})" for cohort, source in results.unfinished)
        yield f"**Not finished, and left out here:** {names}."
    yield (
        f"Networks: widths {config.encoder.widths}, {config.encoder.dimension} dimensions, {config.pretraining.epochs} "
        f"epochs in batches of {config.pretraining.batch}, pretrained without labels on the training folds of all "
        "collections together, unless a table says *transductive*: then on all cases, those of the test fold "
        "included. All methods of a seed and fold share the plain warm-up, the number of steps and the seed. "
        "Features frozen, standardised inside the fold; penalty and temperature from inner folds of patients. "
        "*fused* is radiomics and deep features side by side; *volume*, *source* and *majority* know nothing else."
    )
    if study.rows:
        described = (f"*{name}* {_describe_row(name, row, config)}" for name, row in study.rows.items())
        yield f"Rows that differ from this: {'; '.join(described)}."
    yield (
        "Values are of out-of-fold predictions pooled over the folds and averaged over the seeds; in brackets 95 % "
        f"bootstrap intervals over patients ({config.heads.bootstrap} draws). Differences are paired: the same "
        "patients are drawn for both sides. A difference whose interval holds 0 is inside the noise, and no result; "
        "of many compared, one in twenty leaves it by chance."
    )
    yield f"Configuration: SHA-256 `{config.sha256()}`; cases `{results.bench.cases.digest}`."


def _describe_row(name: str, row: TableRow, config: StudyConfig) -> str:
    parts = [] if row.method == name else [f"is {row.method}"]
    if row.recipe:
        parts.append(f"has crops by {_list(config.recipes[row.recipe])}")
    if row.encoder is not None:
        parts.append(f"has widths {row.encoder.widths} and {row.encoder.dimension} dimensions")
    if row.pretraining:
        parts.append(f"is trained with {_list(row.pretraining)}")
    return ", ".join(parts)


def _list(table: Mapping[str, Any], prefix: str = "") -> str:
    return ", ".join(
        _list(value, f"{prefix}{key}.") if isinstance(value, dict) else f"{prefix}{key} = {value}"
        for key, value in table.items()
    )


def _noise(results: Results, differences: Sequence[Difference]) -> Iterator[str]:
    yield "## Size of the noise"
    rows = []
    for target in results.bench.config.study.targets:
        judged = results.judged(target.name)
        counts = np.bincount(judged.labels, minlength=len(target.classes))
        fewest = int(counts.argmin())
        alone = 1.96 * np.sqrt(EXPECTED_RECALL * (1 - EXPECTED_RECALL) / counts[fewest])
        rows.append(
            [
                target.name,
                f"{len(judged.labels)} / {judged.patients}",
                ", ".join(f"{name} {count}" for name, count in zip(target.classes, counts, strict=True)),
                f"{alone:.3f} ({target.classes[fewest]}, n = {counts[fewest]})",
                *(_half_width(differences, target, metric) for metric in main_metrics(target)[:3]),
            ]
        )
    yield _table(
        [
            "target",
            "cases / patients",
            "classes",
            f"binomial half-width of a recall of {EXPECTED_RECALL}",
            "measured, paired against plain: balanced accuracy",
            "macro AUC",
            "minority recall",
        ],
        rows,
    )
    yield (
        "The measured half-widths are medians over the paired differences of methods from *plain* on deep features: "
        "what a difference has to exceed to be seen with these cases and seeds."
    )


def _half_width(differences: Sequence[Difference], target: Target, metric: str) -> str:
    widths = [
        (one.score.high - one.score.low) / 2
        for one in differences
        if one.metric == metric
        and one.other.source == "plain"
        and (one.line.cohort, one.line.column.block) == (ALL, "deep")
        and (one.line.column.target, one.line.column.share) == (target.name, 1.0)
    ]
    return f"{np.median(widths):.3f}" if widths else "-"


def _tables(results: Results, differences: Sequence[Difference], cohort: str, target: Target) -> Iterator[str]:
    shares = {line.column.share for line in results.lines if line.cohort == cohort}
    for share in sorted(shares, reverse=True):
        lines = choose(
            results.lines,
            lambda line, share=share: (  # type: ignore[misc]
                (line.cohort, line.column.target, line.column.share) == (cohort, target.name, share)
                and line.column.head in (MAIN_HEAD, OWN)
            ),
        )
        if not lines:
            continue
        yield f"## {target.name}, {_describe(results, cohort)}, {share:.0%} of the labels"
        yield _scores(results, target, lines, EVERYWHERE)
        for site in target.within_sites:
            yield f"Within {site} alone, the same predictions ({len(results.judged(target.name, site).labels)} cases):"
            yield _scores(results, target, lines, site)
        yield "Paired differences:"
        yield _differences(target, [one for one in differences if one.line in lines])


def _describe(results: Results, cohort: str) -> str:
    if cohort == ALL:
        return "all cases"
    if cohort == TRANSDUCTIVE:
        return "transductive"
    skew = next(skew for skew in results.bench.config.study.skews if skew.name == cohort)
    return f"{skew.share:.0%} {skew.minority} in training"


def _scores(results: Results, target: Target, lines: Sequence[Line], site: str) -> str:
    metrics = main_metrics(target)
    header = ["features", *metrics, f"recalls ({', '.join(target.classes)})", "between seeds"]
    rows = []
    for line in lines:
        recalls = " / ".join(f"{results.score(line, f'recall of {name}', site).value:.2f}" for name in target.classes)
        deviation = results.seed_deviation(line, "balanced accuracy")
        scores = [_brief(results.score(line, metric, site)) for metric in metrics]
        label = f"{line.features} (network's own output)" if line.column.head == OWN else line.features
        rows.append([label, *scores, recalls, "-" if np.isnan(deviation) else f"± {deviation:.3f}"])
    return _table(header, rows)


def _differences(target: Target, differences: Sequence[Difference]) -> str:
    pairs: dict[tuple[Line, Line], list[Difference]] = {}
    for one in differences:
        pairs.setdefault((one.line, one.other), []).append(one)
    rows = []
    for (line, other), measured in pairs.items():
        versus = other.features if other.cohort == line.cohort or other.source == REFERENCES else "trained in the fold"
        cells = [
            f"{_signed(one.score)} {'' if one.verdict == 'inside the noise' else f'**{one.verdict}**'}".strip()
            for one in measured
        ]
        rows.append([line.features, versus, *cells])
    return _table(["features", "against", *main_metrics(target)], rows) + (
        "\n\nBold leaves the noise; everything else is inside it."
    )


def _heads(results: Results) -> Iterator[str]:
    for target in results.bench.config.study.targets:
        rows = []
        for block, source in (("radiomics", REFERENCES), ("deep", "plain"), ("fused", "plain")):
            for line in results.lines:
                column = line.column
                named = (line.cohort, line.source, column.block, column.target) == (ALL, source, block, target.name)
                if named and column.share == 1.0 and column.head != OWN:
                    metrics = ["balanced accuracy", "macro AUC", "minority recall", "accuracy", "calibration error"]
                    rows.append([line.features, column.head, *(_brief(results.score(line, name)) for name in metrics)])
        yield f"{target.name}:"
        yield _table(
            ["features", "head", "balanced accuracy", "macro AUC", "minority recall", "accuracy", "calibration error"],
            rows,
        )


def _clusters(agreements: "Sequence[Agreement]") -> Iterator[str]:
    yield (
        "Normalised mutual information of the last clusters with what they may follow, over the training rows, mean "
        "over seeds and folds; beside it the last epoch's loss, spread of the projections (1 even, 0 collapsed) and "
        "effective rank of the embeddings."
    )
    groups: dict[tuple[str, str], list[Agreement]] = {}
    for one in agreements:
        groups.setdefault((one.cohort, one.method), []).append(one)
    names = list(dict.fromkeys(name for one in agreements for name in one.agreement))
    rows = []
    for (cohort, method), members in groups.items():
        shares = [_mean([one.agreement[name] for one in members if name in one.agreement]) for name in names]
        last = [
            _mean([one.last_epoch[key] for one in members if key in one.last_epoch])
            for key in ("loss", "spread", "effective_rank")
        ]
        count = _mean([float(one.clusters) for one in members if one.clusters])
        rows.append([method if cohort == ALL else f"{method} ({cohort})", count, *shares, *last])
    yield _table(["method", "clusters", *names, "loss", "spread", "effective rank"], rows)


def _mean(values: Sequence[float]) -> str:
    return f"{np.mean(values):.2f}" if values else "-"


def _brief(score: Score) -> str:
    return f"{score.value:.3f} ({score.low:.3f}-{score.high:.3f})"


def _signed(score: Score) -> str:
    return f"{score.value:+.3f} ({score.low:+.3f} to {score.high:+.3f})"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
