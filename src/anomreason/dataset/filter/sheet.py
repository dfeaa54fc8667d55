"""The contact sheet of a dry run: the images on both sides of each threshold, so that a person sets it by looking.

    write_sheet(Path("data/filter.html"), report, cases, measurer)

One page that loads no other file. Whatever comes from file names is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anomreason.dataset.filter.measuring import ImageMeasurer
from anomreason.dataset.filter.pool import Mask
from anomreason.dataset.filter.records import FilterReport
from anomreason.dataset.filter.rules import Bar, Rule
from anomreason.dataset.filter.scoring import RuleScores
from anomreason.errors import UnreadableImage
from anomreason.files import write_atomically
from anomreason.images import thumbnail
from anomreason.report.html import templates

EACH_SIDE = 12
"""Images on each side of a threshold."""
_SIDE = 176
"""Pixels of a thumbnail."""
_BINS = 40


@dataclass(frozen=True)
class Case:
    """An image near a threshold."""

    place: int
    score: float
    partner: int | None
    """The image that it is compared with, for a rule about duplicates."""


@dataclass(frozen=True)
class BorderSide:
    """The images on one side of a threshold that are nearest to it, by score."""

    dropped: bool
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Border:
    """Both sides of one threshold, the lower scores first; or what is dropped, where a score is yes or no."""

    bar: Bar | None
    sides: tuple[BorderSide, ...]


@dataclass(frozen=True)
class BorderCases:
    """What the sheet shows of one rule."""

    name: str
    meaning: str
    borders: tuple[Border, ...]
    counts: tuple[int, ...]
    """Images by score, from the lowest score to the highest; empty when all have one score."""
    low: float
    high: float


def border_cases(name: str, rule: Rule, scores: RuleScores, looked: Mask) -> BorderCases:
    """Pick the images to show; looked: those that may be."""
    known = looked & ~np.isnan(scores.score)
    values = scores.score[known]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    counts = np.histogram(values, _BINS, (low, high))[0].tolist() if high > low else []
    borders = []
    for bar in rule.bars:
        beyond = scores.score < bar.value if bar.side == "below" else scores.score >= bar.value
        sides = [
            BorderSide(drops, _nearest(scores, known & (scores.drop == drops) & (beyond | (not drops)), bar.value))
            for drops in (True, False)
        ]
        borders.append(Border(bar, tuple(sides if bar.side == "below" else reversed(sides))))
    if not rule.bars:
        borders.append(Border(None, (BorderSide(True, _nearest(scores, looked & scores.drop, 0.0)),)))
    return BorderCases(name, rule.meaning, tuple(borders), tuple(counts), low, high)


def _nearest(scores: RuleScores, among: Mask, value: float) -> tuple[Case, ...]:
    places = np.flatnonzero(among)
    nearest = places[np.argsort(np.abs(scores.score[places] - value), kind="stable")[:EACH_SIDE]]
    by_score = nearest[np.argsort(scores.score[nearest], kind="stable")]
    partners = scores.clusters.nearest if scores.clusters else np.full(len(scores.score), -1)
    return tuple(
        Case(int(place), float(scores.score[place]), int(partners[place]) if partners[place] >= 0 else None)
        for place in by_score
    )


def write_sheet(path: Path, report: FilterReport, cases: Sequence[BorderCases], measurer: ImageMeasurer) -> None:
    """Write the page. Raises StorageError."""
    shown = [case for rule in cases for border in rule.borders for side in border.sides for case in side.cases]
    places = sorted({case.place for case in shown} | {case.partner for case in shown if case.partner is not None})
    files = measurer.files(np.array(places, np.int64))
    page = (
        templates()
        .get_template("filter.html")
        .render(
            report=report,
            dataset=measurer.store.folder.resolve().name,
            rules=list(zip(report.rules, cases, strict=True)),
            thumbs={place: _thumb(file) for place, file, _ in files},
            names={place: file.name for place, file, _ in files},
        )
    )
    write_atomically(path, page)


def _thumb(file: Path) -> str | None:
    """Address of the thumbnail, which holds it."""
    try:
        return "data:image/jpeg;base64," + base64.b64encode(thumbnail(file, _SIDE)).decode("ascii")
    except UnreadableImage:
        return None
