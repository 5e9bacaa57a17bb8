"""One acquisition stored in any axis order gives one array, one grid and one crop."""

from itertools import permutations, product

import numpy as np
import pytest

from service.imaging.guard import Limits
from service.imaging.orientation import axis_letters, reorient
from service.imaging.preprocess import cut_crop
from service.imaging.reader import CaseFiles, read_case
from service.manifest import Preprocessing, Window
from tests.build import (
    build_geometry,
    build_image,
    build_mask,
    reorder,
    rotation,
    write_dicom_series,
    write_mha,
    write_nifti,
    write_nrrd,
)

LIMITS = Limits(decoded_bytes=10**8, voxels=10**7, files=100)
ORDERS = [(axes, flips) for axes in permutations(range(3)) for flips in product([False, True], repeat=3)]
OBLIQUE = rotation((0.2, -0.3, 0.25))
PREPROCESSING = Preprocessing(
    crop_voxels=12, extent="fixed", extent_mm=14, windows={"ct": Window(low=-1000, high=400)}, mask_channel=True
)


def read(image_path, mask_path, **more):
    files = CaseFiles({"ct": [image_path] if not isinstance(image_path, list) else image_path}, [mask_path])
    return read_case(files, **{"roi": None, "resample_mask": False, "limits": LIMITS, "case_id": None, **more})


def crop_of(case):
    return cut_crop(case.images, case.masks[0], ["ct"], PREPROCESSING)


@pytest.mark.parametrize("direction", [np.eye(3), OBLIQUE], ids=["axial", "oblique"])
def test_all_48_storage_orders_give_bit_identical_arrays_masks_and_crops(direction):
    image = build_image(build_geometry(direction_lps=direction))
    mask = build_mask(image.geometry)
    expected = cut_crop({"ct": image}, mask, ["ct"], PREPROCESSING)
    for axes, flips in ORDERS:
        voxels, geometry, note = reorient(*_parts(reorder(image, axes, flips)))
        assert np.array_equal(voxels, image.voxels)
        assert np.allclose(geometry.affine, image.geometry.affine, atol=1e-9)
        assert geometry.spacing_mm == image.geometry.spacing_mm
        assert (note is None) == (axes == (0, 1, 2) and not any(flips))
        inside, _, _ = reorient(*_parts(reorder(mask, axes, flips)))
        assert np.array_equal(inside, mask.voxels)
        stored = type(image)(voxels, geometry), type(mask)(inside, geometry)
        assert np.array_equal(cut_crop({"ct": stored[0]}, stored[1], ["ct"], PREPROCESSING), expected)


def _parts(volume):
    return volume.voxels, volume.geometry


@pytest.mark.parametrize("write", [write_nifti, write_nrrd, write_mha])
@pytest.mark.parametrize("order", ORDERS[5::9], ids=str)
def test_files_in_other_orders_read_to_the_same_case(tmp_path, write, order):
    image, mask = build_image(), build_mask()
    plain = read(write(tmp_path / "a", image), write(tmp_path / "b", mask))
    turned = read(
        write(tmp_path / "c", reorder(image, *order)), write_nifti(tmp_path / "d", reorder(mask, order[0][::-1]))
    )
    assert np.array_equal(turned.images["ct"].voxels, plain.images["ct"].voxels)
    assert np.array_equal(turned.masks[0].voxels, plain.masks[0].voxels)
    assert np.array_equal(crop_of(turned), crop_of(plain))
    assert any("were put into the order LPS" in note for note in turned.notes)


@pytest.mark.parametrize(
    ("axes", "letters"),
    [((0, 1, 2), "LPS"), ((1, 2, 0), "PSL"), ((0, 2, 1), "LSP")],
    ids=["axial", "sagittal", "coronal"],
)
def test_sagittal_and_coronal_dicom_read_to_the_axial_volume(tmp_path, axes, letters):
    image, mask = build_image(), build_mask()
    stored = reorder(image, axes)
    assert axis_letters(stored.geometry) == letters
    case = read(write_dicom_series(tmp_path / letters, stored), write_nrrd(tmp_path / "mask", mask))
    assert np.array_equal(case.images["ct"].voxels, image.voxels)
    assert case.images["ct"].voxels.dtype == np.int16
    assert np.array_equal(crop_of(case), cut_crop({"ct": image}, mask, ["ct"], PREPROCESSING))


def test_oblique_dicom_reads_in_the_nearest_axial_order(tmp_path):
    image = build_image(build_geometry(direction_lps=OBLIQUE))
    stored = reorder(image, (2, 0, 1), (True, False, True))
    mask = build_mask(image.geometry)
    case = read(write_dicom_series(tmp_path / "series", stored), write_mha(tmp_path / "mask", mask))
    assert np.array_equal(case.images["ct"].voxels, image.voxels)
    assert np.allclose(case.geometry.affine, image.geometry.affine, atol=1e-4)
    assert axis_letters(case.geometry) == "LPS"


def test_mask_follows_the_image_where_an_oblique_grid_is_equally_near_to_two_orders(tmp_path):
    image = build_image(build_geometry(direction_lps=rotation((0, 0, np.pi / 4))))
    mask = build_mask(image.geometry)
    for nudge in (-1e-5, 1e-5):
        turned = build_geometry(direction_lps=rotation((0, 0, np.pi / 4 + nudge)))
        nudged = type(mask)(mask.voxels, turned)
        case = read(write_nrrd(tmp_path / "image", image), write_nrrd(tmp_path / "mask", reorder(nudged, (1, 0, 2))))
        assert case.masks[0].count == mask.count
        assert case.masks[0].geometry is case.geometry
