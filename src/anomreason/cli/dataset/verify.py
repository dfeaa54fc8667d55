"""`anomreason dataset verify`: whether an export is whole and unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anomreason.cli.output import json_line, say
from anomreason.english import counted

_SHOWN = 50


def command(
    out: Annotated[Path, typer.Argument(help="Folder that export wrote.")],
    json_: Annotated[bool, typer.Option("--json", help="Print all differences as JSON.")] = False,
) -> None:
    """Recompute the sums and counts of an export, offline, and say what differs. Exit status 1 if anything does."""
    from anomreason.cli.progress import progress
    from anomreason.dataset.export import verify

    with progress("files", quiet=json_) as step:
        found = verify(out, step)
    if json_:
        say(json_line(found.model_dump_json()))
    else:
        for one in found.differences[:_SHOWN]:
            say(f"{one.what}: {one.place}{f' ({one.message})' if one.message else ''}")
        if len(found.differences) > _SHOWN:
            say(f"... and {len(found.differences) - _SHOWN:,} more; --json prints all")
        images = counted(found.images, "image", "images")
        counts = f"{found.files:,} files, {images}, {counted(found.anomalies, 'anomaly', 'anomalies')}"
        differences = counted(len(found.differences), "difference", "differences")
        say(f"{counts}: {'all as exported' if found.whole else differences}")
    if not found.whole:
        raise typer.Exit(1)
