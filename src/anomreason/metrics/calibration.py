"""Calibration: whether of the images given a probability of 0.8 some 80 % are AI images.

It holds for sets with this share of AI images only. Try it:

    >>> found = calibration([0.9, 0.9, 0.1, 0.1], [True, True, False, True], np.random.default_rng(0))
    >>> round(found.brier.value, 2), round(found.ece.value, 2), [(b.low, b.n) for b in found.bins]
    (0.21, 0.25, [(0.1, 2), (0.9, 2)])
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from anomreason.anomaly import Result
from anomreason.errors import UsageError
from anomreason.stats import RESAMPLES, Estimate, Floats, Interval, interval_of, mean, resampled_sums, share

BINS = 10


class ReliabilityBin(Result):
    """The images whose probability lies in one tenth."""

    low: float
    high: float
    """Included in the last one only."""
    n: int
    mean_p: float
    generated: Estimate
    """Share of them that are AI images."""


class Calibration(Result):
    """How well probabilities of being an AI image agree with the truth."""

    n: int
    """Images with a probability."""
    brier: Estimate
    """Mean of (probability - truth)^2: 0 is perfect."""
    constant_brier: float
    """The same of always giving the set's share of AI images."""
    ece: Estimate
    """Expected calibration error: mean distance, over the images, of the mean probability of a tenth from its share of
    AI images. It is never below 0, so on few images it is above 0 by luck alone."""
    lucky_ece: float
    """What a perfectly calibrated detector with these probabilities exceeds in 2.5 % of such sets."""
    bins: tuple[ReliabilityBin, ...]
    """Without empty ones."""


def calibration(
    p: Sequence[float], generated: Sequence[bool], rng: np.random.Generator, resamples: int = RESAMPLES
) -> Calibration | None:
    """None without images. The interval of the ECE is the basic bootstrap's, which takes off what luck adds; it begins
    at 0 where luck alone may explain the error, and always holds the value.

    UsageError for a probability outside 0..1 and for lists of unequal length.
    """
    chance, truth = np.asarray(p, dtype=np.float64), np.asarray(generated, dtype=np.float64)
    if chance.shape != truth.shape:
        raise UsageError(f"{len(chance)} probabilities for {len(truth)} images; pass one an image")
    if not len(chance):
        return None
    if not ((chance >= 0) & (chance <= 1)).all():
        raise UsageError("a probability is outside 0..1; calibration needs probabilities, not scores on another scale")
    place = np.minimum((chance * BINS).astype(np.int64), BINS - 1)
    apart = np.zeros((len(chance), BINS))
    apart[np.arange(len(chance)), place] = chance - truth
    error = _error(apart.sum(axis=0), len(chance))
    lucky = float(np.quantile(_lucky(chance, place, rng, resamples), 0.975))
    return Calibration(
        n=len(chance),
        brier=mean((chance - truth) ** 2, rng, resamples),
        constant_brier=float(truth.mean() * (1 - truth.mean())),
        ece=Estimate(error, _interval(apart, error, lucky, rng, resamples), len(chance)),
        lucky_ece=lucky,
        bins=tuple(_bin(k, chance[place == k], truth[place == k]) for k in np.unique(place)),
    )


def _error(sums: Floats, n: int) -> float:
    return float(np.abs(sums).sum() / n)


def _interval(apart: Floats, error: float, lucky: float, rng: np.random.Generator, resamples: int) -> Interval | None:
    if len(apart) < 2:
        return None
    drawn = interval_of(np.abs(resampled_sums(apart, rng, resamples)).sum(axis=1) / len(apart))
    if drawn is None:
        return None
    low = 0.0 if error <= lucky else min(max(2 * error - drawn.high, 0.0), error)
    return Interval(low, max(2 * error - drawn.low, error))


def _lucky(chance: Floats, place: npt.NDArray[np.int64], rng: np.random.Generator, resamples: int) -> Floats:
    """(resamples,): errors of truths drawn with these very probabilities."""
    found = np.empty(resamples)
    for k in range(resamples):
        apart = np.bincount(place, chance - (rng.random(len(chance)) < chance), minlength=BINS)
        found[k] = np.abs(apart).sum() / len(chance)
    return found


def _bin(place: int, chance: Floats, truth: Floats) -> ReliabilityBin:
    return ReliabilityBin(
        low=place / BINS,
        high=(place + 1) / BINS,
        n=len(chance),
        mean_p=float(chance.mean()),
        generated=share(int(truth.sum()), len(truth)),
    )
