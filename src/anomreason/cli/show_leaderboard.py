"""What people read on a terminal of a `leaderboard`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.text import Text

from anomreason.cli.show_scores import console
from anomreason.cli.show_tables import Blocks, number, words
from anomreason.cli.summary import printable
from anomreason.report.boards import Board, counts, name_of


def leaderboards(boards: Sequence[Board]) -> None:
    """All tables, then their notes, each once."""
    to = console()
    for board in boards:
        _table(board).print(to)
    to.print()
    for note in dict.fromkeys(note for board in boards for note in board.notes):
        to.print(Text(printable(note), style="dim"), soft_wrap=True)


def _table(board: Board) -> Blocks:
    # Columns of one score, such as SemAP_Phe, SemAP_Rea and SemAP_Full, stay side by side.
    groups = [[number(c) for c in same] for _, same in groupby(board.columns, lambda column: column.partition("_")[0])]
    sizes = [number("images"), number("failed")]
    table = Blocks(printable(board.title), [words("model")], [*groups, sizes], hide_empty=True)
    for row in board.rows:
        cells = []
        for column in board.columns:
            value, ends = board.text(row, column)
            cell = Text(value, style="bold" if board.is_best(row, column) else "")
            cells.append(cell.append(f"\n{ends}", style="dim not bold") if ends else cell)
        style = "italic dim" if row.published else ""
        table.add(Text(printable(name_of(row))), *cells, *counts(row), style=style)
    return table
