"""`radfuse extract --local`: the pipeline in this process, without any server, with the same result."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from service.api.catalogue import Catalogue
from service.api.submission import choose_model
from service.bundle import ModelBundle
from service.client import Submission
from service.config import Settings
from service.errors import InvalidField
from service.imaging.case import Case
from service.imaging.guard import Limits
from service.imaging.reader import CaseFiles, read_case
from service.manifest import Manifest
from service.pipeline import Stage, extract
from service.radiomics_settings import EVERY_PRESET, AnySettings, parse_parameters


def extract_locally(submission: Submission, settings: Settings, on_stage: Callable[[str], None]) -> dict[str, Any]:
    """Compute one case here and return the document that the service would.

    Raises:
        CaseError: the case cannot be used.
        RequestError: model, preset or parameter file are wrong.
        SystemBroken: the bundle or the device is at fault.
    """
    given = frozenset(channel for channel in submission.images if channel)
    manifest = choose_model(submission.model, given, Catalogue(settings.models).read())
    radiomics = _read_radiomics(submission.radiomics)
    bundle = ModelBundle.load(settings.models / manifest.name, device=settings.device)
    on_stage(Stage.READING)
    began = time.perf_counter()
    case = _read_case(submission, manifest, settings)
    reading = round(time.perf_counter() - began, 6)
    document = extract(case, bundle, radiomics, on_stage, submission.radiomics_axes).document()
    seconds = document["provenance"]["seconds"]
    document["provenance"]["seconds"] = {Stage.READING.value: reading, **seconds}
    return {"case_id": submission.case_id, "status": "succeeded", **document}


def _read_case(submission: Submission, manifest: Manifest, settings: Settings) -> Case:
    images = {channel or manifest.channels[0]: paths for channel, paths in submission.images.items()}
    return read_case(
        CaseFiles(images=images, mask=submission.mask),
        roi=submission.roi,
        resample_mask=submission.resample_mask,
        limits=Limits(decoded_bytes=settings.max_decoded_bytes, voxels=settings.max_voxels, files=settings.max_files),
        case_id=submission.case_id,
    )


def _read_radiomics(radiomics: str | Path | None) -> AnySettings | None:
    if radiomics is None:
        return None
    if isinstance(radiomics, Path):
        return parse_parameters(radiomics.read_text(encoding="utf-8"))
    if radiomics not in EVERY_PRESET:
        raise InvalidField(
            f"radiomics: neither a file nor a preset; presets are {', '.join(sorted(EVERY_PRESET))}", field="radiomics"
        )
    return EVERY_PRESET[radiomics]
