"""Prints detections on a terminal: all anomalies of one image, or a summary of many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from anomreason.cli.output import printable
from anomreason.english import counted
from anomreason.report.results import Tally

if TYPE_CHECKING:
    from anomreason.anomaly import Anomaly, Detection

WORST, NAMED = 20, 10
"""Images with anomalies, and failed images or dropped candidates, that are listed by name."""
LONGEST = 320
"""Characters of a failure's message that are printed."""
_ALIKE = ("budget", "unparsable", "refused")
"""Kinds of failures whose messages differ in numbers or in the reply that they quote."""
SCALE = "severity: 0 = completely implausible, 100 = fully realistic"


def colour(severity: float) -> str:
    """Rich style of a severity: red is implausible, green realistic."""
    return "bold red" if severity < 20 else "dark_orange" if severity < 50 else "yellow" if severity < 80 else "green"


def one(detection: Detection) -> None:
    """All anomalies of one image, worst first."""
    console = Console()
    if detection.failure:
        failure = detection.failure
        console.print(
            Text.assemble(("failed ", "bold red"), printable(f"{detection.image}: {failure.kind}: {failure.message}"))
        )
        return
    count = len(detection.anomalies)
    console.print(Text(printable(detection.image), style="bold"), end="")
    if detection.description is not None:
        console.print(": described, not searched for anomalies")
        console.print(Padding(Text(printable(detection.description)), (0, 0, 0, 3)))
    elif count:
        console.print(f": {counted(count, 'anomaly', 'anomalies')}   [dim]({SCALE})[/]")
    else:
        console.print(": searched, no anomalies found" if detection.searched else ": no anomalies")
    for number, anomaly in enumerate(sorted(detection.anomalies, key=lambda a: a.severity), start=1):
        _anomaly(console, number, anomaly)
    for text in detection.notes:
        console.print(Text(printable(f"Note: {text}"), style="dim"))
    if detection.out_of_domain:
        console.print(
            "Out of domain: the detector does not know such images; no anomalies does not mean a sound image."
        )
    if detection.source is not None:
        likely = "" if detection.p_generated is None else f" (probability of AI {detection.p_generated:.2f})"
        console.print(f"Source: {detection.source.label}{likely}")
    _dropped(console, detection)
    if not count:
        for seen in (o for o in detection.objects if o.counts):
            console.print(Text(printable(f"Counted: {seen.sentence}"), style="dim"))


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
    if anomaly.basis and (anomaly.basis.score is not None or anomaly.basis.reason):  # else nobody checked it
        body.add_row("from", Text(printable(anomaly.basis.sentence)))
    console.print(Padding(body, (0, 0, 0, 3)))


def _dropped(console: Console, detection: Detection) -> None:
    """How many candidates were dropped; why, where nothing is left of them."""
    dropped = [candidate for candidate in detection.candidates if candidate.dropped is not None]
    if not dropped:
        return
    total = counted(len(detection.candidates), "candidate", "candidates")
    why = ":" if not detection.anomalies else " (reasons: in the report)"
    console.print(f"[dim]{len(dropped)} of {total} dropped{why}[/]", highlight=False)
    if detection.anomalies:
        return
    for candidate in dropped[:NAMED]:
        console.print(Padding(Text(printable(candidate.sentence), style="dim"), (0, 0, 0, 3)))
    if len(dropped) > NAMED:
        console.print(f"[dim]   and {len(dropped) - NAMED} more (see the report)[/]")


def _shortened(message: str) -> str:
    """Without the middle where it is long: what is wrong stands at the start, what to do at the end."""
    return message if len(message) <= LONGEST else f"{message[: LONGEST // 2]} ... {message[-LONGEST // 2 :]}"


@dataclass
class Summary(Tally):
    """Totals, worst images and failures of many detections, in little memory."""

    only: Detection | None = None
    """The detection, when there is exactly one."""
    worst: list[tuple[float, str, int, str]] = field(default_factory=list)
    """Severity, image, anomalies, name of the worst anomaly."""
    failures: dict[str, list[str]] = field(default_factory=dict)
    """Images by kind and message of their failure."""
    out_of_domain: int = 0
    """Images that the detector reports as out of domain."""

    def add(self, detection: Detection) -> None:
        super().add(detection)
        self.only = detection if self.images == 1 else None
        self.out_of_domain += bool(detection.out_of_domain)
        if detection.failure:
            self._fail(detection.image, f"{detection.failure.kind}: {detection.failure.message}")
        if detection.anomalies:
            bad = min(detection.anomalies, key=lambda a: a.severity)
            self.worst.append((bad.severity, detection.image, len(detection.anomalies), bad.name))
            self.worst = sorted(self.worst)[:WORST]

    def _fail(self, image: str, what: str) -> None:
        """Group images by equal failures; at most NAMED groups of NAMED images are kept.

        Each kind of `_ALIKE` is one group, under the first message.
        """
        kind = what.partition(": ")[0]
        if kind in _ALIKE:
            what = next((known for known in self.failures if known.startswith(f"{kind}: ")), what)
        same = self.failures.get(what)
        if same is not None and len(same) < NAMED:
            same.append(image)
        elif same is None and len(self.failures) < NAMED:
            self.failures[what] = [image]

    def print(self, asked: int) -> None:
        """All anomalies of a single image; for many images the worst ones, totals and failures by kind."""
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
        described = f"{self.described:,} only described, " if self.described else ""
        unsearched = f"{self.unsearched:,} not searched, " if self.unsearched else ""
        without = self.statuses["none found"]
        console.print(
            f"{asked:,} images: {good:,} done ({described}{unsearched}{self.found:,} with anomalies, "
            f"{without:,} without; {counted(self.anomalies, 'anomaly', 'anomalies')}), {failed:,} failed",
            soft_wrap=True,
        )
        if self.out_of_domain:
            console.print(f"out of domain, according to the detector: {counted(self.out_of_domain, 'image', 'images')}")
        if self.sources:
            judged = ", ".join(f"{n:,} {what}" for what, n in sorted(self.sources.items()))
            console.print(f"source, according to the model: {judged}")
        if failed:
            console.print("[bold red]failed:[/] " + ", ".join(f"{n} {kind}" for kind, n in self.failed.most_common()))
        named = 0
        for what, images in self.failures.items():
            named += len(images)
            console.print(Text(printable(f"  {_shortened(what)}  <- {', '.join(images)}")), soft_wrap=True)
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
