"""Files: whole or not there, opaque, private, removable."""

import hashlib
import os
import time
import uuid
from pathlib import Path

import pytest

from service.job import JobRequest
from service.storage import Storage

CONTENT = b"voxels" * 1000


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "home")


def store(storage: Storage, content: bytes = CONTENT) -> tuple[str, JobRequest]:
    job_id = uuid.uuid4().hex
    with storage.stage() as staging:
        with staging.open_part("image-ct-0000") as image:
            for start in range(0, len(content), 100):
                image.write(content[start : start + 100])
        with staging.open_part("mask-0000") as mask:
            mask.write(b"1")
        staging.commit(job_id)
    return job_id, JobRequest(model="a@1.0.0", files=(image.upload("image", "ct"), mask.upload("mask")))


def cut_off(storage: Storage, job_id: str | None) -> None:
    """Lose the client in the middle of an upload, or, with a job id, just after it was committed."""
    with storage.stage() as staging:
        staging.open_part("mask-0000").write(CONTENT)
        if job_id is not None:
            staging.commit(job_id)
        raise ConnectionError


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_what_was_written_is_there_with_its_size_and_digest(storage: Storage) -> None:
    job_id, request = store(storage)

    paths = storage.paths(job_id, request)

    assert paths["image-ct-0000"].read_bytes() == CONTENT
    image = request.files[0]
    assert (image.bytes, image.sha256) == (len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
    assert storage.list_jobs() == [job_id]


def test_only_the_service_may_read_uploads(storage: Storage, tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        store(Storage(tmp_path / "open"))
    finally:
        os.umask(old)

    for path in (tmp_path / "open").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0


def test_an_upload_that_is_not_committed_leaves_nothing(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        cut_off(storage, None)

    assert everything(tmp_path / "home") == ["incoming", "jobs"]


def test_a_committed_upload_survives_a_later_error(storage: Storage) -> None:
    job_id = uuid.uuid4().hex
    with pytest.raises(ConnectionError):
        cut_off(storage, job_id)

    assert storage.list_jobs() == [job_id]


@pytest.mark.parametrize("name", ["../mask", "/etc/passwd", "", ".hidden", "DOE^JOHN.nii", "a/b", "a" * 101])
def test_names_that_the_service_did_not_make_are_refused(storage: Storage, name: str) -> None:
    with storage.stage() as staging, pytest.raises(ValueError, match="opaque names"):
        staging.open_part(name)


@pytest.mark.parametrize("job_id", ["", "..", "../jobs", "A" * 32, "0" * 31])
def test_only_job_ids_name_folders(storage: Storage, job_id: str) -> None:
    with pytest.raises(ValueError, match="32 hexadecimal digits"):
        storage.delete(job_id)


def test_deleting_is_idempotent_and_complete(storage: Storage, tmp_path: Path) -> None:
    job_id, _ = store(storage)

    storage.delete(job_id)
    storage.delete(job_id)

    assert everything(tmp_path / "home") == ["incoming", "jobs"]


def test_uploads_cut_off_by_a_kill_are_swept_once_nobody_writes(storage: Storage, tmp_path: Path) -> None:
    staging = storage.stage()
    part = staging.open_part("image-ct-0000")
    part.write(CONTENT)
    folder = next((tmp_path / "home" / "incoming").iterdir())
    hour_ago = time.time() - 3600
    os.utime(folder, (hour_ago, hour_ago))

    assert storage.sweep_incoming(1800) == 0  # a part is still growing
    os.utime(folder / "image-ct-0000", (hour_ago, hour_ago))
    assert storage.sweep_incoming(1800) == 1

    assert everything(tmp_path / "home") == ["incoming", "jobs"]
    staging.close()


def test_jobs_are_listed_by_age(storage: Storage, tmp_path: Path) -> None:
    job_id, _ = store(storage)
    assert storage.list_jobs(60) == []
    hour_ago = time.time() - 3600
    os.utime(tmp_path / "home" / "jobs" / job_id, (hour_ago, hour_ago))

    assert storage.list_jobs(60) == [job_id]


def test_free_space_is_that_of_the_disk(storage: Storage, tmp_path: Path) -> None:
    statistics = os.statvfs(tmp_path)

    assert storage.free_bytes() == pytest.approx(statistics.f_bavail * statistics.f_frsize, rel=0.05)
