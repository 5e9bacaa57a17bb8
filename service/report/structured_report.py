"""A result as DICOM: a Comprehensive 3D SR document after template TID 1500, with a measurement group per region.

As a program it reads a result document as JSON from its standard input and writes the DICOM file to its standard
output: whoever may not import imaging libraries starts it as a process of its own.

The source's patient is not repeated: the caller's pseudonym stands as Patient ID, everything else of patient and
study is empty but for the Study Instance UID. One result always gives the same UIDs, so that fetching a report again
makes no second one.

References:
    DICOM PS3.16 TID 1500 (measurement report), TID 1411 (volumetric ROI), TID 300 (measurement); PS3.3 A.35.13.
"""

import gc
import hashlib
import json
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, Final, TypeAlias

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    CompositeContentItem,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import RTStructureSetStorage
from pydicom.valuerep import DA, DT, TM

from service.feature_terms import ARBITRARY_UNIT, DEEP, HOUNSFIELD_UNIT, NO_UNIT, Term, describe_feature

SCHEME: Final = "99RADFUSE"
IBSI: Final = "IBSI"
LONGEST_CODE: Final = 16  # characters of a Code Value; readers often know no Long Code Value
LONGEST_MEANING: Final = 64

IMAGING_PROCEDURE: Final = CodedConcept("363679005", "SCT", "Imaging procedure")
REGION_IN_SPACE: Final = CodedConcept("130488", "DCM", "Region in Space")
NOT_A_NUMBER: Final = CodedConcept("114000", "DCM", "Not a number")
YES: Final = CodedConcept("373066001", "SCT", "Yes")
NO: Final = CodedConcept("373067005", "SCT", "No")
ROI_NUMBER: Final = CodedConcept("roi-number", SCHEME, "Number of the ROI in its structure set")
INTENDED_USE: Final = CodedConcept("intended-use", SCHEME, "Intended use")
DEMONSTRATION: Final = CodedConcept("demonstration", SCHEME, "Demonstration, not for patients")
RESEARCH: Final = CodedConcept("research", SCHEME, "Research use only")
# PyRadiomics' features that IBSI does not define, and one that it defines otherwise.
OWN_CODES: Final = {
    "shape_Maximum2DDiameterColumn": "Max2DColumn",
    "shape_Maximum2DDiameterRow": "Max2DRow",
    "shape_Maximum2DDiameterSlice": "Max2DSlice",
    "firstorder_Kurtosis": "Kurtosis",
    "firstorder_StandardDeviation": "StdDeviation",
    "firstorder_TotalEnergy": "TotalEnergy",
}
UNIT_MEANINGS: Final = {NO_UNIT: "no units", HOUNSFIELD_UNIT: "Hounsfield unit", ARBITRARY_UNIT: "arbitrary unit"}

Part: TypeAlias = Mapping[str, Any]
Group: TypeAlias = MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations


def write_report(document: Part) -> bytes:
    """Return a result as a DICOM file.

    Args:
        document: a succeeded job as the API shows it, or a bare result of the pipeline, with its `references`.
    """
    stream = BytesIO()
    build_report(document).save_as(stream)
    return stream.getvalue()


def build_report(document: Part) -> Comprehensive3DSR:
    """Build the SR document of a result; see `write_report`."""
    root = uuid.UUID(document["id"]) if document.get("id") else uuid.uuid4()
    finished = datetime.fromisoformat(document["finished_at"]) if document.get("finished_at") else datetime.now(UTC)
    model, version = document["model"], document["provenance"]["versions"]["radfuse"]
    evidence = _evidence(document)
    report = MeasurementReport(_observer(version), IMAGING_PROCEDURE, list(_groups(document, root)))
    written = Comprehensive3DSR(
        evidence=evidence,
        content=report,
        series_instance_uid=_uid(root, "series"),
        series_number=1,
        sop_instance_uid=_uid(root, "instance"),
        instance_number=1,
        manufacturer="Radfuse",
        manufacturer_model_name=_meaning(f"{model['name']}@{model['version']}"),
        software_versions=version,
        device_serial_number=model["sha256"][:LONGEST_MEANING],
        series_description="Radiomics and predictions, research use only",
        is_complete=True,
        content_date=finished.date(),
        content_time=finished.time(),
        specific_character_set="ISO_IR 192",
        coding_schemes=[
            CodingSchemeIdentificationItem(IBSI, "Image Biomarker Standardisation Initiative"),
            CodingSchemeIdentificationItem(SCHEME, "Radfuse", version, responsible_organization="Radfuse"),
        ],
    )
    written.InstanceCreationDate, written.InstanceCreationTime = DA(finished.date()), TM(finished.time())
    written.TimezoneOffsetFromUTC = "+0000"
    for equipment in written.get("ContributingEquipmentSequence") or ():
        equipment.ContributionDateTime = DT(finished)
    return written


def _evidence(document: Part) -> list[Dataset]:
    """Return stand-ins of every source object: identifiers, the pseudonym, and nothing else."""
    references = document["references"]
    listed = [(image, instance) for image in references["images"].values() for instance in image["instances"]]
    listed += [(region, region["instance"]) for region in references["regions"]]
    return [_stand_in(source, instance, document.get("case_id") or "") for source, instance in listed]


def _stand_in(source: Part, instance: str, case_id: str) -> Dataset:
    dataset = Dataset()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = source["study"], source["series"]
    dataset.SOPClassUID, dataset.SOPInstanceUID = source["sop_class"], instance
    dataset.PatientID = case_id
    for keyword in ("PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
        setattr(dataset, keyword, "")
    for keyword in ("StudyDate", "StudyTime", "ReferringPhysicianName"):
        setattr(dataset, keyword, "")
    return dataset


def _observer(version: str) -> ObservationContext:
    device = DeviceObserverIdentifyingAttributes(
        _uid(uuid.NAMESPACE_OID, f"radfuse {version}"),
        name="Radfuse",
        manufacturer_name="Radfuse",
        model_name=f"Radfuse {version}",
    )
    return ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device))


def _groups(document: Part, root: uuid.UUID) -> Iterator[Group]:
    """Yield the measurement group of each region."""
    algorithm = _algorithm(document)
    series = next(iter(document["references"]["images"].values()))["series"]
    unit = document["provenance"].get("intensity_unit", ARBITRARY_UNIT)
    for number, (region, source) in enumerate(
        zip(document["rois"], document["references"]["regions"], strict=True), start=1
    ):
        tracking = TrackingIdentifier(_uid(root, f"region {number}"), str(region["roi"]["name"]))
        measurements = [*_measurements(region["features"], unit), *_probabilities(region["predictions"])]
        evaluations = [*_undefined(region["features"]), *_evaluations(region["predictions"])]
        if source["sop_class"] == RTStructureSetStorage:
            yield _contoured(tracking, source, algorithm, measurements, evaluations)
        else:
            yield VolumetricROIMeasurementsAndQualitativeEvaluations(
                tracking,
                referenced_segment=ReferencedSegment(
                    source["sop_class"],
                    source["instance"],
                    source["number"],
                    source_series=SourceSeriesForSegmentation(series),
                ),
                algorithm_id=algorithm,
                measurements=measurements,
                qualitative_evaluations=evaluations,
            )


def _contoured(
    tracking: TrackingIdentifier,
    source: Part,
    algorithm: AlgorithmIdentification,
    measurements: Sequence[Measurement],
    evaluations: Sequence[QualitativeEvaluation],
) -> MeasurementsAndQualitativeEvaluations:
    """Return the group of an ROI of a structure set: TID 1411 with a Region in Space, which highdicom only reads."""
    group = MeasurementsAndQualitativeEvaluations(
        tracking, algorithm_id=algorithm, measurements=measurements, qualitative_evaluations=evaluations
    )
    container = group[0]
    container.ContentTemplateSequence[0].TemplateIdentifier = "1411"
    contains = RelationshipTypeValues.CONTAINS
    container.ContentSequence.append(
        CompositeContentItem(REGION_IN_SPACE, source["sop_class"], source["instance"], contains)
    )
    container.ContentSequence.append(TextContentItem(ROI_NUMBER, str(source["number"]), contains))
    return group


def _algorithm(document: Part) -> AlgorithmIdentification:
    model, provenance = document["model"], document["provenance"]
    parameters = {
        "model sha256": model["sha256"],
        "radiomics engine": provenance.get("radiomics_engine"),
        "radiomics settings sha256": provenance["radiomics_settings_sha256"],
    }
    stated = [f"{name}: {value}" for name, value in parameters.items() if value is not None]
    return AlgorithmIdentification(model["name"], model["version"], stated)


def _measurements(features: Part, intensity_unit: str) -> Iterator[Measurement]:
    methods: dict[str, CodedConcept] = {}
    units: dict[str, CodedConcept] = {}
    for name, value in features.items():
        if value is None:
            continue
        term = describe_feature(name, intensity_unit)
        unit = units.setdefault(term.unit, CodedConcept(term.unit, "UCUM", UNIT_MEANINGS.get(term.unit, term.unit)))
        method = methods.setdefault(term.image, code_image(term)) if names_image(term) else None
        yield Measurement(code_feature(term), float(value), unit, method=method)


def _undefined(features: Part) -> Iterator[QualitativeEvaluation]:
    """Say of each feature without a value that it has none."""
    for name, value in features.items():
        if value is None:
            yield QualitativeEvaluation(code_text(name), NOT_A_NUMBER)


def _probabilities(predictions: Sequence[Part]) -> Iterator[Measurement]:
    unit = CodedConcept(NO_UNIT, "UCUM", UNIT_MEANINGS[NO_UNIT])
    for prediction in predictions:
        for label, probability in prediction["probabilities"].items():
            yield Measurement(code_probability(prediction["target"], label), float(probability), unit)


def _evaluations(predictions: Sequence[Part]) -> Iterator[QualitativeEvaluation]:
    for prediction in predictions:
        target = prediction["target"]
        yield QualitativeEvaluation(code_text(target), code_text(prediction["class"]))
        yield QualitativeEvaluation(
            code_text(f"{target}:calibrated", f"{target}: probabilities calibrated"),
            YES if prediction["calibrated"] else NO,
        )
        yield QualitativeEvaluation(
            code_text(f"{target}:in_distribution", f"{target}: like the training cases"),
            YES if prediction["in_distribution"] else NO,
        )
    demonstration = any(prediction.get("demonstration") for prediction in predictions)
    yield QualitativeEvaluation(INTENDED_USE, DEMONSTRATION if demonstration else RESEARCH)


def names_image(term: Term) -> bool:
    """Whether a feature's image must be told: it is not the original one of a single channel."""
    return term.image not in ("", "original")


def code_image(term: Term) -> CodedConcept:
    """Return the code of a feature's channel and image type, as they stand in its name."""
    return CodedConcept(term.image, SCHEME, _meaning(f"image {term.image}"))


def code_feature(term: Term) -> CodedConcept:
    """Return the code of a feature: IBSI's where there is one, else our own with PyRadiomics' name as its meaning."""
    if term.ibsi:
        return CodedConcept(term.ibsi, IBSI, _meaning(term.plain_name))
    if term.feature_class == DEEP:
        return CodedConcept(term.name, SCHEME, f"Embedding, number {int(term.feature)}")
    own = OWN_CODES.get(term.plain_name)
    return CodedConcept(own, SCHEME, term.plain_name) if own else code_text(term.plain_name)


def code_probability(target: str, label: str) -> CodedConcept:
    """Return the code of the probability of one class."""
    return code_text(f"{target}={label}", f"Probability of {target} {label}")


def code_text(text: str, meaning: str | None = None) -> CodedConcept:
    """Return our own code of a text: the text itself, or the beginning of its digest where it is too long for one."""
    short = len(text) <= LONGEST_CODE and "\\" not in text
    value = text if short else hashlib.sha256(text.encode()).hexdigest()[:LONGEST_CODE]
    return CodedConcept(value, SCHEME, _meaning(meaning or text))


def _meaning(text: str) -> str:
    """Return a text as a Code Meaning can hold it."""
    return text.replace("\\", "/")[:LONGEST_MEANING]


def _uid(root: uuid.UUID, what: str) -> str:
    """Return a UID that is always the same for one root and one thing (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid5(root, what).int}"


def main() -> None:
    """Read a document from standard input and write its report to standard output."""
    gc.disable()  # the process ends with the report, and collecting would take a third of its time
    sys.stdout.buffer.write(write_report(json.load(sys.stdin.buffer)))


if __name__ == "__main__":
    main()
