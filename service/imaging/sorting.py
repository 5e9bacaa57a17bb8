"""Which of the DICOM objects of a case are its image's and which is its mask, by their class."""

from collections.abc import Sequence
from pathlib import Path

from pydicom.uid import RTStructureSetStorage

from service.errors import TooLarge, UnreadableImage
from service.imaging.dataset import SEGMENTATIONS, read_stated_class
from service.imaging.guard import Format, Limits, sniff


def sort_objects(paths: Sequence[Path], limits: Limits) -> tuple[list[Path], list[Path]]:
    """Return the files of the images, and those of the masks (SEG, RTSTRUCT); only their start is read.

    Raises:
        TooLarge: more files than the limits.
        UnreadableImage: a file is not DICOM, or there are not images and one mask.
    """
    if len(paths) > limits.files:
        raise TooLarge(
            f"{len(paths)} files, at most {limits.files} are accepted",
            got=len(paths),
            limit=limits.files,
            unit="files",
        )
    images: list[Path] = []
    masks: list[Path] = []
    for path in paths:
        kind = sniff(path)
        if kind is not Format.DICOM:
            raise UnreadableImage(f"got a {kind.value} file where every part must be a DICOM object")
        of_mask = read_stated_class(path) in (*SEGMENTATIONS, RTStructureSetStorage)
        (masks if of_mask else images).append(path)
    if not images or len(masks) != 1:
        raise UnreadableImage(
            f"got {len(images)} images and {len(masks)} masks (SEG, RTSTRUCT) among {len(paths)} DICOM objects; "
            "expected the images of one series and one mask",
            images=len(images),
            masks=len(masks),
        )
    return images, masks
