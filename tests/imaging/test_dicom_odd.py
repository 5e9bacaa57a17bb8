"""Every file of a collection of odd DICOM files is read as it should be, or refused with a type."""

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest

from service.imaging.geometry import Geometry
from service.imaging.orientation import reorient
from service.imaging.reader import read_image
from tests.imaging.dicom_odd import LIMITS, list_outcomes
from tests.real_data import real_data

pytestmark = pytest.mark.real
GOLDEN = Path(__file__).parents[1] / "golden" / "dicom_odd.csv"


def test_outcome_of_every_file_is_the_golden_one():
    got = list_outcomes(real_data("dicom_odd"))
    with GOLDEN.open() as file:
        expected = list(csv.DictReader(file))
    assert len(got) == 205
    assert [row for row in got if row not in expected] == []
    assert [row["file"] for row in got] == [row["file"] for row in expected]


@pytest.mark.parametrize(
    "name",
    [
        "generic/compressed",
        "generic/compressed_j2k",
        "generic/compressed_jpeg",
        "generic/compressed_jpegls",
        "generic/compressed_rle",
        "failing/slicecount",
    ],
)
def test_series_equal_the_collections_own_nifti(name):
    folder = real_data("dicom_odd", "dicom2nifti", *name.split("/"))
    image = read_image(sorted((folder / "001").iterdir()), LIMITS)
    truth = nibabel.load(folder / "001_ground_truth.nii.gz")
    voxels = np.asarray(truth.dataobj)
    voxels, geometry, _ = reorient(voxels, Geometry(voxels.shape, truth.affine))
    assert image.geometry.matches(geometry)
    assert np.array_equal(image.voxels, voxels)
