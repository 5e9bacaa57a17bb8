"""Random and degenerate cases: images of every number type with regions of every awkward form."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from service.features.engine.options import (
    Bank,
    Gradient,
    ImageOptions,
    Intensity,
    LaplacianOfGaussian,
    Original,
    Wavelet,
    every_feature,
)
from tests.engine.reference import Volume

T = TypeVar("T")
Pick = Callable[[Sequence[T]], T]
Doubles = npt.NDArray[np.float64]

TYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
TEXTURES = ("noise", "smooth", "steps", "flat", "two", "ramp", "negative", "wide", "sparse", "tiny")
FORMS = (
    "ball", "box", "scattered", "slice", "sheet", "line", "corner", "border", "shell", "diagonal", "rod", "cross",
    "two", "whole", "single", "all but one",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What to compute, for the engine and for PyRadiomics."""

    volume: Volume
    bank: Bank
    document: dict[str, Any]
    label: str


def make_case(pick: Pick[Any], seed: int, *, filters: bool, settings: bool) -> Case:
    """Build a case.

    Args:
        pick: chooses from a sequence.
        seed: of the voxels.
        filters: whether derived images are asked for.
        settings: whether settings depart from the presets'.
    """
    rng = np.random.default_rng(seed)
    shape = tuple(pick((1, 2, 3, 4, 5, 6, 7, 9, 12, 16)) for _ in range(3))
    kind, texture, form = pick(TYPES), pick(TEXTURES), pick(FORMS)
    spacing = tuple(pick((1.0, 0.5, 0.7, 0.9765625, 2.5, 3.27, 5.0)) for _ in range(3))
    direction = tuple(Rotation.random(random_state=seed).as_matrix().ravel()) if pick((False, True)) else None
    strength = 0.2 if filters and texture in ("wide", "sparse") else 1.0  # PyRadiomics' memory: levels squared
    image = _paint(rng, shape, texture, np.dtype(kind), strength)
    volume = Volume(image, _carve(rng, shape, form), spacing)
    if direction is not None:
        volume = Volume(image, volume.mask, spacing, direction)
    bank, document = _ask(pick, filters, settings, _widest(image))
    return Case(volume, bank, document, f"seed {seed} {kind} {texture} {form} {shape} {spacing} {document['setting']}")


def _paint(rng: np.random.Generator, shape: tuple[int, ...], texture: str, kind: np.dtype[Any], strength: float) -> Any:
    noise = rng.normal(size=shape)
    k, j, i = np.indices(shape)
    fields: dict[str, Doubles] = {
        "noise": 100 + 40 * noise,
        "smooth": 120 + 100 * np.sin((k + 0.3 * j + 0.2 * i) / 3) + 2 * noise,
        "steps": 25.0 * rng.integers(0, 9, shape),
        "flat": np.full(shape, rng.choice([0.0, 0.1, 25.0, 100.3])),
        "two": rng.choice([10.0, 60.0], shape),
        "ramp": 10.0 * (k + j + i),
        "negative": -300 + 200 * noise,
        "wide": 6e3 * rng.random(shape),
        "sparse": rng.choice([0.0, 1.0, 40.0, 2e4, 3e4], shape),
        "tiny": 1e-6 * noise,
    }
    painted = strength * fields[texture]
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        painted = np.clip(np.round(painted), limits.min, min(limits.max, 2**62))
    return painted.astype(kind)


def _carve(rng: np.random.Generator, shape: tuple[int, ...], form: str) -> npt.NDArray[np.bool_]:
    k, j, i = (axis / max(size - 1, 1) for axis, size in zip(np.indices(shape), shape, strict=True))
    radius = np.sqrt((k - 0.5) ** 2 + (j - 0.45) ** 2 + (i - 0.5) ** 2)
    axis = int(rng.integers(3))
    middle = np.indices(shape)[axis] == shape[axis] // 2
    index = np.indices(shape)
    first = tuple(int(rng.integers(size)) for size in shape)
    single = np.zeros(shape, dtype=np.bool_)
    single[first] = True
    second = single.copy()
    second[tuple(int(rng.integers(size)) for size in shape)] = True
    forms: dict[str, Any] = {
        "ball": radius < 0.4,
        "box": (np.maximum(np.maximum(abs(k - 0.5), abs(j - 0.5)), abs(i - 0.5)) < 0.3),
        "scattered": rng.random(shape) < rng.choice([0.05, 0.2, 0.5, 0.9]),
        "slice": middle & (rng.random(shape) < 0.8),
        "sheet": middle,
        "line": (index[0] == shape[0] // 2) & (index[1] == shape[1] // 2),
        "corner": (k < 0.4) & (j < 0.5) & (i < 0.6),
        "border": (k > 0.5) | (i < 0.2),
        "shell": (radius < 0.5) & (radius > 0.25),
        "diagonal": (index[0] == index[1]) & (index[1] == index[2]),
        "rod": (index[0] == index[1]) & (index[2] == shape[2] // 2),
        "cross": (index[0] == shape[0] // 2) | ((index[1] == shape[1] // 2) & (index[2] == shape[2] // 2)),
        "two": second,
        "whole": np.ones(shape, dtype=np.bool_),
        "single": single,
        "all but one": ~single,
    }
    return np.asarray(forms[form], dtype=np.bool_)


def _widest(image: Any) -> float:
    """Return the range of intensities."""
    return float(image.max()) - float(image.min())


def _ask(pick: Pick[Any], filters: bool, settings: bool, widest: float) -> tuple[Bank, dict[str, Any]]:
    setting = _draw_settings(pick) if settings else {}
    if filters:
        setting.pop("force2D", None)  # two-dimensional wavelets are not the bank's: see test_run.py
    if setting and widest / setting["binWidth"] > 1500:  # PyRadiomics needs memory for the square of the levels
        setting["binWidth"] = pick((25, 40.5, 100))
    options = ImageOptions(
        bin_width=setting.get("binWidth", 25),
        bin_count=setting.get("binCount"),
        distances=tuple(setting.get("distances", (1,))),
        flat_axis=setting["force2Ddimension"] if setting.get("force2D") else None,
        symmetrical=setting.get("symmetricalGLCM", True),
        weighting=setting.get("weightingNorm"),
        dependence=setting.get("gldm_a", 0),
        shift=setting.get("voxelArrayShift", 0),
    )
    images: list[Any] = [Original(options)]
    document: dict[str, Any] = {"Original": {}}
    if filters:
        sigmas = pick(([1.0, 2.0, 3.0], [0.5, 4], [1])) if settings else [1.0, 2.0, 3.0]
        name = pick(("coif1", "haar", "db3", "sym4", "coif3", "bior2.4", "rbio3.1")) if settings else "coif1"
        images += [LaplacianOfGaussian(tuple(sigmas), options), Wavelet(name, options)]
        document |= {"LoG": {"sigma": sigmas}, "Wavelet": {"wavelet": name}}
        if settings:
            images += [Intensity(kind, options) for kind in ("square", "squareroot", "logarithm", "exponential")]
            images += [Gradient(options=options)]
            document |= {kind: {} for kind in ("Square", "SquareRoot", "Logarithm", "Exponential", "Gradient")}
    minimum = setting.get("minimumROIDimensions", 2)
    classes = every_feature()
    return Bank(tuple(images), classes, minimum), {
        "imageType": document,
        "featureClass": dict.fromkeys(classes),
        "setting": setting | {"additionalInfo": False, "minimumROIDimensions": minimum},
    }


def _draw_settings(pick: Pick[Any]) -> dict[str, Any]:
    choices: dict[str, Sequence[Any]] = {
        "binWidth": (25, 25.0, 1, 10, 0.7, 3.5, 100),
        "binCount": (None, None, None, 8, 16, 1, 33),
        "distances": ([1], [1], [2], [1, 2], [1, 3]),
        "symmetricalGLCM": (True, True, False),
        "weightingNorm": (None, None, "euclidean", "manhattan", "infinity", "no_weighting"),
        "gldm_a": (0, 0, 1, 3),
        "voxelArrayShift": (0, 300, -20),
        "minimumROIDimensions": (1, 2, 3),
        "force2D": (False, False, True),
        "force2Ddimension": (0, 1, 2),
    }
    return {name: pick(options) for name, options in choices.items()}
