"""What a mask alone decides, found once for all the images that it is laid on.

Several channels of a case share their masks. The region and its shape features are kept for as long as the mask
itself is.
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

from service.features.engine.region import Region, find_region
from service.features.engine.shape import describe_shape
from service.imaging.case import Mask

_found: WeakKeyDictionary[Mask, "Outline"] = WeakKeyDictionary()


@dataclass(eq=False)
class Outline:
    """A region and, once they have been asked for, its shape features."""

    region: Region
    _shape: dict[str, float] | None = None

    def describe(self) -> dict[str, float]:
        """Return all features of the class `shape`."""
        if self._shape is None:
            self._shape = describe_shape(self.region)
        return self._shape


def find_outline(mask: Mask, spacing: tuple[float, float, float]) -> Outline:
    """Find a mask's region, or return what was found before.

    Args:
        mask: of the image; masks never change.
        spacing: of the image, mm along (K, J, I).

    Raises:
        EmptyRoi: no voxel is set.
    """
    known = _found.get(mask)
    if known is None or known.region.spacing != spacing:
        known = _found[mask] = Outline(find_region(mask.voxels.T, spacing))
    return known
