"""Response maps of IBSI-2 beside those of PyRadiomics' filters, which the engine reproduces.

Comparable are the Laplacian of Gaussian in three dimensions and the wavelets of one level. PyRadiomics has no mean,
Laws or Gabor filter, no filter within slices, no pooling over rotations and no Simoncelli wavelet.

References:
    Depeursinge et al., "Standardised convolutional filtering for radiomics", arXiv:2006.05470.
    Whybra et al., "The Image Biomarker Standardization Initiative: standardized convolutional filters for
    reproducible radiomics and enhanced clinical insights", Radiology 310(2), 2024.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
from scipy import signal

from service.features.engine.laplacian import laplacian
from service.features.engine.region import Region
from service.features.engine.wavelet import sub_bands

Doubles = npt.NDArray[np.float64]

SPACING = 2.0
"""Of the digital phantoms, mm."""
SIGMAS = {
    "2.A": ("impulse", 3.0, "id_2_impulse_CT_2A_log_s3.0.nii.gz"),
    "2.B": ("checkerboard", 5.0, "id_2_checkerboard_CT_2B_log_s5.0.nii.gz"),
}
WAVELETS = {
    "5.A.1": ("impulse", "db2", "LHL", "id_5_impulse_CT_5A1_wavelet_db2_LHL_level_1.nii.gz"),
    "6.A.1": ("sphere", "coif1", "HHL", "id_6_sphere_CT_6A1_wavelet_coif1_HHL_level_1.nii.gz"),
}


@dataclass(frozen=True)
class Comparison:
    """The largest difference between two response maps.

    Attributes:
        test: IBSI-2's identifier.
        phantom: which was filtered.
        filter: in words.
        share: largest difference over the reference map's range.
    """

    test: str
    phantom: str
    filter: str
    share: float


def compare_maps(data: Path) -> Iterator[Comparison]:
    """Compare every map that both offer."""
    for test, (phantom, sigma, file) in SIGMAS.items():
        image, reference = _read_phantom(data, phantom), _read_map(data, file)
        name = f"LoG {sigma} mm"
        yield Comparison(test, phantom, f"{name}, recursive", _share(_recursive(image, sigma), reference))
        yield Comparison(test, phantom, f"{name}, truncated at 4 sigma", _share(_truncated(image, sigma), reference))
    for test, (phantom, wavelet, band, file) in WAVELETS.items():
        image, reference = _read_phantom(data, phantom), _read_map(data, file)
        found = dict(sub_bands(image, _everywhere(image), wavelet, band[:2]))[band]
        yield Comparison(test, phantom, f"wavelet {wavelet} {band}", _share(np.asarray(found, np.float64), reference))


def _recursive(image: Doubles, sigma: float) -> Doubles:
    """Filter as PyRadiomics does; it multiplies by sigma squared, IBSI does not."""
    whole = _everywhere(image)
    return np.asarray(laplacian(image, whole, whole.spacing, sigma), np.float64) / (sigma / SPACING) ** 2


def _truncated(image: Doubles, sigma: float) -> Doubles:
    """Filter as IBSI defines it: a sampled kernel cut at four sigmas, and an image mirrored at its ends."""
    width = sigma / SPACING
    reach = ceil(4 * width)
    squares = sum(axis**2 for axis in np.meshgrid(*[np.arange(-reach, reach + 1.0)] * 3))
    kernel = (squares / width**2 - 3) / width**2 * np.exp(-squares / (2 * width**2)) / (np.sqrt(2 * np.pi) * width) ** 3
    return np.asarray(signal.fftconvolve(np.pad(image, reach, mode="symmetric"), kernel, mode="valid"))


def _everywhere(image: Doubles) -> Region:
    planes, rows, columns = image.shape
    inside = np.ones(image.shape, dtype=np.bool_)
    return Region((0, 0, 0), (planes, rows, columns), inside, image.size, (SPACING, SPACING, SPACING))


def _share(found: Doubles, reference: Doubles) -> float:
    return float(np.max(np.abs(found - reference)) / np.ptp(reference))


def _read_phantom(data: Path, name: str) -> Doubles:
    return _read(data / "ibsi_2_digital_phantom" / "nifti" / name / "image" / f"{name}.nii.gz")


def _read_map(data: Path, file: str) -> Doubles:
    return _read(data / "ibsi_2_reference_response_maps" / file)


def _read(path: Path) -> Doubles:
    return np.ascontiguousarray(np.asarray(nibabel.load(path).dataobj, dtype=np.float64).T)
