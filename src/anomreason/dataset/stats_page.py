"""The statistics of a dataset as one HTML page that loads nothing else.

    write_atomically(Path("stats.html"), stats_page(stats(store), "data"))

Names of sources, kinds, detectors and people come from files and models; all are escaped.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from anomreason.dataset.stats import BINS, Acceptance, DatasetStats, SourceStats
from anomreason.dataset.words import STEP, TextLengths, WordCounts
from anomreason.report.figures import Group, Mark, bars, strip
from anomreason.report.html import templates
from anomreason.stats import Estimate

SHOWN = 8
"""Sources in a plot; the tables have all."""
LABEL = 14
"""Characters of a source's name under its bars."""
ROWS = 30
"""Rows of a table of acceptance; how many there are more is told."""
BOTH = ("before review", "after review")
DIRECTION = "severity (0 = completely implausible, 100 = fully realistic)"


def stats_page(found: DatasetStats, title: str) -> str:
    """title: the dataset's name."""
    largest = sorted(found.sources, key=lambda source: (-source.kept, source.name))
    annotated = [source for source in largest if source.annotated][:SHOWN]
    parts = {"role": found.by_role, "kind": found.by_kind, "detector": found.by_detector}
    return (
        templates()
        .get_template("dataset.html")
        .render(
            title=title,
            found=found,
            largest=largest,
            images=_images(largest[:SHOWN]),
            anomalies=_anomalies(annotated),
            severity=_severity(found),
            parts={name: (rows[:ROWS], len(rows) - ROWS) for name, rows in parts.items()},
            lengths=_both_lengths(found.words) if found.words else {},
            strip=_strip,
            together=_together(found),
            both=BOTH,
            direction=DIRECTION,
        )
    )


def _images(sources: Sequence[SourceStats]) -> Markup:
    groups = [Group(_short(s.name), s.kind, [Mark(s.kept, f"{s.dropped:,} more dropped")]) for s in sources]
    return bars(groups, ("kept",), "Kept images by source", "source", "images")


def _anomalies(sources: Sequence[SourceStats]) -> Markup:
    groups = [
        Group(
            _short(s.name),
            f"{s.reviewed:,} of {s.annotated:,}",
            [_mark(s.before, "annotated images"), _mark(s.after, "reviewed images")],
        )
        for s in sources
    ]
    return bars(
        groups, BOTH, "Anomalies an image by source", "source (reviewed of annotated images)", "anomalies an image"
    )


def _mark(estimate: Estimate, what: str) -> Mark | None:
    return None if estimate.value is None else Mark(estimate.value, f"{estimate.n:,} {what}", estimate.interval)


def _severity(found: DatasetStats) -> Markup:
    severity = found.severity
    totals = [sum(counts) for counts in (severity.before, severity.after)]
    groups = []
    for place, both in enumerate(zip(severity.before, severity.after, strict=True)):
        marks = [
            Mark(count / total, f"{count:,} of {total:,}") if total else None
            for count, total in zip(both, totals, strict=True)
        ]
        groups.append(Group(f"{place * 100 // BINS}", "", marks))
    return bars(groups, BOTH, "Severity before and after review", DIRECTION, "share of anomalies")


def _both_lengths(found: WordCounts) -> dict[str, Markup]:
    both = {"phenomenon": found.phenomenon, "reasoning": found.reasoning}
    return {name: _lengths(name, lengths, found.texts) for name, lengths in both.items()}


def _lengths(name: str, lengths: TextLengths, texts: int) -> Markup:
    longest = max(lengths.histogram, default=0)
    last = min(longest, 19 * STEP)
    groups = []
    for start in range(0, last + 1, STEP):
        count = sum(n for at, n in lengths.histogram.items() if (at >= last if start == last else at == start))
        label = f"{start}+" if start == last and longest > last else f"{start}"
        groups.append(Group(label, "", [Mark(count / texts, f"{count:,} of {texts:,}")]))
    return bars(groups, ("texts",), f"Words in the {name}", "words", "share of anomalies")


def _strip(row: Acceptance) -> Markup:
    return Markup("") if row.acceptance is None else strip(row.acceptance, row.interval, None, None)


def _together(found: DatasetStats) -> list[tuple[str, list[tuple[int, float] | None]]]:
    """A row a kind: for each kind, images that have both, and which share that is of those with the row's kind."""
    images = {(pair.one, pair.other): pair.images for pair in found.pairs}
    names = [name for name, count in sorted(found.kinds.items(), key=lambda item: -item[1]) if count]
    rows = []
    for one in names:
        cells: list[tuple[int, float] | None] = []
        for other in names:
            both = images.get((one, other), images.get((other, one), 0))
            cells.append(None if one == other else (both, both / found.kinds[one]))
        rows.append((one, cells))
    return rows


def _short(name: str) -> str:
    return name if len(name) <= LABEL else f"{name[: LABEL - 1]}…"
