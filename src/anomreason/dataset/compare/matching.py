"""Which anomalies of one side are those of the other, by their texts, and how much the sides agree.

pairs = [ListPair(7, detected, annotated)]
scores = score_pairs(pairs, Backbone.open("distilbert-base-uncased"))
agreement("GPT-4o", "ada", scores, np.random.default_rng(0)).semf1["full"]
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anomreason.anomaly import Anomaly
from anomreason.dataset.compare.records import ChanceAgreement, SideAgreement
from anomreason.metrics.bertscore import Backbone
from anomreason.metrics.chance import chunks
from anomreason.metrics.image_scores import FULL_ALPHA, ImageScores, SemanticSettings, score_image, similarity_views
from anomreason.metrics.matching import rank
from anomreason.stats import Estimate, estimate, ratio

SETTINGS = SemanticSettings(profiles=("paper",))
VIEWS = SETTINGS.views
_FULL = SETTINGS.place("paper", "full")


@dataclass(frozen=True, slots=True)
class ListPair:
    """Two lists of anomalies of the same image."""

    image: int
    first: tuple[Anomaly, ...]
    second: tuple[Anomaly, ...]


@dataclass(frozen=True, slots=True)
class PairScores:
    """What comparing two lists gave."""

    image: int
    forward: ImageScores
    """The first list as predictions, the second as truth."""
    back: ImageScores
    shuffled: ImageScores | None
    """The first list against the second one of another image; None where there is no other."""
    full: npt.NDArray[np.float64]
    """Similarities in the view `full`, (first, second)."""

    @property
    def partners(self) -> list[tuple[int, int, float]]:
        """(place in the first list, in the second, similarity) of what matches at the lowest threshold."""
        matched = self.forward.matched[_FULL][0] if self.forward.matched else []
        return [(one, other, float(self.full[one, other])) for one, other in enumerate(matched) if other is not None]


def score_pairs(
    pairs: Sequence[ListPair], backbone: Backbone, progress: Callable[[int], None] = lambda *_: None
) -> list[PairScores]:
    """Compare lists, each image once; progress: called with how many more are done."""
    found: list[PairScores] = []
    for block in chunks(len(pairs)) or ([range(1)] if pairs else []):  # of one image there are no chunks
        part = [pairs[place] for place in block]
        chunk = backbone.hold([_texts(pair.second) for pair in part])
        partners = [[(place + 1) % len(part)] if len(part) > 1 else [] for place in range(len(part))]
        for place, alike in enumerate(chunk.score([_texts(pair.first) for pair in part], partners)):
            pair, own = part[place], alike.own
            orders = [rank([anomaly.severity for anomaly in side]) for side in (pair.first, pair.second)]
            where = f"image {pair.image}"
            other = alike.partners[0] if alike.partners else None
            found.append(
                PairScores(
                    image=pair.image,
                    forward=score_image(own["phe"], own["rea"], orders[0], SETTINGS, where),
                    back=score_image(own["phe"].T, own["rea"].T, orders[1], SETTINGS, where),
                    shuffled=score_image(other["phe"], other["rea"], orders[0], SETTINGS, where) if other else None,
                    full=similarity_views(own["phe"], own["rea"], (FULL_ALPHA,))[2],
                )
            )
        progress(len(part))
    return found


def agreement(first: str, second: str, scores: Sequence[PairScores], rng: np.random.Generator) -> SideAgreement:
    """Shares and scores over all pairs, with bootstrap intervals over their images."""
    shuffled = [one.shuffled for one in scores if one.shuffled]

    def clustered(rows: Iterator[tuple[float, float]]) -> Estimate:
        """Sum of the first numbers over that of the second ones."""
        of: defaultdict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for one, (top, bottom) in zip(scores, rows, strict=True):
            of[one.image][0] += top
            of[one.image][1] += bottom
        return estimate(list(of.values()), ratio, rng, len(of))

    def shares(size: Callable[[ImageScores], int]) -> dict[float, Estimate]:
        return {
            threshold: clustered((one.forward.tp[_FULL][place], size(one.forward)) for one in scores)
            for place, threshold in enumerate(SETTINGS.thresholds)
        }

    return SideAgreement(
        first=first,
        second=second,
        images=len({one.image for one in scores}),
        annotations=len(scores),
        share_of_first=shares(lambda one: one.predictions),
        share_of_second=shares(lambda one: one.truths),
        semf1={view: clustered((one.forward.semf1("paper", view), 1) for one in scores) for view in VIEWS},
        semf1_back={view: clustered((one.back.semf1("paper", view), 1) for one in scores) for view in VIEWS},
        chance=_chance(shuffled) if shuffled else None,
    )


def _chance(scores: Sequence[ImageScores]) -> ChanceAgreement:
    matched = np.array([one.tp[_FULL] for one in scores]).sum(axis=0).tolist()
    totals = sum(one.predictions for one in scores), sum(one.truths for one in scores)
    first, second = (
        {t: matched[place] / total if total else None for place, t in enumerate(SETTINGS.thresholds)}
        for total in totals
    )
    return ChanceAgreement(
        images=len(scores),
        share_of_first=first,
        share_of_second=second,
        semf1=sum(one.semf1("paper", "full") for one in scores) / len(scores),
    )


def _texts(anomalies: Sequence[Anomaly]) -> dict[str, list[str]]:
    return {"phe": [a.phenomenon for a in anomalies], "rea": [a.reasoning for a in anomalies]}
