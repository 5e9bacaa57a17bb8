"""The bundles that a child has loaded: each once, for as long as its manifest stays the same."""

from service.bundle import ModelBundle
from service.config import Settings
from service.errors import UnfitCase
from service.manifest import manifest_sha256, read_manifest, read_manifests


class Shelf:
    """Bundles by name."""

    def __init__(self, values: Settings, threads: int) -> None:
        self._settings = values
        self._threads = threads
        self._bundles: dict[str, ModelBundle] = {}

    def fetch(self, reference: str) -> ModelBundle:
        """Return the bundle `name@version`, ready to run.

        Raises:
            UnfitCase: the service now has another version of it than when the job was accepted.
            BundleDamaged: it is missing or wrong.
            DeviceUnavailable: its encoder cannot run where the settings want it.
        """
        name, _, version = reference.partition("@")
        folder = self._settings.models / name
        manifest = read_manifest(folder)
        if manifest.version != version:
            raise UnfitCase(
                f"the job was accepted for {reference}; the service now has {manifest.reference}: submit it again",
                expected=reference,
                got=manifest.reference,
            )
        bundle = self._bundles.get(name)
        if bundle is None or bundle.sha256 != manifest_sha256(folder):
            bundle = ModelBundle.load(folder, device=self._settings.device, threads=self._threads)
            self._bundles[name] = bundle
        return bundle

    def warm_up(self) -> str | None:
        """Load every bundle and its encoder before the first job; returns the device really in use."""
        device = None
        for manifest in read_manifests(self._settings.models).values():
            device = self.fetch(manifest.reference).encoder.provider
        return device
