"""`anomreason demo`: the main job on drawn scenes, with simulated answers, scored against the known truth."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer


def command(folder: Annotated[Path, typer.Argument(help="Where to put pictures and results.")] = Path("demo")) -> None:
    """Try everything without a model: six drawn scenes, answers simulated from what was planted in them, scored."""
    from anomreason.cli import detect, show_exact
    from anomreason.evaluation.exact import evaluate_exact
    from anomreason.scenes.make import DEMO, make_scenes

    scenes, run = folder / "scenes", folder / "run"
    make_scenes(scenes, DEMO, jobs=1)
    typer.echo("SIMULATED: no model looks at these pictures. The program drew them, knows what is wrong in them,")
    typer.echo("and plays the model's part from that knowledge, so that you see what a run does and leaves behind.\n")
    try:
        with suppress(typer.Exit):
            detect.command([str(scenes)], f"sim:{scenes / 'simulator.json'}", run=run)
        show_exact.exact(evaluate_exact(run, scenes))
    finally:
        typer.echo("\nWith a real model:  anomreason detect photo.jpg --model gpt-4o   (needs OPENAI_API_KEY)")
        typer.echo(f"The pictures: {scenes / 'contact-sheet.png'}")
        typer.echo(f"Report of this run: {run / 'report.html'}")
