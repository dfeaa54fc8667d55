"""Operating points: by hand, against scikit-learn, what cannot be measured, and intervals that hold the truth."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm

from anomreason.metrics.operating import FALSE_ALARMS, OperatingCurve, Scored, operating_curve

Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
"""Scores of so many AI images and photographs each."""


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def images(fakes: object, photographs: object) -> list[Scored]:
    return [Scored(True, s) for s in fakes] + [Scored(False, s) for s in photographs]  # type: ignore[attr-defined]


def recalls(curve: OperatingCurve) -> list[float | None]:
    return [point.recall.value for point in curve.points]


def test_by_hand() -> None:
    """100 photographs score 0.00 .. 0.99. One of them may be an alarm at 1 %: from 0.99 on."""
    curve = operating_curve(images([0.995, 0.97, 0.955, 0.92, 0.5], [n / 100 for n in range(100)]), rng())
    assert recalls(curve) == [0.2, 0.6, 0.8]
    assert [point.threshold for point in curve.points] == [0.99, 0.95, 0.9]
    assert (curve.rests_on, curve.fakes, curve.photographs) == ("scores", 5, 100)
    assert curve.vertices[0] == (0, 0)
    assert curve.vertices[-1] == (1, 1)


def test_between_two_scores_the_curve_is_a_straight_line() -> None:
    """8 of 40 photographs share the highest score with half of the AI images: at 10 % half of these are found."""
    curve = operating_curve(images([1, 1, 0, 0], [1] * 8 + [0] * 32), rng())
    assert recalls(curve)[1:] == pytest.approx([0.125, 0.25])
    assert curve.points[2].threshold is None


def test_a_rate_under_one_photograph_is_not_measurable() -> None:
    curve = operating_curve(images([0.9, 0.8], [n / 100 for n in range(40)]), rng())
    assert recalls(curve) == [None, 1, 1]
    assert curve.points[0].why_not == "not measurable with 40 photographs: one is 0.025 of them"
    assert curve.points[0].recall.interval is None
    assert min(point.false_alarms for point in curve.band) >= 1 / 40


def test_an_image_without_a_score_is_not_found_and_raises_no_alarm() -> None:
    whole = images([0.9] * 8, [0.1] * 50)
    curve = operating_curve([*whole, Scored(True, None), Scored(True, None), Scored(False, None)], rng())
    assert recalls(curve) == [None, 0.8, 0.8]
    assert (curve.fakes_without, curve.photographs_without, curve.photographs) == (2, 1, 50)
    assert curve.vertices[-1] == (1, 0.8)


def test_without_scores_there_is_one_point() -> None:
    answers = [(True, True), (True, True), (True, False), (True, None), (False, False), (False, True), (False, None)]
    curve = operating_curve([Scored(truth, None, answer) for truth, answer in answers], rng())
    assert curve.rests_on == "answers"
    assert curve.points == curve.vertices == curve.band == ()
    assert (curve.own.recall.value, curve.own.recall.n) == (0.5, 4)
    assert (curve.own.false_alarms.value, curve.own.false_alarms.n) == (0.5, 2)


def test_of_one_kind_alone_there_is_no_curve() -> None:
    for only in (images([0.2, 0.9], []), images([], [0.2, 0.9]), []):
        curve = operating_curve(only, rng())
        assert (curve.rests_on, curve.points) == ("answers", ())


@pytest.mark.parametrize("levels", [3, 7, 1000])
def test_the_curve_is_scikit_learns(levels: int) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(levels)
    fake, photo = (np.round(draw.normal(shift, 1, 150) * levels / 4) for shift in (1, 0))
    curve = operating_curve(images(fake, photo), rng())
    x, y, _ = metrics.roc_curve([1] * 150 + [0] * 150, [*fake, *photo], drop_intermediate=False)
    at = np.linspace(0.013, 0.987, 50)  # between photographs, where the curve does not jump
    own_x, own_y = np.array(curve.vertices).T
    assert np.interp(at, own_x, own_y) == pytest.approx(np.interp(at, x, y), abs=1e-4)


def continuous(draw: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    return draw.normal(1.8, 1, n), draw.normal(0, 1, n)


def five_levels(draw: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    return draw.choice(5, n, p=(0.1, 0.1, 0.1, 0.2, 0.5)), draw.choice(5, n, p=(0.6, 0.2, 0.1, 0.07, 0.03))


TRUTH: dict[Draw, np.ndarray] = {
    continuous: norm.sf(norm.isf(FALSE_ALARMS) - 1.8),
    five_levels: np.interp(FALSE_ALARMS, (0, 0.03, 0.1, 0.2, 0.4, 1), (0, 0.5, 0.7, 0.8, 0.9, 1)),
}


@pytest.mark.parametrize(("draw", "n"), [(continuous, 100), (five_levels, 300)])
def test_the_intervals_hold_the_true_recall(draw: Draw, n: int) -> None:
    """Of 300 sets, with all of the photographs that the rate needs: 1 % of 100 is one."""
    generator, repetitions = np.random.default_rng(n), 300
    held = np.zeros(len(FALSE_ALARMS))
    for _ in range(repetitions):
        curve = operating_curve(images(*draw(generator, n)), generator, resamples=600)
        for place, (point, true) in enumerate(zip(curve.points, TRUTH[draw], strict=True)):
            assert point.recall.interval is not None
            held[place] += point.recall.interval.low <= true <= point.recall.interval.high
    assert (held / repetitions >= 0.92).all(), f"{held / repetitions}: of 95 %, chance alone takes off up to 3"


def test_many_images_are_done_in_bounded_memory_and_the_curve_is_thinned() -> None:
    draw = rng()
    curve = operating_curve(images(draw.normal(1, 1, 30_000), draw.normal(0, 1, 30_000)), rng(), resamples=100)
    assert len(curve.vertices) <= 400
    for point, true in zip(curve.points, norm.sf(norm.isf(FALSE_ALARMS) - 1), strict=True):
        assert point.recall.interval is not None
        assert point.recall.interval.low - 0.01 < true < point.recall.interval.high + 0.01
        assert point.recall.interval.high - point.recall.interval.low < 0.05
