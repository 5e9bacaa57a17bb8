"""The command line: `radfuse up`, `extract`, `extract-cohort`, `keys`, `models`, `settings`."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from service.case_options import (
    Key,
    Model,
    Radiomics,
    Reference,
    ResampleImages,
    ResampleMask,
    StoredAxes,
    Suv,
    Url,
    check_reference,
    read_radiomics,
)
from service.client import Client, Submission, collect_files, collect_images, refusal
from service.cohort.command import extract_cohort
from service.config import CLIENT_VARIABLES, PREFIX, SECRETS_DIR, describe_settings, read_settings
from service.errors import CaseError, RadfuseError, Refused, RequestError, ServiceUnreachable
from service.exit_status import Exit
from service.manifest import read_manifests
from service.report.parquet import to_parquet
from service.report.reportable import check_reportable, without_references
from service.report.table import to_csv
from service.summary import print_problem, print_result

if TYPE_CHECKING:
    from service.ledger import Ledger

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
keys = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")
app.add_typer(keys, name="keys")
app.command(name="extract-cohort")(extract_cohort)
console = Console()
complaints = Console(stderr=True)


OUTPUTS = (".csv", ".parquet", ".json", ".dcm")


def main() -> None:
    """Run the command line; say what is wrong in one line instead of a traceback."""
    try:
        app()
    except ServiceUnreachable as error:
        complaints.print(
            Text(f"{error.detail}. Start one with `radfuse up`, or use `radfuse extract --local`."), soft_wrap=True
        )
        sys.exit(Exit.UNREACHABLE)
    except Refused as error:
        print_problem(complaints, error)
        sys.exit(Exit.REFUSED)
    except (CaseError, RequestError) as error:
        print_problem(complaints, refusal(error.problem(0)))
        sys.exit(Exit.REFUSED)
    except RadfuseError as error:
        complaints.print(Text(f"{error.title}: {error.detail}"), soft_wrap=True)
        sys.exit(Exit.FAILED)


def _print_version(wanted: bool) -> None:
    if wanted:
        console.print(f"radfuse {version('radfuse')}", highlight=False)
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Fused radiomic and deep features of a tumour, with calibrated predictions."""


@app.command()
def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on (RADFUSE_HOST).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 0 for a free one (RADFUSE_PORT).")] = None,
    home: Annotated[Path | None, typer.Option(help="Folder of the service's state (RADFUSE_HOME).")] = None,
    log: Annotated[bool, typer.Option("--log", "-v", help="Show the logs of all processes here.")] = False,
) -> None:
    """Start Redis, API, dispatcher and worker on this machine; Ctrl-C stops them all."""
    from service.up.run import run  # noqa: PLC0415  # the ledger and supervisord: only where they are needed

    given = {"host": host, "port": port, "home": home and home.absolute()}
    decided = {PREFIX + name.upper(): str(value) for name, value in given.items() if value is not None}
    raise typer.Exit(run({**os.environ, **decided}, console, show_logs=log))


@app.command()
def extract(  # noqa: PLR0917  # one parameter per option
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE",
            help="A file, a folder of DICOM files or a zip; CHANNEL=FILE where there are several.",
            show_default=False,
        ),
    ],
    mask: Annotated[
        Path,
        typer.Argument(metavar="MASK", help="The region: a label image, DICOM SEG or RTSTRUCT.", show_default=False),
    ],
    model: Model = None,
    radiomics: Radiomics = None,
    roi: Annotated[
        list[str] | None,
        typer.Option(help="Which labels, segments or ROIs of several; repeatable; `all`: each, `whole`: their union."),
    ] = None,
    case_id: Annotated[str | None, typer.Option(help="Your pseudonym for the case.")] = None,
    resample_mask: ResampleMask = False,
    resample_images: ResampleImages = False,
    reference: Reference = None,
    suv: Suv = None,
    stored_axes: StoredAxes = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write everything to a .csv, .parquet or .json file, or a DICOM report (.dcm)."
        ),
    ] = None,
    url: Url = None,
    key: Key = None,
    local: Annotated[bool, typer.Option("--local", help="Compute in this process, without a service.")] = False,
) -> None:
    """Compute the features and predictions of one case.

    Exit status: 0 done, 2 wrong usage, 3 the case was refused, 4 no service answers.
    """
    if output and output.suffix not in OUTPUTS:
        raise typer.BadParameter("the output must end in .csv, .parquet, .json or .dcm", param_hint="--output")
    check_reference(reference, resample_images)
    submission = Submission(
        images=_find_images(images),
        mask=collect_files(_existing(mask)),
        model=model,
        roi=roi,
        radiomics=read_radiomics(radiomics),
        case_id=case_id,
        resample_mask=resample_mask,
        resample_images=resample_images,
        reference=reference,
        suv=suv,
        radiomics_axes="stored" if stored_axes else "canonical",
    )
    address = url or read_settings().url
    document = _extract_here(submission) if local else _extract_there(submission, address, key)
    print_result(console, document)
    if output:
        _write_output(output, document, None if local else (address, key))
        console.print(Text(f"written: {output}"))


@app.command()
def models(
    url: Annotated[str | None, typer.Option(envvar="RADFUSE_URL", help="Ask this service, not RADFUSE_MODELS.")] = None,
    key: Annotated[str | None, typer.Option(envvar="RADFUSE_API_KEY", help="API key.")] = None,
) -> None:
    """List the models of a service, or of this machine."""
    table = Table("model", "channels", "targets", "features", "", box=None)
    for each in _models_there(url, key) if url else _models_here():
        table.add_row(*map(escape, each))
    console.print(table)


@app.command()
def settings() -> None:
    """List every setting: variable, value, default and meaning."""
    for variable, default, value, meaning in describe_settings(read_settings()):
        changed = "" if value == default else f"   (default: {default or 'none'})"
        _print_setting(f"{variable} = {value}{changed}" if value else variable, meaning)
    for variable, meaning in CLIENT_VARIABLES.items():
        _print_setting(variable, meaning)
    _print_setting(SECRETS_DIR, "Folder with one file per secret setting, such as radfuse_database_url.")


def _print_setting(heading: str, meaning: str) -> None:
    console.print(Text(heading, style="bold"), soft_wrap=True)
    console.print(Text(f"    {meaning}"), soft_wrap=True)


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    scope: Annotated[list[str] | None, typer.Option(help="submit, read or admin; may be repeated.")] = None,
    expires_days: Annotated[int | None, typer.Option(min=1, help="Days until it expires; by default never.")] = None,
) -> None:
    """Make a key and show it, once."""
    expires = datetime.now(UTC) + timedelta(days=expires_days) if expires_days else None
    with _open_ledger() as ledger:
        key, secret = ledger.create_key(name, scope or ["submit", "read"], expires)
    complaints.print(Text(f"key {key.id} for {name}; it cannot be shown again:"))
    console.print(Text(secret), soft_wrap=True)


@keys.command(name="list")
def list_keys() -> None:
    """List all keys; the keys themselves cannot be shown."""
    table = Table("id", "name", "scopes", "created", "expires", "revoked", box=None)
    with _open_ledger() as ledger:
        for key in ledger.list_keys():
            times = (_date(key.created_at), _date(key.expires_at), _date(key.revoked_at))
            table.add_row(key.id, escape(key.name), " ".join(key.scopes), *times)
    console.print(table)


@keys.command()
def revoke(key_id: Annotated[str, typer.Argument(metavar="ID", help="As `radfuse keys list` shows it.")]) -> None:
    """Revoke a key for good."""
    with _open_ledger() as ledger:
        key = ledger.revoke_key(key_id)
    console.print(Text(f"key {key.id} of {key.name} is revoked"))


def _date(time: datetime | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M") if time else ""


@contextmanager
def _open_ledger() -> "Iterator[Ledger]":
    from service.ledger import Ledger  # noqa: PLC0415  # SQLAlchemy: only where it is needed

    current = read_settings()
    current.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    ledger = Ledger(current.ledger_url)
    try:
        ledger.upgrade()
        yield ledger
    finally:
        ledger.dispose()


def _models_here() -> Iterator[tuple[str, str, str, str, str]]:
    for manifest in read_manifests(read_settings().models).values():
        targets = "; ".join(f"{head.target}: {', '.join(head.classes)}" for head in manifest.heads)
        count = str(len(manifest.feature_names))
        remark = "demonstration" if manifest.demonstration else ""
        yield manifest.reference, ", ".join(manifest.channels), targets, count, remark


def _models_there(url: str, key: str | None) -> Iterator[tuple[str, str, str, str, str]]:
    with Client(url, key) as client:
        client.check()
        for model in client.models():
            targets = "; ".join(f"{head['target']}: {', '.join(head['classes'])}" for head in model["targets"])
            remark = "demonstration" if model["demonstration"] else ""
            yield (
                f"{model['name']}@{model['version']}",
                ", ".join(model["channels"]),
                targets,
                str(model["features"]),
                remark,
            )


def _existing(path: Path) -> Path:
    if not path.exists():
        raise typer.BadParameter(f"there is no file or folder {path}")
    return path


def _find_images(arguments: list[Path]) -> Mapping[str, Sequence[Path]]:
    """Return the files of each channel; `CHANNEL=FILE` names one, anything else belongs to the only one."""
    named = (
        {} if any(path.exists() for path in arguments) else dict(str(path).partition("=")[::2] for path in arguments)
    )
    if named and all(named.values()):
        return collect_images({channel: _existing(Path(path)) for channel, path in named.items()})
    return collect_images([_existing(path) for path in arguments])


def _extract_here(submission: Submission) -> dict[str, Any]:
    from service.local import LocalPipeline  # noqa: PLC0415  # imaging libraries: only where they are needed

    with complaints.status("reading") as status:
        return LocalPipeline(read_settings()).extract(submission, on_stage=status.update)


def _write_output(output: Path, document: dict[str, Any], service: tuple[str, str | None] | None) -> None:
    """Write a result in the form that the file's suffix names; a `service` that made it builds the report, too."""
    if output.suffix == ".dcm" and service is not None:
        with Client(*service) as client:
            output.write_bytes(client.fetch(f"/features/{document['id']}", "application/dicom"))
    elif output.suffix == ".dcm":
        check_reportable(document)
        from service.report.structured_report import write_report  # noqa: PLC0415  # imaging libraries

        output.write_bytes(write_report(document))
    elif output.suffix == ".parquet":
        output.write_bytes(to_parquet([document]))
    elif output.suffix == ".csv":
        output.write_text(to_csv([document]))
    else:
        output.write_text(json.dumps(without_references(document), indent=2))


def _extract_there(submission: Submission, url: str, key: str | None) -> dict[str, Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[detail]}"), TimeElapsedColumn())
    with Progress(*columns, console=complaints, transient=True) as progress:
        task = progress.add_task("upload", total=None, detail="")

        def show_upload(sent: int, total: int) -> None:
            progress.update(task, completed=sent, total=total, detail=f"{sent / 1e6:.1f} of {total / 1e6:.1f} MB")

        def show_status(document: dict[str, Any]) -> None:
            position, seconds = document.get("queue_position"), document.get("estimated_seconds")
            parts = [f"position {position}" if position else "", f"about {seconds:.0f} s" if seconds else ""]
            detail = ", ".join(filter(None, parts))
            stage = document.get("stage") or document["status"]
            progress.update(task, description=stage, total=1, completed=document["progress"], detail=detail)

        with Client(url, key, on_upload=show_upload, on_status=show_status) as client:
            client.check()
            return client.run(submission)


if __name__ == "__main__":
    main()
