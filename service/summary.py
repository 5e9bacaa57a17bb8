"""What the command line shows of a result or a problem: a readable excerpt, never the whole vector."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from service.errors import Refused

DEEP: Final = "deep"
FIRST_DEEP: Final = 4
BAR_WIDTH: Final = 24
PROBLEM_FIELDS: Final = frozenset({"type", "title", "status", "detail", "instance"})


def print_result(console: Console, document: Mapping[str, Any]) -> None:
    """Print model, regions, some features of each class, predictions and notes of a result."""
    model = document["model"]
    console.print(f"[bold]{escape(model['name'])} {escape(model['version'])}[/bold]", highlight=False)
    for result in document["rois"]:
        console.print(_describe_region(result["roi"]), highlight=False)
        console.print(_feature_table(result["features"]))
        for prediction in result["predictions"]:
            console.print(_describe_prediction(prediction))
    provenance = document["provenance"]
    seconds = ", ".join(f"{name} {value:.2f} s" for name, value in provenance["seconds"].items())
    console.print(f"device {provenance['device']}; {seconds}", highlight=False)
    for note in provenance["notes"]:
        console.print(Text(f"note: {note}", style="yellow"))


def print_problem(console: Console, error: Refused) -> None:
    """Print a refusal: its title, the reason, and the figures that come with it."""
    console.print(Text(f"{error.facts.get('title', 'Refused')} ({error.kind or 'refused'})", style="bold red"))
    console.print(Text(error.detail))
    for name, value in error.facts.items():
        if name not in PROBLEM_FIELDS:
            console.print(Text(f"  {name}: {value}"))


def _describe_region(roi: Mapping[str, Any]) -> str:
    centre = ", ".join(f"{value:.1f}" for value in roi["centroid_mm"])
    return f"ROI {escape(str(roi['name']))}: {roi['voxels']} voxels, {roi['volume_mm3']:.1f} mm³, centre ({centre}) mm"


def _feature_table(features: Mapping[str, float | None]) -> Table:
    shown = list(choose_features(features))
    table = Table("feature", box=None, caption=f"{len(shown)} of {len(features)} features", caption_justify="left")
    table.add_column("value", justify="right")
    for name in shown:
        value = features[name]
        table.add_row(escape(name), "-" if value is None else f"{value:.6g}")
    return table


def choose_features(features: Iterable[str]) -> Iterable[str]:
    """Yield the first feature of each class of the first image type, and the first deep ones."""
    seen: set[str] = set()
    image_type: str | None = None
    deep = 0
    for name in features:
        group = name.rpartition("_")[0]
        if group == DEEP or group.endswith(f"_{DEEP}"):
            deep += 1
            if deep <= FIRST_DEEP:
                yield name
            continue
        image_type = image_type or group.rpartition("_")[0]
        if group.rpartition("_")[0] == image_type and group not in seen:
            seen.add(group)
            yield name


def _describe_prediction(prediction: Mapping[str, Any]) -> RenderableType:
    heading = Text(f"{prediction['target']}: {prediction['class']}", style="bold")
    if prediction.get("demonstration"):
        heading.append("  DEMONSTRATION, not for patients", style="bold red")
    if not prediction["in_distribution"]:
        heading.append("  unlike the cases the model was trained on", style="yellow")
    if not prediction["calibrated"]:
        heading.append("  probabilities not calibrated", style="yellow")
    table = Table(box=None, show_header=False)
    for label, probability in prediction["probabilities"].items():
        table.add_row(Text(label), f"{probability:6.1%}", "█" * round(probability * BAR_WIDTH))
    return Group(heading, table)
