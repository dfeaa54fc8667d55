"""Operating points: how many AI images a detector finds at a given rate of false alarms on photographs; the ROC curve.

An image with a score of at least the threshold is called an AI image. Try it:

    >>> scored = [Scored(True, 0.9), Scored(True, 0.4), *(Scored(False, n / 20) for n in range(10))]
    >>> point = operating_curve(scored, np.random.default_rng(0)).points[2]
    >>> point.false_alarms, point.recall.value, point.threshold
    (0.1, 0.5, 0.45)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from anomreason.anomaly import Result
from anomreason.stats import RESAMPLES, Estimate, Floats, Interval, interval_of, share

FALSE_ALARMS = (0.01, 0.05, 0.1)
"""Shares of photographs that may be called AI images."""
_BAND = (0.0, 0.01, 0.02, 0.03, 0.05, 0.075, *(tenth / 20 for tenth in range(2, 21)))
_VERTICES = 400
_SEGMENTS = 2000
_BLOCK = 200
_NEAR = 1e-9


class Scored(NamedTuple):
    """One image: the truth, the detector's score, and its own answer."""

    generated: bool
    """AI image (True) or photograph (False)."""
    score: float | None
    """Higher = more likely an AI image, any scale; None when it gave none."""
    answer: bool | None = None
    """AI image (True), photograph (False), or neither."""


class OperatingPoint(Result):
    """Recall at one rate of false alarms."""

    false_alarms: float
    """Share of photographs that may be called AI images."""
    recall: Estimate
    """Share of all AI images that are found; an image without a score is not. No value where not measurable."""
    threshold: float | None
    """Lowest score with no more false alarms than that; None where even the highest score has more."""
    why_not: str = ""
    """Why there is no value; empty where there is one."""


class OwnAnswers(Result):
    """The one point at which the detector's own answers lie."""

    false_alarms: Estimate
    """Share of the photographs with an answer that were called AI images."""
    recall: Estimate
    """Share of all AI images that were called so."""


class BandPoint(NamedTuple):
    """Interval of the recall at one rate of false alarms."""

    false_alarms: float
    low: float
    high: float


class OperatingCurve(Result):
    """What a detector finds at every rate of false alarms."""

    rests_on: Literal["scores", "answers"]
    """`answers`: no score tells images apart, so there is only the one point of `own`, and no `points`."""
    own: OwnAnswers
    fakes: int
    photographs: int
    """With a score."""
    fakes_without: int
    """AI images without a score: never found."""
    photographs_without: int
    """Photographs without a score: left out of the rates of false alarms."""
    points: tuple[OperatingPoint, ...] = ()
    vertices: tuple[tuple[float, float], ...] = ()
    """Of the ROC curve (false alarms, recall), from (0, 0); at most 400 of them. Lines between two are what choosing
    between their thresholds at random gives."""
    band: tuple[BandPoint, ...] = ()
    """95 % interval of the curve, point by point."""


def operating_curve(
    images: Sequence[Scored],
    rng: np.random.Generator,
    false_alarms: Sequence[float] = FALSE_ALARMS,
    resamples: int = RESAMPLES,
) -> OperatingCurve:
    """The ROC curve and the points on it.

    Between two scores that occur the curve is a straight line. A rate under 1 / photographs cannot be told from zero
    and is not measurable. The intervals hold that the threshold is chosen on these very images: AI images are drawn
    with replacement; photographs get random weights (Bayesian bootstrap), with one weight more than there are
    photographs, for those to come that score beyond all seen ones.
    """
    fake = np.array([i.score for i in images if i.generated and i.score is not None], dtype=np.float64)
    photo = np.array([i.score for i in images if not i.generated and i.score is not None], dtype=np.float64)
    fakes = sum(i.generated for i in images)
    without = fakes - len(fake), len(images) - fakes - len(photo)
    told = bool(len(fake) and len(photo))
    counts = (len(fake), len(photo)) if told else (0, 0)
    curve = OperatingCurve(
        rests_on="scores" if told else "answers",
        own=_own(images, fakes),
        fakes=counts[0],
        photographs=counts[1],
        fakes_without=without[0] if told else fakes,
        photographs_without=without[1] if told else len(images) - fakes,
    )
    if not told:
        return curve
    levels, alarms, found = _counts(photo, fake)
    x, y = _from_zero(alarms) / len(photo), _from_zero(found) / fakes
    band = [rate for rate in _BAND if rate * len(photo) >= 1 - _NEAR]
    drawn = _drawn(alarms, found, without[0], [*false_alarms, *band], rng, resamples)
    ends = [interval_of(column) for column in drawn.T]
    points = [
        _point(rate, len(photo), fakes, (levels, x, y), end) for rate, end in zip(false_alarms, ends, strict=False)
    ]
    spread = [
        BandPoint(rate, *_holding(end, recall_at(x, y, rate)))
        for rate, end in zip(band, ends[len(points) :], strict=True)
        if end is not None
    ]
    return curve.model_copy(update={"points": tuple(points), "vertices": _thinned(x, y), "band": tuple(spread)})


def _own(images: Sequence[Scored], fakes: int) -> OwnAnswers:
    alarms = sum(i.answer is True and not i.generated for i in images)
    answered = sum(i.answer is not None and not i.generated for i in images)
    found = sum(i.answer is True and i.generated for i in images)
    return OwnAnswers(false_alarms=share(alarms, answered), recall=share(found, fakes))


def _counts(photo: Floats, fake: Floats) -> tuple[Floats, Floats, Floats]:
    """Scores that occur, the highest first, and how many photographs and AI images have each."""
    levels, place = np.unique(-np.concatenate([photo, fake]), return_inverse=True)
    of_photo = np.bincount(place[: len(photo)], minlength=len(levels))
    of_fake = np.bincount(place[len(photo) :], minlength=len(levels))
    return -levels, of_photo.astype(np.float64), of_fake.astype(np.float64)


def _from_zero(parts: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(parts)])


def recall_at(x: Floats, y: Floats, rate: float) -> float:
    """Recall of the curve at a rate of false alarms; the highest where the curve rises straight up."""
    last = int(np.searchsorted(x, rate + _NEAR, side="right")) - 1
    if last == len(x) - 1:
        return float(y[-1])
    part = (rate - x[last]) / (x[last + 1] - x[last])
    return float(y[last] + max(part, 0.0) * (y[last + 1] - y[last]))


def _point(
    rate: float, photographs: int, fakes: int, curve: tuple[Floats, Floats, Floats], end: Interval | None
) -> OperatingPoint:
    levels, x, y = curve
    if rate * photographs < 1 - _NEAR:
        many = f"{photographs:,} photograph{'s' * (photographs != 1)}"
        return OperatingPoint(
            false_alarms=rate,
            recall=Estimate(None, None, fakes),
            threshold=None,
            why_not=f"not measurable with {many}: one is {1 / photographs:.3g} of them",
        )
    value = recall_at(x, y, rate)
    last = int(np.searchsorted(x, rate + _NEAR, side="right")) - 1
    ends = None if end is None else _holding(end, value)
    threshold = float(levels[last - 1]) if last else None
    return OperatingPoint(false_alarms=rate, recall=Estimate(value, ends, fakes), threshold=threshold)


def _holding(ends: Interval, value: float) -> Interval:
    """The interval, widened to the value where rounding left it outside."""
    return Interval(min(ends.low, value), max(ends.high, value))


def _drawn(
    alarms: Floats, found: Floats, without: int, rates: Sequence[float], rng: np.random.Generator, resamples: int
) -> Floats:
    """(resamples, rates): recall at each rate in each resample. without: AI images without a score."""
    steps, rises = _segments(alarms, found)
    shares = np.append(rises, without) / (rises.sum() + without)
    wanted = np.asarray(rates)
    rows = []
    for start in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - start)
        weights = rng.standard_gamma(steps, size=(size, len(steps)))
        x = np.cumsum(weights, axis=1) / weights.sum(axis=1, keepdims=True)
        y = np.cumsum(rng.multinomial(round(rises.sum()) + without, shares, size=size)[:, :-1], axis=1)
        y = y / (rises.sum() + without)
        zero = np.zeros(1)
        rows += [np.interp(wanted, np.append(zero, a), np.append(zero, b)) for a, b in zip(x, y, strict=True)]
    return np.array(rows)


def _segments(alarms: Floats, found: Floats) -> tuple[Floats, Floats]:
    """The curve in straight pieces: photographs passed in each, one more in all than there are, and AI images.

    AI images between two photographs belong to the piece that ends with the lower one; those of a score that several
    photographs share rise along with these. Of many pieces, neighbours are united.
    """
    pieces: list[tuple[float, float]] = []
    waiting = 0.0
    for photographs, fakes in zip(alarms, found, strict=True):
        if not photographs:
            waiting += fakes
        elif photographs == 1:
            pieces.append((1.0, waiting + fakes))
            waiting = 0.0
        else:
            pieces += [(1.0, waiting), (photographs - 1.0, fakes)]
            waiting = 0.0
    pieces.append((1.0, waiting))
    table = np.array(pieces)
    if len(table) > _SEGMENTS:
        starts = np.unique(np.linspace(0, len(table) - 1, _SEGMENTS).astype(np.int64))
        table = np.add.reduceat(table, starts, axis=0)
    return table[:, 0], table[:, 1]


def _thinned(x: Floats, y: Floats) -> tuple[tuple[float, float], ...]:
    """The corners of the curve; of many, some, the ends among them."""
    turns = np.ones(len(x), dtype=np.bool_)
    if len(x) > 2:
        before, after = np.diff(x)[:-1] * np.diff(y)[1:], np.diff(x)[1:] * np.diff(y)[:-1]
        turns[1:-1] = np.abs(before - after) > 1e-15
    places = np.flatnonzero(turns)
    if len(places) > _VERTICES:
        places = places[np.unique(np.linspace(0, len(places) - 1, _VERTICES).astype(np.int64))]
    return tuple((round(float(x[k]), 6), round(float(y[k]), 6)) for k in places)
