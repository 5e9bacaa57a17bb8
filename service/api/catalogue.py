"""The model bundles that this installation offers, read from their manifests alone."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from service.errors import BundleDamaged, NotFound
from service.manifest import FILE_NAME, Manifest, manifest_sha256, read_manifests


@dataclass(frozen=True)
class Listed:
    """A bundle's manifest and the digest that stands for the whole bundle."""

    manifest: Manifest
    sha256: str


class Catalogue:
    """Manifests by bundle name; read again when a manifest appears, vanishes or changes."""

    def __init__(self, models: Path) -> None:
        self._models = models
        self._lock = threading.Lock()
        self._stamp: object = None
        self._listed: Mapping[str, Listed] = MappingProxyType({})

    def read(self) -> Mapping[str, Listed]:
        """Return the bundles in alphabetical order.

        Raises:
            BundleDamaged: a manifest cannot be read, or is not valid.
        """
        stamp = self._look()
        with self._lock:
            if stamp != self._stamp:
                manifests = read_manifests(self._models)
                self._listed = MappingProxyType(
                    {name: Listed(each, manifest_sha256(self._models / name)) for name, each in manifests.items()}
                )
                self._stamp = stamp
            return self._listed

    def find(self, name: str) -> Listed:
        """Return one bundle.

        Raises:
            NotFound: no such bundle.
        """
        listed = self.read().get(name)
        if listed is None:
            raise NotFound("no model of this name; GET /models lists them")
        return listed

    def channels(self) -> frozenset[str]:
        """Return the channels that any bundle knows."""
        return frozenset(channel for each in self.read().values() for channel in each.manifest.channels)

    def card(self, name: str) -> str:
        """Return the bundle's card (Markdown).

        Raises:
            NotFound: no such bundle.
            BundleDamaged: the card's file is missing.
        """
        manifest = self.find(name).manifest
        try:
            return (self._models / name / manifest.card.file).read_text(encoding="utf-8")
        except OSError as error:
            raise BundleDamaged(f"bundle {name}: its card cannot be read ({error.strerror})") from error

    def _look(self) -> tuple[tuple[str, int, int], ...]:
        paths = sorted(self._models.glob(f"*/{FILE_NAME}"))
        return tuple((path.parent.name, path.stat().st_mtime_ns, path.stat().st_size) for path in paths)
