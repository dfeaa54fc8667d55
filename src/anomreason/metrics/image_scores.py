"""The semantic scores of one image, for each profile, view and threshold.

Similarities are rounded to 6 decimals before they are compared with each other or with a threshold. Differences from
the order of additions are far smaller; differences between two backbones are larger.

    >>> one = score_image([[0.95, 0.4]], [[0.85, 0.4]], order=[0], settings=SemanticSettings())
    >>> one.semap("paper", "phe"), one.semap("release", "phe")
    (0.5, 1.0)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from anomreason.errors import UsageError
from anomreason.metrics.matching import (
    RankBy,
    Scores,
    average_precision,
    check_size,
    match_paper,
    match_release,
    precision_recall_f1,
)
from anomreason.stats import Floats

Table = list[list[float]]
Matching = list[int | None]
"""Truth of each prediction, or None."""
Profile = Literal["paper", "release"]

PROFILES: dict[Profile, str] = {
    "paper": "predictions by falling confidence each take the best truth left; SemAP is average precision",
    "release": "most similar pairs first, severity unused; SemAP is the precision after matching",
}
"""How the profiles differ, in a line each."""
FULL_ALPHA = 0.5
"""Share of the phenomenon in the view `full`, which also settles ties in every other view."""
Cell = tuple[int, float, Matching]
"""Matched pairs, average precision or precision, and which pairs."""
DECIMALS = 6
_NOISE = 9
"""Decimals kept of a weighted mean of rounded numbers: takes off what floating point adds, and nothing else."""


@dataclass(frozen=True, slots=True)
class SemanticSettings:
    """What is scored. UsageError for values that make no sense."""

    thresholds: tuple[float, ...] = (0.7, 0.8, 0.9)
    """Least similarity of a match, each within -1..1."""
    alphas: tuple[float, ...] = (FULL_ALPHA,)
    """Shares of the phenomenon (0..1), one combined view each; 0.5 is the view `full`, 0.3 is `full@0.3`."""
    profiles: tuple[Profile, ...] = ("paper", "release")
    rank_by: RankBy = "severity"
    """What stands for confidence in the profile `paper`; see `matching.rank`."""

    def __post_init__(self) -> None:
        _check("threshold", self.thresholds, -1, 1)
        _check("alpha", self.alphas, 0, 1)
        if not self.thresholds or not self.profiles or set(self.profiles) - set(PROFILES):
            raise UsageError(
                f"cannot score thresholds {self.thresholds!r} by profiles {self.profiles!r}: give at least one "
                f"threshold, and one or more of {', '.join(PROFILES)}"
            )
        if len({*self.views, *self.profiles}) < len(self.views) + len(self.profiles):
            raise UsageError(f"an alpha or a profile is named twice: {self.alphas!r}, {self.profiles!r}")
        if self.rank_by not in get_args(RankBy):
            raise UsageError(f"predictions cannot be ranked by {self.rank_by!r}; choose {', '.join(get_args(RankBy))}")

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views, in the order of every array."""
        return ("phe", "rea", *("full" if a == FULL_ALPHA else f"full@{a:.10g}" for a in self.alphas))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Profiles, views, thresholds."""
        return len(self.profiles), 2 + len(self.alphas), len(self.thresholds)

    @property
    def ranking(self) -> RankBy:
        """What predictions are ranked by: nothing but their order where no profile asks for a rank."""
        return self.rank_by if "paper" in self.profiles else "order"

    def place(self, profile: Profile, view: str) -> slice:
        """Where the thresholds of one profile and view stand in a flat list of all cells."""
        _, views, thresholds = self.shape
        start = (self.profiles.index(profile) * views + self.views.index(view)) * thresholds
        return slice(start, start + thresholds)


@dataclass(frozen=True, slots=True)
class ImageScores:
    """What one image got. Cells are flat: profiles x views x thresholds, as the settings list them."""

    settings: SemanticSettings
    predictions: int
    truths: int
    tp: tuple[int, ...]
    """Matched pairs, a cell each."""
    ap: tuple[float, ...]
    """Average precision (`paper`) or precision (`release`), 0..1, a cell each."""
    matched: tuple[Matching, ...] = ()
    """What was matched, a cell each; empty where a side is."""

    @classmethod
    def failed(cls, settings: SemanticSettings, truths: int) -> ImageScores:
        """Of an image without an answer."""
        cells = prod(settings.shape)
        return cls(settings, 0, truths, (0,) * cells, (0.0,) * cells)

    def semap(self, profile: Profile, view: str) -> float:
        """Eq. 11: mean over thresholds, 0..1."""
        return sum(self.ap[self.settings.place(profile, view)]) / len(self.settings.thresholds)

    def semf1(self, profile: Profile, view: str) -> float:
        """Mean of Eq. 13 over thresholds, 0..1."""
        return sum(row.f1 for row in self.scores(profile, view)) / len(self.settings.thresholds)

    def scores(self, profile: Profile, view: str) -> list[Scores]:
        """Precision, recall and F1 at each threshold."""
        cells = self.tp[self.settings.place(profile, view)]
        return [precision_recall_f1(tp, self.predictions, self.truths) for tp in cells]


def similarity_views(phe: npt.ArrayLike, rea: npt.ArrayLike, alphas: Sequence[float]) -> list[Floats]:
    """[phe, rea, then one weighted mean an alpha], each (predictions, truths), rounded for comparing.

    ValueError for other shapes, or similarities that are not finite numbers.
    """
    both = np.array([phe, rea], dtype=np.float64)
    if both.ndim != 3 or not np.isfinite(both).all():
        raise ValueError("similarities must be two arrays (predictions, truths) of finite numbers")
    both = both.round(DECIMALS)
    return [both[0], both[1], *((alpha * both[0] + (1 - alpha) * both[1]).round(_NOISE) for alpha in alphas)]


def score_image(
    phe: npt.ArrayLike, rea: npt.ArrayLike, order: Sequence[int], settings: SemanticSettings, where: str = "an image"
) -> ImageScores:
    """Score one image from its similarities, each (predictions, truths) in -1..1.

    order: predictions, most confident first (see `matching.rank`). where: names the image in errors: UsageError when
    there are too many anomalies to match, ValueError when shapes do not fit or a similarity is not finite.
    """
    shape = np.shape(phe)
    if len(shape) != 2 or len(order) != shape[0] or np.shape(rea) != shape:
        raise ValueError(f"{where}: similarities of shapes {shape}, {np.shape(rea)} for {len(order)} predictions")
    predictions, truths = shape
    check_size(predictions, truths, where)
    if not predictions or not truths:
        cells, same = prod(settings.shape), float(predictions == truths)
        return ImageScores(settings, predictions, truths, (0,) * cells, (same,) * cells)
    tables = [view.tolist() for view in similarity_views(phe, rea, (FULL_ALPHA, *settings.alphas))]
    full = tables.pop(2)
    found: list[Cell] = []
    for profile in settings.profiles:
        for view in tables:
            if profile == "paper":
                found += _paper(view, full, order, settings.thresholds)
            else:
                found += _release(view, settings.thresholds)
    tp, ap, matched = zip(*found, strict=True)
    return ImageScores(settings, predictions, truths, tp, ap, matched)


def _paper(view: Table, full: Table, order: Sequence[int], thresholds: Sequence[float]) -> list[Cell]:
    found = []
    for threshold in thresholds:
        matched = match_paper(view, full, order, threshold)
        hits = [matched[prediction] is not None for prediction in order]
        found.append((sum(hits), average_precision(hits, len(view[0])), matched))
    return found


def _release(view: Table, thresholds: Sequence[float]) -> list[Cell]:
    """Pairs are found before the threshold is asked for, so one matching serves all."""
    pairs, found = match_release(view, min(thresholds)), []
    for threshold in thresholds:
        matched = [None if t is None or view[p][t] < threshold else t for p, t in enumerate(pairs)]
        tp = len(view) - matched.count(None)
        found.append((tp, tp / len(view), matched))
    return found


def _check(what: str, values: Sequence[float], low: float, high: float) -> None:
    if any(not low <= value <= high for value in values) or len(set(values)) < len(values):
        raise UsageError(f"each {what} must be a number from {low} to {high}, and different: {values!r}")
