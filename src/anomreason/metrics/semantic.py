"""SemAP and SemF1 over images that are added as they come, and two detectors compared on the same images.

Knows nothing of texts and files: it is given similarities, (predictions, truths) arrays in -1..1, and keeps some
thirty numbers an image. What the profiles mean stands in `image_scores.PROFILES`, what chance means in `chance`.

    >>> scorer = SemanticScorer()
    >>> scorer.add("a.png", [[0.95, 0.4]], [[0.85, 0.4]], severities=[20])
    >>> scorer.add_failure("b.png", "refused", truths=3)
    >>> view = scorer.result(np.random.default_rng(0)).profiles["paper"]["phe"]
    >>> view.zero.semap, view.dropped.semap
    (0.25, 0.5)
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from anomreason.errors import UsageError
from anomreason.metrics.chance import ChanceScorer
from anomreason.metrics.image_scores import PROFILES, ImageScores, Profile, SemanticSettings, score_image
from anomreason.metrics.matching import rank
from anomreason.metrics.summary import Figures, SemanticResult, Table, ViewScore, summarise
from anomreason.stats import Interval, interval_of, resampled_sums, sign_flip_ps

__all__ = [
    "MISSING",
    "NOT_ASSESSED",
    "PROFILES",
    "Comparison",
    "Difference",
    "Figures",
    "ImageScores",
    "PerImage",
    "Profile",
    "SemanticResult",
    "SemanticScorer",
    "SemanticSettings",
    "ViewScore",
    "compare",
    "score_image",
]

Failures = Literal["zero", "drop"]
MISSING = "missing"
"""Kind of failure of an image that the predictions do not have."""
NOT_ASSESSED = "not_assessed"
"""Kind of failure of an image that the predictions have, but without a list of anomalies, not even an empty one."""


class PerImage(NamedTuple):
    """One image in one profile and view."""

    image: str
    semap: float
    semf1: float
    predictions: int
    truths: int
    failure: str | None
    """Kind; the scores are 0 then."""


class Difference(NamedTuple):
    """Of two detectors over the same images, first minus second."""

    value: float
    interval: Interval | None
    """95 % paired bootstrap over images; None for a single image."""
    p: float
    """Two-sided sign-flip permutation test; not corrected for the number of comparisons."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two detectors on the same images."""

    n: int
    dropped: int
    """Images left out because one of the two failed there; 0 when failed images score zero."""
    profiles: dict[Profile, dict[str, dict[str, Difference]]]
    """By profile, view, and "semap" or "semf1" (macro)."""

    def as_json(self) -> dict[str, Any]:
        found = {
            p: {v: {m: d._asdict() for m, d in ms.items()} for v, ms in vs.items()} for p, vs in self.profiles.items()
        }
        return {"n": self.n, "dropped": self.dropped, "profiles": found}


class SemanticScorer:
    """Takes images one by one or in chunks, each once; then gives every figure."""

    def __init__(self, settings: SemanticSettings | None = None) -> None:
        self.settings = settings or SemanticSettings()
        self._failed: dict[str, str | None] = {}
        self._predictions, self._truths, self._tp, self._ap = array("q"), array("q"), array("q"), array("d")

    def add(
        self,
        image: str,
        phe: npt.ArrayLike,
        rea: npt.ArrayLike,
        severities: Sequence[float],
        confidences: Sequence[float] | None = None,
    ) -> None:
        """Score one image.

        phe, rea: (predictions, truths), -1..1; keep the shape when one side is empty. severities: one a prediction, 0 =
        completely implausible. confidences: one a prediction, for ranking by them.
        UsageError when the image was there before, has too many anomalies to match, or cannot be ranked.
        """
        order = self.order(severities, confidences, image)
        self.add_scores(image, score_image(phe, rea, order, self.settings, image))

    def add_scores(self, image: str, scores: ImageScores) -> None:
        """An image that `score_image` scored by these settings. UsageError when it was there before."""
        self._append(image, None, scores)

    def add_failure(self, image: str, kind: str, truths: int) -> None:
        """An image that failed, or that the predictions do not have (kind `missing`), and how many truths it has."""
        self._append(image, kind, ImageScores.failed(self.settings, truths))

    def order(
        self, severities: Sequence[float], confidences: Sequence[float] | None = None, image: str = "an image"
    ) -> list[int]:
        """Ranks predictions as the settings say; `chance` needs it too. UsageError that names the image."""
        try:
            return rank(severities, confidences, self.settings.ranking)
        except UsageError as error:
            raise UsageError(f"{image}: {error}") from error

    @property
    def table(self) -> Table:
        """Everything that is kept, sorted by image."""
        images = list(self._failed)
        order = np.array(sorted(range(len(images)), key=images.__getitem__), dtype=np.intp)
        shape = (len(images), *self.settings.shape)
        return Table(
            images=tuple(images[k] for k in order),
            answered=np.array([kind is None for kind in self._failed.values()], dtype=np.bool_)[order],
            predictions=np.array(self._predictions, dtype=np.int64)[order],
            truths=np.array(self._truths, dtype=np.int64)[order],
            tp=np.array(self._tp, dtype=np.int64).reshape(shape)[order],
            ap=np.array(self._ap, dtype=np.float64).reshape(shape)[order],
        )

    def result(self, rng: np.random.Generator, chance: ChanceScorer | None = None) -> SemanticResult:
        """Every figure, with intervals. `chance` must have seen as many images as were answered here, or none.

        UsageError when no image was added.
        """
        if not self._failed:
            raise UsageError("no image to score; give predictions and truth of at least one")
        table = self.table
        shuffled = chance.totals if chance else []
        if shuffled and shuffled[0].n != table.answered.sum():
            raise ValueError(f"chance was taken over {shuffled[0].n} images, but {table.answered.sum()} were answered")
        kinds = Counter(kind for kind in self._failed.values() if kind is not None)
        return summarise(table, dict(sorted(kinds.items())), self.settings, rng, shuffled)

    def images(self, profile: Profile, view: str) -> list[PerImage]:
        """What each image got, sorted by image."""
        table, at = self.table, (self.settings.profiles.index(profile), self.settings.views.index(view))
        semap, semf1 = (cells[:, *at].mean(axis=-1).tolist() for cells in (table.ap, table.f1))
        kinds = [self._failed[image] for image in table.images]
        columns = (table.images, semap, semf1, table.predictions.tolist(), table.truths.tolist(), kinds)
        return [PerImage(*row) for row in zip(*columns, strict=True)]

    def _append(self, image: str, kind: str | None, scores: ImageScores) -> None:
        if image in self._failed:
            raise UsageError(f"image {image!r} is there twice; each image is scored once: remove one of the two")
        self._failed[image] = kind
        self._predictions.append(scores.predictions)
        self._truths.append(scores.truths)
        self._tp.extend(scores.tp)
        self._ap.extend(scores.ap)


def compare(
    first: SemanticScorer, second: SemanticScorer, rng: np.random.Generator, failures: Failures = "zero"
) -> Comparison:
    """First minus second over the same images; failed images score zero, or are left out for both.

    UsageError when the two hold different images or settings, or none is left.
    """
    one, other = first.table, second.table
    _comparable(first.settings, second.settings, one, other)
    kept = np.ones(len(one.images), dtype=np.bool_) if failures == "zero" else one.answered & other.answered
    if not kept.any():
        raise UsageError("no image is left to compare on; both must hold images that did not fail")
    table = (_macro(one) - _macro(other))[kept]
    n, (_, metrics, profiles, views) = len(table), table.shape
    flat = table.reshape(n, -1)
    drawn = (resampled_sums(flat, rng) / n).reshape(-1, metrics, profiles, views)
    ps = sign_flip_ps(flat, rng).reshape(metrics, profiles, views)

    def difference(cell: tuple[int, int, int]) -> Difference:
        interval = interval_of(drawn[:, *cell]) if n > 1 else None
        return Difference(float(table[:, *cell].mean()), interval, float(ps[cell]))

    found: dict[Profile, dict[str, dict[str, Difference]]] = {
        profile: {
            view: {"semap": difference((0, p, v)), "semf1": difference((1, p, v))}
            for v, view in enumerate(first.settings.views)
        }
        for p, profile in enumerate(first.settings.profiles)
    }
    return Comparison(n, int((~kept).sum()), found)


def _macro(table: Table) -> npt.NDArray[np.float64]:
    """(images; semap, semf1; profiles, views)."""
    return np.stack([table.ap.mean(axis=-1), table.f1.mean(axis=-1)], axis=1)


def _comparable(first: SemanticSettings, second: SemanticSettings, one: Table, other: Table) -> None:
    if first != second:
        raise UsageError(f"scored by different settings: {first} and {second}; score both by the same")
    apart = sorted(set(one.images) ^ set(other.images))
    if apart:
        raise UsageError(
            f"{len(apart)} images are in only one of the two, e.g. {', '.join(map(repr, apart[:3]))}; "
            "score both on the same images (add missing ones as failures)"
        )
