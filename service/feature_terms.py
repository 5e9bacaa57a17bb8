"""What a feature's name stands for: image, class, UCUM unit and IBSI code. Needs no imaging library.

References:
    UCUM, https://ucum.org; DICOM PS3.16 CID 7181 (units of image values).
    IBSI reference manual, arXiv:1612.07003, chapter 3 (definitions, and units of the morphological features).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from service.ibsi_names import FEATURES

NO_UNIT: Final = "1"
ARBITRARY_UNIT: Final = "[arb'U]"
HOUNSFIELD_UNIT: Final = "[hnsf'U]"

DEEP: Final = "deep"
BY_IBSI: Final = "ibsi"  # stands where the image type does, in features computed by IBSI's definitions
AS_MEASURED: Final = frozenset({"original", BY_IBSI})  # images whose intensities have the image's own unit

_IBSI: Final = {feature.name: feature for feature in FEATURES}
# PyRadiomics' value is another quantity than IBSI's of this code, not the same one computed a little differently.
_OTHER_QUANTITY: Final = frozenset({"firstorder_Kurtosis"})

_LENGTHS: Final[Mapping[str, str]] = {
    "MeshVolume": "mm3",
    "VoxelVolume": "mm3",
    "SurfaceArea": "mm2",
    "MeshSurface": "mm2",
    "PixelSurface": "mm2",
    "SurfaceVolumeRatio": "/mm",
    "PerimeterSurfaceRatio": "/mm",
    **dict.fromkeys(
        (
            *("Perimeter", "MaximumDiameter", "Maximum3DDiameter"),
            *("Maximum2DDiameterColumn", "Maximum2DDiameterRow", "Maximum2DDiameterSlice"),
            *("MajorAxisLength", "MinorAxisLength", "LeastAxisLength"),
        ),
        "mm",
    ),
}
# Powers of the intensity's unit.
_SQUARES: Final = frozenset({"Variance", "Energy"})
_BARE: Final = frozenset({"Skewness", "Kurtosis", "Entropy", "Uniformity"})


@dataclass(frozen=True)
class Term:
    """One feature.

    Attributes:
        name: the whole name.
        channel: which of several channels; empty where there is one, and for the embedding.
        image_type: "original", or the filtered image; "ibsi" for IBSI's definitions; empty for the embedding.
        feature_class: PyRadiomics' class, or "deep".
        feature: its name within the class; for the embedding, which of its numbers.
        unit: UCUM.
        ibsi: IBSI's permanent code; empty where IBSI has no such feature, or the value is another quantity.
        deviation: how the value differs from IBSI's definition; empty where it does not.
    """

    name: str
    channel: str
    image_type: str
    feature_class: str
    feature: str
    unit: str
    ibsi: str
    deviation: str

    @property
    def plain_name(self) -> str:
        """Class and feature, without channel and image type."""
        return f"{self.feature_class}_{self.feature}"

    @property
    def image(self) -> str:
        """Channel and image type as they stand in the name."""
        return self.name.removesuffix(self.plain_name).rstrip("_")


@lru_cache(maxsize=8192)
def describe_feature(name: str, intensity_unit: str = ARBITRARY_UNIT) -> Term:
    """Return what a feature of a fused vector is.

    Args:
        name: `[channel_]image-type_class_feature`, or `deep_0000`.
        intensity_unit: UCUM unit of the image's own intensities.

    Raises:
        ValueError: not such a name.
    """
    *channel, image_type, feature_class, feature = ["", "", *name.split("_")] if _is_deep(name) else name.split("_")
    plain = f"{feature_class}_{feature}"
    defined = _IBSI.get(plain)
    by_ibsi = image_type == BY_IBSI
    same = defined is not None and (by_ibsi or plain not in _OTHER_QUANTITY)
    return Term(
        name=name,
        channel="_".join(filter(None, channel)),
        image_type=image_type,
        feature_class=feature_class,
        feature=feature,
        unit=_unit(feature_class, feature, intensity_unit if image_type in AS_MEASURED else ARBITRARY_UNIT),
        ibsi=defined.code if defined is not None and same else "",
        deviation="" if defined is None or by_ibsi else defined.deviation,
    )


def _is_deep(name: str) -> bool:
    return name.rpartition("_")[0] == DEEP


def _unit(feature_class: str, feature: str, intensity: str) -> str:
    if feature_class.startswith("shape"):
        return _LENGTHS.get(feature, NO_UNIT)
    if feature_class != "firstorder" or feature in _BARE:
        return NO_UNIT
    squared = f"({intensity})2" if "/" in intensity else f"{intensity}2"
    if feature == "TotalEnergy":
        return f"{squared}.mm3"
    return squared if feature in _SQUARES else intensity
