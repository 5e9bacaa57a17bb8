"""Deployment settings: the only module that reads the environment.

Every setting is an environment variable `RADFUSE_<NAME>`, or a file `radfuse_<name>` in the folder that
`RADFUSE_SECRETS_DIR` names (Docker secrets). `radfuse settings` lists them all. Scientific settings are
not here: they live in a bundle's manifest.
"""

import ipaddress
import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from service.dicomweb_server import DicomwebServer, parse_servers
from service.errors import SettingsInvalid
from service.webhook_target import WebhookTarget, parse_keys, parse_targets

PREFIX = "RADFUSE_"
MIB = 1024**2
GIB = 1024**3
MISSED_BEATS = 4
LEAST_ALIVE_SECONDS = 15.0
SECRETS_DIR = "RADFUSE_SECRETS_DIR"
# Read by the command line and the Python client, not by the service.
CLIENT_VARIABLES = {
    "RADFUSE_URL": "Address of the service that the command line uses; by default this machine's.",
    "RADFUSE_API_KEY": "API key that the command line sends.",
}
# Read by the compose file and by the tests; a shell may well export them.
ELSEWHERE = frozenset(
    {"RADFUSE_PUBLISH", "RADFUSE_WORKER_LIMIT", "RADFUSE_WORKER_CPUS", "RADFUSE_COMPOSE", "RADFUSE_TEST_DATA"}
)
BUILT_IN_MODELS = Path(__file__).resolve().parent.parent / "models"

AbsolutePath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]


def _parsed(parse: Callable[[str], object]) -> BeforeValidator:
    """Return the validator that parses text and takes the default as it is."""
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


Servers = Annotated[tuple[DicomwebServer, ...], NoDecode, _parsed(parse_servers)]
Targets = Annotated[tuple[WebhookTarget, ...], NoDecode, _parsed(parse_targets)]


class Settings(BaseSettings):
    """What an operator may set. Sizes are bytes, times are seconds."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(8080, ge=0, le=65535, description="Port the API listens on.")
    home: AbsolutePath = Field(
        Path(".radfuse"), validate_default=True, description="Where the ledger, uploads and embedded Redis live."
    )
    database_url: str | None = Field(
        None, description="SQLAlchemy URL of the ledger; by default an SQLite file under the home."
    )
    redis_url: str | None = Field(
        None, description="URL of the broker; by default `radfuse up` starts a Redis of its own."
    )
    models: AbsolutePath = Field(BUILT_IN_MODELS, description="Folder of the model bundles.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the encoder runs; `cuda` fails hard.")
    workers: int = Field(2, ge=1, le=256, description="Worker processes (one per GPU where there is one).")

    max_upload_bytes: int = Field(2 * GIB, gt=0, description="Largest request body.")
    max_files: int = Field(2000, gt=0, description="Most files in one upload, zip members included.")
    max_decoded_bytes: int = Field(4 * GIB, gt=0, description="Largest decoded image.")
    max_voxels: int = Field(512 * MIB, gt=0, description="Most voxels in one image.")
    upload_idle_seconds: float = Field(60, gt=0, description="Longest pause within an upload before it is dropped.")
    upload_bytes_per_second: int = Field(
        4096, gt=0, description="Slowest that an upload may be on average once RADFUSE_UPLOAD_IDLE_SECONDS have gone."
    )
    max_queued: int = Field(
        10_000, gt=0, description="Most unfinished jobs before new ones get 429; as many again of cohorts."
    )
    max_cohort_items: int = Field(10_000, gt=0, description="Most cases in one cohort.")
    max_manifest_bytes: int = Field(16 * MIB, gt=0, description="Largest manifest of a cohort.")
    min_free_bytes: int = Field(1 * GIB, ge=0, description="Free disk space below which uploads get 507.")
    job_seconds: int = Field(1800, ge=1, description="Longest run of one job.")
    worker_memory_bytes: int = Field(8 * GIB, gt=0, description="Memory one worker process may allocate for a case.")
    max_attempts: int = Field(3, ge=1, description="Attempts before a job fails as worker-lost.")
    lease_seconds: float = Field(60, ge=1, description="How long a claimed job may go without a heartbeat.")
    heartbeat_seconds: float = Field(5, gt=0, description="How often a worker renews the leases of its jobs.")
    reconcile_seconds: float = Field(2, gt=0, description="How often lost work is looked for.")
    requeue_seconds: float = Field(60, gt=0, description="When a published job that nobody claimed is sent again.")
    retention_seconds: int = Field(7 * 86400, ge=60, description="How long results are kept.")
    keep_inputs: bool = Field(False, description="Keep uploads after the job's end (by default they are deleted).")
    report_python: AbsolutePath | None = Field(
        None, description="Python with highdicom that builds DICOM reports; by default the API's own, where it has it."
    )
    max_streams: int = Field(200, gt=0, description="Most event streams open at once, per API process.")
    webhook_secret: SecretStr | None = Field(
        None, description="Key that signs webhooks, `whsec_` and base64; several, separated by spaces, all sign."
    )
    webhook_targets: Targets = Field(
        (), description="Addresses that webhooks may go to, with all below them, separated by spaces; by default none."
    )
    dicomweb_servers: Servers = Field(
        (),
        description="DICOMweb servers that cases may name, as name=url, separated by spaces; a URL may hold "
        "user:password@; by default none.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severe log line.")

    @field_validator("webhook_secret")
    @classmethod
    def _check_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse_keys(value.get_secret_value())
        return value

    @field_validator("webhook_targets")
    @classmethod
    def _need_keys(cls, value: tuple[WebhookTarget, ...], others: ValidationInfo) -> tuple[WebhookTarget, ...]:
        if value and others.data.get("webhook_secret") is None:
            raise ValueError("webhooks are signed: RADFUSE_WEBHOOK_SECRET is needed, too")
        return value

    @property
    def webhook_keys(self) -> tuple[str, ...]:
        """The keys that sign webhooks, newest first."""
        return () if self.webhook_secret is None else parse_keys(self.webhook_secret.get_secret_value())

    @property
    def alive_seconds(self) -> float:
        """How old a process's last heartbeat may be before it is thought gone."""
        return max(LEAST_ALIVE_SECONDS, MISSED_BEATS * self.heartbeat_seconds)

    @property
    def ledger_url(self) -> str:
        """The SQLAlchemy URL really used."""
        return self.database_url or f"sqlite:///{self.home / 'ledger.sqlite3'}"

    @property
    def broker_url(self) -> str:
        """The broker URL really used; the default is the Redis that `radfuse up` starts under the home."""
        return self.redis_url or f"redis+socket://{self.home / 'run' / 'redis.sock'}"

    @property
    def url(self) -> str:
        """The address of the API as seen from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def on_loopback(self) -> bool:
        """Whether the API can be reached from this machine only."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read and check the settings.

    Raises:
        SettingsInvalid: a `RADFUSE_` variable is unknown, or a value is wrong. Values are not repeated, for
            they may be secrets.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {SECRETS_DIR, *CLIENT_VARIABLES, *ELSEWHERE}
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsInvalid(f"unknown environment variables: {', '.join(unknown)}; see `radfuse settings`")
    values: dict[str, Any] = {
        name: environment[PREFIX + name.upper()]
        for name in Settings.model_fields
        if environment.get(PREFIX + name.upper())
    }
    try:
        return Settings(_secrets_dir=environment.get(SECRETS_DIR), **values)
    except ValidationError as error:
        reasons = "; ".join(f"{PREFIX}{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors())
        raise SettingsInvalid(reasons) from None


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return this process's settings, read once."""
    return read_settings()


def describe_settings(current: Settings) -> list[tuple[str, str, str, str]]:
    """Return variable, default, current value (passwords masked) and description of every setting."""
    return [
        (PREFIX + name.upper(), _show(field.default), _show(getattr(current, name)), field.description or "")
        for name, field in Settings.model_fields.items()
    ]


def _show(value: object) -> str:
    """Return a value as a person may see it: without the user and the password of a URL."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    scheme, separator, rest = str(value).partition("://")
    if not separator:
        return scheme
    user, at, place = rest.rpartition("@")
    return f"{scheme}://{'***@' if at and user else ''}{place}"
