import csv

import numpy as np
import pytest
from PIL import Image

from tests.training.test_study import CONFIG, MAIN, finished
from training.config import ConfigError
from training.metrics import Predictions, balanced_accuracy
from training.report import CLUSTERS, DIFFERENCES, MARKDOWN, SCORES, write_report
from training.study import ALL, Bench, Store, expected_files
from training.study_cases import open_cases
from training.study_heads import Column
from training.study_results import Line, Results

__all__ = ["finished"]


@pytest.fixture(scope="module")
def reported(finished, tmp_path_factory):
    """The tiny study's bench and the folder of its report."""
    cases, store = finished
    bench, out = Bench(CONFIG, open_cases(cases), Store(store)), tmp_path_factory.mktemp("report")
    write_report(bench, out)
    return bench, out


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_scores_are_those_of_the_predictions_in_the_store(reported):
    bench, out = reported
    found = [
        row
        for row in rows(out / SCORES)
        if (row["cohort"], row["method"], row["features"], row["labels"]) == (ALL, "plain", "fused", "1.0")
        and (row["head"], row["metric"]) == (MAIN, "balanced accuracy")
    ]
    assert len(found) == 1
    probabilities = np.empty((60, 4))
    for fold in range(2):
        with np.load(bench.predictions_path("plain", 1, fold, ALL)) as stored:
            probabilities[stored["rows|kind"]] = stored[Column("kind", 1.0, MAIN, "fused").key]
    truth = Predictions(bench.cases.labels_of(CONFIG.study.targets[0]), probabilities)
    assert float(found[0]["value"]) == pytest.approx(balanced_accuracy(truth, np.ones((1, 60)))[0], rel=1e-4)
    assert float(found[0]["low"]) <= float(found[0]["value"]) <= float(found[0]["high"])


def test_every_line_has_every_measure(reported):
    bench, out = reported
    results = Results(bench)
    metrics = results.judged("kind").metrics
    assert len(rows(out / SCORES)) == len(results.lines) * len(metrics)
    assert {"balanced accuracy", "macro AUC", "quadratic kappa", "calibration error"} <= set(metrics)


def test_differences_are_paired_and_named_by_whether_they_leave_the_noise(reported):
    _, out = reported
    found = rows(out / DIFFERENCES)
    asked = {(row["features"], row["method"], row["other_features"], row["other_method"]) for row in found}
    assert ("deep", "re-a", "deep", "plain") in asked
    assert ("deep", "re-a", "deep", "shuffled-re") in asked
    assert ("fused", "plain", "radiomics", "") in asked
    assert {other for *row, _, other in asked if row == ["deep", "bare"]} == {"plain", "re-a", "shuffled-re"}
    for row in found:
        inside = float(row["low"]) <= 0 <= float(row["high"])
        assert (row["verdict"] == "inside the noise") == inside


def test_a_line_does_not_differ_from_itself(reported):
    bench, _ = reported
    results = Results(bench)
    line = Line(ALL, Column("kind", 1.0, MAIN, "deep"), "plain")
    same = results.difference(line, line, "macro AUC")
    assert (same.score.value, same.score.low, same.score.high) == (0, 0, 0)
    assert same.verdict == "inside the noise"


def test_transductive_rows_are_compared_with_those_of_the_folds(reported):
    _, out = reported
    found = [row for row in rows(out / DIFFERENCES) if row["cohort"] == "transductive"]
    assert {row["other_cohort"] for row in found} == {"transductive", ALL}


def test_clusters_are_compared_with_class_site_and_volume(reported):
    _, out = reported
    found = [row for row in rows(out / CLUSTERS) if row["method"] == "re-a"]
    assert len(found) == 2
    for row in found:
        assert 0.0 <= float(row["nmi_kind"]) <= 1.0
        assert 0.0 <= float(row["nmi_volume_tertile"]) <= 1.0
        assert float(row["nmi_site"]) == 0.0  # one site: nothing to agree with


def test_the_text_names_every_part_and_shows_every_figure(reported):
    _, out = reported
    text = (out / MARKDOWN).read_text()
    for part in ("Size of the noise", "50% of the labels", "transductive", "10% lobulated in training", "majority"):
        assert part in text
    assert "*supervised* is trained with epochs = 3; *bare* is re-a, has crops by mask_channel = False" in text
    figures = sorted(out.glob("*.png"))
    assert {"bars-kind.png", "confusion-kind.png", "reliability-kind.png", "map-plain.png"} <= {
        path.name for path in figures
    }
    for path in figures:
        assert f"({path.name})" in text
        assert path.stat().st_size < 120_000
        with Image.open(path) as picture:
            assert min(picture.size) > 150


def test_an_unfinished_study_reports_what_is_whole_and_says_what_is_not(finished, tmp_path):
    cases, store = finished
    bench, part = Bench(CONFIG, open_cases(cases), Store(store)), Bench(CONFIG, open_cases(cases), Store(tmp_path))
    with pytest.raises(ConfigError, match="finished"):
        write_report(part, tmp_path / "report")
    for path in expected_files(bench):
        if "references" in path.parts or ("plain" in path.parts and ALL in path.parts):
            copy = tmp_path / path.relative_to(store)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    write_report(part, tmp_path / "report")
    text = (tmp_path / "report" / MARKDOWN).read_text()
    assert "Not finished" in text
    assert "re-a (all)" in text
    assert "| deep, plain |" in text
