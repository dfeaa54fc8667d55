"""Inter-annotator agreement: verdicts of several people on the same candidates, anomalies of two in the same images.

All coefficients are functions of sums over items, so that bootstrap intervals over items are cheap. Try it:

    >>> votes = [Verdict(str(item), person, "accept") for item in range(9) for person in "ab"]
    >>> votes += [Verdict("9", "a", "reject"), Verdict("9", "b", "accept")]
    >>> agreement(votes, np.random.default_rng(0)).raw.value
    0.9
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from anomreason.errors import UsageError
from anomreason.metrics.image_scores import ImageScores, SemanticSettings, score_image
from anomreason.metrics.matching import rank
from anomreason.stats import RESAMPLES, Estimate, Floats, divided, estimate, mean, ratio

Codes = npt.NDArray[np.int64]
"""(items, people): index of the category, -1 where that person gave no verdict."""


class Verdict(NamedTuple):
    """One person's verdict on one item."""

    item: str
    person: str
    verdict: str


@dataclass(frozen=True, slots=True)
class PairAgreement:
    """Agreement of two people on the items that both judged."""

    one: str
    other: str
    raw: Estimate
    cohen_kappa: Estimate
    """No value when both always gave the same single verdict: then chance explains all agreement."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement of several people, who may have skipped items. Every n counts items with two verdicts or more."""

    items: int
    people: tuple[str, ...]
    verdicts: dict[str, int]
    """Number of verdicts by category: a coefficient means little when nearly all are the same."""
    judged_once: int
    """Items with a single verdict. They count for the frequencies of categories, not for agreement."""
    raw: Estimate
    """Share of agreeing pairs of verdicts of an item, averaged over items."""
    fleiss_kappa: Estimate
    """In Gwet's form, which allows for missing verdicts and equals Fleiss' own without them."""
    krippendorff_alpha: Estimate
    """For nominal categories."""
    gwet_ac1: Estimate
    """Unlike the kappas, it stays near the raw agreement when nearly all verdicts are the same."""
    pairs: tuple[PairAgreement, ...]
    """All pairs of people who share an item."""


def agreement(
    verdicts: Iterable[Verdict],
    rng: np.random.Generator,
    categories: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
) -> Agreement:
    """Agreement of people on items, with intervals over items.

    categories: all possible verdicts; None takes those that occur (AC1 depends on their number). UsageError without
    verdicts, for a second verdict of one person on one item, and for an unknown category.
    """
    rows = list(verdicts)
    people = tuple(sorted({r.person for r in rows}))
    known = sorted({r.verdict for r in rows}) if categories is None else list(categories)
    codes = _codes(rows, people, known)
    counts = np.stack([(codes == c).sum(axis=1) for c in range(len(known))], axis=1).astype(np.float64)
    given = counts.sum(axis=1)
    several = counts[given > 1]
    by_item, n = _by_item(counts), len(several)
    return Agreement(
        items=len(codes),
        people=people,
        verdicts={name: int(total) for name, total in zip(known, counts.sum(axis=0), strict=True)},
        judged_once=len(codes) - n,
        raw=estimate(by_item, ratio, rng, n, resamples),
        fleiss_kappa=estimate(by_item, _fleiss, rng, n, resamples),
        krippendorff_alpha=estimate(_coincidences(several), _alpha, rng, n, resamples),
        gwet_ac1=estimate(by_item, _ac1, rng, n, resamples),
        pairs=tuple(_pairs(codes, people, len(known), rng, resamples)),
    )


def _codes(rows: Sequence[Verdict], people: Sequence[str], categories: Sequence[str]) -> Codes:
    if not rows:
        raise UsageError("no verdicts; agreement needs items that several people judged")
    row_of = {item: n for n, item in enumerate(dict.fromkeys(r.item for r in rows))}
    column_of = {person: n for n, person in enumerate(people)}
    code_of = {category: n for n, category in enumerate(categories)}
    codes = np.full((len(row_of), len(people)), -1, dtype=np.int64)
    for item, person, verdict in rows:
        if verdict not in code_of:
            raise UsageError(f"unknown verdict {verdict!r} of {person!r} on {item!r}; use one of {list(categories)!r}")
        if codes[row_of[item], column_of[person]] >= 0:
            raise UsageError(f"{person!r} has two verdicts on {item!r}; pass the one that counts")
        codes[row_of[item], column_of[person]] = code_of[verdict]
    return codes


def _by_item(counts: Floats) -> Floats:
    """(items, 3 + categories): share of pairs that agree, 1 if there are pairs, 1, share of each category."""
    given = counts.sum(axis=1)
    several = given > 1
    agreeing = np.where(several, (counts * (counts - 1)).sum(axis=1) / np.maximum(given * (given - 1), 1), 0.0)
    return np.column_stack([agreeing, several, np.ones(len(counts)), counts / given[:, None]])


def _fleiss(sums: Floats) -> Floats:
    """Fleiss 1971; with missing verdicts as in Gwet, Handbook of Inter-Rater Reliability (2014), section 2.3."""
    shares = divided(sums[..., 3:], sums[..., 2:3])
    return _beyond_chance(ratio(sums), (shares**2).sum(axis=-1))


def _ac1(sums: Floats) -> Floats:
    """Gwet 2008, doi:10.1348/000711006X126600."""
    shares = divided(sums[..., 3:], sums[..., 2:3])
    categories = shares.shape[-1]
    if categories < 2:
        return np.full(sums.shape[:-1], np.nan)
    return _beyond_chance(ratio(sums), (shares * (1 - shares)).sum(axis=-1) / (categories - 1))


def _beyond_chance(observed: Floats, chance: Floats) -> Floats:
    return divided(observed - chance, 1 - chance)


def _coincidences(several: Floats) -> Floats:
    """(items with two verdicts or more, 1 + categories): coincidences of equal verdicts, verdicts per category."""
    equal = (several * (several - 1)).sum(axis=1) / (several.sum(axis=1) - 1)
    return np.column_stack([equal, several])


def _alpha(sums: Floats) -> Floats:
    """1 - observed / expected disagreement; Krippendorff, Computing Krippendorff's Alpha-Reliability (2011)."""
    totals = sums[..., 1:]
    total = totals.sum(axis=-1)
    observed = 1 - divided(sums[..., 0], total)
    expected = 1 - divided((totals * (totals - 1)).sum(axis=-1), total * (total - 1))
    return 1 - divided(observed, expected)


def _pairs(
    codes: Codes, people: Sequence[str], categories: int, rng: np.random.Generator, resamples: int
) -> Iterator[PairAgreement]:
    for one, other in combinations(range(len(people)), 2):
        both = codes[(codes[:, one] >= 0) & (codes[:, other] >= 0)][:, [one, other]]
        if len(both):
            cells = np.eye(categories**2)[both[:, 0] * categories + both[:, 1]]
            raw = mean(both[:, 0] == both[:, 1], rng, resamples)
            kappa = estimate(cells, _cohen, rng, resamples=resamples)
            yield PairAgreement(people[one], people[other], raw, kappa)


def _cohen(sums: Floats) -> Floats:
    """Cohen 1960, from the contingency table of two people: (..., categories x categories) -> (...)."""
    side = int(sums.shape[-1] ** 0.5 + 0.5)
    table = sums.reshape(*sums.shape[:-1], side, side) / sums.sum(axis=-1)[..., None, None]
    chance = (table.sum(axis=-1) * table.sum(axis=-2)).sum(axis=-1)
    return _beyond_chance(np.trace(table, axis1=-2, axis2=-1), chance)


@dataclass(frozen=True, slots=True)
class DoubleAnnotation:
    """One image annotated by two people: similarities of their anomalies."""

    image: str
    phe: npt.NDArray[np.float64]
    """(anomalies of one, anomalies of the other): similarities of the phenomena, -1..1."""
    rea: npt.NDArray[np.float64]
    """The same for the reasoning."""
    severities: tuple[Sequence[float], Sequence[float]] | None = None
    """Of both people's anomalies, 0 = completely implausible: these are matched first. None: matched in order."""


@dataclass(frozen=True, slots=True)
class ThresholdAgreement:
    """Anomalies that count as the same from one similarity on."""

    pairs: int
    """Matched from the most similar pair on, each anomaly once; symmetric but for ties."""
    share_of_one: Estimate
    """Share of one's anomalies that the other annotated too."""
    share_of_other: Estimate


@dataclass(frozen=True, slots=True)
class ViewAgreement:
    """Agreement of two annotators in one view."""

    thresholds: dict[float, ThresholdAgreement]
    semf1_one_against_other: Estimate
    """SemF1 of the profile `paper`, with one as prediction and the other as truth."""
    semf1_other_against_one: Estimate


@dataclass(frozen=True, slots=True)
class AnnotationAgreement:
    """Agreement of two annotators on the same images (appendix F of the paper)."""

    images: int
    failures: dict[str, int]
    """Number of images that were not compared, by kind of failure of either annotator."""
    both_empty: int
    """Images without an anomaly by either annotator: they score 1."""
    found_by_one: int
    found_by_other: int
    an_image_one: Estimate
    an_image_other: Estimate
    other_over_one: Estimate
    """Anomalies of the other per anomaly of one."""
    views: dict[str, ViewAgreement]


def compare_annotations(
    images: Sequence[DoubleAnnotation],
    rng: np.random.Generator,
    settings: SemanticSettings | None = None,
    failures: Iterable[str] = (),
) -> AnnotationAgreement:
    """How many anomalies two annotators of the same images found, and how many of them in common.

    settings: thresholds and alphas; None takes the paper's. failures: kinds, one for each image on which either
    annotator failed. UsageError for duplicate images, and unless there is one severity per anomaly.
    """
    if doubles := [i for i, times in Counter(c.image for c in images).items() if times > 1]:
        raise UsageError(f"duplicate images {doubles[:5]!r}: pass each image once")
    settings = replace(settings or SemanticSettings(), profiles=("paper", "release"), rank_by="severity")
    forth = [score_image(c.phe, c.rea, _order(c, 0), settings, c.image) for c in images]
    back = [score_image(c.phe.T, c.rea.T, _order(c, 1), settings, c.image) for c in images]
    sizes = np.array([c.phe.shape for c in images], dtype=np.float64).reshape(-1, 2)
    return AnnotationAgreement(
        images=len(images),
        failures=dict(Counter(failures)),
        both_empty=int((sizes.sum(axis=1) == 0).sum()),
        found_by_one=int(sizes[:, 0].sum()),
        found_by_other=int(sizes[:, 1].sum()),
        an_image_one=mean(sizes[:, 0], rng),
        an_image_other=mean(sizes[:, 1], rng),
        other_over_one=estimate(sizes[:, ::-1], ratio, rng),
        views={
            view: ViewAgreement(
                thresholds=dict(_matched(forth, sizes, view, settings, rng)),
                semf1_one_against_other=mean([s.semf1("paper", view) for s in forth], rng),
                semf1_other_against_one=mean([s.semf1("paper", view) for s in back], rng),
            )
            for view in settings.views
        },
    )


def _matched(
    scores: Sequence[ImageScores], sizes: Floats, view: str, settings: SemanticSettings, rng: np.random.Generator
) -> Iterator[tuple[float, ThresholdAgreement]]:
    place = settings.place("release", view)
    pairs = np.array([s.tp[place] for s in scores], dtype=np.float64).reshape(-1, len(settings.thresholds))
    for number, threshold in enumerate(settings.thresholds):
        shares = [estimate(np.column_stack([pairs[:, number], sizes[:, k]]), ratio, rng) for k in (0, 1)]
        yield threshold, ThresholdAgreement(int(pairs[:, number].sum()), *shares)


def _order(image: DoubleAnnotation, side: int) -> list[int]:
    count = image.phe.shape[side]
    if image.severities is None:
        return list(range(count))
    severities = image.severities[side]
    if len(severities) != count:
        raise UsageError(f"{image.image!r} has {count} anomalies but {len(severities)} severities; pass one for each")
    return rank(severities)
