"""Matches the predicted anomalies of one image with its true ones, and scores the result.

Similarities are compared exactly as given (equal means equal floats); `image_scores` rounds them first, so that noise
makes no difference. Lists instead of arrays, since they are several times faster on a handful of anomalies. Try it:

    >>> match_paper([[0.9, 0.8], [0.85, 0.1]], [[0.9, 0.8], [0.85, 0.1]], order=[0, 1], threshold=0.7)
    [0, None]
    >>> match_release([[0.8, 0.8], [0.85, 0.1]], threshold=0.7)
    [1, 0]
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from math import isfinite
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from anomreason.errors import UsageError

Similarities = npt.NDArray[Any] | Sequence[Sequence[float]]
"""(predictions, truths), an array or a list of rows."""
RankBy = Literal["severity", "order", "confidence"]

MAX_PAIRS = 1_000_000
"""Most pairs of one image that are matched: seconds of work, and some 20,000 times what an image usually has."""


class Scores(NamedTuple):
    """0..1 each."""

    precision: float
    recall: float
    f1: float


def check_size(predictions: int, truths: int, where: str = "an image") -> None:
    """Raise UsageError when there are too many pairs to match."""
    if predictions * truths > MAX_PAIRS:
        raise UsageError(
            f"{where} has {predictions:,} predicted and {truths:,} true anomalies, more than {MAX_PAIRS:,} pairs to "
            "match; the file is probably damaged: repair the image's entry or leave the image out"
        )


def rank(severities: Sequence[float], confidences: Sequence[float] | None = None, by: RankBy = "severity") -> list[int]:
    """Indices of the predictions, most confident first; ties keep the order of the input.

    severity: confidence is 100 - severity (0 = completely implausible comes first), our reading of the paper's
    "severity can optionally serve as confidence". order: as given. confidence: by `confidences`, highest first.
    UsageError when a value is NaN or infinite, or when ranking by confidence without one confidence per prediction.
    """
    if by == "order":
        return list(range(len(severities)))
    if by == "severity":
        _finite(severities, "severity")
        return sorted(range(len(severities)), key=severities.__getitem__)
    if by != "confidence":
        raise UsageError(f"predictions cannot be ranked by {by!r}; choose severity, order or confidence")
    if confidences is None or len(confidences) != len(severities):
        given = "none" if confidences is None else str(len(confidences))
        raise UsageError(
            f"ranking by confidence needs one confidence per prediction, not {given} for {len(severities)}; add the "
            "missing ones or rank by severity"
        )
    _finite(confidences, "confidence")
    return sorted(range(len(confidences)), key=confidences.__getitem__, reverse=True)


def match_paper(view: Similarities, full: Similarities, order: Sequence[int], threshold: float) -> list[int | None]:
    """Index of each prediction's truth, or None: Eq. 8 and appendix C.2.

    Predictions are taken in `order` (see `rank`). Each gets the unmatched truth of highest `view` similarity, if that
    is >= threshold. Ties go to the highest `full` similarity, then to the smallest index.
    """
    rows, seconds = _rows(view), _rows(full)
    matched: list[int | None] = [None] * len(rows)
    free = list(range(len(rows[0]))) if rows else []
    for prediction in order:
        row, best, highest = rows[prediction], -1, threshold
        for truth in free:
            if row[truth] >= highest and (
                best < 0 or row[truth] > highest or seconds[prediction][truth] > seconds[prediction][best]
            ):
                best, highest = truth, row[truth]
        if best >= 0:
            matched[prediction] = best
            free.remove(best)
    return matched


def match_release(view: Similarities, threshold: float) -> list[int | None]:
    """Index of each prediction's truth, or None: pairs are taken in order of similarity, down to the threshold.

    Each prediction and truth is matched once. Ties go to the smallest prediction index, then the smallest truth index.
    """
    rows = _rows(view)
    matched: list[int | None] = [None] * len(rows)
    truths = len(rows[0]) if rows else 0
    flat = list(chain.from_iterable(rows))
    enough = [pair for pair, similarity in enumerate(flat) if similarity >= threshold]
    free = [True] * truths
    left = min(len(rows), truths)
    # Sorting is stable, reversed or not, and pairs are ordered by prediction, then truth: that settles ties.
    for pair in sorted(enough, key=flat.__getitem__, reverse=True):
        if not left:
            break
        prediction, truth = divmod(pair, truths)
        if free[truth] and matched[prediction] is None:
            matched[prediction] = truth
            free[truth] = False
            left -= 1
    return matched


def average_precision(hits: Sequence[bool], truths: int) -> float:
    """Eq. 10 for predictions in rank order, 0..1: sum of the precision at every hit, over the number of truths.

    1 without predictions and truths, 0 without one of them.
    """
    if not truths:
        return 0.0 if hits else 1.0
    total, found = 0.0, 0
    for place, hit in enumerate(hits, 1):
        if hit:
            found += 1
            total += found / place
    return total / truths


def precision_recall_f1(matched: int, predictions: int, truths: int) -> Scores:
    """Eq. 13 from counts. 1 each without predictions and truths, 0 each without one of them."""
    if not predictions or not truths:
        same = 1.0 if predictions == truths else 0.0
        return Scores(same, same, same)
    return Scores(matched / predictions, matched / truths, 2 * matched / (predictions + truths))


def _rows(similarities: Similarities) -> Sequence[Sequence[float]]:
    if len(similarities):
        check_size(len(similarities), len(similarities[0]))
    return similarities.tolist() if isinstance(similarities, np.ndarray) else similarities


def _finite(values: Sequence[float], what: str) -> None:
    for place, value in enumerate(values):
        if not isfinite(value):
            raise UsageError(f"{what} of prediction {place} is {value!r}; it must be a finite number")
