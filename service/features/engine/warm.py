"""Compile, or load from the cache, every kernel before the first request.

Kernels are compiled for the number types they meet, so tiny images of every kind are described once. With a
filled cache this takes about a second, without one about a minute.
"""

import numpy as np

from service.features.engine import glcm, gldm, glrlm, glszm, ngtdm
from service.features.engine.bank import describe
from service.features.engine.discretise import discretise
from service.features.engine.options import Bank, Gradient, ImageOptions, LaplacianOfGaussian, Original, Wavelet
from service.features.engine.region import directions, find_region


def warm() -> None:
    """Run every kernel once for each number type that images and grey levels have."""
    mask = np.zeros((8, 9, 10), dtype=np.bool_)
    mask[1:7, 1:8, 1:9] = True
    ramp = np.arange(mask.size).reshape(mask.shape) % 60
    images = (
        Original(ImageOptions(dependence=1, weighting="euclidean")),
        LaplacianOfGaussian((1.0,)),
        Wavelet(),
        Gradient(),
    )
    for kind in (np.float32, np.float64):
        describe(ramp.astype(kind), mask, (1.0, 1.0, 1.0), Bank(images))
    _warm_wide_grids(mask)
    _warm_long_regions()


def _warm_wide_grids(mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> None:
    """Count the matrices of images with more than 255 grey levels, without and with gaps between them."""
    region = find_region(mask, (1.0, 1.0, 1.0))
    offsets = directions(region.shape)
    ramp = np.arange(region.count)
    for values in (ramp, ramp * 2, ramp % 7 * 100, ramp % 7):
        levels = discretise(values.astype(np.float64), ImageOptions(bin_width=1))
        grid = levels.grid(region, 1)
        next(glcm.count_pairs(grid, levels, region, offsets))
        glrlm.count_runs(grid, levels, region, offsets)
        glszm.find_zones(grid, region, offsets)
        for some in (offsets, offsets[:4].copy()):  # around a voxel, and within a plane
            ngtdm.sum_differences(grid, levels, region, some)
        for alpha in (0, 1):
            gldm.count_dependence(grid, levels, region, offsets, alpha)


def _warm_long_regions() -> None:
    """Count runs in a region of more than 255 voxels along an axis."""
    region = find_region(np.ones((2, 2, 300), dtype=np.bool_), (1.0, 1.0, 1.0))
    for values in (np.arange(region.count), np.arange(region.count) % 7):
        levels = discretise(values.astype(np.float64), ImageOptions(bin_width=1))
        glrlm.count_runs(levels.grid(region, 1), levels, region, directions(region.shape))
