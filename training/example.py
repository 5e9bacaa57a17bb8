"""The example case of a bundle: a synthetic image, its mask and the truth, as files anybody can send."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from service.imaging.geometry import Geometry
from training.layouts import Layout
from training.phantoms import Phantom, make_phantom

FOLDER, IMAGE, MASK, TRUTH = "example", "image.nii.gz", "mask.nii.gz", "truth.json"

# Small enough to travel with the code: a clean dose compresses well.
EXAMPLE_LAYOUT = Layout(shape=(64, 64, 40), noise_hu=(12.0, 16.0), slice_mm=(1.2, 1.6))


def make_example(seed: int) -> Phantom:
    """Draw the example's phantom."""
    return make_phantom(seed, layout=EXAMPLE_LAYOUT)


def write_example(phantom: Phantom, folder: Path) -> None:
    """Write `phantom` as two NIfTI files and its truth; equal phantoms give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_nifti(np.asarray(phantom.image.voxels, np.int16), phantom.image.geometry, folder / IMAGE)
    _write_nifti(phantom.mask.voxels.astype(np.uint8), phantom.mask.geometry, folder / MASK)
    (folder / TRUTH).write_text(json.dumps(phantom.truth.document(), indent=2) + "\n")


def _write_nifti(voxels: NDArray[np.generic], geometry: Geometry, path: Path) -> None:
    volume: Any = nibabel.Nifti1Image(voxels, geometry.affine)  # type: ignore[no-untyped-call]
    volume.header.set_xyzt_units("mm")
    volume.to_filename(path)
