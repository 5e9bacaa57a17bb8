"""A report reads back to the values it was made of, points at its source, names no patient, and is valid DICOM."""

import json
import shutil
import subprocess
import sys
from io import BytesIO

import pydicom
import pytest
from highdicom.sr import srread
from pydicom.uid import Comprehensive3DSRStorage

from service.errors import NotRepresentable
from service.feature_terms import describe_feature
from service.ibsi_names import FEATURES as DEFINED
from service.radiomics_settings import PRESETS
from service.report.reportable import check_reportable
from service.report.structured_report import SCHEME, code_feature, code_image, names_image, write_report
from tests.report.documents import FEATURES, build_document, build_references


def report_of(*rois, contoured=False, **more):
    names = rois or ("1",)
    return build_document(rois=names, references=build_references(len(names), contoured=contoured), **more)


def read(document):
    return srread(BytesIO(write_report(document)))


def groups_of(report):
    return report.content.get_volumetric_roi_measurement_groups()


def measured(group):
    """The measurements by the code of their name and of the image they were made on."""
    return {
        (one.name.scheme_designator, one.name.value, one.method.value if one.method else None): one
        for one in group.get_measurements()
    }


def key_of(name):
    term = describe_feature(name)
    code = code_feature(term)
    return code.scheme_designator, code.value, code_image(term).value if names_image(term) else None


def evaluated(group):
    return {one.name.value: one.value for one in group.get_qualitative_evaluations()}


@pytest.mark.parametrize("contoured", [False, True])
def test_every_value_reads_back_to_the_last_bit(contoured):
    regions = groups_of(read(report_of("1", "GTV", contoured=contoured)))
    assert [group.tracking_identifier for group in regions] == ["1", "GTV"]
    for group in regions:
        found = measured(group)
        defined = {name: value for name, value in FEATURES.items() if value is not None}
        assert {name: found[key_of(name)].value for name in defined} == defined
        assert len(found) == len(defined) + 2  # and two probabilities


def test_ibsi_codes_stand_where_they_exist_and_own_ones_elsewhere():
    found = measured(groups_of(read(report_of()))[0])
    volume, mean = found["IBSI", "RNU0", None], found["IBSI", "Q4LE", None]
    assert (volume.unit.value, volume.unit.scheme_designator) == ("mm3", "UCUM")
    assert mean.unit.value == "[hnsf'U]"
    assert found[SCHEME, "Max2DSlice", None].name.meaning == "shape_Maximum2DDiameterSlice"
    assert found[SCHEME, "Kurtosis", None].value == 3.25  # PyRadiomics' is not IBSI's IPH6
    assert found[SCHEME, "deep_0000", None].name.meaning == "Embedding, number 0"
    assert found[SCHEME, "glcm_MCC", "wavelet-HLL"].method.scheme_designator == SCHEME


def test_a_feature_without_a_value_is_said_to_have_none():
    (group,) = groups_of(read(report_of()))
    (undefined,) = (one for one in group.get_qualitative_evaluations() if one.value.value == "114000")
    assert undefined.name.meaning == "original_glcm_Correlation"


def test_predictions_are_evaluations_with_their_probabilities():
    (group,) = groups_of(read(report_of()))
    said = evaluated(group)
    assert (said["stage"].value, said["stage"].scheme_designator) == ("II", SCHEME)
    found = measured(group)
    assert [found[SCHEME, f"stage={label}", None].value for label in ("I", "II")] == [0.25, 0.75]
    assert {one.name.meaning: one.value.meaning for one in group.get_qualitative_evaluations()} | {
        "stage: probabilities calibrated": "Yes",
        "stage: like the training cases": "No",
        "Intended use": "Demonstration, not for patients",
    } == {one.name.meaning: one.value.meaning for one in group.get_qualitative_evaluations()}


def test_the_algorithm_is_the_model_with_its_version_and_settings():
    text = {
        (item.ConceptNameCodeSequence[0].CodeMeaning, item.TextValue)
        for item in groups_of(read(report_of()))[0][0].ContentSequence
        if item.ValueType == "TEXT"
    }
    assert {("Algorithm Name", "small-ct"), ("Algorithm Version", "1.0.0")} < text
    assert ("Algorithm Parameters", f"radiomics settings sha256: {'1' * 64}") in text


def test_a_segment_is_referenced_with_its_series():
    references = build_references(2)
    regions = groups_of(read(report_of("1", "2")))
    for number, group in enumerate(regions, start=1):
        segment = group.referenced_segment
        assert segment.referenced_sop_instance_uid == references["regions"][0]["instance"]
        assert list(segment.referenced_segment_numbers) == [number]
        assert segment.source_series_for_segmentation.value == references["images"]["ct"]["series"]


def test_an_roi_of_a_structure_set_is_referenced_by_set_and_number():
    (group,) = groups_of(read(report_of("GTV", contoured=True)))
    assert group.reference_type.value == "130488"
    items = {item.ConceptNameCodeSequence[0].CodeMeaning: item for item in group[0].ContentSequence}
    reference = items["Region in Space"].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    assert reference == build_references(contoured=True)["regions"][0]["instance"]
    assert items["Number of the ROI in its structure set"].TextValue == "1"


def test_all_source_objects_are_evidence():
    listed = {str(instance) for _, _, instance, _ in read(report_of()).get_evidence()}
    assert listed == {"1.2.3.1.1", "1.2.3.1.2", "1.2.3.1.3", "1.2.3.2.1"}


def test_objects_of_another_study_are_evidence_too():
    document = report_of()
    document["references"]["regions"] = build_references(study="1.2.4")["regions"]
    listed = {(str(study), str(instance)) for study, _, instance, _ in read(document).get_evidence()}
    assert ("1.2.4", "1.2.4.2.1") in listed


def test_nothing_of_the_patient_stands_in_it_but_pseudonym_and_identifiers():
    report = pydicom.dcmread(BytesIO(write_report(report_of(case_id="Fall-Ä7"))))
    assert (report.PatientID, report.StudyInstanceUID) == ("Fall-Ä7", "1.2.3")
    for keyword in ("PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"):
        assert not report.get(keyword)
    assert report.SOPClassUID == Comprehensive3DSRStorage
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")


def test_without_a_pseudonym_the_patient_is_nobody():
    assert read(report_of(case_id=None)).PatientID == ""


def test_one_result_always_gives_the_same_report():
    assert write_report(report_of()) == write_report(report_of())
    other = read(report_of(job_id="0" * 31 + "1"))
    assert other.SOPInstanceUID != read(report_of()).SOPInstanceUID


def test_names_too_long_for_a_code_are_told_apart():
    features = dict.fromkeys(PRESETS["full"].feature_names(), 1.0) | {f"ibsi_{one.name}": 2.0 for one in DEFINED}
    keys = [key_of(name) for name in features]
    assert len(set(keys)) == len(keys)
    longest = {name: features[name] for name in sorted(features, key=len)[-20:]}
    (group,) = groups_of(read(report_of(features=longest)))
    found = measured(group)
    assert all(found[key_of(name)].value == value for name, value in longest.items())
    assert group.referenced_segment is not None


def test_classes_of_any_text_are_told():
    document = report_of()
    label = "adenocarcinoma \\ " + "x" * 80
    document["rois"][0]["predictions"][0] |= {"class": label, "probabilities": {label: 1.0}}
    said = evaluated(groups_of(read(document))[0])
    assert said["stage"].meaning == label.replace("\\", "/")[:64]


def test_the_program_writes_what_the_function_returns():
    document = report_of()
    built = subprocess.run(
        [sys.executable, "-m", "service.report.structured_report"],
        input=json.dumps(document).encode(),
        capture_output=True,
        check=True,
    )
    assert built.stdout == write_report(document)
    assert built.stderr == b""


@pytest.mark.parametrize("contoured", [False, True])
def test_dciodvfy_finds_no_error(tmp_path, contoured):
    checker = shutil.which("dciodvfy")
    if checker is None:
        pytest.skip("dciodvfy is not on this machine (Debian: dicom3tools)")
    path = tmp_path / "report.dcm"
    path.write_bytes(write_report(report_of("1", "2", contoured=contoured)))
    said = subprocess.run([checker, "-new", path], capture_output=True, text=True, check=False)
    assert [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")] == []
    assert "Comprehensive3DSR" in said.stdout + said.stderr


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (build_document(), "came as DICOM"),
        (build_document(case_id="x" * 65, references=build_references()), "at most 64 characters"),
        (build_document(case_id="a\\b", references=build_references()), "no backslash"),
        (report_of(*map(str, range(1_001))), "10010 measurements, at most 10000"),
    ],
)
def test_what_cannot_be_reported_is_refused(document, reason):
    with pytest.raises(NotRepresentable, match=reason):
        check_reportable(document)
