"""Uncertainty of numbers: estimates with bootstrap intervals, sign-flip tests, rank correlation, shared ranks.

The random generator is always passed in: the same seed gives the same numbers on the same machine. Random draws are
made in blocks, so that memory does not grow with the number of resamples. Try it:

    >>> mean([0.0, 1.0, 1.0, 1.0], np.random.default_rng(0))
    Estimate(value=0.75, interval=Interval(low=0.25, high=1.0), n=4)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import inf, sqrt
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Formula = Callable[[Floats], Floats]
"""(..., k) sums of columns -> (...) values; NaN where they do not define one."""
Method = Literal["spearman", "kendall"]

RESAMPLES = 2000
PERMUTATIONS = 10_000
LEVEL = 0.95
POWER = 0.8
FEWEST = 5
"""Fewest items for an interval of a correlation: fewer have too few distinct resamples."""
EXACT = 12
"""Up to this many differences other than zero, every pattern of signs is counted: at most 4,096 of them."""
DISTINCT = 512
"""Up to this many distinct rows, resamples are drawn as counts of rows, which is much faster."""
_CELLS = 1 << 20
"""Numbers in one block of draws: 8 MB as floats."""


class Interval(NamedTuple):
    """A closed interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval, by bootstrap unless its maker says otherwise."""

    value: float | None
    """None when the items do not define one."""
    interval: Interval | None
    """None without a value, for fewer than two items, or when it is undefined in half of the resamples."""
    n: int
    """Number of items."""


@dataclass(frozen=True, slots=True)
class Correlation:
    """Rank correlation of two orders of the same items."""

    value: float | None
    """-1..1; None when one side is constant, or there are fewer than two items."""
    interval: Interval | None
    """Bootstrap over items; None without a value, for fewer than FEWEST items, or if half of the resamples lack one."""
    n: int


@dataclass(frozen=True, slots=True)
class Rank:
    """Rank of one of several systems, 1 = best."""

    mean: float
    rank: int
    """Shared by systems that cannot be distinguished; see `share_ranks`."""
    low: int
    """Best rank in the bootstrap interval."""
    high: int
    """Worst rank in the bootstrap interval."""


def estimate(
    columns: npt.ArrayLike, formula: Formula, rng: np.random.Generator, n: int | None = None, resamples: int = RESAMPLES
) -> Estimate:
    """A statistic of sums over items, with its bootstrap over items.

    columns: (items, k), finite. n: the number of items to report; all of them when None.
    """
    table = np.asarray(columns, dtype=np.float64)
    n = len(table) if n is None else n
    if not n:
        return Estimate(None, None, 0)
    value = float(formula(table.sum(axis=0)))
    if np.isnan(value):
        return Estimate(None, None, n)
    return Estimate(value, interval_of(formula(_drawn(table, rng, resamples))) if n > 1 else None, n)


def mean(values: npt.ArrayLike, rng: np.random.Generator, resamples: int = RESAMPLES) -> Estimate:
    """The mean of (n,) values; no value when there are none."""
    column = np.asarray(values, dtype=np.float64)
    return means({"": (column, np.ones(len(column)))}, rng, resamples)[""]


def mean_score(values: npt.ArrayLike, rng: np.random.Generator, resamples: int = RESAMPLES) -> Estimate:
    """As `mean`, for values within 0..1: with an interval also where all are 0, or all are 1; see `of_scores`."""
    found = mean(values, rng, resamples)
    return Estimate(found.value, of_scores(found.interval, found.n), found.n)


def means(
    parts: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]], rng: np.random.Generator, resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """Means over parts of the same items, from common resamples: name -> (values (items,), membership (items,)).

    An estimate's n is the size of its part; an empty part has no value.
    """
    among = np.column_stack([np.asarray(part, dtype=np.float64) for _, part in parts.values()])
    values = np.column_stack([np.asarray(value, dtype=np.float64) for value, _ in parts.values()]) * among
    sizes = among.sum(axis=0)
    points = divided(values.sum(axis=0), sizes)
    drawn = _drawn(np.hstack([values, among]), rng, resamples) if len(among) else np.full((1, 2 * len(parts)), np.nan)
    spread = divided(drawn[:, : len(parts)], drawn[:, len(parts) :])
    return {
        name: Estimate(float(points[k]), interval_of(spread[:, k]) if sizes[k] > 1 else None, int(sizes[k]))
        if sizes[k]
        else Estimate(None, None, 0)
        for k, name in enumerate(parts)
    }


def ratio(sums: Floats) -> Floats:
    """First column over second: (..., 2) -> (...), NaN where the second is 0."""
    return divided(sums[..., 0], sums[..., 1])


def divided(top: Floats, bottom: Floats) -> Floats:
    """top / bottom, NaN where bottom is 0 (but for rounding). bottom broadcasts to top."""
    result = np.full(np.shape(top), np.nan)
    np.divide(top, bottom, out=result, where=np.abs(bottom) > 1e-12)
    return result


def resampled_sums(columns: npt.ArrayLike, rng: np.random.Generator, resamples: int = RESAMPLES) -> Floats:
    """Sums of columns over items drawn with replacement. All columns share the draws, so ratios of them are paired.

    columns: (items, k), finite. Returns (resamples, k). ValueError for another shape, no items, or NaN.
    """
    table = _table(columns)
    return np.concatenate([weights @ table for weights in _weights(len(table), rng, resamples)])


def interval_of(samples: npt.ArrayLike, level: float = LEVEL) -> Interval | None:
    """Percentile interval of bootstrap samples (resamples,); NaN ones are left out, None when half or more are NaN."""
    values = np.asarray(samples, dtype=np.float64)
    known = values[~np.isnan(values)]
    if 2 * len(known) <= len(values):
        return None
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def wide(interval: Interval | None) -> Interval | None:
    """A bootstrap interval, None where it has no width.

    Items that are all alike show nothing of how they spread, and do not make their mean certain.
    """
    if interval is None or interval.high - interval.low > 1e-12 * max(abs(interval.low), abs(interval.high)):
        return interval
    return None


def of_scores(interval: Interval | None, n: int) -> Interval | None:
    """The interval of a mean of n scores within 0..1, from its bootstrap interval, which has no width if all are alike.

    Where all scores are 0, or all are 1, it is Wilson's: of all scores within 0..1 with one mean, those that are either
    0 or 1 spread most, so the interval of a share is wide enough for any. Alike scores in between have none.
    """
    if interval is None or wide(interval):
        return interval
    ends = [end for end in (0, 1) if abs(interval.low - end) < 1e-9]
    return wilson(ends[0], n) if ends else None


def sign_flip_ps(
    differences: npt.ArrayLike, rng: np.random.Generator, permutations: int = PERMUTATIONS
) -> npt.NDArray[np.float64]:
    """Two-sided p-values that paired differences (n, k) are as likely negative as positive, by the sum of each column.

    Exact (all sign patterns counted) when at most 12 rows are not zero, else (b + 1) / (m + 1) for b of m random
    patterns with a sum at least as far from zero; all columns share the draws. No rows, or only zeros: 1. Not corrected
    for the number of columns.
    """
    table = _table(differences, least=0)
    table = table[np.any(table != 0, axis=1)]
    total = table.sum(axis=0)
    # A sum that equals the observed one but for rounding counts as equal to it.
    reached = np.abs(total) - 1e-12 * np.abs(table).sum(axis=0)
    exact = len(table) <= EXACT
    as_far = np.zeros(table.shape[1], dtype=np.int64)
    for flipped in _all_flips(len(table)) if exact else _random_flips(len(table), rng, permutations):
        as_far += (np.abs(total - 2 * (flipped @ table)) >= reached).sum(axis=0)
    return as_far / 2 ** len(table) if exact else (as_far + 1) / (permutations + 1)


def swap_ps(
    one: Floats, other: Floats, formula: Formula, rng: np.random.Generator, permutations: int = PERMUTATIONS
) -> npt.NDArray[np.float64]:
    """Two-sided p-values that two sides of paired items are exchangeable, by the difference of a formula of their sums.

    one, other: (n, k, c), sums of k statistics that `formula` makes of c columns. Each item's sides are swapped or not;
    counted as in `sign_flip_ps`, which is the same for a formula that only adds up, and faster.
    """
    changed = np.any(one != other, axis=(1, 2))
    first, second = one.sum(axis=0), other.sum(axis=0)  # (k, c)
    apart = (one - other)[changed].reshape(int(changed.sum()), first.size)
    far = np.abs(formula(first) - formula(second))
    reached = far - 1e-12 * (np.abs(formula(first)) + np.abs(formula(second)))
    exact = len(apart) <= EXACT
    as_far = np.zeros(len(far), dtype=np.int64)
    for swapped in _all_flips(len(apart)) if exact else _random_flips(len(apart), rng, permutations):
        moved = (swapped @ apart).reshape(-1, *first.shape)
        as_far += (np.abs(formula(first - moved) - formula(second + moved)) >= reached).sum(axis=0)
    return as_far / 2 ** len(apart) if exact else (as_far + 1) / (permutations + 1)


def items_needed(difference: float, spread: float, alpha: float, power: float = POWER) -> float:
    """Items for a paired difference of this mean and standard deviation to be told from 0: two-sided, normal theory.

    ((z(1 - alpha / 2) + z(power)) x spread / difference)^2; infinite for a difference of 0.
    """
    return inf if difference == 0 else (_sure(alpha, power) * spread / difference) ** 2


def detectable(spread: float, n: int, alpha: float, power: float = POWER) -> float:
    """The smallest mean difference that n >= 1 paired items tell from 0; the inverse of `items_needed`."""
    return _sure(alpha, power) * spread / sqrt(n)


def _sure(alpha: float, power: float) -> float:
    return NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)


def wilson(share: float, n: float, level: float = LEVEL) -> Interval:
    """Wilson's interval of a share (0..1) of n >= 1 trials. Unlike a bootstrap's, it has a width for shares 0 and 1.

    Of trials in clusters, n is the number of independent ones that would be as sure, which need not be whole.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    middle, reach = share + z * z / (2 * n), z * sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    scale = 1 + z * z / n
    return Interval(max(0.0, (middle - reach) / scale), min(1.0, (middle + reach) / scale))


def share(hits: int, n: int) -> Estimate:
    """The share of n items that are hits, with Wilson's interval; no value for no items."""
    if not n:
        return Estimate(None, None, 0)
    value = hits / n
    ends = wilson(value, n)
    return Estimate(value, Interval(min(ends.low, value), max(ends.high, value)) if n > 1 else None, n)


def correlation(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    rng: np.random.Generator,
    kind: Method = "spearman",
    resamples: int = RESAMPLES,
) -> Correlation:
    """Spearman's rho (mean ranks for ties) or Kendall's tau-b of two sequences (n,), with a bootstrap interval.

    The bootstrap draws items; an item drawn twice ties with itself, which both coefficients allow for. Resamples with
    a constant side have no value and are left out. Kendall takes O(n^2) time. ValueError for unequal lengths or NaN.
    """
    both = _table(np.stack([np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)], axis=1), least=0)
    n = len(both)
    if n < 2:
        return Correlation(None, None, n)
    of = {"spearman": _spearman, "kendall": _kendall}[kind]
    value = float(of(both[:, 0], both[:, 1], np.ones((1, n)))[0])
    if np.isnan(value):
        return Correlation(None, None, n)
    if n < FEWEST:
        return Correlation(value, None, n)
    drawn = np.concatenate([of(both[:, 0], both[:, 1], weights) for weights in _weights(n, rng, resamples)])
    return Correlation(value, interval_of(drawn), n)


def share_ranks(
    scores: npt.ArrayLike, samples: npt.ArrayLike, *, higher_is_better: bool = True, level: float = LEVEL
) -> list[Rank]:
    """Ranks of k systems from their scores (k,) and paired bootstrap samples of these (resamples, k), any statistic.

    Two systems can be distinguished when the interval of their paired difference excludes 0. Systems ordered by score
    are cut wherever each one above the cut can be distinguished from each one below; those between two cuts share the
    rank of the first. So systems that cannot be distinguished always share a rank. A pair that can be may share one
    too, when another system stands between them. The intervals are not widened for the number of pairs.
    """
    points, drawn = np.asarray(scores, dtype=np.float64), _table(samples)
    sign = 1.0 if higher_is_better else -1.0
    order = np.argsort(-sign * points, kind="stable")
    apart = _distinguishable(drawn, level)[np.ix_(order, order)]
    ranks = np.zeros(len(points), dtype=np.int64)
    for place in range(len(points)):
        cut = bool(apart[:place, place:].all())
        ranks[order[place]] = place + 1 if cut else ranks[order[place - 1]]
    best, worst = _rank_range(sign * drawn, level)
    return [Rank(float(points[k]), int(ranks[k]), int(best[k]), int(worst[k])) for k in range(len(points))]


def rank_ranges(better: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Best and worst rank that k systems can have, 1 = best; better: (k, k), whether the row is better than the column.

    A system comes behind all that are better and before all that are worse. Where the chance that any entry is wrong
    is at most 5 %, all ranges together hold the true ranks with at least 95 % (Klein, Wright and Wieczorek 2020).
    """
    behind, before = better.sum(axis=0), better.sum(axis=1)
    return [(int(behind[n]) + 1, len(better) - int(before[n])) for n in range(len(better))]


def _drawn(table: Floats, rng: np.random.Generator, resamples: int) -> Floats:
    """As `resampled_sums`, but of few distinct rows draws only how often each occurs."""
    rows, times = np.unique(table, axis=0, return_counts=True)
    if len(rows) > DISTINCT:
        return resampled_sums(table, rng, resamples)
    drawn: Floats = rng.multinomial(len(table), times / len(table), size=resamples) @ rows
    return drawn


def _table(columns: npt.ArrayLike, least: int = 1) -> Floats:
    table = np.asarray(columns, dtype=np.float64)
    if table.ndim != 2 or len(table) < least:
        raise ValueError(f"expected a table of shape (items, columns), at least {least} items, not {table.shape}")
    if not np.isfinite(table).all():
        raise ValueError("a NaN or infinite value among the items; leave such items out and count them")
    return table


def _weights(n: int, rng: np.random.Generator, resamples: int) -> Iterator[Floats]:
    """How often each of n items is drawn in each resample, in blocks of (some resamples, n)."""
    step = max(1, _CELLS // n)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(0, n, size=(rows, n)) + np.arange(rows)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def _all_flips(n: int) -> Iterator[Floats]:
    yield (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(np.float64)


def _random_flips(n: int, rng: np.random.Generator, permutations: int) -> Iterator[Floats]:
    step = max(1, _CELLS // n)
    for start in range(0, permutations, step):
        rows = min(step, permutations - start)
        octets = rng.integers(0, 256, size=(rows, -(-n // 8)), dtype=np.uint8)
        yield np.unpackbits(octets, axis=1, count=n).astype(np.float64)


def _distinguishable(samples: Floats, level: float) -> npt.NDArray[np.bool_]:
    """(k, k): whether the interval of the difference of two systems excludes 0."""
    k = samples.shape[1]
    apart = np.zeros((k, k), dtype=np.bool_)
    for one in range(k):
        low, high = np.quantile(samples - samples[:, [one]], [(1 - level) / 2, (1 + level) / 2], axis=0)
        apart[one] = (low > 0) | (high < 0)
    return apart


def _rank_range(samples: Floats, level: float) -> tuple[Floats, Floats]:
    """Best and worst rank (k,) of each system within the interval; higher samples are better, ties count both ways."""
    above = np.stack([(samples > samples[:, [k]]).sum(axis=1) for k in range(samples.shape[1])], axis=1)
    below = np.stack([(samples < samples[:, [k]]).sum(axis=1) for k in range(samples.shape[1])], axis=1)
    best = np.quantile(1 + above, (1 - level) / 2, axis=0, method="lower")
    worst = np.quantile(samples.shape[1] - below, (1 + level) / 2, axis=0, method="higher")
    return best, worst


def _spearman(x: Floats, y: Floats, weights: Floats) -> Floats:
    """Pearson's r of mean ranks, for each row of weights (resamples, n): items count as often as they were drawn."""
    a, b = _mean_ranks(x, weights), _mean_ranks(y, weights)
    middle = (weights.sum(axis=1, keepdims=True) + 1) / 2
    a, b = a - middle, b - middle
    spread = (weights * a * a).sum(axis=1) * (weights * b * b).sum(axis=1)
    return _over_root((weights * a * b).sum(axis=1), spread)


def _mean_ranks(x: Floats, weights: Floats) -> Floats:
    """(resamples, n): rank of each item in each resample; equal values share the mean of their ranks."""
    _, group = np.unique(x, return_inverse=True)
    grouped = _grouped(group, weights)
    ranks: Floats = (np.cumsum(grouped, axis=1) - grouped + (grouped + 1) / 2)[:, group]
    return ranks


def _kendall(x: Floats, y: Floats, weights: Floats) -> Floats:
    """(concordant - discordant) / sqrt(pairs untied in x * pairs untied in y), for each row of weights."""
    agreeing = np.zeros(len(weights))
    step = max(1, _CELLS // len(x))
    for start in range(0, len(x), step):
        block = slice(start, start + step)
        signs = np.sign(x[block, None] - x[None, :]) * np.sign(y[block, None] - y[None, :])
        agreeing += ((weights[:, block] @ signs) * weights).sum(axis=1)
    return _over_root(agreeing, _untied(x, weights) * _untied(y, weights))


def _untied(x: Floats, weights: Floats) -> Floats:
    """Ordered pairs of drawn items whose values differ, for each row of weights."""
    _, group = np.unique(x, return_inverse=True)
    pairs: Floats = weights.sum(axis=1) ** 2 - (_grouped(group, weights) ** 2).sum(axis=1)
    return pairs


def _grouped(group: npt.NDArray[np.intp], weights: Floats) -> Floats:
    """Weights summed over the items of each group: (resamples, groups)."""
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 1))
    sums: Floats = np.add.reduceat(weights[:, order], starts, axis=1)
    return sums


def _over_root(product: Floats, square: Floats) -> Floats:
    """product / sqrt(square), within -1..1; NaN where a side is constant."""
    root = np.sqrt(np.where(square > 0, square, np.nan))
    return np.clip(product / root, -1.0, 1.0)
