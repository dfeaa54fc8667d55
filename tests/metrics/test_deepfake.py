"""AI image or photograph: every number by hand, against a brute-force reference, and never one of them alone."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomreason.errors import UsageError
from anomreason.metrics.deepfake import AnswerCounts, DeepfakeScores, Judgement, deepfake
from anomreason.stats import Estimate


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def value(estimate: Estimate) -> float:
    assert estimate.value is not None
    return estimate.value


CASES = [
    Judgement("f1", True, True, 0.9, 2, source="flux"),
    Judgement("f2", True, True, 0.6, 1, source="flux"),
    Judgement("f3", True, False, 0.2, 0, source="sd"),
    Judgement("f4", True, None, None, 0, source="sd"),
    Judgement("f5", True, None, None, 0, failure="unparsable", source="sd"),
    Judgement("p1", False, False, 0.1, 0, source="web"),
    Judgement("p2", False, False, 0.6, 3, source="web"),
    Judgement("p3", False, True, 0.7, 2, source="web"),
]
SCORES = [0.8, 0.5, 0.9, None, None, 0.4, None, None]


def test_every_number_by_hand() -> None:
    """5 fakes: 2 right, 1 wrong, 1 abstained, 1 failed. 3 photographs: 2 right. Scores .9 .6 .2 against .1 .6 .7."""
    found = deepfake(CASES, rng())
    assert (found.n, found.fakes, found.photographs) == (8, 5, 3)
    assert (found.failures, found.unparsable, found.abstained) == ({"unparsable": 1}, 1, 1)
    assert value(found.accuracy) == 4 / 8
    assert found.constant_accuracy == 5 / 8
    assert value(found.fake_recall) == 2 / 5
    assert value(found.real_specificity) == pytest.approx(2 / 3)
    assert value(found.balanced_accuracy) == pytest.approx((2 / 5 + 2 / 3) / 2)
    assert value(found.auroc) == pytest.approx((3 + 1.5 + 1) / 9)
    assert found.auroc.n == 6
    assert value(found.false_anomalies) == pytest.approx(5 / 3)
    assert value(found.photographs_with_anomalies) == pytest.approx(2 / 3)
    for estimate in (found.accuracy, found.balanced_accuracy, found.auroc, found.false_anomalies):
        assert estimate.interval is not None
        assert estimate.interval.low <= value(estimate) <= estimate.interval.high


def test_explanations_by_hand() -> None:
    """Fakes: .8 + .5, the others wrong. Photographs: p1 .4, its description; p2 claimed some: 0; p3 wrong."""
    found = deepfake(CASES, rng(), {"semap_full": SCORES}).explained["semap_full"]
    assert value(found.release) == pytest.approx(1.3 / 5)
    assert value(found.over_all) == pytest.approx(1.7 / 8)
    assert (found.release.n, found.over_all.n) == (5, 8)
    assert (found.described, found.by_claims) == (1, 2)


def test_a_photograph_without_a_true_description_scores_one_when_nothing_was_claimed_in_it() -> None:
    images = [Judgement("f", True, True, claimed=1), Judgement("p", False, False)]
    images.append(Judgement("q", False, False, claimed=1))
    found = deepfake(images, rng(), {"semf1_phe": [0.5, None, None]}).explained["semf1_phe"]
    assert value(found.over_all) == 0.5
    assert value(found.release) == 0.5
    assert (found.described, found.by_claims) == (0, 2)


def test_a_detector_that_calls_everything_an_ai_image_is_found_out() -> None:
    """94 % right, and worth nothing: the numbers beside the accuracy say so."""
    images = [Judgement(f"f{n}", True, True, 0.5) for n in range(94)] + [
        Judgement(f"p{n}", False, True, 0.5) for n in range(6)
    ]
    found = deepfake(images, rng())
    assert value(found.accuracy) == found.constant_accuracy == 0.94
    assert (value(found.fake_recall), value(found.real_specificity)) == (1.0, 0.0)
    assert value(found.balanced_accuracy) == value(found.auroc) == 0.5


def test_what_was_not_answered_is_wrong_and_is_neither_flawless_nor_scored() -> None:
    images = [Judgement("a", True, True), Judgement("p", False, False, 0.1, failure="refused")]
    images.append(Judgement("q", False, None))
    found = deepfake(images, rng(), {"x": [1.0, 1.0, 1.0]})
    assert value(found.real_specificity) == 0.0
    assert value(found.explained["x"].over_all) == pytest.approx(1 / 3)
    assert found.auroc == Estimate(None, None, 0)
    assert found.false_anomalies.n == 1, "a failed photograph says nothing of false anomalies"


def test_one_kind_alone_has_no_balanced_accuracy_and_no_auroc() -> None:
    found = deepfake([c for c in CASES if c.generated], rng())
    assert found.real_specificity == found.false_anomalies == Estimate(None, None, 0)
    assert found.balanced_accuracy.value is None
    assert found.auroc == Estimate(None, None, 3)


def test_what_became_of_the_images_adds_up_and_tells_unsure_from_never_asked() -> None:
    found = deepfake([*CASES, Judgement("n", False, None, asked=False)], rng())
    assert found.answers == {
        "fakes": AnswerCounts(generated=2, photograph=1, unsure=1, not_asked=0, failed=1),
        "photographs": AnswerCounts(generated=1, photograph=2, unsure=0, not_asked=1, failed=0),
    }
    assert (found.abstained, found.not_asked, found.n) == (1, 1, 9)
    assert (value(found.judged_right), found.judged_right.n) == (4 / 6, 6)


def test_clean_images_by_hand() -> None:
    """Going by anomalies alone: right on the two with anomalies, wrong on both clean ones, right on photographs."""
    images = [Judgement(f"a{n}", True, True, claimed=1, anomalous=True) for n in range(2)]
    images += [Judgement("c1", True, False, anomalous=False), Judgement("c2", True, False, claimed=3, anomalous=False)]
    images += [Judgement(f"p{n}", False, False) for n in range(6)] + [Judgement("u", True, True)]
    clean = deepfake(images, rng()).clean
    assert clean is not None
    assert (clean.clean_fakes, clean.anomalous_fakes, clean.unsearched_fakes) == (2, 2, 1)
    assert (value(clean.accuracy), value(clean.balanced_accuracy)) == (6 / 8, 0.5)
    assert (value(clean.clean_recall), value(clean.anomalous_recall), value(clean.false_anomalies)) == (0, 1, 1.5)
    unknown = deepfake([i for i in images if i.anomalous is not False], rng()).clean
    assert unknown is not None
    assert unknown.accuracy.value is unknown.balanced_accuracy.value is None


def test_the_intervals_hold_known_rates_of_a_simulated_detector() -> None:
    """300 sets: 80 AI images found at 0.8, 120 photographs taken for one at 0.05; 15 % of both abstained. Then 0.68 of
    the AI images and 0.8075 of the photographs are judged right."""
    draw, repetitions = np.random.default_rng(3), 300
    true = {"fake_recall": 0.68, "real_specificity": 0.8075, "balanced_accuracy": 0.74375}
    true |= {"accuracy": 0.4 * 0.68 + 0.6 * 0.8075, "judged_right": 0.4 * 0.8 + 0.6 * 0.95}
    held = dict.fromkeys(true, 0)
    for _ in range(repetitions):
        images = []
        for n in range(200):
            fake, abstains = n < 80, draw.random() < 0.15
            says = bool(draw.random() < (0.8 if fake else 0.05))
            images.append(Judgement(str(n), fake, None if abstains else says))
        found = deepfake(images, draw, resamples=20)
        for name, rate in true.items():
            ends = getattr(found, name).interval
            held[name] += ends.low <= rate <= ends.high
    assert all(count / repetitions >= 0.93 for count in held.values()), held


def test_the_breakdown_by_source_keeps_fakes_and_photographs_of_one_source_apart() -> None:
    both = [*CASES, Judgement("x", True, True, claimed=1, source="web")]
    rows = {(s.source, s.generated): s for s in deepfake(both, rng(), {"ap": [*SCORES, 0.6]}).sources}
    assert list(rows) == [("flux", True), ("sd", True), ("web", True), ("web", False)]
    assert (value(rows["flux", True].right), value(rows["sd", True].right)) == (1.0, 0.0)
    assert (rows["sd", True].n, rows["sd", True].failures, rows["sd", True].abstained) == (3, {"unparsable": 1}, 1)
    assert value(rows["web", False].right) == pytest.approx(2 / 3)
    assert value(rows["web", False].claimed) == pytest.approx(5 / 3)
    assert value(rows["flux", True].explained["ap"]) == pytest.approx(0.65)
    assert sum(r.n for r in rows.values()) == 9


case = st.builds(
    Judgement,
    st.just("i"),
    st.booleans(),
    st.sampled_from([True, False, None]),
    st.none() | st.sampled_from([0.1, 0.5, 0.5001, 1.0]),
    st.integers(0, 3),
    st.sampled_from([None, None, None, "refused"]),
    st.sampled_from("ab"),
)


@given(st.lists(st.tuples(case, st.floats(0, 1)), min_size=1, max_size=12))
@settings(max_examples=500, deadline=None)
def test_every_number_follows_its_definition(drawn: list[tuple[Judgement, float]]) -> None:
    images = [replace(image, image=str(n)) for n, (image, _) in enumerate(drawn)]
    given = [score for _, score in drawn]
    found = deepfake(images, rng(), {"ap": given}, resamples=10)
    right = [i.judged == i.generated and i.failure is None for i in images]
    fakes = [r for r, i in zip(right, images, strict=True) if i.generated]
    photographs = [r for r, i in zip(right, images, strict=True) if not i.generated]
    assert value(found.accuracy) == pytest.approx(sum(right) / len(right))
    if fakes:
        assert value(found.fake_recall) == pytest.approx(sum(fakes) / len(fakes))
    if photographs:
        assert value(found.real_specificity) == pytest.approx(sum(photographs) / len(photographs))
    if fakes and photographs:
        expected = (sum(fakes) / len(fakes) + sum(photographs) / len(photographs)) / 2
        assert value(found.balanced_accuracy) == pytest.approx(expected)
    explained = sum(s for s, r in zip(given, right, strict=True) if r)
    assert value(found.explained["ap"].over_all) == pytest.approx(explained / len(images))
    scored = [(i.p_generated, i.generated) for i in images if i.p_generated is not None and i.failure is None]
    wins = [(a > b) + (a == b) / 2 for a, one in scored if one for b, other in scored if not other]
    assert found.auroc.value == (pytest.approx(sum(wins) / len(wins)) if wins else None)
    assert sum(s.n for s in found.sources) == len(images)


@pytest.mark.parametrize("seed", range(10))
def test_shares_and_auroc_are_those_of_scikit_learn(seed: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(seed)
    truth, judged = draw.integers(0, 2, (2, 80)).astype(bool)
    score = (truth + draw.normal(0, 1, 80)).round(1)
    images = [Judgement(str(n), bool(truth[n]), bool(judged[n]), float(score[n])) for n in range(80)]
    found = deepfake(images, rng(), resamples=10)
    assert value(found.accuracy) == pytest.approx(metrics.accuracy_score(truth, judged))
    assert value(found.balanced_accuracy) == pytest.approx(metrics.balanced_accuracy_score(truth, judged))
    assert value(found.fake_recall) == pytest.approx(metrics.recall_score(truth, judged))
    assert value(found.auroc) == pytest.approx(metrics.roc_auc_score(truth, score))


def test_classification_never_raises_an_explanations_score() -> None:
    """CSemAP is at most SemAP over the same images, and equal to it when every image was judged right."""
    draw = np.random.default_rng(1)
    given = draw.random(50).tolist()
    images = [Judgement(str(n), True, bool(draw.random() < 0.7), claimed=1) for n in range(50)]
    every = [replace(i, judged=True) for i in images]
    assert value(deepfake(images, rng(), {"x": given}).explained["x"].release) < np.mean(given)
    assert value(deepfake(every, rng(), {"x": given}).explained["x"].release) == pytest.approx(np.mean(given))


def shares(found: DeepfakeScores) -> list[float]:
    return [
        value(e)
        for e in (found.accuracy, found.fake_recall, found.real_specificity, found.balanced_accuracy, found.auroc)
    ]


def test_the_order_of_the_images_does_not_matter_and_the_seed_settles_the_rest() -> None:
    assert shares(deepfake(CASES, rng())) == pytest.approx(shares(deepfake(CASES[::-1], rng())))
    assert deepfake(CASES, rng()) == deepfake(CASES, rng())


def test_the_interval_of_the_auroc_holds_the_truth_about_as_often_as_it_says() -> None:
    """Scores of fakes and photographs one standard deviation apart: AUROC is Phi(1 / sqrt 2) = 0.7602."""
    held, draw = 0, np.random.default_rng(5)
    for _ in range(100):
        images = [Judgement(str(n), n < 40, None, float(draw.normal(n < 40, 1))) for n in range(80)]
        interval = deepfake(images, draw, resamples=200).auroc.interval
        assert interval is not None
        held += interval.low <= 0.7602 <= interval.high
    assert held >= 87, "95 of 100 are meant; 87 is more than three standard errors below"


@pytest.mark.parametrize(
    ("images", "explanations", "message"),
    [
        ([], {}, "no images"),
        ([CASES[0], CASES[0]], {}, "duplicate images"),
        ([Judgement("a", True, True, claimed=-1)], {}, "negative"),
        ([Judgement("a", True, True, float("nan"))], {}, "finite"),
        ([CASES[0]], {"ap": [0.1, 0.2]}, "2 scores 'ap' for 1 images"),
        ([CASES[0]], {"ap": [1.5]}, "within 0..1"),
        ([CASES[0]], {"ap": [float("nan")]}, "within 0..1"),
        ([CASES[0]], {"ap": [None]}, "'f1' is an AI image without 'ap'"),
    ],
)
def test_what_makes_no_sense_is_an_error_that_names_the_place(
    images: list[Judgement], explanations: dict[str, list[float | None]], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        deepfake(images, rng(), explanations)
