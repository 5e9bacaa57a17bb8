"""Which of the regions that a mask holds are meant: labels of an image, segments of a SEG, ROIs of an RTSTRUCT."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.errors import EmptyRoi, GeometryMismatch, RoiTooSmall, TooLarge, UnknownRoi
from service.imaging.case import LEAST_ROI_VOXELS, Image, Mask
from service.imaging.geometry import Geometry
from service.imaging.guard import Limits
from service.imaging.references import RegionReference

MOST_ROIS: Final = 256  # described at once
LISTED: Final = 50
LONGEST_NAME: Final = 64  # characters, as DICOM's LO allows
ALL: Final = "all"  # each region by itself
WHOLE: Final = "whole"  # all regions as one
LABEL: Final = "label"

Roi: TypeAlias = str | Sequence[str] | None


class Region(Protocol):
    """A region by number and name, as the file gives them."""

    @property
    def number(self) -> int:
        """The number that the file gives it."""

    @property
    def name(self) -> str:
        """The name that the file gives it."""


R = TypeVar("R", bound=Region)


@dataclass(frozen=True)
class Chosen(Generic[R]):
    """One region of the result.

    Attributes:
        name: as the result names it.
        parts: the regions of the mask whose voxels it takes: one, or all of them.
    """

    name: str
    parts: tuple[R, ...]


def choose_regions(held: Sequence[R], roi: Roi, word: str, usable: Sequence[R] | None = None) -> tuple[Chosen[R], ...]:
    """Return the regions asked for, in the order asked for; one asked for twice comes once.

    Args:
        held: the regions of the mask.
        roi: names, or numbers where no region has that name; a text that is neither and holds commas is a list of
            them. "all" stands for every region, "whole" for the union of all; None for the only one.
        word: what the format calls a region.
        usable: what "all", "whole" and None choose among, where that is not all that is held.

    Raises:
        EmptyRoi: the mask holds none at all.
        UnknownRoi: no region, or several, have a name; None was given and there are several; or a region is itself
            named "whole" and there are others.
        TooLarge: more than `MOST_ROIS`.
    """
    usable = held if usable is None else usable
    asked = _split(roi, held)
    if not held or not (usable or set(asked) - {ALL, WHOLE}):
        raise EmptyRoi(f"the mask holds no {word} that could be used", voxels=0)
    if not asked and len(usable) > 1:
        raise _unknown(usable, word, f"the mask holds {len(usable)} {word}s and `roi` names none")
    found: dict[int | None, tuple[R, ...]] = {}
    for place, text in enumerate(asked or [ALL], start=1):
        if text == WHOLE:
            _check_unnamed(held, word)
            found[None] = tuple(usable)
        else:
            which = usable if text == ALL else [_find(held, text, word, (place, len(asked)))]
            found |= {one.number: (one,) for one in which if one.number not in found}
    _check_count(len(found), word)
    names = iter(tell_apart([parts[0] for number, parts in found.items() if number is not None]))
    return tuple(Chosen(WHOLE if number is None else next(names), parts) for number, parts in found.items())


def asks_for_all(roi: Roi, held: Sequence[Region]) -> bool:
    """Whether every region is meant, by itself or in the union."""
    return not {ALL, WHOLE}.isdisjoint(_split(roi, held))


def tell_whole(chosen: Sequence[Chosen[R]], word: str) -> list[str]:
    """Return a note of what the union holds, where it was asked for."""
    return [
        f"ROI {WHOLE} is the union of the {word}s {', '.join(str(part.number) for part in one.parts)}"
        for one in chosen
        if one.name == WHOLE and len(one.parts) > 1
    ]


def _split(roi: Roi, held: Sequence[Region]) -> list[str]:
    texts = () if roi is None else (roi,) if isinstance(roi, str) else roi
    known = {one.name for one in held} | {str(one.number) for one in held}
    asked: list[str] = []
    for text in map(str.strip, texts):
        asked += [text] if text in known else [part.strip() for part in text.split(",")]
    return asked


def _find(held: Sequence[R], text: str, word: str, place: tuple[int, int]) -> R:
    found = [one for one in held if one.name == text] or [one for one in held if str(one.number) == text]
    if len(found) > 1:
        raise _unknown(found, word, f"{len(found)} {word}s of the mask have this name; ask for one by its number")
    if not found:
        which = f"this {word}" if place[1] == 1 else f"the {word} asked for at place {place[0]} of {place[1]}"
        raise _unknown(held, word, f"the mask does not hold {which}")
    return found[0]


def _check_unnamed(held: Sequence[Region], word: str) -> None:
    named = [one for one in held if one.name == WHOLE]
    if named and len(held) > 1:
        raise _unknown(held, word, f"a {word} is itself named {WHOLE}; ask for it, or for the others, by number")


def _check_count(count: int, word: str) -> None:
    if count > MOST_ROIS:
        raise TooLarge(
            f"{count} {word}s were asked for, at most {MOST_ROIS} are described at once",
            got=count,
            limit=MOST_ROIS,
            unit="regions",
        )


def printable(name: str) -> str:
    """Return a name as it may be shown: one line of at most `LONGEST_NAME` printable characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in name.strip()[:LONGEST_NAME])


def tell_apart(chosen: Sequence[Region]) -> list[str]:
    """Return the name of each region, with its number behind where it has none or another has the same."""
    names = [one.name for one in chosen]
    return [
        one.name if one.name and names.count(one.name) == 1 else f"{one.name} #{one.number}".strip() for one in chosen
    ]


def _unknown(held: Sequence[Region], word: str, reason: str) -> UnknownRoi:
    shown = held[:LISTED]
    listed = ", ".join(str(one.number) if word == LABEL else f"{one.number} ({one.name})" for one in shown)
    facts: dict[str, Any] = (
        {"labels": [one.number for one in shown], "label_count": len(held)}
        if word == LABEL
        else {"regions": [{"number": one.number, "name": one.name} for one in shown], "region_count": len(held)}
    )
    return UnknownRoi(f"{reason}; it holds {listed}{', ...' if len(held) > LISTED else ''}", **facts)


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


def to_mask(
    voxels: NDArray[np.bool_], grid: Geometry, name: str, what: str, source: RegionReference | None = None
) -> Mask:
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
    return Mask(voxels, grid, name, source)


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
