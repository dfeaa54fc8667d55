"""Chooses k of n texts that are far from one another, with at least so many of each tag.

choose(vectors, [p.tags for p in prompts], 246, {"animals": 18}, np.random.default_rng(0)).places

Farthest-point choice (T. F. Gonzalez, 1985, https://doi.org/10.1016/0304-3975(85)90224-5) by cosine: each time the one
that is least similar to those that are chosen. While a tag has too few, only prompts with such a tag can be chosen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen."""

    places: tuple[int, ...]
    """In the order of choice, so that the first m are diverse too."""
    nearest: npt.NDArray[np.float64]
    """(n,) Cosine of each text with the nearest chosen one other than itself; -inf where there is none."""


def quotas(tags: Sequence[Collection[str]], k: int, each: int | None, listed: Collection[str] = ()) -> dict[str, int]:
    """How many of each tag are wanted: `each`, or an equal share of k, at least one. listed: tags that count though no
    text has them.

    Unless there are more tags than k, equal shares are met wherever a tag has enough texts, since every text that is
    chosen for a tag fills a place of it.
    """
    names = dict.fromkeys((*listed, *(tag for some in tags for tag in some)))
    share = max(1, k // max(1, len(names))) if each is None else each
    return dict.fromkeys(names, share)


def choose(
    vectors: npt.NDArray[np.float32],
    tags: Sequence[Collection[str]],
    k: int,
    quota: Mapping[str, int],
    rng: np.random.Generator,
) -> Choice:
    """Choose min(k, n) texts. vectors: (n, dim) of length 1. quota: wanted of each tag, met as far as texts have it."""
    n = len(vectors)
    nearest = np.full(n, -np.inf)
    free = np.ones(n, np.bool_)
    having = {tag: np.array([tag in some for some in tags], np.bool_) for tag, wanted in quota.items() if wanted > 0}
    counts: Counter[str] = Counter()
    places: list[int] = []
    while len(places) < min(k, n):
        unmet = [has for tag, has in having.items() if counts[tag] < quota[tag] and (has & free).any()]
        pool = np.flatnonzero(free & np.logical_or.reduce(unmet)) if unmet else np.flatnonzero(free)
        place = int(pool[np.argmin(nearest[pool])] if places else rng.choice(pool))
        places.append(place)
        free[place] = False
        counts.update(set(tags[place]))
        cosines = vectors @ vectors[place]
        cosines[place] = -np.inf
        np.maximum(nearest, cosines, out=nearest)
    return Choice(tuple(places), nearest)
