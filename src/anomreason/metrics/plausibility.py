"""Plausibility of generators' images: MAI, AF and CAP (section 4.3 of the paper). In all of them lower is better.

An image that could not be assessed is not flawless: it is left out of the means and counted separately. Try it:

    >>> image_plausibility([20, 60])
    ImagePlausibility(mai=1.2, af=2, cap=2.4)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice
from math import isfinite
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from anomreason.errors import UsageError
from anomreason.stats import (
    RESAMPLES,
    Correlation,
    Estimate,
    Floats,
    Rank,
    correlation,
    divided,
    interval_of,
    resampled_sums,
    share_ranks,
    sign_flip_ps,
    swap_ps,
    wide,
)

Metric = Literal["mai", "af", "cap", "cap_of_means"]
METRICS: dict[Metric, str] = {
    "mai": "implausibility summed over an image's anomalies, mean over images",
    "af": "anomalies per image",
    "cap": "MAI x AF of each image, mean over images (the definition in the paper's text)",
    "cap_of_means": "mean MAI x mean AF (what the paper's Table 3 prints)",
}
"""Definition of each metric, in one line."""
_PAIRS_AT_ONCE = 200
"""Pairs of generators compared in one block; bounds the memory for many generators."""


class ImagePlausibility(NamedTuple):
    """One image; 0 is flawless in all three."""

    mai: float
    af: int
    cap: float


@dataclass(frozen=True, slots=True)
class Assessment:
    """Anomalies that an assessor found in one generated image, or why it failed."""

    image: str
    generator: str
    prompt: str | None = None
    """What the image was made from; images of the same prompt are compared. None when unknown."""
    severities: tuple[float, ...] | None = None
    """Of its anomalies, 0 = completely implausible, 100 = fully realistic; empty when there are none, None: failed."""
    failure: str | None = None
    """Kind of failure."""

    def __post_init__(self) -> None:
        if (self.severities is None) == (self.failure is None):
            raise UsageError(f"{self.image!r} needs either the severities of its anomalies or a kind of failure")


@dataclass(frozen=True, slots=True)
class GeneratorPlausibility:
    """One generator. Intervals by bootstrap over prompts, or over images where the prompt is unknown."""

    generator: str
    n: int
    """Images assessed, without the failed ones."""
    failures: dict[str, int]
    """By kind."""
    scores: dict[Metric, Estimate]
    """No value when no image was assessed."""
    ranks: dict[Metric, Rank]
    """1 = most plausible; shared by generators that cannot be distinguished. Empty when nothing can be ranked."""


@dataclass(frozen=True, slots=True)
class GeneratorDifference:
    """One generator's score minus the other's over their common prompts; above 0 when the other is more plausible."""

    one: str
    other: str
    metric: Metric
    difference: Estimate
    """n counts prompts."""
    p: float | None
    """Two-sided, by flipping signs of the prompts' differences; None without a common prompt."""
    p_holm: float | None
    """The same, corrected for the number of pairs compared by this metric (Holm 1979)."""
    spread: float | None = None
    """Standard deviation of the prompts' differences, by bootstrap for `cap_of_means`; None below two prompts."""


@dataclass(frozen=True, slots=True)
class RankAgreement:
    """How far two assessors rank the generators alike. Intervals by bootstrap over generators."""

    spearman: Correlation
    kendall: Correlation
    only_one: tuple[str, ...]
    """Generators scored by only one assessor, which were left out."""


def image_plausibility(severities: Sequence[float]) -> ImagePlausibility:
    """MAI = sum of (100 - severity) / 100, AF = number of anomalies, CAP = MAI x AF; UsageError outside 0..100."""
    if wrong := [s for s in severities if not (isfinite(s) and 0 <= s <= 100)]:
        raise UsageError(f"severities {wrong[:5]!r}: a severity is a number from 0 (implausible) to 100 (realistic)")
    mai, af = sum(100 - s for s in severities) / 100, len(severities)
    return ImagePlausibility(mai, af, mai * af)


def plausibility(
    records: Sequence[Assessment],
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
    *,
    prompts_alike: bool = False,
) -> list[GeneratorPlausibility]:
    """Every generator's scores and ranks, in alphabetical order.

    All generators share the resamples of prompts, so that the difficulty of a prompt does not blur their order.
    prompts_alike: a generator's images of a prompt are averaged first, so that each prompt weighs the same, as it does
    in `differences`. UsageError for a duplicate image of a generator, or a severity outside 0..100.
    """
    generators = _generators(records)
    sums = _by_prompt(records, generators)
    images = sums[..., 0].sum(axis=0)
    if prompts_alike:
        sums = np.nan_to_num(divided(sums, sums[..., :1]))
    totals = sums.sum(axis=0)
    points = _scores(totals)
    # Without an assessed image there is nothing to resample.
    drawn = _scores(_resampled(sums, rng, resamples)) if len(sums) else np.full((1, len(generators), 4), np.nan)
    ranks = {metric: _ranks(points[:, k], drawn[:, :, k]) for k, metric in enumerate(METRICS)}
    failures = {name: Counter(r.failure for r in records if r.failure and r.generator == name) for name in generators}
    clusters = (sums[:, :, 0] > 0).sum(axis=0)
    return [
        GeneratorPlausibility(
            generator=name,
            n=int(images[g]),
            failures=dict(failures[name]),
            scores={
                metric: _estimate(points[g, k], drawn[:, g, k], int(images[g]), int(clusters[g]))
                for k, metric in enumerate(METRICS)
            },
            ranks={metric: ranks[metric][g] for metric in METRICS if g in ranks[metric]},
        )
        for g, name in enumerate(generators)
    ]


def differences(
    records: Sequence[Assessment], rng: np.random.Generator, resamples: int = RESAMPLES
) -> list[GeneratorDifference]:
    """Differences of every pair of generators in every metric, paired by prompt, with p-values.

    Several images of one generator for a prompt are averaged first. `cap_of_means` is no mean of prompts: its
    p-value comes from swapping the generators' images of prompts. p is estimated from random flips, so never below
    1 / 10,001, and the corrected p cannot reach 0.05 for more than 500 pairs. Raises as `plausibility` does.
    """
    generators = _generators(records)
    sums = _by_prompt([r for r in records if r.prompt is not None], generators)
    means = divided(sums[..., 1:], sums[..., :1])
    pairs, found = combinations(range(len(generators)), 2), list[GeneratorDifference]()
    while block := list(islice(pairs, _PAIRS_AT_ONCE)):
        found += _differences(generators, means, block, rng, resamples)
    return _holm(found)


def rank_agreement(
    one: Mapping[str, float], other: Mapping[str, float], rng: np.random.Generator, resamples: int = RESAMPLES
) -> RankAgreement:
    """Rank correlation of two assessors' scores, given as generator -> score; no interval below five generators."""
    both = sorted(one.keys() & other.keys())
    scores = [one[g] for g in both], [other[g] for g in both]
    return RankAgreement(
        spearman=correlation(*scores, rng, "spearman", resamples),
        kendall=correlation(*scores, rng, "kendall", resamples),
        only_one=tuple(sorted(one.keys() ^ other.keys())),
    )


def _generators(records: Sequence[Assessment]) -> list[str]:
    times = Counter((r.generator, r.image) for r in records)
    if doubles := [key for key, count in times.items() if count > 1]:
        raise UsageError(f"duplicate images {doubles[:5]!r} (generator, image): pass each image once")
    return sorted({r.generator for r in records})


def _by_prompt(records: Sequence[Assessment], generators: Sequence[str]) -> Floats:
    """(prompts, generators, 4): number of assessed images, and sums of their MAI, AF, CAP.

    An image without a prompt has its own row. Rows are sorted, so that the order of the records does not matter.
    """
    row_of = {key: n for n, key in enumerate(sorted({_row(r) for r in records if r.severities is not None}))}
    column_of = {name: n for n, name in enumerate(generators)}
    sums = np.zeros((len(row_of), len(generators), 4))
    for record in records:
        if record.severities is not None:
            scores = image_plausibility(record.severities)
            sums[row_of[_row(record)], column_of[record.generator]] += (1, *scores)
    return sums


def _row(record: Assessment) -> tuple[str, ...]:
    return (record.prompt,) if record.prompt is not None else (record.generator, record.image)


def _resampled(sums: Floats, rng: np.random.Generator, resamples: int) -> Floats:
    """(rows, generators, k) -> (resamples, generators, k)."""
    return resampled_sums(sums.reshape(len(sums), -1), rng, resamples).reshape(resamples, *sums.shape[1:])


def _scores(sums: Floats) -> Floats:
    """(..., 4) sums -> (..., 4) values, as METRICS lists them; NaN without images."""
    means = divided(sums[..., 1:], sums[..., :1])
    return np.concatenate([means, means[..., :1] * means[..., 1:2]], axis=-1)


def _estimate(value: float, drawn: Floats, n: int, clusters: int) -> Estimate:
    if np.isnan(value):
        return Estimate(None, None, n)
    return Estimate(float(value), wide(interval_of(drawn)) if clusters > 1 else None, n)


def _ranks(points: Floats, drawn: Floats) -> dict[int, Rank]:
    """Rank by index of the generator, from scores (generators,) and bootstrap samples (resamples, generators).

    A generator without a score has no rank. Resamples in which one has no image are left out.
    """
    scored = np.flatnonzero(~np.isnan(points))
    whole = drawn[:, scored][~np.isnan(drawn[:, scored]).any(axis=1)]
    if not len(scored) or 2 * len(whole) < len(drawn):
        return {}
    ranks = share_ranks(points[scored], whole, higher_is_better=False)
    return dict(zip(scored.tolist(), ranks, strict=True))


def _differences(
    generators: Sequence[str],
    means: Floats,
    pairs: Sequence[tuple[int, int]],
    rng: np.random.Generator,
    resamples: int,
) -> Iterator[GeneratorDifference]:
    """means: (prompts, generators, 3), NaN where a generator has no assessed image of a prompt."""
    common = ~np.isnan(means[:, :, 0])
    common = np.stack([common[:, one] & common[:, other] for one, other in pairs], axis=1)
    # Zeros change neither a sum nor its sign flips. MAI, AF and CAP of either generator: (prompts, pairs, 3)
    first, second = (np.where(common[:, :, None], means[:, list(side)], 0.0) for side in zip(*pairs, strict=True))
    n = common.sum(axis=0)
    if len(means):
        sums = np.dstack([common, first, second])
        value, drawn = _apart(sums.sum(axis=0)), _apart(_resampled(sums, rng, resamples))
        p = np.column_stack(
            [
                sign_flip_ps((first - second).reshape(len(means), -1), rng).reshape(-1, 3),
                swap_ps(first[..., :2], second[..., :2], lambda found: found.prod(axis=-1), rng),
            ]
        )
        squares = divided(_squares(first - second, n), np.maximum(n - 1.0, 0.0)[:, None])
        of_means = drawn[..., 3].std(axis=0) * np.sqrt(n)
        spread = np.column_stack([np.sqrt(np.maximum(squares, 0.0)), of_means])
    else:
        value = drawn = np.full((1, len(pairs), 4), np.nan)
        value, p, spread = value[0], np.ones((len(pairs), 4)), np.full((len(pairs), 4), np.nan)
    for pair, (one, other) in enumerate(pairs):
        for k, metric in enumerate(METRICS):
            estimate = _estimate(value[pair, k], drawn[:, pair, k], int(n[pair]), int(n[pair]))
            chance = float(p[pair, k]) if n[pair] else None
            deviation = float(spread[pair, k]) if n[pair] > 1 else None
            yield GeneratorDifference(generators[one], generators[other], metric, estimate, chance, None, deviation)


def _apart(sums: Floats) -> Floats:
    """(..., 7) number of prompts and both generators' sums of MAI, AF and CAP -> (..., 4) differences, as METRICS."""
    one, other = (divided(sums[..., start : start + 3], sums[..., :1]) for start in (1, 4))
    of_means = one[..., :1] * one[..., 1:2] - other[..., :1] * other[..., 1:2]
    return np.concatenate([one - other, of_means], axis=-1)


def _squares(apart: Floats, n: npt.NDArray[np.int64]) -> Floats:
    """Squared deviations from the mean of n prompts, summed: (prompts, pairs, 3) -> (pairs, 3). The others are 0."""
    squares: Floats = (apart**2).sum(axis=0) - divided(apart.sum(axis=0) ** 2, n[:, None].astype(np.float64))
    return squares


def _holm(found: Sequence[GeneratorDifference]) -> list[GeneratorDifference]:
    corrected = list(found)
    for metric in METRICS:
        tested = sorted((d.p, n) for n, d in enumerate(found) if d.metric == metric and d.p is not None)
        highest = 0.0
        for place, (p, n) in enumerate(tested):
            highest = max(highest, min(1.0, p * (len(tested) - place)))
            corrected[n] = replace(corrected[n], p_holm=highest)
    return corrected
