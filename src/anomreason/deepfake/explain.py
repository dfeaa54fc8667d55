"""Scores the explanation of each image, whatever its judgement (Eq. 15-16 before the mean).

An AI image is scored by its anomalies, as in `eval`. A photograph that the truth describes is scored by its
description, as if that were one anomaly; it gets 0 where the detector gives none.

    explain(entrant, truth, SemanticSettings(), backbone)["paper", "full", "semf1"]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from anomreason.evaluation.running import Progress, check_ranking, ranking
from anomreason.metrics.chance import CHUNK, chunks
from anomreason.metrics.image_scores import ImageScores, Profile, SemanticSettings, score_image
from anomreason.metrics.matching import rank
from anomreason.sources.annotations import ImageAnnotation
from anomreason.sources.joining import Entrant, Truth

if TYPE_CHECKING:
    from anomreason.metrics.bertscore import Backbone, Similarities

Explanations = dict[tuple[Profile, str, str], list[float | None]]
"""By profile, view, and `semap` or `semf1`: a score 0..1 an image in the truth's order.

None where the truth has no text (photographs), or an AI image was not answered.
"""


def explain(
    entrant: Entrant, truth: Truth, settings: SemanticSettings, backbone: Backbone, progress: Progress = lambda *_: None
) -> Explanations:
    """Scores of every image, judged right or not. `generated` of the truth must be known.

    UsageError, naming file and image, when predictions cannot be ranked as asked.
    """
    names = list(truth.images)
    check_ranking(entrant, [name for name in names if truth.images[name].generated], settings)
    found: list[ImageScores | None] = []
    for block in chunks(len(names), CHUNK) or [range(len(names))]:
        true = [truth.images[names[place]] for place in block]
        said = [entrant.said.get(names[place]) for place in block]
        chunk = backbone.hold([_texts(one) for one in true])
        for there, here, alike in zip(true, said, chunk.score([_texts(one) for one in said]), strict=True):
            found.append(_scores(there, here, alike, settings))
        progress(block.stop, len(names))
    return {
        (profile, view, metric): [None if one is None else getattr(one, metric)(profile, view) for one in found]
        for profile in settings.profiles
        for view in settings.views
        for metric in ("semap", "semf1")
    }


def _texts(said: ImageAnnotation | None) -> dict[str, Sequence[str]]:
    if said is None or said.failure is not None:
        return {"phe": (), "rea": (), "description": ()}
    return {
        "phe": [f.phenomenon for f in said.anomalies],
        "rea": [f.reasoning for f in said.anomalies],
        "description": () if said.description is None else (said.description,),
    }


def _scores(
    true: ImageAnnotation, said: ImageAnnotation | None, alike: Similarities, settings: SemanticSettings
) -> ImageScores | None:
    if not true.generated:
        alike_texts = alike.own["description"]
        places = range(len(alike_texts))
        return None if true.description is None else score_image(alike_texts, alike_texts, places, settings, true.image)
    if said is None or said.failure is not None:
        return None
    order = rank(*ranking(said), settings.ranking)
    return score_image(alike.own["phe"], alike.own["rea"], order, settings, true.image)
