"""The command line: each command a thin call into the room that does the work."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from anomreason.cli.config import NAME, take_defaults
from anomreason.cli.group import Command, group_app
from anomreason.errors import AnomreasonError, UsageError
from anomreason.interrupt import end_on_ctrl_c

COMMANDS = {
    "detect": Command("detect:command", "Find what is semantically wrong in images, and explain it."),
    "check": Command(
        "check:command",
        "Find out with a few small questions what a model and its server can do, and which options suit it.",
    ),
    "gate": Command("gate:command", "Let images through or reject them by their anomalies, for use in a pipeline."),
    "mcp": Command("mcp:command", "Let an assistant look at images: tools over the Model Context Protocol."),
    "report": Command("runs:report", "Build the HTML report of a run folder, or rebuild it."),
    "calls": Command("runs:calls", "Print the calls, tokens and cost of a run by role and step."),
    "eval": Command(
        "eval:command",
        "Score predictions against a truth: SemAP and SemF1, with interval, chance level and failures.",
    ),
    "leaderboard": Command(
        "leaderboard:command", "Put results side by side, columns as in the paper's Tables 1, 2 and 3."
    ),
    "plausibility": Command("plausibility:command", "Score image generators by the anomalies found in their images."),
    "audit": Command(
        "audit:COMMANDS",
        "Compare image generators by the anomalies in the images they make of the same prompts; `audit AUDIT.TOML` is "
        "`audit run AUDIT.TOML`.",
    ),
    "deepfake": Command(
        "deepfake:COMMANDS",
        "Tell AI images from photographs, with what shows it; `deepfake RUN TRUTH` is `deepfake score RUN TRUTH`.",
    ),
    "train": Command("train:train", "Fine-tune a model by a recipe."),
    "merge": Command(
        "train:merge", "Write a base and its adapter as one checkpoint, and prove that both give the same logits."
    ),
    "simulate": Command(
        "simulate:command", "Serve a simulated vision-language model, to try things and to test without a real one."
    ),
    "demo": Command(
        "demo:command", "Draw scenes, detect with the bundled model, score exactly: no key, no network, no GPU."
    ),
    "dataset": Command("dataset:COMMANDS", "Build a dataset of verified anomalies, from prompts and images to export."),
    "review": Command("review:command", "Verify candidates in the browser: one candidate a screen, one key a verdict."),
    "serve": Command("serve:command", "Serve detections over HTTP, with a page where one drops an image."),
    "scenes": Command("scenes:COMMANDS", "Make images in which every anomaly is known, each with a mended twin."),
}
"""The commands, in the order of the help."""

app = group_app(
    "anomreason",
    "Find and explain semantic anomalies in images: what is wrong, where it shows, why it cannot be so, and how bad it "
    "is (severity 0 = completely implausible, 100 = fully realistic).",
    COMMANDS,
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"anomreason {version('anomreason')}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and exit."
    ),
    config: Annotated[
        Path | None,
        typer.Option(
            callback=take_defaults,
            is_eager=True,
            help=f"TOML file with defaults of the commands' options. [default: {NAME} where there is one]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Options of the program itself."""


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """One line, as errors are shown; nothing of our code's places."""
    from anomreason.cli.output import printable

    print(f"anomreason: warning: {printable(str(message))}", file=sys.stderr)


def main() -> None:
    """Entry point. Exit code 2: usage error; 1: I/O error; 130: interrupted."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    # An image with damaged EXIF is read all the same; Pillow's remarks on it are no help on a terminal.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.showwarning = _show_warning
    end_on_ctrl_c()
    try:
        app()
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except (AnomreasonError, OSError) as e:
        from anomreason.cli.output import printable

        print(f"anomreason: {printable(str(e))}", file=sys.stderr)
        sys.exit(2 if isinstance(e, UsageError) else 1)
