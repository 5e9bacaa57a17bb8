"""What a case is made of: uploaded files and series named on a DICOMweb server, and whose channels they are."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pydantic import ValidationError

from service.dicomweb_server import DicomwebServer, find_server
from service.errors import InvalidField
from service.job import RemoteSeries, Upload
from service.manifest import Manifest

SERIES_FIELD: Final = re.compile(r"(?P<role>image|mask)_series(?:\.(?P<channel>[A-Za-z0-9_]{1,32}))?")


def read_remote(texts: Mapping[str, str], servers: Sequence[DicomwebServer]) -> tuple[RemoteSeries, ...]:
    """Return the series that the form's `image_series`, `image_series.<channel>` and `mask_series` name.

    Raises:
        InvalidField: not SERVER/STUDY/SERIES (of a mask also /INSTANCE), or a server that is not the operator's.
    """
    found = ((SERIES_FIELD.fullmatch(name), name, text) for name, text in texts.items())
    return tuple(_read_series(match, name, text, servers) for match, name, text in found if match)


def check_sources(files: Sequence[Upload], remote: Sequence[RemoteSeries]) -> None:
    """Check that there are images and one mask, each in one way.

    Raises:
        InvalidField: something is missing, or comes in two ways.
    """
    sources: list[Upload | RemoteSeries] = [*files, *remote]
    roles = {one.role for one in sources}
    if "unsorted" in roles:
        if remote:
            raise InvalidField("image_series, mask_series: not together with DICOM parts", field="image_series")
        return
    for role in ("image", "mask"):
        if role not in roles:
            raise InvalidField(f"{role}: missing", field=role)
    named = {one.channel is not None for one in sources if one.role == "image"}
    if len(named) == 2:
        raise InvalidField("image: send either `image` or `image.<channel>` parts, not both", field="image")
    sent = {(one.role, one.channel) for one in files}
    doubled = next((one for one in remote if (one.role, one.channel) in sent), None)
    if doubled is not None:
        raise InvalidField(
            f"{doubled.role}: sent as a file and named as a series; one of both is wanted", field=doubled.role
        )


def given_channels(sources: Iterable[Upload | RemoteSeries]) -> frozenset[str]:
    """Return the channels that the images name; empty where there is a plain one."""
    return frozenset(one.channel for one in sources if one.role == "image" and one.channel is not None)


def name_channel(upload: Upload, manifest: Manifest) -> Upload:
    """Give a plain image, or DICOM objects yet to be sorted, the model's only channel."""
    if upload.role != "mask" and upload.channel is None:
        return upload.model_copy(update={"channel": manifest.channels[0]})
    return upload


def name_remote(series: RemoteSeries, manifest: Manifest) -> RemoteSeries:
    """As `name_channel`, of a series on a server."""
    if series.role == "image" and series.channel is None:
        return series.model_copy(update={"channel": manifest.channels[0]})
    return series


def _read_series(match: re.Match[str], name: str, text: str, servers: Sequence[DicomwebServer]) -> RemoteSeries:
    server, *uids = text.split("/")
    role, most = match["role"], 3 if match["role"] == "mask" else 2
    if find_server(server, servers) is None:
        known = ", ".join(one.name for one in servers) or "none"
        raise InvalidField(
            f"{name}: not a DICOMweb server that this service's operator allows; there are: {known}",
            field=name,
            known=[one.name for one in servers],
        )
    form = "SERVER/STUDY/SERIES" + ("[/INSTANCE]" if role == "mask" else "")
    wrong = InvalidField(f"{name}: expected {form}, the last ones DICOM UIDs", field=name)
    if not 2 <= len(uids) <= most:
        raise wrong
    parts = dict(zip(("study", "series", "instance"), uids, strict=False))
    try:
        return RemoteSeries.model_validate({"role": role, "channel": match["channel"], "server": server, **parts})
    except ValidationError:
        raise wrong from None
