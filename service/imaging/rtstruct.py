"""Read the regions of interest of a DICOM RTSTRUCT and draw them on an image's grid.

Accepted are closed planar contours (`CLOSED_PLANAR`, and `CLOSEDPLANAR_XOR`, which names the rule that is applied
to both); `contours` states which voxels one takes.

References:
    DICOM PS3.3 C.8.8.5 (structure set), C.8.8.6 (ROI contour).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from service.errors import EmptyRoi, TooLarge, UnreadableImage, UnusableImage
from service.imaging.case import Image, Mask
from service.imaging.contours import Drawing, Points, draw_contours
from service.imaging.dataset import LARGEST, quietly, read_region
from service.imaging.guard import Limits
from service.imaging.itk_bridge import RAS_TO_LPS
from service.imaging.regions import (
    Chosen,
    asks_for_all,
    check_frame,
    check_masks_size,
    choose_regions,
    printable,
    tell_whole,
    to_mask,
)
from service.imaging.regions import Roi as Asked

PLANAR: Final = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
OTHER_TYPES: Final = ("POINT", "OPEN_PLANAR", "OPEN_NONPLANAR")
MOST_CONTOURS: Final = 200_000  # of all regions; thousands are usual
NOTE: Final = "contours were drawn on the image's grid: a voxel belongs to a region whose contours enclose its centre"


@dataclass(frozen=True, eq=False)
class Roi:
    """One region of a structure set.

    Attributes:
        number: as the file numbers it.
        name: as the file names it.
        frame_of_reference: UID that its contours are given in; empty where the file names none.
        contours: items of its ContourSequence, their points not yet parsed.
    """

    number: int
    name: str
    frame_of_reference: str
    contours: tuple[Any, ...]

    def types(self) -> set[str]:
        """Return the geometric types of its contours; what the standard does not define is "unknown"."""
        with quietly("the RTSTRUCT is damaged: a contour's geometric type cannot be read"):
            named = {str(one.get("ContourGeometricType") or "") for one in self.contours}
        return {one if one in (*PLANAR, *OTHER_TYPES) else "unknown" for one in named}


def read_structures(dataset: Any, image: Image, roi: Asked, limits: Limits) -> tuple[tuple[Mask, ...], list[str]]:
    """Draw the regions asked for on the grid of an image.

    Args:
        dataset: a parsed RTSTRUCT.
        image: gives the grid and the frame of reference.
        roi: ROIs' names or numbers, "all", "whole", or None for the only one that has contours; see
            `choose_regions`.
        limits: on the voxels of all masks together.

    Returns:
        A mask for each region, and notes.

    Raises:
        UnknownRoi, EmptyRoi, RoiTooSmall, TooLarge: see `choose_regions` and `Mask`.
        GeometryMismatch: another frame of reference, or contours that do not lie in the image's planes.
        UnusableImage: contours that are not closed and planar.
        UnreadableImage: a damaged file.
    """
    held = _read_rois(dataset)
    chosen, notes = _choose(held, roi)
    check_masks_size(len(chosen), image.voxels.size, limits)
    notes += tell_whole(chosen, "ROI")
    masks = tuple(_draw(one, dataset, image, notes) for one in chosen)
    return masks, [NOTE, *dict.fromkeys(notes)]


def _draw(chosen: Chosen[Roi], dataset: Any, image: Image, notes: list[str]) -> Mask:
    """Draw one ROI, or the union of several; what is worth telling is added to the notes."""
    drawn: list[NDArray[np.bool_]] = []
    for part in chosen.parts:
        notes += check_frame(part.frame_of_reference, image, f"ROI {part.number}")
        drawing = draw_contours(_points(part), image.geometry)
        notes += _tell(part, drawing)
        drawn = [drawing.voxels | drawn[0]] if drawn else [drawing.voxels]
    single = chosen.parts[0].number if len(chosen.parts) == 1 else None
    what = "the union of all ROIs" if single is None else f"ROI {single}"
    source = None if single is None else read_region(dataset, single)
    return to_mask(drawn[0], image.geometry, chosen.name, what, source)


def _read_rois(dataset: Any) -> list[Roi]:
    with quietly("the RTSTRUCT is damaged: its regions cannot be read"):
        contours: dict[int, list[Any]] = defaultdict(list)
        for item in dataset.get("ROIContourSequence") or ():
            contours[int(item.ReferencedROINumber)] += list(item.get("ContourSequence") or ())
        frames = [str(item.FrameOfReferenceUID) for item in dataset.get("ReferencedFrameOfReferenceSequence") or ()]
        usual = frames[0] if len(frames) == 1 else str(dataset.get("FrameOfReferenceUID") or "")
        rois = []
        for item in dataset.get("StructureSetROISequence") or ():
            number, frame = int(item.ROINumber), str(item.get("ReferencedFrameOfReferenceUID") or usual)
            rois.append(Roi(number, printable(str(item.get("ROIName") or "")), frame, tuple(contours[number])))
    if len({one.number for one in rois}) < len(rois):
        raise UnreadableImage("the RTSTRUCT is damaged: two of its regions have one number")
    count = sum(map(len, contours.values()))
    if count > MOST_CONTOURS:
        raise TooLarge(
            f"the RTSTRUCT holds {count} contours, at most {MOST_CONTOURS} are accepted",
            got=count,
            limit=MOST_CONTOURS,
            unit="contours",
        )
    return rois


def _choose(held: Sequence[Roi], roi: Asked) -> tuple[tuple[Chosen[Roi], ...], list[str]]:
    """Choose among all where one is named, else among those that can be drawn."""
    drawn = [one for one in held if one.contours]
    planar = [one for one in drawn if one.types() <= set(PLANAR)]
    chosen = choose_regions(held, roi, "ROI", usable=drawn if roi is None else planar or drawn)
    for one in {id(part): part for each in chosen for part in each.parts}.values():
        if not one.contours:
            raise EmptyRoi(f"ROI {one.number} has no contours", voxels=0)
        _check_types(one)
    left = ", ".join(str(one.number) for one in held if one not in planar)
    if left and asks_for_all(roi, held):
        return chosen, [f"ROIs without closed planar contours were left out: {left}"]
    return chosen, []


def _check_types(roi: Roi) -> None:
    if other := sorted(roi.types() - set(PLANAR)):
        raise UnusableImage(
            f"ROI {roi.number} holds contours of the type {', '.join(other)}; accepted are {' and '.join(PLANAR)}",
            types=other,
        )


def _points(roi: Roi) -> list[Points]:
    """Parse the points of every contour: RAS+ mm."""
    with quietly(f"the contours of ROI {roi.number} are damaged: their points cannot be read"):
        parsed = [_parse_points(one) for one in roi.contours]
        for one, points in zip(roi.contours, parsed, strict=True):
            if one.get("NumberOfContourPoints") not in (None, len(points)):
                raise ValueError
    return parsed


def _parse_points(contour: Any) -> Points:
    """Parse one contour's decimal strings straight from their bytes; pydicom would make an object of each."""
    value = contour.get_item("ContourData").value
    tokens = value.rstrip(b"\0 ").split(b"\\") if isinstance(value, bytes) else value
    numbers = np.fromiter(map(float, tokens), np.float64, len(tokens))
    if not numbers.size or not np.all(np.abs(numbers) < LARGEST):
        raise ValueError
    return numbers.reshape(-1, 3) @ RAS_TO_LPS


def _tell(roi: Roi, drawing: Drawing) -> list[str]:
    notes = []
    if drawing.between:
        notes.append(
            f"ROI {roi.number}: {drawing.between} of {drawing.planes} planes of contours lie between slices; each "
            "slice took the nearest plane"
        )
    if drawing.filled:
        notes.append(f"ROI {roi.number}: {drawing.filled} slices between planes of contours took the nearest plane")
    if drawing.outside:
        notes.append(f"ROI {roi.number}: {drawing.outside} of {drawing.planes} planes of contours lie off the image")
    return notes
