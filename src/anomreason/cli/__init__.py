"""The command line: each command a thin call into the room that does the work."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable

import typer

from anomreason.cli import deepfake, demo, detect, eval, leaderboard, plausibility, runs, scenes, simulate, train
from anomreason.errors import AnomreasonError, UsageError
from anomreason.interrupt import end_on_ctrl_c

app = typer.Typer(
    name="anomreason",
    help="Find and explain semantic anomalies in images: what is wrong, where it shows, why it cannot be so, and how "
    "bad it is (severity 0 = completely implausible, 100 = fully realistic).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
COMMANDS: dict[str, Callable[..., None]] = {
    "detect": detect.command,
    "report": runs.report,
    "calls": runs.calls,
    "eval": eval.command,
    "leaderboard": leaderboard.command,
    "plausibility": plausibility.command,
    "deepfake": deepfake.command,
    "train": train.train,
    "merge": train.merge,
    "simulate": simulate.command,
    "demo": demo.command,
}
for name, command in COMMANDS.items():
    app.command(name=name)(command)
app.add_typer(scenes.app, name="scenes")


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
