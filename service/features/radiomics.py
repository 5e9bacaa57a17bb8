"""Hand-crafted features by PyRadiomics: its names, its order, its digits.

Everything that a parameter document asks of PyRadiomics (resampling, normalisation, resegmentation, binning,
filters) is done by PyRadiomics itself; nothing here touches the voxels.
"""

import logging
import math
import threading
import warnings
from collections.abc import Mapping
from typing import Any, Final, NoReturn

import numpy as np
from radiomics.featureextractor import RadiomicsFeatureExtractor

from service.errors import RadiomicsRefused, RoiTooSmall
from service.features.vector import FeatureVector
from service.imaging.case import Image, Mask
from service.imaging.itk_bridge import mask_to_itk, to_itk
from service.radiomics_settings import RadiomicsSettings, log_name

LEAST_LOG_VOXELS: Final = 4  # ITK's recursive Gaussian needs as many along each axis

# `warnings.catch_warnings` changes the whole process: one extraction at a time per process.
_one_at_a_time: Final = threading.Lock()

_TOO_SMALL: Final = (
    "mask only contains 1 segmented voxel",
    "mask has too few dimensions",
    "Size of the ROI is too small",
    "No labels found in this mask",
    "Label (1) not present in mask",
)
_RESEGMENTED: Final = "Resegmentation excluded too many voxels"


def compute_radiomics(image: Image, mask: Mask, settings: RadiomicsSettings) -> FeatureVector:
    """Compute every feature that the settings name.

    A feature that PyRadiomics cannot define on the region (a correlation on one grey level, say) is NaN, as
    PyRadiomics returns it.

    Args:
        image: one channel.
        mask: the region, on the image's grid.
        settings: a checked parameter document.

    Returns:
        The features of `settings.feature_names()`, in that order.

    Raises:
        RoiTooSmall: too few voxels or dimensions for the settings, at once or after resampling or resegmentation.
        RadiomicsRefused: PyRadiomics cannot compute the settings on this case, or leaves out an image type.
        MemoryError: ITK could not allocate.

    References:
        van Griethuysen et al., Cancer Research 77 (2017) e104, doi:10.1158/0008-5472.CAN-17-0339.
    """
    _check_region(mask, settings)
    features = _execute(image, mask, settings)
    names = settings.feature_names()
    if missing := [name for name in names if name not in features]:
        _refuse_missing(missing, image, settings)
    return FeatureVector(names, np.array([float(np.real(features[name])) for name in names]))


def _execute(image: Image, mask: Mask, settings: RadiomicsSettings) -> Mapping[str, Any]:
    logging.getLogger("radiomics").setLevel(logging.CRITICAL + 1)  # it logs to stderr by itself
    extractor = _extractor(settings)
    with _one_at_a_time, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            features: Mapping[str, Any] = extractor.execute(to_itk(image), mask_to_itk(mask))
        except (ValueError, ArithmeticError, RuntimeError) as error:
            _refuse(error)
    return features


def _extractor(settings: RadiomicsSettings) -> Any:
    """Build the extractor directly: PyRadiomics' own validation takes longer than a small case."""
    document = settings.document()
    extractor = RadiomicsFeatureExtractor(**_wide_bins(document["setting"]), additionalInfo=False)
    extractor.disableAllImageTypes()
    extractor.enableImageTypes(**{name: _wide_bins(options) for name, options in document["imageType"].items()})
    extractor.disableAllFeatures()
    extractor.enableFeaturesByName(**document["featureClass"])
    return extractor


def _wide_bins(options: dict[str, Any]) -> dict[str, Any]:
    # PyRadiomics computes bin edges in the image's own type. With an integer width they wrap around since NumPy 2
    # where the region spans (nearly) the whole range of a small type, 8-bit images above all. A float width gives
    # the same edges without that.
    return options | {"binWidth": float(options["binWidth"])} if "binWidth" in options else options


def _check_region(mask: Mask, settings: RadiomicsSettings) -> None:
    least_dimensions, least_voxels = (settings.setting[key] for key in ("minimumROIDimensions", "minimumROISize"))
    dimensions = sum(stop - first > 1 for first, stop in mask.bounding_box)
    if dimensions < least_dimensions:
        raise RoiTooSmall(
            f"the region extends along {dimensions} of the three axes, the settings need {least_dimensions}",
            dimensions=dimensions,
            needed=least_dimensions,
        )
    if least_voxels is not None and mask.count <= least_voxels:
        raise RoiTooSmall(
            f"the region holds {mask.count} voxels, the settings need more than {least_voxels}",
            voxels=mask.count,
            needed=least_voxels + 1,
        )
    if mask.count == mask.voxels.size:
        raise RadiomicsRefused(
            "the region fills the whole image; PyRadiomics needs at least one voxel outside it", voxels=mask.count
        )


def _refuse(error: Exception) -> NoReturn:
    """Turn PyRadiomics' exception into one of ours. Its text stays out: it may hold what the image holds."""
    text = str(error)
    if text.startswith(_TOO_SMALL):
        raise RoiTooSmall("after resampling the region is smaller than the settings need") from None
    if text.startswith(_RESEGMENTED):
        raise RoiTooSmall("resegmentation (resegmentRange) leaves fewer than two voxels of the region") from None
    if isinstance(error, RuntimeError) and "allocat" in text:
        raise MemoryError("ITK could not allocate memory for radiomics") from None
    raise RadiomicsRefused(
        f"PyRadiomics stopped with {type(error).__name__} on this image, region and settings",
        kind=type(error).__name__,
    ) from None


def _refuse_missing(missing: list[str], image: Image, settings: RadiomicsSettings) -> NoReturn:
    prefixes = list(dict.fromkeys(name.split("_")[0] for name in missing))
    if any(name.startswith("original_shape2D_") for name in missing):
        raise RadiomicsRefused(
            "shape2D needs a region one voxel thick along the axial direction and larger across it",
            image_types=prefixes,
        )
    sigmas = [sigma for sigma in settings.image_types.get("LoG", {}).get("sigma", ()) if log_name(sigma) in prefixes]
    if not sigmas:
        raise RadiomicsRefused(f"PyRadiomics computed nothing for {', '.join(prefixes)}", image_types=prefixes)
    spacing = _spacing_used(image, settings)
    least = [max(LEAST_LOG_VOXELS, *(math.ceil(sigma / edge) + 1 for sigma in sigmas)) for edge in spacing]
    raise RadiomicsRefused(
        f"the image is too small for {', '.join(prefixes)}: at voxels of "
        f"{' x '.join(f'{edge:.4g}' for edge in spacing)} mm these filters need at least "
        f"{' x '.join(map(str, least))} voxels; the image as read has {' x '.join(map(str, image.geometry.shape))}",
        image_types=prefixes,
        least_shape=least,
        shape=list(image.geometry.shape),
    )


def _spacing_used(image: Image, settings: RadiomicsSettings) -> list[float]:
    wanted = settings.setting["resampledPixelSpacing"]
    if wanted is None or settings.setting["interpolator"] is None:
        return list(image.geometry.spacing_mm)
    return [float(new or old) for new, old in zip(wanted, image.geometry.spacing_mm, strict=True)]
