"""Groups of nearly identical candidates, which a person judges at once.

    group(queue, "ada", 7)    # [7, 19, 40]: all leased to ada

A group is made when somebody asks for it, around the candidate whose turn it is: so the order of the round stays.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from anomreason.dataset.tables import CandidateRow
from anomreason.review.alike import Text, like, words
from anomreason.review.items import region_of
from anomreason.review.queue import Queue

MOST = 12
"""Candidates in a group."""
NEAR = 2_000
"""Waiting items among which those that are alike are looked for: the next ones in order."""


def group(queue: Queue, person: str, candidate: int) -> list[int]:
    """A candidate and those nearly identical to it, of any image, that wait for this person; all leased to them.

    Empty when the candidate itself does not wait for this person.
    """
    near = queue.near(person, candidate, NEAR)
    if not near:
        return []
    with queue.store.reading() as session:
        texts = _texts(session, near)
    taken = queue.take(person, [candidate, *like(texts[candidate], [texts[c] for c in near], MOST - 1)])
    return taken if candidate in taken else []


def _texts(session: Session, candidates: Sequence[int]) -> dict[int, Text]:
    """What of these candidates is compared."""
    query = select(
        CandidateRow.id,
        CandidateRow.image_id,
        CandidateRow.kind,
        CandidateRow.name,
        CandidateRow.phenomenon,
        CandidateRow.region,
    ).where(CandidateRow.id.in_(candidates))
    return {
        candidate: Text(candidate, image, kind, words(name, phenomenon), region_of(region))
        for candidate, image, kind, name, phenomenon, region in session.execute(query)
    }
