"""Words of anomalies: how long their texts are, and which words are frequent.

count_words(session, CandidateRow.outcome == Outcome.ACCEPTED, 5000, np.random.default_rng(0)).frequent[0]
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from anomreason.anomaly import Result
from anomreason.dataset.store import BATCH
from anomreason.dataset.tables import CandidateRow

TEXTS = 10_000
"""Anomalies whose words are counted; of more, so many drawn at random."""
STEP = 5
"""Words, the width of a bin of lengths."""
WORDS = 40
"""Words that are listed."""
_STOP = frozenset(
    re.findall(
        r"\w+",
        "the and for with that this are was were has have had not but from its his her their they them there which "
        "while who would should could can cannot may must than then into onto over under above below out off one two "
        "also only does did doing been being having more most some any all each other another such these those where "
        "when what how because since",
    )
)


class TextLengths(Result):
    """Words in one text field."""

    mean: float
    quartiles: tuple[float, float, float]
    histogram: dict[int, int]
    """Number of texts by length, in steps of STEP words: 5 holds 5..9."""


class WordCounts(Result):
    """Words of the kept anomalies, or of all candidates where none is kept yet."""

    texts: int
    """Anomalies that were read."""
    of: int
    """Anomalies there are."""
    phenomenon: TextLengths
    reasoning: TextLengths
    frequent: tuple[tuple[str, int], ...]
    """Words (no articles and the like) by the number of anomalies that have them."""


def count_words(
    session: Session, condition: ColumnElement[bool], total: int, rng: np.random.Generator
) -> WordCounts | None:
    """Of the candidates under a condition, of which there are `total`; None for 0."""
    if not total:
        return None
    texts = _texts(session, condition, total, rng)
    frequent: Counter[str] = Counter()
    for both in texts:
        frequent.update(set(re.findall(r"[^\W\d_]{3,}", " ".join(both).lower())) - _STOP)
    lengths = np.array([[len(text.split()) for text in both] for both in texts])
    return WordCounts(
        texts=len(texts),
        of=total,
        phenomenon=_lengths(lengths[:, 0]),
        reasoning=_lengths(lengths[:, 1]),
        frequent=tuple(sorted(frequent.items(), key=lambda item: (-item[1], item[0]))[:WORDS]),
    )


def _texts(
    session: Session, condition: ColumnElement[bool], total: int, rng: np.random.Generator
) -> list[tuple[str, str]]:
    """Phenomenon and reasoning of at most TEXTS anomalies."""
    query = select(CandidateRow.phenomenon, CandidateRow.reasoning).where(condition)
    if total <= TEXTS:
        return [(phenomenon, reasoning) for phenomenon, reasoning in session.execute(query)]
    low, high = session.execute(select(func.min(CandidateRow.id), func.max(CandidateRow.id))).one()
    found: list[tuple[str, str]] = []
    for _ in range(100 * TEXTS // BATCH):
        ids = [int(number) for number in rng.integers(low, high + 1, BATCH)]
        found += [(p, r) for p, r in session.execute(query.where(CandidateRow.id.in_(ids)))]
        if len(found) >= TEXTS:
            break
    return found[:TEXTS]


def _lengths(numbers: npt.NDArray[np.int64]) -> TextLengths:
    low, middle, high = np.quantile(numbers, [0.25, 0.5, 0.75]).tolist()
    steps = Counter((numbers // STEP * STEP).tolist())
    return TextLengths(mean=float(numbers.mean()), quartiles=(low, middle, high), histogram=dict(sorted(steps.items())))
