"""The share of correct candidates in each part of a round: of each source, detector, kind and role.

    Strata(queue).shares()["source"]["flux"].share

Unbiased as the estimate of the whole round is: what was drawn at random from all is random within each part too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cached_property
from typing import Any, Literal

from sqlalchemy import case, func, select

from anomreason.dataset.tables import CandidateRow, ImageRow, ItemRow, Outcome, SourceRow
from anomreason.review.estimate import Judged, ShareCorrect, share_correct
from anomreason.review.queue import Queue

Dimension = Literal["source", "detector", "kind", "role"]
DIMENSIONS: tuple[Dimension, ...] = ("source", "detector", "kind", "role")
_COLUMNS: tuple[Any, ...] = (
    SourceRow.name,
    CandidateRow.detector,
    func.coalesce(CandidateRow.kind, ""),
    func.coalesce(CandidateRow.role, ""),
)
"""As the tallies name them."""


class Strata:
    """The parts of one round. How large they are is counted once; what is judged in them, each time."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue

    def shares(self) -> dict[Dimension, dict[str, ShareCorrect]]:
        """By dimension and name. A part without enough drawn at random has no share."""
        counts: Counter[tuple[Dimension, str, str, bool]] = Counter()
        for *names, state, correct, count in self._states():
            for dimension, name in zip(DIMENSIONS, names, strict=True):
                counts[dimension, name, state, bool(correct)] += count
        shares: dict[Dimension, dict[str, ShareCorrect]] = {}
        for dimension, sizes in self._sizes.items():
            shares[dimension] = {}
            for name, size in sizes.items():

                def of(state: str, dimension: Dimension = dimension, name: str = name) -> tuple[int, int]:
                    right = counts[dimension, name, state, True]
                    return right + counts[dimension, name, state, False], right

                (known, known_right), (sample, right) = of("known"), of("sample")
                known_size = known + of("open")[0]
                rest = size - of("closed")[0] - known_size
                found = share_correct(Judged(known, known_right, known_size), Judged(sample, right, rest))
                shares[dimension][name] = found
        return shares

    def _states(self) -> Iterable[tuple[str, str, str, str, str, bool, int]]:
        """Names, state, whether correct, and how many."""
        with self.queue.store.reading() as session:
            reached, last = self.queue.frontier(session)
            untouched = ItemRow.needed == ItemRow.passes
            closed = ItemRow.done.is_(True) & untouched  # its image was dropped
            judged = ~untouched & (ItemRow.position < reached)
            known = ItemRow.rank <= last
            state = case((closed, "closed"), (known & judged, "known"), (known, "open"), else_="sample")
            correct = case((CandidateRow.outcome == Outcome.ACCEPTED, 1), else_=0)
            query = (
                select(*_COLUMNS, state.label("state"), correct.label("correct"), func.count())
                .select_from(ItemRow)
                .join(CandidateRow, CandidateRow.id == ItemRow.candidate_id)
                .join(ImageRow, ImageRow.id == CandidateRow.image_id)
                .join(SourceRow, SourceRow.id == ImageRow.source_id)
                .where(ItemRow.round_id == self.queue.round, ItemRow.gold.is_(None), judged | closed | known)
                .group_by(*_COLUMNS, "state", "correct")
            )
            return [(*row[:5], bool(row[5]), row[6]) for row in session.execute(query)]

    @cached_property
    def _sizes(self) -> dict[Dimension, dict[str, int]]:
        """Candidates of each part, those of dropped images too: a round keeps its candidates."""
        query = (
            select(*_COLUMNS, func.count())
            .select_from(ItemRow)
            .join(CandidateRow, CandidateRow.id == ItemRow.candidate_id)
            .join(ImageRow, ImageRow.id == CandidateRow.image_id)
            .join(SourceRow, SourceRow.id == ImageRow.source_id)
            .where(ItemRow.round_id == self.queue.round, ItemRow.gold.is_(None))
            .group_by(*_COLUMNS)
        )
        sizes: dict[Dimension, dict[str, int]] = {dimension: defaultdict(int) for dimension in DIMENSIONS}
        with self.queue.store.reading() as session:
            for *names, count in session.execute(query):
                for dimension, name in zip(DIMENSIONS, names, strict=True):
                    sizes[dimension][name] += count
        return sizes
