"""The scores of one image by hand: what matches, what counts as equal, what the views are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from anomreason.errors import UsageError
from anomreason.metrics.image_scores import SemanticSettings, score_image, similarity_views


def one_threshold(threshold: float = 0.7) -> SemanticSettings:
    return SemanticSettings(thresholds=(threshold,))


# Two predictions, two truths; the second is more sure, and takes truth 0 from the first.
PHE = [[0.95, 0.72], [0.85, 0.10]]
REA = [[0.75, 0.72], [0.65, 0.90]]


def test_one_image_by_hand() -> None:
    one = score_image(PHE, REA, [1, 0], SemanticSettings())
    # paper, phe: prediction 1 first. 0.7: 1-0, then 0-1 at 0.72. 0.8: 1-0 only. 0.9: 1 misses, 0-0 hits at place 2.
    assert one.scores("paper", "phe") == [(1, 1, 1), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)]
    assert one.semap("paper", "phe") == pytest.approx((1 + 1 / 2 + (1 / 2) / 2) / 3)
    assert one.semf1("paper", "phe") == pytest.approx((1 + 0.5 + 0.5) / 3)
    # paper, rea: 0.7: 1-1, 0-0. 0.8 and 0.9: 1-1, first place.
    assert one.semap("paper", "rea") == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    # full is [[0.85, 0.72], [0.75, 0.5]]: 0.7: 1-0, 0-1. 0.8: 0-0 at place 2. 0.9: none.
    assert one.semap("paper", "full") == pytest.approx((1 + 1 / 4 + 0) / 3)
    # release, phe: 0-0 at 0.95 goes first, 1-1 at 0.1 is left: one of two at every threshold.
    assert one.semap("release", "phe") == 0.5
    # release, full: 0-0 at 0.85, then 1-1 at 0.5.
    assert one.semap("release", "full") == pytest.approx((0.5 + 0.5 + 0) / 3)


def test_ties_in_a_view_are_settled_by_the_full_similarity() -> None:
    """Prediction 0 may take either truth by phe; taking truth 1, more alike in all, leaves truth 0 to prediction 1."""
    scores = score_image([[0.8, 0.8], [0.8, 0.1]], [[0.1, 0.9], [0.5, 0.5]], [0, 1], one_threshold())
    assert scores.scores("paper", "phe") == [(1, 1, 1)]
    other_way = score_image([[0.8, 0.8], [0.8, 0.1]], [[0.9, 0.1], [0.5, 0.5]], [0, 1], one_threshold())
    assert other_way.scores("paper", "phe") == [(0.5, 0.5, 0.5)]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_similarity_of_a_threshold_reaches_it_in_either_precision(kind: Any) -> None:
    for threshold in (0.7, 0.8, 0.9, 1.0):
        at = np.array([[threshold]], dtype=kind) - kind(2e-7)
        assert score_image(at, at, [0], one_threshold(threshold)).tp == (1,) * 6
        under = at - kind(2e-6)
        assert score_image(under, under, [0], one_threshold(threshold)).tp == (0,) * 6


def test_similarities_apart_by_noise_tie() -> None:
    noisy = [[0.8, 0.8000001], [0.8, 0.1]]
    assert score_image(noisy, np.zeros((2, 2)), [0, 1], one_threshold()).scores("paper", "phe") == [(0.5, 0.5, 0.5)]


def test_views_are_weighted_means_and_named_by_their_weight() -> None:
    asked = SemanticSettings(alphas=(0.5, 0.3, 1.0, 0.0))
    assert asked.views == ("phe", "rea", "full", "full@0.3", "full@1", "full@0")
    phe, rea, full, mixed, all_phe, all_rea = similarity_views([[0.9]], [[0.4]], asked.alphas)
    assert (full.item(), mixed.item(), all_phe.item(), all_rea.item()) == (0.65, 0.55, phe.item(), rea.item())


@pytest.mark.parametrize(
    "wrong",
    [
        {"thresholds": ()},
        {"thresholds": (1.5,)},
        {"thresholds": (float("nan"),)},
        {"thresholds": (0.7, 0.7)},
        {"alphas": (-0.1,)},
        {"alphas": (0.3, 0.3)},
        {"alphas": (0.3, 0.30000000000001)},
        {"profiles": ()},
        {"profiles": ("paper", "paper")},
        {"profiles": ("mine",)},
        {"rank_by": "luck"},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        SemanticSettings(**wrong)
