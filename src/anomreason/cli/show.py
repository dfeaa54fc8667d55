"""What people read on a terminal: findings, sums, progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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


WORST, NAMED = 20, 10
"""How many images with anomalies, and how many failures, are named."""


@dataclass
class Summary:
    """What many detections come to, kept small however many they are."""

    images: int = 0
    found: int = 0
    anomalies: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """Failed images by kind of failure."""
    only: Detection | None = None
    """The detection, when there is just one."""
    worst: list[tuple[float, str, int, str]] = field(default_factory=list)
    """Severity, image, anomalies, name of the worst anomaly."""
    failures: list[str] = field(default_factory=list)

    def add(self, detections: Iterable[Detection]) -> None:
        for d in detections:
            self.images += 1
            self.only = d if self.images == 1 else None
            self.anomalies += len(d.anomalies)
            if d.failure:
                self.failed[d.failure.kind] += 1
                if len(self.failures) < NAMED:
                    self.failures.append(f"{d.image}: {d.failure.kind}: {d.failure.message}")
            if d.anomalies:
                self.found += 1
                bad = min(d.anomalies, key=lambda a: a.severity)
                self.worst.append((bad.severity, d.image, len(d.anomalies), bad.name))
                self.worst = sorted(self.worst)[:WORST]

    def print(self, asked: int) -> None:
        """All findings of a single image; of many the worst images, sums and failures by kind."""
        if self.only and asked == 1:
            one(self.only)
            return
        console = Console()
        if self.worst:
            console.print(f"[dim]{SCALE}; worst first[/]")
            console.print(self._table())
        if self.found > WORST:
            console.print(f"[dim]and {self.found - WORST:,} more images with anomalies[/]")
        failed = self.failed.total()
        good = self.images - failed
        console.print(
            f"{asked:,} images: {good:,} looked at ({self.found:,} with anomalies, {good - self.found:,} without; "
            f"{self.anomalies:,} anomalies), {failed:,} failed"
        )
        if failed:
            console.print("[bold red]failed:[/] " + ", ".join(f"{n} {kind}" for kind, n in self.failed.most_common()))
        for line in self.failures:
            console.print(Text(f"  {line}"), overflow="fold")
        if failed > NAMED:
            console.print(f"[dim]  and {failed - NAMED:,} more (see the report, or results.jsonl)[/]")

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        table.add_column("worst", justify="right")
        table.add_column("anomalies", justify="right")
        table.add_column("image", overflow="fold")
        table.add_column("worst of it", overflow="fold")
        for severity, image, count, name in self.worst:
            table.add_row(Text(f"{severity:g}", style=colour(severity)), str(count), Text(image), Text(name))
        return table


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
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total, failed=0, tokens=ledger.total.tokens, money="")

        def done(detection: Detection) -> None:
            nonlocal failed
            failed += detection.status == "failed"
            cost = ledger.total.cost
            money = "" if cost is None else f"${cost:.2f}"
            bar.update(task, advance=1, failed=failed, tokens=ledger.total.tokens, money=money)

        yield done
