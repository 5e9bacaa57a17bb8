"""Whole jobs of DICOM objects nobody sorted, and of series on a DICOMweb server, through a real worker."""

import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from service.job import JobRequest, JobState
from tests.build import build_image, build_mask, write_dicom_series
from tests.imaging.segments import write_seg
from tests.running import OWNER, Installation, running
from tests.serving import free_port
from tests.worker.orthanc import PASSWORD, USER, named, needs_orthanc, orthanc

PORT = free_port()


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    servers = f"archive=http://{USER}:{PASSWORD}@127.0.0.1:{PORT}/dicom-web"
    home = tmp_path_factory.mktemp("inputs") / "home"
    with running(home, RADFUSE_DICOMWEB_SERVERS=servers, RADFUSE_MAX_ATTEMPTS="6") as installation:
        yield installation


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    """A series, and a SEG with two segments."""
    folder = tmp_path_factory.mktemp("files")
    series = write_dicom_series(folder / "s", build_image())
    small = build_mask(radius_mm=4).voxels
    seg = write_seg(folder / "seg", series, np.stack([build_mask().voxels, small], axis=-1), ("GTV", "node"))
    return series, seg


def submit(installation: Installation, files: Sequence[tuple[Any, Path]], **options: Any) -> str:
    """Accept a job of files with their roles, as the API does."""
    job_id = uuid.uuid4().hex
    with installation.storage.stage() as staging:
        uploads = []
        for number, (role, path) in enumerate(files):
            with staging.open_part(f"{role}-{number:04d}") as part:
                part.write(path.read_bytes())
            uploads.append(part.upload(role, None if role == "mask" else "ct"))
        staging.commit(job_id)
    request = JobRequest(model=installation.model, files=tuple(uploads), **options)
    installation.ledger.create_job(job_id=job_id, owner=OWNER, request=request, case_id=None, idempotency_key=None)
    return job_id


def slug(installation: Installation, job_id: str) -> str:
    problem = installation.wait_for(job_id).problem
    assert problem is not None
    return str(problem["type"]).removeprefix("/problems/")


@pytest.fixture(scope="module")
def expected(installation: Installation, files: Any) -> list[dict[str, float]]:
    """The features of the case sent as image and mask."""
    series, seg = files
    job_id = submit(installation, [*(("image", path) for path in series), ("mask", seg)], roi=("node,GTV",))
    assert installation.wait_for(job_id, seconds=120).state is JobState.SUCCEEDED
    found = installation.features(job_id)
    assert len(found) == 2
    return found


def test_unsorted_dicom_gives_the_features_of_image_and_mask(
    installation: Installation, files: Any, expected: list[dict[str, float]]
) -> None:
    series, seg = files
    mixed = [*series[:5], seg, *series[5:][::-1]]
    job_id = submit(installation, [("unsorted", path) for path in mixed], roi=("node", "GTV"))
    assert installation.wait_for(job_id).state is JobState.SUCCEEDED
    assert installation.features(job_id) == expected
    document = installation.ledger.find_result(job_id, OWNER)
    assert document is not None
    assert [roi["roi"]["name"] for roi in document["rois"]] == ["node", "GTV"]


def test_unsorted_dicom_without_a_mask_or_with_two_is_refused(installation: Installation, files: Any) -> None:
    series, seg = files
    for chosen in (series, [*series, seg, seg], [seg]):
        assert slug(installation, submit(installation, [("unsorted", path) for path in chosen])) == "unreadable-image"


def test_unsorted_files_must_all_be_dicom(installation: Installation, files: Any, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("PLANTED")
    job_id = submit(installation, [*(("unsorted", path) for path in files[0]), ("unsorted", tmp_path / "text")])
    assert slug(installation, job_id) == "unreadable-image"


@needs_orthanc
def test_a_case_by_reference_waits_for_its_server_and_what_is_not_there_is_terminal(
    installation: Installation, files: Any, expected: list[dict[str, float]], tmp_path: Path
) -> None:
    series, seg = files
    remote = tuple(named(pydicom.dcmread(path), role) for path, role in ((series[0], "image"), (seg, "mask")))
    job_id = submit(installation, [], remote=remote, roi=("node,GTV",))
    deadline = time.monotonic() + 30
    while installation.job(job_id).attempt < 1 or installation.job(job_id).state is JobState.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not installation.job(job_id).state.terminal  # nobody answers yet: given back to be tried again
    with orthanc(tmp_path / "o", [*series, seg], PORT):
        assert installation.wait_for(job_id).state is JobState.SUCCEEDED
        absent = remote[0].model_copy(update={"series": "1.2.3"})
        missing = submit(installation, [("mask", seg)], remote=(absent,), roi=("GTV",))
        assert slug(installation, missing) == "not-in-archive"
        assert installation.job(missing).attempt == 1
    assert installation.features(job_id) == expected
    assert not list((installation.home / "jobs").iterdir())
    assert remote[0].series not in installation.log("worker")
