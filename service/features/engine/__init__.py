"""Radiomic features with PyRadiomics' names, order and digits, at a fraction of its time and memory.

    run         compute_many(image, masks, settings): a parameter document, each part by its way
    plan        which way: this package, PyRadiomics' filter, or PyRadiomics altogether
    foreign     the parts that PyRadiomics does
    bank        describe(arrays): all that this package does, on one page; start reading there
    warm        compile every kernel before the first request

Regions of one image share filtering (`filtering`, `grouping`, `visits`), images of one case the masks (`outline`).

Families, each with its matrix in one function and its formulas in another: `shape` (with `surface`,
`surface_table` and `diameters`), `firstorder`, `glcm` (with `glcm_sensitive`), `glrlm`, `glszm`, `gldm`
(these three with `size_matrix`) and `ngtdm`; `texture` brings them together. Derived images: `laplacian`,
`wavelet`, `intensity`. Underneath: `region`, `discretise`, `options`, `compiled`.

Maps of features over voxels are out of scope: features describe whole regions.
"""
