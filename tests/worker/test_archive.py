"""Series fetched from DICOMweb servers: a real Orthanc, and servers that misbehave as it cannot be made to."""

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from service.config import Settings, read_settings
from service.errors import ArchiveUnreachable, NotInArchive, TooLarge, UnreadableImage
from service.imaging.dicom import read_series
from service.imaging.guard import Limits
from service.job import RemoteSeries
from service.worker.archive import fetch_series
from tests.build import build_image, build_mask, write_dicom_series
from tests.imaging.segments import write_seg
from tests.serving import free_port
from tests.worker.orthanc import PASSWORD, USER, named, needs_orthanc, orthanc

LIMITS = Limits(decoded_bytes=10**8, voxels=10**7, files=100)
Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


def settings_for(url: str, **values: Any) -> Settings:
    more = {f"RADFUSE_{name.upper()}": str(value) for name, value in values.items()}
    return read_settings({"RADFUSE_DICOMWEB_SERVERS": f"archive={url}"} | more)


NOWHERE = RemoteSeries(role="image", channel="ct", server="archive", study="1.2", series="1.3")


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """A server that answers every GET in one way: it speaks HTTP, no DICOMweb, for answers that Orthanc never gives."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def sending(status: int, body: bytes = b"", declared: int | None = None, **headers: str) -> Answer:
    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", str(len(body) if declared is None else declared))
        request.end_headers()
        request.wfile.write(body)

    return answer


def multipart(parts: list[bytes]) -> bytes:
    head = b"--b\r\nContent-Type: application/dicom\r\n\r\n"
    return b"".join(head + part + b"\r\n" for part in parts) + b"--b--\r\n"


RELATED = {"Content_Type": 'multipart/related; type="application/dicom"; boundary=b'}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    """A series and a SEG of it."""
    folder = tmp_path_factory.mktemp("files")
    series = write_dicom_series(folder / "s", build_image())
    return series, write_seg(folder / "seg", series, build_mask().voxels[..., np.newaxis])


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, files: tuple[list[Path], Path]) -> Iterator[str]:
    with orthanc(tmp_path_factory.mktemp("orthanc") / "o", [*files[0], files[1]]) as url:
        yield url.replace("//", f"//{USER}:{PASSWORD}@")


@needs_orthanc
def test_a_series_comes_from_orthanc_voxel_by_voxel(archive: str, files: Any, tmp_path: Path) -> None:
    paths = fetch_series(named(pydicom.dcmread(files[0][0])), tmp_path, settings_for(archive))
    assert len(paths) == len(files[0])
    assert np.array_equal(read_series(paths, LIMITS).voxels, build_image().voxels)
    assert all("PLANTED" not in path.name.upper() for path in paths)


@needs_orthanc
@pytest.mark.parametrize("instance", [True, False])
def test_a_mask_comes_by_its_series_or_its_instance(archive: str, files: Any, tmp_path: Path, instance: bool) -> None:
    mask = pydicom.dcmread(files[1])
    (path,) = fetch_series(named(mask, "mask", instance), tmp_path, settings_for(archive))
    fetched = pydicom.dcmread(path)
    assert fetched.SOPInstanceUID == mask.SOPInstanceUID
    assert fetched.PixelData == mask.PixelData


@needs_orthanc
@pytest.mark.parametrize("change", [{"series": "1.2.3"}, {"study": "1.2.3"}, {"instance": "1.2.3"}])
def test_what_orthanc_does_not_hold_is_terminal(archive: str, files: Any, tmp_path: Path, change: Any) -> None:
    wanted = named(pydicom.dcmread(files[0][0])).model_copy(update=change)
    with pytest.raises(NotInArchive) as refusal:
        fetch_series(wanted, tmp_path, settings_for(archive))
    assert "1.2.3" not in refusal.value.detail


@needs_orthanc
def test_a_wrong_password_is_the_operators_concern(archive: str, files: Any, tmp_path: Path) -> None:
    with pytest.raises(ArchiveUnreachable, match="answered 401") as refusal:
        fetch_series(named(pydicom.dcmread(files[0][0])), tmp_path, settings_for(archive.replace(PASSWORD, "wrong")))
    assert "wrong" not in str(refusal.value.problem(500))


@needs_orthanc
def test_limits_on_files_and_bytes_hold(archive: str, files: Any, tmp_path: Path) -> None:
    wanted = named(pydicom.dcmread(files[0][0]))
    with pytest.raises(TooLarge, match="5 files, at most 4"):
        fetch_series(wanted, tmp_path, settings_for(archive, max_files=4))
    with pytest.raises(TooLarge, match="bytes, at most 3000"):
        fetch_series(wanted, tmp_path, settings_for(archive, max_upload_bytes=3000))


def test_nothing_at_the_address_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(ArchiveUnreachable, match="archive could not be used"):
        fetch_series(NOWHERE, tmp_path, settings_for(f"http://127.0.0.1:{free_port()}"))


def test_a_server_that_has_left_the_list_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(ArchiveUnreachable, match="not among those"):
        fetch_series(NOWHERE.model_copy(update={"server": "former"}), tmp_path, settings_for("http://127.0.0.1:1"))


@pytest.mark.parametrize("status", [400, 403, 500, 503])
def test_other_answers_than_not_found_are_tried_again_later(tmp_path: Path, status: int) -> None:
    with answering(sending(status)) as url, pytest.raises(ArchiveUnreachable) as refusal:
        fetch_series(NOWHERE, tmp_path, settings_for(url))
    assert refusal.value.facts == {"server_status": status}


def test_no_redirect_is_followed(tmp_path: Path, files: Any) -> None:
    asked: list[str] = []

    def hold(request: http.server.BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        sending(200, multipart([files[1].read_bytes()]), **RELATED)(request)

    with (
        answering(hold) as inside,
        answering(sending(302, Location=f"{inside}/secret")) as url,
        pytest.raises(ArchiveUnreachable),
    ):
        fetch_series(NOWHERE, tmp_path, settings_for(url))
    assert asked == []


def test_an_answer_cut_short_is_tried_again_later(tmp_path: Path, files: Any) -> None:
    body = multipart([path.read_bytes() for path in files[0]])
    cut = sending(200, body[: len(body) // 2], len(body), **RELATED)
    with answering(cut) as url, pytest.raises(ArchiveUnreachable):
        fetch_series(NOWHERE, tmp_path, settings_for(url))


def test_an_answer_without_a_part_is_nothing(tmp_path: Path) -> None:
    with answering(sending(200, b"\r\n--b--\r\n", **RELATED)) as url, pytest.raises(NotInArchive):
        fetch_series(NOWHERE, tmp_path, settings_for(url))


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (multipart([b"not a DICOM file"]), RELATED),
        (b"<html>PLANTED</html>", {"Content_Type": "text/html"}),
        (b"", {}),
    ],
)
def test_an_answer_that_is_no_dicom_is_refused_and_not_repeated(tmp_path: Path, body: bytes, headers: Any) -> None:
    with answering(sending(200, body, **headers)) as url, pytest.raises(UnreadableImage) as refusal:
        fetch_series(NOWHERE, tmp_path, settings_for(url))
    assert "PLANTED" not in refusal.value.detail
