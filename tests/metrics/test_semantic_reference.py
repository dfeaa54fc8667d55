"""SemAP and SemF1 as a naive reference computes them, in whole numbers; what may not change them, or raise them."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomreason.metrics.image_scores import PROFILES, SemanticSettings
from anomreason.metrics.semantic import SemanticScorer

# --- against a naive reference


class Case(NamedTuple):
    """Similarities in hundredths."""

    phe: list[list[int]]
    rea: list[list[int]]
    truths: int
    severities: list[int]
    failed: bool


STEPS = (30, 69, 70, 75, 80, 85, 90, 100)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    predictions, truths = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    drawn = draw(st.binary(min_size=2 * predictions * truths, max_size=2 * predictions * truths))
    numbers = [STEPS[byte % len(STEPS)] for byte in drawn]
    rows = [numbers[k * truths : (k + 1) * truths] for k in range(2 * predictions)]
    severities = [(0, 30, 100)[byte % 3] for byte in draw(st.binary(min_size=predictions, max_size=predictions))]
    failed = draw(st.sampled_from([False, False, False, True]))
    return Case(rows[:predictions], rows[predictions:], truths, severities, failed)


SHARES = {"phe": 10, "rea": 0, "full": 5, "full@0.3": 3}
"""Tenths of the phenomenon."""


def similarity(case: Case, view: str, p: int, t: int) -> int:
    """In thousandths: no rounding, no floats."""
    return SHARES[view] * case.phe[p][t] + (10 - SHARES[view]) * case.rea[p][t]


def naive_hits(case: Case, profile: str, view: str, threshold: int) -> list[bool]:
    """Whether each prediction found a truth, most confident first."""
    n = len(case.phe)
    taken: dict[int, int] = {}
    order = sorted(range(n), key=lambda p: (-(100 - case.severities[p]), p))
    if profile == "paper":
        for p in order:
            able = [
                (similarity(case, view, p, t), similarity(case, "full", p, t), -t)
                for t in range(case.truths)
                if t not in taken.values() and similarity(case, view, p, t) >= threshold
            ]
            if able:
                taken[p] = -max(able)[2]
        return [p in taken for p in order]
    pairs = sorted((-similarity(case, view, p, t), p, t) for p in range(n) for t in range(case.truths))
    hit: dict[int, bool] = {}
    for negative, p, t in pairs:
        if p not in taken and t not in taken.values():
            taken[p], hit[p] = t, -negative >= threshold
    return [hit.get(p, False) for p in order]


def naive_image(case: Case, profile: str, view: str, threshold: int) -> tuple[Fraction, Fraction]:
    """AP or precision, and F1."""
    if case.failed:
        return Fraction(0), Fraction(0)
    if not case.phe or not case.truths:
        same = Fraction(int(len(case.phe) == case.truths))
        return same, same
    hits = naive_hits(case, profile, view, threshold)
    precision, recall = Fraction(sum(hits), len(hits)), Fraction(sum(hits), case.truths)
    f1 = 2 * precision * recall / (precision + recall) if any(hits) else Fraction(0)
    if profile == "release":
        return precision, f1
    recalls = [Fraction(sum(hits[: k + 1]), case.truths) for k in range(len(hits))]
    steps = [after - before for before, after in pairwise([Fraction(0), *recalls])]
    return sum((Fraction(sum(hits[: k + 1]), k + 1) * step for k, step in enumerate(steps)), Fraction(0)), f1


def filled(all_cases: list[Case]) -> SemanticScorer:
    made = SemanticScorer(SemanticSettings(alphas=(0.5, 0.3)))
    for number, case in enumerate(all_cases):
        if case.failed:
            made.add_failure(str(number), "refused", case.truths)
        else:
            phe, rea = (np.array(rows).reshape(len(rows), case.truths) / 100 for rows in (case.phe, case.rea))
            made.add(str(number), phe, rea, case.severities)
    return made


@settings(max_examples=500, deadline=None)
@given(st.lists(cases(), min_size=1, max_size=3), st.data())
def test_figures_agree_with_the_naive_reference(all_cases: list[Case], data: st.DataObject) -> None:
    made = filled(all_cases)
    profile, view = data.draw(st.sampled_from(list(PROFILES))), data.draw(st.sampled_from(made.settings.views))
    thresholds = [700, 800, 900]
    table = made.table
    at = made.settings.profiles.index(profile), made.settings.views.index(view)
    semap, semf1 = (cells[:, *at].mean(axis=-1) for cells in (table.ap, table.f1))
    for n, case in enumerate(all_cases):
        aps, f1s = zip(*(naive_image(case, profile, view, t) for t in thresholds), strict=True)
        assert (semap[n], semf1[n]) == pytest.approx((float(sum(aps) / 3), float(sum(f1s) / 3)))
    answered = [case for case in all_cases if not case.failed and case.phe and case.truths]
    tps = [sum(sum(naive_hits(case, profile, view, t)) for case in answered) for t in thresholds]
    assert table.tp[:, *at].sum(axis=0).tolist() == tps
    assert np.all(table.ap[:, *at] <= table.recall[:, *at]) or profile == "release"


# --- what may not change a score, and what may not raise it


@settings(max_examples=30, deadline=None)
@given(st.lists(cases(), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(all_cases: list[Case], random: Any) -> None:
    forwards, shuffled = filled(all_cases), SemanticScorer(SemanticSettings(alphas=(0.5, 0.3)))
    numbers = list(range(len(all_cases)))
    random.shuffle(numbers)
    for number in numbers:
        case = all_cases[number]
        if case.failed:
            shuffled.add_failure(str(number), "refused", case.truths)
        else:
            phe, rea = (np.array(rows).reshape(len(rows), case.truths) / 100 for rows in (case.phe, case.rea))
            shuffled.add(str(number), phe, rea, case.severities)
    assert forwards.result(np.random.default_rng(0)) == shuffled.result(np.random.default_rng(0))
    one, other = forwards.table, shuffled.table
    assert one.images == other.images
    assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("answered", "truths", "tp", "ap"))


@settings(max_examples=100, deadline=None)
@given(cases().filter(lambda case: bool(case.phe and case.truths)), st.sampled_from([0, 30, 100]))
def test_a_prediction_that_matches_nothing_never_raises_a_score(case: Case, severity: int) -> None:
    less = filled([case._replace(failed=False)])
    low = [10] * case.truths
    more = filled([Case([*case.phe, low], [*case.rea, low], case.truths, [*case.severities, severity], False)])
    one, other = less.table, more.table
    assert np.all(other.precision <= one.precision)
    assert np.all(other.recall == one.recall)
    assert np.all(other.ap <= one.ap)
    assert np.all(other.f1 <= one.f1)
