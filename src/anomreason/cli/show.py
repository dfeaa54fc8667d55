"""What people read on a terminal: findings, sums, progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from anomreason.anomaly import Anomaly, Detection
    from anomreason.vlm.ledger import Ledger

SCALE = "severity: 0 = completely implausible, 100 = fully realistic"


def colour(severity: float) -> str:
    """Rich style of a severity: red is implausible, green realistic."""
    return "bold red" if severity < 20 else "dark_orange" if severity < 50 else "yellow" if severity < 80 else "green"


def one(detection: Detection) -> None:
    """All findings of one image, worst first."""
    console = Console()
    if detection.failure:
        console.print(f"[bold red]failed[/] {escape(detection.image)}: {escape(detection.failure.message)}")
        return
    count = len(detection.anomalies)
    console.print(Text(detection.image, style="bold"), end="")
    console.print(f": {count} {'anomaly' if count == 1 else 'anomalies'}   [dim]({SCALE})[/]")
    for number, anomaly in enumerate(detection.anomalies, start=1):
        _finding(console, number, anomaly)
    if detection.generated is not None:
        likely = "" if detection.p_generated is None else f" (p = {detection.p_generated:.2f})"
        console.print(f"Source: {'AI-generated' if detection.generated else 'photograph'}{likely}")
    dropped = sum(c.dropped is not None for c in detection.candidates)
    if dropped:
        console.print(f"[dim]{dropped} of {len(detection.candidates)} candidates were dropped on a second look.[/]")


def _finding(console: Console, number: int, anomaly: Anomaly) -> None:
    head = Text.assemble(
        (f"\n{number}. ", "dim"), (f"{anomaly.severity:g}", colour(anomaly.severity)), "  ", (anomaly.name, "bold")
    )
    console.print(head)
    body = Table.grid(padding=(0, 2))
    body.add_column(style="dim", no_wrap=True)
    body.add_column(overflow="fold")
    body.add_row("seen", Text(anomaly.phenomenon))
    body.add_row("why", Text(anomaly.reasoning))
    console.print(Padding(body, (0, 0, 0, 3)))


def many(detections: Sequence[Detection], asked: int) -> None:
    """One line an image for few images, the worst of many; sums; failures by kind."""
    console = Console()
    ok = [d for d in detections if d.status == "ok"]
    found = sorted((d for d in ok if d.anomalies), key=lambda d: d.worst if d.worst is not None else 101)
    table = Table(box=None, pad_edge=False, title_justify="left", caption_justify="left")
    table.add_column("worst", justify="right")
    table.add_column("anomalies", justify="right")
    table.add_column("image", overflow="fold")
    table.add_column("worst of it", overflow="fold")
    for d in found[:20]:
        worst = min(d.anomalies, key=lambda a: a.severity)
        table.add_row(
            Text(f"{worst.severity:g}", style=colour(worst.severity)),
            str(len(d.anomalies)),
            Text(d.image),
            Text(worst.name),
        )
    if found:
        console.print(f"[dim]{SCALE}; worst first[/]")
        console.print(table)
        if len(found) > 20:
            console.print(f"[dim]and {len(found) - 20:,} more images with anomalies[/]")
    total = sum(len(d.anomalies) for d in ok)
    console.print(
        f"{asked:,} images: {len(ok):,} looked at ({len(found):,} with anomalies, {len(ok) - len(found):,} without; "
        f"{total:,} anomalies), {len(detections) - len(ok):,} failed"
    )
    _failures(console, detections)


def _failures(console: Console, detections: Sequence[Detection]) -> None:
    failed = [(d.image, d.failure) for d in detections if d.failure]
    kinds = Counter(f.kind for _, f in failed)
    if failed:
        console.print("[bold red]failed:[/] " + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common()))
    for image, failure in failed[:10]:
        console.print(Text(f"  {image}: {failure.kind}: {failure.message}"), overflow="fold")
    if len(failed) > 10:
        console.print(f"[dim]  and {len(failed) - 10:,} more (see the report, or results.jsonl)[/]")


@contextmanager
def progress(total: int, ledger: Ledger, quiet: bool) -> Iterator[Callable[[Detection], None]]:
    """A bar with images, failures, tokens, money and time left; gives what to call for each image done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if quiet:
        yield lambda _: None
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"),
        TextColumn("{task.fields[tokens]:,} tokens"),
        TextColumn("{task.fields[money]}"),
        TimeRemainingColumn(),
    )
    failed = 0
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=not console.is_terminal) as bar:
        task = bar.add_task("", total=total, failed=0, tokens=ledger.total.tokens, money="")

        def done(detection: Detection) -> None:
            nonlocal failed
            failed += detection.status == "failed"
            cost = ledger.total.cost
            money = "" if cost is None else f"${cost:.2f}"
            bar.update(task, advance=1, failed=failed, tokens=ledger.total.tokens, money=money)

        yield done
