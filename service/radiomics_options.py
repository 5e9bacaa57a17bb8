"""The keys of a PyRadiomics 3.0.1 parameter document: where each may stand, what it may hold, its default.

References:
    PyRadiomics 3.0.1, `radiomics/schemas/paramSchema.yaml` and the `kwargs.get` of its modules.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt, TypeAdapter

from service.radiomics_names import WAVELETS

_Number = StrictInt | StrictFloat  # kept apart: PyRadiomics writes sigma 1 and sigma 1.0 into different names
_Positive = Annotated[_Number, Field(gt=0, lt=math.inf)]
_Finite = Annotated[_Number, Field(gt=-math.inf, lt=math.inf)]
_Count = Annotated[StrictInt, Field(ge=0, lt=2**31)]
_Natural = Annotated[StrictInt, Field(ge=1, lt=2**31)]
_Level = Annotated[StrictInt, Field(ge=0, le=16)]
_Interpolator = Literal[
    "sitkNearestNeighbor",
    "sitkLinear",
    "sitkBSpline",
    "sitkGaussian",
    "sitkLabelGaussian",
    "sitkHammingWindowedSinc",
    "sitkCosineWindowedSinc",
    "sitkWelchWindowedSinc",
    "sitkLanczosWindowedSinc",
    "sitkBlackmanWindowedSinc",
]


@dataclass(frozen=True)
class Option:
    """One key: what it may hold and PyRadiomics' default."""

    default: Any
    kind: TypeAdapter[Any]


def _option(default: Any, kind: Any) -> Option:
    return Option(default, TypeAdapter(kind))


# Read once per extraction: legal under `setting` only.
CASE_OPTIONS: Final = {
    "minimumROIDimensions": _option(2, Annotated[StrictInt, Field(ge=1, le=3)]),
    "minimumROISize": _option(None, _Natural | None),
    "normalize": _option(False, StrictBool),
    "normalizeScale": _option(1, _Positive),
    "removeOutliers": _option(None, _Positive | None),
    "resampledPixelSpacing": _option(
        None, Annotated[list[Annotated[_Number, Field(ge=0, lt=math.inf)]], Field(min_length=3, max_length=3)] | None
    ),
    "interpolator": _option("sitkBSpline", _Interpolator | None),
    "preCrop": _option(False, StrictBool),
    "padDistance": _option(5, _Count),
    "resegmentRange": _option(None, Annotated[list[_Finite], Field(min_length=1, max_length=2)] | None),
    "resegmentMode": _option("absolute", Literal["absolute", "relative", "sigma"]),
    "resegmentShape": _option(False, StrictBool),
}
# Read for every derived image: legal under `setting` and under an image type, which then wins.
IMAGE_OPTIONS: Final = {
    "binWidth": _option(25, _Positive),
    "binCount": _option(None, _Natural | None),
    "distances": _option([1], Annotated[list[_Natural], Field(min_length=1)]),
    "force2D": _option(False, StrictBool),
    "force2Ddimension": _option(0, Annotated[StrictInt, Field(ge=0, le=2)]),
    "voxelArrayShift": _option(0, Annotated[StrictInt, Field(gt=-(2**31), lt=2**31)]),
    "symmetricalGLCM": _option(True, StrictBool),
    "weightingNorm": _option(None, Literal["euclidean", "manhattan", "infinity", "no_weighting"] | None),
    "gldm_a": _option(0, _Count),
}
# Read by one filter: legal under its image type, or under `setting` where that type is enabled.
FILTER_OPTIONS: Final[Mapping[str, Mapping[str, Option]]] = {
    "Original": {},
    "LoG": {"sigma": _option(None, Annotated[list[_Positive], Field(min_length=1)])},
    "Wavelet": {
        "wavelet": _option("coif1", Literal[WAVELETS]),
        "start_level": _option(0, _Level),
        "level": _option(1, Annotated[_Level, Field(ge=1)]),
    },
    "Square": {},
    "SquareRoot": {},
    "Logarithm": {},
    "Exponential": {},
    "Gradient": {"gradientUseSpacing": _option(True, StrictBool)},
}
_NO_LBP: Final = "local binary patterns need packages (scikit-image, trimesh) that this service does not carry"
REFUSED: Final = {
    "imageType.LBP2D": _NO_LBP,
    "imageType.LBP3D": _NO_LBP,
    "setting.label": "only label 1 is possible here: the form field `roi` chooses the region",
    "setting.label_channel": "the form field `roi` chooses the region",
    "setting.correctMask": "masks on another grid are refused; the form field `resample_mask` opts in",
    "setting.geometryTolerance": "grids are compared by the service, before PyRadiomics sees them",
    "setting.additionalInfo": "diagnostics are not part of the feature vector",
    "voxelSetting": "features of whole regions only, not of every voxel",
}
# Found in many published files, and true of every extraction here: accepted, and without effect.
HARMLESS: Final = {
    "label": (1,),
    "label_channel": (0,),
    "correctMask": (False,),
    "additionalInfo": (True, False),
    "geometryTolerance": (None,),
}
