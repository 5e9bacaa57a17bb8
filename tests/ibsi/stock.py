"""What PyRadiomics 3.0.1 itself gives for the benchmarks of IBSI-1, with the nearest settings it offers."""

from typing import Any

from service.features.ibsi.configuration import Aggregation
from service.ibsi_names import FEATURES
from tests.engine.reference import Volume, pyradiomics
from tests.ibsi.reference import Phantom, tag_of

_FLAT = {"force2D": True, "force2Ddimension": 0}
_LUNG = {"resegmentRange": [-1000, 400]}
_TWO_MM = {"resampledPixelSpacing": [2, 2, 2], "interpolator": "sitkLinear"}

SETTINGS: dict[str, dict[str, Any]] = {
    "digital phantom": {"binWidth": 1},
    "A": {**_FLAT, "resegmentRange": [-500, 400], "binWidth": 25},
    "B": {
        **_FLAT,
        **_TWO_MM,
        "resampledPixelSpacing": [2, 2, 0],
        "resegmentRange": [-500, 400],
        "binCount": 32,
    },
    "C": {**_TWO_MM, **_LUNG, "binWidth": 25},
    "D": {**_TWO_MM, "resegmentMode": "sigma", "resegmentRange": [-3, 3], "binCount": 32},
    "E": {**_TWO_MM, **_LUNG, "interpolator": "sitkBSpline", "binCount": 32},
}
"""PyRadiomics cannot re-segment by an interval and by outliers at once, as configuration E does."""


def stock_values(benchmark: str, phantom: Phantom) -> dict[str, float]:
    """Compute the features PyRadiomics shares with IBSI, by the tag of the reference value."""
    settings = SETTINGS[benchmark]
    names: dict[str, list[str]] = {}
    for feature in FEATURES:
        names.setdefault(feature.family, []).append(feature.name.partition("_")[2])
    voxels, mask, spacing = phantom
    found = pyradiomics(
        Volume(voxels, mask, spacing),
        {"setting": settings, "imageType": {"Original": {}}, "featureClass": names},
    )
    way = Aggregation.DIRECTIONS_AVERAGED if settings.get("force2D") else Aggregation.VOLUME_AVERAGED
    return {tag_of(feature, way): found[f"original_{feature.name}"] for feature in FEATURES}
