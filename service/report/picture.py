"""A picture of a case to see at a glance that the right thing was measured.

Three planes through the region's centroid, with its outline, orientation letters and a scale bar. No text of
the upload is drawn.

References:
    Orientation letters and viewing directions: DICOM PS3.3 C.7.6.1.1.1 and C.8.8 (axial seen from the feet).
"""

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from service.imaging.case import Image, Mask, Voxels
from service.imaging.geometry import Geometry

PANEL: Final = 320  # pixels on a side
GAP: Final = 4
OUTLINE: Final = (255, 176, 0)
INK: Final = 235

# The picture is indexed, which is encoded in a third of RGB's time: every index is its own grey, but for the outline's.
# Greys keep clear of that index; where two share one, white is shown for both.
OUTLINE_INDEX: Final = 254
PALETTE: Final = bytes(
    part for grey in range(256) for part in (OUTLINE if grey == OUTLINE_INDEX else (grey, grey, grey))
)

LUNG_HU: Final = (-1350.0, 150.0)
SOFT_TISSUE_HU: Final = (-160.0, 240.0)
AERATED_HU: Final = -400.0  # below it, a neighbourhood is mostly lung
LEAST_HU: Final = -500.0  # an image of unknown modality that goes lower is taken for CT
MARGIN: Final = 8  # voxels around the region that decide between the CT windows

# Array axes shown along columns and rows, and whether the rows run against the axis (head up).
AXIAL: Final = (0, 1, False)
CORONAL: Final = (0, 2, True)
SAGITTAL: Final = (1, 2, True)

Plane = tuple[int, int, bool]
Grey = NDArray[np.uint8]


def draw_preview(image: Image, mask: Mask) -> bytes:
    """Draw the axial, coronal and sagittal planes through the region's centroid.

    Args:
        image: in canonical axis order (nearest to L, P, S).
        mask: the region, on the image's grid.

    Returns:
        A PNG, three panels of `PANEL` pixels side by side.
    """
    centre = _centre(mask)
    low, high = choose_window(image, mask)
    canvas = Pillow.new("P", (3 * PANEL + 2 * GAP, PANEL))
    canvas.putpalette(PALETTE)
    for position, plane in enumerate((AXIAL, CORONAL, SAGITTAL)):
        panel = _draw_panel(_Slice.cut(image, mask, plane, centre), low, high)
        canvas.paste(panel, (position * (PANEL + GAP), 0))
    stream = io.BytesIO()
    canvas.save(stream, "PNG", compress_level=2)  # half the time of the default, a third larger
    return stream.getvalue()


def choose_window(image: Image, mask: Mask) -> tuple[float, float]:
    """Return the intensities shown as black and white.

    CT gets the lung window where the region's neighbourhood is mostly aerated, else the soft tissue window.
    Anything else is stretched between the 1st and 99th percentile of the axial plane through the centroid.
    """
    is_ct = image.modality == "CT" or (image.modality is None and float(image.voxels.min()) < LEAST_HU)
    if is_ct:
        box = tuple(slice(max(first - MARGIN, 0), stop + MARGIN) for first, stop in mask.bounding_box)
        return LUNG_HU if np.median(image.voxels[box]) < AERATED_HU else SOFT_TISSUE_HU
    low, high = np.percentile(image.voxels[:, :, _centre(mask)[2]], (1, 99)).tolist()
    return low, max(high, low + 1e-6)


@dataclass(frozen=True)
class _Slice:
    """One plane: rows downwards and columns to the right, with what is needed to draw it to scale."""

    grey: Voxels
    region: NDArray[np.bool_]
    size_mm: tuple[float, float]
    letters: tuple[str, str, str, str]

    @classmethod
    def cut(cls, image: Image, mask: Mask, plane: Plane, centre: tuple[int, ...]) -> "_Slice":
        column, row, upwards = plane
        index = tuple(slice(None) if axis in (column, row) else centre[axis] for axis in range(3))
        flip = slice(None, None, -1 if upwards else 1)
        edges, shape = image.geometry.spacing_mm, image.geometry.shape
        left, right = _letters(image.geometry, column)
        top, bottom = _letters(image.geometry, row)[:: -1 if upwards else 1]
        return cls(
            image.voxels[index].T[flip],
            mask.voxels[index].T[flip],
            (shape[column] * edges[column], shape[row] * edges[row]),
            (left, right, top, bottom),
        )


def _draw_panel(cut: _Slice, low: float, high: float) -> Pillow.Image:
    pixels_per_mm = PANEL / max(cut.size_mm)
    width, height = (max(1, round(edge * pixels_per_mm)) for edge in cut.size_mm)
    shown = Pillow.fromarray(_windowed(cut.grey, low, high)).resize((width, height), Pillow.Resampling.BILINEAR)
    region = Pillow.fromarray(cut.region.astype(np.uint8)).resize((width, height), Pillow.Resampling.NEAREST)
    panel = Pillow.new("L", (PANEL, PANEL))
    left, top = (PANEL - width) // 2, (PANEL - height) // 2
    panel.paste(shown, (left, top))
    _annotate(panel, cut.letters, pixels_per_mm)
    indices = np.array(panel)
    indices[indices == OUTLINE_INDEX] = 255
    window = indices[top : top + height, left : left + width]
    window[outline_of(np.asarray(region) > 0)] = OUTLINE_INDEX
    return Pillow.fromarray(indices)


def outline_of(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a region (rows, columns) that touch the outside along a row or column."""
    padded = np.pad(region, 1)
    inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    edge: NDArray[np.bool_] = region & ~inside
    return edge


def _windowed(grey: Voxels, low: float, high: float) -> Grey:
    scaled = (grey.astype(np.float32) - low) * (255 / (high - low))
    return np.ascontiguousarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


def _annotate(panel: Pillow.Image, letters: tuple[str, str, str, str], pixels_per_mm: float) -> None:
    middle = PANEL // 2
    places = ((5, middle, "lm"), (PANEL - 5, middle, "rm"), (middle, 4, "mt"), (middle, PANEL - 4, "mb"))
    for letter, (x, y, anchor) in zip(letters, places, strict=True):
        _write(panel, letter, (x, y), anchor)
    bar_mm = max((length for length in (1, 2, 5, 10, 20, 50, 100) if length * pixels_per_mm <= PANEL / 3), default=1)
    end = 8 + bar_mm * pixels_per_mm
    ImageDraw.Draw(panel).line([(8, PANEL - 9), (end, PANEL - 9)], fill=INK, width=2)
    _write(panel, f"{bar_mm} mm", (8, PANEL - 13), "lb")


def _write(panel: Pillow.Image, text: str, place: tuple[int, int], anchor: str) -> None:
    """Write with a dark rim, so that it can be read on any grey."""
    rim, ink, (left, top) = _letter(text, anchor)
    at = (place[0] + left, place[1] + top)
    panel.paste(0, at, rim)
    panel.paste(INK, at, ink)


@lru_cache(maxsize=64)
def _letter(text: str, anchor: str) -> tuple[Pillow.Image, Pillow.Image, tuple[int, int]]:
    """Return how far rim and ink cover the grey below, and where both lie relative to the anchor's place.

    Few texts are ever written, and the font takes longer over them than all the rest.
    """
    font = ImageFont.load_default(size=13)
    left, top, right, bottom = (round(edge) for edge in font.getbbox(text, anchor=anchor, stroke_width=1))
    covers = []
    for stroke_width in (1, 0):
        cover = Pillow.new("L", (right - left, bottom - top))
        draw = ImageDraw.Draw(cover)
        draw.text((-left, -top), text, fill=255, font=font, anchor=anchor, stroke_width=stroke_width)
        covers.append(cover)
    return covers[0], covers[1], (left, top)


def _letters(geometry: Geometry, axis: int) -> tuple[str, str]:
    """Return the patient directions at the start and at the end of an array axis."""
    direction = geometry.direction[:, axis]
    world = int(np.argmax(np.abs(direction)))
    negative, positive = ("LR", "PA", "FH")[world]
    return (negative, positive) if direction[world] > 0 else (positive, negative)


def _centre(mask: Mask) -> tuple[int, ...]:
    index = np.rint(mask.geometry.to_index(mask.centroid_mm)).astype(int)
    return tuple(np.clip(index, 0, np.array(mask.geometry.shape) - 1).tolist())
