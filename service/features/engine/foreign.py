"""The parts of an extraction that PyRadiomics itself does, on SimpleITK images.

Whatever it raises passes through; its texts may hold what the image holds and must not reach anybody.
"""

from collections.abc import Iterator
from typing import Any

import SimpleITK
from radiomics import imageoperations
from radiomics.featureextractor import RadiomicsFeatureExtractor

from service.features.engine.region import Voxels

Document = dict[str, Any]


def prepare(image: Any, mask: Any, setting: Document) -> tuple[Any, Any]:
    """Normalise, resample or crop, as the document says."""
    extractor: Any = RadiomicsFeatureExtractor
    prepared: tuple[Any, Any] = extractor.loadImage(image, mask, None, **setting)
    return prepared


def resegment(image: Any, mask: Any, setting: Document) -> Any:
    """Narrow the mask to a range of intensities."""
    narrow: Any = imageoperations.resegmentMask
    return narrow(image, mask, **setting)


def wavelet_images(image: Any, mask: Any, options: Document) -> Iterator[tuple[str, Voxels]]:
    """Yield the name and the voxels (K, J, I) of every wavelet image."""
    transform: Any = imageoperations.getWaveletImage
    for filtered, name, _ in transform(image, mask, **options):
        yield name, SimpleITK.GetArrayFromImage(filtered)


def extract(image: Any, mask: Any, setting: Document, images: Document, classes: Document) -> dict[str, float]:
    """Compute whole image types and classes of features.

    Args:
        image: SimpleITK image.
        mask: SimpleITK label image, 1 inside.
        setting: section of the document.
        images: image types with their options.
        classes: classes with their features.
    """
    extractor: Any = RadiomicsFeatureExtractor(**setting, additionalInfo=False)
    extractor.disableAllImageTypes()
    extractor.enableImageTypes(**images)
    extractor.disableAllFeatures()
    extractor.enableFeaturesByName(**classes)
    return {name: float(value.real) for name, value in extractor.execute(image, mask).items()}
