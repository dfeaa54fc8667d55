"""`anomreason dataset restore`: dropped images back into the dataset."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from anomreason.cli.output import json_line, say
from anomreason.english import counted


def command(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of the dataset.")],
    filter: Annotated[str, typer.Option(help="The filter whose decisions are taken back, as dataset list shows it.")],
    image: Annotated[
        list[str] | None,
        typer.Option(help="Only this image: its path or name as dataset list shows it, or its sha256; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Bring back images that a filter dropped; later runs of the filter leave them in."""
    import anomreason.dataset
    from anomreason.dataset.restore import restore

    with anomreason.dataset.open(data) as store:
        report = restore(store, filter, image or ())
    if as_json:
        say(json_line(json.dumps(asdict(report), ensure_ascii=False)))
        return
    taken = counted(report.restored, "decision", "decisions")
    again = counted(report.kept, "image is", "images are")
    say(f"{taken} of {filter!r} taken back: {again} in the dataset again")
    if report.dropped:
        others = ", ".join(f"{count:,} {reason}" for reason, count in report.dropped.items())
        say(f"Still dropped by other filters: {others}")
    say(f"Next: anomreason dataset list {data} --step filter")
