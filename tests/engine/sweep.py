"""Compare the engine with PyRadiomics on real cases: python -m tests.engine.sweep [--sets lidc ...] [--each 60].

Sets: `pyradiomics` (brain1, brain2, breast1), `ibsi` (the CT phantom), `lidc` (lung nodules), `nsclc` (lung tumours),
`sts` (sarcomas in CT, PET and MR), `kits` (masks of kidney tumours over a synthetic image). Both presets each. Prints
for every set how many values were compared, the worst relative deviation, and what either side refused or left out:
as PyRadiomics does, the engine leaves out LoG images that the image is too small for.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import SimpleITK

from service.features.engine.options import FULL, ORIGINAL
from tests.bench.bench_radiomics import CASES, DATA, IMAGES
from tests.engine.cases import Case
from tests.engine.fuzz import check
from tests.engine.reference import Deviations, Volume

BANKS = {"original": ORIGINAL, "full": FULL}
Named = tuple[str, Volume]


def read(image: Path, mask: Path) -> Volume:
    """Read an image and its mask, of whatever label."""
    picture, label = SimpleITK.ReadImage(str(image)), SimpleITK.ReadImage(str(mask))
    inside = SimpleITK.GetArrayFromImage(label) > 0
    return Volume(SimpleITK.GetArrayFromImage(picture), inside, picture.GetSpacing()[::-1], picture.GetDirection())


def baselines() -> Iterator[Named]:
    """Yield PyRadiomics' own cases."""
    for name in ("brain1", "brain2", "breast1"):
        yield name, CASES[name]()


def phantom() -> Iterator[Named]:
    """Yield the CT phantom of IBSI-1."""
    yield "IBSI CT", CASES["IBSI CT"]()


def nodules() -> Iterator[Named]:
    """Yield lung nodules, spread over the whole folder."""
    images = sorted((DATA / "lidc_nodules/image").iterdir())
    for image in images[:: max(1, len(images) // 60)]:
        yield image.name, read(image, DATA / "lidc_nodules/nodule_mask" / image.name)


def tumours() -> Iterator[Named]:
    """Yield lung tumours; a few masks are empty."""
    for mask in sorted((DATA / "nsclc_ct_tnm/crops").glob("*_mask.nii.gz")):
        yield mask.name, read(mask.with_name(mask.name.replace("mask", "ct")), mask)


def sarcomas() -> Iterator[Named]:
    """Yield sarcomas in every modality."""
    for image in sorted((DATA / "sts_sarcoma").glob("STS_*/*_image.nii.gz")):
        yield f"{image.parent.name} {image.name}", read(image, image.with_name(image.name.replace("image", "mask")))


def kidneys() -> Iterator[Named]:
    """Yield tumours of the kidney, laid over synthetic tissue with a margin of ten voxels."""
    for number, path in enumerate(sorted((DATA / "kits19_masks/seg").glob("*.nii.gz"))):
        label = SimpleITK.ReadImage(str(path))
        mask = np.pad(SimpleITK.GetArrayFromImage(label) == 2, 10)
        k, j, i = np.ogrid[tuple(slice(0, size) for size in mask.shape)]
        tissue = 40 + 30 * np.sin(k / 3) + 40 * np.cos(j / 7 + i / 9)
        noise = np.random.default_rng(number).normal(0, 25, mask.shape)
        yield path.name, Volume((tissue + noise).astype(np.int16), mask, label.GetSpacing()[::-1])


SETS: dict[str, Callable[[], Iterator[Named]]] = {
    "pyradiomics": baselines,
    "ibsi": phantom,
    "lidc": nodules,
    "nsclc": tumours,
    "sts": sarcomas,
    "kits": kidneys,
}


def sweep(name: str, each: int) -> tuple[str, int]:
    """Compare one set; return the report and the number of values out of tolerance."""
    deviations, outcomes = Deviations(), Counter[str]()
    for label, volume in islice(SETS[name](), each):
        for preset, bank in BANKS.items():
            setting = {"additionalInfo": False, "minimumROIDimensions": bank.minimum_dimensions}
            classes = dict.fromkeys(bank.features)
            document = {"imageType": IMAGES[preset], "featureClass": classes, "setting": setting}
            before = deviations.values
            check(Case(volume, bank, document, f"{label} {preset}"), deviations, outcomes)
            complete = sum(map(len, bank.features.values())) if preset == "original" else 1130
            outcomes["without some LoG images"] += 0 < deviations.values - before < complete
    worst = max(deviations.worst.values(), default=0.0)
    lines = [f"{name}: {deviations.values} values, worst relative deviation {worst:.1e}, {dict(outcomes)}"]
    lines += [f"  out of tolerance: {line}" for line in deviations.wrong]
    return "\n".join(lines), len(deviations.wrong)


def main() -> int:
    """Sweep the sets asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--each", type=int, default=60, help="cases of one set at most")
    arguments = parser.parse_args()
    wrong = 0
    for name in arguments.sets:
        report, count = sweep(name, arguments.each)
        wrong += count
        sys.stdout.write(report + "\n")
        sys.stdout.flush()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
