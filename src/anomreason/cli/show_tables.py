"""Tables on a terminal whose numbers are never cut: what does not fit side by side stands in blocks below each other.

Knows nothing of what is in them. Try it:

    table = Blocks("By kind", keys=[words("kind")], groups=[[number("recall")], [number("precision")]])
    table.add("floats", "0.5000", "0.2500")
    table.print(Console(width=20))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

GAP = 2
"""Columns of a terminal between two of a table."""
LEAST = 12
"""Columns that text is left at least when it has to fold."""
LONG = 24
"""Columns beyond which a name folds if that saves a block."""
ENDS = "95 %\ninterval"
"""Head of a column of intervals."""


class Column(NamedTuple):
    """The head of a column; one with `least` holds text and folds down to that width, others keep their own."""

    head: str
    least: int | None = None


def number(head: str) -> Column:
    return Column(head)


def words(head: str, least: int = LEAST) -> Column:
    return Column(head, least)


@dataclass(slots=True)
class _Row:
    cells: list[Text]
    style: str
    section: bool = False
    """Whether a line is left blank below it."""


@dataclass(slots=True)
class Blocks:
    """One table. Keys stand before every block; the columns of a group stay together where there is room for them."""

    title: str
    keys: Sequence[Column]
    groups: Sequence[Sequence[Column]]
    hide_empty: bool = False
    """Leave a row out of a block in which it has nothing but "-"."""
    _rows: list[_Row] = field(default_factory=list)

    def add(self, *cells: str | Text, style: str = "") -> None:
        """A row: keys, then all groups in turn."""
        self._rows.append(_Row([Text(cell) if isinstance(cell, str) else cell for cell in cells], style))

    def section(self) -> None:
        """Set what follows apart."""
        if self._rows:
            self._rows[-1].section = True

    def print(self, to: Console) -> None:
        """Blocks, each after a blank line. A terminal narrower than one number gets lines that it breaks itself."""
        columns = [*self.keys, *(column for group in self.groups for column in group)]
        natural = [self._natural(place, column) for place, column in enumerate(columns)]
        least = [min(wide, column.least or wide) for wide, column in zip(natural, columns, strict=True)]
        told = to.width
        keys, blocks = self._blocks(least, natural, told)
        for nth, places in enumerate(blocks):
            needed = sum(keys) + sum(least[place] + GAP for place in places) + GAP * (len(keys) - 1)
            to.width = max(told, needed)
            to.print()
            if self.title and nth == 0:
                to.print(Text(self.title, style="bold"))
            to.print(self._table(columns, keys, places, natural))
            to.width = told

    def _natural(self, place: int, column: Column) -> int:
        lines = column.head.split("\n")
        lines += [line for row in self._rows for line in row.cells[place].plain.split("\n")]
        return max(map(cell_len, lines))

    def _blocks(self, least: Sequence[int], natural: Sequence[int], width: int) -> tuple[list[int], list[list[int]]]:
        """Widths of the keys, and places of the other columns, a list a block."""
        count = len(self.keys)
        width -= GAP * (count - 1)
        parts = self._parts(least, width - sum(least[:count]))
        widest = max((_room(part, least) for part in parts), default=0)
        keys = _narrowed(natural[:count], least, width - widest)
        packed = _packed(parts, least, width - sum(keys))
        # Long names rather fold than make one block more.
        floor = [max(LONG, one) for one in least[:count]]
        for total in range(sum(keys), sum(_narrowed(keys, floor, 0)) - 1, -1):
            fewer = _packed(parts, least, width - total)
            if len(fewer) < len(packed):
                keys, packed = _narrowed(keys, floor, total), fewer
        return keys, packed

    def _parts(self, least: Sequence[int], room: int) -> list[list[int]]:
        """Places of columns that stay together: those of a group, or where that has no room each alone."""
        parts: list[list[int]] = []
        place = len(self.keys)
        for group in self.groups:
            places = list(range(place, place + len(group)))
            parts += [places] if _room(places, least) <= room else [[one] for one in places]
            place += len(group)
        return parts

    def _table(
        self, columns: Sequence[Column], keys: Sequence[int], places: Sequence[int], natural: Sequence[int]
    ) -> Table:
        table = Table(box=None, pad_edge=False)
        for wide, column in zip(keys, columns[: len(keys)], strict=True):
            table.add_column(Text(column.head), width=wide, overflow="fold")
        for place in places:
            head = Text(columns[place].head)
            if columns[place].least is None:
                table.add_column(head, justify="right", no_wrap=True, width=natural[place])
            else:
                table.add_column(head, overflow="fold")
        apart = False
        for row in self._rows:
            cells = [row.cells[place] for place in (*range(len(keys)), *places)]
            if not self.hide_empty or any(cell.plain != "-" for cell in cells[len(keys) :]):
                if apart:
                    table.add_row()
                table.add_row(*cells, style=row.style)
                apart = row.section
        return table


def _room(places: Sequence[int], least: Sequence[int]) -> int:
    return sum(least[place] + GAP for place in places)


def _packed(parts: Sequence[list[int]], least: Sequence[int], room: int) -> list[list[int]]:
    """Parts side by side as far as they go."""
    blocks: list[list[int]] = [[]]
    for part in parts:
        if blocks[-1] and _room([*blocks[-1], *part], least) > room:
            blocks.append([])
        blocks[-1] += part
    return blocks


def _narrowed(natural: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Widths within `room`, taken off the widest first, none below its least."""
    widths = list(natural)
    while sum(widths) > room:
        able = [place for place, wide in enumerate(widths) if wide > least[place]]
        if not able:
            break
        widths[max(able, key=lambda place: widths[place])] -= 1
    return widths
