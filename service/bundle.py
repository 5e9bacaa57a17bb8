"""A model bundle on disk, checked whole before any of it is used."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from service.errors import BundleDamaged, InvalidField
from service.features.encoder import Device, Encoder
from service.heads import Head, HeadDocument, parse_head
from service.manifest import FILE_NAME, EncoderPart, FilePart, HeadPart, Manifest, manifest_sha256, read_manifest
from service.radiomics_settings import RadiomicsSettings, parse_parameters

PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, eq=False)
class ModelBundle:
    """What one model needs: its manifest, radiomics settings, encoder and heads.

    Attributes:
        manifest: the checked manifest.
        sha256: the manifest's digest; it stands for the whole bundle.
        settings: the radiomics settings that the heads were trained with.
        encoder: not yet loaded; it is on first use.
        heads: in the manifest's order.
    """

    manifest: Manifest
    sha256: str
    settings: RadiomicsSettings
    encoder: Encoder
    heads: tuple[Head, ...]

    @classmethod
    def load(cls, folder: Path, *, device: Device = "auto", threads: int = 1) -> Self:
        """Load the bundle in `folder`, verifying the digest of every file before it is read for use.

        Raises:
            BundleDamaged: a file is missing, altered, outside the folder or wrong, or the parts contradict each
                other; the message names the bundle and the file.
        """
        manifest = read_manifest(folder)
        for part in _parts(manifest):
            _verify(folder, part)
        settings = _read_settings(folder, manifest)
        _check_feature_names(manifest, settings)
        _check_windows(manifest)
        encoder = Encoder(folder / manifest.encoder.file, manifest.encoder.dimension, device, threads)
        heads = tuple(_read_head(folder, part, manifest) for part in manifest.heads)
        return cls(manifest, manifest_sha256(folder), settings, encoder, heads)


def fused_feature_names(settings: RadiomicsSettings, channels: Sequence[str], dimension: int) -> tuple[str, ...]:
    """Return the names of the fused vector: radiomics channel by channel, then the embedding."""
    names = settings.feature_names()
    radiomics = (channel_prefix(channel, channels) + name for channel in channels for name in names)
    return (*radiomics, *deep_feature_names(dimension))


def channel_prefix(channel: str, channels: Sequence[str]) -> str:
    """Return what stands in front of a channel's radiomics names: nothing where there is one channel."""
    return f"{channel}_" if len(channels) > 1 else ""


def deep_feature_names(dimension: int) -> tuple[str, ...]:
    """Return the names of an embedding's numbers."""
    return tuple(f"deep_{index:04d}" for index in range(dimension))


def _parts(manifest: Manifest) -> Iterator[EncoderPart | HeadPart | FilePart]:
    yield manifest.encoder
    yield manifest.radiomics
    yield manifest.card
    yield from manifest.heads


def _verify(folder: Path, part: EncoderPart | HeadPart | FilePart) -> None:
    where = f"bundle {folder.name}: {part.file}"
    path = folder / part.file
    if not PLAIN_NAME.fullmatch(part.file) or part.file == FILE_NAME or path.is_symlink():
        raise BundleDamaged(f"{where} is not a plain file name inside the bundle")
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise BundleDamaged(f"{where} cannot be read ({error.strerror})") from error
    if digest != part.sha256:
        raise BundleDamaged(f"{where} has SHA-256 {digest}, its manifest says {part.sha256}")


def _read_settings(folder: Path, manifest: Manifest) -> RadiomicsSettings:
    try:
        return parse_parameters((folder / manifest.radiomics.file).read_bytes())
    except InvalidField as error:
        raise BundleDamaged(f"bundle {folder.name}: {manifest.radiomics.file}: {error.detail}") from error


def _read_head(folder: Path, part: HeadPart, manifest: Manifest) -> Head:
    where = f"bundle {folder.name}: {part.file}"
    document = parse_head((folder / part.file).read_bytes(), where)
    _check_head(document, part, manifest, where)
    return Head(document, demonstration=manifest.demonstration)


def _check_head(document: HeadDocument, part: HeadPart, manifest: Manifest, where: str) -> None:
    if (document.target, document.classes) != (part.target, part.classes):
        raise BundleDamaged(f"{where} predicts {document.target} in {document.classes}, its manifest says otherwise")
    if strangers := sorted(set(document.features) - set(manifest.feature_names)):
        raise BundleDamaged(f"{where} needs {len(strangers)} features the bundle does not compute: {strangers[0]}, ...")


def _check_feature_names(manifest: Manifest, settings: RadiomicsSettings) -> None:
    computed = fused_feature_names(settings, manifest.channels, manifest.encoder.dimension)
    if computed != tuple(manifest.feature_names):
        raise BundleDamaged(
            f"bundle {manifest.name}: its settings, channels and encoder give {len(computed)} features, which differ "
            f"from the {len(manifest.feature_names)} that its manifest names"
        )


def _check_windows(manifest: Manifest) -> None:
    windows = set(manifest.preprocessing.windows)
    if windows != set(manifest.channels) or len(set(manifest.channels)) < len(manifest.channels):
        raise BundleDamaged(
            f"bundle {manifest.name}: channels {manifest.channels} and windows {sorted(windows)} are not the same"
        )
