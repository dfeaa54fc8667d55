"""`anomreason leaderboard`: scored detectors or generators in one table, beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from anomreason.cli.output import printable, say
from anomreason.cli.tables import TextTable, console, number, words

if TYPE_CHECKING:
    from anomreason.report.leaderboard import Board


def command(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help="Folders that eval, deepfake or plausibility wrote, or holding such."),
    ],
    out: Annotated[Path | None, typer.Option(help="Also write Markdown, HTML and CSV files here.")] = None,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Show results that were not computed alike in one table, marked.")
    ] = False,
) -> None:
    """Put results side by side, columns as in the paper's Tables 1, 2 and 3.

    Results with different signatures (backbone, layer, weights, precision, thresholds, ranking, truth, code) are
    refused, since their numbers cannot be compared. Rows marked † are the paper's own figures.
    """
    from anomreason.report.leaderboard import boards, find, write_boards

    made = boards(find(folders), mixed=mixed)
    # Files first: a closed pipe ends the program where it prints.
    written = write_boards(made, out) if out is not None else []
    print_boards(made)
    for path in written:
        say(f"Wrote {path}", err=True)


def print_boards(boards: Sequence[Board]) -> None:
    """All tables, then their notes, each once."""
    to = console()
    for board in boards:
        _table(board).print(to)
    to.print()
    for note in dict.fromkeys(note for board in boards for note in board.notes):
        to.print(Text(printable(note), style="dim"), soft_wrap=True)


def _table(board: Board) -> TextTable:
    # Columns of one score, such as SemAP_Phe, SemAP_Rea and SemAP_Full, stay side by side.
    groups = [[number(c) for c in same] for _, same in groupby(board.columns, lambda column: column.partition("_")[0])]
    sizes = [number("images"), number("failed")]
    table = TextTable(printable(board.title), [words("model")], [*groups, sizes], hide_empty=True)
    for row in board.rows:
        cells = []
        for column in board.columns:
            value, ends = board.text(row, column)
            cell = Text(value, style="bold" if board.is_best(row, column) else "")
            cells.append(cell.append(f"\n{ends}", style="dim not bold") if ends else cell)
        table.add(printable(row.label), *cells, *row.counts, style="italic dim" if row.published else "")
    return table
