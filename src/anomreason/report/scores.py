"""The reports of `eval` and `eval --exact`: figures, plots, and every image with truth and prediction, worst first.

`report.html` of `eval` stays small; its images lie in `report/scores/` as scripts that the page loads when they are
looked at, since a page opened from the file system may load scripts but not read files. Whatever comes from a file is
escaped.

    build_score_report(Path("scores"))    # PosixPath('scores/report.html')
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from markupsafe import Markup

from anomreason.anomaly import Anomaly
from anomreason.english import counted
from anomreason.errors import UsageError
from anomreason.evaluation.notices import eval_notices, exact_notices
from anomreason.evaluation.records import (
    EvalResult,
    ExactResult,
    ImageMatches,
    Matches,
    ScoreAxes,
    SeverityCalibration,
    phenomenon_share,
    read_result,
)
from anomreason.files import write_atomically
from anomreason.metrics.exact import SceneOutcome
from anomreason.metrics.image_scores import PROFILES
from anomreason.report.figures import Group, Level, Mark, against_threshold, bars, diagonal, strip
from anomreason.report.html import FAILURES, json_script, templates
from anomreason.stats import Estimate

CHUNK = 100
"""Images in one script."""
LONGEST_TEXT = 2_000
"""Characters of a text that are shown; the rest stays in matches.jsonl."""
MOST_SHOWN = 100
"""Anomalies of one side of an image that are shown; the rest stays in matches.jsonl."""

_STYLES = ("report.css", "scores.css")


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
        _copy(out, *_STYLES, "scores.js")
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
            notices=list(eval_notices(metrics)),
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
            Mark(score.value, counted(group.images, "image", "images"), score.interval)
            if score.value is not None
            else None
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


def _copy(out: Path, *names: str) -> None:
    """Style sheets and scripts, into the report's folder."""
    for name in names:
        write_atomically(out / "report" / name, (files(__package__) / "templates" / name).read_text("utf-8"))


class NumberRow(NamedTuple):
    """One number of the table."""

    name: str
    estimate: Estimate
    meaning: str


def number_rows(result: ExactResult) -> list[NumberRow]:
    """The overall numbers with what each is a share or mean of; the terminal shows the same ones."""
    twins = result.twin_test
    return [
        NumberRow("recall", result.recall, "planted anomalies that were found"),
        NumberRow("precision", result.precision, "predictions that found one"),
        NumberRow("twin test", twins.passed, "pairs: reported on the scene and not on its twin without it"),
        NumberRow("  on the scene", twins.on_scene, "pairs: reported where it is"),
        NumberRow("  on the twin", twins.on_twin, "pairs: reported where it is not"),
        NumberRow("false anomalies", result.false_anomalies, "per answered scene"),
        NumberRow("  on clean ones", result.false_on_clean, "per answered scene without anomalies"),
        NumberRow("  on the others", result.false_on_anomalous, "per answered scene with anomalies"),
        NumberRow("clean with false", result.clean_with_false, "share of clean scenes with any prediction"),
        NumberRow("localisation IoU", result.localisation, "mean over what was found with a region"),
        NumberRow("severity error", result.severity_error, "mean distance from the rubric, points of 100"),
        NumberRow("severity bias", result.severity_bias, "the same signed; above 0: rated more plausible"),
    ]


def build_exact_report(out: Path) -> Path:
    """Write `report.html` and its style sheets into `out`, from `exact.json` there; gives the path.

    Images are shown from the folder of the scenes, by a relative path. UsageError when the file is missing or damaged.
    """
    result = read_result(out / "exact.json", ExactResult)
    truth = Path(result.truth)
    scenes = os.path.relpath(truth.parent if truth.is_file() else truth, out)
    page = (
        templates()
        .get_template("exact.html")
        .render(
            result=result,
            simulated=result.simulated,
            rows=number_rows(result),
            notices=exact_notices(result),
            images=sorted(result.images, key=_worst_first),
            address=lambda image: quote(Path(scenes, image).as_posix()),
        )
    )
    (out / "report").mkdir(parents=True, exist_ok=True)
    _copy(out, *_STYLES)
    write_atomically(out / "report.html", page)
    return out / "report.html"


def _worst_first(scene: SceneOutcome) -> tuple[int, bool, str]:
    """Most errors first; scenes without an answer after answered ones with as many."""
    return -(len(scene.planted) - scene.hits + scene.false), scene.failure is not None, scene.image
