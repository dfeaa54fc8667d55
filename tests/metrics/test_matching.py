"""Pairs and scores of one image: by hand, and as a naive reference finds them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomreason.errors import UsageError
from anomreason.metrics.matching import (
    MAX_PAIRS,
    average_precision,
    match_paper,
    match_release,
    precision_recall_f1,
    rank,
)

Rows = list[list[float]]

# --- order


def test_the_least_plausible_comes_first_and_equal_ones_keep_their_order() -> None:
    assert rank([50, 0, 50, 100, 0]) == [1, 4, 0, 2, 3]


def test_predictions_are_ranked_by_confidence_or_left_as_they_are() -> None:
    assert rank([50, 0, 50], confidences=[0.2, 0.9, 0.9], by="confidence") == [1, 2, 0]
    assert rank([50, 0, 50], by="order") == [0, 1, 2]
    assert rank([]) == []


def test_what_cannot_be_ranked_is_an_error() -> None:
    with pytest.raises(UsageError, match="severity of prediction 1 is nan"):
        rank([1.0, float("nan")])
    with pytest.raises(UsageError, match="confidence of prediction 0 is inf"):
        rank([1.0], confidences=[float("inf")], by="confidence")
    with pytest.raises(UsageError, match="none for 2"):
        rank([1.0, 2.0], by="confidence")
    with pytest.raises(UsageError, match="'luck'"):
        rank([1.0], by="luck")  # type: ignore[arg-type]


# --- the paper's matching


def test_the_first_in_order_takes_the_best_truth_even_if_another_would_fit_it_better() -> None:
    view = [[0.8, 0.75], [0.95, 0.6]]
    assert match_paper(view, view, [0, 1], 0.7) == [0, None]
    assert match_paper(view, view, [1, 0], 0.7) == [1, 0]


def test_a_similarity_that_equals_the_threshold_matches() -> None:
    assert match_paper([[0.7]], [[0.0]], [0], 0.7) == [0]
    assert match_paper([[0.6999]], [[1.0]], [0], 0.7) == [None]


def test_ties_go_to_the_higher_full_similarity_then_to_the_smaller_index() -> None:
    view = [[0.9, 0.9, 0.9, 0.8]]
    assert match_paper(view, [[0.5, 0.8, 0.8, 1.0]], [0], 0.7) == [1]
    assert match_paper(view, [[0.5, 0.5, 0.5, 1.0]], [0], 0.7) == [0]


def test_a_duplicate_prediction_does_not_match_twice() -> None:
    assert match_paper([[0.9], [0.9]], [[0.9], [0.9]], [0, 1], 0.7) == [0, None]


# --- the release's matching


def test_the_most_similar_pair_of_all_goes_first() -> None:
    assert match_release([[0.8, 0.75], [0.95, 0.6]], 0.7) == [1, 0]
    assert match_release([[0.8, 0.75], [0.95, 0.6]], 0.76) == [None, 0]


def test_a_pair_under_the_threshold_is_not_replaced_by_another() -> None:
    assert match_release([[0.9, 0.85], [0.88, 0.2]], 0.7) == [0, None]


def test_equal_pairs_go_by_smallest_prediction_then_smallest_truth() -> None:
    assert match_release([[0.8, 0.8], [0.8, 0.8], [0.8, 0.9]], 0.7) == [0, None, 1]
    assert match_release([[0.5, 0.8, 0.8], [0.8, 0.8, 0.8]], 0.7) == [1, 0]


# --- scores


@pytest.mark.parametrize(
    ("hits", "truths", "value"),
    [
        ([True, False, True], 3, Fraction(5, 9)),  # (1/1 + 2/3) / 3
        ([False, True, True, False], 2, Fraction(7, 12)),  # (1/2 + 2/3) / 2
        ([True, True], 2, 1),
        ([True, True], 4, Fraction(1, 2)),
        ([False, False], 2, 0),
        ([], 0, 1),
        ([], 3, 0),
        ([False], 0, 0),
    ],
)
def test_average_precision_by_hand(hits: list[bool], truths: int, value: Fraction) -> None:
    assert average_precision(hits, truths) == pytest.approx(float(value))


@pytest.mark.parametrize(
    ("counts", "scores"),
    [
        ((2, 8, 6), (2 / 8, 2 / 6, 4 / 14)),
        ((0, 3, 2), (0, 0, 0)),
        ((3, 3, 3), (1, 1, 1)),
        ((0, 0, 0), (1, 1, 1)),
        ((0, 0, 4), (0, 0, 0)),
        ((0, 5, 0), (0, 0, 0)),
    ],
)
def test_precision_recall_and_f1_by_hand(counts: tuple[int, int, int], scores: tuple[float, float, float]) -> None:
    assert precision_recall_f1(*counts) == pytest.approx(scores)


# --- against a naive reference


@st.composite
def cases(draw: st.DrawFn) -> tuple[Rows, Rows, list[int], float]:
    """Few different similarities, so that ties and thresholds are hit often."""
    predictions, truths = draw(st.integers(0, 6)), draw(st.integers(1, 6))
    steps = st.sampled_from([0.2, 0.65, 0.7, 0.75, 0.8, 0.9, 1.0])
    rows = st.lists(st.lists(steps, min_size=truths, max_size=truths), min_size=predictions, max_size=predictions)
    return draw(rows), draw(rows), draw(st.permutations(range(predictions))), draw(st.sampled_from([0.7, 0.8, 0.9]))


def naive_paper(view: Rows, full: Rows, order: list[int], threshold: float) -> set[tuple[int, int]]:
    pairs: set[tuple[int, int]] = set()
    for p in order:
        taken = {t for _, t in pairs}
        able = [(view[p][t], full[p][t], -t) for t in range(len(view[p])) if t not in taken and view[p][t] >= threshold]
        if able:
            pairs.add((p, -max(able)[2]))
    return pairs


def naive_release(view: Rows, threshold: float) -> set[tuple[int, int]]:
    left = {(p, t) for p, row in enumerate(view) for t in range(len(row))}
    pairs = set()
    while left:
        best = max(left, key=lambda pair: (view[pair[0]][pair[1]], -pair[0], -pair[1]))
        pairs.add(best)
        left = {pair for pair in left if pair[0] != best[0] and pair[1] != best[1]}
    return {(p, t) for p, t in pairs if view[p][t] >= threshold}


def pairs_of(matched: list[int | None]) -> set[tuple[int, int]]:
    return {(p, t) for p, t in enumerate(matched) if t is not None}


@settings(max_examples=500)
@given(cases())
def test_both_matchings_agree_with_the_naive_ones(case: tuple[Rows, Rows, list[int], float]) -> None:
    view, full, order, threshold = case
    assert pairs_of(match_paper(view, full, order, threshold)) == naive_paper(view, full, order, threshold)
    assert pairs_of(match_release(view, threshold)) == naive_release(view, threshold)
    assert match_paper(np.array(view), np.array(full), order, threshold) == match_paper(*case)
    assert match_release(np.array(view), threshold) == match_release(view, threshold)


@given(cases())
def test_average_precision_is_at_most_recall(case: tuple[Rows, Rows, list[int], float]) -> None:
    view, full, order, threshold = case
    truths = len(view[0]) if view else 1
    matched = match_paper(view, full, order, threshold)
    hits = [matched[p] is not None for p in order]
    assert average_precision(hits, truths) <= precision_recall_f1(sum(hits), len(view), truths).recall


# --- size


def test_ten_thousand_predictions_are_matched() -> None:
    view = np.full((10_000, 6), 0.8)
    assert sum(t is not None for t in match_release(view, 0.7)) == 6
    assert match_paper(view, view, range(10_000), 0.7)[:7] == [0, 1, 2, 3, 4, 5, None]


def test_more_pairs_than_can_be_matched_in_time_are_refused() -> None:
    view = np.broadcast_to(0.8, (10_000, 10_000))
    with pytest.raises(UsageError, match="10,000 predicted and 10,000 true"):
        match_release(view, 0.7)
    with pytest.raises(UsageError, match="10,000 predicted and 10,000 true"):
        match_paper(view, view, range(10_000), 0.7)
    with pytest.raises(UsageError, match=f"more than {MAX_PAIRS:,} pairs"):
        match_release([[0.8] * (MAX_PAIRS // 100 + 1)] * 100, 0.7)
