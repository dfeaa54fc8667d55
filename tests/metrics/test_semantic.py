"""SemAP and SemF1 over images by hand: failures, empty sides, saturation, intervals, comparison, JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from anomreason.errors import UsageError
from anomreason.metrics.semantic import (
    Figures,
    PairedDifference,
    SemanticResult,
    SemanticScorer,
    SemanticSettings,
    compare,
)
from anomreason.stats import Interval, wilson


class Compared(NamedTuple):
    """What `SemanticScorer.add` takes of one image."""

    image: str
    phe: npt.ArrayLike
    rea: npt.ArrayLike
    severities: Sequence[float]


NAMES = ("semap", "semf1", "micro_precision", "micro_recall", "micro_f1")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def compared(image: str, phe: Any, rea: Any = None, severities: Sequence[float] | None = None) -> Compared:
    return Compared(image, phe, phe if rea is None else rea, severities or [50.0] * len(phe))


def scorer(*images: Compared, settings: SemanticSettings | None = None) -> SemanticScorer:
    made = SemanticScorer(settings)
    for image in images:
        made.add(*image)
    return made


def one_threshold(threshold: float = 0.7) -> SemanticSettings:
    return SemanticSettings(thresholds=(threshold,))


def nothing(predictions: int, truths: int) -> npt.NDArray[np.float64]:
    return np.zeros((predictions, truths))


def result(of: SemanticScorer) -> SemanticResult:
    return of.result(rng())


def paper(of: SemanticScorer, view: str = "phe") -> Figures:
    return result(of).profiles["paper"][view]


def release(of: SemanticScorer, view: str = "phe") -> Figures:
    return result(of).profiles["release"][view]


# --- several images, by hand


def hand() -> SemanticScorer:
    """One threshold, 0.7. a: 1 of 2 predictions right, 1 truth; b: 2 of 2 right, 4 truths; c: failed, 3 truths."""
    made = scorer(
        compared("a", [[0.1], [0.9]], severities=[10, 20]),
        compared("b", [[0.9, 0, 0, 0], [0, 0.9, 0, 0]]),
        settings=one_threshold(),
    )
    made.add_failure("c", "refused", truths=3)
    return made


def test_macro_and_micro_by_hand() -> None:
    view = result(hand()).profiles["paper"]["phe"]
    dropped, zero = view.dropped, view
    assert dropped is not None
    assert (zero.n, dropped.n) == (3, 2)
    assert dropped.semap == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert dropped.semf1 == pytest.approx((2 / 3 + 4 / 6) / 2)
    assert dropped.micro == pytest.approx((3 / 4, 3 / 5, 6 / 9))
    assert zero.semap == pytest.approx(dropped.semap * 2 / 3)
    assert zero.semf1 == pytest.approx(dropped.semf1 * 2 / 3)
    assert zero.micro == pytest.approx((3 / 4, 3 / 8, 6 / 12))
    row = zero.thresholds[0.7]
    assert (row.tp, row.fp, row.fn, row.micro) == (3, 1, 5, zero.micro)
    assert (row.precision, row.recall) == pytest.approx(((1 / 2 + 1) / 3, (1 + 2 / 4) / 3))
    assert (row.ap, row.f1) == pytest.approx((zero.semap, zero.semf1))
    assert dropped.thresholds[0.7].fn == 2


def test_the_release_averages_precision() -> None:
    view = result(hand()).profiles["release"]["phe"]
    assert view.semap == pytest.approx((1 / 2 + 1) / 3) == view.thresholds[0.7].precision
    assert view.micro == pytest.approx((3 / 4, 3 / 8, 6 / 12))


def test_failures_are_counted_by_kind_and_every_image_says_its_own() -> None:
    made = hand()
    made.add_failure("d", "missing", truths=0)
    made.add_failure("e", "missing", truths=1)
    assert result(made).failures == {"missing": 2, "refused": 1}
    assert result(made).n == 5
    table = made.table
    assert table.images == ("a", "b", "c", "d", "e")
    assert table.answered.tolist() == [True, True, False, False, False]
    assert (table.predictions[[0, 3]].tolist(), table.truths[[0, 3]].tolist()) == ([2, 0], [1, 0])
    assert table.ap[[0, 3], 0, 0].mean(axis=-1) == pytest.approx([1 / 2, 0])
    assert table.f1[[0, 3], 0, 0].mean(axis=-1) == pytest.approx([2 / 3, 0])


def test_nothing_said_of_nothing_scores_one_and_a_failure_does_not() -> None:
    made = scorer(compared("a", nothing(0, 0)), settings=one_threshold())
    assert (paper(made).semap, paper(made).semf1, paper(made).micro) == (1, 1, (1, 1, 1))
    made.add_failure("b", "endpoint", truths=0)
    assert (paper(made).semap, paper(made).semf1, paper(made).micro) == (0.5, 0.5, (0, 0, 0))
    dropped = result(made).profiles["paper"]["phe"].dropped
    assert dropped is not None
    assert (dropped.semap, dropped.micro) == (1, (1, 1, 1))


@pytest.mark.parametrize("shape", [(2, 0), (0, 3)])
def test_one_side_empty_scores_zero(shape: tuple[int, int]) -> None:
    for figures in (paper(scorer(compared("a", nothing(*shape)))), release(scorer(compared("a", nothing(*shape))))):
        assert (figures.semap, figures.semf1, figures.micro) == (0, 0, (0, 0, 0))


def test_empty_sides_are_counted_among_answered_images() -> None:
    made = scorer(*(compared(f"{p} {t}", nothing(p, t)) for p in (0, 1, 2) for t in (0, 1, 3)))
    made.add_failure("failed", "refused", truths=0)
    assert (result(made).images.both_empty, result(made).images.one_empty) == (1, 4)


def test_a_prediction_equal_to_the_truth_scores_one() -> None:
    figures = result(scorer(compared("a", np.eye(3)), compared("b", [[1.0]])))
    for views in figures.profiles.values():
        for view in views.values():
            assert (view.semap, view.semf1, view.micro) == (1, 1, (1, 1, 1))
            assert all(ends == wilson(1, 2) for ends in dict(view.interval).values()), "two images make nothing certain"


def test_when_every_image_failed_there_is_nothing_without_them() -> None:
    made = SemanticScorer()
    made.add_failure("a", "refused", truths=2)
    made.add_failure("b", "refused", truths=2)
    view = result(made).profiles["paper"]["full"]
    assert (view.semap, view.micro, view.dropped) == (0, (0, 0, 0), None)


def test_saturated_thresholds_are_named() -> None:
    """Of 21 possible pairs all reach 0.7, 14 reach 0.8 and none 0.9; truths that cannot be matched do not count."""
    made = scorer(
        *(compared(f"a{n}", [[0.85, 0.1, 0.1], [0.1, 0.82, 0.1]]) for n in range(7)),
        *(compared(f"b{n}", [[0.75]]) for n in range(7)),
    )
    rows = paper(made).thresholds
    assert [row.saturated for row in rows.values()] == ["everything", None, "nothing"]
    assert [row.matched for row in rows.values()] == pytest.approx([1, 2 / 3, 0])
    assert [row.possible for row in rows.values()] == [21, 21, 21]
    empty = paper(scorer(compared("a", nothing(0, 2)))).thresholds[0.7]
    assert (empty.matched, empty.saturated) == (None, None)


def test_of_under_twenty_possible_pairs_nothing_is_called_saturated() -> None:
    for pairs, told in ((19, None), (20, "everything")):
        rows = paper(scorer(*(compared(str(n), [[1.0]]) for n in range(pairs)))).thresholds
        assert {row.saturated for row in rows.values()} == {told}


def test_confidences_are_asked_for_only_where_a_profile_ranks_by_them() -> None:
    ranked = SemanticScorer(SemanticSettings(rank_by="confidence"))
    with pytest.raises(UsageError, match="confidence"):
        ranked.add("a", [[0.9]], [[0.9]], [50.0])
    unranked = SemanticScorer(SemanticSettings(rank_by="confidence", profiles=("release",)))
    unranked.add("a", [[0.9]], [[0.9]], [50.0])
    assert unranked.result(rng()).profiles["release"]["phe"].semap == 1


# --- intervals


def test_an_interval_stands_around_every_overall_figure() -> None:
    made = random_scorer(60)
    made.add_failure("failed", "refused", truths=4)
    for views in result(made).profiles.values():
        for view in views.values():
            assert view.dropped is not None
            for figures in (view, view.dropped):
                values = (figures.semap, figures.semf1, *figures.micro)
                for name, value in zip(NAMES, values, strict=True):
                    ends = getattr(figures.interval, name)
                    assert ends is not None
                    assert ends.low < value < ends.high


def test_truths_of_failed_images_count_only_where_these_score_zero() -> None:
    made = scorer(*(compared(str(n), [[1.0]]) for n in range(6)))
    for n in range(6, 9):
        made.add_failure(str(n), "refused", truths=2)
    view = result(made).profiles["paper"]["phe"]
    assert view.dropped is not None
    assert view.dropped.interval.micro_recall == view.dropped.interval.semap == wilson(1, 6)
    recall = view.interval.micro_recall
    assert recall is not None
    assert recall.low < view.micro.recall == 0.5 < recall.high


def test_failures_among_images_with_nothing_to_find_widen_the_interval() -> None:
    made = scorer(*(compared(str(n), nothing(0, 0)) for n in range(3)))
    made.add_failure("failed", "refused", truths=0)
    assert paper(made).interval.micro_f1 == Interval(0, 1)


def test_one_image_has_no_interval() -> None:
    made = scorer(compared("a", [[0.95, 0.72]]))
    assert set(dict(paper(made).interval).values()) == {None}
    made.add_failure("b", "refused", truths=1)
    view = result(made).profiles["paper"]["phe"]
    assert view.dropped is not None
    assert view.interval.semap == Interval(0, view.dropped.semap)
    assert set(dict(view.dropped.interval).values()) == {None}


def random_scorer(count: int, seed: int = 0) -> SemanticScorer:
    source, made = rng(seed), SemanticScorer()
    for number in range(count):
        shape = source.integers(1, 6, 2)
        phe, rea = source.uniform(0.6, 1, (2, *shape))
        made.add(f"{number:03}", phe, rea, source.integers(0, 101, shape[0]).tolist())
    return made


# --- two detectors


def test_a_detector_does_not_differ_from_itself() -> None:
    difference = compare(random_scorer(30), random_scorer(30), rng()).profiles["paper"]["full"].semap
    assert difference == PairedDifference(value=0, interval=None, p=1)


def test_a_difference_by_hand() -> None:
    """The first detector is better on each of eight images: only 2 of 256 sign patterns go as far."""
    better = scorer(*(compared(str(n), [[0.95]]) for n in range(8)))
    worse = scorer(*(compared(str(n), [[0.75]]) for n in range(8)))
    found = compare(better, worse, rng())
    for metric in "semap", "semf1":
        difference = getattr(found.profiles["paper"]["phe"], metric)
        assert difference.value == pytest.approx(2 / 3)
        assert difference.p == 2 / 256
        assert difference.interval is None, "differences that are all alike show no spread"
    assert (found.n, found.dropped) == (8, 0)
    assert compare(worse, better, rng()).profiles["paper"]["phe"].semf1.value == pytest.approx(-2 / 3)


def test_images_that_either_failed_score_zero_or_are_left_out_for_both() -> None:
    one, other = scorer(compared("a", [[0.95]])), scorer(compared("a", [[0.95]]))
    one.add_failure("b", "refused", truths=1)
    other.add("b", [[0.95]], [[0.95]], [50])
    assert compare(one, other, rng()).profiles["paper"]["phe"].semap.value == -0.5
    for dropped in compare(one, other, rng(), failures="drop"), compare(other, one, rng(), failures="drop"):
        assert (dropped.n, dropped.dropped) == (1, 1)
        assert dropped.profiles["paper"]["phe"].semap == PairedDifference(value=0, interval=None, p=1)


def test_detectors_on_other_images_or_by_other_settings_are_not_compared() -> None:
    one = scorer(compared("a", [[0.95]]), compared("b", [[0.95]]))
    with pytest.raises(UsageError, match="'b'"):
        compare(one, scorer(compared("a", [[0.95]])), rng())
    with pytest.raises(UsageError, match="different settings"):
        compare(one, SemanticScorer(one_threshold()), rng())
    failed = SemanticScorer()
    failed.add_failure("a", "refused", 1)
    with pytest.raises(UsageError, match="no image is left"):
        compare(failed, scorer(compared("a", [[0.95]])), rng(), failures="drop")


# --- JSON, and bad input


def test_the_json_has_the_agreed_form() -> None:
    found = json.loads(result(hand()).model_dump_json())
    assert (found["n"], found["failures"]) == (3, {"refused": 1})
    full = found["profiles"]["paper"]["full"]
    assert set(full) == {"n", "semap", "semf1", "micro", "dropped", "chance", "interval", "thresholds"}
    assert set(full["thresholds"]["0.7"]) >= {"tp", "fp", "fn", "precision", "recall", "ap", "f1"}
    assert set(full["micro"]) == {"precision", "recall", "f1"}
    assert len(full["interval"]["semap"]) == 2
    assert full["dropped"]["n"] == 2
    again = SemanticResult.model_validate_json(result(hand()).model_dump_json())
    assert again == result(hand())
    comparison = compare(hand(), hand(), rng())
    assert type(comparison).model_validate_json(comparison.model_dump_json()) == comparison


def test_an_image_is_scored_once() -> None:
    made = scorer(compared("a", [[0.9]]))
    with pytest.raises(UsageError, match="'a' is there twice"):
        made.add("a", [[0.9]], [[0.9]], [50])
    with pytest.raises(UsageError, match="'a' is there twice"):
        made.add_failure("a", "missing", 1)
    assert result(made).n == 1


def test_nothing_to_score_is_an_error() -> None:
    with pytest.raises(UsageError, match="no image"):
        result(SemanticScorer())


@pytest.mark.parametrize(
    ("phe", "severities"), [([[float("nan")]], [1]), ([[float("inf")]], [1]), ([[0.5]], [1, 2]), ([0.5], [1]), ([], [])]
)
def test_similarities_that_do_not_fit_are_refused(phe: Any, severities: list[float]) -> None:
    with pytest.raises(ValueError):
        SemanticScorer().add("a", phe, phe, severities)


def test_errors_name_the_image() -> None:
    with pytest.raises(UsageError, match=r"photos/a\.png: severity of prediction 0 is nan"):
        SemanticScorer().add("photos/a.png", [[0.5]], [[0.5]], [float("nan")])
    crowd = np.broadcast_to(0.5, (10_000, 10_000))
    with pytest.raises(UsageError, match=r"photos/a\.png has 10,000 predicted"):
        SemanticScorer().add("photos/a.png", crowd, crowd, [50.0] * 10_000)
    by_confidence = SemanticScorer(SemanticSettings(rank_by="confidence"))
    with pytest.raises(UsageError, match=r"photos/a\.png: .* none for 1"):
        by_confidence.add("photos/a.png", [[0.5]], [[0.5]], [1])


def test_confidence_ranks_when_it_is_asked_to() -> None:
    phe = [[0.1], [0.9]]
    by_confidence = SemanticScorer(SemanticSettings(thresholds=(0.7,), rank_by="confidence"))
    by_confidence.add("a", phe, phe, [0, 100], confidences=[0.2, 0.8])
    by_severity = scorer(compared("a", phe, severities=[0, 100]), settings=one_threshold())
    assert (paper(by_confidence).semap, paper(by_severity).semap) == (1.0, 0.5)
