"""From the fields of a form to a checked `JobRequest`: which model, which channels, which radiomics settings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, cast, get_args

from service.api.catalogue import Listed
from service.api.sources import check_sources, given_channels, name_channel, name_remote
from service.api.uploads import Form
from service.errors import InvalidField
from service.job import JobRequest, RemoteSeries
from service.manifest import Manifest
from service.radiomics_settings import EVERY_PRESET, Axes, parse_parameters
from service.webhook_target import WebhookTarget, find_target

TEXT_LENGTH = 128
ROI_LENGTH = 4096  # a list of labels may be long
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def build_request(
    form: Form,
    models: Mapping[str, Listed],
    targets: Iterable[WebhookTarget] = (),
    remote: Sequence[RemoteSeries] = (),
) -> JobRequest:
    """Check the form as a whole.

    Args:
        form: what was sent.
        models: what is installed.
        targets: where webhooks may go; nowhere by default.
        remote: series on DICOMweb servers, beside or instead of files.

    Raises:
        InvalidField: a field is missing, wrong, or does not fit the model; names the field.
    """
    check_sources(form.files, remote)
    manifest = choose_model(form.texts.get("model"), given_channels([*form.files, *remote]), models)
    preset = form.texts.get("radiomics")
    if preset is not None and preset not in EVERY_PRESET:
        raise InvalidField(
            f"radiomics: no such preset; there are {', '.join(sorted(EVERY_PRESET))}; "
            "a PyRadiomics parameter file must be sent as a file",
            field="radiomics",
            presets=sorted(EVERY_PRESET),
        )
    return JobRequest(
        model=manifest.reference,
        roi=tuple(check_roi(text) for text in form.rois),
        preset=preset,
        parameters=None if form.parameters is None else parse_parameters(form.parameters).document(),
        resample_mask=_read_boolean("resample_mask", form.texts.get("resample_mask", "false")),
        reference=_read_reference(form, manifest),
        suv=_read_suv(form.texts.get("suv")),
        radiomics_axes=_read_axes(form.texts.get("radiomics_axes", "canonical")),
        webhook=_read_webhook(form.texts.get("webhook"), targets),
        files=tuple(name_channel(upload, manifest) for upload in form.files),
        remote=tuple(name_remote(series, manifest) for series in remote),
    )


def check_text(name: str, text: str | None) -> str | None:
    """Return the text of an optional field.

    Raises:
        InvalidField: not 1 to 128 printable characters.
    """
    if text is not None and not (0 < len(text) <= TEXT_LENGTH and text.isprintable()):
        raise InvalidField(f"{name}: {len(text)} characters; expected 1 to {TEXT_LENGTH} printable ones", field=name)
    return text


def check_roi(text: str) -> str:
    """Return one text that asks for regions; it may be a list of several."""
    if not (0 < len(text) <= ROI_LENGTH and text.isprintable()):
        raise InvalidField(f"roi: {len(text)} characters; expected 1 to {ROI_LENGTH} printable ones", field="roi")
    return text


def choose_model(wanted: str | None, given: frozenset[str], models: Mapping[str, Listed]) -> Manifest:
    """Return the bundle named `wanted` (`name` or `name@version`), or the one that fits the given channels.

    Args:
        wanted: the form's `model`, if any.
        given: channels of the image parts; empty for plain `image`.
        models: what is installed.

    Raises:
        InvalidField: unknown model or version, no or several fitting models, channels that do not fit.
    """
    known = [each.manifest.reference for each in models.values()]
    if wanted is None:
        fitting = [each.manifest for each in models.values() if _fits(each.manifest, given)]
        if len(fitting) != 1:
            raise InvalidField(
                f"model: {len(fitting)} of the installed models fit the images sent; name one",
                field="model",
                known=known,
            )
        return fitting[0]
    name, _, version = wanted.partition("@")
    listed = models.get(name)
    if listed is None or (version or listed.manifest.version) != listed.manifest.version or wanted.endswith("@"):
        raise InvalidField("model: there is no such model or version here", field="model", known=known)
    _check_channels(listed.manifest, given)
    return listed.manifest


def _fits(manifest: Manifest, given: frozenset[str]) -> bool:
    return given == frozenset(manifest.channels) or (not given and len(manifest.channels) == 1)


def _check_channels(manifest: Manifest, given: frozenset[str]) -> None:
    if _fits(manifest, given):
        return
    needed = ["image"] if len(manifest.channels) == 1 else [f"image.{channel}" for channel in manifest.channels]
    lacking = [f"image.{channel}" for channel in manifest.channels if channel not in given]
    excess = [f"image.{channel}" for channel in sorted(given) if channel not in manifest.channels]
    raise InvalidField(
        f"{manifest.reference} needs {', '.join(needed)}; missing: {', '.join(lacking) or 'none'}; "
        f"not wanted: {', '.join(excess) or 'none'}",
        field=(excess or lacking)[0],
        channels=manifest.channels,
    )


def _read_axes(text: str) -> Axes:
    for axes in get_args(Axes):
        if text == axes:
            return cast(Axes, axes)
    raise InvalidField(
        f"radiomics_axes: expected {' or '.join(get_args(Axes))}", field="radiomics_axes", known=list(get_args(Axes))
    )


def _read_reference(form: Form, manifest: Manifest) -> str | None:
    """Return the channel onto whose grid the others are resampled, the model's first by default; None: refused."""
    allowed = _read_boolean("resample_images", form.texts.get("resample_images", "false"))
    wanted = form.texts.get("reference")
    if wanted is not None and not allowed:
        raise InvalidField("reference: needs resample_images=true", field="reference")
    if wanted is not None and wanted not in manifest.channels:
        raise InvalidField(
            f"reference: {manifest.reference} has no such channel", field="reference", channels=manifest.channels
        )
    return (wanted or manifest.channels[0]) if allowed else None


def _read_suv(text: str | None) -> Literal["bw"] | None:
    if text not in (None, "bw"):
        raise InvalidField("suv: expected bw (body weight)", field="suv", known=["bw"])
    return None if text is None else "bw"


def _read_webhook(text: str | None, targets: Iterable[WebhookTarget]) -> str | None:
    if text is not None and find_target(text, targets) is None:
        raise InvalidField(
            "webhook: not an address that this service's operator allows here; it must be written plainly, without "
            "user, escapes, `..` and fragment",
            field="webhook",
        )
    return text


def _read_boolean(name: str, text: str) -> bool:
    value = _BOOLEANS.get(text.lower())
    if value is None:
        raise InvalidField(f"{name}: expected true or false", field=name)
    return value
