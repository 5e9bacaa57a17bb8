"""`radfuse extract --local`: the pipeline in this process, without any server, with the same result."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from service.api.catalogue import Catalogue
from service.api.submission import choose_model
from service.bundle import ModelBundle
from service.client import Submission
from service.config import Settings
from service.imaging.guard import Limits
from service.imaging.reader import CaseFiles, read_case
from service.pipeline import extract
from service.radiomics_settings import PRESETS, RadiomicsSettings, parse_parameters


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
    images = {channel or manifest.channels[0]: paths for channel, paths in submission.images.items()}
    case = read_case(
        CaseFiles(images=images, mask=submission.mask),
        roi=submission.roi,
        resample_mask=submission.resample_mask,
        limits=Limits(
            decoded_bytes=settings.max_decoded_bytes, voxels=settings.max_voxels, files=settings.max_files
        ),
        case_id=submission.case_id,
    )
    result = extract(case, bundle, radiomics, on_stage=lambda stage: on_stage(str(stage)))
    return {"id": None, "case_id": submission.case_id, "status": "succeeded", **result.document()}


def _read_radiomics(radiomics: str | Path | None) -> RadiomicsSettings | None:
    if radiomics is None:
        return None
    if isinstance(radiomics, Path):
        return parse_parameters(radiomics.read_text(encoding="utf-8"))
    return PRESETS[radiomics]
