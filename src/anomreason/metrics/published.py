"""The paper's own figures (arXiv 2510.10231, Tables 1-5), to be shown beside ours.

They are as printed; `published.csv` notes its corrections. Try it:

    >>> published(table=1, model="GPT-4o", metric="SemAP_Full")[0].value
    0.4727
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from anomreason.errors import UsageError

SOURCE = "arXiv 2510.10231"


class PublishedFigure(NamedTuple):
    """One printed figure."""

    table: int
    """1..5 of the paper."""
    model: str
    """The detector (tables 1, 2, 4, 5) or the image generator (table 3)."""
    backbone: str | None
    """Backbone of BERTScore; None where no text was compared (Acc, table 3)."""
    assessor: str | None
    """Detector that assessed the generators' images (table 3): AnomReasonor or AnomAgent; None elsewhere."""
    metric: str
    """As printed, e.g. SemAP_Full, CSemF1_Rea, Acc (in percent), MAI."""
    value: float


def published(
    *, table: int | None = None, model: str | None = None, assessor: str | None = None, metric: str | None = None
) -> list[PublishedFigure]:
    """The figures that match all arguments, in the paper's order; UsageError when there are none."""
    arguments = {"table": table, "model": model, "assessor": assessor, "metric": metric}
    wanted = {name: value for name, value in arguments.items() if value is not None}
    found = [row for row in _rows() if all(getattr(row, name) == value for name, value in wanted.items())]
    if not found:
        known = {name: sorted({getattr(r, name) for r in _rows()} - {None}) for name in wanted}
        raise UsageError(f"the paper has no figure for {wanted!r}; choose from {known!r}")
    return found


@cache
def _rows() -> tuple[PublishedFigure, ...]:
    text = files("anomreason.metrics").joinpath("published.csv").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return tuple(
        PublishedFigure(
            int(row["table"]),
            row["model"],
            row["backbone"] or None,
            row["assessor"] or None,
            row["metric"],
            float(row["value"]),
        )
        for row in csv.DictReader(lines)
    )
