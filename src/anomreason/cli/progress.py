"""A progress bar on the terminal for any long command.

Inside `with progress("scenes") as step`, `step(3, 100)` shows that 3 of 100 are done.
"""

from __future__ import annotations

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


@contextmanager
def progress(
    what: str, status: Callable[[], str] = lambda: "", quiet: bool = False
) -> Iterator[Callable[[int, int], None]]:
    """Shows how many of all are done, `status()` and the time left. Gives the function to call with (done, all).

    status: drawn anew several times a second, so that slow work does not look stuck. Nothing is shown without a
    terminal or when `quiet`.
    """

    class Status(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(status())

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), Status(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
