"""From the images of generators and what assessors said of them to scores, ranks and differences that the data hold.

    result = analyse(study)
    result.assessors[0].generators[0].places.get("cap")    # None: the data do not hold a rank

Whom to rank, and when not, is written at `assessor_result`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from math import ceil, sqrt
from statistics import NormalDist

import numpy as np

from anomreason.audit.cells import AssessorCells, Mask, check_study
from anomreason.audit.rates import kind_rates
from anomreason.audit.results import (
    AssessorAgreement,
    AssessorResult,
    AuditResult,
    GeneratorResult,
    PairResult,
    PlaceRange,
    SeedSpread,
    Why,
)
from anomreason.audit.study import Study
from anomreason.english import counted
from anomreason.evaluation.signature import Signature, code_signature, short_hash
from anomreason.metrics.plausibility import (
    METRICS,
    GeneratorDifference,
    GeneratorPlausibility,
    Metric,
    differences,
    plausibility,
    rank_agreement,
)
from anomreason.stats import LEVEL, Estimate, Floats, Interval, detectable, items_needed, rank_ranges

ALPHA = 0.05
"""Highest p, after Holm's correction, of a difference that counts."""
LEAST_PROMPTS = 20
"""Fewest common prompts for a rank, and for a pair to be told apart."""
LEAST_COVERED = 0.5
"""Least share of the prompts of which a generator needs an assessed image to be ranked."""
MOST_NEEDED = 1_000_000
"""Further prompts beyond which a number would say nothing."""
SHOWN = 8
"""Worst and best images that are kept of a generator."""


def analyse(study: Study, seed: int = 0) -> AuditResult:
    """Everything that the report of an audit says. The same study and seed give the same result.

    UsageError for a study that cannot be compared, such as two generators of one name.
    """
    check_study(study)
    tags = {
        tag: np.array([tag in prompt.tags for prompt in study.prompts], dtype=np.bool_)
        for tag in sorted({tag for prompt in study.prompts for tag in prompt.tags})
    }
    cells = {name: AssessorCells.of(study, name) for name in study.assessments}
    assessors = [assessor_result(name, one, tags, np.random.default_rng(seed)) for name, one in cells.items()]
    return AuditResult(
        signature=_signature(study, assessors),
        simulated=study.simulated,
        prompts=len(study.prompts),
        generators=study.generators,
        seeds=study.seeds,
        tags={tag: int(mask.sum()) for tag, mask in tags.items()},
        assessors=tuple(assessors),
        agreement=tuple(_agreement(*both, np.random.default_rng(seed)) for both in combinations(assessors, 2)),
        seed=seed,
        warnings=tuple(_warnings(study, cells)),
    )


def assessor_result(
    name: str, cells: AssessorCells, tags: Mapping[str, Mask], rng: np.random.Generator
) -> AssessorResult:
    """What one assessor says.

    Two generators are told apart when, over at least LEAST_PROMPTS prompts of which both have assessed images, their
    difference has p <= 0.05 after Holm's correction, and the order would stay if every failed image of the better one
    were as bad as the worst images of the audit, and every one of the other clean. A generator's place is behind all
    that are better and before all that are worse: one place, or a range where the data hold no more. A generator with
    assessed images of less than LEAST_COVERED of the prompts is not ranked and does not narrow the common prompts;
    with fewer than LEAST_PROMPTS of those, or a single generator, nobody is ranked.
    """
    known = cells.has_images
    ranked = [g for g in range(len(cells.generators)) if known[g].mean() >= LEAST_COVERED]
    common = np.asarray(known[ranked].all(axis=0) if ranked else np.zeros(len(cells.prompts)), dtype=np.bool_)
    scored = _by_name(plausibility(cells.records(ranked, common), rng, prompts_alike=True))
    own = _by_name(plausibility(cells.records(range(len(cells.generators))), rng, prompts_alike=True))
    worst = cells.worst()
    pairs, alpha = _pairs(cells, differences(cells.records(range(len(cells.generators))), rng))
    no_ranks = _no_ranks(len(ranked), int(common.sum()))
    places: dict[Metric, dict[str, PlaceRange]] = {}
    if no_ranks is None:
        places = {metric: _places(scored, [p for p in pairs if p.metric == metric], metric) for metric in METRICS}
    bounds = _bounds(cells, worst)
    nothing = dict.fromkeys(METRICS, Estimate(None, None, 0))
    generators = [
        GeneratorResult(
            generator=generator,
            images=cells.assessed[g].size,
            assessed=int(cells.assessed[g].sum()),
            prompts=int(known[g].sum()),
            missing=cells.missing[g],
            failed=cells.failed[g],
            unranked=None
            if g in ranked
            else f"assessed images of only {int(known[g].sum()):,} of {len(cells.prompts):,} prompts",
            scores=scored[generator].scores if generator in scored else nothing,
            own=own[generator].scores if generator in own else nothing,
            bounds=bounds[g],
            places={metric: found[generator] for metric, found in places.items() if generator in found},
            seeds=_seeds(cells, g, rng),
            worst=_extremes(cells, g, worst_first=True),
            best=_extremes(cells, g, worst_first=False),
        )
        for g, generator in enumerate(cells.generators)
    ]
    return AssessorResult(
        name=name,
        detectors=cells.detectors,
        common=int(common.sum()),
        no_ranks=no_ranks,
        worst=worst,
        alpha=alpha,
        generators=tuple(generators),
        pairs=tuple(pairs),
        kinds=tuple(kind_rates(cells, tags)),
    )


def _by_name(found: Sequence[GeneratorPlausibility]) -> dict[str, GeneratorPlausibility]:
    return {one.generator: one for one in found}


def _no_ranks(ranked: int, common: int) -> str | None:
    if ranked < 2:
        return "fewer than two generators have assessed images of enough prompts"
    if common < LEAST_PROMPTS:
        return f"only {counted(common, 'prompt is', 'prompts are')} common to all; a rank needs {LEAST_PROMPTS}"
    return None


def _pairs(cells: AssessorCells, found: Sequence[GeneratorDifference]) -> tuple[list[PairResult], dict[Metric, float]]:
    known = dict(zip(cells.generators, cells.has_images, strict=True))
    bounds = dict(zip(cells.generators, _bounds(cells, cells.worst()), strict=True))
    still_open = Counter(d.metric for d in found if d.p_holm is not None and d.p_holm > ALPHA)
    alpha = {metric: ALPHA / max(still_open[metric], 1) for metric in METRICS}
    pairs = []
    for d in found:
        value, n = d.difference.value, d.difference.n
        worst_case, ahead, behind, why = None, None, None, _why(d)
        if value is not None:
            ahead, behind = (d.one, d.other) if value < 0 else (d.other, d.one)
            worst_case = bounds[ahead][d.metric].high - bounds[behind][d.metric].low
            if why is None and worst_case >= 0:
                why = "failures could turn it"
        pairs.append(
            PairResult(
                one=d.one,
                other=d.other,
                metric=d.metric,
                difference=d.difference,
                left_out=int((known[d.one] ^ known[d.other]).sum()),
                p=d.p,
                p_holm=d.p_holm,
                better=ahead if why is None else None,
                worse=behind if why is None else None,
                why=why,
                worst_case=worst_case,
                spread=d.spread,
                needed=_needed(d, alpha[d.metric]),
                detectable=detectable(d.spread, n, alpha[d.metric]) if d.spread is not None else None,
            )
        )
    return pairs, alpha


def _why(d: GeneratorDifference) -> Why | None:
    if d.difference.n < LEAST_PROMPTS:
        return "too few prompts"
    significant = d.p_holm is not None and d.p_holm <= ALPHA and d.difference.value
    return None if significant else "not significant"


def _needed(d: GeneratorDifference, alpha: float) -> int | None:
    """Never fewer than a pair needs in any case."""
    if d.spread is None or not d.difference.value or d.p_holm is None or _why(d) is None:
        return None
    missing = LEAST_PROMPTS - d.difference.n
    more = items_needed(d.difference.value, d.spread, alpha) - d.difference.n if d.p_holm > ALPHA else missing
    return max(1, missing, ceil(more)) if more <= MOST_NEEDED else None


def _places(
    scored: Mapping[str, GeneratorPlausibility], pairs: Sequence[PairResult], metric: Metric
) -> dict[str, PlaceRange]:
    names = [name for name, one in scored.items() if one.scores[metric].value is not None]
    place_of = {name: n for n, name in enumerate(names)}
    better = np.zeros((len(names), len(names)), dtype=np.bool_)
    for pair in pairs:
        if pair.better is not None and pair.one in place_of and pair.other in place_of:
            better[place_of[pair.better], place_of[pair.worse or ""]] = True
    return {
        name: PlaceRange(first=first, last=last) for name, (first, last) in zip(names, rank_ranges(better), strict=True)
    }


def _bounds(cells: AssessorCells, worst: Mapping[Metric, float]) -> list[dict[Metric, Interval]]:
    """By generator; empty without an assessed image in the whole audit."""
    if not worst:
        return [{} for _ in cells.generators]
    low, high = cells.filled((0.0, 0.0, 0.0)), cells.filled((worst["mai"], worst["af"], worst["cap"]))
    return [
        {metric: Interval(float(low[g, k]), float(high[g, k])) for k, metric in enumerate(METRICS)}
        for g in range(len(cells.generators))
    ]


def _seeds(cells: AssessorCells, g: int, rng: np.random.Generator) -> dict[Metric, SeedSpread]:
    """For MAI, AF and CAP: `cap_of_means` has no value of one prompt."""
    values = cells.values[g]  # (prompts, seeds, 3)
    known = ~np.isnan(values[..., 0])
    several = known.sum(axis=1) > 1
    itself: dict[Metric, GeneratorDifference] = {}
    if values.shape[1] > 1:
        by_seed = differences([r for r in cells.records([g], several, by_seed=True) if r.generator in ("0", "1")], rng)
        itself = {d.metric: d for d in by_seed}
    spreads: dict[Metric, SeedSpread] = {}
    for k, metric in enumerate(list(METRICS)[:3]):
        within, between = _deviations(values[several, :, k])
        images = int(known.sum())
        z = NormalDist().inv_cdf((1 + LEVEL) / 2)
        one = itself.get(metric)
        spreads[metric] = SeedSpread(
            prompts=int(several.sum()),
            within=within,
            between=between,
            repeat=None if within is None else z * within * sqrt(2 / images),
            itself=one.difference if one else None,
            p=one.p if one else None,
        )
    return spreads


def _deviations(values: Floats) -> tuple[float | None, float | None]:
    """Pooled standard deviation between seeds, and that between prompts' means: (prompts, seeds), NaN where unknown."""
    if not len(values):
        return None, None
    counts = (~np.isnan(values)).sum(axis=1)
    means = np.nanmean(values, axis=1)
    squares = np.nansum((values - means[:, None]) ** 2)
    return sqrt(float(squares / (counts - 1).sum())), float(means.std(ddof=1)) if len(means) > 1 else None


def _extremes(cells: AssessorCells, g: int, worst_first: bool) -> tuple[str, ...]:
    """Keys of the images with the highest or lowest CAP, then MAI; of equal ones, those that set g most apart."""
    values, known = cells.values[g], cells.assessed[g]
    others = np.delete(cells.values[..., 2], g, axis=0)
    there = ~np.isnan(others)
    rest = np.where(there, others, 0.0).sum(axis=(0, 2)) / np.maximum(there.sum(axis=(0, 2)), 1)
    sign = -1.0 if worst_first else 1.0
    order = sorted(
        (sign * values[p, s, 2], sign * values[p, s, 0], -sign * rest[p], cells.keys[g][p][s])
        for p, s in zip(*np.nonzero(known), strict=True)
    )
    return tuple(key for *_, key in order[:SHOWN])


def _agreement(one: AssessorResult, other: AssessorResult, rng: np.random.Generator) -> AssessorAgreement:
    both = {p.metric: Counter[str]() for p in one.pairs}
    theirs = {(p.one, p.other, p.metric): p.better for p in other.pairs}
    for pair in one.pairs:
        better = theirs.get((pair.one, pair.other, pair.metric))
        unclear = pair.better is None or better is None
        both[pair.metric]["open" if unclear else "alike" if pair.better == better else "contrary"] += 1
    counts = {what: {m: both[m][what] if m in both else 0 for m in METRICS} for what in ("alike", "contrary", "open")}
    ranks = {metric: rank_agreement(_points(one, metric), _points(other, metric), rng) for metric in METRICS}
    return AssessorAgreement(one=one.name, other=other.name, ranks=ranks, **counts)


def _points(assessor: AssessorResult, metric: Metric) -> dict[str, float]:
    return {g.generator: value for g in assessor.generators if (value := g.scores[metric].value) is not None}


def _signature(study: Study, assessors: Sequence[AssessorResult]) -> Signature:
    detectors = sorted({name for one in assessors for name in one.detectors})
    prompts = short_hash("\n".join(sorted(prompt.text for prompt in study.prompts)))
    return code_signature().model_copy(update={"assessor": tuple(detectors), "prompts": prompts})


def _warnings(study: Study, cells: Mapping[str, AssessorCells]) -> list[str]:
    found = []
    made = {image.prompt for image in study.images if image.path is not None and image.missing is None}
    if empty := [prompt.id for prompt in study.prompts if prompt.id not in made]:
        some = ", ".join(empty[:5]) + (" ..." if len(empty) > 5 else "")
        found.append(f"{counted(len(empty), 'prompt has', 'prompts have')} no image of any generator: {some}")
    if len(study.seeds) == 1:
        found.append("there is a single seed, so nothing shows how far a generator differs from itself; give two")
    for name, one in cells.items():
        if len(one.detectors) > 1:
            found.append(f"the assessor {name!r} is several detectors ({', '.join(one.detectors)}); assess with one")
        if not one.assessed.any():
            found.append(f"the assessor {name!r} has assessed no image")
    return [*found, *study.notes]
