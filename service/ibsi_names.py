"""PyRadiomics' names beside IBSI's: code, tag of the reference values, and how PyRadiomics deviates.

Only features that IBSI defines are listed. PyRadiomics' MCC, TotalEnergy, StandardDeviation and 2D diameters have no
IBSI definition. Where IBSI has a feature that PyRadiomics 3.0.1 does not compute (dissimilarity 8S9J, sum variance
OEEB, dependence count percentage 6XV8, energy CAS9 and normalised non-uniformity 5SPA of NGLDM) it is left out
here too.

References:
    IBSI reference manual, arXiv:1612.07003, chapter 3.
    PyRadiomics 3.0.1, documentation of its feature classes.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Feature:
    """A feature that both define.

    Attributes:
        name: PyRadiomics' class and name.
        code: IBSI's permanent code.
        tag: of the reference values, without the aggregation.
        deviation: how PyRadiomics' definition differs, whatever the image processing; empty where it does not.
    """

    name: str
    code: str
    tag: str
    deviation: str = ""

    @property
    def family(self) -> str:
        """PyRadiomics' class."""
        return self.name.partition("_")[0]

    @property
    def aggregated(self) -> bool:
        """Whether the value depends on how matrices are merged over slices."""
        return self.family not in ("shape", "firstorder")

    @property
    def directed(self) -> bool:
        """Whether the value depends on how matrices are merged over directions, too."""
        return self.family in ("glcm", "glrlm")


_POPULATION: Final = "variances of voxel centres are taken over N; the reference values have them over N - 1"
_MERGING: Final = "averages over directions: IBSI's 3D, averaged (ITBB), not 3D, merged (IAZD)"
_RUNS: Final = _MERGING + "; directions in which no line meets two voxels are left out"
_LONELY: Final = "voxels without neighbours are counted, with a difference of 0"

FEATURES: Final = (
    Feature("shape_MeshVolume", "RNU0", "morph_volume"),
    Feature("shape_VoxelVolume", "YEKZ", "morph_vol_approx"),
    Feature("shape_SurfaceArea", "C0JK", "morph_area_mesh"),
    Feature("shape_SurfaceVolumeRatio", "2PR5", "morph_av"),
    Feature("shape_Compactness1", "SKGS", "morph_comp_1", "deprecated: computed only when named"),
    Feature("shape_Compactness2", "BQWJ", "morph_comp_2", "deprecated: computed only when named"),
    Feature("shape_SphericalDisproportion", "KRCK", "morph_sph_dispr", "deprecated: computed only when named"),
    Feature("shape_Sphericity", "QCFX", "morph_sphericity"),
    Feature("shape_Maximum3DDiameter", "L0JK", "morph_diam"),
    Feature("shape_MajorAxisLength", "TDIC", "morph_pca_maj_axis", _POPULATION),
    Feature("shape_MinorAxisLength", "P9VJ", "morph_pca_min_axis", _POPULATION),
    Feature("shape_LeastAxisLength", "7J51", "morph_pca_least_axis", _POPULATION),
    Feature("shape_Elongation", "Q3CK", "morph_pca_elongation"),
    Feature("shape_Flatness", "N17B", "morph_pca_flatness"),
    Feature("firstorder_Mean", "Q4LE", "stat_mean"),
    Feature("firstorder_Variance", "ECT3", "stat_var"),
    Feature("firstorder_Skewness", "KE2M", "stat_skew"),
    Feature("firstorder_Kurtosis", "IPH6", "stat_kurt", "not the excess: 3 more than IBSI's"),
    Feature("firstorder_Median", "Y12H", "stat_median"),
    Feature("firstorder_Minimum", "1GSF", "stat_min"),
    Feature("firstorder_10Percentile", "QG58", "stat_p10"),
    Feature("firstorder_90Percentile", "8DWT", "stat_p90"),
    Feature("firstorder_Maximum", "84IY", "stat_max"),
    Feature("firstorder_InterquartileRange", "SALO", "stat_iqr"),
    Feature("firstorder_Range", "2OJQ", "stat_range"),
    Feature("firstorder_MeanAbsoluteDeviation", "4FUA", "stat_mad"),
    Feature("firstorder_RobustMeanAbsoluteDeviation", "1128", "stat_rmad"),
    Feature("firstorder_Energy", "N8CA", "stat_energy", "intensities are shifted by voxelArrayShift, 0 unless set"),
    Feature(
        "firstorder_RootMeanSquared", "5ZWQ", "stat_rms", "intensities are shifted by voxelArrayShift, 0 unless set"
    ),
    Feature("firstorder_Entropy", "TLU2", "ih_entropy"),
    Feature("firstorder_Uniformity", "BJ5W", "ih_uniformity"),
    Feature("glcm_MaximumProbability", "GYBY", "cm_joint_max", _MERGING),
    Feature("glcm_JointAverage", "60VM", "cm_joint_avg", _MERGING),
    Feature("glcm_SumSquares", "UR99", "cm_joint_var", _MERGING),
    Feature("glcm_JointEntropy", "TU9B", "cm_joint_entr", _MERGING),
    Feature("glcm_DifferenceAverage", "TF7R", "cm_diff_avg", _MERGING),
    Feature("glcm_DifferenceVariance", "D3YU", "cm_diff_var", _MERGING),
    Feature("glcm_DifferenceEntropy", "NTRS", "cm_diff_entr", _MERGING),
    Feature("glcm_SumAverage", "ZGXS", "cm_sum_avg", _MERGING),
    Feature("glcm_SumEntropy", "P6QZ", "cm_sum_entr", _MERGING),
    Feature("glcm_JointEnergy", "8ZQL", "cm_energy", _MERGING),
    Feature("glcm_Contrast", "ACUI", "cm_contrast", _MERGING),
    Feature("glcm_Id", "IB1Z", "cm_inv_diff", _MERGING),
    Feature("glcm_Idn", "NDRX", "cm_inv_diff_norm", _MERGING),
    Feature("glcm_Idm", "WF0Z", "cm_inv_diff_mom", _MERGING),
    Feature("glcm_Idmn", "1QCO", "cm_inv_diff_mom_norm", _MERGING),
    Feature("glcm_InverseVariance", "E8JP", "cm_inv_var", _MERGING),
    Feature("glcm_Correlation", "NI2N", "cm_corr", _MERGING),
    Feature("glcm_Autocorrelation", "QWB0", "cm_auto_corr", _MERGING),
    Feature("glcm_ClusterTendency", "DG8W", "cm_clust_tend", _MERGING),
    Feature("glcm_ClusterShade", "7NFM", "cm_clust_shade", _MERGING),
    Feature("glcm_ClusterProminence", "AE86", "cm_clust_prom", _MERGING),
    Feature("glcm_Imc1", "R8DG", "cm_info_corr1", _MERGING),
    Feature("glcm_Imc2", "JN9H", "cm_info_corr2", _MERGING),
    Feature("glrlm_ShortRunEmphasis", "22OV", "rlm_sre", _RUNS),
    Feature("glrlm_LongRunEmphasis", "W4KF", "rlm_lre", _RUNS),
    Feature("glrlm_LowGrayLevelRunEmphasis", "V3SW", "rlm_lgre", _RUNS),
    Feature("glrlm_HighGrayLevelRunEmphasis", "G3QZ", "rlm_hgre", _RUNS),
    Feature("glrlm_ShortRunLowGrayLevelEmphasis", "HTZT", "rlm_srlge", _RUNS),
    Feature("glrlm_ShortRunHighGrayLevelEmphasis", "GD3A", "rlm_srhge", _RUNS),
    Feature("glrlm_LongRunLowGrayLevelEmphasis", "IVPO", "rlm_lrlge", _RUNS),
    Feature("glrlm_LongRunHighGrayLevelEmphasis", "3KUM", "rlm_lrhge", _RUNS),
    Feature("glrlm_GrayLevelNonUniformity", "R5YN", "rlm_glnu", _RUNS),
    Feature("glrlm_GrayLevelNonUniformityNormalized", "OVBL", "rlm_glnu_norm", _RUNS),
    Feature("glrlm_RunLengthNonUniformity", "W92Y", "rlm_rlnu", _RUNS),
    Feature("glrlm_RunLengthNonUniformityNormalized", "IC23", "rlm_rlnu_norm", _RUNS),
    Feature("glrlm_RunPercentage", "9ZK5", "rlm_r_perc", _RUNS),
    Feature("glrlm_GrayLevelVariance", "8CE5", "rlm_gl_var", _RUNS),
    Feature("glrlm_RunVariance", "SXLW", "rlm_rl_var", _RUNS),
    Feature("glrlm_RunEntropy", "HJ9O", "rlm_rl_entr", _RUNS),
    Feature("glszm_SmallAreaEmphasis", "5QRC", "szm_sze"),
    Feature("glszm_LargeAreaEmphasis", "48P8", "szm_lze"),
    Feature("glszm_LowGrayLevelZoneEmphasis", "XMSY", "szm_lgze"),
    Feature("glszm_HighGrayLevelZoneEmphasis", "5GN9", "szm_hgze"),
    Feature("glszm_SmallAreaLowGrayLevelEmphasis", "5RAI", "szm_szlge"),
    Feature("glszm_SmallAreaHighGrayLevelEmphasis", "HW1V", "szm_szhge"),
    Feature("glszm_LargeAreaLowGrayLevelEmphasis", "YH51", "szm_lzlge"),
    Feature("glszm_LargeAreaHighGrayLevelEmphasis", "J17V", "szm_lzhge"),
    Feature("glszm_GrayLevelNonUniformity", "JNSA", "szm_glnu"),
    Feature("glszm_GrayLevelNonUniformityNormalized", "Y1RO", "szm_glnu_norm"),
    Feature("glszm_SizeZoneNonUniformity", "4JP3", "szm_zsnu"),
    Feature("glszm_SizeZoneNonUniformityNormalized", "VB3A", "szm_zsnu_norm"),
    Feature("glszm_ZonePercentage", "P30P", "szm_z_perc"),
    Feature("glszm_GrayLevelVariance", "BYLV", "szm_gl_var"),
    Feature("glszm_ZoneVariance", "3NSA", "szm_zs_var"),
    Feature("glszm_ZoneEntropy", "GU8N", "szm_zs_entr"),
    Feature("ngtdm_Coarseness", "QCDE", "ngt_coarseness", _LONELY),
    Feature("ngtdm_Contrast", "65HE", "ngt_contrast", _LONELY),
    Feature("ngtdm_Busyness", "NQ30", "ngt_busyness", _LONELY),
    Feature("ngtdm_Complexity", "HDEZ", "ngt_complexity", _LONELY),
    Feature("ngtdm_Strength", "1X9X", "ngt_strength", _LONELY),
    Feature("gldm_SmallDependenceEmphasis", "SODN", "ngl_lde"),
    Feature("gldm_LargeDependenceEmphasis", "IMOQ", "ngl_hde"),
    Feature("gldm_LowGrayLevelEmphasis", "TL9H", "ngl_lgce"),
    Feature("gldm_HighGrayLevelEmphasis", "OAE7", "ngl_hgce"),
    Feature("gldm_SmallDependenceLowGrayLevelEmphasis", "EQ3F", "ngl_ldlge"),
    Feature("gldm_SmallDependenceHighGrayLevelEmphasis", "JA6D", "ngl_ldhge"),
    Feature("gldm_LargeDependenceLowGrayLevelEmphasis", "NBZI", "ngl_hdlge"),
    Feature("gldm_LargeDependenceHighGrayLevelEmphasis", "9QMG", "ngl_hdhge"),
    Feature("gldm_GrayLevelNonUniformity", "FP8K", "ngl_glnu"),
    Feature("gldm_DependenceNonUniformity", "Z87G", "ngl_dcnu"),
    Feature("gldm_DependenceNonUniformityNormalized", "OKJI", "ngl_dcnu_norm"),
    Feature("gldm_GrayLevelVariance", "1PFV", "ngl_gl_var"),
    Feature("gldm_DependenceVariance", "DNX2", "ngl_dc_var"),
    Feature("gldm_DependenceEntropy", "FCBV", "ngl_dc_entr"),
)
