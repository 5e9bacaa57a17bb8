"""Result documents as the API shows them."""

from collections.abc import Sequence
from typing import Any

from pydicom.uid import CTImageStorage, RTStructureSetStorage, SegmentationStorage

FEATURES: dict[str, float | None] = {
    "original_shape_MeshVolume": 5078.25,
    "original_shape_Maximum2DDiameterSlice": 12.5,
    "original_firstorder_Mean": -1 / 3,
    "original_firstorder_Kurtosis": 3.25,
    "original_firstorder_TotalEnergy": 1.2345678901234567e11,
    "original_glcm_Correlation": None,
    "wavelet-HLL_glcm_MCC": 0.875,
    "log-sigma-1-0-mm-3D_gldm_LargeDependenceHighGrayLevelEmphasis": 5e-324,
    "deep_0000": -0.11300000000000002,
    "deep_0001": 1e300,
}


def build_document(
    case_id: str | None = "case-1",
    features: dict[str, float | None] | None = None,
    rois: Sequence[str] = ("1",),
    job_id: str = "6f1b0c9a7e5d4c3b8a29100f1e2d3c4b",
    **more: Any,
) -> dict[str, Any]:
    """A succeeded job with one region per name."""
    prediction = {
        "target": "stage",
        "class": "II",
        "probabilities": {"I": 0.25, "II": 0.75},
        "calibrated": True,
        "in_distribution": False,
        "novelty": 7.5,
        "demonstration": True,
        "evidence": "models/small-ct/card.md",
    }
    described = {"voxels": 12, "volume_mm3": 18.5, "centroid_mm": [1.0, 2.0, 3.0], "bounding_box": [[0, 2]] * 3}
    return {
        "id": job_id,
        "case_id": case_id,
        "status": "succeeded",
        "finished_at": "2026-11-23T16:00:01.25Z",
        "model": {"name": "small-ct", "version": "1.0.0", "sha256": "f" * 64},
        "rois": [
            {
                "roi": {"name": name, **described},
                "features": FEATURES if features is None else features,
                "predictions": [prediction],
            }
            for name in rois
        ],
        "provenance": {
            "versions": {"radfuse": "0.1.0", "pyradiomics": "3.0.1"},
            "radiomics_engine": "radfuse",
            "radiomics_settings_sha256": "1" * 64,
            "intensity_unit": "[hnsf'U]",
            "device": "CPUExecutionProvider",
            "seconds": {"reading": 0.1},
            "notes": [],
        },
        **more,
    }


def build_failure(case_id: str = "case-2") -> dict[str, Any]:
    """A failed job."""
    problem = {"type": "/problems/empty-roi", "title": "Empty", "status": 422, "detail": "the mask holds no voxel"}
    return {
        "id": "0" * 32,
        "case_id": case_id,
        "status": "failed",
        "model": {"name": "small-ct", "version": "1.0.0"},
        "problem": problem,
    }


def build_references(regions: int = 1, *, contoured: bool = False, study: str = "1.2.3") -> dict[str, Any]:
    """References to a CT series of three files, and to segments of a SEG or ROIs of an RTSTRUCT numbered from 1."""
    series = {
        "study": study,
        "series": f"{study}.1",
        "sop_class": str(CTImageStorage),
        "instances": [f"{study}.1.{number}" for number in range(1, 4)],
    }
    mask = {
        "study": study,
        "series": f"{study}.2",
        "sop_class": str(RTStructureSetStorage if contoured else SegmentationStorage),
        "instance": f"{study}.2.1",
    }
    return {"images": {"ct": series}, "regions": [mask | {"number": number} for number in range(1, regions + 1)]}
