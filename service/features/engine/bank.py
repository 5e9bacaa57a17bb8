"""A whole bank of radiomic features from one image and one mask, or several: start reading here.

    find_region     one pass over the mask: box, count                                   region.py
    describe_shape  mesh, diameters, principal axes                                      shape.py
    list_filterings the image itself, LoG, wavelet sub-bands, ..., only in the box       filtering.py
    prepare_voxels  intensities of the region to grey levels                             discretise.py
    describe_class  first order, GLCM, GLDM, GLRLM, GLSZM, NGTDM                         texture.py

Names, order and values are those of PyRadiomics 3.0.1. Everything works on the region's box with the margin that
a filter needs, so memory follows the region and not the image. Nothing here knows files, settings or processes.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import numpy.typing as npt

from service.features.engine.filtering import Filtering, image_names, list_filterings
from service.features.engine.options import Bank, ImageOptions
from service.features.engine.region import Region, Voxels, find_region, require_background, require_size
from service.features.engine.shape import describe_shape
from service.features.engine.texture import DerivedVoxels, Surroundings, describe_class, prepare_voxels, survey

Features = dict[str, float]
_Found = list[tuple[int, Features]]
_Task = Callable[[], _Found]
_Member = tuple[int, Region, Surroundings]


@dataclass(frozen=True)
class Target:
    """A region that has been found and checked.

    Attributes:
        region: of the intensities.
        describe_shape: its shape features; another outline's where the region was narrowed by intensity.
    """

    region: Region
    describe_shape: Callable[[], Features]


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
    return describe_regions(image, [Target(region, partial(describe_shape, region))], bank, threads)[0]


def describe_regions(image: Voxels, targets: Sequence[Target], bank: Bank, threads: int = 1) -> list[Features]:
    """Compute a bank of features of several regions of one image.

    Args:
        image: intensities (K, J, I), finite.
        targets: at least one, all of one spacing.
        bank: what to compute.
        threads: how many to use; the result does not depend on it.

    Returns:
        The features of each region, the same as of that region alone.

    Raises:
        RadiomicsRefused: PyRadiomics cannot compute the bank on one of the regions either.
    """
    regions = [target.region for target in targets]
    filterings = [found for derived in bank.images for found in list_filterings(image, regions, derived)]
    options = dict.fromkeys(found.options for found in filterings)
    surroundings = {(index, kind): survey(region, kind) for kind in options for index, region in enumerate(regions)}
    tasks = _shape_tasks(targets) if "shape" in bank.features else []
    classes = tuple(name for name in bank.features if name != "shape")
    for found in filterings if classes else ():
        members = [(index, regions[index], surroundings[index, found.options]) for index in found.members]
        tasks.extend(_tasks(found, members, classes, split=threads > 1 and len(filterings) == 1))
    described = _run(tasks, threads)
    names = tuple(name for derived in bank.images for name in image_names(image, regions[0], derived))
    order = _order(names, tuple(bank.features.items()))
    ordered = (described[index] for index in range(len(regions)))
    return [{name: features[name] for name in order if name in features} for features in ordered]


def _run(tasks: list[_Task], threads: int) -> dict[int, Features]:
    described: dict[int, Features] = defaultdict(dict)
    if threads == 1 or not tasks:
        found: list[_Found] = [task() for task in tasks]
    else:
        with ThreadPoolExecutor(min(threads, len(tasks))) as pool:
            futures = [pool.submit(task) for task in reversed(tasks)]  # the longest come last: begin with them
            found = [future.result() for future in reversed(futures)]
    for index, features in (part for parts in found for part in parts):
        described[index] |= features
    return described


def _shape_tasks(targets: Sequence[Target]) -> list[_Task]:
    def task(index: int, target: Target) -> _Found:
        return [(index, _named("original", "shape", target.describe_shape()))]

    return [partial(task, index, target) for index, target in enumerate(targets)]


def _tasks(found: Filtering, members: list[_Member], classes: tuple[str, ...], split: bool) -> list[_Task]:
    """Return one task for a filtering, or with `split` one for each class of features."""
    if not split:
        return [lambda: [part for task in _parts(found, members, classes) for part in task()]]
    return list(_parts(found, members, classes))


def _parts(found: Filtering, members: list[_Member], classes: tuple[str, ...]) -> Iterator[_Task]:
    """Filter, and yield a task for each derived image, region and class."""
    for name, read in found.run():
        for index, region, surroundings in members:
            voxels = prepare_voxels(read(region), surroundings, found.options)
            for kind in classes:
                yield partial(_describe_class, index, f"{name}_{kind}", voxels, surroundings, found.options)


def _describe_class(
    index: int, name: str, voxels: DerivedVoxels, surroundings: Surroundings, options: ImageOptions
) -> _Found:
    image, kind = name.rsplit("_", 1)
    return [(index, _named(image, kind, describe_class(kind, voxels, surroundings, options)))]


def _named(image: str, kind: str, features: Features) -> Features:
    return {f"{image}_{kind}_{feature}": value for feature, value in features.items()}


@lru_cache(maxsize=32)
def _order(images: tuple[str, ...], features: tuple[tuple[str, tuple[str, ...]], ...]) -> tuple[str, ...]:
    """List the full names in the order of the result: shape, then image by image."""
    shape = [f"original_shape_{feature}" for kind, names in features if kind == "shape" for feature in names]
    others = [f"{kind}_{feature}" for kind, names in features if kind != "shape" for feature in names]
    return (*shape, *(f"{image}_{other}" for image in images for other in others))
