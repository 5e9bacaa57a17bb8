"""Streaming a multipart upload straight to storage.

The body never lies in memory as a whole and is never spooled: blocks of about `BLOCK_BYTES` go to a thread that
parses, hashes and writes them. File names and content types that a client sends are dropped with the part's header.

References:
    RFC 7578 (multipart/form-data); RFC 2046, section 5.1 (boundaries); RFC 9110, section 8.4 (content codings).
"""

import errno
import logging
import re
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field
from typing import TypeAlias

import anyio
from anyio import to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from service.api.pace import keep_pace
from service.config import Settings
from service.errors import BodyTooLarge, DiskFull, InvalidField, RequestError, UnsupportedMedia, UploadStalled
from service.job import Role, Upload
from service.storage import Part, Staging, Storage

BLOCK_BYTES = 256 * 1024
FIELD_BYTES = 64 * 1024
MOST_ROIS = 256
HEADER_COUNT = 8
HEADER_BYTES = 4096
RETRY_SECONDS = 60
TEXT_FIELDS = frozenset(
    {
        *("model", "roi", "radiomics", "case_id", "radiomics_axes", "suv", "webhook"),
        *("resample_mask", "resample_images", "reference"),
    }
)
FIELDS = "image, image.<channel>, image_series, image_series.<channel>, mask, mask_series, " + ", ".join(
    sorted(TEXT_FIELDS)
)
_SERIES = re.compile(r"image_series(?:\.[A-Za-z0-9_]{1,32})?|mask_series")
_IMAGE = re.compile(r"image(?:\.(?P<channel>[A-Za-z0-9_]{1,32}))?")
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}

# The parser logs the bytes it stumbled over, which are a caller's.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


@dataclass
class Form:
    """What a multipart body held: text fields, regions asked for, a PyRadiomics parameter file, the stored files.

    The channel of a file sent as plain `image` is still None: only the model tells it.
    """

    texts: dict[str, str] = field(default_factory=dict)
    rois: list[str] = field(default_factory=list)
    parameters: str | None = None
    files: list[Upload] = field(default_factory=list)


@dataclass
class _Text:
    """A text field, or the parameter file, on its way in: kept in memory, hence capped."""

    name: str
    is_file: bool
    data: bytearray = field(default_factory=bytearray)


@dataclass
class _File:
    """An image, a mask, or either, on its way to the disk."""

    name: str
    role: Role
    channel: str | None
    part: Part


_Target: TypeAlias = _Text | _File


class FormReader:
    """Turn the blocks of one multipart body into a `Form`, its files into parts of `staging`.

    Not for the event loop: `feed` and `close` write to the disk.
    """

    def __init__(self, boundary: bytes, staging: Staging, *, channels: Collection[str], max_files: int) -> None:
        self._form = Form()
        self._staging = staging
        self._channels = channels
        self._max_files = max_files
        self._headers: list[tuple[bytearray, bytearray]] = []
        self._target: _Target | None = None
        self._ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._headers.clear,
                "on_header_begin": lambda: self._headers.append((bytearray(), bytearray())),
                "on_header_field": lambda data, start, end: self._headers[-1][0].extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._headers[-1][1].extend(data[start:end]),
                "on_headers_finished": self._open_part,
                "on_part_data": self._take_data,
                "on_part_end": self._close_part,
                "on_end": self._end,
            },
            max_header_count=HEADER_COUNT,
            max_header_size=HEADER_BYTES,
        )

    def feed(self, block: bytes) -> None:
        """Parse and store one block of the body.

        Raises:
            RequestError: the body is not well-formed multipart.
            InvalidField: a part is not one of the form's, or comes twice.
            BodyTooLarge: a text field is longer than 64 KiB, or there are too many files.
            DiskFull: the disk took no more.
        """
        try:
            self._parser.write(block)
        except FormParserError as error:
            raise RequestError("the multipart body is malformed") from error
        except OSError as error:
            raise _no_room(error) from error

    def close(self) -> Form:
        """Return the form once the body has ended.

        Raises:
            RequestError: the closing boundary never came.
        """
        if not self._ended:
            raise RequestError("the multipart body ends before its closing boundary")
        return self._form

    def _end(self) -> None:
        self._ended = True

    def _open_part(self) -> None:
        headers = {bytes(name).lower(): bytes(value) for name, value in self._headers}
        disposition, options = parse_options_header(headers.get(b"content-disposition"))
        if disposition != b"form-data" or b"name" not in options:
            raise RequestError("a part of the multipart body has no `Content-Disposition: form-data; name=...`")
        name = options[b"name"].decode("utf-8", "replace")
        self._target = self._choose_target(name, is_file=b"filename" in options)

    def _choose_target(self, name: str, *, is_file: bool) -> _Target:
        image = _IMAGE.fullmatch(name)
        if image or name == "mask":
            return self._open_file(name, image["channel"] if image else None, is_file=is_file)
        if name not in TEXT_FIELDS and not _SERIES.fullmatch(name):
            raise InvalidField(f"there is a form field that is not one of: {FIELDS}", field=shown(name))
        if name == "roi" and len(self._form.rois) >= MOST_ROIS:
            raise InvalidField(f"roi: given more than {MOST_ROIS} times", field="roi")
        if name in self._form.texts or (name == "radiomics" and self._form.parameters is not None):
            raise InvalidField(f"{name}: given twice", field=name)
        if is_file and name != "radiomics":
            raise InvalidField(f"{name}: this is a text field, not a file", field=name)
        return _Text(name, is_file)

    def _open_file(self, name: str, channel: str | None, *, is_file: bool) -> _File:
        role: Role = "mask" if name == "mask" else "image"
        if not is_file:
            raise InvalidField(f"{name}: must be sent as a file (a part with a filename)", field=name)
        if channel is not None and channel not in self._channels:
            raise InvalidField(f"{name}: no model has this channel", field=name, channels=sorted(self._channels))
        if role == "mask" and any(upload.role == "mask" for upload in self._form.files):
            raise InvalidField("mask: given twice", field="mask")
        return self._open_upload(name, role, channel)

    def _open_upload(self, name: str, role: Role, channel: str | None) -> _File:
        stored = self._form.files
        if len(stored) >= self._max_files:
            raise BodyTooLarge(f"more than {self._max_files} files", field=name, max_files=self._max_files)
        stem = "-".join(filter(None, (role, channel)))
        return _File(name, role, channel, self._staging.open_part(f"{stem.lower()}-{len(stored):04d}"))

    def _take_data(self, data: bytes, start: int, end: int) -> None:
        target = self._target
        if isinstance(target, _File):
            target.part.write(data[start:end])
        elif target is not None:
            target.data += data[start:end]
            if len(target.data) > FIELD_BYTES:
                raise BodyTooLarge(
                    f"{target.name}: longer than {FIELD_BYTES} bytes", field=target.name, max_bytes=FIELD_BYTES
                )

    def _close_part(self) -> None:
        target, self._target = self._target, None
        if isinstance(target, _File):
            self._store_file(target)
        elif target is not None:
            self._store_text(target)

    def _store_file(self, target: _File) -> None:
        target.part.close()
        if target.part.bytes == 0:
            raise InvalidField(f"{target.name}: the file is empty", field=target.name)
        self._form.files.append(target.part.upload(target.role, target.channel))

    def _store_text(self, target: _Text) -> None:
        try:
            text = target.data.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidField(f"{target.name}: not UTF-8", field=target.name) from error
        if target.is_file:
            self._form.parameters = text
        elif target.name == "roi":
            self._form.rois.append(text)
        else:
            self._form.texts[target.name] = text


async def receive_form(
    request: Request,
    staging: Staging,
    *,
    storage: Storage,
    settings: Settings,
    channels: Collection[str],
    related: type[FormReader] | None = None,
) -> Form:
    """Stream the request's body into `staging` and return the form.

    Args:
        request: its body is multipart/form-data.
        staging: where the files go.
        storage: whose free space is watched.
        settings: limits.
        channels: those that any model knows.
        related: reads multipart/related, where that is accepted too.

    Raises:
        UnsupportedMedia: of another media type, or compressed.
        BodyTooLarge: `Content-Length`, or what really came, exceeds the limit.
        DiskFull: the upload would leave less free space than the operator wants.
        UploadStalled: no byte came for `upload_idle_seconds`.
        RequestError, InvalidField: see `FormReader.feed`.
        ClientDisconnect: the client went away.
    """
    kind, boundary = _media_type(request, related=related is not None)
    reading = related if related is not None and kind == b"multipart/related" else FormReader
    reader = reading(boundary, staging, channels=channels, max_files=settings.max_files)
    check_length(request, storage, settings)

    def take(block: bytes) -> None:
        _check_room(storage, settings, 0)
        reader.feed(block)

    async for block in _blocks(request, settings):
        await to_thread.run_sync(take, block)
    return reader.close()


def check_length(request: Request, storage: Storage, settings: Settings) -> None:
    """Refuse by `Content-Length` alone what would be refused later anyway.

    Raises:
        BodyTooLarge: over `max_upload_bytes`.
        DiskFull: over the free space.
    """
    expected = int(request.headers.get("content-length", 0))
    if expected > settings.max_upload_bytes:
        raise _too_large(settings)
    _check_room(storage, settings, expected)


async def _blocks(request: Request, settings: Settings) -> AsyncIterator[bytes]:
    """Gather the body's chunks into blocks worth a thread's while, counting what really arrives."""
    gathered: list[bytes] = []
    size = total = 0
    stream = keep_pace(request.stream(), settings)
    while chunk := await next_chunk(stream, settings.upload_idle_seconds):
        total += len(chunk)
        if total > settings.max_upload_bytes:
            raise _too_large(settings)
        gathered.append(chunk)
        size += len(chunk)
        if size >= BLOCK_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


async def next_chunk(stream: AsyncIterator[bytes], idle_seconds: float) -> bytes:
    """Return the next chunk, empty at the end of the body."""
    try:
        with anyio.fail_after(idle_seconds):
            return await anext(stream, b"")
    except TimeoutError as error:
        raise UploadStalled(f"no byte of the upload came for {idle_seconds:g} s", idle_seconds=idle_seconds) from error


def _media_type(request: Request, *, related: bool) -> tuple[bytes, bytes]:
    """Return the body's type and boundary."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    accepted = [b"multipart/form-data", *([b"multipart/related"] if related else [])]
    if kind not in accepted or not 0 < len(boundary) <= 70:
        raise UnsupportedMedia(
            f"expected {b' or '.join(accepted).decode()} with a boundary of 1 to 70 characters",
        )
    if request.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMedia("the body must not be compressed (Content-Encoding)")
    return kind, boundary


def _check_room(storage: Storage, settings: Settings, expected_bytes: int) -> None:
    free = storage.free_bytes() - expected_bytes
    if free < settings.min_free_bytes:
        raise DiskFull(
            f"the upload would leave {max(free, 0)} bytes free; {settings.min_free_bytes} must stay free",
            retry_after_seconds=RETRY_SECONDS,
        )


def _no_room(error: OSError) -> Exception:
    if error.errno in _NO_ROOM:
        return DiskFull("the disk is full", retry_after_seconds=RETRY_SECONDS)
    return error


def _too_large(settings: Settings) -> BodyTooLarge:
    limit = settings.max_upload_bytes
    return BodyTooLarge(f"the body is larger than {limit} bytes", max_bytes=limit)


def shown(name: str) -> str:
    """Return an unknown field's name where it looks like one, so that a path or a patient's name is not repeated."""
    return name if re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", name) else "(unprintable)"
