"""Tables and notes on a terminal, shared by the scoring commands. A number is never cut, however narrow the terminal.

table = TextTable("By kind", [words("kind")], [[number("recall")], [number("precision")]])
table.add("floats", "0.5000", "0.2500")
table.print(Console(width=20))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from anomreason.cli.output import printable

if TYPE_CHECKING:
    from anomreason.evaluation.notices import Notice
    from anomreason.stats import Estimate

ENDS = "95 %\ninterval"
"""Head of a column of intervals."""
VIEWS = {"phe": "phenomenon", "rea": "reasoning", "full": "full"}
SCORES = {"semap": "SemAP", "semf1": "SemF1"}
WIDE = 120
"""Columns of what is not a terminal, such as a log."""


def console() -> Console:
    found = Console()
    return found if found.is_terminal else Console(width=max(WIDE, found.width))


def label(head: str) -> Column:
    """A column of short names, never broken."""
    return Column(head, no_wrap=True)


def number(head: str) -> Column:
    """A column of numbers, never broken."""
    return Column(head, justify="right", no_wrap=True)


def words(head: str, least: int = 12) -> Column:
    """A column of text that folds down to `least` characters where there is no room."""
    return Column(head, overflow="fold", min_width=least)


@dataclass(slots=True)
class TextTable:
    """One table; groups of columns that do not fit side by side stand below each other, each behind the keys."""

    title: str
    keys: Sequence[Column]
    groups: Sequence[Sequence[Column]]
    hide_empty: bool = False
    """Leave a row out where it has nothing but "-"."""
    _rows: list[tuple[list[Text], str]] = field(default_factory=list)
    """Cells and style; a row without cells is a blank line."""

    def add(self, *cells: str | Text, style: str = "") -> None:
        """A row: keys, then all groups in turn."""
        safe = ("\n".join(map(printable, cell.split("\n"))) if isinstance(cell, str) else cell for cell in cells)
        self._rows.append(([Text(cell) if isinstance(cell, str) else cell for cell in safe], style))

    def section(self) -> None:
        """Set what follows apart."""
        self._rows.append(([], ""))

    def print(self, to: Console, first: bool = False) -> None:
        """Tables, each after a blank line; first: nothing or a blank line stands above already, so without one."""
        blocks: list[list[int]] = []
        start = len(self.keys)
        for group in self.groups:
            places = list(range(start, start + len(group)))
            start += len(group)
            if blocks and self._least([*blocks[-1], *places]) <= to.width:
                blocks[-1] += places
            elif self._least(places) <= to.width:
                blocks.append(places)
            else:
                blocks += [[place] for place in places]
        width = to.width
        for nth, places in enumerate(blocks):
            if nth or not first:
                to.print()
            if self.title and not nth:
                to.print(Text(self.title, style="bold"))
            to.width = max(width, self._least(places))
            to.print(self._table(places))
            to.width = width

    def _columns(self, places: Iterable[int]) -> list[tuple[int, Column]]:
        columns = [*self.keys, *chain.from_iterable(self.groups)]
        return [(place, columns[place]) for place in (*range(len(self.keys)), *places)]

    def _wide(self, place: int, column: Column) -> int:
        cells = [column.header, *(cells[place].plain for cells, _ in self._rows if cells)]
        return max(cell_len(line) for cell in cells for line in str(cell).split("\n"))

    def _least(self, places: Iterable[int]) -> int:
        """Width below which these columns would be cut."""
        wide = [min(self._wide(*each), each[1].min_width or 1000) for each in self._columns(places)]
        return sum(wide) + 2 * (len(wide) - 1)

    def _table(self, places: Sequence[int]) -> Table:
        columns = self._columns(places)
        table = Table(box=None, pad_edge=False)
        for place, column in columns:
            wide = self._wide(place, column)
            table.add_column(
                Text(str(column.header)),
                justify=column.justify,
                no_wrap=column.no_wrap,
                overflow=column.overflow,
                min_width=min(wide, column.min_width or wide),
            )
        blank = False
        for cells, style in self._rows:
            if not cells:
                blank = True
            elif not self.hide_empty or any(cells[place].plain != "-" for place in places):
                if blank and table.row_count:
                    table.add_row()
                table.add_row(*(cells[place] for place, _ in columns), style=style)
                blank = False
        return table


def decimals(value: float | None, places: int = 4) -> str:
    return "-" if value is None else f"{value:.{places}f}"


def interval(ends: Sequence[float] | None) -> str:
    """`0.033–0.111`; `-0.033 to 0.111` where there is a sign, which a dash would hide."""
    if ends is None:
        return "-"
    return f"{ends[0]:.3f}{' to ' if ends[0] < 0 else '–'}{ends[1]:.3f}"


def estimate_cells(found: Estimate) -> list[str]:
    """Value, interval and n."""
    return [decimals(found.value), interval(found.interval), f"{found.n:,}"]


def p_value(p: float | None) -> str:
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def failure_kinds(failures: Mapping[str, int]) -> str:
    """`3 missing, 1 refused`; empty when nothing failed."""
    return ", ".join(f"{n:,} {kind}" for kind, n in failures.items())


def note(name: str, text: str) -> Text:
    return Text.assemble((f"{name}: ", "bold"), printable(text))


def warning(notice: Notice) -> Text:
    return Text.assemble((f"{notice.title}: ", "bold yellow"), printable(notice.text))


def print_simulated(to: Console, simulated: bool) -> None:
    if simulated:
        to.print(Text("SIMULATED: no model looked at these images.", style="bold red"))
