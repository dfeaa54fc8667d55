"""How well a detector explained each image that it may have judged right (Eq. 15-16 before the mean).

An AI image is scored by its anomalies, as `eval` does; a photograph by its description, as if that were one anomaly.
Knows nothing of judgements: what was judged wrong is set to 0 later. Try it:

    explain(entrant, truth, SemanticSettings(), backbone)["paper", "full", "semf1"]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from anomreason.evaluation.joining import Entrant, Truth
from anomreason.evaluation.reading import Said
from anomreason.evaluation.running import Progress
from anomreason.metrics.chance import CHUNK, chunks
from anomreason.metrics.image_scores import ImageScores, Profile, SemanticSettings, score_image
from anomreason.metrics.matching import rank

if TYPE_CHECKING:
    from anomreason.metrics.bertscore import Backbone, Similarities

Explanations = dict[tuple[Profile, str, str], list[float | None]]
"""By profile, view, and `semap` or `semf1`: a score 0..1 an image in the truth's order; None where nothing can be."""


def explain(
    entrant: Entrant, truth: Truth, settings: SemanticSettings, backbone: Backbone, progress: Progress = lambda *_: None
) -> Explanations:
    """Scores of every image, judged right or not. `generated` of the truth must be known."""
    names = list(truth.images)
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


def _texts(said: Said | None) -> dict[str, Sequence[str]]:
    if said is None or said.failure is not None:
        return {"phe": (), "rea": (), "description": ()}
    return {
        "phe": [f.phenomenon for f in said.findings],
        "rea": [f.reasoning for f in said.findings],
        "description": () if said.description is None else (said.description,),
    }


def _scores(true: Said, said: Said | None, alike: Similarities, settings: SemanticSettings) -> ImageScores | None:
    if said is None or said.failure is not None:
        return None
    if true.generated:
        order = rank([f.severity for f in said.findings], _sure(said), settings.rank_by)
        return score_image(alike.own["phe"], alike.own["rea"], order, settings, true.image)
    if 0 in alike.own["description"].shape:
        return None
    return score_image(alike.own["description"], alike.own["description"], [0], settings, true.image)


def _sure(said: Said) -> list[float] | None:
    sure = [f.confidence for f in said.findings if f.confidence is not None]
    return sure if len(sure) == len(said.findings) else None
