"""What a filter is asked and what it reports.

FilterOptions(dry_run=True, sheet=Path("filter.html"))
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from anomreason.anomaly import Record

MOST_FAILURES = 1000
"""Failures that a report lists."""


@dataclass(frozen=True)
class FilterOptions:
    """How a filter runs."""

    dry_run: bool = False
    """Measure and count, and decide nothing."""
    sheet: Path | None = None
    """Page of border cases that a dry run writes; None: no page."""
    beside: Path | None = None
    """Folder in which modules of Python rules are looked for, beside installed ones."""
    device: str | None = None
    """Of models; None: a GPU if there is one."""


class RuleReport(Record):
    """What one rule did."""

    name: str
    looked: int
    """Images it looked at: those that no earlier rule dropped."""
    dropped: int
    alone: int | None = None
    """Images it would drop without the rules before it; of a dry run only."""
    unscored: int
    """Images it had nothing to say of, e.g. without a prompt, or without a duplicate."""
    failed: int


class FilterFailure(Record):
    """An image that a rule could not look at; it is kept."""

    image: str
    rule: str
    reason: str
    message: str


class FilterReport(Record):
    """What a filter did."""

    dry_run: bool
    images: int
    """Images that it decided about: those that nothing else dropped."""
    dropped: int
    kept: int
    opened: int
    """Images opened for it; 0 when all measures were there."""
    elsewhere: dict[str, int]
    """Images dropped by other rules, which this filter leaves alone; by rule."""
    rules: tuple[RuleReport, ...]
    failed: dict[str, int]
    """Images that some rule could not look at, by reason; they are kept."""
    failures: tuple[FilterFailure, ...]
    """The first of them."""
