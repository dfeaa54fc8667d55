"""Plausibility of generators: the paper's definitions, its Table 3, and which generators can be distinguished."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomreason.errors import UsageError
from anomreason.metrics.plausibility import (
    METRICS,
    Assessment,
    GeneratorDifference,
    GeneratorPlausibility,
    _holm,
    differences,
    image_plausibility,
    plausibility,
    rank_agreement,
)
from anomreason.metrics.published import published
from anomreason.stats import Estimate


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def by_name(records: list[Assessment]) -> dict[str, GeneratorPlausibility]:
    return {g.generator: g for g in plausibility(records, rng())}


def value(estimate: Estimate) -> float:
    assert estimate.value is not None
    return estimate.value


def printed(assessor: str, metric: str) -> dict[str, float]:
    return {r.model: r.value for r in published(table=3, assessor=assessor, metric=metric)}


def test_an_image_by_hand() -> None:
    """Severities 0, 25, 100: implausibilities 1, 0.75, 0; three anomalies."""
    assert image_plausibility([0, 25, 100]) == (1.75, 3, 5.25)
    assert image_plausibility([]) == (0, 0, 0)


def test_a_generator_by_hand_with_cap_both_ways() -> None:
    """MAI 1.75 and 0.5, AF 3 and 1: CAP 5.25 and 0.5 of the images, 1.125 x 2 of the means."""
    found = by_name([Assessment("1", "g", "p", (0, 25, 100)), Assessment("2", "g", "q", (50,))])["g"]
    assert {m: value(e) for m, e in found.scores.items()} == {
        "mai": 1.125,
        "af": 2.0,
        "cap": 2.875,
        "cap_of_means": 2.25,
    }
    assert found.n == 2
    assert found.scores["af"].interval == (1.0, 3.0)


@pytest.mark.parametrize(("assessor", "tolerance"), [("AnomReasonor", 0.011), ("AnomAgent", 0.07)])
def test_table_3_prints_cap_as_mean_mai_times_mean_af(assessor: str, tolerance: float) -> None:
    mai, af, cap = (printed(assessor, m) for m in ("MAI", "AF", "CAP"))
    assert len(cap) == 15
    for generator in cap:
        assert mai[generator] * af[generator] == pytest.approx(cap[generator], abs=tolerance), generator


@pytest.mark.parametrize(("metric", "spearman"), [("MAI", 0.13), ("AF", 0.16), ("CAP", 0.38)])
def test_the_two_assessors_of_table_3_hardly_agree_on_the_order(metric: str, spearman: float) -> None:
    """The paper calls this 'strong rank-order alignment'; the intervals hold 0."""
    found = rank_agreement(printed("AnomReasonor", metric), printed("AnomAgent", metric), rng())
    assert found.spearman.value == pytest.approx(spearman, abs=0.005)
    assert found.spearman.n == 15
    assert found.spearman.interval is not None
    assert found.kendall.interval is not None
    assert found.spearman.interval.low < 0 < found.spearman.interval.high
    assert found.kendall.value is not None
    assert abs(found.kendall.value) < abs(spearman)


def test_a_generator_that_one_assessor_did_not_see_is_named_and_left_out() -> None:
    found = rank_agreement({"a": 1, "b": 2, "c": 3}, {"a": 5, "b": 6, "d": 1}, rng())
    assert (found.spearman.n, found.spearman.value, found.kendall.value) == (2, 1.0, 1.0)
    assert found.only_one == ("c", "d")


def test_an_order_of_fewer_than_five_generators_has_no_interval() -> None:
    for count, known in ((4, False), (5, True)):
        scores = {str(n): float(n * n % 7) for n in range(count)}
        found = rank_agreement(scores, {name: value + 1 for name, value in scores.items()}, rng())
        assert found.spearman.value == pytest.approx(1)
        assert [one.interval is not None for one in (found.spearman, found.kendall)] == [known, known]


def test_a_failed_image_is_counted_and_is_not_a_flawless_one() -> None:
    records = [
        Assessment("1", "g", "p", (50,)),
        Assessment("2", "g", "q", failure="refused"),
        Assessment("3", "g", "r", failure="refused"),
        Assessment("4", "g", "s", failure="endpoint"),
    ]
    found = by_name(records)["g"]
    assert (found.n, found.failures) == (1, {"refused": 2, "endpoint": 1})
    assert found.scores["mai"] == Estimate(0.5, None, 1)


def test_a_generator_that_always_failed_has_no_score_and_no_rank_and_does_not_disturb_the_others() -> None:
    records = [Assessment(f"g{n}", "good", str(n), ()) for n in range(5)]
    records += [Assessment(f"b{n}", "bad", str(n), (10,)) for n in range(5)]
    records += [Assessment(f"x{n}", "broken", str(n), failure="budget") for n in range(5)]
    found = by_name(records)
    assert found["broken"].scores["cap"] == Estimate(None, None, 0)
    assert found["broken"].ranks == {}
    assert [found[name].ranks["mai"].rank for name in ("good", "bad")] == [1, 2]
    everything_failed = by_name(records[10:])
    assert everything_failed["broken"].failures == {"budget": 5}


def made(generators: dict[str, float], prompts: int, seed: int = 0) -> list[Assessment]:
    """Prompts differ widely in how hard they are; a generator adds its own number of anomalies on average."""
    draw = np.random.default_rng(seed)
    hard = draw.integers(0, 8, prompts)
    return [
        Assessment(
            f"{name}/{p}.png", name, str(p), tuple(draw.uniform(0, 60, hard[p] + draw.poisson(own)).round(3).tolist())
        )
        for name, own in generators.items()
        for p in range(prompts)
    ]


def test_generators_that_cannot_be_told_apart_share_a_rank() -> None:
    found = by_name(made({"worst": 6, "same1": 1, "same2": 1, "same3": 1}, 150))
    assert [found[n].ranks["af"].rank for n in ("same1", "same2", "same3", "worst")] == [1, 1, 1, 4]
    assert found["worst"].ranks["af"].low == 4


def test_pairing_by_prompt_tells_apart_what_the_spread_between_prompts_would_hide() -> None:
    records = made({"a": 1.0, "b": 1.7}, 100)
    unpaired = [Assessment(r.image, r.generator, None, r.severities) for r in records]
    assert [by_name(records)[g].ranks["af"].rank for g in "ab"] == [1, 2]
    assert [by_name(unpaired)[g].ranks["af"].rank for g in "ab"] == [1, 1]


def of(found: list[GeneratorDifference], metric: str) -> GeneratorDifference:
    (difference,) = [d for d in found if d.metric == metric]
    return difference


def test_a_paired_difference_by_hand() -> None:
    """AF 3, 2, 2 against 1, 1, 1 on the three common prompts; prompt z is a's alone. 2 of 8 flips reach 4: p = 0.25."""
    a = [Assessment(f"a{p}", "a", p, (50,) * k) for p, k in (("w", 3), ("x", 2), ("y", 2), ("z", 9))]
    b = [Assessment(f"b{p}", "b", p, (50,)) for p in "wxy"]
    af = of(differences(a + b, rng()), "af")
    assert (af.one, af.other, af.p, af.p_holm, af.difference.n) == ("a", "b", 0.25, 0.25, 3)
    assert value(af.difference) == pytest.approx(4 / 3)
    assert value(of(differences(a + b, rng()), "cap").difference) == pytest.approx((4.5 + 2 + 2 - 1.5) / 3)


def test_several_images_of_a_prompt_are_averaged_before_they_are_compared() -> None:
    records = [Assessment("1", "a", "p", (50, 50)), Assessment("2", "a", "p", ()), Assessment("3", "b", "p", (50,))]
    af = of(differences(records, rng()), "af")
    assert af.difference == Estimate(0.0, None, 1)
    assert af.p == 1.0


def test_generators_without_a_common_prompt_have_no_difference() -> None:
    records = [Assessment("1", "a", "p", ()), Assessment("2", "b", "q", ()), Assessment("3", "c", None, (1,))]
    found = differences(records, rng())
    assert len(found) == 12
    assert all(d.difference == Estimate(None, None, 0) and d.p is None and d.p_holm is None for d in found)
    unknown = [Assessment("1", "a", None, ()), Assessment("2", "b", None, ())]
    assert {d.difference.n for d in differences(unknown, rng())} == {0}


def test_holm_corrects_for_all_pairs_and_never_lowers_a_p_value() -> None:
    found = [d for d in differences(made({"a": 1, "b": 1.4, "c": 3, "d": 1}, 60), rng()) if d.metric == "mai"]
    assert len(found) == 6
    ordered = sorted(found, key=lambda d: d.p or 0)
    assert ordered[0].p is not None
    assert ordered[0].p_holm == pytest.approx(min(1, 6 * ordered[0].p))
    assert all(d.p is not None and d.p_holm is not None and d.p <= d.p_holm <= 1 for d in ordered)
    assert [d.p_holm for d in ordered] == sorted(d.p_holm or 0 for d in ordered)


def test_holm_is_that_of_a_direct_reference_on_200_random_cases() -> None:
    """Reject while p(k) <= 0.05 / (m - k), which a corrected p <= 0.05 must say too (Holm 1979)."""
    for case in range(200):
        draw = np.random.default_rng(case)
        ps = (draw.uniform(0, 1, int(draw.integers(1, 12))) ** 3).tolist()
        unknown = Estimate(0.1, None, 9)
        found = _holm([GeneratorDifference("a", str(n), "cap", unknown, p, None) for n, p in enumerate(ps)])
        rejected, order = set(), sorted(range(len(ps)), key=lambda n: ps[n])
        for k, n in enumerate(order):
            if ps[n] > 0.05 / (len(ps) - k):
                break
            rejected.add(n)
        assert {n for n, d in enumerate(found) if d.p_holm is not None and d.p_holm <= 0.05} == rejected
        highest = [
            max(min(1, ps[i] * (len(ps) - k)) for k, i in enumerate(order[: order.index(n) + 1]))
            for n in range(len(ps))
        ]
        assert [d.p_holm for d in found] == pytest.approx(highest)


def test_cap_of_means_is_compared_too_over_common_prompts() -> None:
    a = [Assessment(f"a{p}", "a", p, (50,) * k) for p, k in (("w", 3), ("x", 2), ("y", 2), ("z", 9))]
    b = [Assessment(f"b{p}", "b", p, (50,)) for p in "wxy"]
    found = of(differences(a + b, rng()), "cap_of_means")
    assert value(found.difference) == pytest.approx(7 / 3 / 2 * 7 / 3 - 0.5)
    assert (found.p, found.difference.n) == (0.25, 3)
    af = of(differences(a + b, rng()), "af")
    assert af.spread == pytest.approx(np.std([2, 1, 1], ddof=1))


def test_a_prompt_weighs_the_same_whatever_the_number_of_its_images_when_asked() -> None:
    records = [Assessment("1", "a", "p", (0, 0)), Assessment("2", "a", "p", (0, 0)), Assessment("3", "a", "q", ())]
    found = plausibility(records, rng(), prompts_alike=True)[0]
    assert (value(found.scores["af"]), value(found.scores["cap_of_means"]), found.n) == (1.0, 1.0, 3)
    assert value(plausibility(records, rng())[0].scores["af"]) == pytest.approx(4 / 3)


def test_equal_generators_are_rarely_called_different() -> None:
    """At level 0.05 about 5 of 100 comparisons of two equal generators; 12 is more than three standard errors off."""
    wrong = 0
    for seed in range(100):
        af = of(differences(made({"a": 1, "b": 1}, 30, seed), np.random.default_rng(seed), resamples=10), "af")
        wrong += (af.p or 0) <= 0.05
    assert wrong <= 12


image = st.tuples(
    st.sampled_from("ab"), st.sampled_from(["p", "q", None]), st.none() | st.lists(st.floats(0, 100), max_size=4)
)


@given(st.lists(image, min_size=1, max_size=12), st.randoms())
@settings(max_examples=500, deadline=None)
def test_the_scores_are_plain_means_whatever_the_order(images: list, random) -> None:  # type: ignore[no-untyped-def,type-arg]
    records = [
        Assessment(str(n), g, p, None if s is None else tuple(s), "refused" if s is None else None)
        for n, (g, p, s) in enumerate(images)
    ]
    random.shuffle(records)
    for found in plausibility(records, rng(), resamples=10):
        mine = [r.severities for r in records if r.generator == found.generator and r.severities is not None]
        mai = [sum(1 - s / 100 for s in severities) for severities in mine]
        af = [len(severities) for severities in mine]
        assert found.n == len(mine)
        if mine:
            assert value(found.scores["mai"]) == pytest.approx(np.mean(mai))
            assert value(found.scores["af"]) == pytest.approx(np.mean(af))
            assert value(found.scores["cap"]) == pytest.approx(np.mean([m * a for m, a in zip(mai, af, strict=True)]))
            assert value(found.scores["cap_of_means"]) == pytest.approx(np.mean(mai) * np.mean(af))
        else:
            assert all(e.value is None for e in found.scores.values())


def test_the_same_seed_gives_the_same_numbers_whatever_the_order() -> None:
    records = made({"a": 1, "b": 2}, 20)
    assert plausibility(records, rng()) == plausibility(records[::-1], rng())
    assert differences(records, rng()) == differences(records[::-1], rng())


def test_every_metric_says_what_it_is() -> None:
    assert list(METRICS) == ["mai", "af", "cap", "cap_of_means"]


@pytest.mark.parametrize("severity", [-1, 101, float("nan"), float("inf")])
def test_a_severity_outside_its_range_is_an_error(severity: float) -> None:
    with pytest.raises(UsageError, match="0 \\(implausible\\) to 100"):
        plausibility([Assessment("1", "g", None, (severity,))], rng())


def test_an_image_needs_findings_or_a_failure_and_stands_once() -> None:
    with pytest.raises(UsageError, match="either"):
        Assessment("1", "g")
    with pytest.raises(UsageError, match="either"):
        Assessment("1", "g", None, (), "refused")
    with pytest.raises(UsageError, match="duplicate images"):
        plausibility([Assessment("1", "g", "p", ()), Assessment("1", "g", "q", ())], rng())
    with pytest.raises(UsageError, match="duplicate images"):
        differences([Assessment("1", "g", "p", ()), Assessment("1", "g", "q", ())], rng())
