"""What people read on a terminal: findings, sums, progress."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from anomreason.anomaly import Anomaly, Detection
    from anomreason.vlm.ledger import Ledger

SCALE = "severity: 0 = completely implausible, 100 = fully realistic"


def printable(text: str) -> str:
    """Text from a file name or a model, safe on a terminal: control and direction marks made visible, one line."""
    flat = " ".join(text.split("\n"))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in flat)


def colour(severity: float) -> str:
    """Rich style of a severity: red is implausible, green realistic."""
    return "bold red" if severity < 20 else "dark_orange" if severity < 50 else "yellow" if severity < 80 else "green"


def one(detection: Detection) -> None:
    """All findings of one image, worst first."""
    console = Console()
    if detection.failure:
        failure = detection.failure
        console.print(
            Text.assemble(("failed ", "bold red"), printable(f"{detection.image}: {failure.kind}: {failure.message}"))
        )
        return
    count = len(detection.anomalies)
    console.print(Text(printable(detection.image), style="bold"), end="")
    console.print(f": {counted(count, 'anomaly', 'anomalies')}   [dim]({SCALE})[/]")
    for number, anomaly in enumerate(detection.anomalies, start=1):
        _anomaly(console, number, anomaly)
    if detection.out_of_domain:
        console.print("Out of domain: the detector does not know such pictures, so that none found says nothing.")
    if detection.generated is not None:
        likely = "" if detection.p_generated is None else f" (probability of AI {detection.p_generated:.2f})"
        console.print(f"Source: {'AI-generated' if detection.generated else 'photograph'}{likely}")
    dropped = sum(c.dropped is not None for c in detection.candidates)
    if dropped:
        console.print(f"[dim]{dropped} of {len(detection.candidates)} candidates were dropped on a second look.[/]")


def _anomaly(console: Console, number: int, anomaly: Anomaly) -> None:
    head = Text.assemble(
        (f"\n{number}. ", "dim"),
        (f"{anomaly.severity:g}", colour(anomaly.severity)),
        "  ",
        (printable(anomaly.name), "bold"),
    )
    console.print(head)
    body = Table.grid(padding=(0, 2))
    body.add_column(style="dim", no_wrap=True)
    body.add_column(overflow="fold")
    body.add_row("seen", Text(printable(anomaly.phenomenon)))
    body.add_row("why", Text(printable(anomaly.reasoning)))
    if anomaly.kind:
        body.add_row("kind", Text(printable(anomaly.kind)))
    console.print(Padding(body, (0, 0, 0, 3)))


def counted(number: int, one_of: str, many_of: str) -> str:
    return f"{number:,} {one_of if number == 1 else many_of}"


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
    failures: dict[str, list[str]] = field(default_factory=dict)
    """Images by what happened to them."""
    sources: Counter[str] = field(default_factory=Counter)
    """Images by the judgement of their source, where it was asked for."""
    strange: int = 0
    """Images of which the detector says that it does not know such."""

    def add(self, detections: Iterable[Detection]) -> None:
        for d in detections:
            self.images += 1
            self.only = d if self.images == 1 else None
            self.anomalies += len(d.anomalies)
            if d.failure:
                self.failed[d.failure.kind] += 1
                self._fail(d.image, f"{d.failure.kind}: {d.failure.message}")
            if d.generated is not None:
                self.sources["AI-generated" if d.generated else "photograph"] += 1
            self.strange += bool(d.out_of_domain)
            if d.anomalies:
                self.found += 1
                bad = min(d.anomalies, key=lambda a: a.severity)
                self.worst.append((bad.severity, d.image, len(d.anomalies), bad.name))
                self.worst = sorted(self.worst)[:WORST]

    def _fail(self, image: str, what: str) -> None:
        """Equal failures stand together; only so many are kept."""
        same = self.failures.get(what)
        if same is not None and len(same) < NAMED:
            same.append(image)
        elif same is None and len(self.failures) < NAMED:
            self.failures[what] = [image]

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
            console.print(f"[dim]and {self.found - WORST:,} more images with anomalies (see the report)[/]")
        failed = self.failed.total()
        good = self.images - failed
        console.print(
            f"{asked:,} images: {good:,} done ({self.found:,} with anomalies, {good - self.found:,} without; "
            f"{counted(self.anomalies, 'anomaly', 'anomalies')}), {failed:,} failed",
            soft_wrap=True,
        )
        if self.strange:
            console.print(f"out of domain, as the detector says: {counted(self.strange, 'image', 'images')}")
        if self.sources:
            judged = ", ".join(f"{n:,} {what}" for what, n in sorted(self.sources.items()))
            console.print(f"source, as the model judges it: {judged}")
        if failed:
            console.print("[bold red]failed:[/] " + ", ".join(f"{n} {kind}" for kind, n in self.failed.most_common()))
        named = 0
        for what, images in self.failures.items():
            named += len(images)
            console.print(Text(printable(f"  {what}  <- {', '.join(images)}")), soft_wrap=True)
        if failed > named:
            console.print(f"[dim]  and {failed - named:,} more (see the report, or results.jsonl)[/]")

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        table.add_column("severity", justify="right")
        table.add_column("anomalies", justify="right")
        table.add_column("image", overflow="fold")
        table.add_column("worst anomaly", overflow="fold")
        for severity, image, count, name in self.worst:
            table.add_row(
                Text(f"{severity:g}", style=colour(severity)), str(count), Text(printable(image)), Text(printable(name))
            )
        return table


@contextmanager
def progress(total: int, ledger: Ledger, quiet: bool) -> Iterator[Callable[[Detection], None]]:
    """A bar with images, failures, tokens, money and time left; gives what to call for each image done."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )

    if quiet:
        yield lambda _: None
        return

    class Spent(ProgressColumn):
        """Moves with every call, so that the first minute does not look hung."""

        def render(self, task: Task) -> Text:
            cost = ledger.total.cost
            money = "" if cost is None else f", ${cost:.2f}"
            return Text(f"{ledger.total.calls:,} calls, {ledger.total.tokens:,} tokens{money}")

    failing = TextColumn("{task.fields[failed]} failed")
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("images"), failing, Spent(), TimeRemainingColumn())
    failed = 0
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total, failed=0)

        def done(detection: Detection) -> None:
            nonlocal failed
            failed += detection.status == "failed"
            bar.update(task, advance=1, failed=failed)

        yield done
