"""Derived images of several regions of one image: what is filtered once, and for which regions.

A filtering yields derived images; each is read inside one region after another. LoG and wavelet filter only around
the regions, and regions near each other together (`grouping`, `visits`).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from service.features.engine import intensity, laplacian, wavelet
from service.features.engine.grouping import Cost, Group, group
from service.features.engine.options import (
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
from service.features.engine.region import Box, Region, Spacing, Voxels
from service.features.engine.visits import laplacian_visits, wavelet_visits

Named = tuple[str, Callable[[Region], Voxels]]
"""A derived image: its name, and its intensities inside a region (N,) in scan order."""


@dataclass(frozen=True)
class Filtering:
    """One filtering of the image.

    Attributes:
        run: yields derived images.
        members: positions of the regions it is for.
        options: of the derived images.
    """

    run: Callable[[], Iterable[Named]]
    members: tuple[int, ...]
    options: ImageOptions


def list_filterings(image: Voxels, regions: Sequence[Region], derived: DerivedImage) -> Iterator[Filtering]:
    """List the filterings that make one kind of derived image; none where PyRadiomics leaves it out.

    Args:
        image: (K, J, I), the whole image.
        regions: at least one, all of one spacing.
        derived: the kind.
    """
    options, everyone = derived.options, tuple(range(len(regions)))
    if isinstance(derived, LaplacianOfGaussian):
        yield from _laplacians(image, regions, derived)
    elif isinstance(derived, Wavelet):
        yield from _wavelets(image, regions, derived)
    elif isinstance(derived, Intensity):
        yield Filtering(partial(_intensity, image, derived.function), everyone, options)
    elif isinstance(derived, Elsewhere):
        yield Filtering(partial(_elsewhere, derived), everyone, options)
    else:
        read = partial(_gradient, image, derived.use_spacing) if isinstance(derived, Gradient) else _reader(image)
        for member in everyone:
            yield Filtering(partial(_as_one, image_names(image, regions[0], derived)[0], read), (member,), options)


def image_names(image: Voxels, region: Region, derived: DerivedImage) -> list[str]:
    """List the derived images of one kind by PyRadiomics' names."""
    if isinstance(derived, LaplacianOfGaussian):
        return [laplacian.log_name(sigma) for sigma in _fitting(image, region, derived)]
    if isinstance(derived, Wavelet):
        return [f"wavelet-{band}" for band in wavelet.BANDS]
    if isinstance(derived, Intensity):
        return [derived.function]
    if isinstance(derived, Elsewhere):
        return list(derived.names)
    return ["original" if isinstance(derived, Original) else "gradient"]


def _fitting(image: Voxels, region: Region, derived: LaplacianOfGaussian) -> list[Number]:
    return [sigma for sigma in derived.sigmas if laplacian.fits(image.shape, region.spacing, sigma)]


def _laplacians(image: Voxels, regions: Sequence[Region], derived: LaplacianOfGaussian) -> Iterator[Filtering]:
    spacing = regions[0].spacing
    for sigma in _fitting(image, regions[0], derived):
        cost: Cost = partial(laplacian_visits, image.shape, spacing=spacing, sigma=sigma)
        for found in group(regions, cost):
            yield Filtering(partial(_laplacian, image, found, spacing, sigma), found.members, derived.options)


def _laplacian(image: Voxels, found: Group, spacing: Spacing, sigma: Number) -> list[Named]:
    filtered = laplacian.laplacian(image, found.box, spacing, sigma)
    return [(laplacian.log_name(sigma), _reader(filtered, found.box))]


def _wavelets(image: Voxels, regions: Sequence[Region], derived: Wavelet) -> Iterator[Filtering]:
    cost: Cost = partial(wavelet_visits, wavelet=derived.wavelet)
    for found in group(regions, cost):
        for beginning in wavelet.BEGINNINGS:
            run = partial(_sub_bands, image, found, derived.wavelet, beginning)
            yield Filtering(run, found.members, derived.options)


def _sub_bands(image: Voxels, found: Group, name: str, beginning: str) -> Iterator[Named]:
    for band, filtered in wavelet.sub_bands(image, found.box, name, beginning):
        yield f"wavelet-{band}", _reader(filtered, found.box)


def _intensity(image: Voxels, function: str) -> list[Named]:
    largest, read = intensity.largest_magnitude(image), _reader(image)
    return [(function, lambda region: intensity.transform_intensity(read(region), largest, function))]


def _gradient(image: Voxels, use_spacing: bool, region: Region) -> Voxels:
    return intensity.gradient_magnitude(image, region, use_spacing)[region.inside]


def _elsewhere(derived: Elsewhere) -> Iterator[Named]:
    for name, filtered in derived.run():
        yield name, _reader(filtered)


def _as_one(name: str, read: Callable[[Region], Voxels]) -> list[Named]:
    return [(name, read)]


def _reader(filtered: Voxels, box: Box | None = None) -> Callable[[Region], Voxels]:
    """Return a function that reads a region from an array of a box, or of the whole image."""

    def read(region: Region) -> Voxels:
        values: Voxels = filtered[region.within(box) if box else region.slices][region.inside]
        return values

    return read
