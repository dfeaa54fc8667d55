"""The scores of each rule over a pool of images, and what it would drop.

scorer = Scorer(measurer, beside=None)
scorer.prepare("dark", rule, looked)
scorer.score("dark", rule, looked).drop.sum()
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from anomreason.dataset.filter import pixels
from anomreason.dataset.filter.duplicates import Clusters, Reach, cluster_embeddings, cluster_equal, cluster_hashes
from anomreason.dataset.filter.embedder import ImageEmbedder
from anomreason.dataset.filter.hooks import hook_measuring
from anomreason.dataset.filter.measuring import PIXELS, Failures, ImageMeasurer, Measuring
from anomreason.dataset.filter.pixels import Floats, PixelTable, pixel_table
from anomreason.dataset.filter.pool import Ints, Mask
from anomreason.dataset.filter.rules import (
    AlignmentRule,
    AspectRatioRule,
    EmbeddingDuplicatesRule,
    ExactDuplicatesRule,
    ModelRule,
    NearDuplicatesRule,
    PhotoRule,
    PythonRule,
    Rule,
    SizeRule,
)

_PIXEL_SCORES: dict[str, Callable[[PixelTable], Floats]] = {
    "grayscale": pixels.colour,
    "dark": pixels.darkness,
    "light": pixels.lightness,
    "low_information": pixels.information,
    "blurry": pixels.sharpness,
}
_MEASURING = Measuring(PIXELS, pixels.record)


@dataclass(frozen=True)
class RuleScores:
    """What a rule says of each image of a pool."""

    score: Floats
    """(n,) NaN: none, because the rule has nothing to say of it."""
    drop: Mask
    """(n,)"""
    clusters: Clusters | None = None
    """Of a rule about duplicates."""
    reasons: dict[int, str] = field(default_factory=dict)
    """By place, where it is not the rule's name."""


class Scorer:
    """Computes scores, from what is stored where it can."""

    def __init__(self, measurer: ImageMeasurer, beside: Path | None, device: str | None = None) -> None:
        """beside: folder in which modules of Python rules are looked for too. device: of models; None: a GPU if any."""
        self.measurer, self.pool = measurer, measurer.pool
        self._beside = beside
        self._embedder = ImageEmbedder(measurer, device)
        self._table: tuple[int, PixelTable] | None = None
        """With the number of images opened when it was read."""

    def check(self, rule: Rule) -> None:
        """Raises UsageError, before any work, for a rule whose function or model is not there."""
        if isinstance(rule, PythonRule):
            hook_measuring(rule.function, self._beside)
        elif isinstance(rule, ModelRule):
            self._embedder.open(rule.model)

    def prepare(self, rule: Rule, looked: Mask) -> Failures:
        """Measure those of `looked` whose measures are missing; gives those that could not be."""
        if isinstance(rule, AspectRatioRule | SizeRule):
            return {}
        if isinstance(rule, PythonRule):
            return self.measurer.measure(hook_measuring(rule.function, self._beside), looked)
        if isinstance(rule, ModelRule):
            return self._embedder.ensure_images(rule.model, looked)
        return self.measurer.measure(_MEASURING, looked)

    def score(self, name: str, rule: Rule, looked: Mask) -> RuleScores:
        """looked: of duplicates, one of these is kept; the others are in clusters alone."""
        match rule:
            case AspectRatioRule():
                width, height = self.pool.width, self.pool.height
                return _crossed(np.minimum(width / height, height / width), rule)
            case SizeRule():
                score, threshold = pixels.size_scores(self.pool.width, self.pool.height, rule.iqr_factor)
                return RuleScores(score, score < threshold)
            case ExactDuplicatesRule():
                table = self._pixels()
                return _duplicates(cluster_equal(table.pixels, self._rank(looked, table.measured)))
            case NearDuplicatesRule():
                table, reach = self._pixels(), Reach(rule.distance, rule.correlation)
                rank, groups = self._rank(looked, table.measured), self._groups(rule.within_groups)
                return _duplicates(cluster_hashes(table.phash, table.thumb, reach, rank, groups))
            case AlignmentRule():
                return _crossed(self._embedder.alignment(rule.model, looked), rule)
            case PhotoRule():
                return _crossed(self._embedder.contrast(rule.model, rule.photograph, rule.other, looked), rule)
            case EmbeddingDuplicatesRule():
                return self._embedding_duplicates(rule, looked)
            case PythonRule():
                return self._by_function(rule)
            case _:
                score = _PIXEL_SCORES[name](self._pixels())
                return RuleScores(score, score == 0) if name == "grayscale" else _crossed(score, rule)

    def _pixels(self) -> PixelTable:
        if self._table is None or self._table[0] != self.measurer.opened:
            table = pixel_table(len(self.pool), self.measurer.records(PIXELS))
            self._table = self.measurer.opened, table
        return self._table[1]

    def _rank(self, looked: Mask, known: Mask) -> Ints:
        rank = self.pool.rank(looked)
        return rank[known[rank]]

    def _groups(self, within: bool) -> Ints:
        return np.full(len(self.pool), -1) if within else self.pool.group

    def _embedding_duplicates(self, rule: EmbeddingDuplicatesRule, looked: Mask) -> RuleScores:
        places, vectors = self._embedder.all_images(rule.model)
        rows = np.full(len(self.pool), -1)
        rows[places] = np.arange(len(places))
        rank = rows[self._rank(looked, rows >= 0)]
        found = cluster_embeddings(vectors, rule.similarity, rank, self._groups(rule.within_groups)[places])
        whole = Clusters.alone(len(self.pool))
        for whose, into in ((found.leader, whole.leader), (found.nearest, whole.nearest)):
            into[places] = np.where(whose >= 0, places[whose] if len(places) else whose, -1)
        whole.similarity[places] = found.similarity
        return _duplicates(whole)

    def _by_function(self, rule: PythonRule) -> RuleScores:
        score, reasons = np.full(len(self.pool), np.nan), dict[int, str]()
        for place, record in self.measurer.records(hook_measuring(rule.function, self._beside).name):
            score[place] = record["score"]
            if record["reason"]:
                reasons[place] = record["reason"]
        scores = _crossed(score, rule)
        scores.drop[list(reasons)] = True
        return RuleScores(score, scores.drop, reasons=reasons)


def _crossed(score: Floats, rule: Rule) -> RuleScores:
    drop = np.zeros(len(score), bool)
    for bar in rule.bars:
        drop |= score < bar.value if bar.side == "below" else score > bar.value
    return RuleScores(score, drop)


def _duplicates(clusters: Clusters) -> RuleScores:
    return RuleScores(clusters.similarity, clusters.leader >= 0, clusters)
