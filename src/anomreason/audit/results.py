"""The result of an audit, `audit.json`: what its page and the terminal show, in typed records.

read_result(Path("audit/audit.json"), AuditResult).assessors[0].pairs[0].better
"""

from __future__ import annotations

from typing import Literal

from anomreason.anomaly import Result
from anomreason.evaluation.signature import Signature
from anomreason.metrics.plausibility import Metric, RankAgreement
from anomreason.stats import Estimate, Interval

Why = Literal["too few prompts", "not significant", "failures could turn it"]


class PlaceRange(Result):
    """Places that a generator can have in the order, 1 = most plausible. All ranges together hold with 95 %."""

    first: int
    """Behind all that are told to be better."""
    last: int
    """Before all that are told to be worse."""


class SeedSpread(Result):
    """How far one generator's images of one prompt differ: what its score would differ from itself."""

    prompts: int
    """With assessed images of at least two seeds."""
    within: float | None
    """Standard deviation between the seeds of a prompt; None without such a prompt."""
    between: float | None
    """Standard deviation between prompts, of the means of their seeds; None for fewer than two prompts."""
    repeat: float | None
    """Same prompts with other seeds: in 95 % of such repetitions, the score differs by no more than this."""
    itself: Estimate | None
    """The first seed's score minus the second's, over prompts with both; None for a single seed."""
    p: float | None
    """Of that difference, two-sided."""


class GeneratorResult(Result):
    """One generator as one assessor sees it. In all scores lower is better, 0 is flawless."""

    generator: str
    images: int
    """Wanted: prompts times seeds."""
    assessed: int
    prompts: int
    """With an assessed image."""
    missing: dict[str, int]
    """Images that the generator did not make, by reason."""
    failed: dict[str, int]
    """Images that were not assessed, by kind of failure."""
    unranked: str | None
    """Why it has no rank and is left out of the common prompts; None where it is not."""
    scores: dict[Metric, Estimate]
    """Over the common prompts, each of which weighs the same; intervals by bootstrap over prompts."""
    own: dict[Metric, Estimate]
    """Over all prompts of which it has an assessed image, which may be others than those of another generator."""
    bounds: dict[Metric, Interval]
    """Over all prompts, with missing and failed images as clean, and as the worst images of the audit."""
    places: dict[Metric, PlaceRange]
    """Empty where the data do not hold a rank."""
    seeds: dict[Metric, SeedSpread]
    worst: tuple[str, ...]
    """Keys of images with the highest CAP; of equal ones, first where other generators did well."""
    best: tuple[str, ...]
    """Keys of images with the lowest CAP; of equal ones, first where other generators did badly."""


class PairResult(Result):
    """Two generators compared over the prompts of which both have assessed images."""

    one: str
    other: str
    metric: Metric
    difference: Estimate
    """The first's score minus the second's, below 0 when the first is more plausible; n counts prompts."""
    left_out: int
    """Prompts of which one of the two has no assessed image."""
    p: float | None
    """Two-sided, by exchanging the two generators' images of prompts; None without a common prompt."""
    p_holm: float | None
    """The same, corrected for the number of pairs (Holm 1979)."""
    better: str | None
    """The more plausible one; None when the data do not hold that, see `why`."""
    worse: str | None
    """The other one; None when the data do not hold that."""
    why: Why | None
    """None when one is better."""
    worst_case: float | None
    """Of the one that seems better: score minus the other's over all prompts, with its own failures as worst images and
    the other's as clean. At 0 or above, failures could turn the order. None when neither has a score."""
    spread: float | None
    """Standard deviation of the prompts' differences."""
    needed: int | None
    """Further prompts that would tell them apart if the true difference is the one seen; None when already told."""
    detectable: float | None
    """The smallest difference that this many prompts would tell apart."""


class KindRate(Result):
    """How often images of one generator have an anomaly of one kind."""

    generator: str
    tag: str | None
    """Of the prompts; None: all prompts."""
    kind: str | None
    """None: any anomaly."""
    images: int
    """Assessed."""
    found: int
    """With an anomaly of the kind."""
    rate: float | None
    interval: Interval | None
    """Wilson's, with fewer images counted where images of one prompt are alike."""


class AssessorResult(Result):
    """Everything that one assessor says."""

    name: str
    detectors: tuple[str, ...]
    """Names in its detections: model and schedule."""
    common: int
    """Prompts of which every ranked generator has an assessed image."""
    no_ranks: str | None
    """Why nobody has a rank; None where somebody has."""
    worst: dict[Metric, float]
    """What a failed image counts in the upper bound: the mean of the worst twentieth of all assessed images."""
    alpha: dict[Metric, float]
    """Level of each test in `needed` and `detectable`: 0.05 by the number of pairs that are not told apart yet."""
    generators: tuple[GeneratorResult, ...]
    pairs: tuple[PairResult, ...]
    kinds: tuple[KindRate, ...]

    def ordered(self, metric: Metric) -> list[GeneratorResult]:
        """The generators by score, most plausible first; those without a rank last."""

        def key(one: GeneratorResult) -> tuple[bool, float]:
            value = one.scores[metric].value
            return value is None, one.own[metric].value or 0.0 if value is None else value

        return sorted(self.generators, key=key)

    def pair(self, one: str, other: str, metric: Metric) -> PairResult | None:
        """Of two generators, in either order."""
        both = {one, other}
        return next((p for p in self.pairs if p.metric == metric and {p.one, p.other} == both), None)


class AssessorAgreement(Result):
    """How far two assessors say the same."""

    one: str
    other: str
    ranks: dict[Metric, RankAgreement]
    """Correlation of the generators' scores; no interval below five generators."""
    alike: dict[Metric, int]
    """Pairs of generators of which both find the same one better."""
    contrary: dict[Metric, int]
    """Pairs of which each finds another one better."""
    open: dict[Metric, int]
    """Pairs that at least one of the two does not tell apart."""


class AuditResult(Result):
    """`audit.json`."""

    signature: Signature
    simulated: bool
    prompts: int
    generators: tuple[str, ...]
    seeds: tuple[int, ...]
    tags: dict[str, int]
    """Prompts by tag."""
    assessors: tuple[AssessorResult, ...]
    agreement: tuple[AssessorAgreement, ...]
    """Of every pair of assessors."""
    seed: int
    """Of the intervals and p-values."""
    warnings: tuple[str, ...]
