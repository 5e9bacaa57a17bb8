"""Cases as arrays: crops in a memory-mapped file and radiomics, computed once with the service's own code and kept."""

import hashlib
import importlib.metadata
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from service.bundle import channel_prefix
from service.errors import CaseError, UnfitCase
from service.features.radiomics import compute_radiomics
from service.features.vector import FeatureVector
from service.imaging import preprocess
from service.imaging.case import Case, Mask
from service.imaging.guard import Limits
from service.imaging.reader import read_case, read_image
from service.imaging.volumes import read_labels
from service.manifest import Preprocessing
from service.radiomics_settings import PRESETS
from training.cases import WHOLE, CaseIndex, CaseRecord, Finding

Crops = NDArray[np.float32]
Strings = NDArray[np.str_]

LIMITS: Final = Limits(decoded_bytes=4 * 2**30, voxels=2**30, files=4096)
LAYOUT: Final = 1  # of the cached folder; another one is computed anew
CROPS, NUMBERS, ROWS = "crops.npy", "numbers.npz", "rows.json"


@dataclass(frozen=True)
class Row:
    """What is computed of one case: the crop [C, D, D, D], the radiomics of every channel, the region's volume."""

    crop: Crops
    radiomics: NDArray[np.float64]
    volume_mm3: float


Item = TypeVar("Item")
Result = TypeVar("Result", bound=Row | Finding)


@dataclass(frozen=True)
class Recipe:
    """What is computed of every case: the encoder's crop and the radiomics vector, as the service computes them.

    `radiomics` is a preset; None computes the crops alone.
    """

    channels: tuple[str, ...]
    preprocessing: Preprocessing
    radiomics: str | None

    @property
    def crop_shape(self) -> tuple[int, int, int, int]:
        """The shape of a crop: [C, D, D, D]."""
        edge = self.preprocessing.crop_voxels
        return len(self.channels) + int(self.preprocessing.mask_channel), edge, edge, edge

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the radiomics, channel by channel, as in the service's fused vector."""
        names = () if self.radiomics is None else PRESETS[self.radiomics].feature_names()
        return tuple(channel_prefix(channel, self.channels) + name for channel in self.channels for name in names)

    def compute(self, case: Case) -> Row:
        """Compute one case's row from its first region.

        Raises:
            CaseError: the region cannot be described, or a channel is missing.
        """
        mask = case.masks[0]
        crop = preprocess.cut_crop(case.images, mask, self.channels, self.preprocessing)
        if self.radiomics is None:
            return Row(crop, np.empty(0), mask.volume_mm3)
        settings = PRESETS[self.radiomics]
        parts = [
            compute_radiomics(case.images[channel], mask, settings).prefixed(channel_prefix(channel, self.channels))
            for channel in self.channels
        ]
        return Row(crop, FeatureVector.concatenate(parts).values, mask.volume_mm3)

    def document(self) -> dict[str, Any]:
        """Return what decides the values, as JSON-ready values; the code that cuts the crops included."""
        return {
            "layout": LAYOUT,
            "channels": list(self.channels),
            "preprocessing": self.preprocessing.model_dump(mode="json"),
            "radiomics": None if self.radiomics is None else PRESETS[self.radiomics].sha256(),
            "radfuse": importlib.metadata.version("radfuse"),
            "preprocess.py": hashlib.sha256(Path(preprocess.__file__).read_bytes()).hexdigest(),
        }


@dataclass(frozen=True, eq=False)
class CaseArrays:
    """N cases; rows of all arrays belong together.

    Attributes:
        crops: float32 [N, C, D, D, D], memory-mapped where they come straight from the cache.
        radiomics: float64 [N, F]; NaN where a feature is not defined.
        feature_names: F names.
        case_ids: [N], unique.
        patient_ids: [N].
        sites: [N].
        volumes_mm3: [N], of the region.
        labels: by target [N] class names, "" where a case has none.
        covariates: by name [N] values, "" where a case has none.
    """

    crops: Crops
    radiomics: NDArray[np.float64]
    feature_names: tuple[str, ...]
    case_ids: Strings
    patient_ids: Strings
    sites: Strings
    volumes_mm3: NDArray[np.float64]
    labels: Mapping[str, Strings]
    covariates: Mapping[str, Strings] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.case_ids)
        columns: list[NDArray[Any]] = [
            self.crops,
            self.radiomics,
            self.patient_ids,
            self.sites,
            self.volumes_mm3,
            *self.labels.values(),
        ]
        if any(len(column) != count for column in columns):
            raise ValueError(f"columns of {sorted({len(column) for column in columns})} rows for {count} cases")
        if len(np.unique(self.case_ids)) < count:
            raise ValueError("case ids must be unique")

    def __len__(self) -> int:
        return len(self.case_ids)

    @property
    def _words(self) -> tuple[Strings, ...]:
        return (*self.labels.values(), *self.covariates.values())

    def subset(self, rows: NDArray[Any]) -> "CaseArrays":
        """Return some rows, by numbers or by a boolean array, in the order asked for; crops are copied into memory."""
        return CaseArrays(
            crops=np.ascontiguousarray(self.crops[rows]),
            radiomics=self.radiomics[rows],
            feature_names=self.feature_names,
            case_ids=self.case_ids[rows],
            patient_ids=self.patient_ids[rows],
            sites=self.sites[rows],
            volumes_mm3=self.volumes_mm3[rows],
            labels={target: classes[rows] for target, classes in self.labels.items()},
            covariates={name: values[rows] for name, values in self.covariates.items()},
        )

    def join(self, *others: "CaseArrays") -> "CaseArrays":
        """Return the cases of all, one collection after the other; targets that one lacks are unlabelled there.

        Raises:
            ValueError: made by different recipes, or a case id occurs twice.
        """
        everyone = (self, *others)
        sizes = [len(one) for one in everyone]
        for other in others:
            if (other.feature_names, other.crops.shape[1:]) != (self.feature_names, self.crops.shape[1:]):
                raise ValueError("collections of different crops or radiomics cannot be joined")
        return CaseArrays(
            crops=np.concatenate([one.crops for one in everyone]),
            radiomics=np.concatenate([one.radiomics for one in everyone]),
            feature_names=self.feature_names,
            case_ids=np.concatenate([one.case_ids for one in everyone]),
            patient_ids=np.concatenate([one.patient_ids for one in everyone]),
            sites=np.concatenate([one.sites for one in everyone]),
            volumes_mm3=np.concatenate([one.volumes_mm3 for one in everyone]),
            labels=_join_words([one.labels for one in everyone], sizes),
            covariates=_join_words([one.covariates for one in everyone], sizes),
        )


def build_arrays(index: CaseIndex, recipe: Recipe, cache: Path, processes: int = 1) -> tuple[CaseArrays, list[Finding]]:
    """Compute the crops and radiomics of every case, or take them from the cache.

    What was computed is kept below `cache` in a folder named after the collection and the digest of the recipe and
    of every file's name, size and time of change. The folder appears only when it is complete. Labels are not part
    of it: they are the index's.

    Args:
        index: the cases.
        recipe: what to compute.
        cache: the folder of all cached collections.
        processes: to share the work among; 1 works in this process.

    Returns:
        The usable cases in the index's order, and a finding for every one that is not.
    """
    folder = cache / f"{index.name}-{_digest(index, recipe)}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{index.name}-", dir=cache) as made:
            _compute(index, recipe, Path(made) / "whole", processes)
            _keep(Path(made) / "whole", folder)
    return _load(index, recipe, folder)


def read_record(record: CaseRecord, channels: Sequence[str]) -> Case:
    """Read one case as the service does; with `WHOLE` every label of the mask is one region.

    Raises:
        CaseError: see `read_case`; UnfitCase where a channel is missing.
    """
    if missing := [name for name in channels if name not in record.images]:
        raise UnfitCase(f"channel {missing[0]!r} has no image in the case", channel=missing[0])
    files = record.case_files(channels)
    if record.roi != WHOLE:
        return read_case(files, roi=record.roi, resample_mask=False, limits=LIMITS, case_id=record.case_id)
    images = {name: read_image(paths, LIMITS) for name, paths in files.images.items()}
    grid = images[channels[0]].geometry
    labels = read_labels(record.mask[0], LIMITS).on_grid(grid, resample=False)
    return Case(record.case_id, images, (Mask(labels.voxels != 0, labels.geometry, WHOLE),))


def write_rows(
    work: Callable[[Item], Result], items: Sequence[Item], recipe: Recipe, path: Path, processes: int
) -> Iterator[Result]:
    """Compute a row of every item, write its crop to `path` (npy) as the next one, and yield what was computed.

    Args:
        work: computes one row, or says why there is none; picklable if `processes` > 1.
        items: one per case.
        recipe: by which `work` computes; it tells the shape of a crop.
        path: the file; it ends with as many crops as there were rows.
        processes: to share the work among; 1 works in this process.
    """
    crops = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(len(items), *recipe.crop_shape))
    written = 0
    with tqdm(total=len(items), desc=path.stem, unit="case") as progress:
        for result in _spread(work, items, processes):
            if isinstance(result, Row):
                crops[written] = result.crop
                written += 1
            yield result
            progress.update()
    crops.flush()
    if written < len(items):
        shortened = path.with_suffix(".part")
        with shortened.open("wb") as file:
            np.save(file, crops[:written])
        shortened.replace(path)


def _spread(work: Callable[[Item], Result], items: Sequence[Item], processes: int) -> Iterable[Result]:
    if processes == 1:
        yield from map(work, items)
        return
    # Fresh processes: forking one that already runs torch's threads can lock up.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, items, chunksize=4)


def _digest(index: CaseIndex, recipe: Recipe) -> str:
    files = [[record.case_id, record.roi, [_fingerprint(path) for path in record.files]] for record in index.records]
    text = json.dumps([recipe.document(), files], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fingerprint(path: Path) -> list[Any]:
    if not path.exists():
        return [path.name, None]
    state = path.stat()
    return [path.name, state.st_size, state.st_mtime_ns]


def _compute(index: CaseIndex, recipe: Recipe, folder: Path, processes: int) -> None:
    folder.mkdir()
    radiomics, volumes_mm3, kept, findings = [], [], [], []
    results = write_rows(partial(_compute_row, recipe=recipe), index.records, recipe, folder / CROPS, processes)
    for record, result in zip(index.records, results, strict=True):
        if isinstance(result, Row):
            radiomics.append(result.radiomics)
            volumes_mm3.append(result.volume_mm3)
            kept.append(record.case_id)
        else:
            findings.append(asdict(result))
    np.savez(
        folder / NUMBERS,
        radiomics=np.array(radiomics, np.float64).reshape(len(kept), len(recipe.feature_names)),
        volumes_mm3=np.array(volumes_mm3, np.float64),
    )
    (folder / ROWS).write_text(json.dumps({"case_ids": kept, "findings": findings}, indent=1))


def _compute_row(record: CaseRecord, recipe: Recipe) -> Row | Finding:
    try:
        return recipe.compute(read_record(record, recipe.channels))
    except CaseError as error:
        return Finding(record.case_id, error.slug, error.detail)
    except OSError as error:
        return Finding(record.case_id, "missing-file", f"a file of the case cannot be opened: {error.strerror}")


def _keep(made: Path, folder: Path) -> None:
    """Give a complete folder its name, unless another process was faster."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(made)


def _load(index: CaseIndex, recipe: Recipe, folder: Path) -> tuple[CaseArrays, list[Finding]]:
    stored = json.loads((folder / ROWS).read_text())
    by_id = {record.case_id: record for record in index.records}
    records = [by_id[case_id] for case_id in stored["case_ids"]]
    with np.load(folder / NUMBERS) as numbers:
        radiomics, volumes_mm3 = numbers["radiomics"], numbers["volumes_mm3"]
    arrays = CaseArrays(
        crops=np.load(folder / CROPS, mmap_mode="r"),
        radiomics=radiomics,
        feature_names=recipe.feature_names,
        case_ids=_strings(record.case_id for record in records),
        patient_ids=_strings(record.patient_id for record in records),
        sites=_strings(record.site for record in records),
        volumes_mm3=volumes_mm3,
        labels={target: _strings(record.labels.get(target, "") for record in records) for target in index.targets},
        covariates={name: _strings(record.covariates.get(name, "") for record in records) for name in index.covariates},
    )
    return arrays, [Finding(**finding) for finding in stored["findings"]]


def _join_words(parts: Sequence[Mapping[str, Strings]], sizes: Sequence[int]) -> dict[str, Strings]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {
        name: np.concatenate([part.get(name, np.full(size, "")) for part, size in zip(parts, sizes, strict=True)])
        for name in names
    }


def _strings(values: Iterable[str]) -> Strings:
    return np.array(list(values), dtype=np.str_)
