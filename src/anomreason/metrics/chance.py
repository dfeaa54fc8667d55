"""Chance level: the same predictions scored against shuffled images.

Images are shuffled within chunks, `repeats` times, so that no image keeps its own predictions. Pass the answered images
in sorted order; the same random generator gives the same result. Try it:

    >>> chance = ChanceScorer(SemanticSettings(), repeats=5)
    >>> table = np.array([[0.75, 0.6], [0.6, 0.75]])  # similarities of any two images
    >>> deals = chance.deals(3, np.random.default_rng(0))
    >>> chance.add([[0, 1]] * 3, lambda i, j: (table, table), deals)
    >>> len(chance.totals)
    5
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from anomreason.metrics.image_scores import SemanticSettings, score_image
from anomreason.metrics.semantic import SemanticScorer, Totals

Across = Callable[[int, int], tuple[npt.ArrayLike, npt.ArrayLike]]
"""(i, j) -> similarities phe, rea of the predictions of image i to the truths of image j: (P of i, T of j) each."""

CHUNK = 200
"""Fewest images of a chunk, where there are so many."""
REPEATS = 20
"""Shuffles."""


def chunks(n: int, size: int = CHUNK) -> list[range]:
    """Indices 0..n-1 in chunks of at least `size`; the last takes the rest. [] for one image: nothing to swap."""
    if n < 2:
        return []
    count = max(1, n // size)
    return [range(k * size, n if k == count - 1 else (k + 1) * size) for k in range(count)]


def derangement(n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """A uniformly random permutation (n,) without fixed points; ValueError for n = 1.

    Rejection sampling: uniform permutations are drawn until one fits, e = 2.7 of them on average.
    """
    if n == 1:
        raise ValueError("one item has no derangement; chunks() never gives a chunk of one")
    places = np.arange(n)
    while np.any((drawn := rng.permutation(n)) == places):
        pass
    return drawn


class ChanceScorer:
    """Totals over images for each of `repeats` shuffles."""

    def __init__(self, settings: SemanticSettings, repeats: int = REPEATS) -> None:
        self._settings, self._repeats = settings, repeats
        self.totals: list[Totals] = []
        """One per shuffle; empty before the first chunk."""

    def deals(self, n: int, rng: np.random.Generator) -> list[npt.NDArray[np.int64]]:
        """The shuffles of a chunk of n images: whose truths each image meets, a derangement (n,) per shuffle."""
        return [derangement(n, rng) for _ in range(self._repeats)]

    def add(self, orders: Sequence[Sequence[int]], across: Across, deals: Sequence[npt.NDArray[np.int64]]) -> None:
        """Add one chunk of at least two images; orders: the ranked predictions of each (see `matching.rank`)."""
        found = [self._shuffled(orders, across, deal) for deal in deals]
        self.totals = [old + new for old, new in zip(self.totals, found, strict=True)] if self.totals else found

    def _shuffled(self, orders: Sequence[Sequence[int]], across: Across, deal: npt.NDArray[np.int64]) -> Totals:
        scorer = SemanticScorer(self._settings)
        for own, other in enumerate(deal.tolist()):
            phe, rea = across(own, other)
            where = f"shuffled image {own:09} with {other}"
            scorer.add_scores(where, score_image(phe, rea, orders[own], self._settings, where))
        return Totals.of(scorer.table)
