"""Every published value of IBSI-1, and every comparable map of IBSI-2, beside ours and PyRadiomics'.

    python -m tests.bench.ibsi_table [--markdown FILE]

The data are looked for in RADFUSE_TEST_DATA, or in ../shared/data.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.ibsi_names import FEATURES
from tests.ibsi.reference import BENCHMARKS, Verdict, judge, phantom_of
from tests.ibsi.response_maps import compare_maps
from tests.ibsi.stock import stock_values
from tests.real_data import BESIDE_THE_REPOSITORY

PROCESSING = (
    ("interpolation", "aligns the new grid with the image's corner", "by the centres (section 2.4)"),
    ("mask", "interpolates by nearest neighbour", "linearly, cut at one half"),
    ("intensities", "keeps the image's number type: fractions stay, or are cut off", "rounded to whole numbers"),
    ("re-segmentation", "by an interval or by outliers", "by either or both (section 2.5)"),
    ("fixed bin size", "starts at a multiple of the width below the minimum", "at the interval's lower bound (2.7)"),
    ("aggregation", "averages over directions; slices always merged in 2D", "six ways (section 3.6)"),
)


@dataclass(frozen=True)
class Row:
    """A verdict and PyRadiomics' value, which is None for aggregations it does not offer."""

    verdict: Verdict
    stock: float | None

    @property
    def stock_agrees(self) -> bool:
        return self.stock is not None and self.verdict.reference.agrees(self.stock)


def main() -> None:
    """Print the totals; write the whole table where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    data = Path(os.environ.get("RADFUSE_TEST_DATA") or BESIDE_THE_REPOSITORY) / "ibsi"
    rows = {benchmark: list(compare(data, benchmark)) for benchmark in BENCHMARKS}
    totals, maps = "\n".join(total_lines(rows)), "\n".join(map_lines(data))
    sys.stdout.write(f"{totals}\n\n{maps}\n")
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(document(rows, totals, maps)) + "\n")


def compare(data: Path, benchmark: str) -> Iterator[Row]:
    """Judge one benchmark."""
    stock = stock_values(benchmark, phantom_of(data, benchmark))
    for verdict in judge(data, benchmark):
        yield Row(verdict, stock.get(verdict.tag))


def total_lines(rows: dict[str, list[Row]]) -> Iterator[str]:
    """Yield the table of totals."""
    yield "| configuration | values within tolerance | PyRadiomics 3.0.1, its own processing |"
    yield "|---|---|---|"
    for benchmark, those in rows.items():
        agreed = sum(row.verdict.agrees for row in those)
        offered = [row for row in those if row.stock is not None]
        stock = f"{sum(row.stock_agrees for row in offered)} of {len(offered)}"
        yield f"| {benchmark} | {agreed} of {len(those)} | {stock} |"
    every = [row for those in rows.values() for row in those]
    offered = [row for row in every if row.stock is not None]
    agreed, stock_agreed = sum(row.verdict.agrees for row in every), sum(row.stock_agrees for row in offered)
    yield f"| all | {agreed} of {len(every)} | {stock_agreed} of {len(offered)} |"


def map_lines(data: Path) -> Iterator[str]:
    """Yield the table of response maps."""
    yield "| IBSI-2 test | phantom | filter | largest difference / range |"
    yield "|---|---|---|---|"
    for found in compare_maps(data):
        yield f"| {found.test} | {found.phantom} | {found.filter} | {found.share:.2g} |"


def document(rows: dict[str, list[Row]], totals: str, maps: str) -> Iterator[str]:
    """Yield the whole document's lines."""
    yield "# IBSI-1 reference values\n"
    yield (
        "A value agrees if it lies within the published tolerance once it is rounded to three significant figures, as "
        "the published values are. The files of reference values hold a value only where a consensus was reached; "
        "they do not say how strong it was, so each of these values counts. PyRadiomics is run with the nearest "
        "settings it offers; a dash stands where it does not offer the aggregation.\n"
    )
    yield totals
    yield from _deviations()
    yield "\n## IBSI-2 response maps\n"
    yield (
        "Largest difference over the range of the reference map. The recursive Laplacian of Gaussian and the wavelets "
        "are PyRadiomics' own, divided by sigma squared in voxels for the Laplacian, which IBSI does not normalise. "
        "PyRadiomics offers no other filter of IBSI-2.\n"
    )
    yield maps
    for benchmark, those in rows.items():
        yield f"\n## {benchmark}\n"
        yield "| feature | IBSI | tag | value | reference | tolerance | verdict | PyRadiomics | verdict |"
        yield "|---|---|---|---|---|---|---|---|---|"
        yield from map(_line, those)


def _deviations() -> Iterator[str]:
    yield "\n## How PyRadiomics deviates\n"
    yield "| step | PyRadiomics | IBSI |"
    yield "|---|---|---|"
    for step, stock, ours in PROCESSING:
        yield f"| {step} | {stock} | {ours} |"
    yield "\n| feature | IBSI | PyRadiomics |"
    yield "|---|---|---|"
    for feature in FEATURES:
        if feature.deviation:
            yield f"| {feature.name} | {feature.code} | {feature.deviation} |"


def _line(row: Row) -> str:
    verdict, reference = row.verdict, row.verdict.reference
    stock = "-" if row.stock is None else f"{row.stock:.6g}"
    cells = (
        verdict.feature.name,
        verdict.feature.code,
        verdict.tag,
        f"{verdict.value:.6g}",
        f"{reference.value:g}",
        f"{reference.tolerance:g}",
        _word(verdict.agrees),
        stock,
        "-" if row.stock is None else _word(row.stock_agrees),
    )
    return f"| {' | '.join(cells)} |"


def _word(agrees: bool) -> str:
    return "agrees" if agrees else "**deviates**"


if __name__ == "__main__":
    main()
