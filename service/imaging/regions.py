"""Which of the regions that a DICOM mask holds is meant: ROIs of an RTSTRUCT, segments of a SEG."""

from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.errors import EmptyRoi, GeometryMismatch, RoiTooSmall, TooLarge, UnknownRoi
from service.imaging.case import LEAST_ROI_VOXELS, Image, Mask
from service.imaging.geometry import Geometry
from service.imaging.guard import Limits
from service.imaging.labels import LISTED, MOST_ROIS

LONGEST_NAME: Final = 64  # characters, as DICOM's LO allows


class Region(Protocol):
    """A region by number and name, as the file gives them."""

    @property
    def number(self) -> int:
        """The number that the file gives it."""

    @property
    def name(self) -> str:
        """The name that the file gives it."""


R = TypeVar("R", bound=Region)


def choose_regions(held: Sequence[R], roi: str | None, word: str) -> tuple[R, ...]:
    """Return the regions asked for.

    Args:
        held: the regions of the mask.
        roi: a name, or a number where no region has that name; "all"; or None for the only one.
        word: what the format calls a region.

    Raises:
        EmptyRoi: the mask holds none at all.
        UnknownRoi: no region, or several, have the name; or None was given and there are several.
        TooLarge: "all" of more than `MOST_ROIS`.
    """
    if not held:
        raise EmptyRoi(f"the mask holds no {word} that could be used", voxels=0)
    if roi == "all":
        if len(held) > MOST_ROIS:
            raise TooLarge(f"the mask holds {len(held)} {word}s, at most {MOST_ROIS} are described at once")
        return tuple(held)
    if roi is None:
        if len(held) > 1:
            raise _unknown(held, f"the mask holds {len(held)} {word}s and `roi` names none")
        return tuple(held)
    found = [one for one in held if one.name == roi.strip()] or [one for one in held if str(one.number) == roi.strip()]
    if len(found) > 1:
        raise _unknown(found, f"{len(found)} {word}s of the mask have this name; ask for one by its number")
    if not found:
        raise _unknown(held, f"the mask does not hold this {word}")
    return tuple(found)


def printable(name: str) -> str:
    """Return a name as it may be shown: one line of at most `LONGEST_NAME` printable characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in name.strip()[:LONGEST_NAME])


def tell_apart(chosen: Sequence[Region]) -> list[str]:
    """Return the name of each region, with its number behind where it has none or another has the same."""
    names = [one.name for one in chosen]
    return [
        one.name if one.name and names.count(one.name) == 1 else f"{one.name} #{one.number}".strip() for one in chosen
    ]


def _unknown(held: Sequence[Region], reason: str) -> UnknownRoi:
    listed = ", ".join(f"{one.number} ({one.name})" for one in held[:LISTED]) + (", ..." if len(held) > LISTED else "")
    return UnknownRoi(
        f"{reason}; it holds {listed}",
        regions=[{"number": one.number, "name": one.name} for one in held[:LISTED]],
        region_count=len(held),
    )


def check_masks_size(count: int, voxels: int, limits: Limits) -> None:
    """Refuse more masks than fit the limit on decoded bytes; each takes a byte per voxel.

    Raises:
        TooLarge: they do not fit.
    """
    if count * voxels > limits.decoded_bytes:
        raise TooLarge(
            f"{count} regions of {voxels} voxels are over {limits.decoded_bytes} bytes; ask for fewer",
            got=count * voxels,
            limit=limits.decoded_bytes,
            unit="decoded bytes",
        )


def to_mask(voxels: NDArray[np.bool_], grid: Geometry, name: str, what: str) -> Mask:
    """Make a region's mask; `what` names the region by its number.

    Raises:
        EmptyRoi: no voxel is true.
        RoiTooSmall: fewer than `LEAST_ROI_VOXELS` are.
    """
    count = int(np.count_nonzero(voxels))
    if count == 0:
        raise EmptyRoi(f"{what} holds no voxel of the image", voxels=0)
    if count < LEAST_ROI_VOXELS:
        raise RoiTooSmall(
            f"{what} holds {count} voxel, at least {LEAST_ROI_VOXELS} are needed", voxels=count, needed=LEAST_ROI_VOXELS
        )
    return Mask(voxels, grid, name)


def check_frame(named: str, image: Image, what: str) -> list[str]:
    """Refuse regions of another frame of reference than the image's, whose UIDs are not repeated.

    Returns:
        A note where one of both names none.

    Raises:
        GeometryMismatch: they differ.
    """
    if not named or not image.frame_of_reference:
        lacking = "the mask" if image.frame_of_reference else "the image"
        return [f"{lacking} names no frame of reference; both were taken to be in the same one"]
    if named != image.frame_of_reference:
        raise GeometryMismatch(
            f"{what} is given in another frame of reference than the image's", expected=image.geometry.describe()
        )
    return []
