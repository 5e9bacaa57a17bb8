"""The columns of a table of results, and its rows: one per region, or one that says why there is none.

Standard library only, for the API and the client build tables too.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Final, Self, TypeAlias

from service.feature_terms import ARBITRARY_UNIT, NO_UNIT, describe_feature

Document: TypeAlias = Mapping[str, Any]
Entry: TypeAlias = tuple[Document, Mapping[str, str | None]]  # a job's document, and what its row keeps beside it

PROBLEM: Final = "problem"
GIVEN: Final = "given_"  # before the name of an extra column that the table has already


class Kind(StrEnum):
    """What the values of a column are."""

    TEXT = "text"
    WHOLE = "whole number"
    NUMBER = "number"
    YES_NO = "yes or no"


@dataclass(frozen=True)
class Column:
    """One column: its name, the kind of its values, and what is known of their meaning."""

    name: str
    kind: Kind
    meaning: Mapping[str, str] = field(default_factory=dict)


LEADING: Final = (
    Column("case_id", Kind.TEXT),
    Column("job_id", Kind.TEXT),
    Column("model", Kind.TEXT),
    Column("roi", Kind.TEXT),
    Column("voxels", Kind.WHOLE, {"unit": NO_UNIT}),
    Column("volume_mm3", Kind.NUMBER, {"unit": "mm3"}),
)


@dataclass(frozen=True)
class Columns:
    """The columns of one table, fixed before its first row is written.

    In order: the case and region, `extra`, the problem if `with_problem`, the features, the predictions.

    Attributes:
        extra: further columns of text, as the caller names them.
        with_problem: give a job without a result a row that says why; else it has none.
        features: names, in order.
        predictions: after the features.
        intensity_unit: UCUM unit of the images' own intensities, where all results have the same.
    """

    extra: tuple[str, ...] = ()
    with_problem: bool = False
    features: tuple[str, ...] = ()
    predictions: tuple[Column, ...] = ()
    intensity_unit: str = ARBITRARY_UNIT

    @classmethod
    def gather(cls, documents: Iterable[Document], extra: Sequence[str] = (), *, with_problem: bool = False) -> Self:
        """Return the columns that hold every one of these documents.

        It looks at each once and keeps none: to write a table too large for memory, go through the documents twice.
        Where all of them have the same features and predictions, as those of one model and one setting have, one
        document will do.
        """
        features: dict[str, None] = {}
        predictions: dict[str, Column] = {}
        units: set[str] = set()
        for document in documents:
            for region in document.get("rois") or ():
                features |= dict.fromkeys(region["features"])
                predictions |= {column.name: column for column, _ in _predicted(region["predictions"])}
                units.add(document.get("provenance", {}).get("intensity_unit", ARBITRARY_UNIT))
        unit = units.pop() if len(units) == 1 else ARBITRARY_UNIT
        return cls(tuple(extra), with_problem, tuple(features), tuple(predictions.values()), unit)

    def __iter__(self) -> Iterator[Column]:
        yield from LEADING
        yield from (Column(name, Kind.TEXT) for name in self._extra_titles())
        if self.with_problem:
            yield Column(PROBLEM, Kind.TEXT)
        for name in self.features:
            yield Column(name, Kind.NUMBER, _meaning_of(name, self.intensity_unit))
        yield from self.predictions

    @property
    def names(self) -> Iterator[str]:
        """The names of all columns, in order."""
        yield from (column.name for column in LEADING)
        yield from self._extra_titles()
        yield from (PROBLEM,) * self.with_problem
        yield from self.features
        yield from (column.name for column in self.predictions)

    def __len__(self) -> int:
        return len(LEADING) + len(self.extra) + self.with_problem + len(self.features) + len(self.predictions)

    def rows(self, document: Document, beside: Mapping[str, str | None]) -> Iterator[list[Any]]:
        """Yield the rows of one job; None where there is no value.

        Args:
            document: a job as the API shows it, or a bare result of the pipeline.
            beside: values of the extra columns.

        Raises:
            ValueError: a feature or prediction has no column here.
        """
        regions = document.get("rois") or ()
        for region in regions:
            yield self._row(document, beside, region, None)
        if self.with_problem and not regions:
            yield self._row(document, beside, _NO_REGION, _problem_of(document))

    def _row(
        self, document: Document, beside: Mapping[str, str | None], region: Document, problem: str | None
    ) -> list[Any]:
        roi, features = region["roi"], region["features"]
        predicted = {column.name: value for column, value in _predicted(region["predictions"])}
        row = [document.get("case_id"), document.get("id"), _reference(document)]
        row += [roi.get(name) for name in ("name", "voxels", "volume_mm3")]
        row += [beside.get(name) for name in self.extra]
        row += [problem] if self.with_problem else []
        row += [features.get(name) for name in self.features]
        row += [predicted.get(column.name) for column in self.predictions]
        if not self._holds(features, predicted):
            raise ValueError("a result has features or predictions that the table has no column for")
        return row

    def _holds(self, features: Mapping[str, Any], predicted: Mapping[str, Any]) -> bool:
        return features.keys() <= self._feature_set and predicted.keys() <= self._prediction_set

    @cached_property
    def _feature_set(self) -> frozenset[str]:
        return frozenset(self.features)

    @cached_property
    def _prediction_set(self) -> frozenset[str]:
        return frozenset(column.name for column in self.predictions)

    def _extra_titles(self) -> Iterator[str]:
        """Yield the titles of the extra columns, each unlike every other title of the table."""
        taken = {column.name for column in (*LEADING, *self.predictions)} | {PROBLEM, *self.features}
        for name in self.extra:
            title = name
            while title in taken:
                title = GIVEN + title
            taken.add(title)
            yield title


_NO_REGION: Final[Document] = {"roi": {}, "features": {}, "predictions": ()}


def _predicted(predictions: Iterable[Document]) -> Iterator[tuple[Column, Any]]:
    """Yield the cells of a region's predictions, each with its column."""
    for prediction in predictions:
        target = prediction["target"]
        about = {"target": target}
        yield Column(target, Kind.TEXT, about), prediction["class"]
        for label, probability in prediction["probabilities"].items():
            meaning = about | {"class": label, "unit": NO_UNIT}
            yield Column(f"{target}_probability_{label}", Kind.NUMBER, meaning), probability
        yield Column(f"{target}_in_distribution", Kind.YES_NO, about), prediction["in_distribution"]


def _reference(document: Document) -> str | None:
    """Return the model as `name@version`."""
    model = document.get("model")
    return f"{model['name']}@{model['version']}" if model else None


def _problem_of(document: Document) -> str:
    """Say in one cell why a job has no result: the problem's slug and detail, or else its status."""
    problem = document.get("problem")
    if problem is None:
        return str(document.get("status") or "no result")
    return f"{str(problem['type']).rpartition('/')[2]}: {problem['detail']}"


def _meaning_of(name: str, intensity_unit: str) -> Mapping[str, str]:
    """Return what is known of a feature, as metadata of its column."""
    term = describe_feature(name, intensity_unit)
    meaning = {
        "unit": term.unit,
        "ibsi": term.ibsi,
        "ibsi_deviation": term.deviation,
        "feature_class": term.feature_class,
        "image_type": term.image_type,
        "channel": term.channel,
    }
    return {key: value for key, value in meaning.items() if value}
