"""What a collection of cases is before anything is computed: where the files lie, whose they are, what is known."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from service.imaging.reader import CaseFiles

WHOLE: Final = "whole"  # `roi` of a record: every label of the mask together, as one region


@dataclass(frozen=True)
class CaseRecord:
    """One region of one patient.

    Attributes:
        case_id: unique within its index.
        patient_id: cases of one patient are never split between training and test.
        site: where the images come from: a hospital, or the collection where nothing finer is known.
        images: files by channel; several files are a DICOM series.
        mask: the files of the mask.
        roi: a label's value or name, `WHOLE`, or None where the mask holds one region.
        labels: class by target; a target that is not known is absent.
        covariates: what else is told of the case and may explain a label (the T stage, say), by name; never learnt.
    """

    case_id: str
    patient_id: str
    site: str
    images: Mapping[str, tuple[Path, ...]]
    mask: tuple[Path, ...]
    roi: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    covariates: Mapping[str, str] = field(default_factory=dict)

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file, images first."""
        return (*(path for paths in self.images.values() for path in paths), *self.mask)

    def case_files(self, channels: Iterable[str] | None = None) -> CaseFiles:
        """Return the files as the service reads them; only those of `channels`, in that order, where given.

        Raises:
            KeyError: with the first channel that the case lacks.
        """
        chosen = self.images if channels is None else {name: self.images[name] for name in channels}
        return CaseFiles(images=chosen, mask=self.mask)


@dataclass(frozen=True)
class CaseIndex:
    """The cases of one collection.

    Raises:
        ValueError: two records have the same id.
    """

    name: str
    records: tuple[CaseRecord, ...]

    def __post_init__(self) -> None:
        if len({record.case_id for record in self.records}) < len(self.records):
            raise ValueError(f"{self.name}: case ids must be unique")

    def __len__(self) -> int:
        return len(self.records)

    @property
    def targets(self) -> tuple[str, ...]:
        """Every target that some case has a label for, in the order of first appearance."""
        return tuple(dict.fromkeys(target for record in self.records for target in record.labels))

    @property
    def covariates(self) -> tuple[str, ...]:
        """Every covariate that some case has, in the order of first appearance."""
        return tuple(dict.fromkeys(name for record in self.records for name in record.covariates))

    def counts(self, target: str) -> dict[str, int]:
        """Return how many cases have each class of a target, by class name."""
        classes = [record.labels[target] for record in self.records if target in record.labels]
        return {name: classes.count(name) for name in sorted(set(classes))}


@dataclass(frozen=True, order=True)
class Finding:
    """Something missing or odd about one case.

    `kind` is a short stable word such as `missing-mask`, or the slug of the service's own refusal (`empty-roi`);
    `detail` says it for people. A finding about the collection as a whole has the collection's name as `case_id`.
    """

    case_id: str
    kind: str
    detail: str
