"""One number of a table: its value, how sure it is, and on how many items it rests.

Knows nothing of what is counted: sums of columns in, one estimate out. Try it:

    >>> mean([0.0, 1.0, 1.0, 1.0], np.random.default_rng(0))
    Estimate(value=0.75, interval=Interval(low=0.25, high=1.0), n=4)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anomreason.stats import RESAMPLES, Floats, Interval, interval_of, resampled_sums

Formula = Callable[[Floats], Floats]
"""(..., k) sums of columns -> (...) values; NaN where they do not define one."""
KINDS = 512
"""Up to so many different rows are drawn by kind."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % bootstrap interval."""

    value: float | None
    """None when the items do not define one."""
    interval: Interval | None
    """None without a value, for fewer than two items, or when it is undefined in half of the resamples."""
    n: int
    """Items that it rests on."""


def estimate(
    columns: npt.ArrayLike, formula: Formula, rng: np.random.Generator, n: int | None = None, resamples: int = RESAMPLES
) -> Estimate:
    """A statistic of sums over items, with its bootstrap over items.

    columns: (items, k), finite. n: what to report as the number of items; all of them when None.
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


def means(
    parts: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]], rng: np.random.Generator, resamples: int = RESAMPLES
) -> dict[str, Estimate]:
    """Means over parts of the same items, from one draw of items: name -> (values (items,), is it part? (items,)).

    An estimate's n is the size of its part; one without items has no value.
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


def _drawn(table: Floats, rng: np.random.Generator, resamples: int) -> Floats:
    """As `resampled_sums`. Of few different rows, how often each kind is drawn is drawn at once: much faster."""
    kinds, times = np.unique(table, axis=0, return_counts=True)
    if len(kinds) > KINDS:
        return resampled_sums(table, rng, resamples)
    drawn: Floats = rng.multinomial(len(table), times / len(table), size=resamples) @ kinds
    return drawn


def ratio(sums: Floats) -> Floats:
    """First column over second: (..., 2) -> (...), NaN where the second is 0."""
    return divided(sums[..., 0], sums[..., 1])


def divided(top: Floats, bottom: Floats) -> Floats:
    """top / bottom, NaN where bottom is 0 (but for rounding). bottom broadcasts to top."""
    result = np.full(np.shape(top), np.nan)
    np.divide(top, bottom, out=result, where=np.abs(bottom) > 1e-12)
    return result
