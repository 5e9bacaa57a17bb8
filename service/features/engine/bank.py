"""A whole bank of radiomic features from one image and one mask: start reading here.

    find_region     one pass over the mask: box, count                                   region.py
    describe_shape  mesh, diameters, principal axes                                      shape.py
    derived images  the image itself, LoG, wavelet sub-bands, ..., only in the box       laplacian.py, wavelet.py, ...
    prepare_voxels  intensities of the region to grey levels                             discretise.py
    describe_class  first order, GLCM, GLDM, GLRLM, GLSZM, NGTDM                         texture.py

Names, order and values are those of PyRadiomics 3.0.1. Everything works on the region's box with the margin that
a filter needs, so memory follows the region and not the image. Nothing here knows files, settings or processes.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt

from service.features.engine import intensity, laplacian, wavelet
from service.features.engine.options import (
    Bank,
    DerivedImage,
    Elsewhere,
    Gradient,
    ImageOptions,
    Intensity,
    LaplacianOfGaussian,
    Number,
    Original,
    Wavelet,
)
from service.features.engine.region import Region, Voxels, find_region, require_background, require_size
from service.features.engine.shape import describe_shape
from service.features.engine.texture import DerivedVoxels, Surroundings, describe_class, prepare_voxels, survey

Features = dict[str, float]
Named = tuple[str, Voxels]


@dataclass(frozen=True)
class _Filter:
    """One filtering that yields derived images, (name, intensities of the region in scan order)."""

    run: Callable[[], Iterable[Named]]
    options: ImageOptions


def describe(
    image: Voxels,
    mask: npt.NDArray[np.bool_],
    spacing: tuple[float, float, float],
    bank: Bank,
    threads: int = 1,
) -> Features:
    """Compute a bank of features, named as PyRadiomics names them and in its order.

    Args:
        image: intensities (K, J, I), finite.
        mask: bool (K, J, I).
        spacing: mm along (K, J, I).
        bank: what to compute.
        threads: how many to use; the result does not depend on it.

    Raises:
        EmptyRoi: no voxel is set.
        RoiTooSmall: fewer voxels or axes than the bank demands.
        RadiomicsRefused: PyRadiomics cannot compute the bank on this region either.
    """
    region = find_region(mask, spacing)
    require_background(region, mask.size)
    require_size(region, bank.minimum_dimensions, bank.minimum_size)
    return describe_region(image, region, region, bank, threads)


def describe_region(image: Voxels, region: Region, outline: Region, bank: Bank, threads: int = 1) -> Features:
    """Compute a bank of features of a region that has been found and checked.

    Args:
        image: intensities (K, J, I), finite.
        region: of the intensities.
        outline: of the shape features; another one where the region was narrowed by intensity.
        bank: what to compute.
        threads: how many to use; the result does not depend on it.

    Raises:
        RadiomicsRefused: PyRadiomics cannot compute the bank on this region either.
    """
    filters = [found for derived in bank.images for found in _filters(image, region, derived)]
    surroundings = {options: survey(region, options) for options in {found.options for found in filters}}
    classes = tuple(name for name in bank.features if name != "shape")
    tasks: list[Callable[[], Features]] = []
    if "shape" in bank.features:
        tasks.append(lambda: _named("original", "shape", describe_shape(outline)))
    for found in filters if classes else ():
        tasks.extend(_tasks(found, surroundings[found.options], classes, split=threads > 1 and len(filters) == 1))
    described = _run(tasks, threads)
    images = tuple(name for derived in bank.images for name in _image_names(image, region, derived))
    return {name: described[name] for name in _order(images, tuple(bank.features.items())) if name in described}


def _run(tasks: list[Callable[[], Features]], threads: int) -> Features:
    if threads == 1 or not tasks:
        return {name: value for task in tasks for name, value in task().items()}
    with ThreadPoolExecutor(min(threads, len(tasks))) as pool:
        futures = [pool.submit(task) for task in tasks]
        return {name: value for future in futures for name, value in future.result().items()}


def _tasks(
    found: _Filter, surroundings: Surroundings, classes: tuple[str, ...], split: bool
) -> list[Callable[[], Features]]:
    """Return one task for a filter, or with `split` one for each class of features."""
    if not split:
        return [partial(_describe_all, found, surroundings, classes)]
    tasks: list[Callable[[], Features]] = []
    for name, values in found.run():
        voxels = prepare_voxels(values, surroundings, found.options)
        tasks += [partial(_describe_class, name, kind, voxels, surroundings, found.options) for kind in classes]
    return tasks


def _describe_all(found: _Filter, surroundings: Surroundings, classes: tuple[str, ...]) -> Features:
    described: Features = {}
    for name, values in found.run():
        voxels = prepare_voxels(values, surroundings, found.options)
        for kind in classes:
            described |= _describe_class(name, kind, voxels, surroundings, found.options)
    return described


def _describe_class(
    image: str, kind: str, voxels: DerivedVoxels, surroundings: Surroundings, options: ImageOptions
) -> Features:
    return _named(image, kind, describe_class(kind, voxels, surroundings, options))


def _named(image: str, kind: str, features: Features) -> Features:
    return {f"{image}_{kind}_{feature}": value for feature, value in features.items()}


@lru_cache(maxsize=32)
def _order(images: tuple[str, ...], features: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[str, ...]:
    """List the full names in the order of the result: shape, then image by image."""
    shape = [f"original_shape_{feature}" for kind, names in features if kind == "shape" for feature in names]
    others = [f"{kind}_{feature}" for kind, names in features if kind != "shape" for feature in names]
    return (*shape, *(f"{image}_{other}" for image in images for other in others))


def _image_names(image: Voxels, region: Region, derived: DerivedImage) -> list[str]:
    if isinstance(derived, LaplacianOfGaussian):
        return [laplacian.log_name(sigma) for sigma in _fitting(image, region, derived)]
    if isinstance(derived, Wavelet):
        return [f"wavelet-{band}" for band in wavelet.BANDS]
    if isinstance(derived, Intensity):
        return [derived.function]
    if isinstance(derived, Elsewhere):
        return list(derived.names)
    return ["gradient" if isinstance(derived, Gradient) else "original"]


def _fitting(image: Voxels, region: Region, derived: LaplacianOfGaussian) -> list[Number]:
    return [sigma for sigma in derived.sigmas if laplacian.fits(image.shape, region.spacing, sigma)]


def _filters(image: Voxels, region: Region, derived: DerivedImage) -> Iterator[_Filter]:
    """List the filterings that make one kind of derived image; none where PyRadiomics leaves it out."""
    inside, options = region.inside, derived.options
    if isinstance(derived, Original):
        yield _Filter(lambda: [("original", image[region.slices][inside])], options)
    elif isinstance(derived, LaplacianOfGaussian):
        for sigma in _fitting(image, region, derived):
            yield _Filter(partial(_laplacian, image, region, sigma), options)
    elif isinstance(derived, Wavelet):
        for beginning in wavelet.BEGINNINGS:
            yield _Filter(partial(_sub_bands, image, region, derived.wavelet, beginning), options)
    elif isinstance(derived, Intensity):
        yield _Filter(partial(_intensity, image, region, derived.function), options)
    elif isinstance(derived, Gradient):
        yield _Filter(partial(_gradient, image, region, derived.use_spacing), options)
    else:
        yield _Filter(partial(_elsewhere, derived, region), options)


def _laplacian(image: Voxels, region: Region, sigma: Number) -> list[Named]:
    return [(laplacian.log_name(sigma), laplacian.laplacian(image, region, sigma)[region.inside])]


def _sub_bands(image: Voxels, region: Region, name: str, beginning: str) -> Iterator[Named]:
    for band, box in wavelet.sub_bands(image, region, name, beginning):
        yield f"wavelet-{band}", box[region.inside]


def _intensity(image: Voxels, region: Region, function: str) -> list[Named]:
    values = image[region.slices][region.inside]
    return [(function, intensity.transform_intensity(values, intensity.largest_magnitude(image), function))]


def _gradient(image: Voxels, region: Region, use_spacing: bool) -> list[Named]:
    return [("gradient", intensity.gradient_magnitude(image, region, use_spacing)[region.inside])]


def _elsewhere(derived: Elsewhere, region: Region) -> Iterator[Named]:
    for name, filtered in derived.run():
        yield name, filtered[region.slices][region.inside]
