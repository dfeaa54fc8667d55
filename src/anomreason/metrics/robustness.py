"""What a change of the images does to judgements "AI image" or "photograph": flips, and losses of scores, in pairs.

>>> before = [SourceAnswer(True, "generated", 0.9), SourceAnswer(False, "photograph", 0.2)]
>>> after = [SourceAnswer(True, "photograph", 0.3), SourceAnswer(False, "photograph", 0.1)]
>>> found = robustness(list(zip(before, after)), np.random.default_rng(0))
>>> found.flips["fakes"].ways, found.losses["accuracy"].loss.value
({'generated to photograph': 1}, 0.5)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from anomreason.anomaly import Result
from anomreason.errors import UsageError
from anomreason.metrics.deepfake import balanced
from anomreason.metrics.operating import recall_at
from anomreason.stats import RESAMPLES, Estimate, Floats, divided, estimate, interval_of, mean, share

Verdict = Literal["generated", "photograph", "unsure"]
FALSE_ALARMS = 0.05
"""Share of photographs that may be called AI images, for `recall_at_5`."""
SCORES = ("accuracy", "balanced_accuracy", "auroc", "recall_at_5")


class SourceAnswer(NamedTuple):
    """One detector's answer about one image, and the truth."""

    generated: bool
    """The truth: AI image (True) or photograph (False)."""
    verdict: Verdict
    p_generated: float | None
    """Probability of AI; None when not known."""


Pairs = Sequence[tuple[SourceAnswer, SourceAnswer]]
"""Answers about each image before and after."""


class Flips(Result):
    """Verdicts that a change of the images changed, among the AI images or the photographs."""

    n: int
    flipped: Estimate
    """Share; also a verdict that became, or was, unsure."""
    ways: dict[str, int]
    """Numbers by `BEFORE to AFTER`."""


class ScoreLoss(Result):
    """One score before and after the change, over the same images."""

    before: float | None
    after: float | None
    loss: Estimate
    """before - after; positive where the change costs. Paired bootstrap over images."""
    why_not: str = ""
    """Why there is no value; empty where there is one."""


class Robustness(Result):
    """What one change of the images does."""

    pairs: int
    """Images with an answer before and after."""
    flips: dict[str, Flips]
    """Of `photographs` and of `fakes`."""
    losses: dict[str, ScoreLoss]
    """By name of SCORES."""


class VariantResult(Robustness):
    """What one variant does."""

    variant: str
    meaning: str
    failures: dict[str, int]
    """Images without an answer about the variant, by kind; they are in no pair."""


class SweepResult(Result):
    """What `sweep.json` holds."""

    name: str
    """Of the run."""
    detector: str
    simulated: bool
    images: int
    photographs: int
    fakes: int
    unanswered: dict[str, int]
    """Images without an answer about the original, by kind: no variant of them was asked."""
    variants: tuple[VariantResult, ...]


def robustness(pairs: Pairs, rng: np.random.Generator, resamples: int = RESAMPLES) -> Robustness:
    """Compare answers about each image before and after a change of it.

    An unsure verdict counts as wrong. AUROC and recall are over the images with a probability on both sides; the
    threshold of the recall is that of each side. UsageError where the two answers of a pair are of different truths.
    """
    if any(before.generated is not after.generated for before, after in pairs):
        raise UsageError("an image is an AI image before and a photograph after, or the reverse; pair equal images")
    kinds = {"photographs": False, "fakes": True}
    flips = {name: _flips([pair for pair in pairs if pair[0].generated is kind]) for name, kind in kinds.items()}
    known = [(b, a) for b, a in pairs if b.p_generated is not None and a.p_generated is not None]
    scored = _Scores.of(known)
    losses = {
        **_verdict_losses(pairs, rng, resamples),
        "auroc": _loss(scored, _auroc, rng, resamples),
        "recall_at_5": _loss(scored, _recall, rng, resamples),
    }
    return Robustness(pairs=len(pairs), flips=flips, losses=losses)


def _right(answer: SourceAnswer) -> bool:
    return answer.verdict == ("generated" if answer.generated else "photograph")


def _flips(pairs: Pairs) -> Flips:
    ways = Counter(f"{b.verdict} to {a.verdict}" for b, a in pairs if a.verdict != b.verdict)
    return Flips(n=len(pairs), flipped=share(ways.total(), len(pairs)), ways=dict(sorted(ways.items())))


def _verdict_losses(pairs: Pairs, rng: np.random.Generator, resamples: int) -> dict[str, ScoreLoss]:
    """Of accuracy and balanced accuracy."""
    if not pairs:
        none = ScoreLoss(before=None, after=None, loss=Estimate(None, None, 0), why_not=_why_not(0, 0))
        return {"accuracy": none, "balanced_accuracy": none}
    fake = np.array([before.generated for before, _ in pairs], dtype=np.bool_)
    right = np.array([[_right(before), _right(after)] for before, after in pairs], dtype=np.float64)
    lost = right[:, 0] - right[:, 1]
    before, after = right.mean(axis=0).tolist()
    accuracy = ScoreLoss(before=before, after=after, loss=mean(lost, rng, resamples))
    fakes, photographs = int(fake.sum()), int((~fake).sum())
    if not fakes or not photographs:
        loss = Estimate(None, None, len(pairs))
        even = ScoreLoss(before=None, after=None, loss=loss, why_not=_why_not(fakes, photographs))
    else:
        before, after = ((right[fake].mean(axis=0) + right[~fake].mean(axis=0)) / 2).tolist()
        columns = np.column_stack([lost * fake, fake, lost * ~fake, ~fake])
        even = ScoreLoss(before=before, after=after, loss=estimate(columns, balanced, rng, resamples=resamples))
    return {"accuracy": accuracy, "balanced_accuracy": even}


class _Scores(NamedTuple):
    """Images with a probability before and after, as places among the probabilities that occur, the lowest first."""

    fake: npt.NDArray[np.bool_]
    before: npt.NDArray[np.int64]
    after: npt.NDArray[np.int64]

    @classmethod
    def of(cls, pairs: Pairs) -> _Scores:
        places = [
            np.unique([pair[side].p_generated or 0.0 for pair in pairs], return_inverse=True)[1].astype(np.int64)
            for side in (0, 1)
        ]
        return cls(np.array([before.generated for before, _ in pairs], dtype=np.bool_), *places)


Formula = Callable[[Floats, Floats], float]
"""A score, by the weights of the photographs and of the AI images at each probability that occurs, the lowest first;
NaN where it is not defined."""


def _loss(scores: _Scores, formula: Formula, rng: np.random.Generator, resamples: int) -> ScoreLoss:
    n, fake = len(scores.fake), scores.fake
    sizes = [int(places.max(initial=0)) + 1 for places in scores[1:]]

    def of(weights: Floats) -> list[float]:
        """Before and after."""
        sides = zip(scores[1:], sizes, strict=True)
        counts = [[np.bincount(p, weights * w, size).astype(np.float64) for w in (~fake, fake)] for p, size in sides]
        return [formula(photographs, fakes) for photographs, fakes in counts]

    before, after = of(np.ones(n)) if n else (np.nan, np.nan)
    if np.isnan(before) or np.isnan(after):
        why = _why_not(int(fake.sum()), int((~fake).sum()))
        return ScoreLoss(before=None, after=None, loss=Estimate(None, None, n), why_not=why)
    drawn = np.empty(resamples)
    for place in range(resamples):
        one, other = of(np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64))
        drawn[place] = one - other
    return ScoreLoss(before=before, after=after, loss=Estimate(before - after, interval_of(drawn), n))


def _why_not(fakes: int, photographs: int) -> str:
    if not fakes and not photographs:
        return "no image has an answer that it needs, before and after"
    if not fakes or not photographs:
        return "it needs AI images and photographs"
    return f"not measurable with {photographs:,} photographs: one is {1 / photographs:.2g} of them"


def _auroc(photographs: Floats, fakes: Floats) -> float:
    below = np.cumsum(photographs) - photographs / 2
    return float(divided(np.asarray((fakes * below).sum()), np.asarray(fakes.sum() * photographs.sum())))


def _recall(photographs: Floats, fakes: Floats) -> float:
    if not fakes.sum() or photographs.sum() * FALSE_ALARMS < 1 - 1e-9:
        return float("nan")
    x, y = (np.concatenate([[0.0], np.cumsum(side[::-1])]) / side.sum() for side in (photographs, fakes))
    return recall_at(x, y, FALSE_ALARMS)
