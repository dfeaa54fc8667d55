"""From per-image scores to figures: means, pooled counts, intervals, chance, failures both ways.

Knows nothing of how pairs were found. Arrays have the axes (images, profiles, views, thresholds), as the settings
list them. A failed image has zeros in all of them: scored zero it is one of n, dropped it is not, and that is all the
difference there is. Used by `semantic.SemanticScorer.result` and by `chance.ChanceScorer`:

    figures = SemanticScorer().result(rng).profiles["paper"]["full"].zero
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from anomreason.metrics.image_scores import Profile, SemanticSettings
from anomreason.metrics.matching import Scores, precision_recall_f1
from anomreason.stats import Interval, interval_of, resampled_sums

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Place = tuple[int, int]
"""Index of a profile and of a view."""
Saturated = Literal["nothing", "everything"]

SATURATED = 0.02
"""A threshold is saturated when less than this share, or more than 1 - this share, of the possible pairs matched."""
FEWEST_PAIRS = 20
"""Possible pairs below which no threshold is called saturated: in a few, all or none match easily."""


@dataclass(frozen=True, slots=True)
class Table:
    """What all images got, sorted by image, so that the order in which they came makes no difference."""

    images: tuple[str, ...]
    answered: npt.NDArray[np.bool_]
    """(images,): False where the image failed."""
    predictions: Counts
    """(images,): 0 where the image failed."""
    truths: Counts
    """(images,)."""
    tp: Counts
    """(images, profiles, views, thresholds)."""
    ap: Floats
    """Same axes, 0..1: average precision, or precision in the profile `release`."""

    @property
    def precision(self) -> Floats:
        return _share(self.tp, self.predictions, self._none)

    @property
    def recall(self) -> Floats:
        return _share(self.tp, self.truths, self._none)

    @property
    def f1(self) -> Floats:
        return _share(2 * self.tp, self.predictions + self.truths, self._none)

    @property
    def _none(self) -> npt.NDArray[np.bool_]:
        """(images,): nothing there and nothing said."""
        none: npt.NDArray[np.bool_] = self.answered & (self.predictions == 0) & (self.truths == 0)
        return none


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over images; all that a figure needs but its interval."""

    n: int
    failed: int
    """Of n; they have truths and got nothing."""
    predictions: int
    truths: int
    possible: int
    """Pairs that one-to-one matching could have found: the smaller of the two numbers, summed over images."""
    tp: Counts
    """(profiles, views, thresholds)."""
    macro: Floats
    """(precision, recall, ap, f1; profiles, views, thresholds), summed over images."""

    @classmethod
    def of(cls, table: Table) -> Totals:
        """Of the images that were answered."""
        return cls(
            n=int(table.answered.sum()),
            failed=0,
            predictions=int(table.predictions.sum()),
            truths=int(table.truths[table.answered].sum()),
            possible=int(np.minimum(table.predictions, table.truths).sum()),
            tp=table.tp.sum(axis=0),
            macro=np.stack([table.precision, table.recall, table.ap, table.f1]).sum(axis=1),
        )

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def with_failed(self, failed: int, truths: int) -> Totals:
        """The same with so many failed images, which have so many truths."""
        return replace(self, n=self.n + failed, failed=failed, truths=self.truths + truths)

    def overall(self, at: Place) -> dict[str, float]:
        """The figures of one profile and view that have an interval and a chance level."""
        _, _, ap, f1 = self.macro[:, *at]
        micro = self.micro(self.tp[at])
        return {
            "semap": float(ap.mean()) / self.n,
            "semf1": float(f1.mean()) / self.n,
            **{f"micro_{name}": value for name, value in micro._asdict().items()},
        }

    def micro(self, tp: Counts) -> Scores:
        """Scores of counts pooled over images, and over the thresholds that `tp` (thresholds,) stands for."""
        if self.failed and not self.predictions and not self.truths:
            return Scores(0.0, 0.0, 0.0)
        return precision_recall_f1(int(tp.sum()), len(tp) * self.predictions, len(tp) * self.truths)


@dataclass(frozen=True, slots=True)
class Row:
    """One threshold. Counts are pooled over images, and so is `micro`; the rest are means over images (macro)."""

    tp: int
    fp: int
    fn: int
    precision: float
    recall: float
    ap: float
    """Average precision (`paper`), or precision (`release`)."""
    f1: float
    micro: Scores
    possible: int
    """Pairs that one-to-one matching of the answered images could find."""
    matched: float | None
    """tp over `possible`; None when that is 0."""

    @property
    def saturated(self) -> Saturated | None:
        """Nearly nothing or nearly everything matches here, so that the threshold hardly tells detectors apart."""
        if self.matched is None or self.possible < FEWEST_PAIRS or SATURATED <= self.matched <= 1 - SATURATED:
            return None
        return "nothing" if self.matched < SATURATED else "everything"

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "micro": self.micro._asdict(), "saturated": self.saturated}


class Spread(NamedTuple):
    """Over shuffles."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Chance:
    """What the same predictions get on other images."""

    repeats: int
    overall: dict[str, Spread]
    """By name, as in `Figures.intervals`."""
    ap: dict[float, Spread]
    """By threshold."""
    f1: dict[float, Spread]
    """By threshold."""

    def as_json(self) -> dict[str, Any]:
        rows = {_key(t): {"ap": self.ap[t]._asdict(), "f1": self.f1[t]._asdict()} for t in self.ap}
        overall = {name: spread.mean for name, spread in self.overall.items()}
        band = {name: [spread.low, spread.high] for name, spread in self.overall.items()}
        return {"repeats": self.repeats, **overall, "band": band, "thresholds": rows}


@dataclass(frozen=True, slots=True)
class Figures:
    """One profile and view, with failed images either scored zero or dropped."""

    n: int
    """Images that the means are over."""
    semap: float
    """Macro: mean over thresholds and images, 0..1. In the profile `release` it is precision."""
    semf1: float
    """Macro."""
    micro: Scores
    """Pooled over images. Thresholds have the same predictions and truths, so pooling these too is their mean."""
    intervals: dict[str, Interval | None]
    """95 % bootstrap over images: semap, semf1, micro_precision, micro_recall, micro_f1; None below two images."""
    thresholds: dict[float, Row]
    chance: Chance | None
    """None when it was not asked for, or there is only one image."""

    def as_json(self) -> dict[str, Any]:
        return {
            "n": self.n,
            "semap": self.semap,
            "semf1": self.semf1,
            "micro": self.micro._asdict(),
            "chance": self.chance.as_json() if self.chance else None,
            "interval": {name: list(ends) if ends else None for name, ends in self.intervals.items()},
            "thresholds": {_key(threshold): row.as_json() for threshold, row in self.thresholds.items()},
        }


@dataclass(frozen=True, slots=True)
class ViewScore:
    """One profile and view."""

    zero: Figures
    """Over all images: a failed one scores zero."""
    dropped: Figures | None
    """Over the images that were answered; None when there is none."""

    def as_json(self) -> dict[str, Any]:
        return {**self.zero.as_json(), "dropped": self.dropped.as_json() if self.dropped else None}


@dataclass(frozen=True, slots=True)
class SemanticResult:
    """All figures of one set of predictions."""

    settings: SemanticSettings
    n: int
    """Images, failed ones included."""
    failures: dict[str, int]
    """Images without an answer, by kind."""
    both_empty: int
    """Answered images with neither predictions nor truths; they score 1."""
    one_empty: int
    """Answered images with only predictions or only truths; they score 0."""
    profiles: dict[Profile, dict[str, ViewScore]]

    def as_json(self) -> dict[str, Any]:
        """Plain values: what `metrics.json` holds, but for the signature."""
        return {
            "n": self.n,
            "failures": self.failures,
            "both_empty": self.both_empty,
            "one_empty": self.one_empty,
            "profiles": {p: {v: s.as_json() for v, s in views.items()} for p, views in self.profiles.items()},
        }


def summarise(
    table: Table,
    failures: dict[str, int],
    settings: SemanticSettings,
    rng: np.random.Generator,
    shuffled: Sequence[Totals],
) -> SemanticResult:
    """All figures of a table with at least one image; `shuffled`: totals of the answered images, one a shuffle."""
    answered, failed = Totals.of(table), (int((~table.answered).sum()), int(table.truths[~table.answered].sum()))
    intervals = _intervals(table, rng)
    empty = (table.predictions == 0).astype(int) + (table.truths == 0)

    def figures(at: Place, *, zero: bool) -> Figures:
        those = [totals.with_failed(*failed) if zero else totals for totals in (answered, *shuffled)]
        return _figures(those[0], at, settings.thresholds, intervals[zero][at], those[1:])

    def view(at: Place) -> ViewScore:
        return ViewScore(figures(at, zero=True), figures(at, zero=False) if answered.n else None)

    return SemanticResult(
        settings,
        n=len(table.images),
        failures=failures,
        both_empty=int((empty[table.answered] == 2).sum()),
        one_empty=int((empty[table.answered] == 1).sum()),
        profiles={
            profile: {name: view((p, v)) for v, name in enumerate(settings.views)}
            for p, profile in enumerate(settings.profiles)
        },
    )


def _figures(
    totals: Totals,
    at: Place,
    thresholds: Sequence[float],
    intervals: dict[str, Interval | None],
    shuffled: Sequence[Totals],
) -> Figures:
    overall = totals.overall(at)
    return Figures(
        n=totals.n,
        semap=overall["semap"],
        semf1=overall["semf1"],
        micro=totals.micro(totals.tp[at]),
        intervals=intervals,
        thresholds={threshold: _row(totals, (*at, place)) for place, threshold in enumerate(thresholds)},
        chance=_chance(shuffled, at, thresholds) if shuffled else None,
    )


def _row(totals: Totals, cell: tuple[int, int, int]) -> Row:
    tp = int(totals.tp[cell])
    precision, recall, ap, f1 = (float(total) / totals.n for total in totals.macro[:, *cell])
    micro = totals.micro(totals.tp[cell].reshape(1))
    matched = tp / totals.possible if totals.possible else None
    false, missed = totals.predictions - tp, totals.truths - tp
    return Row(tp, false, missed, precision, recall, ap, f1, micro, totals.possible, matched)


def _chance(shuffled: Sequence[Totals], at: Place, thresholds: Sequence[float]) -> Chance:
    each = [totals.overall(at) for totals in shuffled]
    macro = np.stack([totals.macro[:, *at] / totals.n for totals in shuffled])
    return Chance(
        repeats=len(shuffled),
        overall={name: _spread([one[name] for one in each]) for name in each[0]},
        ap={threshold: _spread(macro[:, 2, place]) for place, threshold in enumerate(thresholds)},
        f1={threshold: _spread(macro[:, 3, place]) for place, threshold in enumerate(thresholds)},
    )


def _spread(values: npt.ArrayLike) -> Spread:
    found = np.asarray(values, dtype=np.float64)
    return Spread(float(found.mean()), float(found.min()), float(found.max()))


def _intervals(table: Table, rng: np.random.Generator) -> dict[bool, dict[Place, dict[str, Interval | None]]]:
    """Keyed by "failed images score zero?", then by profile and view. One draw of images serves every figure.

    Failed images are drawn even where they are dropped: how many answers there are is chance, too.
    """
    n, (profiles, views) = len(table.images), table.tp.shape[1:3]
    macro = np.stack([table.ap.mean(axis=-1), table.f1.mean(axis=-1), table.tp.mean(axis=-1)], axis=1)
    sizes = [table.predictions, table.truths, table.truths * table.answered, table.answered]
    sums = resampled_sums(np.hstack([macro.reshape(n, -1), np.stack(sizes, axis=1)]), rng)
    drawn = sums[:, :-4].reshape(len(sums), 3, profiles, views)
    predictions, truths, answered_truths, answered = sums[:, -4:].T
    found: dict[bool, dict[Place, dict[str, Interval | None]]] = {True: {}, False: {}}
    for zero, count, there in (True, np.full(len(sums), n), truths), (False, answered, answered_truths):
        # Too few images show no spread; a resample without any answered image has no mean.
        usable = (n if zero else int(table.answered.sum())) > 1
        count = np.where(count > 0, count, np.nan)
        none = (predictions == 0) & (there == 0) & (count == answered)
        for at in product(range(profiles), range(views)):
            semap, semf1, tp = drawn[:, :, *at].T
            samples = {
                "semap": semap / count,
                "semf1": semf1 / count,
                "micro_precision": _share(tp, predictions, none),
                "micro_recall": _share(tp, there, none),
                "micro_f1": _share(2 * tp, predictions + there, none),
            }
            found[zero][at] = {name: interval_of(each) if usable else None for name, each in samples.items()}
    return found


def _share(part: npt.NDArray[Any], whole: npt.NDArray[Any], none: npt.NDArray[np.bool_]) -> Floats:
    """part / whole along the first axis: 1 where there was nothing to find and nothing said, 0 where only one was."""
    along = (-1, *(1,) * (part.ndim - 1))
    share: Floats = part / np.maximum(whole, 1).reshape(along) + none.reshape(along)
    return share


def _key(threshold: float) -> str:
    return f"{threshold:.10g}"
