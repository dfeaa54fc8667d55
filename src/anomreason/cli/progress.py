"""Progress of any long command: a bar on a terminal, now and then a line elsewhere.

Inside `with progress("scenes") as step`, `step(3, 100)` shows that 3 of 100 are done.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from anomreason.cli.output import say

EVERY = 30.0
"""Seconds between two lines without a terminal, unless another tenth of the work is done."""
LEAST = 10.0
"""Seconds between two lines at least, however fast the work is."""
FEW = 10
"""Fewer pieces of work than these get no line at the start, nor for each tenth."""


@contextmanager
def progress(
    what: str, status: Callable[[], str] = lambda: "", quiet: bool = False
) -> Iterator[Callable[[int, int], None]]:
    """Shows how many of all are done, `status()` and the time left. Gives the function to call with (done, all).

    status: drawn anew several times a second, so that slow work does not look stuck. Without a terminal a line is
    written to stderr at the start, then every EVERY seconds and at each tenth, but never sooner than LEAST seconds
    after the last one. Nothing is shown when `quiet`.
    """
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        with _lines(ProgressLines(what, status), quiet) as step:
            yield step
        return

    class Status(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(status())

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), Status(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _lines(lines: ProgressLines, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    if quiet:
        yield lambda done, total: None
        return
    ended = threading.Event()

    def write(line: str | None) -> None:
        if line:
            say(line, err=True)

    def watch() -> None:
        while not ended.wait(1.0):
            write(lines.due(time.monotonic()))

    watcher = threading.Thread(target=watch, name="progress", daemon=True)
    watcher.start()
    try:
        yield lambda done, total: write(lines.step(done, total, time.monotonic()))
    finally:
        ended.set()
        watcher.join()


class ProgressLines:
    """Decides when a line is due and what it says; knows no clock."""

    def __init__(self, what: str, status: Callable[[], str] = lambda: "") -> None:
        self._what, self._status = what, status
        self._lock = threading.Lock()
        self._done = self._total = self._tenth = 0
        self._start: tuple[float, int] | None = None
        """Seconds and number done at the first step."""
        self._last = 0.0

    def step(self, done: int, total: int, now: float) -> str | None:
        """Call with what is done; a line at the start and where another tenth is, but not for the last one, which the
        results follow."""
        with self._lock:
            self._done, self._total = done, total
            if self._start is None:
                self._start, self._last, self._tenth = (now, done), now, self._tenths()
                return self._line(now) if total - done >= FEW else None
            return self._at_tenth(now)

    def due(self, now: float) -> str | None:
        """A line when another tenth is done, or when there was none for EVERY seconds."""
        with self._lock:
            if self._start is None:
                return None
            return self._line(now) if now - self._last >= EVERY else self._at_tenth(now)

    def _tenths(self) -> int:
        return 10 * self._done // self._total if self._total else 0

    def _at_tenth(self, now: float) -> str | None:
        fresh = self._tenths() > self._tenth and self._done < self._total and self._total >= FEW
        return self._line(now) if fresh and now - self._last >= LEAST else None

    def _line(self, now: float) -> str:
        self._last, self._tenth = now, self._tenths()
        counts = f"{self._done:,} of {self._total:,}"
        parts = [f"{self._what}: {counts}" if " " in self._what else f"{counts} {self._what}", self._status()]
        if self._start and (done := self._done - self._start[1]) > 0 and self._total > self._done:
            left = (now - self._start[0]) / done * (self._total - self._done)
            parts.append(f"about {_duration(left)} left")
        return ", ".join(part for part in parts if part)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return "a second" if seconds < 1.5 else f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
