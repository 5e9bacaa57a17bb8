"""SUV by body weight: closed forms for every way in which a PET series may hold its activity."""

import math

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import PositronEmissionTomographyImageStorage

from service.errors import SuvUnknown
from service.imaging.case import Image
from service.imaging.dicom import read_series
from service.imaging.guard import Limits
from service.imaging.reader import CaseFiles, read_case
from tests.build import build_geometry, build_image, build_mask, write_dicom_series, write_nifti

LIMITS = Limits(decoded_bytes=10**8, voxels=10**7, files=100)
HALF_LIFE_S = 6586.2
DOSE_BQ = 374e6
WEIGHT_KG = 71.5
ACTIVITY = Image(np.abs(build_image().voxels).astype("int16"), build_geometry())
SECRETS = ("71.5", "374000000", "374e6", "20260302", "083000", "093000")


def pet(folder, item=None, private=None, each=None, **values):
    """A PET series of 14 slices scanned an hour after the injection; None removes an attribute."""
    attributes = {
        "Units": "BQML",
        "DecayCorrection": "START",
        "CorrectedImage": ["DECY", "ATTN", "SCAT"],
        "PatientWeight": str(WEIGHT_KG),
        "SeriesDate": "20260302",
        "SeriesTime": "093000",
        "AcquisitionDate": "20260302",
        "AcquisitionTime": "093000.00",
        **values,
    }
    tracer = {
        "RadionuclideHalfLife": str(HALF_LIFE_S),
        "RadionuclideTotalDose": str(int(DOSE_BQ)),
        "RadiopharmaceuticalStartTime": "083000",
        **(item or {}),
    }

    def change(dataset, index):
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = PositronEmissionTomographyImageStorage
        dataset.Modality, dataset.RescaleSlope = "PT", "2.5"
        for keyword, value in attributes.items():
            if value is not None:
                setattr(dataset, keyword, value)
        injected = Dataset()
        for keyword, value in tracer.items():
            if value is not None:
                setattr(injected, keyword, value)
        dataset.RadiopharmaceuticalInformationSequence = [injected]
        for (group, creator, element), (vr, value) in (private or {}).items():
            dataset.private_block(group, creator, create=True).add_new(element, vr, value)
        if each:
            each(dataset, index)

    return write_dicom_series(folder, ACTIVITY, change=change)


def assert_suv(paths, half_lives, activity_per_unit=2.5):
    """The series holds SUV of a dose that decayed for so many half-lives."""
    image = read_series(paths, LIMITS, "bw")
    expected = ACTIVITY.voxels * activity_per_unit * WEIGHT_KG * 1000 / (DOSE_BQ * 2.0**-half_lives)
    assert image.voxels.dtype == np.float32
    assert np.allclose(image.voxels, expected, rtol=1e-6, atol=0)
    return image


def test_nothing_is_converted_unless_asked_for(tmp_path):
    image = read_series(pet(tmp_path / "s"), LIMITS)
    assert np.allclose(image.voxels, ACTIVITY.voxels * 2.5)
    assert image.notes == ()


def test_activity_corrected_to_the_start_of_the_scan(tmp_path):
    image = assert_suv(pet(tmp_path / "s"), 3600 / HALF_LIFE_S)
    assert image.notes == ("values were converted to SUV by body weight (units BQML, decay correction START)",)


def test_activity_corrected_to_the_injection_needs_no_decay(tmp_path):
    assert_suv(pet(tmp_path / "s", DecayCorrection="ADMIN"), 0)


def test_uncorrected_activity_is_that_of_the_mean_time_of_each_acquisition(tmp_path):
    duration_s, late_s = 180.0, 600.0
    rate = math.log(2) / HALF_LIFE_S
    mean_s = math.log(rate * duration_s / (1 - math.exp(-rate * duration_s))) / rate
    assert 0 < mean_s < duration_s / 2
    paths = pet(
        tmp_path / "s",
        DecayCorrection="NONE",
        CorrectedImage="ATTN",
        AcquisitionTime="094000",
        ActualFrameDuration="180000",
    )
    assert_suv(paths, (3600 + late_s + mean_s) / HALF_LIFE_S)


def test_mean_time_is_where_the_activity_equals_its_mean_over_the_acquisition():
    rate, duration = math.log(2) / 122.2, 300.0  # oxygen-15, for which the midpoint is far off
    mean = math.log(rate * duration / (1 - math.exp(-rate * duration))) / rate
    steps = np.exp(-rate * (np.arange(10**6) + 0.5) * duration / 10**6)
    assert math.exp(-rate * mean) == pytest.approx(steps.mean(), rel=1e-9)


def test_scan_after_midnight_of_a_tracer_injected_before_it(tmp_path):
    times = {"SeriesDate": "20260303", "SeriesTime": "001500", "AcquisitionDate": "20260303", "AcquisitionTime": "0016"}
    paths = pet(tmp_path / "s", {"RadiopharmaceuticalStartTime": "233000.5"}, **times)
    assert_suv(paths, (45 * 60 - 0.5) / HALF_LIFE_S)


def test_date_and_time_of_the_injection_come_before_its_bare_time(tmp_path):
    item = {"RadiopharmaceuticalStartDateTime": "20260302073000.000000", "RadiopharmaceuticalStartTime": "050000"}
    assert_suv(pet(tmp_path / "a", item), 7200 / HALF_LIFE_S)
    item["RadiopharmaceuticalStartDateTime"] = "20260302063000+0000"
    assert_suv(pet(tmp_path / "b", item, TimezoneOffsetFromUTC="+0100"), 7200 / HALF_LIFE_S)


def test_two_beds_keep_one_start_of_the_scan(tmp_path):
    def later(dataset, index):
        dataset.AcquisitionTime = "093000" if index < 7 else "093300"

    assert_suv(pet(tmp_path / "s", each=later), 3600 / HALF_LIFE_S)


def test_series_processed_later_takes_the_start_from_ge_or_from_the_frame_reference_time(tmp_path):
    late = {"SeriesTime": "120000", "AcquisitionTime": "093300"}
    ge = {(0x0009, "GEMS_PETD_01", 0x0D): ("DT", "20260302093000.00")}
    assert_suv(pet(tmp_path / "ge", private=ge, **late), 3600 / HALF_LIFE_S)
    rate = math.log(2) / HALF_LIFE_S
    mean_s = math.log(rate * 180 / (1 - math.exp(-rate * 180))) / rate
    frame = {"ActualFrameDuration": "180000", "FrameReferenceTime": f"{1000 * (180 + mean_s):.6f}"}
    assert_suv(pet(tmp_path / "frame", **late, **frame), 3600 / HALF_LIFE_S)
    with pytest.raises(SuvUnknown, match="not the start of the scan"):
        read_series(pet(tmp_path / "none", **late), LIMITS, "bw")


def test_one_late_slice_makes_the_series_time_useless_for_all(tmp_path):
    def before(dataset, index):
        dataset.AcquisitionTime = "092900" if index == 3 else "093100"

    with pytest.raises(SuvUnknown, match="not the start of the scan"):
        read_series(pet(tmp_path / "s", each=before), LIMITS, "bw")


def test_philips_counts_take_the_vendors_factor(tmp_path):
    suv = {(0x7053, "Philips PET Private Group", 0x00): ("DS", "0.000551")}
    image = read_series(pet(tmp_path / "a", private=suv, Units="CNTS"), LIMITS, "bw")
    assert np.allclose(image.voxels, ACTIVITY.voxels * 2.5 * 0.000551, rtol=1e-6)
    activity = {
        (0x7053, "Philips PET Private Group", 0x00): ("DS", "0"),
        (0x7053, "Philips PET Private Group", 0x09): ("DS", "4.0"),
    }
    assert_suv(pet(tmp_path / "b", private=activity, Units="CNTS"), 3600 / HALF_LIFE_S, 2.5 * 4)
    with pytest.raises(SuvUnknown, match="activity concentration scale factor is missing"):
        read_series(pet(tmp_path / "c", Units="CNTS"), LIMITS, "bw")


@pytest.mark.parametrize("kind", [None, "BW"])
def test_values_that_are_suv_already_stay(tmp_path, kind):
    image = read_series(pet(tmp_path / "s", Units="GML", SUVType=kind, PatientWeight=None), LIMITS, "bw")
    assert np.allclose(image.voxels, ACTIVITY.voxels * 2.5)
    assert "units GML, which are SUV by body weight already" in image.notes[0]


@pytest.mark.parametrize(
    ("values", "item", "attribute"),
    [
        ({"Units": None}, {}, "Units"),
        ({"Units": "PROPCNTS"}, {}, "Units"),
        ({"Units": "GML", "SUVType": "LBM"}, {}, "SUVType"),
        ({"DecayCorrection": None}, {}, "DecayCorrection"),
        ({"DecayCorrection": "SOMETIMES"}, {}, "DecayCorrection"),
        ({"CorrectedImage": None}, {}, "CorrectedImage"),
        ({"CorrectedImage": "DECY"}, {}, "CorrectedImage"),
        ({"CorrectedImage": "ATTN"}, {}, "CorrectedImage"),
        ({"DecayCorrection": "NONE"}, {}, "CorrectedImage"),
        ({"DecayCorrection": "NONE", "CorrectedImage": "ATTN"}, {}, "ActualFrameDuration"),
        ({"PatientWeight": None}, {}, "PatientWeight"),
        ({"PatientWeight": "0"}, {}, "PatientWeight"),
        ({"PatientWeight": "71500"}, {}, "PatientWeight"),
        ({"SeriesTime": None}, {}, "SeriesTime"),
        ({"AcquisitionDate": None}, {}, "AcquisitionDate"),
        ({}, {"RadionuclideTotalDose": None}, "RadionuclideTotalDose"),
        ({}, {"RadionuclideTotalDose": "374"}, "RadionuclideTotalDose"),  # megabecquerel
        ({}, {"RadionuclideHalfLife": None}, "RadionuclideHalfLife"),
        ({}, {"RadionuclideHalfLife": "0"}, "RadionuclideHalfLife"),
        ({}, {"RadiopharmaceuticalStartTime": None}, "RadiopharmaceuticalStartTime"),
        ({}, {"RadiopharmaceuticalStartDateTime": "20260302103000"}, "RadiopharmaceuticalStartDateTime"),
        ({}, {"RadiopharmaceuticalStartDateTime": "20260201083000"}, "RadiopharmaceuticalStartDateTime"),
    ],
)
def test_what_is_missing_or_impossible_is_refused_by_the_name_of_its_attribute(tmp_path, values, item, attribute):
    with pytest.raises(SuvUnknown) as refusal:
        read_series(pet(tmp_path / "s", item, **values), LIMITS, "bw")
    assert refusal.value.facts["attribute"] == attribute
    assert not any(secret in str(refusal.value.problem(422)) for secret in SECRETS)


def test_two_tracers_are_refused(tmp_path):
    def double(dataset, _index):
        dataset.RadiopharmaceuticalInformationSequence = list(dataset.RadiopharmaceuticalInformationSequence) * 2

    with pytest.raises(SuvUnknown, match="exactly one item"):
        read_series(pet(tmp_path / "s", each=double), LIMITS, "bw")


def test_malformed_times_are_refused_by_name(tmp_path):
    def damage(dataset, _index):
        dataset.add_new("SeriesTime", "LO", "half past nine")

    with pytest.raises(SuvUnknown, match="SeriesTime is missing or malformed"):
        read_series(pet(tmp_path / "s", each=damage), LIMITS, "bw")


def test_a_case_without_a_pet_series_is_refused(tmp_path):
    mask = write_nifti(tmp_path / "m", build_mask())
    for image in ([write_nifti(tmp_path / "i", ACTIVITY)], write_dicom_series(tmp_path / "ct", ACTIVITY)):
        with pytest.raises(SuvUnknown, match="no image is a DICOM PET series"):
            read_case(
                CaseFiles({"pet": image}, [mask]), roi=None, resample_mask=False, limits=LIMITS, case_id=None, suv="bw"
            )


def test_only_the_pet_channel_is_converted_and_the_notes_name_it(tmp_path):
    ct = write_dicom_series(tmp_path / "ct", ACTIVITY)
    files = CaseFiles({"ct": ct, "pet": pet(tmp_path / "pet")}, [write_nifti(tmp_path / "m", build_mask())])
    case = read_case(files, roi=None, resample_mask=False, limits=LIMITS, case_id=None, suv="bw")
    assert np.array_equal(case.images["ct"].voxels, ACTIVITY.voxels)
    assert case.images["pet"].voxels.max() < 100
    assert [note for note in case.notes if "SUV" in note] == [
        "image pet: values were converted to SUV by body weight (units BQML, decay correction START)"
    ]
    assert not any(secret in " ".join(case.notes) for secret in SECRETS)
