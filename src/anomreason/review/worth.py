"""How much the verdict on a candidate is worth: whether people should judge it before others.

    worths(scores, kinds) + disagreements(proposals, looked) + doubts_by_likeness(texts, rejected)

Each part is 0..1 and costs one pass over the candidates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np
import numpy.typing as npt

from anomreason.review.alike import ALIKE, overlap, words

_RAREST = 2
"""Words of a name by which rejected ones like it are looked up, the rarest ones."""
_LOOKED_AT = 8
"""Rejected names that are compared for each of these words, at most: so that one pass stays one pass."""
Worth = npt.NDArray[np.float64]


def worths(scores: Worth, kinds: Sequence[str | None]) -> Worth:
    """What a candidate's own score and kind say, (n,), more is better.

    scores: how sure the detector's last look was, 0..100, NaN where it gave none. kinds: of the candidates. A doubtful
    score (near 50, or none) tells most about where the detector errs, and of a kind the first ones tell more than the
    hundredth: the k-th candidate of its kind adds 1 / sqrt(k).
    """
    doubt = 1 - np.abs(np.where(np.isnan(scores), 50.0, scores) - 50) / 50
    seen: dict[str | None, int] = {}
    novelty = np.empty(len(kinds))
    for n in np.argsort(-doubt, kind="stable"):
        seen[kinds[n]] = seen.get(kinds[n], 0) + 1
        novelty[n] = seen[kinds[n]] ** -0.5
    worth: Worth = doubt + novelty
    return worth


def disagreements(
    candidates: Sequence[tuple[int, str, str | None]],
    proposals: Mapping[tuple[int, str | None], set[str]],
    looked: Mapping[int, set[str]],
) -> Worth:
    """Of the other detectors that looked at a candidate's image, the share that proposes nothing of its kind there.

    candidates: image, detector and kind of each of n. proposals: by image and kind, who proposed one. looked: by image,
    the detectors that looked at it without failing. (n,), 0..1; 0 where no other one looked.
    """
    found = np.zeros(len(candidates))
    for n, (image, detector, kind) in enumerate(candidates):
        others = looked.get(image, set()) - {detector}
        if others:
            found[n] = len(others - proposals.get((image, kind), set())) / len(others)
    return found


def doubts_by_likeness(
    candidates: Sequence[tuple[str | None, str]], rejected: Sequence[tuple[str | None, str]]
) -> Worth:
    """How near the names of candidates are to where one would say the same as a rejected one of the same kind, (n,).

    Both give kind and name. 1 where the overlap of the words is at the threshold ALIKE, falling to 0 for names that
    share nothing and for equal ones, on which the verdict is as good as known.
    """
    index: dict[tuple[str | None, str], list[frozenset[str]]] = defaultdict(list)
    for kind, said in {(kind, words(name)) for kind, name in rejected}:
        for word in sorted(said):
            index[kind, word].append(said)
    known: dict[tuple[str | None, frozenset[str]], float] = {}
    found = np.zeros(len(candidates))
    for n, (kind, name) in enumerate(candidates):
        key = kind, words(name)
        if key not in known:
            lists = sorted((index[kind, word] for word in sorted(key[1]) if (kind, word) in index), key=len)[:_RAREST]
            nearest = max((overlap(key[1], said) for many in lists for said in islice(many, _LOOKED_AT)), default=0.0)
            known[key] = 1 - abs(nearest - ALIKE) / (ALIKE if nearest < ALIKE else 1 - ALIKE)
        found[n] = known[key]
    return found
