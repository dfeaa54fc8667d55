"""A table of results, and its forms: Markdown, CSV, HTML.

Knows nothing of where numbers come from. Whatever is in a name is escaped. Try it:

    >>> board = Board("eval", "Detection", ("SemF1",), [Row("a|b", {"SemF1": Cell(0.5, (0.4, 0.6))}, n=10)])
    >>> print(markdown([board]).splitlines()[-1])
    | a\\|b | 0.5000 (0.400–0.600) | 10 | 0 |
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

PUBLISHED = "†"
"""Mark of a row that is the paper's, not ours."""
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;color-scheme:light dark}"
    "table{border-collapse:collapse;display:block;overflow-x:auto}"
    "th,td{padding:.3rem .8rem;text-align:right;border-bottom:1px solid #8884;white-space:nowrap}"
    "th:first-child,td:first-child{text-align:left}small{opacity:.7;display:block;font-weight:400}"
    "h2,li{overflow-wrap:anywhere}tr.published{opacity:.7;font-style:italic}.best{font-weight:700}"
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


class Cell(NamedTuple):
    """One number."""

    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One model, or generator."""

    name: str
    cells: dict[str, Cell]
    """By column; a column without a number is not in it."""
    n: int | None = None
    """Images; None where the paper does not say."""
    failed: int | None = 0
    mark: str = ""
    """Letters of the notes that the row needs."""
    signature: str = ""

    @property
    def published(self) -> bool:
        return PUBLISHED in self.mark


@dataclass(frozen=True, slots=True)
class Board:
    """One table."""

    key: str
    """Name of its CSV file."""
    title: str
    columns: tuple[str, ...]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)
    lower_is_better: bool = False
    decimals: Mapping[str, int] = field(default_factory=dict)
    """Of columns whose numbers are printed with other than four."""

    def best(self, column: str, mark: str = "") -> float | None:
        """Best of our own rows that bear the same mark, since others cannot be compared; None when one has no rival."""
        own = [row.cells[column].value for row in self.rows if row.mark == mark and column in row.cells]
        return (min(own) if self.lower_is_better else max(own)) if len(own) > 1 else None

    def text(self, row: Row, column: str) -> tuple[str, str]:
        """Number and interval, with three decimals at most, as they are printed; empty where there is none."""
        cell = row.cells.get(column)
        if cell is None:
            return "-", ""
        ends = cell.interval
        places = self.decimals.get(column, 4)
        span = "" if ends is None else "–".join(f"{end:.{min(places, 3)}f}" for end in ends)
        return f"{cell.value:.{places}f}", span

    def is_best(self, row: Row, column: str) -> bool:
        cell = row.cells.get(column)
        return cell is not None and not row.published and cell.value == self.best(column, row.mark)


def name_of(row: Row) -> str:
    return f"{row.name} {row.mark}".strip()


def counts(row: Row) -> tuple[str, str]:
    """Images and failures."""
    return tuple("-" if value is None else f"{value:,}" for value in (row.n, row.failed))  # type: ignore[return-value]


def markdown(boards: Sequence[Board]) -> str:
    """All tables, with their notes."""
    return "\n".join(line for board in boards for line in _markdown(board)) + "\n"


def _markdown(board: Board) -> list[str]:
    heads = ["model", *board.columns, "images", "failed"]
    lines = [f"## {_md(board.title)}", "", *(f"- {_md(note)}" for note in board.notes), ""]
    lines += [_line(heads), _line(["---", *["---:"] * (len(heads) - 1)])]
    for row in board.rows:
        cells = []
        for column in board.columns:
            number, ends = board.text(row, column)
            number = f"**{number}**" if board.is_best(row, column) else number
            cells.append(f"{number} ({ends})" if ends else number)
        lines.append(_line([_md(name_of(row)), *cells, *counts(row)]))
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _md(text: str) -> str:
    """Text as it stands: what Markdown or HTML would make something of is escaped, and lines stay lines."""
    plain = " ".join(text.split())
    for mark in "\\`*_|[]":
        plain = plain.replace(mark, "\\" + mark)
    return escape(plain, quote=False)


def as_csv(board: Board) -> str:
    """One row a model, numbers in full; each column has its interval beside it."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    ends = [f"{column}_{end}" for column in board.columns for end in ("low", "high")]
    writer.writerow(["model", "published", *board.columns, "images", "failed", *ends, "notes", "signature"])
    for row in board.rows:
        cells = [row.cells.get(column) for column in board.columns]
        numbers = [None if cell is None else cell.value for cell in cells]
        spans = [end for cell in cells for end in ((cell and cell.interval) or (None, None))]
        told = ["yes" if row.published else "no", *numbers, row.n, row.failed, *spans, row.mark, row.signature]
        writer.writerow([_cell(row.name), *told])
    return out.getvalue()


def _cell(name: str) -> str:
    """A name that a spreadsheet would take for a formula gets an apostrophe."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t")) else name


def html(boards: Sequence[Board]) -> str:
    """One page without scripts."""
    body = "".join(_html(board) for board in boards)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>Leaderboard</title>'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def _html(board: Board) -> str:
    heads = "".join(f'<th scope="col">{escape(h)}</th>' for h in ("model", *board.columns, "images", "failed"))
    notes = "".join(f"<li>{escape(note)}</li>" for note in board.notes)
    rows = "".join(_html_row(board, row) for row in board.rows)
    return (
        f"<h2>{escape(board.title)}</h2><ul>{notes}</ul>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _html_row(board: Board, row: Row) -> str:
    cells = []
    for column in board.columns:
        number, ends = board.text(row, column)
        best = ' class="best"' if board.is_best(row, column) else ""
        cells.append(f"<td{best}>{number}{f'<small>{ends}</small>' if ends else ''}</td>")
    sizes = "".join(f"<td>{size}</td>" for size in counts(row))
    kind = ' class="published"' if row.published else ""
    return f"<tr{kind}><td>{escape(name_of(row))}</td>{''.join(cells)}{sizes}</tr>"
