"""`anomreason dataset stats`: what a dataset holds, in numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomreason.cli.output import json_line, printable, say
from anomreason.cli.tables import ENDS, TextTable, console, decimals, interval, number, words

if TYPE_CHECKING:
    from anomreason.dataset.stats import Acceptance, DatasetStats

ROWS = 10
"""Rows of a table; --json and --html have more."""


def command(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of the dataset in work.")],
    html: Annotated[Path | None, typer.Option(metavar="OUT.html", help="Also write a page with plots here.")] = None,
    seed: Annotated[int, typer.Option(help="Seed for intervals and for the texts whose words are counted.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print all numbers as one JSON object.")] = False,
) -> None:
    """Count what a dataset holds: images by source, anomalies before and after review, acceptance, cost.

    Severity: 0 = completely implausible, 100 = fully realistic. Failures and drops stand beside every count.
    """
    from anomreason.dataset.stats import stats
    from anomreason.dataset.stats_page import stats_page
    from anomreason.dataset.store import open_store
    from anomreason.files import write_atomically

    with open_store(data) as store:
        found = stats(store, seed)
    if html is not None:
        write_atomically(html, stats_page(found, data.resolve().name))
    if json:
        say(json_line(found.model_dump_json()))
    else:
        print_stats(found, data, html)


def print_stats(found: DatasetStats, data: Path, html: Path | None) -> None:
    to = console()
    sources = TextTable(
        "Images and anomalies an image",
        [words("source", 10)],
        [
            [words("kind", 7), number("kept"), number("dropped"), number("annotated"), number("reviewed")],
            [number("before\nreview"), number("after\nreview")],
        ],
    )
    for source in sorted(found.sources, key=lambda source: -source.kept)[:ROWS]:
        counts = (source.kept, source.dropped, source.annotated, source.reviewed)
        both = decimals(source.before.value, 2), decimals(source.after.value, 2)
        sources.add(source.name, source.kind, *(f"{n:,}" for n in counts), *both)
    sources.print(to, first=True)
    if len(found.sources) > ROWS:
        say(f"and {len(found.sources) - ROWS:,} more (--json has all)")
    for name, rows in (("role", found.by_role), ("kind", found.by_kind), ("detector", found.by_detector)):
        if any(row.verified for row in rows):
            _acceptance(name, rows).print(to)
            if len(rows) > ROWS:
                say(f"and {len(rows) - ROWS:,} more (--json has all)")
    say("")
    _print_numbers(found)
    if html is not None:
        say(f"Wrote {html}", err=True)
    say(f"Next: {_next(found, data, html)}")


def _acceptance(name: str, rows: tuple[Acceptance, ...]) -> TextTable:
    heads = [number(head) for head in ("acceptance", ENDS, "accepted", "rejected", "unsure", "disputed", "unverified")]
    table = TextTable(f"Acceptance by {name}", [words(name, 10)], [heads])
    for row in rows[:ROWS]:
        counts = (row.accepted, row.rejected, row.unsure, row.disputed, row.unverified)
        table.add(row.name, decimals(row.acceptance, 3), interval(row.interval), *(f"{n:,}" for n in counts))
    return table


def _print_numbers(found: DatasetStats) -> None:
    steps, severity = found.steps, found.severity
    say(
        f"Images: {steps.images:,} collected, {steps.kept:,} kept, {steps.annotated:,} annotated ({steps.failed:,} "
        f"failed), {steps.reviewed:,} reviewed. Prompts: {steps.prompts:,}."
    )
    judged = f"{steps.candidates:,}, {steps.verified:,} with a verdict"
    say(f"Candidates: {judged}. Anomalies kept: {steps.kept_anomalies:,}.")
    if steps.beside_known:
        say(
            f"Of these, a detector's in images with known anomalies: {steps.beside_known:,}. An export leaves them out."
        )
    if severity.mean_before is not None:
        means = f"mean {severity.mean_before:.1f} before review, {decimals(severity.mean_after, 1)} after"
        say(f"Severity (0 = completely implausible, 100 = fully realistic): {means}.")
    for cost in found.costs:
        each = "unknown" if cost.accepted_cost is None else f"${cost.accepted_cost:.4f}"
        paid = f"{cost.tokens:,} tokens, ${cost.dollars:,.2f}"
        if cost.without_price:
            paid += f" and {cost.without_price:,} detections without a price"
        say(f"{printable(cost.detector)}: {paid}, {cost.failed:,} failed; an accepted anomaly costs {each}.")
    for drop in found.drops[:ROWS]:
        say(f"Dropped or failed: {drop.count:,} {drop.what}, {printable(drop.reason)}")


def _next(found: DatasetStats, data: Path, html: Path | None) -> str:
    steps = found.steps
    if not steps.images:
        return f"anomreason dataset collect {data} IMAGES"
    if steps.annotated + steps.failed < sum(source.kept for source in found.sources if source.kind != "photograph"):
        return f"anomreason dataset annotate {data} --model MODEL"
    if steps.verified < steps.candidates:
        return f"anomreason review {data}"
    if max(steps.in_split.values(), default=0) < steps.kept:
        return f"anomreason dataset split {data}"
    return (
        f"anomreason dataset stats {data} --html stats.html"
        if html is None
        else f"anomreason dataset export {data} OUT"
    )
