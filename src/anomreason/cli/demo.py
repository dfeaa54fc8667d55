"""`anomreason demo`: the main job on drawn scenes, by the bundled model, scored against the truth."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomreason.cli.output import say
from anomreason.errors import UsageError

if TYPE_CHECKING:
    from anomreason.evaluation.records import ExactResult
    from anomreason.scenes.make import SceneSettings


def demo_scenes() -> SceneSettings:
    """The scenes of the demo and of the README's examples: only kinds that the bundled model was taught to name."""
    from anomreason.scenes.make import SceneSettings
    from anomreason.vlm.card import TINY_KINDS

    return SceneSettings(n=12, seed=11, kinds=TINY_KINDS)


def command(folder: Annotated[Path, typer.Argument(help="Folder for images and results.")] = Path("demo")) -> None:
    """Draw scenes, detect with the bundled model, score exactly: no key, no network, no GPU."""
    from anomreason.cli import detect
    from anomreason.cli.eval import print_exact
    from anomreason.detection import remaining
    from anomreason.detector import set_up
    from anomreason.evaluation.exact import write_exact
    from anomreason.report.scores import build_exact_report
    from anomreason.scenes.make import make_scenes
    from anomreason.sources.inputs import find_images
    from anomreason.vlm.local.weights import require_libraries

    require_libraries()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{str(folder)!r} is a file; give another folder: anomreason demo FOLDER")
    scenes, run = folder / "scenes", folder / "run"
    drawn = make_scenes(scenes, demo_scenes(), jobs=1)
    say(f"Drew {drawn.scenes} scenes with planted anomalies, and their twins without them, into {scenes}.")
    say("The bundled model now looks at each. It gets the pixels and one question, nothing else.\n")
    setup, inputs = set_up("tiny"), [str(scenes)]
    found = find_images(inputs)
    images = found.images
    with setup.open_run(run, found, inputs) as opened:
        status = asyncio.run(detect.detect_watched(setup, opened, list(remaining(images, opened.done))))
        detect.show_results(setup, opened, images, status, json_only=False, report=True)
    ((result, scores),) = write_exact([run], scenes, folder / "exact")
    print_exact(result)
    _print_missed(result, scenes)
    program = _program()
    say("\nThe bundled model only works on such scenes. Next:")
    say(f"  {program} detect {scenes / 'images' / '000000.png'} --model tiny")
    say(f"  {program} detect photo.jpg --model gpt-4o      # a large model; needs OPENAI_API_KEY")
    say(f"All scenes at a glance: {scenes / 'contact-sheet.png'}")
    say(f"Report of this run: {run / 'report.html'}")
    say(f"What was found and missed in each scene: {build_exact_report(scores)}")


def _print_missed(result: ExactResult, scenes: Path) -> None:
    missed = [
        (scene, planted.anomaly) for scene in result.images for planted in scene.planted if planted.found_by is None
    ]
    if missed:
        say("\nPlanted and not found:")
    for scene, anomaly in missed:
        reported = "; ".join(one.name for one in scene.predictions) or "nothing"
        kind = (anomaly.kind or "").replace("_", " ")
        say(f"  {scenes / scene.image}: {anomaly.name} ({kind}). The model reported: {reported}")


def _program() -> str:
    """How to call this program from here: its name if it is on the path, else the path that was used."""
    called = Path(sys.argv[0])
    if called.name != "anomreason":
        return "python -m anomreason"
    found = shutil.which("anomreason")
    return "anomreason" if found and os.path.samefile(found, called) else str(called)
