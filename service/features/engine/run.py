"""A parameter document computed on one image and its masks: by this package where it can, else by PyRadiomics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import SimpleITK

from service.features.engine import foreign
from service.features.engine.bank import Features, Target, describe_regions
from service.features.engine.options import Bank, DerivedImage, Elsewhere
from service.features.engine.outline import find_outline
from service.features.engine.plan import Document, Plan, image_options, make_plan, native_image
from service.features.engine.region import Region, Voxels, find_region, require_background, require_size
from service.features.engine.shape import describe_shape
from service.imaging.case import Image, Mask
from service.imaging.itk_bridge import mask_to_itk, to_itk
from service.radiomics_settings import RadiomicsSettings


@dataclass(frozen=True)
class _Scene:
    """What features are computed on: voxels (K, J, I), the region, and the same as SimpleITK images when needed."""

    voxels: Voxels
    target: Target
    itk: Callable[[], tuple[Any, Any]]


def compute(image: Image, mask: Mask, settings: RadiomicsSettings, threads: int = 1) -> Features:
    """Compute every feature that the settings name; see `compute_many`."""
    return compute_many(image, [mask], settings, threads)[0]


def compute_many(image: Image, masks: Sequence[Mask], settings: RadiomicsSettings, threads: int = 1) -> list[Features]:
    """Compute every feature that the settings name, on several regions of one image.

    Regions share filtering where their surroundings overlap enough (`grouping`), and every mask is measured once
    for all the images that it is laid on (`outline`). Where PyRadiomics prepares or filters, each is done by itself.

    Args:
        image: one channel.
        masks: the regions, on the image's grid.
        settings: a checked parameter document.
        threads: how many to use; the result does not depend on it.

    Returns:
        For each mask names to values in PyRadiomics' order, the same as of that mask alone. As with PyRadiomics,
        derived images that do not fit the image are missing, and undefined values are NaN.

    Raises:
        EmptyRoi, RoiTooSmall, RadiomicsRefused: as PyRadiomics refuses, for any of the masks.
        ValueError, RuntimeError and others: from the parts that PyRadiomics does itself.
    """
    plan = make_plan(settings)
    together = bool(masks) and not plan.preprocessed and "filtered" not in plan.ways.values()
    batches = [masks] if together else [[mask] for mask in masks]
    return [found for batch in batches for found in _compute_batch(image, batch, settings, plan, threads)]


def _compute_batch(
    image: Image, masks: Sequence[Mask], settings: RadiomicsSettings, plan: Plan, threads: int
) -> list[Features]:
    """Compute masks whose scenes have the same voxels."""
    prepare = partial(_prepared, settings=settings) if plan.preprocessed else _as_it_is
    scenes = [prepare(image, mask) for mask in masks]
    least, voxels = settings.setting["minimumROIDimensions"], settings.setting["minimumROISize"]
    for scene in scenes:
        require_size(scene.target.region, least, voxels)
    first, ways = scenes[0], plan.ways.items()
    bank = Bank(
        images=tuple(_derived(name, settings, plan, first) for name, way in ways if way != "pyradiomics"),
        features={name: tuple(kept) for name, kept in settings.feature_classes.items() if name != "shape2D"},
    )
    described = describe_regions(first.voxels, [scene.target for scene in scenes], bank, threads)
    everything = [found | _left_over(image, mask, settings, plan) for found, mask in zip(described, masks, strict=True)]
    return [{name: found[name] for name in settings.feature_names() if name in found} for found in everything]


def _as_it_is(image: Image, mask: Mask) -> _Scene:
    k, j, i = reversed(image.geometry.spacing_mm)
    outline = find_outline(mask, (float(k), float(j), float(i)))
    require_background(outline.region, mask.voxels.size)
    target = Target(outline.region, outline.describe)
    return _Scene(image.voxels.T, target, lambda: (to_itk(image), mask_to_itk(mask)))


def _prepared(image: Image, mask: Mask, settings: RadiomicsSettings) -> _Scene:
    setting = _wide(settings.setting)
    picture, label = foreign.prepare(to_itk(image), mask_to_itk(mask), setting)
    whole = _region(label)
    require_size(whole, setting["minimumROIDimensions"], setting["minimumROISize"])
    region = outline = whole
    if setting["resegmentRange"] is not None:
        inside = SimpleITK.GetArrayViewFromImage(label) == 1
        label = foreign.resegment(picture, label, setting)
        region = outline = _region(label)
        if not setting["resegmentShape"]:
            within = np.ascontiguousarray(inside[region.slices])  # PyRadiomics crops the outline to the new box
            outline = replace(region, inside=within, count=int(np.count_nonzero(within)))
    target = Target(region, partial(describe_shape, outline))
    return _Scene(SimpleITK.GetArrayFromImage(picture), target, lambda: (picture, label))


def _region(label: Any) -> Region:
    i, j, k = label.GetSpacing()
    return find_region(SimpleITK.GetArrayViewFromImage(label) == 1, (k, j, i))


def _derived(image_type: str, settings: RadiomicsSettings, plan: Plan, scene: _Scene) -> DerivedImage:
    options = settings.effective(image_type)
    if plan.ways[image_type] == "native":
        return native_image(image_type, options)
    names = tuple(name for name in settings.image_names() if name.startswith(image_type.lower()))
    run = partial(_wavelets, scene, options)
    return Elsewhere(names, run, image_options(options))


def _wavelets(scene: _Scene, options: Document) -> Any:
    picture, label = scene.itk()
    return foreign.wavelet_images(picture, label, options)


def _left_over(image: Image, mask: Mask, settings: RadiomicsSettings, plan: Plan) -> Features:
    """Have PyRadiomics compute what it must compute altogether."""
    setting, found = _wide(settings.setting), Features()
    classes = {name: list(kept) for name, kept in settings.feature_classes.items() if not name.startswith("shape")}
    images = {name: _wide(settings.image_types[name]) for name, way in plan.ways.items() if way == "pyradiomics"}
    if images and classes:
        found |= foreign.extract(to_itk(image), mask_to_itk(mask), setting, images, classes)
    if plan.shape2d:
        flat = {"shape2D": list(settings.feature_classes["shape2D"])}
        found |= foreign.extract(to_itk(image), mask_to_itk(mask), setting, {}, flat)
    return found


def _wide(options: Document) -> Document:
    """Return options with a float bin width; see `plan.image_options`."""
    return options | {"binWidth": float(options["binWidth"])} if "binWidth" in options else options
