"""The report of a scoring: figures, plots, and every image with truth and prediction side by side, worst first.

`report.html` itself stays small; the images lie in `report/scores/` as scripts that the page loads when they are looked
at, since a page opened from the file system may load scripts but not read files. Whatever comes from a file is escaped.

    build_score_report(Path("scores"))    # PosixPath('scores/report.html')
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from anomreason.anomaly import Anomaly
from anomreason.errors import UsageError
from anomreason.evaluation.notices import eval_notices
from anomreason.evaluation.records import (
    EvalResult,
    ImageMatches,
    Matches,
    ScoreAxes,
    SeverityCalibration,
    phenomenon_share,
    read_result,
)
from anomreason.files import write_atomically
from anomreason.metrics.image_scores import PROFILES
from anomreason.report.figures import Group, Level, Mark, against_threshold, bars, diagonal, strip
from anomreason.report.html import FAILURES, json_script, templates

CHUNK = 100
"""Images in one script."""
LONGEST_TEXT = 2_000
"""Characters of a text that are shown; the rest stays in matches.jsonl."""
MOST_SHOWN = 100
"""Anomalies of one side of an image that are shown; the rest stays in matches.jsonl."""

_ASSETS = ("report.css", "scores.css", "scores.js")


class Index:
    """What the page needs of all images at once: the name of each and a few numbers."""

    def __init__(self, axes: ScoreAxes) -> None:
        self.axes = axes
        self.images: list[str] = []
        self.failures: list[str | None] = []
        self.predictions, self.truths = array("q"), array("q")
        self.scores = [array("H") for _ in range(len(axes.pairs) * 2)]
        """10,000 x each score: by profile, view, then SemAP and SemF1."""

    def add(self, image: ImageMatches) -> None:
        self.images.append(image.image)
        self.failures.append(image.failure)
        self.predictions.append(len(image.predictions))
        self.truths.append(len(image.truths))
        both = [image.scores[profile][view] for profile, view in self.axes.pairs]
        scores = [score for one in both for score in (one.semap, one.semf1)]
        for column, score in zip(self.scores, scores, strict=True):
            column.append(round(10_000 * score))

    def worst_first(self) -> list[int]:
        """Places of the images: lowest SemAP in the view shown first, answered before failed, most anomalies."""
        scores = self.scores[self.axes.pairs.index(_first_shown(self.axes)) * 2]

        def key(place: int) -> tuple[int, bool, int, str]:
            size = self.predictions[place] + self.truths[place]
            return scores[place], self.failures[place] is not None, -size, self.images[place]

        return sorted(range(len(self.images)), key=key)

    def columns(self, order: Sequence[int]) -> list[list[Any]]:
        """Image, failure, predictions, truths, then `scores`."""
        columns: tuple[Sequence[Any], ...] = (self.images, self.failures, self.predictions, self.truths, *self.scores)
        return [[column[place] for place in order] for column in columns]


def build_score_report(out: Path) -> Path:
    """Write `report.html` and `report/` into `out`, from `metrics.json` and `matches.jsonl` there; gives the path.

    Everything is read before anything is written, and the page is replaced last. UsageError when a file is missing or
    not what `eval` writes.
    """
    metrics = read_result(out / "metrics.json", EvalResult)
    with Matches(out) as matches:
        index = Index(metrics.axes)
        for image in matches:
            index.add(image)
        if len(index.images) != metrics.n:
            raise UsageError(
                f"{out / 'metrics.json'} is of {metrics.n:,} images and {out / 'matches.jsonl'} of "
                f"{len(index.images):,}; write both anew with `eval`"
            )
        page = _page(metrics.name or Path(os.path.abspath(out)).name, metrics, index)
        order = index.worst_first()
        data = out / "report" / "scores"
        data.mkdir(parents=True, exist_ok=True)
        for name in _ASSETS:
            write_atomically(out / "report" / name, (files(__package__) / "templates" / name).read_text("utf-8"))
        _write_images(data, matches, order, metrics.axes)
    write_atomically(data / "index.js", _call("index", index.columns(order)))
    write_atomically(out / "report.html", page)
    return out / "report.html"


def _write_images(data: Path, matches: Matches, order: Sequence[int], axes: ScoreAxes) -> None:
    """The scripts 0.js, 1.js, ...; those of an earlier and longer report go."""
    count = -(-len(order) // CHUNK)
    for number in range(count):
        rows = [_image(matches[place], axes) for place in order[number * CHUNK : (number + 1) * CHUNK]]
        write_atomically(data / f"{number}.js", _call("chunk", number, rows))
    for old in data.glob("*.js"):
        if old.stem.isdecimal() and int(old.stem) >= count:
            old.unlink()


def _call(name: str, *arguments: Any) -> str:
    """A script that hands plain values to the page. Lists only, as keys from files could name parts of JavaScript."""
    return f"anomreasonScores.{name}({','.join(json.dumps(a, separators=(',', ':')) for a in arguments)});\n"


def _image(image: ImageMatches, axes: ScoreAxes) -> list[Any]:
    """[predictions, truths, pairs, matched pairs by cell]; a pair is [p, t, phe, rea, cells, why]."""
    found = [0] * len(axes.cells)
    pairs = []
    for pair in image.pairs:
        cells = pair.cells(axes)
        for cell in cells:
            found[cell] += 1
        if pair.p < MOST_SHOWN and pair.t < MOST_SHOWN:
            pairs.append([pair.p, pair.t, pair.phe, pair.rea, cells, pair.why[:LONGEST_TEXT]])
    return [_anomalies(image.predictions), _anomalies(image.truths), pairs, found]


def _anomalies(side: Sequence[Anomaly]) -> list[list[Any]]:
    return [[_cut(a.name), _cut(a.phenomenon), _cut(a.reasoning), a.severity] for a in side[:MOST_SHOWN]]


def _cut(text: str) -> str:
    left = len(text) - LONGEST_TEXT
    return text if left <= 0 else f"{text[:LONGEST_TEXT]} … ({left:,} more characters in matches.jsonl)"


def _page(title: str, metrics: EvalResult, index: Index) -> str:
    axes = metrics.axes
    kinds = {kind: FAILURES.get(kind, (kind.replace("_", " "), ""))[0] for kind in metrics.failures}
    setup = {
        "profiles": axes.profiles,
        "views": [[view, phenomenon_share(view)] for view in axes.views],
        "thresholds": [f"{threshold:.10g}" for threshold in axes.thresholds],
        "chunk": CHUNK,
        "most": MOST_SHOWN,
        "files": -(-metrics.n // CHUNK),
        "failures": list(kinds.items()),
    }
    return (
        templates()
        .get_template("scores.html")
        .render(
            title=title,
            simulated=metrics.simulated,
            metrics=metrics,
            axes=axes,
            shown=_first_shown(axes),
            descriptions=PROFILES,
            notices=eval_notices(metrics),
            kinds=kinds,
            sides=(sum(index.predictions), sum(index.truths)),
            plots={(profile, view): _plots(metrics, profile, view) for profile, view in axes.pairs},
            severity={p: {t: _severity(c, p) for t, c in found.items()} for p, found in metrics.severity.items()},
            strip=strip,
            setup=json_script(setup),
        )
    )


def _first_shown(axes: ScoreAxes) -> tuple[str, str]:
    """The profile and view that the page opens with: the first profile, and `full` where it was scored."""
    return axes.profiles[0], "full" if "full" in axes.views else axes.views[0]


def _plots(metrics: EvalResult, profile: str, view: str) -> dict[str, Markup]:
    """Those of one profile and view."""
    where = f"{profile}, {view}"
    name = "precision" if profile == "release" else "average precision"
    return {
        "ap": against_threshold(_levels(metrics, profile, view, "ap"), name, f"{name} by threshold, {where}"),
        "f1": against_threshold(_levels(metrics, profile, view, "f1"), "F1", f"F1 by threshold, {where}"),
        "number": _by_number(metrics, profile, view),
    }


def _levels(metrics: EvalResult, profile: str, view: str, metric: str) -> list[Level]:
    figures = metrics.shown(profile, view)
    ceilings = metrics.ceiling.profiles.get(profile, {}).get(view) if metrics.ceiling else None
    found = []
    for key, row in figures.thresholds.items():
        spread = getattr(figures.chance.thresholds[key], metric) if figures.chance else None
        ceiling = ceilings.thresholds.get(key) if ceilings else None
        level = Level(
            at=key,
            value=getattr(row, metric),
            chance=spread.mean if spread else None,
            band=(spread.low, spread.high) if spread else None,
            ceiling=getattr(ceiling, metric) if ceiling else None,
            saturated=row.saturated,
        )
        found.append(level)
    return sorted(found, key=lambda level: level.at)


def _by_number(metrics: EvalResult, profile: str, view: str) -> Markup:
    """Mean scores of the images that have 0, 1, ... true anomalies."""
    groups = []
    for group in metrics.by_truths:
        scores = group.profiles[profile][view]
        marks = [
            Mark(score.value, f"{group.images:,} images", score.interval) if score.value is not None else None
            for score in (scores.semap, scores.semf1)
        ]
        label = f"{group.least}+" if group.most is None else str(group.least)
        groups.append(Group(label, _short(group.images), marks))
    title = f"score by number of true anomalies, {profile}, {view}"
    return bars(groups, ("SemAP", "SemF1"), title, "true anomalies", "mean score")


def _severity(calibration: SeverityCalibration, profile: str) -> dict[str, Any]:
    """Plots for one profile and threshold: what share of each severity was matched, and how bad the truths are."""
    groups, points = [], []
    for each in calibration.bins:
        rests_on = f"{each.matched:,} of {each.predictions:,} predictions"
        mark = Mark(each.matched / each.predictions, rests_on) if each.predictions else None
        groups.append(Group(f"{each.least:g}", _short(each.predictions), [mark]))
        if each.mean_true_severity is not None:
            points.append(((each.least + each.most) / 2, each.mean_true_severity, each.matched))
    below = "predicted severity"
    return {
        "matched": bars(groups, ("matched",), f"share matched by severity, {profile}", below, "share matched"),
        "truth": diagonal(points, f"true by predicted severity, {profile}", below, "true severity"),
        "apart": calibration.mean_absolute_difference,
        "pairs": calibration.pairs,
    }


def _short(n: int) -> str:
    """A number in up to five characters."""
    return f"{n:,}" if n < 10_000 else f"{n / 1000:.0f}k"
