"""The files of a job, as the reader takes them: uploaded, sorted where nobody said what is what, or fetched."""

from pathlib import Path

from service.config import Settings
from service.errors import InputsMissing
from service.imaging.guard import Limits
from service.imaging.reader import CaseFiles
from service.imaging.sorting import sort_objects
from service.job import JobRequest
from service.storage import Storage


def gather_files(storage: Storage, settings: Settings, job_id: str, request: JobRequest, limits: Limits) -> CaseFiles:
    """Return where every file of a case lies, after fetching those on DICOMweb servers.

    Raises:
        InputsMissing: uploaded files are gone.
        UnreadableImage, TooLarge: see `sort_objects`.
        NotInArchive, ArchiveUnreachable, TooLarge: see `fetch_series`.
    """
    paths = storage.paths(job_id, request)
    missing = sum(not path.is_file() for path in paths.values())
    if missing:
        raise InputsMissing(f"{missing} of the job's {len(paths)} files are not there", missing=missing)
    images: dict[str, list[Path]] = {}
    masks: list[Path] = []
    unsorted: list[Path] = []
    for upload in request.files:
        if upload.role == "image":
            images.setdefault(upload.channel or "", []).append(paths[upload.file])
        else:
            (masks if upload.role == "mask" else unsorted).append(paths[upload.file])
    if unsorted:
        images[request.files[0].channel or ""], masks = sort_objects(unsorted, limits)
    if request.remote:
        from service.worker.archive import fetch_series  # noqa: PLC0415 - an HTTP library: only where it is needed

        folder = storage.open_fetched(job_id)
        for series in request.remote:
            fetched = fetch_series(series, folder, settings)
            if series.role == "image":
                images[series.channel or ""] = fetched
            else:
                masks = fetched
    return CaseFiles(images=images, mask=masks)
