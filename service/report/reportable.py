"""Which results a DICOM report can be made of, and results without what only a report shows.

Standard library only, for the API asks before it starts the maker.
"""

from collections.abc import Mapping
from typing import Any, Final

from service.errors import NotRepresentable

LONGEST_PATIENT_ID: Final = 64  # characters, as DICOM's LO allows
MOST_MEASUREMENTS: Final = 10_000  # in one report: each takes some milliseconds to write


def without_references(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a result without the identifiers of the DICOM objects it was made from: only a report shows them."""
    return {name: value for name, value in document.items() if name != "references"}


def check_reportable(document: Mapping[str, Any]) -> None:
    """Refuse a result that no DICOM report can be made of.

    Args:
        document: a result with its `references`, where it has any.

    Raises:
        NotRepresentable: the case did not come as DICOM, its pseudonym does not fit a Patient ID, or the result is
            too large for one report.
    """
    if not document.get("references"):
        raise NotRepresentable(
            "a DICOM report (TID 1500) must point at its source: it is made only where the images came as DICOM and "
            "every region is one segment of a SEG or one ROI of an RTSTRUCT, all with their identifiers"
        )
    case_id = document.get("case_id") or ""
    if len(case_id) > LONGEST_PATIENT_ID or "\\" in case_id:
        raise NotRepresentable(
            f"the case_id stands in a DICOM report as Patient ID, which has at most {LONGEST_PATIENT_ID} characters "
            f"and no backslash; got {len(case_id)} characters",
            got=len(case_id),
            limit=LONGEST_PATIENT_ID,
        )
    measurements = sum(len(region["features"]) for region in document["rois"])
    if measurements > MOST_MEASUREMENTS:
        raise NotRepresentable(
            f"a DICOM report of this result would hold {measurements} measurements, at most {MOST_MEASUREMENTS} are "
            "written; fetch the result as a table, or ask for fewer regions or features",
            got=measurements,
            limit=MOST_MEASUREMENTS,
        )
