"""Breakdowns of a score: pairs of one image, images by their number of true anomalies, predictions by severity.

>>> from anomreason.metrics.image_scores import SemanticSettings, score_image
>>> phe, rea = [[0.75]], [[0.65]]
>>> pairs_of(phe, rea, score_image(phe, rea, [0], SemanticSettings(profiles=("paper",))))[0].why
'0.700 is below 0.8'
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from anomreason.anomaly import Anomaly
from anomreason.evaluation.records import GroupScore, MatchedPair, SeverityBin, SeverityCalibration, TruthGroup
from anomreason.metrics.image_scores import (
    FULL_ALPHA,
    ImageScores,
    Matching,
    Profile,
    SemanticSettings,
    similarity_views,
)
from anomreason.metrics.semantic import BothScores, SemanticScorer
from anomreason.stats import mean_score

Place = tuple[Profile, str, float]
"""Profile, view, threshold."""
LAST = 10
"""From so many true anomalies on, images stand in one group."""
BINS = 10
"""Bins of ten points each; the last one holds 100 too."""


def pairs_of(phe: npt.ArrayLike, rea: npt.ArrayLike, scores: ImageScores) -> list[MatchedPair]:
    """The pairs that matched somewhere, and the nearest partner of each side left alone in `full`.

    phe, rea: (predictions, truths), -1..1. scores: what `score_image` made of them. Pairs are sorted by prediction,
    then truth. `why` is about the first profile's `full`; it is empty for a pair that matched at all thresholds.
    """
    if not scores.matched:
        return []
    settings = scores.settings
    views = _views(phe, rea, settings)
    matchings = dict(zip(_places(settings), scores.matched, strict=True))
    found: dict[tuple[int, int], dict[str, dict[str, list[float]]]] = {}
    for (profile, view, threshold), matching in matchings.items():
        for p, t in enumerate(matching):
            if t is not None:
                found.setdefault((p, t), {}).setdefault(profile, {}).setdefault(view, []).append(threshold)
    for pair in _nearest(views["full"], matchings):
        found.setdefault(pair, {})
    names = ("phe", "rea", "full", *(v for v in settings.views if "@" in v))
    return [
        MatchedPair(
            p=p,
            t=t,
            **{name: round(float(views[name][p, t]), 6) for name in names},
            matched=found[p, t],
            why=_why(p, t, views["full"], matchings, settings),
        )
        for p, t in sorted(found)
    ]


def _views(phe: npt.ArrayLike, rea: npt.ArrayLike, settings: SemanticSettings) -> dict[str, npt.NDArray[np.float64]]:
    names = ("phe", "rea", "full", *settings.views[2:])
    return dict(zip(names, similarity_views(phe, rea, (FULL_ALPHA, *settings.alphas)), strict=True))


def _places(settings: SemanticSettings) -> list[Place]:
    """In the order of the cells of an image."""
    return [(p, v, t) for p in settings.profiles for v in settings.views for t in settings.thresholds]


def _nearest(full: npt.NDArray[np.float64], matchings: dict[Place, Matching]) -> set[tuple[int, int]]:
    """Most similar partners of the predictions and truths that no threshold matches in `full`, in any profile."""
    matched = {(p, t) for place, m in matchings.items() if place[1] == "full" for p, t in enumerate(m)}
    predictions, truths = ({pair[side] for pair in matched if pair[1] is not None} for side in (0, 1))
    alone = {(p, int(full[p].argmax())) for p in range(full.shape[0]) if p not in predictions}
    return alone | {(int(full[:, t].argmax()), t) for t in range(full.shape[1]) if t not in truths}


def _why(
    p: int, t: int, full: npt.NDArray[np.float64], matchings: dict[Place, Matching], settings: SemanticSettings
) -> str:
    """Why a pair is not matched at every threshold, each reason once; of the first profile."""
    reasons: dict[str, None] = {}
    for threshold in sorted(settings.thresholds):
        matching = matchings.get((settings.profiles[0], "full", threshold)) or []
        if full[p, t] < threshold:
            reasons[f"{full[p, t]:.3f} is below {threshold:g}"] = None
            break
        if matching and matching[p] != t:
            reasons |= dict.fromkeys(_taken(p, t, full, matching))
    return "; ".join(reasons)


def _taken(p: int, t: int, full: npt.NDArray[np.float64], matching: Matching) -> list[str]:
    mine = matching[p]
    reasons = [] if mine is None else [f"prediction {p} took truth {mine} ({full[p, mine]:.3f})"]
    if t in matching:
        other = matching.index(t)
        reasons.append(f"truth {t} was taken by prediction {other} ({full[other, t]:.3f})")
    return reasons


def by_truths(scorer: SemanticScorer, rng: np.random.Generator) -> list[TruthGroup]:
    """One group for each number of true anomalies that occurs; failed images score zero."""
    table, settings = scorer.table, scorer.settings
    semap, semf1 = table.ap.mean(axis=-1), table.f1.mean(axis=-1)  # (images, profiles, views)
    number = np.minimum(table.truths, LAST)

    def score(values: npt.NDArray[np.float64]) -> GroupScore:
        found = mean_score(values, rng)
        return GroupScore(value=found.value, interval=found.interval)

    return [
        TruthGroup(
            least=group,
            most=None if group == LAST else group,
            images=int((number == group).sum()),
            profiles={
                profile: {
                    view: BothScores(
                        semap=score(semap[number == group, p, v]), semf1=score(semf1[number == group, p, v])
                    )
                    for v, view in enumerate(settings.views)
                }
                for p, profile in enumerate(settings.profiles)
            },
        )
        for group in np.unique(number).tolist()
    ]


class SeverityCounter:
    """Counts matched pairs in the view `full` by predicted severity, one image after another.

    Answers whether anomalies with a worse predicted severity are more often true, and as severe.
    """

    def __init__(self, settings: SemanticSettings) -> None:
        self._settings = settings
        shape = (len(settings.profiles), len(settings.thresholds), BINS)
        self._predictions = np.zeros(BINS, dtype=np.int64)
        self._matched = np.zeros(shape, dtype=np.int64)
        self._true = np.zeros(shape)
        """Sum of the true severities of the matched."""
        self._apart = np.zeros(shape)
        """Sum of |predicted - true| of the matched."""

    def add(self, predictions: Sequence[Anomaly], truths: Sequence[Anomaly], pairs: Iterable[MatchedPair]) -> None:
        """One image."""
        for anomaly in predictions:
            self._predictions[_bin(anomaly.severity)] += 1
        profiles, thresholds = self._settings.profiles, self._settings.thresholds
        for pair in pairs:
            predicted, true = predictions[pair.p].severity, truths[pair.t].severity
            for p, profile in enumerate(profiles):
                for threshold in pair.matched.get(profile, {}).get("full", ()):
                    cell = p, thresholds.index(threshold), _bin(predicted)
                    self._matched[cell] += 1
                    self._true[cell] += true
                    self._apart[cell] += abs(predicted - true)

    def result(self) -> dict[str, dict[float, SeverityCalibration]]:
        """By profile and threshold."""
        return {
            profile: {threshold: self._cell(p, k) for k, threshold in enumerate(self._settings.thresholds)}
            for p, profile in enumerate(self._settings.profiles)
        }

    def _cell(self, profile: int, threshold: int) -> SeverityCalibration:
        matched, true = self._matched[profile, threshold], self._true[profile, threshold]
        pairs = int(matched.sum())
        return SeverityCalibration(
            pairs=pairs,
            mean_absolute_difference=float(self._apart[profile, threshold].sum()) / pairs if pairs else None,
            bins=tuple(
                SeverityBin(
                    least=100 // BINS * place,
                    most=100 // BINS * (place + 1),
                    predictions=int(self._predictions[place]),
                    matched=int(matched[place]),
                    mean_true_severity=float(true[place]) / int(matched[place]) if matched[place] else None,
                )
                for place in range(BINS)
            ),
        )


def _bin(severity: float) -> int:
    return min(int(severity * BINS / 100), BINS - 1)
