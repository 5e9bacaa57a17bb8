"""Fetching what a case names on a DICOMweb server of the operator's list.

One object at a time is in memory, under the child's limit; number and bytes are limited as those of an upload are. No
redirect is followed and no proxy of the environment is used: a request goes to the server that the operator named, or
nowhere.

References:
    DICOM PS3.18 10.4 (retrieve transaction, WADO-RS).
"""

import logging
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import requests
from dicomweb_client import DICOMwebClient

from service.config import Settings
from service.dicomweb_server import DicomwebServer, find_server
from service.errors import ArchiveUnreachable, NotInArchive, TooLarge
from service.imaging.dataset import quietly
from service.job import RemoteSeries

for _library in ("dicomweb_client", "retrying"):
    logging.getLogger(_library).setLevel(logging.CRITICAL + 1)  # their messages quote addresses, which hold UIDs

CONNECT_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 60.0  # without a byte
GONE: Final = (404, 410)
AS_STORED: Final = (("application/dicom", "*"),)  # whatever transfer syntax the server has


def fetch_series(series: RemoteSeries, folder: Path, settings: Settings) -> list[Path]:
    """Fetch a series, or one instance of it, into a folder and return its files.

    Raises:
        NotInArchive: the server has none such.
        ArchiveUnreachable: the server is not (any longer) on the list, does not answer or refuses us.
        TooLarge: more files or bytes than an upload may have.
        UnreadableImage: what came is no DICOM.
    """
    server = find_server(series.server, settings.dicomweb_servers)
    if server is None:
        raise ArchiveUnreachable(f"the DICOMweb server {series.server} is not among those of this service")
    paths: list[Path] = []
    left = settings.max_upload_bytes
    with closing(_receive(server, series)) as received:
        for content in received:
            left -= len(content)
            if len(paths) >= settings.max_files:
                raise _too_large(len(paths) + 1, settings.max_files, "files")
            if left < 0:
                raise _too_large(settings.max_upload_bytes - left, settings.max_upload_bytes, "bytes")
            path = folder / f"{series.role}-{(series.channel or '').lower()}-{len(paths):04d}"
            path.write_bytes(content)
            paths.append(path)
    if not paths:
        raise NotInArchive(f"the DICOMweb server {server.name} holds nothing of what was named")
    return paths


def _receive(server: DicomwebServer, series: RemoteSeries) -> Generator[bytes, None, None]:
    """Yield every object as a DICOM file."""
    not_dicom = f"the DICOMweb server {server.name} sent something that is not DICOM"
    with quietly(not_dicom), _judged(server), _connected(server) as client:
        for dataset in _retrieve(client, series):
            file = BytesIO()
            dataset.save_as(file, enforce_file_format=True)
            yield file.getvalue()


@contextmanager
def _connected(server: DicomwebServer) -> Iterator[DICOMwebClient]:
    with requests.Session() as session, ExitStack() as answers:

        def close_later(answer: requests.Response, *_: Any, **__: Any) -> None:
            answers.callback(answer.close)  # the library leaves an answer open that it does not read to its end

        session.hooks["response"].append(close_later)
        session.trust_env = False
        session.max_redirects = 0
        if server.user:
            session.auth = (server.user, server.password)
        client = DICOMwebClient(server.url, session=session, timeout=(CONNECT_SECONDS, IDLE_SECONDS))
        client.set_http_retry_params(retry=False)  # the ledger tries again
        yield client


def _retrieve(client: DICOMwebClient, series: RemoteSeries) -> Iterator[Any]:
    if series.instance is not None:
        yield client.retrieve_instance(series.study, series.series, series.instance, media_types=AS_STORED)
    else:
        yield from client.iter_series(series.study, series.series, media_types=AS_STORED)


@contextmanager
def _judged(server: DicomwebServer) -> Iterator[None]:
    """Tell what is not there from a server that cannot be used."""
    try:
        yield
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in GONE:
            raise NotInArchive(f"the DICOMweb server {server.name} does not hold what was named") from None
        raise ArchiveUnreachable(f"the DICOMweb server {server.name} answered {status}", server_status=status) from None
    except requests.RequestException as error:
        kind = type(error).__name__
        raise ArchiveUnreachable(f"the DICOMweb server {server.name} could not be used ({kind})") from None


def _too_large(got: int, limit: int, unit: str) -> TooLarge:
    return TooLarge(
        f"the series on the DICOMweb server has at least {got} {unit}, at most {limit} are accepted",
        got=got,
        limit=limit,
        unit=unit,
    )
