"""Calibration: by hand, against scikit-learn, and an error that luck alone may explain."""

import numpy as np
import pytest

from anomreason.errors import UsageError
from anomreason.metrics.calibration import calibration


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_by_hand() -> None:
    """Two bins: mean 0.15 with 1 of 2 AI images, mean 0.95 with 1 of 2."""
    found = calibration([0.1, 0.2 - 1e-9, 0.9, 1.0], [False, True, True, False], rng())
    assert found is not None
    assert found.brier.value == pytest.approx((0.01 + 0.64 + 0.01 + 1) / 4)
    assert found.constant_brier == 0.25
    assert found.ece.value == pytest.approx((0.35 + 0.45) / 2)
    assert [(b.low, b.high, b.n, b.generated.value) for b in found.bins] == [(0.1, 0.2, 2, 0.5), (0.9, 1, 2, 0.5)]
    assert [b.mean_p for b in found.bins] == pytest.approx([0.15, 0.95])


def test_it_is_scikit_learns() -> None:
    metrics, curves = pytest.importorskip("sklearn.metrics"), pytest.importorskip("sklearn.calibration")
    p = rng().beta(0.6, 0.6, 500)
    truth = rng().random(500) < p**2
    found = calibration(list(p), list(truth), rng())
    assert found is not None
    shares, means = curves.calibration_curve(truth, p, n_bins=10)
    assert found.brier.value == pytest.approx(metrics.brier_score_loss(truth, p))
    assert [b.generated.value for b in found.bins] == pytest.approx(list(shares))
    assert [b.mean_p for b in found.bins] == pytest.approx(list(means))


def test_the_interval_begins_at_zero_where_luck_may_explain_the_error() -> None:
    draw, lucky = rng(), 0
    for _ in range(100):
        p = draw.beta(0.6, 0.6, 150)
        found = calibration(list(p), list(draw.random(150) < p), draw, resamples=200)
        assert found is not None
        assert found.ece.interval is not None
        assert found.ece.value is not None
        lucky += found.ece.interval.low == 0
        assert found.ece.interval.low <= found.ece.value <= found.ece.interval.high
    assert lucky >= 90
    wrong = calibration([0.9] * 100, [n < 50 for n in range(100)], rng())
    assert wrong is not None
    assert wrong.ece.interval is not None
    assert wrong.ece.interval.low > 0.2


def test_what_is_no_probability_is_refused_and_nothing_gives_nothing() -> None:
    with pytest.raises(UsageError, match=r"outside 0\.\.1"):
        calibration([0.5, 1.5], [True, False], rng())
    with pytest.raises(UsageError, match="2 probabilities for 1 images"):
        calibration([0.5, 0.5], [True], rng())
    assert calibration([], [], rng()) is None
