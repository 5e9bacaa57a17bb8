"""Channels on different grids, brought onto one where the caller allows it.

By linear interpolation: unlike B-splines it makes no value that lies outside its neighbours' (no negative uptake, no
rim beside an edge), and what it does to a linear ramp is exact. A region of interest must lie where every channel has
voxels; elsewhere a channel's outermost values go on, so that filters meet no false edge.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import GeometryMismatch
from service.imaging.case import Image, Mask
from service.imaging.guard import Limits, check_size
from service.imaging.itk_bridge import resample_linearly, resampled_type


@dataclass(frozen=True, eq=False)
class Resampled:
    """A channel on another channel's grid.

    Attributes:
        image: its values there.
        covered: bool (I, J, K), whether a voxel lies within the channel as it was sent.
    """

    image: Image
    covered: NDArray[np.bool_]


def onto_grid(image: Image, reference: Image, limits: Limits) -> Resampled:
    """Resample a channel onto the grid of another one.

    Raises:
        GeometryMismatch: they are in different frames of reference, or do not overlap.
        TooLarge: the result would be larger than the limits.
    """
    facts: dict[str, Any] = {"expected": reference.geometry.describe(), "got": image.geometry.describe()}
    frames = (image.frame_of_reference, reference.frame_of_reference)
    if None not in frames and frames[0] != frames[1]:
        raise GeometryMismatch("two channels are given in different frames of reference", **facts)
    check_size(reference.geometry.shape, resampled_type(image.voxels.dtype).itemsize, limits)
    voxels, covered = resample_linearly(image, reference.geometry)
    count = int(np.count_nonzero(covered))
    if count == 0:
        raise GeometryMismatch("two channels do not overlap", **facts)
    beyond = covered.size - count
    notes = [
        f"resampled by linear interpolation from {image.geometry.in_words()} to {reference.geometry.in_words()}",
        *([] if None not in frames else ["without a named frame of reference it was taken to share the reference's"]),
        *([f"{beyond} of {covered.size} voxels of the grid lie beyond it"] if beyond else []),
    ]
    moved = replace(
        image,
        voxels=voxels,
        geometry=reference.geometry,
        notes=(*image.notes, *notes),
        stored_direction=reference.stored_direction,
    )
    return Resampled(moved, covered)


def check_covered(mask: Mask, channel: str, resampled: Resampled) -> None:
    """Refuse a region that reaches beyond a resampled channel.

    Raises:
        GeometryMismatch: with the voxels outside.
    """
    outside = mask.count - int(np.count_nonzero(mask.voxels & resampled.covered))
    if outside:
        raise GeometryMismatch(
            f"{outside} of the {mask.count} voxels of a region of interest lie beyond image {channel}",
            channel=channel,
            voxels_outside=outside,
            voxels=mask.count,
        )
