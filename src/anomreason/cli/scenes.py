"""`anomreason scenes`: images in which every anomaly is known, because the program planted it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anomreason.cli.group import Command
from anomreason.cli.output import say

COMMANDS = {
    "make": Command("scenes:make", "Make a dataset of scenes."),
    "kinds": Command(
        "scenes:kinds",
        "List the kinds of anomaly with meaning and severity (0 = completely implausible, 100 = fully realistic).",
    ),
}


def make(
    out: Annotated[Path, typer.Option(help="Folder of the dataset: images, twins, ground truth, contact sheet, card.")],
    world: Annotated[str, typer.Option(help="sprites (2D, milliseconds) or rooms (path-traced, seconds).")] = "sprites",
    n: Annotated[int, typer.Option("--n", help="Number of scenes, not counting the twins.")] = 100,
    seed: Annotated[int, typer.Option(help="The same seed gives the same images.")] = 0,
    size: Annotated[int, typer.Option(help="Edge of an image in pixels.")] = 512,
    violation_rate: Annotated[float, typer.Option(help="Share of scenes with anomalies, 0 to 1.")] = 2 / 3,
    max_violations: Annotated[int, typer.Option(help="At most this many anomalies in a scene, 1 to 3.")] = 3,
    kind: Annotated[
        list[str] | None, typer.Option(help="Only this kind of anomaly (see scenes kinds); repeatable.")
    ] = None,
    twins: Annotated[bool, typer.Option(help="Also write the mended twins.")] = True,
    jobs: Annotated[int | None, typer.Option(help="Processes. [default: one per core; 1 for rooms]")] = None,
) -> None:
    """Make a dataset of scenes. The same command continues an interrupted one; a larger --n adds scenes.

    Severity: 0 = completely implausible, 100 = fully realistic. World rooms needs the extra scenes: pip install
    '.[scenes]' in the clone.
    """
    from anomreason.cli.progress import progress
    from anomreason.scenes.make import SceneSettings, make_scenes

    settings = SceneSettings(world, n, seed, size, violation_rate, max_violations, tuple(kind or ()), twins)  # type: ignore[arg-type]
    with progress("scenes") as step:
        made = make_scenes(out, settings, jobs, step)
    kinds = ", ".join(f"{count} {name}" for name, count in made.planted.items()) or "nothing"
    say(f"{made.scenes} scenes ({made.clean} clean) and {made.images - made.scenes} twins in {out}")
    say(f"Planted: {kinds}")
    say(f"Overview: {out / 'contact-sheet.png'}")
    say(f"Next: anomreason detect {out} --model ... --run RUN; anomreason eval RUN {out} --exact --out SCORES")


def kinds() -> None:
    """List the kinds of anomaly with meaning and severity (0 = completely implausible, 100 = fully realistic)."""
    from rich.console import Console
    from rich.table import Table

    from anomreason.anomaly import KINDS
    from anomreason.scenes.phrases import definition, levels

    table = Table(box=None, pad_edge=False)
    for column in ("kind", "meaning", "severity"):
        table.add_column(column, no_wrap=column == "kind")
    for kind in KINDS:
        rubric = ", ".join(f"{level.replace('_', ' ')} {value:g}" for level, value in levels(kind).items())
        table.add_row(kind, definition(kind), rubric)
    Console().print(table)
