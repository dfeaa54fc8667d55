"""Intervals hold what they should, p-values are exact where they can be, correlations are scipy's, ranks are shared."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomreason.stats import (
    Correlation,
    Interval,
    Method,
    Rank,
    correlation,
    detectable,
    interval_of,
    items_needed,
    mean,
    mean_score,
    rank_ranges,
    resampled_sums,
    share_ranks,
    sign_flip_ps,
    swap_ps,
    wide,
    wilson,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def of_mean(values: Any, source: np.random.Generator, resamples: int = 2000) -> Interval:
    """Of the mean of (n,) values."""
    found = interval_of(resampled_sums(np.reshape(values, (-1, 1)), source, resamples) / len(values))
    assert found is not None
    return found


def p_of(differences: Any, source: np.random.Generator, permutations: int = 10_000) -> float:
    """Of one column."""
    return float(sign_flip_ps(np.reshape(differences, (-1, 1)), source, permutations)[0])


def ranks_of(values: Any, source: np.random.Generator, resamples: int = 2000, **more: Any) -> list[Rank]:
    """By means over the same items: values (items, systems)."""
    return share_ranks(np.mean(values, axis=0), resampled_sums(values, source, resamples) / len(values), **more)


# --- bootstrap


def test_an_interval_of_two_values_spans_both() -> None:
    assert of_mean([0.0, 1.0], rng()) == Interval(0.0, 1.0)


def test_an_interval_of_equal_values_is_that_value() -> None:
    assert of_mean([0.25] * 9, rng()) == Interval(0.25, 0.25)


@pytest.mark.parametrize("values", [[0.0] * 6, [0.1] * 9, [1.0] * 500])
def test_equal_values_show_no_spread_so_that_no_interval_is_shown(values: list[float]) -> None:
    assert wide(of_mean(values, rng())) is None
    mixed = of_mean([*values, 2.0], rng())
    assert wide(mixed) == mixed


def test_scores_that_are_all_alike_have_the_interval_of_a_share_at_the_ends_and_none_between() -> None:
    assert mean_score([1.0] * 12, rng()).interval == wilson(1, 12) == pytest.approx((0.757, 1.0), abs=0.001)
    assert mean_score([0.0] * 12, rng()).interval == wilson(0, 12)
    assert mean_score([0.5] * 12, rng()).interval is None
    assert mean_score([1.0], rng()).interval is None
    mixed = [1.0] * 11 + [0.0]
    assert mean_score(mixed, rng()) == mean(mixed, rng())


def test_the_same_seed_gives_the_same_interval() -> None:
    values = rng(5).random(40)
    assert of_mean(values, rng(1)) == of_mean(values, rng(1)) != of_mean(values, rng(2))


def test_the_interval_of_a_mean_holds_the_true_mean_about_as_often_as_it_says() -> None:
    source, held = rng(7), 0
    for _ in range(300):
        interval = of_mean(source.normal(3.0, 2.0, 60), source, resamples=400)
        held += interval.low <= 3.0 <= interval.high
    assert 0.90 <= held / 300 <= 0.98


def test_the_interval_is_as_wide_as_theory_says() -> None:
    values = rng(8).normal(0.0, 1.0, 2000)
    interval = of_mean(values, rng())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 2000**0.5, rel=0.1)


def test_all_columns_see_the_same_draws() -> None:
    column = rng(3).random(50)
    sums = resampled_sums(np.stack([column, 3 * column, np.ones(50)], axis=1), rng(), resamples=100)
    assert sums[:, 1] == pytest.approx(3 * sums[:, 0])
    assert set(sums[:, 2]) == {50.0}
    assert len(set(sums[:, 0])) > 90


def test_a_large_set_is_resampled_in_little_memory() -> None:
    values = rng().random((10_774, 4))
    tracemalloc.start()
    sums = resampled_sums(values, rng(), resamples=1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sums.shape == (1000, 4)
    assert peak < 60e6, "all draws at once would take 86 MB, and as much again to count them"


def test_samples_without_a_value_are_left_out_unless_they_are_most() -> None:
    assert interval_of([1.0, float("nan"), 1.0]) == Interval(1.0, 1.0)
    assert interval_of([1.0, float("nan")]) is None


@pytest.mark.parametrize("values", [[0.0, float("nan")], [float("inf"), 1.0]])
def test_values_that_are_not_numbers_are_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="NaN"):
        resampled_sums([values], rng())
    with pytest.raises(ValueError, match="NaN"):
        sign_flip_ps([values], rng())


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        resampled_sums([1.0, 2.0], rng())
    with pytest.raises(ValueError, match="shape"):
        resampled_sums(np.zeros((0, 2)), rng())


def test_wilson_is_the_textbooks() -> None:
    assert wilson(0.0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert wilson(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0.1, 50) == pytest.approx((0.0435, 0.2136), abs=1e-4)


# --- sign flips


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1.0, 1.0, 1.0], 2 / 8),
        ([1.0, -1.0], 1.0),
        ([2.0, 1.0, -1.0], 6 / 8),  # sums 4 2 2 0 and their negatives; 2 is observed
        ([0.1, 0.2, -0.3], 1.0),  # 0.1 + 0.2 - 0.3 is not 0 in floats; it counts as the 0 it is
        ([0.0, 0.0], 1.0),
        ([], 1.0),
    ],
)
def test_p_values_by_hand(differences: list[float], p: float) -> None:
    assert p_of(differences, rng()) == p


def by_enumeration(differences: list[int]) -> float:
    sums = [sum(s * d for s, d in zip(signs, differences, strict=True)) for signs in signs_of(len(differences))]
    return sum(abs(total) >= abs(sum(differences)) for total in sums) / len(sums)


def signs_of(n: int) -> list[tuple[int, ...]]:
    return list(itertools.product((-1, 1), repeat=n))


@given(st.lists(st.integers(-5, 5), max_size=8))
def test_p_values_of_few_items_are_exact(differences: list[int]) -> None:
    assert p_of(differences, rng()) == pytest.approx(by_enumeration(differences))


def test_twelve_differences_are_enumerated_whatever_the_seed_and_zeros_do_not_count() -> None:
    few = [3, 1, 4, 1, 5, -9, 2, 6, 5, 3, 5, -8]
    assert {p_of([*few, *[0] * 50], rng(seed)) for seed in range(3)} == {by_enumeration(few)}


def test_many_differences_are_sampled_and_never_give_p_zero() -> None:
    many = [3, 1, 4, 1, 5, -9, 2, 6, 5, 3, 5, -8, 9, 7]
    assert p_of(many, rng()) == pytest.approx(by_enumeration(many), abs=0.015)
    assert p_of([1.0] * 60, rng(), permutations=99) == 1 / 100


def test_columns_are_tested_together_as_they_are_alone() -> None:
    table = rng(4).normal(0.3, 1.0, (10, 3))
    assert sign_flip_ps(table, rng()) == pytest.approx([p_of(column, rng()) for column in table.T])


def test_p_values_of_200_random_cases_are_scipys() -> None:
    """Of a sum by flipping signs, and of a product of means, which is no mean of items, by swapping sides."""
    from scipy.stats import permutation_test

    def mean_difference(one: Any, other: Any, axis: int = -1) -> Any:
        return one.mean(axis=axis) - other.mean(axis=axis)

    for case in range(200):
        draw = rng(case)
        one, other = draw.poisson(2, (2, int(draw.integers(2, 11)), 2)).astype(float)
        ours = sign_flip_ps(one - other, rng())
        for k in range(2):
            theirs = permutation_test(
                (one[:, k], other[:, k]),
                mean_difference,
                permutation_type="samples",
                n_resamples=np.inf,
                vectorized=True,
            )
            assert ours[k] == pytest.approx(theirs.pvalue), case

        def product_difference(places: Any, one: Any = one, other: Any = other) -> Any:
            """places: True where an item keeps its sides."""
            first, second = np.where(places[:, None], one, other), np.where(places[:, None], other, one)
            return first.mean(axis=0).prod() - second.mean(axis=0).prod()

        n = len(one)
        drawn = [product_difference(np.array(places)) for places in itertools.product([True, False], repeat=n)]
        far = abs(product_difference(np.ones(n, dtype=bool)))
        expected = np.mean([abs(value) >= far - 1e-9 for value in drawn])
        found = swap_ps(one[:, None], other[:, None], lambda sums: sums.prod(axis=-1), rng())
        assert found[0] == pytest.approx(expected), case


def test_swapping_sides_of_a_plain_sum_is_flipping_signs() -> None:
    one, other = rng(1).normal(size=(2, 40, 3, 1))
    swapped = swap_ps(one, other, lambda sums: sums[..., 0], rng())
    assert swapped == pytest.approx(sign_flip_ps((one - other)[..., 0], rng()))
    assert swap_ps(one[:5], one[:5], lambda sums: sums[..., 0], rng()).tolist() == [1, 1, 1]


def test_wilson_of_200_random_cases_is_scipys() -> None:
    from scipy.stats import binomtest

    for case in range(200):
        n = int(rng(case).integers(1, 500))
        count = int(rng(case + 1).integers(0, n + 1))
        theirs = binomtest(count, n).proportion_ci(method="wilson")
        assert wilson(count / n, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_the_items_needed_are_the_textbooks_and_do_tell_the_difference() -> None:
    """(1.96 + 0.8416)^2 x 4 = 31.4 for half a standard deviation; so many items find it in about 80 of 100 trials."""
    assert items_needed(0.5, 1.0, 0.05) == pytest.approx(31.4, abs=0.05)
    assert items_needed(0, 1.0, 0.05) == float("inf")
    assert detectable(1.0, 32, 0.05) == pytest.approx(0.495, abs=0.001)
    drawn = rng(3).normal(0.5, 1, (32, 400))
    found = (np.abs(drawn.mean(axis=0)) > 1.96 / np.sqrt(32)).mean()
    assert 0.74 < found < 0.86


def test_without_a_difference_small_p_values_are_as_rare_as_they_say() -> None:
    source = rng(11)
    ps = sign_flip_ps(source.normal(0.0, 1.0, (40, 2000)), source, permutations=999)
    assert np.mean(ps <= 0.05) == pytest.approx(0.05, abs=0.02)


# --- rank correlation


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=25))
@settings(deadline=None, max_examples=60)
def test_correlations_are_those_of_scipy_ties_included(pairs: list[tuple[int, int]]) -> None:
    scipy_stats: Any = pytest.importorskip("scipy.stats")
    x, y = zip(*pairs, strict=True)
    references: dict[Method, Any] = {"spearman": scipy_stats.spearmanr, "kendall": scipy_stats.kendalltau}
    for kind, reference in references.items():
        found = correlation(x, y, rng(), kind, resamples=5)
        if len(set(x)) == 1 or len(set(y)) == 1:
            assert found == Correlation(None, None, len(x))
        else:
            assert found.value == pytest.approx(reference(x, y).statistic, abs=1e-12)


@pytest.mark.parametrize("kind", ["spearman", "kendall"])
def test_intervals_of_correlations_are_those_of_a_plain_bootstrap(kind: Method) -> None:
    scipy_stats: Any = pytest.importorskip("scipy.stats")
    reference = {"spearman": scipy_stats.spearmanr, "kendall": scipy_stats.kendalltau}[kind]
    source = rng(2)
    x = source.integers(0, 8, 25)
    y = x + source.integers(0, 6, 25)
    drawn = [reference(x[at], y[at]).statistic for at in (source.integers(0, 25, 25) for _ in range(600))]
    found = correlation(x, y, rng(), kind)
    assert found.interval == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.05)
    assert found.interval is not None
    assert found.interval.low < found.value < found.interval.high  # type: ignore[operator]


def test_correlations_by_hand() -> None:
    assert correlation([1, 2, 3], [10, 20, 30], rng()).value == pytest.approx(1.0)
    assert correlation([1, 2, 3, 4], [4, 3, 2, 1], rng(), "kendall").value == pytest.approx(-1.0)
    assert correlation([1, 2, 3, 4], [1, 3, 2, 4], rng()).value == pytest.approx(0.8)  # 1 - 6 * 2 / (4 * 15)
    assert correlation([1, 2, 3, 4], [1, 3, 2, 4], rng(), "kendall").value == pytest.approx(4 / 6)
    assert correlation([7], [8], rng()) == Correlation(None, None, 1)


def test_few_items_have_a_correlation_but_no_interval() -> None:
    assert correlation([1, 2, 3, 4], [1, 3, 2, 4], rng()).interval is None
    assert correlation([1, 2, 3, 4, 5], [1, 3, 2, 4, 5], rng()).interval is not None


# --- ranks


def test_systems_far_apart_have_ranks_of_their_own() -> None:
    values = rng(1).random((50, 3)) * 0.1 + np.array([0.2, 0.9, 0.5])
    ranks = ranks_of(values, rng())
    assert [(r.rank, r.low, r.high) for r in ranks] == [(3, 3, 3), (1, 1, 1), (2, 2, 2)]
    assert [r.rank for r in ranks_of(values, rng(), higher_is_better=False)] == [1, 3, 2]
    assert ranks[0].mean == pytest.approx(values[:, 0].mean())


def test_equal_systems_share_a_rank_and_the_next_one_comes_after_both() -> None:
    column = rng(1).random(50)
    ranks = ranks_of(np.stack([column, column - 1, column], axis=1), rng())
    assert [(r.rank, r.low, r.high) for r in ranks] == [(1, 1, 2), (3, 3, 3), (1, 1, 2)]


def test_pairing_tells_apart_what_spread_alone_would_not() -> None:
    hard = rng(1).normal(0, 10, 40)
    assert [r.rank for r in ranks_of(np.stack([hard + 0.1, hard], axis=1), rng())] == [1, 2]


def test_a_system_between_two_others_joins_them() -> None:
    """First and last can be distinguished, but neither from the one between; a shared rank needs no third name."""
    noise = rng(3)
    samples = np.stack(
        [noise.normal(2.0, 0.4, 4000), noise.normal(1.0, 1.0, 4000), noise.normal(0.0, 0.4, 4000)], axis=1
    )
    first, middle, last = share_ranks([2.0, 1.0, 0.0], samples)
    assert (first.rank, middle.rank, last.rank) == (1, 1, 1)
    assert [r.rank for r in share_ranks([2.0, 0.0], samples[:, [0, 2]])] == [1, 2]
    assert (first.low, first.high, last.low, last.high) == (1, 2, 2, 3)


def test_a_range_of_ranks_holds_every_rank_within_the_interval() -> None:
    """A share of 1 in 20 is within a 95 % interval on either side, a share of 1 in 100 is not."""
    often, seldom = np.tile([1.0, 0.0], (100, 1)), np.tile([1.0, 0.0], (100, 1))
    often[:5] = seldom[:1] = [0.0, 1.0]
    assert [(r.low, r.high) for r in share_ranks([1.0, 0.0], often)] == [(1, 2), (1, 2)]
    assert [(r.low, r.high) for r in share_ranks([1.0, 0.0], seldom)] == [(1, 1), (2, 2)]
    few = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert [(r.low, r.high) for r in share_ranks([1.0, 0.0], few)] == [(1, 2), (1, 2)]


@given(st.integers(1, 6), st.integers(2, 12), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_systems_that_cannot_be_told_apart_always_share_a_rank(systems: int, items: int, seed: int) -> None:
    values = rng(seed).integers(0, 3, (items, systems)).astype(float)
    ranks = ranks_of(values, rng(seed), resamples=200)
    drawn = resampled_sums(values, rng(seed), 200)
    for one, other in itertools.combinations(range(systems), 2):
        low, high = np.quantile(drawn[:, one] - drawn[:, other], [0.025, 0.975])
        if low <= 0 <= high:
            assert ranks[one].rank == ranks[other].rank
    assert min(r.rank for r in ranks) == 1
    assert all(1 <= r.low <= r.high <= systems for r in ranks)


def test_a_system_ranks_behind_all_that_are_better_and_before_all_that_are_worse() -> None:
    better = np.zeros((4, 4), dtype=bool)
    assert rank_ranges(better) == [(1, 4)] * 4
    better[0, 2] = better[0, 3] = better[1, 3] = True
    assert rank_ranges(better) == [(1, 2), (1, 3), (2, 4), (3, 4)]
    assert rank_ranges(np.triu(np.ones((4, 4), dtype=bool), 1)) == [(1, 1), (2, 2), (3, 3), (4, 4)]
