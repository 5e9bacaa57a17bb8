"""What `radfuse extract` and `extract-cohort` ask for alike: the options of a case on the command line."""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

Model: TypeAlias = Annotated[str | None, typer.Option(help="Model, as NAME or NAME@VERSION.")]
Radiomics: TypeAlias = Annotated[
    str | None, typer.Option(help="Preset (original, full, ibsi) or PyRadiomics parameter file.")
]
ResampleMask: TypeAlias = Annotated[bool, typer.Option("--resample-mask", help="Take a mask on another grid.")]
ResampleImages: TypeAlias = Annotated[
    bool, typer.Option("--resample-images", help="Resample channels on other grids onto the reference's.")
]
Reference: TypeAlias = Annotated[
    str | None, typer.Option(help="Channel that gives this grid; by default the model's first.")
]
Suv: TypeAlias = Annotated[
    Literal["bw"] | None, typer.Option(help="`bw`: make SUV by body weight of DICOM PET series.")
]
StoredAxes: TypeAlias = Annotated[
    bool, typer.Option("--stored-axes", help="Radiomics along the file's own axes, as PyRadiomics on the file gives.")
]
Url: TypeAlias = Annotated[str | None, typer.Option(envvar="RADFUSE_URL", help="Address of the service.")]
Key: TypeAlias = Annotated[str | None, typer.Option(envvar="RADFUSE_API_KEY", help="API key.", show_envvar=True)]


def read_radiomics(text: str | None) -> Path | str | None:
    """Return a parameter file where there is one of this name, else the text, which then names a preset."""
    return Path(text) if text and Path(text).is_file() else text


def check_reference(reference: str | None, resample_images: bool) -> None:
    """Refuse a reference where nothing is resampled.

    Raises:
        typer.BadParameter: says so.
    """
    if reference and not resample_images:
        raise typer.BadParameter("it needs --resample-images", param_hint="--reference")
