"""`anomreason dataset list`: what became of everything in a dataset, by step, status and reason."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomreason.cli.output import json_line, printable, say

if TYPE_CHECKING:
    from anomreason.dataset.listing import Listing


def command(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of the dataset.")],
    status: Annotated[
        str | None, typer.Option(help="Only this status: kept, dropped, duplicate, unreadable, failed, ...")
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Only this reason: damaged, blurry, refused, ...")] = None,
    step: Annotated[
        str | None, typer.Option(help="Only images, or what this command met: collect, filter, generate, annotate.")
    ] = None,
    source: Annotated[str | None, typer.Option(help="Only images, files and prompts of this source.")] = None,
    limit: Annotated[int, typer.Option(help="Rows of each step; counts are of all.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print counts and rows as one JSON object.")] = False,
) -> None:
    """List images, files, decisions, generations and detections: counts by reason first, then the rows.

    Without --status, --reason, --step or --source only the counts.
    """
    from typing import cast

    import anomreason.dataset
    from anomreason.dataset.listing import ListQuery, ListStep, listing

    chosen = (status, reason, step, source) != (None,) * 4
    query = ListQuery(cast("ListStep | None", step), status, reason, source, limit if chosen or as_json else 0)
    with anomreason.dataset.open(data) as store:
        found = listing(store, query)
        there = found if found.counts else listing(store, ListQuery(query.step, source=source, limit=0))
    if as_json:
        say(json_line(json.dumps(asdict(found), ensure_ascii=False)))
        return
    if not found.counts:
        say(f"Nothing in {data} is like that{_there(there)}; see: anomreason dataset list {data}")
        return
    _print(found)
    say(_next(found, data))


def _there(found: Listing) -> str:
    """The statuses and reasons that could be asked for."""
    statuses = sorted({one.status for one in found.counts})
    reasons = sorted({one.reason for one in found.counts if one.reason})
    names = {"statuses": statuses, "reasons": reasons}
    return "".join(f"; the {what} there are {', '.join(those)}" for what, those in names.items() if those)


def _print(found: Listing) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    counts = Table(box=None, pad_edge=False)
    for column in ("step", "status", "reason", "by"):
        counts.add_column(column)
    counts.add_column("number", justify="right")
    for one in found.counts:
        cells = (one.step, one.status, one.reason or "", one.by or "")
        counts.add_row(*(Text(printable(cell)) for cell in cells), f"{one.number:,}")
    Console(soft_wrap=True).print(counts)
    if found.rows:
        say("")
    for row in found.rows:
        why = ": ".join(part for part in (row.reason, row.message) if part)
        say(f"{row.step} {row.status}  {row.what}{f'  ({why})' if why else ''}")
    if len(found.rows) < sum(one.number for one in found.counts) and found.rows:
        say("... more with --limit")


def _next(found: Listing, data: Path) -> str:
    for one in found.counts:
        if one.step == "filter" and one.status == "dropped":
            return f"Next: bring images back with anomreason dataset restore {data} --filter {one.by}"
        if one.status in ("unreadable", "refused", "blank") or (one.step == "annotate" and one.status == "failed"):
            return f"Next: try again with anomreason dataset retry {data} --reason {one.reason or one.status}"
    return f"Next: the rows behind a number with --status, --reason or --step, e.g. dataset list {data} --step collect"
