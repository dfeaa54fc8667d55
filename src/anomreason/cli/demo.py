"""`anomreason demo`: the main job on pictures the program draws, with simulated answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(folder: Annotated[Path, typer.Argument(help="Where to put pictures and results.")] = Path("demo")) -> None:
    """Try everything without a model: four drawn pictures, answers simulated from what is known about them."""
    from anomreason.cli import detect
    from anomreason.demo import write_demo

    truth = write_demo(folder / "pictures")
    typer.echo("SIMULATED: no model looks at these pictures. The program drew them, knows what is wrong in them,")
    typer.echo("and plays the model's part from that knowledge, so that you see what a run does and leaves behind.\n")
    try:
        detect.command([str(folder / "pictures")], f"sim:{truth}", run=folder / "run")
    finally:
        typer.echo("\nWith a real model:  anomreason detect photo.jpg --model gpt-4o   (needs OPENAI_API_KEY)")
        typer.echo(f"Report of this run: {folder / 'run' / 'report.html'}")
