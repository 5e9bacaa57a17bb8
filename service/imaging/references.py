"""Which DICOM objects a case came from: identifiers and nothing else, for reports that must point at their source.

References:
    DICOM PS3.3 C.12.1 (SOP common), table 10-11 (SOP instance reference).
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class InstanceReference:
    """One DICOM object, by its UIDs."""

    study: str
    series: str
    sop_class: str
    instance: str


@dataclass(frozen=True)
class SeriesReference:
    """The objects that one channel was read from, by their UIDs."""

    study: str
    series: str
    sop_class: str
    instances: tuple[str, ...]


@dataclass(frozen=True)
class RegionReference:
    """A segment of a SEG or an ROI of an RTSTRUCT: the object, and the number it has there."""

    study: str
    series: str
    sop_class: str
    instance: str
    number: int


def join_instances(instances: Iterable[InstanceReference | None]) -> SeriesReference | None:
    """Return the reference to one series' objects, each once; None where one is unknown or they differ."""
    named = list(dict.fromkeys(instances))
    known = [one for one in named if one is not None]
    if not known or len(known) < len(named) or len({(one.study, one.series, one.sop_class) for one in known}) > 1:
        return None
    return SeriesReference(known[0].study, known[0].series, known[0].sop_class, tuple(one.instance for one in known))


def describe_references(
    images: Mapping[str, SeriesReference | None], regions: Iterable[RegionReference | None]
) -> dict[str, Any] | None:
    """Return all references of a case as JSON holds them; None unless every image and every region has one."""
    listed = list(regions)
    if None in listed or None in images.values():
        return None
    return {
        "images": {channel: asdict(image) for channel, image in images.items() if image is not None},
        "regions": [asdict(region) for region in listed if region is not None],
    }
