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
    │   ├── NotAcceptable        not-acceptable        406
    │   ├── IdempotencyConflict  idempotency-conflict  422
    │   ├── QueueFull            queue-full            429
    │   └── DiskFull             disk-full             507
    └── SystemBroken             the installation is at fault: retried where that can help, and an alarm
        ├── BundleDamaged        bundle-damaged      digest, schema or file of a bundle is wrong
        ├── DeviceUnavailable    device-unavailable  the configured device is not there
        ├── SettingsInvalid      settings-invalid    an environment variable is unknown or wrong
        └── InputsMissing        inputs-missing      the files of an accepted job are gone

A message names what was got and what was expected, with units. It never holds anything of an upload
beyond numbers and geometry: no file name, no tag value, no text of a parser.
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
    slug = "too-large"
    title = "The upload is larger than this service accepts"


class UnreadableImage(CaseError):
    slug = "unreadable-image"
    title = "The file cannot be read as an image"


class UnusableImage(CaseError):
    slug = "unusable-image"
    title = "The image was read but cannot be used"


class IrregularSeries(CaseError):
    slug = "irregular-series"
    title = "The DICOM series is not one regular volume"


class GeometryMismatch(CaseError):
    slug = "geometry-mismatch"
    title = "The grids differ"


class EmptyRoi(CaseError):
    slug = "empty-roi"
    title = "The region of interest is empty"


class RoiTooSmall(CaseError):
    slug = "roi-too-small"
    title = "The region of interest is too small"


class UnknownRoi(CaseError):
    slug = "unknown-roi"
    title = "The mask does not hold this region of interest"


class UnfitCase(CaseError):
    slug = "unfit-case"
    title = "The case does not fit the model"


class RadiomicsRefused(CaseError):
    slug = "radiomics-refused"
    title = "The radiomics settings cannot be computed on this case"


class OutOfTime(CaseError):
    slug = "out-of-time"
    title = "The case took longer than the time limit"


class OutOfMemory(CaseError):
    slug = "out-of-memory"
    title = "The case needs more memory than a worker has"


class WorkerLost(CaseError):
    slug = "worker-lost"
    title = "The worker died under this case at every attempt"


class RequestError(RadfuseError):
    """A request refused before a job exists."""

    slug = "bad-request"
    title = "The request cannot be understood"
    status: ClassVar[int] = 400


class InvalidField(RequestError):
    slug = "invalid-field"
    title = "A field of the request is wrong"
    status = 422


class BodyTooLarge(RequestError):
    slug = "too-large"
    title = "The upload is larger than this service accepts"
    status = 413


class Unauthenticated(RequestError):
    slug = "unauthenticated"
    title = "A valid API key is needed"
    status = 401


class Forbidden(RequestError):
    slug = "forbidden"
    title = "This API key may not do that"
    status = 403


class NotFound(RequestError):
    slug = "not-found"
    title = "There is nothing at this address"
    status = 404


class NotAcceptable(RequestError):
    slug = "not-acceptable"
    title = "None of the accepted media types can be produced"
    status = 406


class IdempotencyConflict(RequestError):
    slug = "idempotency-conflict"
    title = "This Idempotency-Key was used for another request"
    status = 422


class QueueFull(RequestError):
    slug = "queue-full"
    title = "The queue is full"
    status = 429


class DiskFull(RequestError):
    slug = "disk-full"
    title = "The service has no room for this upload"
    status = 507


class SystemBroken(RadfuseError):
    """The installation is at fault, not the caller."""

    slug = "internal-error"
    title = "The service is at fault"


class BundleDamaged(SystemBroken):
    slug = "bundle-damaged"
    title = "A model bundle is damaged"


class DeviceUnavailable(SystemBroken):
    slug = "device-unavailable"
    title = "The configured device is not available"


class SettingsInvalid(SystemBroken):
    slug = "settings-invalid"
    title = "A setting is wrong"


class InputsMissing(SystemBroken):
    slug = "inputs-missing"
    title = "The files of an accepted job are gone"
