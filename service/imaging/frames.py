"""The slices of one DICOM image: itself, or the frames of an enhanced multi-frame one.

References:
    DICOM PS3.3 C.7.6.2 (image plane), C.7.6.16 (functional groups, shared and per frame), C.11.1 (modality LUT).
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from pydicom import uid
from pydicom.dataset import Dataset

from service.errors import UnreadableImage, UnusableImage
from service.imaging.case import Voxels
from service.imaging.dataset import public_name, quietly, read_class, read_instance, read_numbers
from service.imaging.series import Slice

SINGLE: Final = {
    uid.CTImageStorage: "CT",
    uid.MRImageStorage: "MR",
    uid.PositronEmissionTomographyImageStorage: "PT",
}
ENHANCED: Final = {
    uid.EnhancedCTImageStorage: "CT",
    uid.EnhancedMRImageStorage: "MR",
    uid.EnhancedPETImageStorage: "PT",
    uid.LegacyConvertedEnhancedCTImageStorage: "CT",
    uid.LegacyConvertedEnhancedMRImageStorage: "MR",
    uid.LegacyConvertedEnhancedPETImageStorage: "PT",
}


def count_frames(dataset: Any) -> int:
    """Return the frames of a CT, MR or PET image; everything else is refused by name.

    Raises:
        UnreadableImage: another kind of object, or several frames in a kind that has one.
    """
    kind = read_class(dataset)
    with quietly("a DICOM file is damaged: its number of frames cannot be read"):
        frames = int(dataset.get("NumberOfFrames") or 1)
    if kind not in SINGLE and kind not in ENHANCED:
        raise UnreadableImage(
            f"got a DICOM object of class {public_name(kind)}; accepted are CT, MR and PET images, single-frame or "
            "enhanced"
        )
    if frames < 1 or (kind in SINGLE and frames != 1):
        raise UnreadableImage(f"got a DICOM image of {frames} frames, whose class has one")
    return frames


def read_frames(dataset: Any, pixels: Voxels) -> Iterator[Slice]:
    """Yield every frame of an image as a slice; `pixels` are (frames, rows, columns).

    Raises:
        UnreadableImage: an attribute of the plane is missing or malformed.
        UnusableImage: a rescale slope of 0.
    """
    if read_class(dataset) in SINGLE:
        yield _slice(dataset, pixels[0], dataset, dataset, dataset, dataset)
        return
    with quietly("a multi-frame DICOM image is damaged: its functional groups cannot be read"):
        shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
        groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or ())
    if len(groups) != len(pixels):
        raise UnreadableImage(
            f"a multi-frame DICOM image of {len(pixels)} frames says of {len(groups)} where they lie (per-frame "
            "functional groups)"
        )
    for frame, own in zip(pixels, groups, strict=True):
        places = (own, shared)
        yield _slice(
            dataset,
            frame,
            _find("PlanePositionSequence", places),
            _find("PlaneOrientationSequence", places),
            _find("PixelMeasuresSequence", places),
            _find("PixelValueTransformationSequence", places, dataset),
        )


def _find(keyword: str, places: Sequence[Any], otherwise: Any = None) -> Any:
    """Return a functional group of a frame, its own or the shared one."""
    with quietly(f"a multi-frame DICOM image is damaged: its {keyword} cannot be read"):
        found = next((place[keyword].value[0] for place in places if place.get(keyword)), otherwise)
    if found is None:
        raise UnreadableImage(f"a frame of a multi-frame DICOM image has no {keyword}")
    return found


def _slice(dataset: Any, pixels: Voxels, position: Any, orientation: Any, measures: Any, transformation: Any) -> Slice:
    cosines = read_numbers(orientation, "ImageOrientationPatient", 6)
    spacing = read_numbers(measures, "PixelSpacing", 2)
    slope, intercept = (
        float(read_numbers(transformation, keyword, 1)[0]) if keyword in transformation else otherwise
        for keyword, otherwise in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0))
    )
    if slope == 0:
        raise UnusableImage("RescaleSlope is 0: every pixel would have one value")
    with quietly("a DICOM file is damaged: its identifiers cannot be read"):
        series, frame = str(dataset.SeriesInstanceUID), str(dataset.get("FrameOfReferenceUID") or "")
        kind = read_class(dataset)
        lossy = dataset.get("LossyImageCompression") == "01"
        thickness = float(measures.SliceThickness) if measures.get("SliceThickness") else None
    return Slice(
        series=series,
        modality=SINGLE.get(kind) or ENHANCED[kind],
        pixels=pixels,
        position_mm=read_numbers(position, "ImagePositionPatient", 3),
        rows_cosines=cosines[:3],
        columns_cosines=cosines[3:],
        pixel_spacing_mm=(float(spacing[0]), float(spacing[1])),
        thickness_mm=thickness,
        slope=slope,
        intercept=intercept,
        padded="PixelPaddingValue" in dataset,
        lossy=lossy,
        frame_of_reference=frame,
        source=read_instance(dataset),
    )
