"""Who computes what a parameter document asks for.

    native          everything in this package
    filtered        PyRadiomics filters the image, this package describes the result
    pyradiomics     PyRadiomics computes these features altogether
    preprocessed    before any of them, PyRadiomics normalises, resamples, crops or resegments

Nothing is approximated: what this package cannot do exactly it leaves to PyRadiomics itself.
"""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from service.features.engine.options import (
    DerivedImage,
    Gradient,
    ImageOptions,
    Intensity,
    LaplacianOfGaussian,
    Original,
    Wavelet,
)
from service.radiomics_settings import RadiomicsSettings

Document: TypeAlias = dict[str, Any]
Way: TypeAlias = Literal["native", "filtered", "pyradiomics"]

_INTENSITY: dict[str, Literal["square", "squareroot", "logarithm", "exponential"]] = {
    "Square": "square",
    "SquareRoot": "squareroot",
    "Logarithm": "logarithm",
    "Exponential": "exponential",
}


@dataclass(frozen=True)
class Plan:
    """The way of each image type, in the settings' order.

    Attributes:
        ways: image type to way.
        preprocessed: whether PyRadiomics prepares image and mask first.
        shape2d: whether PyRadiomics computes the class shape2D.
    """

    ways: dict[str, Way]
    preprocessed: bool
    shape2d: bool

    @property
    def whole(self) -> str:
        """One word for a result's provenance: native, pyradiomics, or mixed."""
        everything = {*self.ways.values(), *(["pyradiomics"] if self.shape2d else [])}
        if everything == {"native"} and not self.preprocessed:
            return "native"
        return "pyradiomics" if everything == {"pyradiomics"} else "mixed"


def make_plan(settings: RadiomicsSettings) -> Plan:
    """Decide the way of every part of a document."""
    setting = settings.setting
    preprocessed = (
        setting["normalize"]
        or setting["preCrop"]
        or setting["resegmentRange"] is not None
        or (setting["resampledPixelSpacing"] is not None and setting["interpolator"] is not None)
    )
    ways = {name: _way(name, settings.effective(name)) for name in settings.image_types}
    return Plan(ways, bool(preprocessed), "shape2D" in settings.feature_classes)


def _way(image_type: str, options: Document) -> Way:
    if len(set(options["distances"])) < len(options["distances"]):
        return "pyradiomics"  # a distance given twice makes it count some directions both ways
    if image_type == "Wavelet" and (options["level"] > 1 or options["start_level"] > 0 or options["force2D"]):
        return "filtered"
    return "native"


def native_image(image_type: str, options: Document) -> DerivedImage:
    """Return what the package computes for an image type whose way is native.

    Args:
        image_type: PyRadiomics' name.
        options: the settings that hold for it.
    """
    if image_type == "LoG":
        return LaplacianOfGaussian(tuple(options["sigma"]), image_options(options))
    if image_type == "Wavelet":
        return Wavelet(options["wavelet"], image_options(options))
    if image_type == "Gradient":
        return Gradient(options["gradientUseSpacing"], image_options(options))
    if image_type in _INTENSITY:
        return Intensity(_INTENSITY[image_type], image_options(options))
    return Original(image_options(options))


def image_options(options: Document) -> ImageOptions:
    """Return the options that every image type has.

    The bin width is made a float: edges are the same, but those of 8-bit images no longer wrap around.
    """
    return ImageOptions(
        bin_width=float(options["binWidth"]),
        bin_count=options["binCount"],
        distances=tuple(options["distances"]),
        flat_axis=options["force2Ddimension"] if options["force2D"] else None,
        symmetrical=options["symmetricalGLCM"],
        weighting=options["weightingNorm"],
        dependence=options["gldm_a"],
        shift=options["voxelArrayShift"],
    )
