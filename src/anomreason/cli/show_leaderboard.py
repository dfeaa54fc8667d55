"""What people read on a terminal of a `leaderboard`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from anomreason.cli.show import printable
from anomreason.cli.show_scores import console
from anomreason.evaluation.boards import Board, counts, name_of

PART = 6
"""Most columns of numbers side by side; a wider board is printed in parts."""


def leaderboard(board: Board) -> None:
    """One table with its notes."""
    to = console()
    first = len(board.columns) % PART or PART
    parts = [board.columns[:first], *(board.columns[k : k + PART] for k in range(first, len(board.columns), PART))]
    for columns in parts:
        to.print()
        to.print(_table(board, columns))
    for note in board.notes:
        to.print(Text(printable(note), style="dim"), soft_wrap=True)


def _table(board: Board, columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, title=Text(board.title), title_justify="left", title_style="bold")
    table.add_column("model", overflow="fold")
    for column in (*columns, "images", "failed"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in board.rows:
        cells = []
        for column in columns:
            number, ends = board.text(row, column)
            cell = Text(number, style="bold" if board.is_best(row, column) else "")
            cells.append(cell.append(f"\n{ends}", style="dim not bold") if ends else cell)
        if any(cell.plain != "-" for cell in cells):
            table.add_row(
                Text(printable(name_of(row))), *cells, *counts(row), style="italic dim" if row.published else ""
            )
    return table
