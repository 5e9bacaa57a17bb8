"""The readers by the names that configurations and the command line use."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal, get_args

from training.cases import CaseIndex, Finding
from training.config import ConfigError
from training.readers.brats import read_brats
from training.readers.lgg_mri import read_lgg_mri
from training.readers.lidc import read_lidc
from training.readers.lung1 import read_lung1
from training.readers.manifest import read_manifest
from training.readers.nsclc_tnm import read_nsclc_tnm

Name = Literal["brats", "lung1", "manifest", "lidc", "nsclc-tnm", "lgg-mri"]
READERS: Final[Mapping[str, Callable[[Path], tuple[CaseIndex, list[Finding]]]]] = {
    "brats": read_brats,
    "lung1": read_lung1,
    "manifest": read_manifest,
    "lidc": read_lidc,
    "nsclc-tnm": read_nsclc_tnm,
}
LGG_MRI: Final = "lgg-mri"  # its volumes have to be written as NIfTI first
NAMES: Final[tuple[str, ...]] = get_args(Name)
ONE_CASE_PER_PATIENT: Final = frozenset({"brats", "lung1", "nsclc-tnm", LGG_MRI})


def read_collection(reader: str, root: Path, cache: Path) -> tuple[CaseIndex, list[Finding]]:
    """Read the collection in `root`.

    Args:
        reader: one of `NAMES`.
        root: the collection's folder (or the CSV of a manifest).
        cache: where a reader may keep converted volumes.

    Raises:
        ConfigError: there is no such reader or folder, or the collection's table cannot be used.
    """
    if reader not in NAMES:
        raise ConfigError(f"there is no reader {reader!r}; the readers are {', '.join(NAMES)}")
    if not root.exists():
        raise ConfigError(f"{root.name} is not there")
    return read_lgg_mri(root, cache) if reader == LGG_MRI else READERS[reader](root)
