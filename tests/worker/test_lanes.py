"""What was sent by itself overtakes the items of cohorts, through a real dispatcher, Redis and worker."""

import uuid
from pathlib import Path

from service.job import JobRequest, JobState
from tests.build import build_image, build_mask, to_bytes, write_nifti
from tests.running import OWNER, Installation, running, wait_until

ITEMS = 4


def send_cohort(installation: Installation, image: bytes, mask: bytes) -> list[str]:
    cohort, _ = installation.ledger.create_cohort(
        cohort_id=uuid.uuid4().hex,
        owner=OWNER,
        options={"texts": {"model": installation.model}, "rois": [], "parameters": None, "previews": False},
        columns=("Image", "Mask"),
        rows=[("a", "b")] * ITEMS,
        idempotency_key=None,
    )
    jobs = []
    for item in range(1, ITEMS + 1):
        job_id, uploads = installation.store(image, mask)
        request = JobRequest(model=installation.model, files=uploads)
        installation.ledger.create_item_job(cohort.id, item, job_id=job_id, owner=OWNER, request=request, case_id=None)
        jobs.append(job_id)
    return jobs


def test_a_single_case_overtakes_what_the_broker_holds_of_a_cohort(tmp_path: Path) -> None:
    image = to_bytes(lambda path: write_nifti(path, build_image()))
    mask = to_bytes(lambda path: write_nifti(path, build_mask()))
    with running(tmp_path / "home", "redis", "dispatcher") as installation:
        items = send_cohort(installation, image, mask)
        for job_id in items:
            installation.wait_for(job_id, JobState.QUEUED)
        alone = installation.submit(image, mask)
        installation.wait_for(alone, JobState.QUEUED)
        installation.start("worker")
        wait_until(lambda: all(installation.job(job_id).state.terminal for job_id in [alone, *items]), 60)
        ended = {job_id: installation.job(job_id) for job_id in [alone, *items]}
        assert {job.state for job in ended.values()} == {JobState.SUCCEEDED}
        assert sorted(ended, key=lambda job_id: ended[job_id].started_at) == [alone, *items]
        assert installation.features(alone) == installation.features(items[0])
