"""Hand-crafted features: PyRadiomics' names, order and digits, or IBSI's definitions.

The exact engine computes what it can reproduce, PyRadiomics itself the rest (`engine.plan` decides; nothing is
approximated). What a parameter document asks for beside features - resampling, normalisation, resegmentation - is
always done by PyRadiomics; nothing here touches the voxels.
"""

import contextlib
import logging
import math
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NoReturn

import numpy as np

from service.errors import EmptyRoi, RadiomicsRefused, RoiTooSmall
from service.features.engine.plan import make_plan
from service.features.engine.run import compute_many
from service.features.ibsi.configuration import ARBITRARY_UNITS, CONFIGURATIONS, CT, Configuration
from service.features.ibsi.features import compute_ibsi
from service.features.vector import FeatureVector
from service.imaging.case import Image, Mask
from service.radiomics_settings import AnySettings, IbsiSettings, RadiomicsSettings, log_name

LEAST_LOG_VOXELS: Final = 4  # ITK's recursive Gaussian needs as many along each axis

# `warnings.catch_warnings` changes the whole process: one extraction by PyRadiomics at a time per process.
_one_at_a_time: Final = threading.Lock()

_TOO_SMALL: Final = (
    "mask only contains 1 segmented voxel",
    "mask has too few dimensions",
    "Size of the ROI is too small",
)
_OUT_OF_MEMORY: Final = ("allocat", "start new thread")  # in ITK's words, and in Python's
_RESEGMENTED: Final = "Resegmentation excluded too many voxels"


def compute_radiomics(
    image: Image, mask: Mask, settings: AnySettings, modality: str = "CT", threads: int = 1
) -> FeatureVector:
    """Compute every feature that the settings name, on one region; see `compute_radiomics_many`."""
    return compute_radiomics_many(image, [mask], settings, modality, threads)[0]


def compute_radiomics_many(
    image: Image, masks: Sequence[Mask], settings: AnySettings, modality: str = "CT", threads: int = 1
) -> list[FeatureVector]:
    """Compute every feature that the settings name, on each of several regions.

    A feature that is not defined on the region (a correlation on one grey level, say) is NaN, as with PyRadiomics.

    Args:
        image: one channel.
        masks: the regions, on the image's grid; they may overlap.
        settings: a checked parameter document, or an IBSI configuration.
        modality: DICOM's; decides IBSI's default configuration and nothing else.
        threads: how many to use; the values do not depend on it.

    Returns:
        For each mask the features of `settings.feature_names()`, in that order; IBSI's in the order of
        `service.ibsi_names`. They do not depend on the other masks.

    Raises:
        RoiTooSmall: too few voxels or dimensions for the settings, at once or after resampling or resegmentation.
        RadiomicsRefused: the settings cannot be computed on one of the regions, or leave out an image type.
        MemoryError: ITK could not allocate.

    References:
        van Griethuysen et al., Cancer Research 77 (2017) e104, doi:10.1158/0008-5472.CAN-17-0339.
        Zwanenburg et al., Radiology 295 (2020) 328, doi:10.1148/radiol.2020191145.
    """
    if isinstance(settings, IbsiSettings):
        found = [_by_ibsi(image, mask, settings, modality) for mask in masks]
        return [FeatureVector(tuple(features), np.array(list(features.values()))) for features in found]
    for mask in masks:
        _check_region(mask, settings)
    return [_in_order(features, image, settings) for features in _execute(image, masks, settings, threads)]


def name_engine(settings: AnySettings) -> str:
    """Say who computes these settings: `radfuse`, `pyradiomics`, both (`radfuse+pyradiomics`), or `ibsi`."""
    if isinstance(settings, IbsiSettings):
        return "ibsi"
    ways = {"native": "radfuse", "mixed": "radfuse+pyradiomics", "pyradiomics": "pyradiomics"}
    return ways[make_plan(settings).whole]


def choose_configuration(settings: IbsiSettings, modality: str) -> Configuration:
    """Return the image processing of an IBSI preset: the named one, or the default of the modality."""
    if settings.configuration != "auto":
        return CONFIGURATIONS[settings.configuration]
    return CT if modality == "CT" else ARBITRARY_UNITS


def _by_ibsi(image: Image, mask: Mask, settings: IbsiSettings, modality: str) -> Mapping[str, float]:
    i, j, k = image.geometry.spacing_mm
    with np.errstate(all="ignore"):
        return compute_ibsi(image.voxels.T, mask.voxels.T, (k, j, i), choose_configuration(settings, modality))


def _in_order(features: Mapping[str, float], image: Image, settings: RadiomicsSettings) -> FeatureVector:
    names = settings.feature_names()
    if missing := [name for name in names if name not in features]:
        _refuse_missing(missing, image, settings)
    return FeatureVector(names, np.array([features[name] for name in names]))


def _execute(
    image: Image, masks: Sequence[Mask], settings: RadiomicsSettings, threads: int
) -> Sequence[Mapping[str, float]]:
    native = make_plan(settings).whole == "native"
    with contextlib.nullcontext() if native else _quiet_pyradiomics(), np.errstate(all="ignore"):
        try:
            return compute_many(image, masks, settings, threads)
        except (EmptyRoi, RoiTooSmall) as error:  # the region as sent was checked before
            raise RoiTooSmall(f"after resampling or resegmentation {error.detail}", **error.facts) from None
        except (ValueError, ArithmeticError, RuntimeError) as error:
            _refuse(error)


@contextlib.contextmanager
def _quiet_pyradiomics() -> Iterator[None]:
    logging.getLogger("radiomics").setLevel(logging.CRITICAL + 1)  # it logs to stderr by itself
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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
    if isinstance(error, RuntimeError) and any(words in text for words in _OUT_OF_MEMORY):
        raise MemoryError("no memory was left for radiomics") from None
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
