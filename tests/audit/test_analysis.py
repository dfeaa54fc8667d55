"""Facts about the analysis of an audit: who is told from whom, who gets a rank, what failures can change."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.audit.studies import by_rates, study

from anomreason.anomaly import Detection
from anomreason.audit.analysis import ALPHA, LEAST_PROMPTS, analyse
from anomreason.audit.results import AssessorResult, AuditResult, PairResult
from anomreason.audit.study import AuditImage, Study
from anomreason.errors import UsageError
from anomreason.evaluation.records import read_result
from anomreason.evaluation.writing import write_record


def judged(made: Study) -> AssessorResult:
    return analyse(made).assessors[0]


def pair(found: AssessorResult, one: str, other: str, metric: str = "cap") -> PairResult:
    (only,) = [p for p in found.pairs if p.metric == metric and {p.one, p.other} == {one, other}]
    return only


def places(found: AssessorResult, metric: str = "cap") -> dict[str, tuple[int, int]]:
    return {g.generator: (p.first, p.last) for g in found.generators for m, p in g.places.items() if m == metric}


RATES = {"far": 3.0, "close": 0.8, "near": 0.8, "best": 0.3}


def test_the_true_order_is_told_and_equal_generators_share_their_places() -> None:
    found = judged(study(list(RATES), 120, by_rates(RATES, 120)))
    assert places(found, "af") == {"best": (1, 1), "near": (2, 3), "close": (2, 3), "far": (4, 4)}
    assert found.ordered("af")[0].generator == "best"
    assert pair(found, "best", "far").better == "best"
    unclear = pair(found, "near", "close", "af")
    assert (unclear.better, unclear.why) == (None, "not significant")
    assert unclear.needed is not None
    assert unclear.needed > 0


def test_scores_are_means_over_prompts_by_hand() -> None:
    """a: 1 and 3 anomalies of the first prompt's seeds, none of the others; MAI a half each."""

    def severities(generator: str, p: int, seed: int) -> Sequence[float]:
        return [50] * ((1, 3)[seed] if (generator, p) == ("a", 0) else 0)

    a = judged(study(["a", "b"], 20, severities)).generators[0]
    assert {m: e.value for m, e in a.scores.items()} == pytest.approx(
        {"mai": 1 / 20, "af": 2 / 20, "cap": (0.5 + 4.5) / 2 / 20, "cap_of_means": 1 / 20 * 2 / 20}
    )
    assert a.scores["cap"].n == 40


def test_generators_are_compared_on_the_prompts_that_both_have_and_what_is_left_out_is_counted() -> None:
    """b fails exactly where it would be bad: over its own images it looks better than a, on the same prompts equal."""

    def severities(generator: str, p: int, seed: int) -> Sequence[float] | str:
        hard = p < 20
        return "failed: unparsable" if hard and generator == "b" else [10.0] * (4 if hard else 1)

    found = judged(study(["a", "b"], 60, severities))
    a, b = found.generators
    assert found.common == 40
    assert (a.scores["af"].value, b.scores["af"].value) == (1.0, 1.0)
    assert (a.own["af"].value, b.own["af"].value) == (2.0, 1.0)
    assert (b.failed, b.assessed, b.images, b.prompts) == ({"unparsable": 40}, 80, 120, 40)
    assert pair(found, "a", "b").left_out == 20
    assert pair(found, "a", "b").difference.value == 0
    assert places(found) == {"a": (1, 2), "b": (1, 2)}


def test_failures_that_could_turn_the_order_take_the_rank_away() -> None:
    """The worst twentieth of the images has 4 anomalies each; with 40 % failures, a might be no better than b."""

    def with_failures(count: int) -> AssessorResult:
        def severities(generator: str, p: int, seed: int) -> Sequence[float] | str:
            if generator == "a":
                return "failed: refused" if p < count else [0.0]
            return [0.0] * (4 if p % 5 == 0 else 1 + p % 2)

        return judged(study(["a", "b"], 100, severities))

    sure, unsure = with_failures(5), with_failures(40)
    assert (pair(sure, "a", "b", "af").better, places(sure, "af")["a"]) == ("a", (1, 1))
    assert sure.worst["af"] == 4
    held = pair(unsure, "a", "b", "af")
    assert (held.better, held.why) == (None, "failures could turn it")
    assert held.p_holm is not None
    assert held.p_holm <= ALPHA
    assert held.worst_case == pytest.approx(0.6 * 1 + 0.4 * 4 - unsure.generators[1].own["af"].value)  # type: ignore[operator]
    assert places(unsure, "af") == {"a": (1, 2), "b": (1, 2)}
    bounds = unsure.generators[0].bounds["af"]
    assert bounds == pytest.approx((0.6, 0.6 + 0.4 * 4))


@pytest.mark.parametrize("unsearched", [{"description": "A cat."}, {"out_of_domain": True}])
def test_an_image_that_was_not_searched_is_not_clean(unsearched: dict[str, Any]) -> None:
    given = study(["a", "b"], 4, lambda *_: [])
    key = next(iter(given.assessments["judge"]))
    given.assessments["judge"][key] = Detection(image=key, detector="judge", status="ok", **unsearched)  # type: ignore[index]
    [a, b] = judged(given).generators
    assert sum(a.failed.values()) + sum(b.failed.values()) == 1


def test_a_generator_without_most_prompts_has_no_rank_and_does_not_narrow_the_others() -> None:
    good = by_rates({"a": 0.5, "b": 3.0, "half": 1.0}, 80)
    found = judged(
        study(["a", "b", "half"], 80, lambda g, p, s: "missing: refused" if g == "half" and p > 30 else good(g, p, s))
    )
    half = found.generators[2]
    assert half.unranked == "assessed images of only 31 of 80 prompts"
    assert half.missing == {"refused": 98}
    assert (half.scores["cap"].value, half.places) == (None, {})
    assert half.own["cap"].value is not None
    assert found.common == 80
    assert places(found) == {"a": (1, 1), "b": (2, 2)}
    assert pair(found, "b", "half").difference.n == 31


def test_few_prompts_hold_no_rank_however_far_apart() -> None:
    found = judged(study(["a", "b"], LEAST_PROMPTS - 1, lambda g, p, s: [0.0] * (g == "b")))
    assert places(found) == {}
    assert found.no_ranks == "only 19 prompts are common to all; a rank needs 20"
    assert (pair(found, "a", "b").better, pair(found, "a", "b").why) == (None, "too few prompts")
    assert pair(found, "a", "b").needed == 1
    assert places(judged(study(["a", "b"], LEAST_PROMPTS, lambda g, p, s: [0.0] * (g == "b")))) != {}


def test_one_generator_is_scored_and_not_ranked() -> None:
    found = judged(study(["a"], 30, lambda g, p, s: [50.0]))
    assert found.no_ranks is not None
    assert found.generators[0].scores["mai"].value == 0.5
    assert found.pairs == ()


def test_an_audit_without_any_result_says_so_and_has_no_numbers() -> None:
    result = analyse(study(["a", "b"], 30, lambda g, p, s: "failed: endpoint"))
    found = result.assessors[0]
    assert any("has assessed no image" in warning for warning in result.warnings)
    assert (places(found), found.worst, found.generators[0].bounds) == ({}, {}, {})
    assert {p.difference.value for p in found.pairs} == {None}
    nothing = analyse(study(["a", "b"], 30, lambda g, p, s: None)).assessors[0]
    assert nothing.generators[0].failed == {"not assessed": 60}


def test_images_that_the_study_does_not_list_count_as_not_given_and_empty_prompts_are_named() -> None:
    made = study(["a", "b"], 30, lambda g, p, s: [50.0] * (g == "b"))
    fewer = replace(made, images=tuple(i for i in made.images if i.prompt != "p003"))
    result = analyse(fewer)
    assert result.assessors[0].generators[0].missing == {"not given": 2}
    assert "1 prompt has no image of any generator: p003" in result.warnings
    assert places(result.assessors[0]) == {"a": (1, 1), "b": (2, 2)}  # a prompt that nobody has turns no order


def test_the_spread_between_seeds_is_that_of_the_images_of_a_prompt() -> None:
    """Seeds differ by 2 anomalies at every prompt: standard deviation sqrt(2) within, none between."""
    found = judged(study(["a", "b"], 50, lambda g, p, s: [0.0] * (1 + 2 * s)))
    spread = found.generators[0].seeds["af"]
    assert (spread.prompts, spread.within, spread.between) == (50, pytest.approx(2**0.5), 0.0)
    assert spread.repeat == pytest.approx(1.96 * 2**0.5 * (2 / 100) ** 0.5, rel=0.001)
    assert spread.itself is not None
    assert spread.itself.value == -2
    assert spread.p is not None
    assert spread.p < 0.001
    single = judged(study(["a", "b"], 30, lambda g, p, s: [1.0], seeds=(7,))).generators[0].seeds["af"]
    assert (single.within, single.repeat, single.itself) == (None, None, None)


def test_a_repetition_with_other_seeds_stays_within_the_spread_that_is_told() -> None:
    rates = {f"g{n}": 1.0 for n in range(30)}
    again = by_rates(rates, 60, seed=5)
    draw = np.random.default_rng(9)
    hard = np.random.default_rng(5).gamma(4, 0.25, 60)
    within = 0
    for name in rates:
        first = [len(again(name, p, s)) for p in range(60) for s in (0, 1)]
        second = draw.poisson(hard.repeat(2))
        by_prompt = np.array(first).reshape(60, 2)
        sd = np.sqrt(by_prompt.var(axis=1, ddof=1).mean())
        within += abs(np.mean(first) - second.mean()) <= 1.96 * sd * np.sqrt(2 / 120)
    assert within >= 25  # 28.5 of 30 on average


def test_two_assessors_are_compared_by_their_orders_and_their_pairs() -> None:
    rates = {"a": 0.3, "b": 1.0, "c": 2.0, "d": 3.0, "e": 4.0}
    one = study(list(rates), 60, by_rates(rates, 60), assessors=("one",))
    turned = study(list(rates), 60, by_rates(dict(zip(rates, [4.0, 3.0, 2.0, 1.0, 0.3], strict=True)), 60))
    result = analyse(replace(one, assessments={**one.assessments, "turned": turned.assessments["judge"]}))
    (found,) = result.agreement
    assert (found.one, found.other) == ("one", "turned")
    assert found.ranks["af"].spearman.value == pytest.approx(-1)
    assert found.alike["af"] == 0
    assert found.contrary["af"] + found.open["af"] == 10
    assert found.contrary["af"] >= 8


def test_the_same_seed_gives_the_same_result_and_the_file_reads_as_it_was(tmp_path: Path) -> None:
    made = study(list(RATES), 30, by_rates(RATES, 30))
    result = analyse(made, seed=3)
    assert result == analyse(made, seed=3)
    write_record(tmp_path / "audit.json", result)
    assert read_result(tmp_path / "audit.json", AuditResult) == result


def test_worst_and_best_images_are_named_and_prefer_what_sets_a_generator_apart() -> None:
    def severities(generator: str, p: int, seed: int) -> Sequence[float]:
        if generator == "a":
            return [0.0] * (3 if p in (4, 5) else 0)
        return [0.0] * (3 if p in (5, 9) else 1)

    a = judged(study(["a", "b"], 20, severities)).generators[0]
    assert a.worst[:4] == ("a/p004-0", "a/p004-1", "a/p005-0", "a/p005-1")
    assert a.best[:2] == ("a/p009-0", "a/p009-1")


def test_equal_generators_are_rarely_told_apart() -> None:
    """A false "A beats B" among three pairs in at most 5 % of repetitions: 6 of 30 would be far off."""
    rates = {"a": 1.0, "b": 1.0, "c": 1.0}
    wrong = 0
    for seed in range(30):
        found = judged(study(list(rates), 30, by_rates(rates, 30, seed)))
        wrong += any(p.better for p in found.pairs if p.metric == "cap")
    assert wrong <= 5


def test_what_cannot_be_compared_is_an_error_that_names_it() -> None:
    made = study(["a", "b"], 5, lambda g, p, s: [1.0])
    with pytest.raises(UsageError, match="two generators are called 'a'"):
        analyse(replace(made, generators=("a", "a")))
    with pytest.raises(UsageError, match="two prompts are called 'p001'"):
        analyse(replace(made, prompts=(*made.prompts, made.prompts[1])))
    with pytest.raises(UsageError, match="duplicate image 'a/p000-0'"):
        analyse(replace(made, images=(*made.images, made.images[0])))
    with pytest.raises(UsageError, match="'z/p000-0' is of a generator"):
        analyse(replace(made, images=(*made.images, AuditImage("z", "p000", 0, Path("x.png")))))
    with pytest.raises(UsageError, match="no assessors"):
        analyse(replace(made, assessments={}))
    with pytest.raises(UsageError, match="no seeds"):
        analyse(replace(made, seeds=()))
