"""The report of a study: every number as CSV, tables and their reading as Markdown, figures as PNG."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import normalized_mutual_info_score
from tqdm import tqdm

from training.config import ConfigError
from training.figures import draw_bars, draw_confusions, draw_map, draw_reliability
from training.fit_heads import HEAD_KINDS
from training.folds import volume_tertiles
from training.metrics import Score
from training.report_text import write_markdown
from training.representation import Representation
from training.study import ALL, REFERENCES, Bench
from training.study_heads import MAJORITY, OWN, Column
from training.study_results import EVERYWHERE, Difference, Line, Results, choose, main_metrics

MAIN_HEAD = HEAD_KINDS[0].name
MARKDOWN, SCORES, DIFFERENCES, CLUSTERS = "report.md", "scores.csv", "differences.csv", "clusters.csv"


@dataclass(frozen=True)
class Agreement:
    """What clusters go with, as normalised mutual information, and how the training that made them went."""

    cohort: str
    method: str
    seed: int
    fold: str
    clusters: int
    agreement: dict[str, float]
    last_epoch: dict[str, Any]


def write_report(bench: Bench, out: Path) -> Results:
    """Write the report of what the store holds of a study into the folder `out`.

    Raises:
        ConfigError: not one seed has its references yet.
    """
    results = Results(bench)
    if not results.seeds:
        raise ConfigError("no seed of the study is finished yet")
    out.mkdir(parents=True, exist_ok=True)
    _write_csv(out / SCORES, _score_rows(results))
    differences = [
        results.difference(line, other, metric)
        for line, other in results.pairs()
        if line.column.head in (MAIN_HEAD, OWN)
        for metric in main_metrics(results.target(line.column.target))
    ]
    _write_csv(out / DIFFERENCES, map(_difference_row, differences))
    agreements = list(_agreements(results))
    _write_csv(out / CLUSTERS, map(_agreement_row, agreements))
    figures = draw_figures(results, out)
    (out / MARKDOWN).write_text(write_markdown(results, differences, agreements, figures))
    return results


def draw_figures(results: Results, out: Path) -> list[Path]:
    """Draw the figures of every target; return their paths in the order of the report."""
    paths: list[Path] = []
    for target in results.bench.config.study.targets:
        lines = choose(results.lines, lambda line, name=target.name: _is_main(line, name))  # type: ignore[misc]
        metrics = main_metrics(target)[:2]
        chance = {"balanced accuracy": 1 / len(target.classes), "macro AUC": 0.5}
        panels = {
            metric: {line.features: results.score(line, metric) for line in lines if line.column.block != MAJORITY}
            for metric in metrics
        }
        paths.append(out / f"bars-{target.name}.png")
        draw_bars(paths[-1], f"{target.name}: out of fold, 95 % intervals over patients", panels, chance)
        shown = {line.features: results.predictions(line) for line in _examples(lines)}
        paths.append(out / f"reliability-{target.name}.png")
        draw_reliability(paths[-1], f"{target.name}: reliability, one line per seed", shown)
        paths.append(out / f"confusion-{target.name}.png")
        draw_confusions(paths[-1], f"{target.name}: confusion", shown, target.classes)
    return paths + list(_draw_maps(results, out))


def _draw_maps(results: Results, out: Path) -> Iterator[Path]:
    """Draw one map of embeddings per method of the first seed and fold, for the first few methods."""
    drawn: set[str] = set()
    arrays = results.bench.cases.arrays
    for unit, method, path in results.representations():
        if unit.cohort != ALL or unit.seed != results.seeds[0] or method in drawn or len(drawn) == 3:
            continue
        drawn.add(method)
        with np.load(path) as stored:
            found = Representation.from_arrays(dict(stored))
        clusters = np.array(["" if cluster < 0 else f"cluster {cluster}" for cluster in found.clusters])
        colourings = {target.name: arrays.labels[target.name] for target in results.bench.config.study.targets}
        colourings |= {"site": arrays.sites}
        if (found.clusters >= 0).any():
            colourings["cluster (training folds)"] = clusters
        file = out / f"map-{method}.png"
        draw_map(file, f"Embeddings of {method}, t-SNE", found.embeddings, colourings, seed=unit.seed)
        yield file


def _examples(lines: Sequence[Line]) -> list[Line]:
    """Return radiomics, and the first method's deep and fused features."""
    first = next((line.source for line in lines if line.source != REFERENCES), REFERENCES)
    return [line for line in lines if line.column.block == "radiomics" or line.source == first]


def _is_main(line: Line, target: str) -> bool:
    column = line.column
    return line.cohort == ALL and column.target == target and column.share == 1.0 and column.head in (MAIN_HEAD, OWN)


def _score_rows(results: Results) -> Iterator[dict[str, Any]]:
    for line in tqdm(results.lines, desc="scores", unit="row"):
        target = results.target(line.column.target)
        for site in (EVERYWHERE, *target.within_sites):
            judged = results.judged(target.name, site)
            for metric in judged.metrics:
                score = results.score(line, metric, site)
                deviation = results.seed_deviation(line, metric) if site == EVERYWHERE else float("nan")
                yield _name_row(line) | {
                    "site": site or "all",
                    "metric": metric,
                    **_score_row(score),
                    "deviation_between_seeds": _number(deviation),
                    "seeds": len(results.seeds),
                    "cases": len(judged.labels),
                    "patients": judged.patients,
                }


def _difference_row(difference: Difference) -> dict[str, Any]:
    names = {f"other_{key}": value for key, value in _name_row(difference.other).items()}
    row = _name_row(difference.line) | names | {"metric": difference.metric}
    return row | _score_row(difference.score) | {"verdict": difference.verdict}


def _agreements(results: Results) -> Iterator[Agreement]:
    """Yield what the clusters of every finished representation go with, over the cases that have both."""
    bench = results.bench
    tertiles = volume_tertiles(bench.cases.arrays.volumes_mm3)
    others = {target.name: bench.cases.labels_of(target) for target in bench.config.study.targets}
    others |= {"site": np.unique(bench.cases.arrays.sites, return_inverse=True)[1], "volume tertile": tertiles}
    for unit, method, path in results.representations():
        with np.load(path) as stored:
            found = Representation.from_arrays(dict(stored))
        clustered = found.clusters >= 0
        agreement = {
            name: _mutual_information(values[both], found.clusters[both])
            for name, values in others.items()
            if (both := clustered & (values >= 0)).any()
        }
        last = found.epochs[-1] if found.epochs else {}
        count = len(np.unique(found.clusters[clustered]))
        fold = "all" if len(unit.folds) > 1 else str(unit.folds[0])
        yield Agreement(unit.cohort, method, unit.seed, fold, count, agreement, last)


def _mutual_information(values: NDArray[np.intp], clusters: NDArray[np.intp]) -> float:
    """Return the normalised mutual information; 0 where there is one value, or one cluster: nothing to agree with."""
    if min(len(np.unique(values)), len(np.unique(clusters))) < 2:
        return 0.0
    return float(normalized_mutual_info_score(values, clusters))


def _agreement_row(one: Agreement) -> dict[str, Any]:
    start = {"cohort": one.cohort, "method": one.method, "seed": one.seed, "fold": one.fold, "clusters": one.clusters}
    shares = {f"nmi_{name.replace(' ', '_')}": _number(value) for name, value in one.agreement.items()}
    last = {f"last_{key}": _number(value) for key, value in one.last_epoch.items() if isinstance(value, float)}
    return start | shares | last


def _name_row(line: Line) -> dict[str, Any]:
    column: Column = line.column
    method = "" if line.source == REFERENCES else line.source
    return {
        "cohort": line.cohort,
        "target": column.target,
        "labels": column.share,
        "head": column.head,
        "features": column.block,
        "method": method,
    }


def _score_row(score: Score) -> dict[str, str]:
    return {"value": _number(score.value), "low": _number(score.low), "high": _number(score.high)}


def _number(value: float) -> str:
    return f"{value:.5g}"


def _write_csv(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write the rows under all their names, in the order of first appearance."""
    written = list(rows)
    names = list(dict.fromkeys(name for row in written for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(written)
