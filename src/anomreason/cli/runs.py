"""`anomreason report` and `anomreason calls`: the HTML report of a run; its model calls and their cost."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Annotated

import typer

from anomreason.cli.output import open_in_browser, printable, say


def report(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    show: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Build the HTML report of a run folder, or rebuild it."""
    from anomreason.report.html import build_report

    built = build_report(run)
    say(built)
    if show:
        open_in_browser(built.resolve().as_uri())


def calls(run: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Print the calls, tokens and cost of a run by role and step."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from anomreason.anomaly import Usage
    from anomreason.runs import read_settings
    from anomreason.vlm.ledger import read_calls

    read_settings(run)
    sums: defaultdict[tuple[str, str], Usage] = defaultdict(Usage)
    outcomes: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
    for call in read_calls(run):
        for row in ((call.role, call.step), ("all", "")):
            sums[row] += call.usage
            outcomes[row][call.outcome] += 1
            seconds[row] += call.seconds
    table = Table(box=None, pad_edge=False)
    for head in ("role", "step"):
        table.add_column(head, no_wrap=True)
    for head in ("calls", "prompt", "cached", "reply", "dollars", "s/call"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("not ok", overflow="fold")
    for row in sorted(sums, key=lambda r: r[0] == "all"):
        usage = sums[row]
        bad = ", ".join(f"{n} {kind}" for kind, n in outcomes[row].most_common() if kind != "ok")
        about = "about " if usage.estimated else ""
        cost = "?" if usage.cost is None else f"{about}{usage.cost:.4f}"
        numbers = [f"{about}{n:,}" for n in (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)]
        cells = (*row, f"{usage.calls:,}", *numbers, cost, f"{seconds[row] / usage.calls:.2f}", bad or "-")
        table.add_row(*(Text(printable(cell)) for cell in cells))
    console = Console()
    if not console.is_terminal:
        console.width = 160
    console.print(table if sums else "no calls yet")
