"""Jobs through a real Redis, dispatcher and Celery worker, with the faults that each must survive."""

import dataclasses
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import sqlalchemy as sa

from service.job import JobState
from service.radiomics_settings import parse_parameters
from service.worker.__main__ import threads_per_child
from tests.build import build_geometry, build_image, build_mask, to_bytes, write_nifti, write_nifti_array
from tests.running import Installation, running, wait_until

IMAGE = to_bytes(lambda path: write_nifti(path, build_image()))
MASK = to_bytes(lambda path: write_nifti(path, build_mask()))
# Takes a few seconds with the preset `full`: time to kill something while it runs.
LARGE = build_geometry((96, 96, 64), (1.0, 1.0, 1.5))
LARGE_IMAGE = to_bytes(lambda path: write_nifti(path, build_image(LARGE)))
LARGE_MASK = to_bytes(lambda path: write_nifti(path, build_mask(LARGE, radius_mm=25)))
# A distance given twice leaves everything to PyRadiomics, which takes many times longer.
SLOW = parse_parameters("setting: {distances: [1, 1]}\nimageType: {Original: , Wavelet: }").document()
# Longer than the hard time limit of the tests below: the soft one's exception may be lost where Python ignores it.
SLOWEST = parse_parameters(
    "setting: {distances: [1, 1]}\nimageType: {Wavelet: , LoG: {sigma: [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6]}}"
).document()
LARGER_MASK = to_bytes(lambda path: write_nifti(path, build_mask(LARGE, radius_mm=40)))


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with running(tmp_path_factory.mktemp("worker") / "home") as installation:
        yield installation


@pytest.fixture(scope="module")
def undisturbed(installation: Installation) -> list[dict[str, float]]:
    """The features of the large case when nothing happens to it."""
    job_id = submit_large(installation)
    assert installation.wait_for(job_id).state is JobState.SUCCEEDED
    return installation.features(job_id)


def submit_large(installation: Installation) -> str:
    return installation.submit(LARGE_IMAGE, LARGE_MASK, parameters=SLOW)


def slug(installation: Installation, job_id: str) -> str:
    problem = installation.job(job_id).problem
    assert problem is not None
    return str(problem["type"]).removeprefix("/problems/")


def test_a_job_succeeds_and_its_uploads_go(installation: Installation) -> None:
    job_id = installation.submit(IMAGE, MASK)

    job = installation.wait_for(job_id)

    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 1)
    document = installation.ledger.find_result(job_id, "local")
    assert document is not None
    assert list(document["provenance"]["seconds"]) == ["reading", "radiomics", "encoder", "prediction"]
    assert document["provenance"]["device"] == "CPUExecutionProvider"
    wait_until(lambda: installation.ledger.find_preview(job_id, "local") is not None, 5)
    preview = installation.ledger.find_preview(job_id, "local")
    assert preview is not None
    assert preview.startswith(b"\x89PNG")
    wait_until(lambda: job_id not in installation.storage.list_jobs(), 5)


def test_live_processes_and_the_device_are_known(installation: Installation) -> None:
    installation.wait_for(installation.submit(IMAGE, MASK))

    processes = installation.ledger.list_processes(5)

    assert [(process.kind, process.device) for process in processes] == [
        ("dispatcher", None),
        ("worker", "CPUExecutionProvider"),
    ]


def test_the_parent_never_loads_imaging_libraries_or_the_model_runtime(installation: Installation) -> None:
    parent = psutil.Process(installation.processes["worker"].pid)
    wait_until(lambda: bool(parent.children()), 30)

    loaded = {
        name for line in parent.memory_maps() for name in ("onnxruntime", "SimpleITK", "numpy") if name in line.path
    }

    assert loaded == set()


def test_a_case_that_cannot_be_used_fails_typed_and_its_uploads_go(installation: Installation) -> None:
    grid = build_geometry()
    empty = to_bytes(lambda path: write_nifti_array(path, np.zeros(grid.shape, np.uint8), grid.affine))
    job_id = installation.submit(IMAGE, empty)

    job = installation.wait_for(job_id)

    assert (job.state, job.attempt, slug(installation, job_id)) == (JobState.FAILED, 1, "empty-roi")
    wait_until(lambda: job_id not in installation.storage.list_jobs(), 5)


def test_an_unreadable_file_leaves_no_word_of_it_in_the_log(installation: Installation) -> None:
    job_id = installation.submit(b"DOE^JOHN 1931-07-05", MASK)

    installation.wait_for(job_id)

    assert slug(installation, job_id) == "unreadable-image"
    assert "DOE" not in installation.log("worker")


def test_a_model_that_has_changed_since_is_refused(installation: Installation) -> None:
    job_id = installation.submit(IMAGE, MASK, model="small-ct@0.9.0")

    installation.wait_for(job_id)

    assert slug(installation, job_id) == "unfit-case"


def test_a_picture_that_cannot_be_kept_costs_the_job_nothing(tmp_path: Path) -> None:
    with running(tmp_path / "home") as installation:
        engine = sa.create_engine(installation.settings.ledger_url)
        with engine.begin() as connection:
            connection.execute(
                sa.text("CREATE TRIGGER full BEFORE UPDATE ON results BEGIN SELECT RAISE(ABORT, 'disk full'); END")
            )
        engine.dispose()
        job_id = installation.submit(IMAGE, MASK)

        job = installation.wait_for(job_id)

        assert (job.state, job.attempt) == (JobState.SUCCEEDED, 1)
        wait_until(lambda: job_id not in installation.storage.list_jobs(), 5)
        assert installation.ledger.find_preview(job_id, "local") is None
        assert "no-picture" in installation.log("worker")
        assert installation.job(job_id).state is JobState.SUCCEEDED
        assert installation.wait_for(installation.submit(IMAGE, MASK)).state is JobState.SUCCEEDED


def test_a_broken_installation_is_tried_again_and_named(tmp_path: Path) -> None:
    with running(tmp_path / "home", RADFUSE_MAX_ATTEMPTS="1") as installation:
        (installation.models / "small-ct" / "encoder.onnx").write_bytes(b"not a model")
        job_id = installation.submit(IMAGE, MASK)

        job = installation.wait_for(job_id)

        assert (job.state, slug(installation, job_id)) == (JobState.FAILED, "bundle-damaged")


def test_a_job_whose_child_is_killed_succeeds_at_the_second_attempt(
    installation: Installation, undisturbed: list[dict[str, float]]
) -> None:
    job_id = submit_large(installation)
    installation.wait_for(job_id, JobState.RUNNING)
    time.sleep(0.3)

    (child,) = installation.children()
    child.kill()

    job = installation.wait_for(job_id)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)
    assert installation.features(job_id) == undisturbed


def test_a_job_whose_worker_is_killed_succeeds_at_the_second_attempt(
    installation: Installation, undisturbed: list[dict[str, float]]
) -> None:
    job_id = submit_large(installation)
    installation.wait_for(job_id, JobState.RUNNING)
    children = installation.children()

    installation.kill("worker")
    _, alive = psutil.wait_procs(children, 5)
    assert alive == []
    installation.start("worker")

    job = installation.wait_for(job_id)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)
    assert installation.features(job_id) == undisturbed


def test_a_cancelled_jobs_child_is_killed(installation: Installation) -> None:
    job_id = installation.submit(LARGE_IMAGE, LARGER_MASK, parameters=SLOW)
    installation.wait_for(job_id, JobState.RUNNING)
    (child,) = installation.children()

    installation.ledger.remove_job(job_id, "local")
    installation.storage.delete(job_id)

    _, alive = psutil.wait_procs([child], 5)
    assert alive == []
    follower = installation.submit(IMAGE, MASK)
    assert installation.wait_for(follower).state is JobState.SUCCEEDED
    assert installation.job(job_id).state is JobState.CANCELLED


def test_a_flushed_broker_loses_nothing(installation: Installation) -> None:
    jobs = [installation.submit(IMAGE, MASK) for _ in range(12)]
    wait_until(lambda: installation.job(jobs[-1]).state is not JobState.ACCEPTED, 10)

    installation.redis.flushall()

    assert {installation.wait_for(job_id).state for job_id in jobs} == {JobState.SUCCEEDED}


def test_jobs_accepted_while_the_broker_is_away_run_when_it_is_back(installation: Installation) -> None:
    installation.kill("redis")
    jobs = [installation.submit(IMAGE, MASK) for _ in range(3)]
    time.sleep(1)
    assert {installation.job(job_id).state for job_id in jobs} == {JobState.ACCEPTED}

    installation.start("redis")

    assert {installation.wait_for(job_id).state for job_id in jobs} == {JobState.SUCCEEDED}


def test_a_running_job_outlives_a_restart_of_the_broker(
    installation: Installation, undisturbed: list[dict[str, float]]
) -> None:
    job_id = submit_large(installation)
    installation.wait_for(job_id, JobState.RUNNING)

    installation.kill("redis")
    installation.start("redis")

    job = installation.wait_for(job_id)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 1)
    assert installation.features(job_id) == undisturbed


def test_a_worker_whose_job_ended_while_the_broker_was_away_goes_on(installation: Installation) -> None:
    job_id = submit_large(installation)
    installation.wait_for(job_id, JobState.RUNNING)
    installation.kill("redis")
    assert installation.wait_for(job_id).state is JobState.SUCCEEDED
    time.sleep(0.5)  # its acknowledgement fails meanwhile

    installation.start("redis")

    assert installation.wait_for(installation.submit(IMAGE, MASK)).state is JobState.SUCCEEDED


def test_a_stopped_worker_ends_its_job_first(installation: Installation) -> None:
    job_id = submit_large(installation)
    installation.wait_for(job_id, JobState.RUNNING)

    installation.kill("worker", signal.SIGTERM)

    job = installation.job(job_id)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 1)
    installation.start("worker")


def test_a_case_beyond_the_memory_limit_fails_typed_and_the_worker_lives(tmp_path: Path) -> None:
    with running(tmp_path / "home", RADFUSE_WORKER_MEMORY_BYTES=str(64 * 2**20)) as installation:
        geometry = build_geometry((256, 256, 600), (1.0, 1.0, 1.0))
        image = dataclasses.replace(build_image(), voxels=np.zeros(geometry.shape, np.int16), geometry=geometry)
        mask = build_mask(build_geometry((8, 8, 8)), radius_mm=3)
        job_id = installation.submit(
            to_bytes(lambda path: write_nifti(path, image, compressed=True)),
            to_bytes(lambda path: write_nifti(path, mask)),
            resample_mask=True,
        )

        job = installation.wait_for(job_id)

        assert (job.state, job.attempt, slug(installation, job_id)) == (JobState.FAILED, 1, "out-of-memory")
        assert installation.wait_for(installation.submit(IMAGE, MASK)).state is JobState.SUCCEEDED


def test_a_case_beyond_the_time_limit_fails_typed(tmp_path: Path) -> None:
    with running(tmp_path / "home", RADFUSE_JOB_SECONDS="1") as installation:
        job_id = installation.submit(LARGE_IMAGE, LARGER_MASK, parameters=SLOWEST)

        job = installation.wait_for(job_id)

        assert (job.state, job.attempt, slug(installation, job_id)) == (JobState.FAILED, 1, "out-of-time")
        assert installation.wait_for(installation.submit(IMAGE, MASK)).state is JobState.SUCCEEDED


def test_a_case_whose_child_does_not_stop_at_the_time_limit_fails_typed_at_once(tmp_path: Path) -> None:
    with running(tmp_path / "home", RADFUSE_JOB_SECONDS="1") as installation:
        job_id = installation.submit(LARGE_IMAGE, LARGER_MASK, parameters=SLOWEST)
        installation.wait_for(job_id, JobState.RUNNING)
        (child,) = installation.children()
        child.suspend()

        job = installation.wait_for(job_id)

        assert (job.state, job.attempt, slug(installation, job_id)) == (JobState.FAILED, 1, "out-of-time")
        assert installation.wait_for(installation.submit(IMAGE, MASK)).state is JobState.SUCCEEDED


def test_the_processors_are_shared_by_the_children() -> None:
    available = psutil.Process().cpu_affinity()

    assert threads_per_child(1) <= len(available)
    assert threads_per_child(10_000) == 1
