"""`anomreason report`: build the HTML report of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(run: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Build the HTML report of a run folder, or rebuild it."""
    from anomreason.report.html import build_report

    typer.echo(build_report(run))
