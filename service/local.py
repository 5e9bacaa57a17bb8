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


class LocalPipeline:
    """What the worker is to the service: bundles, each loaded once, and cases, one at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._catalogue = Catalogue(settings.models)
        self._bundles: dict[str, ModelBundle] = {}

    def extract(self, submission: Submission, on_stage: Callable[[str], None] = lambda _stage: None) -> dict[str, Any]:
        """Compute one case and return the document that the service would.

        Raises:
            CaseError: the case cannot be used.
            RequestError: model, preset or parameter file are wrong.
            SystemBroken: the bundle or the device is at fault.
        """
        given = frozenset(channel for channel in submission.images if channel)
        manifest = choose_model(submission.model, given, self._catalogue.read())
        radiomics = _read_radiomics(submission.radiomics)
        bundle = self._load(manifest)
        on_stage(Stage.READING)
        began = time.perf_counter()
        case = _read_case(submission, manifest, self._settings)
        reading = round(time.perf_counter() - began, 6)
        document = extract(case, bundle, radiomics, on_stage, submission.radiomics_axes).document()
        seconds = document["provenance"]["seconds"]
        document["provenance"]["seconds"] = {Stage.READING.value: reading, **seconds}
        return {"case_id": submission.case_id, "status": "succeeded", **document}

    def _load(self, manifest: Manifest) -> ModelBundle:
        if manifest.reference not in self._bundles:
            folder = self._settings.models / manifest.name
            self._bundles[manifest.reference] = ModelBundle.load(folder, device=self._settings.device)
        return self._bundles[manifest.reference]


def _read_case(submission: Submission, manifest: Manifest, settings: Settings) -> Case:
    images = {channel or manifest.channels[0]: paths for channel, paths in submission.images.items()}
    return read_case(
        CaseFiles(images=images, mask=submission.mask),
        roi=submission.roi,
        resample_mask=submission.resample_mask,
        limits=Limits(decoded_bytes=settings.max_decoded_bytes, voxels=settings.max_voxels, files=settings.max_files),
        case_id=submission.case_id,
        reference=(submission.reference or manifest.channels[0]) if submission.resample_images else None,
        suv=submission.suv,
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
