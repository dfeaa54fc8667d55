"""How far people agree: hand-computed cases, published examples, and other people's libraries."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomreason.errors import UsageError
from anomreason.metrics.agreement import Agreement, DoubleAnnotation, Verdict, agreement, compare_annotations
from anomreason.metrics.image_scores import SemanticSettings
from anomreason.stats import Estimate

N = None
RELIABILITY_DATA = [  # Krippendorff 2011, also Gwet's example of four raters: one row a person, one column an item
    [1, 2, 3, 3, 2, 1, 4, 1, 2, N, N, N],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, N, 3],
    [N, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, N],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, N],
]


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def verdicts(rows: Sequence[Sequence[int | None]]) -> list[Verdict]:
    return [
        Verdict(f"item{i}", f"person{p}", str(v)) for p, row in enumerate(rows) for i, v in enumerate(row) if v is not N
    ]


def of(rows: Sequence[Sequence[int | None]], categories: list[str] | None = None) -> Agreement:
    return agreement(verdicts(rows), rng(), categories)


def value(estimate: Estimate) -> float:
    assert estimate.value is not None
    return estimate.value


def table(a: int, b: int, c: int, d: int) -> list[list[int]]:
    """Two people: a both yes, b yes/no, c no/yes, d both no."""
    return [[1] * (a + b) + [0] * (c + d), [1] * a + [0] * b + [1] * c + [0] * d]


def test_two_people_by_hand() -> None:
    """po 0.7; Cohen: pe = .5*.6 + .5*.4 = .5; Fleiss: pe = .55^2 + .45^2 = .505; AC1: pe = 2*.55*.45 = .495."""
    found = of(table(20, 5, 10, 15))
    assert value(found.raw) == pytest.approx(0.7)
    assert value(found.pairs[0].cohen_kappa) == pytest.approx(0.4)
    assert value(found.fleiss_kappa) == pytest.approx((0.7 - 0.505) / 0.495)
    assert value(found.gwet_ac1) == pytest.approx((0.7 - 0.495) / 0.505)
    # 100 verdicts, 55 yes: expected disagreement 2 * 55 * 45 / (100 * 99) = .5, observed .3
    assert value(found.krippendorff_alpha) == pytest.approx(1 - 0.3 / 0.5)


def test_nearly_all_the_same_verdict_gives_a_low_kappa_and_a_high_ac1() -> None:
    """The paradox that AC1 is reported for: po 0.9, kappas near or below zero."""
    found = of(table(90, 5, 5, 0))
    assert value(found.raw) == pytest.approx(0.9)
    assert value(found.pairs[0].cohen_kappa) == pytest.approx((0.9 - 0.905) / 0.095)
    assert value(found.gwet_ac1) == pytest.approx((0.9 - 0.095) / 0.905)
    assert found.verdicts == {"0": 10, "1": 190}


def test_fleiss_own_example() -> None:
    """Fleiss 1971 as on Wikipedia: 10 subjects, 14 raters, 5 categories; kappa 0.210."""
    counts = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
    by_item = [[category for category, times in enumerate(row) for _ in range(times)] for row in counts]
    found = of([list(column) for column in zip(*by_item, strict=True)])
    assert value(found.raw) == pytest.approx(0.378, abs=5e-4)
    assert value(found.fleiss_kappa) == pytest.approx(0.210, abs=5e-4)


def test_krippendorffs_own_example_with_missing_verdicts() -> None:
    """Nominal alpha is 0.743 in Krippendorff 2011; the single verdict on the last item changes nothing."""
    assert value(of(RELIABILITY_DATA).krippendorff_alpha) == pytest.approx(0.743, abs=5e-4)


def test_gwets_example_with_missing_verdicts() -> None:
    """irrCAC's documentation prints for these data: agreement 0.81818, AC1 0.77544, Fleiss' kappa 0.76117."""
    found = of(RELIABILITY_DATA)
    assert value(found.raw) == pytest.approx(0.81818, abs=5e-6)
    assert value(found.gwet_ac1) == pytest.approx(0.77544, abs=5e-6)
    assert value(found.fleiss_kappa) == pytest.approx(0.76117, abs=5e-6)
    assert (found.items, found.judged_once, found.raw.n, found.krippendorff_alpha.n) == (12, 1, 11, 11)


def random_rows(seed: int, people: int, items: int, missing: float) -> list[list[int | None]]:
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, 3, items)
    rows = np.where(draw.random((people, items)) < 0.6, truth, draw.integers(0, 3, (people, items)))
    gone = draw.random((people, items)) < missing
    return [[N if g else int(v) for v, g in zip(row, lost, strict=True)] for row, lost in zip(rows, gone, strict=True)]


@pytest.mark.parametrize("seed", range(20))
def test_cohens_kappa_is_that_of_scikit_learn(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    one, other = random_rows(seed, 2, 40, 0.0)
    (pair,) = of([one, other]).pairs
    assert value(pair.cohen_kappa) == pytest.approx(metrics.cohen_kappa_score(one, other), abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_fleiss_kappa_is_that_of_statsmodels(seed: int) -> None:
    inter_rater = pytest.importorskip("statsmodels.stats.inter_rater")
    rows = random_rows(seed, 4, 30, 0.0)
    counts, _ = inter_rater.aggregate_raters(np.array(rows).T)
    assert value(of(rows).fleiss_kappa) == pytest.approx(inter_rater.fleiss_kappa(counts), abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_alpha_is_that_of_krippendorff(seed: int) -> None:
    library = pytest.importorskip("krippendorff")
    rows = random_rows(seed, 4, 30, 0.3)
    data = np.array([[np.nan if v is N else v for v in row] for row in rows])
    expected = library.alpha(reliability_data=data, level_of_measurement="nominal")
    assert value(of(rows).krippendorff_alpha) == pytest.approx(expected, abs=1e-12)


matrix = st.integers(2, 4).flatmap(
    lambda people: st.lists(
        st.lists(st.sampled_from([0, 1, 2, N]), min_size=people, max_size=people), min_size=1, max_size=12
    )
)


@given(matrix)
@settings(max_examples=500, deadline=None)
def test_the_coefficients_follow_their_definitions_pair_by_pair(items: list[list[int | None]]) -> None:
    """An independent reference that walks over every pair of verdicts."""
    votes = [[v for v in row if v is not N] for row in items]
    rows = [r for r in votes if len(r) > 1]
    if not rows or len({v for r in votes for v in r}) < 2:
        return
    found = agreement(
        [Verdict(str(i), str(p), str(v)) for i, row in enumerate(items) for p, v in enumerate(row) if v is not N],
        rng(),
        resamples=10,
    )
    pairs = [[(a, b) for i, a in enumerate(r) for j, b in enumerate(r) if i != j] for r in rows]
    raw = np.mean([np.mean([a == b for a, b in p]) for p in pairs])
    assert value(found.raw) == pytest.approx(raw)
    shares = [np.mean([r.count(c) / len(r) for r in votes if r]) for c in {v for r in votes for v in r}]
    fleiss = sum(s * s for s in shares)
    ac1 = sum(s * (1 - s) for s in shares) / (len(shares) - 1)
    assert value(found.fleiss_kappa) == pytest.approx((raw - fleiss) / (1 - fleiss), abs=1e-9)
    assert value(found.gwet_ac1) == pytest.approx((raw - ac1) / (1 - ac1), abs=1e-9)
    flat = [v for r in rows for v in r]
    observed = sum(sum(a != b for a, b in p) / (len(r) - 1) for p, r in zip(pairs, rows, strict=True)) / len(flat)
    disagreeing = sum(a != b for i, a in enumerate(flat) for j, b in enumerate(flat) if i != j)
    if disagreeing:
        expected = disagreeing / (len(flat) * (len(flat) - 1))
        assert value(found.krippendorff_alpha) == pytest.approx(1 - observed / expected, abs=1e-9)
    else:
        assert found.krippendorff_alpha.value is None


def test_perfect_agreement_scores_one_and_the_interval_holds_nothing_else() -> None:
    found = of([[0, 1, 1, 0, 1, 0]] * 3)
    for estimate in (found.raw, found.fleiss_kappa, found.krippendorff_alpha, found.gwet_ac1):
        assert value(estimate) == pytest.approx(1.0)
        assert estimate.interval == pytest.approx((1.0, 1.0))
        assert estimate.n == 6


def test_only_one_verdict_ever_given_has_no_kappa_and_says_so() -> None:
    found = of([[1, 1, 1], [1, 1, 1]])
    assert value(found.raw) == 1.0
    for estimate in (found.fleiss_kappa, found.krippendorff_alpha, found.gwet_ac1, found.pairs[0].cohen_kappa):
        assert estimate == Estimate(None, None, 3)


def test_a_category_that_nobody_used_counts_for_ac1_alone() -> None:
    found, wider = of(table(20, 5, 10, 15)), of(table(20, 5, 10, 15), ["0", "1", "2"])
    assert wider.fleiss_kappa == found.fleiss_kappa
    assert wider.krippendorff_alpha == found.krippendorff_alpha
    assert wider.pairs == found.pairs
    assert value(wider.gwet_ac1) == pytest.approx((0.7 - 0.2475) / 0.7525)
    assert wider.verdicts["2"] == 0


def test_people_who_share_no_item_are_no_pair() -> None:
    found = of([[1, 0, N, N], [1, 1, N, N], [N, N, 0, 1]])
    assert [(p.one, p.other, p.raw.n) for p in found.pairs] == [("person0", "person1", 2)]
    assert found.judged_once == 2


def test_no_item_judged_twice_gives_no_number() -> None:
    found = of([[1, N], [N, 0]])
    assert found.raw == found.fleiss_kappa == found.gwet_ac1 == found.krippendorff_alpha == Estimate(None, None, 0)


def test_the_order_of_the_verdicts_does_not_matter() -> None:
    rows = verdicts(RELIABILITY_DATA)
    shuffled = [rows[i] for i in np.random.default_rng(3).permutation(len(rows))]
    there, back = agreement(rows, rng()), agreement(shuffled, rng())
    for name in ("raw", "fleiss_kappa", "krippendorff_alpha", "gwet_ac1"):
        assert value(getattr(there, name)) == pytest.approx(value(getattr(back, name)))


def test_the_interval_holds_the_true_coefficient_about_as_often_as_it_says() -> None:
    """Two people who agree with probability 0.8 on two equally likely verdicts: kappa is 0.6."""
    held, draw = 0, np.random.default_rng(7)
    for _ in range(120):
        one = draw.integers(0, 2, 80)
        other = np.where(draw.random(80) < 0.8, one, 1 - one)
        found = agreement(verdicts([one.tolist(), other.tolist()]), draw, resamples=400).krippendorff_alpha
        assert found.interval is not None
        held += found.interval.low <= 0.6 <= found.interval.high
    assert held >= 106, "95 % of 120 is 114; 106 is three standard errors below"


def test_the_same_seed_gives_the_same_numbers() -> None:
    assert of(RELIABILITY_DATA) == of(RELIABILITY_DATA)


def test_two_verdicts_of_one_person_on_one_item_are_an_error() -> None:
    with pytest.raises(UsageError, match="'ann' has two verdicts on 'x'"):
        agreement([Verdict("x", "ann", "accept"), Verdict("x", "ann", "reject")], rng())


def test_an_unknown_verdict_and_no_verdicts_are_errors() -> None:
    with pytest.raises(UsageError, match="'maybe'"):
        agreement([Verdict("x", "ann", "maybe")], rng(), ["accept", "reject", "unsure"])
    with pytest.raises(UsageError, match="no verdicts"):
        agreement([], rng())


def compared(
    image: str, *rows: list[float], severities: tuple[list[float], list[float]] | None = None
) -> DoubleAnnotation:
    both = np.array(rows, dtype=np.float64)
    return DoubleAnnotation(image, both, both, severities)


def test_findings_of_two_annotators_by_hand() -> None:
    images = [
        compared("a", [0.95, 0.2], [0.1, 0.75], [0.3, 0.3]),  # 3 and 2 found; 2 alike at 0.7, 1 at 0.9
        compared("b", [0.5]),
        DoubleAnnotation("c", np.zeros((0, 0)), np.zeros((0, 0))),
        DoubleAnnotation("d", np.zeros((0, 4)), np.zeros((0, 4))),
    ]
    settings = SemanticSettings(thresholds=(0.7, 0.9))
    found = compare_annotations(images, rng(), settings, failures=["refused", "refused", "endpoint"])
    assert (found.images, found.both_empty, found.found_by_one, found.found_by_other) == (4, 1, 4, 7)
    assert found.failures == {"refused": 2, "endpoint": 1}
    assert value(found.other_over_one) == 7 / 4
    assert value(found.an_image_other) == 7 / 4
    assert list(found.views) == ["phe", "rea", "full"]
    for view in found.views.values():
        low, high = view.thresholds[0.7], view.thresholds[0.9]
        assert (low.pairs, value(low.share_of_one), value(low.share_of_other)) == (2, 2 / 4, 2 / 7)
        assert (high.pairs, value(high.share_of_one), value(high.share_of_other)) == (1, 1 / 4, 1 / 7)
        assert value(view.semf1_one_against_other) == pytest.approx(((4 / 5 + 2 / 5) / 2 + 0 + 1 + 0) / 4)
        assert low.share_of_one.interval is not None


def test_f1_each_way_differs_when_the_worst_anomaly_takes_the_only_partner_of_another() -> None:
    """One's worst (the second) leaves the pair 0.8 free; the other's worst (the first) takes 0.9 and leaves 0.1."""
    image = compared("a", [0.9, 0.8], [0.85, 0.1], severities=([50, 5], [5, 50]))
    view = compare_annotations([image], rng(), SemanticSettings(thresholds=(0.7,))).views["full"]
    assert value(view.semf1_one_against_other) == 1.0
    assert value(view.semf1_other_against_one) == 0.5


def test_one_set_of_findings_compared_with_itself_scores_one_both_ways() -> None:
    draw = np.random.default_rng(1)
    images = []
    for n in range(20):
        alike = draw.uniform(0, 0.6, (4, 4))
        np.fill_diagonal(alike, 1.0)
        images.append(compared(str(n), *((alike + alike.T) / 2).tolist()))
    view = compare_annotations(images, rng()).views["full"]
    top = view.thresholds[0.9]
    assert [value(e) for e in (top.share_of_one, top.share_of_other)] == [1.0, 1.0]
    assert [value(e) for e in (view.semf1_one_against_other, view.semf1_other_against_one)] == [1.0, 1.0]


def test_swapping_the_annotators_swaps_the_numbers() -> None:
    draw = np.random.default_rng(2)
    there = []
    for n in range(30):
        phe, rea = draw.uniform(0.3, 1, (2, draw.integers(0, 5), draw.integers(0, 5)))
        there.append(DoubleAnnotation(str(n), phe, rea))
    back = [DoubleAnnotation(c.image, c.phe.T, c.rea.T) for c in there]
    one, other = compare_annotations(there, rng()), compare_annotations(back, rng())
    assert (one.found_by_one, one.found_by_other) == (other.found_by_other, other.found_by_one)
    for name, view in one.views.items():
        swapped = other.views[name]
        assert view.semf1_one_against_other.value == swapped.semf1_other_against_one.value
        for threshold, matched in view.thresholds.items():
            assert matched.pairs == swapped.thresholds[threshold].pairs
            assert matched.share_of_one.value == swapped.thresholds[threshold].share_of_other.value


def test_no_images_to_compare_give_no_numbers() -> None:
    found = compare_annotations([], rng(), failures=["budget"])
    assert (found.images, found.failures, found.other_over_one) == (0, {"budget": 1}, Estimate(None, None, 0))
    assert found.views["full"].semf1_one_against_other == Estimate(None, None, 0)


def test_duplicate_images_and_severities_that_do_not_fit_are_errors() -> None:
    with pytest.raises(UsageError, match="duplicate images"):
        compare_annotations([compared("a", [1.0]), compared("a", [1.0])], rng())
    with pytest.raises(UsageError, match="1 anomalies but 2 severities"):
        compare_annotations([compared("a", [1.0], severities=([1.0, 2.0], [3.0]))], rng())
