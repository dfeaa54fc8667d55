"""SemAP and SemF1 over images that are added one by one, and two detectors compared on the same images.

Takes similarities, (predictions, truths) arrays in -1..1, and keeps some thirty numbers an image.
`image_scores.PROFILES` says what the profiles mean, `chance` what the chance level is. A failed image has zeros
everywhere: scored zero it is one of n, dropped it is not. Arrays have the axes (images, profiles, views, thresholds).

    >>> scorer = SemanticScorer()
    >>> scorer.add("a.png", [[0.95, 0.4]], [[0.85, 0.4]], severities=[20])
    >>> scorer.add_failure("b.png", "refused", truths=3)
    >>> view = scorer.result(np.random.default_rng(0)).profiles["paper"]["phe"]
    >>> view.semap, view.dropped.semap
    (0.25, 0.5)
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Annotated, Any, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field, PlainSerializer, computed_field

from anomreason.anomaly import Result
from anomreason.errors import UsageError
from anomreason.metrics.image_scores import ImageScores, SemanticSettings, score_image
from anomreason.metrics.matching import Scores, precision_recall_f1, rank
from anomreason.stats import Floats, Interval, interval_of, of_scores, resampled_sums, sign_flip_ps, wide

Counts = npt.NDArray[np.int64]
Place = tuple[int, int]
"""Index of a profile and of a view."""
Failures = Literal["zero", "drop"]
Saturated = Literal["nothing", "everything"]
T = TypeVar("T")

MISSING = "missing"
"""Kind of failure of an image that the predictions do not have."""
NOT_ASSESSED = "not_assessed"
"""Kind of failure of an image that the predictions have, but without a list of anomalies, not even an empty one."""
SATURATED = 0.02
"""A threshold is saturated when less than this share, or more than 1 - this share, of the possible pairs matched."""
FEWEST_PAIRS = 20
"""Possible pairs below which no threshold is called saturated: in a few, all or none match easily."""

Share = Annotated[float, Field(ge=0, le=1)]
Pooled = Annotated[
    Scores,
    BeforeValidator(lambda value: Scores(**value) if isinstance(value, dict) else value),
    PlainSerializer(lambda value: value._asdict()),
]
"""Scores of counts pooled over images (micro); an object in JSON."""


class BothScores(Result, Generic[T]):
    """One value for SemAP, one for SemF1."""

    semap: T
    semf1: T


class ViewFigures(BothScores[T], Generic[T]):
    """One value for each figure of a profile and view that has an interval and a chance level."""

    micro_precision: T
    micro_recall: T
    micro_f1: T


class ThresholdScores(Result):
    """One threshold. Counts are pooled over images, and so is `micro`; the rest are means over images (macro)."""

    tp: int
    fp: int
    fn: int
    precision: Share
    recall: Share
    ap: Share
    """Average precision (`paper`), or precision (`release`)."""
    f1: Share
    micro: Pooled
    possible: int
    """Pairs that one-to-one matching of the answered images could find."""
    matched: float | None
    """tp over `possible`; None when that is 0."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def saturated(self) -> Saturated | None:
        """Nearly nothing or nearly everything matches here, so that the threshold hardly tells detectors apart."""
        if self.matched is None or self.possible < FEWEST_PAIRS or SATURATED <= self.matched <= 1 - SATURATED:
            return None
        return "nothing" if self.matched < SATURATED else "everything"


class ShuffleRange(Result):
    """One figure over all shuffles of the images."""

    mean: float
    low: float
    high: float


class ThresholdChance(Result):
    """One threshold over all shuffles."""

    ap: ShuffleRange
    f1: ShuffleRange


class ChanceLevel(ViewFigures[float]):
    """The same predictions scored against shuffled images: means over the shuffles."""

    repeats: int
    band: ViewFigures[Interval]
    """Lowest and highest value among the shuffles."""
    thresholds: dict[float, ThresholdChance]


class Figures(Result):
    """One profile and view, with failed images either scored zero or dropped."""

    n: int
    """Images that the means are over."""
    semap: Share
    """Macro: mean over thresholds and images. In the profile `release` it is precision."""
    semf1: Share
    """Macro."""
    micro: Pooled
    """Pooled over images. Thresholds have the same predictions and truths, so pooling these too is their mean."""
    chance: ChanceLevel | None
    """None when it was not asked for, or there is only one image."""
    interval: ViewFigures[Interval | None]
    """95 % bootstrap over images; None below two images."""
    thresholds: dict[float, ThresholdScores]


class ViewScore(Figures):
    """One profile and view; a failed image scores zero."""

    dropped: Figures | None
    """The same over the images that were answered; None when there is none."""


class ImageCounts(Result):
    """How many images were answered, and how many of these have an empty side."""

    answered: int
    both_empty: int
    """Neither predictions nor truths; they score 1."""
    one_empty: int
    """Only predictions or only truths; they score 0."""


class SemanticResult(Result):
    """All figures of one set of predictions."""

    n: int
    """Images, failed ones included."""
    failures: dict[str, int]
    """Images without an answer, by kind."""
    images: ImageCounts
    profiles: dict[str, dict[str, ViewScore]]
    """By profile and view."""


class PairedDifference(Result):
    """Of two detectors over the same images, first minus second."""

    value: float
    interval: Interval | None
    """95 % paired bootstrap over images; None for a single image."""
    p: Share
    """Two-sided sign-flip permutation test; not corrected for the number of comparisons."""


class Comparison(Result):
    """Two detectors on the same images."""

    n: int
    dropped: int
    """Images left out because one of the two failed there; 0 when failed images score zero."""
    profiles: dict[str, dict[str, BothScores[PairedDifference]]]
    """By profile and view; macro."""


@dataclass(frozen=True, slots=True)
class ScoreTable:
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
        """(images,): neither predictions nor truths."""
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
    def of(cls, table: ScoreTable) -> Totals:
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

    def overall(self, at: Place) -> ViewFigures[float]:
        """Of one profile and view."""
        _, _, ap, f1 = self.macro[:, *at]
        precision, recall, micro_f1 = self.micro(self.tp[at])
        return ViewFigures(
            semap=float(ap.mean()) / self.n,
            semf1=float(f1.mean()) / self.n,
            micro_precision=precision,
            micro_recall=recall,
            micro_f1=micro_f1,
        )

    def micro(self, tp: Counts) -> Scores:
        """Scores of counts pooled over images, and over the thresholds that `tp` (thresholds,) stands for."""
        if self.failed and not self.predictions and not self.truths:
            return Scores(0.0, 0.0, 0.0)
        return precision_recall_f1(int(tp.sum()), len(tp) * self.predictions, len(tp) * self.truths)


class SemanticScorer:
    """Takes images one by one or in chunks, each once; then gives every figure."""

    def __init__(self, settings: SemanticSettings | None = None) -> None:
        self.settings = settings or SemanticSettings()
        self._failed: dict[str, str | None] = {}
        self._predictions, self._truths, self._tp, self._ap = array("q"), array("q"), array("q"), array("d")

    def add(
        self,
        image: str,
        phe: npt.ArrayLike,
        rea: npt.ArrayLike,
        severities: Sequence[float],
        confidences: Sequence[float] | None = None,
    ) -> None:
        """Score one image.

        phe, rea: (predictions, truths), -1..1; keep the shape when one side is empty. severities: one a prediction, 0 =
        completely implausible. confidences: one a prediction, for ranking by them.
        UsageError when the image was there before, has too many anomalies to match, or cannot be ranked.
        """
        order = self.order(severities, confidences, image)
        self.add_scores(image, score_image(phe, rea, order, self.settings, image))

    def add_scores(self, image: str, scores: ImageScores) -> None:
        """An image that `score_image` scored by these settings. UsageError when it was there before."""
        self._append(image, None, scores)

    def add_failure(self, image: str, kind: str, truths: int) -> None:
        """An image that failed, or that the predictions do not have (kind `missing`), and how many truths it has."""
        self._append(image, kind, ImageScores.failed(self.settings, truths))

    def order(
        self, severities: Sequence[float], confidences: Sequence[float] | None = None, image: str = "an image"
    ) -> list[int]:
        """Ranks predictions as the settings say; `chance` needs it too. UsageError that names the image."""
        try:
            return rank(severities, confidences, self.settings.ranking)
        except UsageError as error:
            raise UsageError(f"{image}: {error}") from error

    @property
    def table(self) -> ScoreTable:
        """Everything that is kept, sorted by image."""
        images = list(self._failed)
        order = np.array(sorted(range(len(images)), key=images.__getitem__), dtype=np.intp)
        shape = (len(images), *self.settings.shape)
        return ScoreTable(
            images=tuple(images[k] for k in order),
            answered=np.array([kind is None for kind in self._failed.values()], dtype=np.bool_)[order],
            predictions=np.array(self._predictions, dtype=np.int64)[order],
            truths=np.array(self._truths, dtype=np.int64)[order],
            tp=np.array(self._tp, dtype=np.int64).reshape(shape)[order],
            ap=np.array(self._ap, dtype=np.float64).reshape(shape)[order],
        )

    def result(self, rng: np.random.Generator, shuffled: Sequence[Totals] = ()) -> SemanticResult:
        """Every figure, with intervals.

        shuffled: `ChanceScorer.totals`, over as many images as were answered here. UsageError when no image was added.
        """
        if not self._failed:
            raise UsageError("no image to score; give predictions and truth of at least one")
        table = self.table
        if shuffled and shuffled[0].n != table.answered.sum():
            raise ValueError(f"chance was taken over {shuffled[0].n} images, but {table.answered.sum()} were answered")
        kinds = Counter(kind for kind in self._failed.values() if kind is not None)
        return _summary(table, dict(sorted(kinds.items())), self.settings, rng, shuffled)

    def _append(self, image: str, kind: str | None, scores: ImageScores) -> None:
        if image in self._failed:
            raise UsageError(f"image {image!r} is there twice; each image is scored once: remove one of the two")
        self._failed[image] = kind
        self._predictions.append(scores.predictions)
        self._truths.append(scores.truths)
        self._tp.extend(scores.tp)
        self._ap.extend(scores.ap)


def compare(
    first: SemanticScorer, second: SemanticScorer, rng: np.random.Generator, failures: Failures = "zero"
) -> Comparison:
    """First minus second over the same images; failed images score zero, or are left out for both.

    UsageError when the two hold different images or settings, or none is left.
    """
    one, other = first.table, second.table
    _comparable(first.settings, second.settings, one, other)
    kept = np.ones(len(one.images), dtype=np.bool_) if failures == "zero" else one.answered & other.answered
    if not kept.any():
        raise UsageError("no image is left to compare on; both must hold images that did not fail")
    table = (_macro(one) - _macro(other))[kept]
    n, (_, metrics, profiles, views) = len(table), table.shape
    flat = table.reshape(n, -1)
    drawn = (resampled_sums(flat, rng) / n).reshape(-1, metrics, profiles, views)
    ps = sign_flip_ps(flat, rng).reshape(metrics, profiles, views)

    def difference(cell: tuple[int, int, int]) -> PairedDifference:
        interval = wide(interval_of(drawn[:, *cell])) if n > 1 else None
        return PairedDifference(value=float(table[:, *cell].mean()), interval=interval, p=float(ps[cell]))

    found: dict[str, dict[str, BothScores[PairedDifference]]] = {
        profile: {
            view: BothScores(semap=difference((0, p, v)), semf1=difference((1, p, v)))
            for v, view in enumerate(first.settings.views)
        }
        for p, profile in enumerate(first.settings.profiles)
    }
    return Comparison(n=n, dropped=int((~kept).sum()), profiles=found)


def _macro(table: ScoreTable) -> npt.NDArray[np.float64]:
    """(images; semap, semf1; profiles, views)."""
    return np.stack([table.ap.mean(axis=-1), table.f1.mean(axis=-1)], axis=1)


def _comparable(first: SemanticSettings, second: SemanticSettings, one: ScoreTable, other: ScoreTable) -> None:
    if first != second:
        raise UsageError(f"scored by different settings: {first} and {second}; score both by the same")
    apart = sorted(set(one.images) ^ set(other.images))
    if apart:
        raise UsageError(
            f"{len(apart)} images are in only one of the two, e.g. {', '.join(map(repr, apart[:3]))}; "
            "score both on the same images (add missing ones as failures)"
        )


def _summary(
    table: ScoreTable,
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
        return ViewScore(**dict(figures(at, zero=True)), dropped=figures(at, zero=False) if answered.n else None)

    return SemanticResult(
        n=len(table.images),
        failures=failures,
        images=ImageCounts(
            answered=answered.n,
            both_empty=int((empty[table.answered] == 2).sum()),
            one_empty=int((empty[table.answered] == 1).sum()),
        ),
        profiles={
            profile: {name: view((p, v)) for v, name in enumerate(settings.views)}
            for p, profile in enumerate(settings.profiles)
        },
    )


def _figures(
    totals: Totals,
    at: Place,
    thresholds: Sequence[float],
    interval: ViewFigures[Interval | None],
    shuffled: Sequence[Totals],
) -> Figures:
    overall = totals.overall(at)
    return Figures(
        n=totals.n,
        semap=overall.semap,
        semf1=overall.semf1,
        micro=totals.micro(totals.tp[at]),
        interval=interval,
        thresholds={threshold: _row(totals, (*at, place)) for place, threshold in enumerate(thresholds)},
        chance=_chance(shuffled, at, thresholds) if shuffled else None,
    )


def _row(totals: Totals, cell: tuple[int, int, int]) -> ThresholdScores:
    tp = int(totals.tp[cell])
    precision, recall, ap, f1 = (float(total) / totals.n for total in totals.macro[:, *cell])
    micro = totals.micro(totals.tp[cell].reshape(1))
    matched = tp / totals.possible if totals.possible else None
    return ThresholdScores(
        tp=tp,
        fp=totals.predictions - tp,
        fn=totals.truths - tp,
        precision=precision,
        recall=recall,
        ap=ap,
        f1=f1,
        micro=micro,
        possible=totals.possible,
        matched=matched,
    )


def _chance(shuffled: Sequence[Totals], at: Place, thresholds: Sequence[float]) -> ChanceLevel:
    each = [dict(totals.overall(at)) for totals in shuffled]
    overall = {name: _range([one[name] for one in each]) for name in each[0]}
    macro = np.stack([totals.macro[:, *at] / totals.n for totals in shuffled])
    return ChanceLevel(
        **{name: found.mean for name, found in overall.items()},
        repeats=len(shuffled),
        band=ViewFigures(**{name: Interval(found.low, found.high) for name, found in overall.items()}),
        thresholds={
            threshold: ThresholdChance(ap=_range(macro[:, 2, place]), f1=_range(macro[:, 3, place]))
            for place, threshold in enumerate(thresholds)
        },
    )


def _range(values: npt.ArrayLike) -> ShuffleRange:
    found = np.asarray(values, dtype=np.float64)
    return ShuffleRange(mean=float(found.mean()), low=float(found.min()), high=float(found.max()))


def _intervals(table: ScoreTable, rng: np.random.Generator) -> dict[bool, dict[Place, ViewFigures[Interval | None]]]:
    """Keyed by "failed images score zero?", then by profile and view. One draw of images serves every figure.

    Failed images are drawn even where they are dropped: how many answers there are is chance, too.
    """
    n, (profiles, views) = len(table.images), table.tp.shape[1:3]
    macro = np.stack([table.ap.mean(axis=-1), table.f1.mean(axis=-1), table.tp.mean(axis=-1)], axis=1)
    sizes = [table.predictions, table.truths, table.truths * table.answered, table.answered]
    sums = resampled_sums(np.hstack([macro.reshape(n, -1), np.stack(sizes, axis=1)]), rng)
    drawn = sums[:, :-4].reshape(len(sums), 3, profiles, views)
    predictions, truths, answered_truths, answered = sums[:, -4:].T
    found: dict[bool, dict[Place, ViewFigures[Interval | None]]] = {True: {}, False: {}}
    for zero, count, there in (True, np.full(len(sums), n), truths), (False, answered, answered_truths):
        # Too few images show no spread; a resample without any answered image has no mean.
        images = n if zero else int(table.answered.sum())
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
            ends = {
                name: of_scores(interval_of(each), images) if images > 1 else None for name, each in samples.items()
            }
            found[zero][at] = ViewFigures(**ends)
    return found


def _share(part: npt.NDArray[Any], whole: npt.NDArray[Any], none: npt.NDArray[np.bool_]) -> Floats:
    """part / whole along the first axis: 1 where both sides are empty, 0 where one is."""
    along = (-1, *(1,) * (part.ndim - 1))
    share: Floats = part / np.maximum(whole, 1).reshape(along) + none.reshape(along)
    return share
