"""Small cards of HTML by which a notebook shows a result. Whatever a model or a file name holds is escaped.

>>> card_html("a.png", "1 anomaly", [CardEntry("Six fingers", 5, "On the left hand.", "Hands have five.", None)])[:5]
'<div '
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from anomreason.badges import margin, place_badges

_MOST = 50
"""Entries on a card."""
_SIDE = 160
"""Longest side of the frame with the boxes, pixels."""
_HALF, _GAP = 7.0, 2.0
"""Half the side of a number in the frame, and its distance from its box, pixels."""
DIRECTION = "severity: 0 = completely implausible, 100 = fully realistic"


class CardEntry(NamedTuple):
    """One anomaly on a card."""

    name: str
    severity: float
    """0 = completely implausible, 100 = fully realistic."""
    phenomenon: str
    reasoning: str
    box: tuple[float, float, float, float] | None
    """x0, y0, x1, y1 in fractions of the image; None where the place is not known."""
    check: str = ""
    """Who proposed it, and how the check of it ended."""


class CardFold(NamedTuple):
    """A list on a card that is opened by a click."""

    title: str
    lines: Sequence[str]


def card_html(
    title: str,
    summary: str,
    entries: Sequence[CardEntry] = (),
    size: tuple[int, int] = (1, 1),
    folds: Sequence[CardFold] = (),
    note: str = "",
) -> str:
    """A card: the title, a summary, the entries with the worst first, and a frame that shows where their boxes lie.

    size: width and height of the image, in any unit. folds: left out where they hold no lines. note: a last line.
    """
    ordered = sorted(entries, key=lambda entry: entry.severity)
    rows = "".join(_row(number, entry) for number, entry in enumerate(ordered[:_MOST], 1))
    if len(ordered) > _MOST:
        rows += f"<tr><td></td><td></td><td>and {len(ordered) - _MOST:,} more</td></tr>"
    style = "border:0;margin:0;font:inherit;color:inherit"
    table = f'<div style="flex:1 1 18em"><table style="{style}">{rows}</table></div>' if rows else ""
    frame = _frame(ordered[:_MOST], *size)
    direction = f'<div style="opacity:.7">{DIRECTION}</div>' if rows else ""
    note = f'<div style="opacity:.7">{escape(note)}</div>' if note else ""
    return (
        '<div style="max-width:46em;border:1px solid;border-color:rgba(128,128,128,.5);border-radius:6px;padding:8px">'
        f"<div><b>{escape(title)}</b>: {escape(summary)}</div>"
        f'<div style="display:flex;flex-wrap:wrap;gap:12px;align-items:flex-start">{frame}{table}</div>'
        f"{direction}{''.join(map(_fold, folds))}{note}</div>"
    )


def _fold(fold: CardFold) -> str:
    if not fold.lines:
        return ""
    more = [f"and {len(fold.lines) - _MOST:,} more"] if len(fold.lines) > _MOST else []
    lines = "".join(f"<li>{escape(line)}</li>" for line in [*fold.lines[:_MOST], *more])
    return f"<details><summary>{escape(fold.title)}</summary><ul>{lines}</ul></details>"


def _row(number: int, entry: CardEntry) -> str:
    cell = '<td style="text-align:{};vertical-align:top">{}</td>'
    text = f"<b>{escape(entry.name)}</b><br>{escape(entry.phenomenon)}<br><i>{escape(entry.reasoning)}</i>"
    if entry.check:
        text += f'<div style="opacity:.7">{escape(entry.check)}</div>'
    cells = (("right", f"{number}."), ("right", f"{entry.severity:g}"), ("left", text))
    return f"<tr>{''.join(cell.format(*one) for one in cells)}</tr>"


def _frame(entries: Sequence[CardEntry], width: int, height: int) -> str:
    """An outline of the image with numbered boxes, the largest first, so that none hides another."""
    boxes = [(number, entry.box) for number, entry in enumerate(entries, 1) if entry.box]
    if not boxes:
        return ""
    scale = _SIDE / max(width, height, 1)
    across, down = max(8.0, width * scale), max(8.0, height * scale)
    boxes.sort(key=lambda one: -(one[1][2] - one[1][0]) * (one[1][3] - one[1][1]))
    shapes, numbers = "", ""
    badges = place_badges([box for _, box in boxes], (across,), down / across, _HALF, _GAP)
    for (number, (x0, y0, x1, y1)), badge in zip(boxes, badges, strict=True):
        shapes += (
            f'<rect x="{x0 * across:.1f}" y="{y0 * down:.1f}" width="{(x1 - x0) * across:.1f}" '
            f'height="{(y1 - y0) * down:.1f}" fill="rgba(220,60,40,.12)" stroke="#dc3c28"/>'
        )
        start, x, y = (badge.x * across, badge.y * down), badge.x * across + badge.dx, badge.y * down + badge.dy
        if badge.apart:
            shapes += f'<line x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{x:.1f}" y2="{y:.1f}" stroke="#dc3c28"/>'
        numbers += (
            f'<text x="{x:.1f}" y="{y + 4:.1f}" font-size="11" text-anchor="middle" fill="currentColor">{number}</text>'
        )
    around = margin(_HALF, _GAP)
    return (
        f'<svg width="{across + 2 * around:.0f}" height="{down + 2 * around:.0f}" role="img" '
        f'viewBox="{-around:.1f} {-around:.1f} {across + 2 * around:.1f} {down + 2 * around:.1f}" '
        'aria-label="Where the anomalies are" style="flex:none">'
        f'<path d="M0 0H{across:.1f}V{down:.1f}H0z" fill="none" stroke="rgba(128,128,128,.5)"/>'
        f"{shapes}{numbers}</svg>"
    )
