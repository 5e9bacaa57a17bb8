"""Other radiomics engines, each run by the interpreter of an environment of its own.

    PEER_PYTHON tests/bench/peers.py ENGINE FOLDER PRESET REPEATS ANSWER

`bench_radiomics` runs this; nothing of the repository is imported, and each engine only when it is asked for. The
folder holds `image` and `mask` as NRRD and, for an engine that reads nothing else, as NIfTI. The answer is a JSON
file: median seconds, peak memory beyond the loaded case, and features by PyRadiomics' names as far as the engine has
them, or the reason why there are none. Each is free to use two threads; Nyxus and MIRP read the files in their time.
"""

import json
import logging
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

THREADS = 2
PATIENCE = 5.0  # seconds; a slower engine is timed once
BANK = {"Original": {}, "LoG": {"sigma": [1.0, 2.0, 3.0]}, "Wavelet": {"wavelet": "coif1"}}
CLASSES = ("shape", "firstorder", "glcm", "gldm", "glrlm", "glszm", "ngtdm")

Features = dict[str, float]
Run = Callable[[], Features]


class NotOfferedError(Exception):
    """The engine does not offer the preset."""


def drop_in(extractor: Any, folder: Path, preset: str, **options: Any) -> Run:
    """Prepare an engine with PyRadiomics' interface."""
    image, mask = (SimpleITK.ReadImage(str(folder / f"{name}.nrrd")) for name in ("image", "mask"))
    images = BANK if preset == "full" else {"Original": {}}
    document = {"imageType": images, "featureClass": dict.fromkeys(CLASSES), "setting": {"additionalInfo": False}}

    def run() -> Features:
        found = extractor(document, **options).execute(image, mask)
        return {name: float(np.real(value)) for name, value in found.items() if not name.startswith("diagnostics")}

    return run


def pyradiomics_cuda(folder: Path, preset: str) -> Run:
    """Prepare pyradiomics-cuda: PyRadiomics' interface; without a GPU its C code."""
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    return drop_in(RadiomicsFeatureExtractor, folder, preset)


def flash_radiomics(folder: Path, preset: str) -> Run:
    """Prepare flash-radiomics: PyRadiomics' interface, native code with threads."""
    from flash_radiomics.featureextractor import RadiomicsFeatureExtractor

    return drop_in(RadiomicsFeatureExtractor, folder, preset, num_threads=THREADS)


def fastrad(folder: Path, preset: str) -> Run:
    """Prepare fastrad: PyTorch; no derived images."""
    if preset != "original":
        raise NotOfferedError("no LoG, no wavelet")
    import torch
    from fastrad.extractor import FeatureExtractor
    from fastrad.image import Mask, MedicalImage
    from fastrad.settings import FeatureSettings

    torch.set_num_threads(THREADS)
    voxels, mask, spacing = read(folder)
    image = MedicalImage(torch.from_numpy(voxels.astype(np.float32)), spacing)
    region = Mask(torch.from_numpy(mask.astype(np.float32)), spacing)

    def run() -> Features:
        found = FeatureExtractor(FeatureSettings(device="cpu")).extract(image, region)
        named = {name.replace("10th", "10").replace("90th", "90"): value for name, value in found.items()}
        return {"original_" + name.replace(":", "_", 1): float(value) for name, value in named.items()}

    return run


def numpyradiomics(folder: Path, preset: str) -> Run:
    """Prepare numpyradiomics: NumPy; it offers no derived images."""
    if preset != "original":
        raise NotOfferedError("no LoG, no wavelet")
    from numpyradiomics import firstorder, shape, texture

    voxels, mask, spacing = read(folder)

    def run() -> Features:
        found = {f"shape_{name}": value for name, value in shape(mask, spacing, extend=False).items()}
        statistic = firstorder(voxels, mask, voxelVolume=float(np.prod(spacing)), extend=False)
        found |= {f"firstorder_{name}": value for name, value in statistic.items()}
        found |= texture(voxels, mask)
        return {f"original_{name}": float(value) for name, value in found.items()}

    return run


def nyxus(folder: Path, preset: str) -> Run:
    """Prepare Nyxus: it reads files by itself, and bins by number alone."""
    if preset != "original":
        raise NotOfferedError("no LoG, no wavelet in 3D")
    import nyxus as engine

    k, j, i = read(folder)[2]
    extractor = engine.Nyxus3D(
        ["*3D_ALL*"], n_feature_calc_threads=THREADS, anisotropy_x=i, anisotropy_y=j, anisotropy_z=k
    )

    def run() -> Features:
        table = extractor.featurize_files([str(folder / "image.nii")], [str(folder / "mask.nii")], False)
        return rename({name: table[name].iloc[0] for name in table.columns[4:]}, NYXUS)

    return run


def mirp(folder: Path, preset: str) -> Run:
    """Prepare MIRP: IBSI's definitions; it reads files by itself."""
    from mirp import extract_features

    voxels, mask, _ = read(folder)
    lowest = float(np.floor(voxels[mask > 0].min() / 25) * 25)
    families = ["morph", "stat", "ih", "cm", "rlm", "szm", "ngtdm", "ngldm"]
    options: dict[str, Any] = {
        "base_discretisation_method": "fixed_bin_size",
        "base_discretisation_bin_width": 25.0,
        "resegmentation_intensity_range": [lowest, np.nan],
        "base_feature_families": families,
        "glcm_spatial_method": "3d_average",
        "glrlm_spatial_method": "3d_average",
    }
    if preset == "full":
        options |= {
            "filter_kernels": ["laplacian_of_gaussian", "separable_wavelet"],
            "laplacian_of_gaussian_sigma": [1.0, 2.0, 3.0],
            "separable_wavelet_families": "coif1",
            "separable_wavelet_set": "all",
            "separable_wavelet_rotation_invariance": False,
            "response_map_feature_families": [name for name in families if name != "morph"],
            "response_map_discretisation_method": "fixed_bin_number",
            "response_map_discretisation_n_bins": 32,
        }

    def run() -> Features:
        paths = {name: str(folder / f"{name}.nrrd") for name in ("image", "mask")}
        table = extract_features(**paths, **options)[0]
        return rename({name: table[name].iloc[0] for name in table.columns}, MIRP)

    return run


NYXUS = {
    "firstorder": "3{} Energy=ENERGY InterquartileRange=INTERQUARTILE_RANGE Kurtosis=KURTOSIS Maximum=MAX Mean=MEAN "
    "MeanAbsoluteDeviation=MEAN_ABSOLUTE_DEVIATION Median=MEDIAN Minimum=MIN 10Percentile=P10 90Percentile=P90 "
    "Range=RANGE RobustMeanAbsoluteDeviation=ROBUST_MEAN_ABSOLUTE_DEVIATION RootMeanSquared=ROOT_MEAN_SQUARED "
    "Skewness=SKEWNESS Variance=VARIANCE_BIASED Entropy=ENTROPY Uniformity=UNIFORMITY",
    "shape": "3{} SurfaceArea=AREA SurfaceVolumeRatio=AREA_2_VOLUME MeshVolume=MESH_VOLUME Sphericity=SPHERICITY "
    "VoxelVolume=VOXEL_VOLUME MajorAxisLength=MAJOR_AXIS_LEN MinorAxisLength=MINOR_AXIS_LEN "
    "LeastAxisLength=LEAST_AXIS_LEN Elongation=ELONGATION Flatness=FLATNESS",
    "glcm": "3GLCM_{}_AVE Autocorrelation=ACOR JointEnergy=ASM ClusterProminence=CLUPROM ClusterShade=CLUSHADE "
    "ClusterTendency=CLUTEND Contrast=CONTRAST Correlation=CORRELATION DifferenceAverage=DIFAVE "
    "DifferenceEntropy=DIFENTRO DifferenceVariance=DIFVAR Id=ID Idn=IDN Idm=IDM Idmn=IDMN InverseVariance=IV "
    "JointAverage=JAVE JointEntropy=JE Imc1=INFOMEAS1 Imc2=INFOMEAS2 MaximumProbability=JMAX SumAverage=SUMAVERAGE "
    "SumEntropy=SUMENTROPY SumSquares=JVAR",
    "gldm": "3GLDM_{} SmallDependenceEmphasis=SDE LargeDependenceEmphasis=LDE GrayLevelNonUniformity=GLN "
    "DependenceNonUniformity=DN DependenceNonUniformityNormalized=DNN GrayLevelVariance=GLV DependenceVariance=DV "
    "DependenceEntropy=DE LowGrayLevelEmphasis=LGLE HighGrayLevelEmphasis=HGLE "
    "SmallDependenceLowGrayLevelEmphasis=SDLGLE SmallDependenceHighGrayLevelEmphasis=SDHGLE "
    "LargeDependenceLowGrayLevelEmphasis=LDLGLE LargeDependenceHighGrayLevelEmphasis=LDHGLE",
    "glrlm": "3GLRLM_{}_AVE ShortRunEmphasis=SRE LongRunEmphasis=LRE GrayLevelNonUniformity=GLN "
    "GrayLevelNonUniformityNormalized=GLNN RunLengthNonUniformity=RLN RunLengthNonUniformityNormalized=RLNN "
    "RunPercentage=RP GrayLevelVariance=GLV RunVariance=RV RunEntropy=RE LowGrayLevelRunEmphasis=LGLRE "
    "HighGrayLevelRunEmphasis=HGLRE ShortRunLowGrayLevelEmphasis=SRLGLE ShortRunHighGrayLevelEmphasis=SRHGLE "
    "LongRunLowGrayLevelEmphasis=LRLGLE LongRunHighGrayLevelEmphasis=LRHGLE",
    "glszm": "3GLSZM_{} SmallAreaEmphasis=SAE LargeAreaEmphasis=LAE GrayLevelNonUniformity=GLN "
    "GrayLevelNonUniformityNormalized=GLNN SizeZoneNonUniformity=SZN SizeZoneNonUniformityNormalized=SZNN "
    "ZonePercentage=ZP GrayLevelVariance=GLV ZoneVariance=ZV ZoneEntropy=ZE LowGrayLevelZoneEmphasis=LGLZE "
    "HighGrayLevelZoneEmphasis=HGLZE SmallAreaLowGrayLevelEmphasis=SALGLE SmallAreaHighGrayLevelEmphasis=SAHGLE "
    "LargeAreaLowGrayLevelEmphasis=LALGLE LargeAreaHighGrayLevelEmphasis=LAHGLE",
    "ngtdm": "3NGTDM_{} Coarseness=COARSENESS Contrast=CONTRAST Busyness=BUSYNESS Complexity=COMPLEXITY "
    "Strength=STRENGTH",
}
"""PyRadiomics' names and Nyxus' for each class; the first word says how Nyxus' names are built."""

MIRP = {
    "firstorder": "stat_{} Mean=mean Variance=var Skewness=skew Median=median Minimum=min 10Percentile=p10 "
    "90Percentile=p90 Maximum=max InterquartileRange=iqr Range=range MeanAbsoluteDeviation=mad "
    "RobustMeanAbsoluteDeviation=rmad Energy=energy RootMeanSquared=rms",
    "shape": "morph_{} MeshVolume=volume VoxelVolume=vol_approx SurfaceArea=area_mesh SurfaceVolumeRatio=av "
    "Sphericity=sphericity Maximum3DDiameter=diam MajorAxisLength=pca_maj_axis MinorAxisLength=pca_min_axis "
    "LeastAxisLength=pca_least_axis Elongation=pca_elongation Flatness=pca_flatness",
    "glcm": "cm_{}_d1_3d_avg_fbs_w25.0 MaximumProbability=joint_max JointAverage=joint_avg SumSquares=joint_var "
    "JointEntropy=joint_entr DifferenceAverage=diff_avg DifferenceVariance=diff_var DifferenceEntropy=diff_entr "
    "SumAverage=sum_avg SumEntropy=sum_entr JointEnergy=energy Contrast=contrast Id=inv_diff Idn=inv_diff_norm "
    "Idm=inv_diff_mom Idmn=inv_diff_mom_norm InverseVariance=inv_var Correlation=corr Autocorrelation=auto_corr "
    "ClusterTendency=clust_tend ClusterShade=clust_shade ClusterProminence=clust_prom Imc1=info_corr1 Imc2=info_corr2",
    "glrlm": "rlm_{}_3d_avg_fbs_w25.0 ShortRunEmphasis=sre LongRunEmphasis=lre LowGrayLevelRunEmphasis=lgre "
    "HighGrayLevelRunEmphasis=hgre ShortRunLowGrayLevelEmphasis=srlge ShortRunHighGrayLevelEmphasis=srhge "
    "LongRunLowGrayLevelEmphasis=lrlge LongRunHighGrayLevelEmphasis=lrhge GrayLevelNonUniformity=glnu "
    "GrayLevelNonUniformityNormalized=glnu_norm RunLengthNonUniformity=rlnu RunLengthNonUniformityNormalized=rlnu_norm "
    "RunPercentage=r_perc GrayLevelVariance=gl_var RunVariance=rl_var RunEntropy=rl_entr",
    "glszm": "szm_{}_3d_fbs_w25.0 SmallAreaEmphasis=sze LargeAreaEmphasis=lze LowGrayLevelZoneEmphasis=lgze "
    "HighGrayLevelZoneEmphasis=hgze SmallAreaLowGrayLevelEmphasis=szlge SmallAreaHighGrayLevelEmphasis=szhge "
    "LargeAreaLowGrayLevelEmphasis=lzlge LargeAreaHighGrayLevelEmphasis=lzhge GrayLevelNonUniformity=glnu "
    "GrayLevelNonUniformityNormalized=glnu_norm SizeZoneNonUniformity=zsnu SizeZoneNonUniformityNormalized=zsnu_norm "
    "ZonePercentage=z_perc GrayLevelVariance=gl_var ZoneVariance=zs_var ZoneEntropy=zs_entr",
    "ngtdm": "ngt_{}_3d_fbs_w25.0 Coarseness=coarseness Contrast=contrast Busyness=busyness Complexity=complexity "
    "Strength=strength",
    "gldm": "ngl_{}_d1_a0.0_3d_fbs_w25.0 SmallDependenceEmphasis=lde LargeDependenceEmphasis=hde "
    "LowGrayLevelEmphasis=lgce HighGrayLevelEmphasis=hgce SmallDependenceLowGrayLevelEmphasis=ldlge "
    "SmallDependenceHighGrayLevelEmphasis=ldhge LargeDependenceLowGrayLevelEmphasis=hdlge "
    "LargeDependenceHighGrayLevelEmphasis=hdhge GrayLevelNonUniformity=glnu DependenceNonUniformity=dcnu "
    "DependenceNonUniformityNormalized=dcnu_norm GrayLevelVariance=gl_var DependenceVariance=dc_var "
    "DependenceEntropy=dc_entr",
}
"""PyRadiomics' names and MIRP's; only features of the same definition."""


def rename(found: dict[str, Any], names: dict[str, str]) -> Features:
    """Translate an engine's names to PyRadiomics'."""
    renamed = {}
    for family, text in names.items():
        pattern, *pairs = text.split()
        for ours, theirs in (pair.split("=") for pair in pairs):
            if pattern.format(theirs) in found:
                renamed[f"original_{family}_{ours}"] = float(found[pattern.format(theirs)])
    return renamed


def read(folder: Path) -> tuple[Any, Any, tuple[float, float, float]]:
    """Return voxels, mask and spacing, all (K, J, I)."""
    image = SimpleITK.ReadImage(str(folder / "image.nrrd"))
    mask = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(folder / "mask.nrrd")))
    i, j, k = image.GetSpacing()
    return SimpleITK.GetArrayFromImage(image), mask, (k, j, i)


def memory(what: str) -> float:
    """Return this process's memory in use (VmRSS) or its peak (VmHWM), MB."""
    (kilobytes,) = re.findall(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(kilobytes) / 1024


def measure(run: Run, repeats: int) -> dict[str, Any]:
    """Time an engine: the median of its repeats after one run, or that run if it takes long."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of what came before
    before, times = memory("VmRSS"), []
    features: Features = {}
    for turn in range(1 + repeats):
        started = time.perf_counter()
        features = run()
        times.append(time.perf_counter() - started)
        if turn == 0 and times[0] >= PATIENCE:
            break
    seconds = statistics.median(times[1:] or times)
    return {"seconds": seconds, "megabytes": memory("VmHWM") - before, "features": features}


ENGINES: dict[str, Callable[[Path, str], Run]] = {
    "fastrad": fastrad,
    "flash-radiomics": flash_radiomics,
    "mirp": mirp,
    "numpyradiomics": numpyradiomics,
    "nyxus": nyxus,
    "pyradiomics-cuda": pyradiomics_cuda,
}


def main() -> None:
    """Measure one engine on one case, after a small case that compiles and loads what it needs."""
    engine, folder, preset, repeats, answer = sys.argv[1:]
    logging.disable(logging.CRITICAL)
    try:
        ENGINES[engine](Path(folder) / "small", "original")()
        found = measure(ENGINES[engine](Path(folder), preset), int(repeats))
    except NotOfferedError as reason:
        found = {"reason": str(reason)}
    Path(answer).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
