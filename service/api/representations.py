"""The forms that a result is offered in beside JSON, and how each is made.

The DICOM report is built by a process of its own: this one may not import an imaging library. It gets the result on
its standard input, no file of the case, none of the service's settings, and ends with the answer.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import service
from service.api.views import Document
from service.config import PREFIX
from service.errors import SystemBroken
from service.report.parquet import to_parquet
from service.report.reportable import check_reportable, without_references
from service.report.table import to_csv

CSV: Final = "text/csv"
PARQUET: Final = "application/vnd.apache.parquet"
DICOM: Final = "application/dicom"

REPORT_PROGRAM: Final = "service.report.structured_report"
SOURCE: Final = Path(service.__file__).resolve().parents[1]  # where the package `service` lies
REPORT_SECONDS: Final = 120.0


@dataclass(frozen=True)
class Representation:
    """One form of a result: its media type as asked for and as answered, the file's suffix, and its maker."""

    media_type: str
    content_type: str
    suffix: str
    render: Callable[[Document], bytes]


@cache
def list_representations(report_python: Path | None) -> dict[str, Representation]:
    """Return what this installation can make, by media type.

    Args:
        report_python: interpreter that builds reports; None stands for this one, if it has highdicom.
    """
    forms = [
        Representation(CSV, f"{CSV}; charset=utf-8; header=present", "csv", _render_csv),
        Representation(PARQUET, PARQUET, "parquet", _render_parquet),
    ]
    if report_python is not None or find_spec("highdicom") is not None:
        python = Path(sys.executable) if report_python is None else report_python
        forms.append(Representation(DICOM, DICOM, "dcm", partial(render_report, python=python)))
    return {form.media_type: form for form in forms}


def _render_csv(document: Document) -> bytes:
    return to_csv([without_references(document)]).encode()


def _render_parquet(document: Document) -> bytes:
    return to_parquet([without_references(document)])


def render_report(document: Document, python: Path) -> bytes:
    """Return a result, with its references, as a DICOM SR file.

    Args:
        document: a succeeded job.
        python: the interpreter that builds it; of this service it needs the source alone.

    Raises:
        NotRepresentable: see `check_reportable`.
        SystemBroken: the report could not be built.
    """
    check_reportable(document)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(SOURCE), os.environ.get("PYTHONPATH"))))
    try:
        # What it might say of a failure could quote the case: only its exit status is looked at.
        built = subprocess.run(  # noqa: S603 - our own program, by the operator's interpreter
            [python, "-m", REPORT_PROGRAM],
            input=json.dumps(document).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=REPORT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SystemBroken(f"the report was not built within {REPORT_SECONDS:g} s") from None
    if built.returncode:
        raise SystemBroken(f"the report could not be built: its process ended with status {built.returncode}")
    return built.stdout
