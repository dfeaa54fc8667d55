"""What an audit found, in sentences that page and terminal open with. They are plain text: names are not escaped.

answer(result.assessors[0], "cap")[0]    # 'flux is the most plausible of 5 generators.'
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from anomreason.audit.results import AssessorAgreement, AssessorResult, GeneratorResult, KindRate, PairResult
from anomreason.english import counted
from anomreason.metrics.plausibility import Metric
from anomreason.stats import Interval

NAMES: dict[Metric, str] = {"cap": "CAP", "mai": "MAI", "af": "AF", "cap_of_means": "CAP of means"}
"""How the metrics are called, the main one first."""
MAIN: Metric = "cap"
MOST = 8
"""Sentences about pairs and shared places; what more there is stands in the table."""

MOST_INSIDE = 3
"""Of those, about pairs of generators that share their places."""


def answer(found: AssessorResult, metric: Metric) -> list[str]:
    """Who is more plausible than whom by one metric, most important first; never an order that the data do not hold."""
    groups = shared_places(found, metric)
    sentences = [_opening(found, groups, metric)]
    details = list(_details(found, groups, metric))
    sentences += details[:MOST]
    if len(details) > MOST:
        sentences.append(
            f"{counted(len(details) - MOST, 'more statement follows', 'more statements follow')} from the table."
        )
    sentences += [f"{g.generator} has no rank: {g.unranked}." for g in found.generators if g.unranked]
    return sentences


def shared_places(found: AssessorResult, metric: Metric) -> list[list[GeneratorResult]]:
    """Ranked generators in the order of their scores, cut where no place is both above and below."""
    groups: list[list[GeneratorResult]] = []
    ranked = [g for g in found.ordered(metric) if metric in g.places]
    for place, generator in enumerate(ranked):
        last = max((g.places[metric].last for g in ranked[:place]), default=0)
        first = min(g.places[metric].first for g in ranked[place:])
        if last <= place < first:
            groups.append([])
        groups[-1].append(generator)
    return groups


def _opening(found: AssessorResult, groups: Sequence[Sequence[GeneratorResult]], metric: Metric) -> str:
    if found.no_ranks:
        return f"No order can be told: {found.no_ranks}."
    ranked = sum(map(len, groups))
    if len(groups) == 1:
        of = "the two generators" if ranked == 2 else f"the {ranked} generators"
        apart = any(p.better for p in found.pairs if p.metric == metric)
        return f"The data hold no full order of {of}." if apart else f"The data hold no order of {of}."
    first = [g.generator for g in groups[0]]
    if len(first) == 1:
        return f"{first[0]} is the most plausible of {ranked} generators."
    left = ranked - len(first)
    others = {1: "one", 2: "two", 3: "three"}.get(left, f"{left}")
    return f"{listed(first)} are more plausible than the other {others}."


def _details(found: AssessorResult, groups: Sequence[Sequence[GeneratorResult]], metric: Metric) -> Iterator[str]:
    for place, group in enumerate(groups):
        yield from _shared(found, group, metric)
        if place + 1 < len(groups):
            pair = found.pair(group[-1].generator, groups[place + 1][0].generator, metric)
            if pair is not None and pair.better:
                yield beats(pair)
    if found.no_ranks:
        yield from (beats(pair) for pair in found.pairs if pair.metric == metric and pair.better)


def _shared(found: AssessorResult, group: Sequence[GeneratorResult], metric: Metric) -> Iterator[str]:
    names = [g.generator for g in group]
    if len(names) == 2:
        if pair := found.pair(names[0], names[1], metric):
            yield unclear(pair)
    elif len(names) > 2:
        pairs = [pair for both in combinations(names, 2) if (pair := found.pair(both[0], both[1], metric))]
        apart = [pair for pair in pairs if pair.better]
        if not apart:
            yield f"{listed(names)} cannot be told apart."
            return
        first = min(g.places[metric].first for g in group)
        yield (
            f"{listed(names)} have the places {first} to {first + len(group) - 1} among them; {len(apart)} of their "
            f"{len(pairs)} pairs {'is' if len(apart) == 1 else 'are'} told apart."
        )
        yield from map(beats, apart[:MOST_INSIDE])


def beats(pair: PairResult) -> str:
    """One sentence of a pair that is told apart."""
    return f"{pair.better} is more plausible than {pair.worse}: {NAMES[pair.metric]} is lower by {_evidence(pair)}."


def unclear(pair: PairResult) -> str:
    """One sentence of a pair that is not."""
    both, name = f"{pair.one} and {pair.other}", NAMES[pair.metric]
    if pair.difference.value is None:
        return f"{both} cannot be compared: no prompt has assessed images of both."
    if pair.why == "failures could turn it":
        return f"{both} differ in {name} by {_evidence(pair)}, but their failed images could turn the order."
    text = f"{both} cannot be told apart: {name} differs by {_evidence(pair)}"
    if pair.why == "too few prompts":
        return f"{text}; that are too few prompts."
    if pair.needed is None:
        return f"{text}."
    return f"{text}; about {significant(pair.needed)} further prompts would tell, if the difference is as seen."


def _evidence(pair: PairResult) -> str:
    """`0.39 (95 % interval 0.21 to 0.56, p = 0.001 after Holm's correction, 246 prompts)`, without the sign."""
    value, ends = pair.difference.value or 0.0, pair.difference.interval
    if value < 0:
        value, ends = -value, Interval(-ends.high, -ends.low) if ends else None
    parts = [f"95 % interval {plain(ends.low)} to {plain(ends.high)}"] if ends else []
    if pair.p_holm is not None:
        parts.append(f"p {'< 0.001' if pair.p_holm < 0.001 else f'= {pair.p_holm:.3f}'} after Holm's correction")
    parts.append(counted(pair.difference.n, "prompt", "prompts"))
    return f"{plain(value)} ({', '.join(parts)})"


def failing(rate: KindRate) -> str:
    """`hands: 31 % (25 to 38 %) of 124 images of "people in motion"`."""
    share, ends = rate.rate or 0.0, rate.interval
    span = f" ({100 * ends.low:.0f} to {100 * ends.high:.0f} %)" if ends else ""
    of = f' of "{rate.tag}"' if rate.tag is not None else ""
    return f"{rate.kind}: {100 * share:.0f} %{span} of {counted(rate.images, 'image', 'images')}{of}"


def agreeing(found: AssessorAgreement, metric: Metric) -> str:
    """One sentence of how far two assessors tell the same pairs apart."""
    total = found.alike[metric] + found.contrary[metric] + found.open[metric]
    text = (
        f"By {NAMES[metric]}, {found.one} and {found.other} find the same generator better in {found.alike[metric]} of "
        f"{counted(total, 'pair', 'pairs')}"
    )
    contrary = found.contrary[metric]
    return f"{text}, the opposite in {contrary}." if contrary else f"{text}, the opposite in none."


def listed(names: Sequence[str], most: int = 8) -> str:
    """`a, b and c`; of more than `most`, the first ones and how many there are more."""
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} others"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def plain(value: float) -> str:
    """Two decimals, three below 0.1; with a proper minus where there is one."""
    text = f"{value:.3f}" if abs(value) < 0.1 else f"{value:,.2f}"
    return text.replace("-", "−")


def significant(number: int) -> str:
    """Two significant digits: a number of prompts is an estimate. `130`, `2,400`."""
    digits = len(str(number))
    return f"{round(number, 2 - digits) if digits > 2 else number:,}"


def places_text(found: GeneratorResult, metric: Metric) -> str:
    """`1`, `2–4`, or `–` without a rank."""
    place = found.places.get(metric)
    if place is None:
        return "–"
    return f"{place.first}" if place.first == place.last else f"{place.first}–{place.last}"
