"""Every exception that Radfuse raises on purpose.

    RadfuseError
    ├── CaseError                the caller's data cannot be used: terminal, never retried
    │   ├── TooLarge             too-large           bytes, voxels, files or ratio over a limit
    │   ├── UnreadableImage      unreadable-image    not an image, truncated, unsupported encoding
    │   ├── UnusableImage        unusable-image      NaN or infinite voxels, singular affine, RGB, 4D
    │   ├── IrregularSeries      irregular-series    tilt, gaps, duplicates, mixed orientations
    │   ├── GeometryMismatch     geometry-mismatch   the mask, or a channel, lies on another grid
    │   ├── EmptyRoi             empty-roi           the region holds no voxel
    │   ├── RoiTooSmall          roi-too-small       one voxel, or too few for what was asked
    │   ├── UnknownRoi           unknown-roi         the label, segment or name is not in the mask
    │   ├── NotInArchive         not-in-archive      the DICOMweb server has no such series or instance
    │   ├── SuvUnknown           suv-unknown         the PET image lacks what its SUV needs
    │   ├── UnfitCase            unfit-case          the case lacks, or exceeds, the bundle's channels
    │   ├── RadiomicsRefused     radiomics-refused   PyRadiomics cannot compute the settings on this case
    │   ├── OutOfTime            out-of-time         the case exceeded the time limit
    │   ├── OutOfMemory          out-of-memory       the case exceeded the worker's memory
    │   └── WorkerLost           worker-lost         the worker died under this case at every attempt
    ├── RequestError             refused at the door, before a job exists; carries its HTTP status
    │   ├── InvalidField         invalid-field         422
    │   ├── BodyTooLarge         too-large             413
    │   ├── Unauthenticated      unauthenticated       401
    │   ├── Forbidden            forbidden             403
    │   ├── NotFound             not-found             404
    │   ├── MethodNotAllowed     method-not-allowed    405
    │   ├── NotAcceptable        not-acceptable        406
    │   ├── NotRepresentable     not-representable     406
    │   ├── UploadStalled        upload-stalled        408
    │   ├── NoResult             no-result             409
    │   ├── UnsupportedMedia     unsupported-media     415
    │   ├── IdempotencyConflict  idempotency-conflict  422
    │   ├── QueueFull            queue-full            429
    │   ├── StreamsFull          streams-full          429
    │   ├── Unavailable          unavailable           503
    │   └── DiskFull             disk-full             507
    ├── ClientError              what the Python client and the command line meet; never sent by the service
    │   ├── ServiceUnreachable   service-unreachable nothing answers at the service's address
    │   ├── ManifestInvalid      manifest-invalid    a cohort's table cannot be read as one
    │   ├── FileMissing          file-missing        a file that a cohort's table names is not there
    │   ├── JournalUnusable      journal-unusable    a cohort's journal is in use, or is something else
    │   ├── PackageMissing       package-missing     an optional package is not installed
    │   └── Refused              (the problem's own) the service answered with a problem document
    └── SystemBroken             the installation is at fault: retried where that can help, and an alarm
        ├── BundleDamaged        bundle-damaged      digest, schema or file of a bundle is wrong
        ├── DeviceUnavailable    device-unavailable  the configured device is not there
        ├── SettingsInvalid      settings-invalid    an environment variable is unknown or wrong
        ├── StartFailed          start-failed        the service could not be started on this machine
        ├── InputsMissing        inputs-missing      the files of an accepted job are gone
        └── ArchiveUnreachable   archive-unreachable a DICOMweb server of the operator's does not answer as it should

A message names what was got and what was expected, with units. It never holds anything of an upload
beyond numbers and geometry: no file name, no tag value, no text of a parser. One does, for the caller could not
go on without: `UnknownRoi` lists the names of the regions that a DICOM mask holds; details are not logged.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeAlias

Facts: TypeAlias = Mapping[str, Any]


class RadfuseError(Exception):
    """The root: a stable `slug`, a `title`, a `detail` for people and `facts` for programs."""

    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Something broke"

    def __init__(self, detail: str, **facts: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.facts: Facts = facts

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.detail, dict(self.facts))

    def problem(self, status: int) -> dict[str, Any]:
        """Return the RFC 9457 problem document (`type`, `title`, `status`, `detail`, and the facts)."""
        return {
            "type": problem_type(self.slug),
            "title": self.title,
            "status": status,
            "detail": self.detail,
            **self.facts,
        }


def _rebuild(kind: type[RadfuseError], detail: str, facts: dict[str, Any]) -> RadfuseError:
    return kind(detail, **facts)


def problem_type(slug: str) -> str:
    """Return the stable problem `type` of a slug: a reference into the service's own documentation."""
    return f"/problems/{slug}"


class CaseError(RadfuseError):
    """The caller's data cannot be used. A job that meets one fails for good."""

    slug = "unusable-case"
    title = "The case cannot be used"


class TooLarge(CaseError):
    """A file, its decoded size, its voxels or the number of files exceeds the service's limits; crop the image."""

    slug = "too-large"
    title = "The upload is larger than this service accepts"


class UnreadableImage(CaseError):
    """Neither NIfTI, NRRD, MetaImage nor DICOM, cut short, or in an encoding this version does not read."""

    slug = "unreadable-image"
    title = "The file cannot be read as an image"


class UnusableImage(CaseError):
    """Read, but unfit to measure: NaN or infinite voxels, a singular or non-finite affine, colour, or 4D."""

    slug = "unusable-image"
    title = "The image was read but cannot be used"


class IrregularSeries(CaseError):
    """Slices are missing, doubled, unevenly spaced, tilted, or of several series; the facts give positions in mm."""

    slug = "irregular-series"
    title = "The DICOM series is not one regular volume"


class GeometryMismatch(CaseError):
    """The mask, or a further channel, lies on another grid than the image; `resample_mask=true` resamples a mask."""

    slug = "geometry-mismatch"
    title = "The grids differ"


class EmptyRoi(CaseError):
    """The mask, or the label that was asked for, holds no voxel."""

    slug = "empty-roi"
    title = "The region of interest is empty"


class RoiTooSmall(CaseError):
    """The region holds too few voxels for what was asked of it."""

    slug = "roi-too-small"
    title = "The region of interest is too small"


class UnknownRoi(CaseError):
    """The mask holds no such label, segment or name, or several regions of which none was chosen; set `roi`."""

    slug = "unknown-roi"
    title = "The mask does not hold this region of interest"


class NotInArchive(CaseError):
    """The DICOMweb server that the request names has no such study, series or instance, or nothing in it."""

    slug = "not-in-archive"
    title = "The DICOMweb server does not hold what was named"


class SuvUnknown(CaseError):
    """`suv=bw` was asked for, and no channel is a DICOM PET image, or one does not say what its SUV would need."""

    slug = "suv-unknown"
    title = "The standardised uptake value cannot be computed"


class UnfitCase(CaseError):
    """The case's channels or modality are not those the model was made for."""

    slug = "unfit-case"
    title = "The case does not fit the model"


class RadiomicsRefused(CaseError):
    """PyRadiomics cannot compute these settings on this region; a smaller kernel or another bin width may do."""

    slug = "radiomics-refused"
    title = "The radiomics settings cannot be computed on this case"


class OutOfTime(CaseError):
    """The job ran longer than the operator's limit for one job."""

    slug = "out-of-time"
    title = "The case took longer than the time limit"


class OutOfMemory(CaseError):
    """The job needed more memory than a worker may use; a cropped image needs less."""

    slug = "out-of-memory"
    title = "The case needs more memory than a worker has"


class WorkerLost(CaseError):
    """The worker process died under this job at every attempt; the operator's log says how."""

    slug = "worker-lost"
    title = "The worker died under this case at every attempt"


class RequestError(RadfuseError):
    """The request, or its multipart body, does not follow the protocol."""

    slug = "bad-request"
    title = "The request cannot be understood"
    status: ClassVar[int] = 400


class InvalidField(RequestError):
    """A form field, query parameter or header is unknown, missing, doubled or out of range; `field` names it."""

    slug = "invalid-field"
    title = "A field of the request is wrong"
    status = 422


class BodyTooLarge(RequestError):
    """The body, one of its fields or its number of files exceeds the service's limits; the facts give the limit."""

    slug = "too-large"
    title = "The upload is larger than this service accepts"
    status = 413


class Unauthenticated(RequestError):
    """Send `Authorization: Bearer <API key>`; the operator makes keys with `radfuse keys create`."""

    slug = "unauthenticated"
    title = "A valid API key is needed"
    status = 401


class Forbidden(RequestError):
    """The key is valid but lacks the scope (submit, read or admin) that this route needs."""

    slug = "forbidden"
    title = "This API key may not do that"
    status = 403


class NotFound(RequestError):
    """No such job, model or page; jobs of other keys' owners are never shown."""

    slug = "not-found"
    title = "There is nothing at this address"
    status = 404


class MethodNotAllowed(RequestError):
    """The address exists but not for this method; `Allow` lists those it has."""

    slug = "method-not-allowed"
    title = "This address does not offer the method"
    status = 405


class NotAcceptable(RequestError):
    """The `Accept` header allows none of the media types that this address offers; the facts list them."""

    slug = "not-acceptable"
    title = "None of the accepted media types can be produced"
    status = 406


class NotRepresentable(RequestError):
    """This result cannot be written in the form asked for: a DICOM report needs DICOM images and a SEG or RTSTRUCT."""

    slug = "not-representable"
    title = "This result has no such form"
    status = 406


class UploadStalled(RequestError):
    """No byte of the upload arrived for longer than the operator allows; nothing of it was kept."""

    slug = "upload-stalled"
    title = "The upload stalled"
    status = 408


class NoResult(RequestError):
    """The job has not succeeded, so there is no table or picture of it (yet); `job_status` says where it is."""

    slug = "no-result"
    title = "The job has no result"
    status = 409


class UnsupportedMedia(RequestError):
    """Files are sent as `multipart/form-data` with a boundary, manifests as CSV or JSON; without content coding."""

    slug = "unsupported-media"
    title = "The body is not of a media type this address takes"
    status = 415


class IdempotencyConflict(RequestError):
    """The same `Idempotency-Key` came with other content; use a new key for a new case."""

    slug = "idempotency-conflict"
    title = "This Idempotency-Key was used for another request"
    status = 422


class QueueFull(RequestError):
    """As many jobs are unfinished as the operator allows; send the request again after `Retry-After` seconds."""

    slug = "queue-full"
    title = "The queue is full"
    status = 429


class StreamsFull(RequestError):
    """As many event streams are open as the operator allows; ask for the job itself, or wait `Retry-After` seconds."""

    slug = "streams-full"
    title = "Too many event streams are open"
    status = 429


class Unavailable(RequestError):
    """The ledger cannot be reached; nothing was accepted. Send the request again after `Retry-After` seconds."""

    slug = "unavailable"
    title = "The service cannot work at the moment"
    status = 503


class DiskFull(RequestError):
    """Too little disk is free to take the upload safely; send it again after `Retry-After` seconds."""

    slug = "disk-full"
    title = "The service has no room for this upload"
    status = 507


class ClientError(RadfuseError):
    """What a caller of a service meets; the service itself never sends one."""

    slug = "client-error"
    title = "The service cannot be used"


class ServiceUnreachable(ClientError):
    slug = "service-unreachable"
    title = "The service cannot be reached"


class PackageMissing(ClientError):
    slug = "package-missing"
    title = "An optional package is not installed"


class ManifestInvalid(ClientError):
    slug = "manifest-invalid"
    title = "The table of cases cannot be used"


class FileMissing(ClientError):
    slug = "file-missing"
    title = "A file of the case is missing"


class JournalUnusable(ClientError):
    slug = "journal-unusable"
    title = "The journal of the cohort cannot be used"


class Refused(ClientError):
    """The service refused the request or the case; `facts` holds the whole problem document."""

    slug = "refused"
    title = "The service refused"

    @property
    def kind(self) -> str:
        """The slug of the problem, such as `empty-roi`."""
        return str(self.facts.get("type", "")).rpartition("/")[2]

    @property
    def status(self) -> int:
        """The HTTP status of the problem (0 where it has none)."""
        return int(self.facts.get("status") or 0)


class SystemBroken(RadfuseError):
    """The installation is at fault, not the caller."""

    slug = "internal-error"
    title = "The service is at fault"


class BundleDamaged(SystemBroken):
    """A file of a model bundle is missing or is not what its manifest says; the operator must restore it."""

    slug = "bundle-damaged"
    title = "A model bundle is damaged"


class DeviceUnavailable(SystemBroken):
    """The operator demands a device, such as `cuda`, that the worker cannot use."""

    slug = "device-unavailable"
    title = "The configured device is not available"


class SettingsInvalid(SystemBroken):
    """The operator set an unknown `RADFUSE_` variable, or one out of range."""

    slug = "settings-invalid"
    title = "A setting is wrong"


class StartFailed(SystemBroken):
    slug = "start-failed"
    title = "The service could not be started"


class InputsMissing(SystemBroken):
    """The uploaded files of an accepted job have gone from the disk."""

    slug = "inputs-missing"
    title = "The files of an accepted job are gone"


class ArchiveUnreachable(SystemBroken):
    """A DICOMweb server of the operator's list did not answer, or refused this service; it is tried again later."""

    slug = "archive-unreachable"
    title = "A DICOMweb server cannot be used at the moment"
