"""How good a model in training is, in the numbers that it will be judged by: SemF1 and SemAP on held-out pictures.

Knows answers only. An answer that cannot be read scores zero, as it does in `anomreason eval`.

    score = semantic_score(Backbone.open("distilbert-base-uncased"))
    train(recipe, instances, held_out, Path("out"), score)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from anomreason.anomaly import Anomaly
from anomreason.errors import ParseError
from anomreason.metrics.semantic import SemanticScorer, SemanticSettings
from anomreason.textform import read_anomalies
from anomreason.training.answering import Answered
from anomreason.training.watching import Score

if TYPE_CHECKING:
    from anomreason.metrics.bertscore import Backbone


def semantic_score(backbone: Backbone, seed: int = 0) -> Score:
    """A `Score`: semf1 (it decides), semap, readable, all 0..1; both profiles agree on semf1, semap is `paper`'s."""

    def score(answered: Sequence[Answered]) -> dict[str, float]:
        truths = [read_anomalies(one.instance.turns[-1].text) for one in answered]
        said = [_read(one) for one in answered]
        scorer = SemanticScorer(SemanticSettings(profiles=("paper",)))
        chunk = backbone.hold([_texts(one) for one in truths])
        found = chunk.score([_texts(one or ()) for one in said])
        for place, (alike, one, true) in enumerate(zip(found, said, truths, strict=True)):
            name = f"{place:06} {answered[place].instance.name}"
            if one is None:
                scorer.add_failure(name, "unparsable", len(true))
            else:
                scorer.add(name, alike.own["phe"], alike.own["rea"], [a.severity for a in one])
        view = scorer.result(np.random.default_rng(seed)).profiles["paper"]["full"].zero
        readable = sum(one is not None for one in said) / len(said)
        return {"semf1": view.semf1, "semap": view.semap, "readable": readable}

    return score


def _read(one: Answered) -> tuple[Anomaly, ...] | None:
    """None for an answer that is not in the form, or was cut off."""
    try:
        return None if one.cut else read_anomalies(one.texts[-1])
    except ParseError:
        return None


def _texts(anomalies: Sequence[Anomaly]) -> dict[str, list[str]]:
    return {"phe": [a.phenomenon for a in anomalies], "rea": [a.reasoning for a in anomalies]}
