"""`anomreason demo`: the main job on drawn scenes, by the bundled model, scored against the truth."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from anomreason.scenes.make import Make
from anomreason.vlm.card import TINY_KINDS

DEMO = Make(n=12, seed=11, kinds=TINY_KINDS)
"""What the demo and the examples of the README look at: scenes with what the bundled model was taught to name."""


def command(folder: Annotated[Path, typer.Argument(help="Where to put pictures and results.")] = Path("demo")) -> None:
    """Draw scenes, detect with the bundled model, score exactly: no key, no network, no GPU."""
    from anomreason.cli import detect, show_exact
    from anomreason.evaluation.exact import evaluate_exact
    from anomreason.scenes.make import make_scenes
    from anomreason.vlm.local.weights import require_libraries

    require_libraries()
    scenes, run = folder / "scenes", folder / "run"
    make_scenes(scenes, DEMO, jobs=1)
    typer.echo(f"{DEMO.n} scenes and their twins without the violations were drawn into {scenes}.")
    typer.echo("The bundled model now looks at each; it gets the pixels and one question, nothing else.\n")
    try:
        with suppress(typer.Exit):
            detect.command([str(scenes)], "tiny", run=run)
        show_exact.exact(evaluate_exact(run, scenes))
    finally:
        typer.echo("\nIt knows such scenes, not the world. On photographs ask a large model:")
        typer.echo("  anomreason detect photo.jpg --model gpt-4o   (needs OPENAI_API_KEY)")
        typer.echo(f"The pictures: {scenes / 'contact-sheet.png'}")
        typer.echo(f"Report of this run: {run / 'report.html'}")
