"""What a detector would get that says the same things of the wrong images.

Knows nothing of texts: it is told how alike any two images of one chunk are. Inside each chunk the predictions are
dealt out anew so that none keeps its own image, `repeats` times over. Give it the images that were answered, sorted,
with the generator that the result is to be repeated with. Try it:

    chance = ChanceScorer(settings)
    for chunk in chunks(len(images)):
        chance.add([orders[i] for i in chunk], lambda i, j: similarities(chunk[i], chunk[j]), rng)
    scorer.result(rng, chance)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from anomreason.metrics.image_scores import ImageScores, SemanticSettings, score_image
from anomreason.metrics.summary import Table, Totals

Across = Callable[[int, int], tuple[npt.ArrayLike, npt.ArrayLike]]
"""(i, j) -> similarities phe, rea of the predictions of image i with the truths of image j: (P of i, T of j) each."""

CHUNK = 200
REPEATS = 20


def chunks(n: int, size: int = CHUNK) -> list[range]:
    """Places 0..n-1 in chunks of at least `size`; the last takes up the rest. One image has nothing to swap: []."""
    if n < 2:
        return []
    count = max(1, n // size)
    return [range(k * size, n if k == count - 1 else (k + 1) * size) for k in range(count)]


def derangement(n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """A permutation (n,) that leaves nothing in its place, each with the same probability; ValueError for n = 1.

    Uniform because it is the first such one among uniform permutations; that takes e = 2.7 tries on average.
    """
    if n == 1:
        raise ValueError("one item cannot be dealt out anew; chunks() never gives a chunk of one")
    places = np.arange(n)
    while np.any((drawn := rng.permutation(n)) == places):
        pass
    return drawn


class ChanceScorer:
    """Totals over images for each of `repeats` shuffles."""

    def __init__(self, settings: SemanticSettings, repeats: int = REPEATS) -> None:
        self._settings, self._repeats = settings, repeats
        self.totals: list[Totals] = []
        """One a shuffle; empty before the first chunk."""

    def add(self, orders: Sequence[Sequence[int]], across: Across, rng: np.random.Generator) -> None:
        """One chunk, at least two images; orders: the ranked predictions of each (see `matching.rank`)."""
        found = [self._shuffled(orders, across, rng) for _ in range(self._repeats)]
        self.totals = [old + new for old, new in zip(self.totals, found, strict=True)] if self.totals else found

    def _shuffled(self, orders: Sequence[Sequence[int]], across: Across, rng: np.random.Generator) -> Totals:
        scored = []
        for own, other in enumerate(derangement(len(orders), rng).tolist()):
            phe, rea = across(own, other)
            scored.append(score_image(phe, rea, orders[own], self._settings, f"a shuffled image ({own} with {other})"))
        return Totals.of(table_of(scored, self._settings))


def table_of(scored: Sequence[ImageScores], settings: SemanticSettings) -> Table:
    """Answered images that need no names."""
    shape = (len(scored), *settings.shape)
    return Table(
        images=("",) * len(scored),
        answered=np.ones(len(scored), dtype=np.bool_),
        predictions=np.array([one.predictions for one in scored], dtype=np.int64),
        truths=np.array([one.truths for one in scored], dtype=np.int64),
        tp=np.array([one.tp for one in scored], dtype=np.int64).reshape(shape),
        ap=np.array([one.ap for one in scored], dtype=np.float64).reshape(shape),
    )
