"""How people judged candidates, as exports count it: each person's last word.

with store.reading() as session:
    judging, _ = judging_of(session, agreements=False)
    print(judging.people, judging.candidates)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from anomreason.dataset.tables import CandidateRow, ImageRow, ImageState, Outcome, VerdictRow
from anomreason.dataset.verdicts import OUTCOMES, last_verdicts

_CHOICES = {outcome: choice for choice, outcome in OUTCOMES.items()}


class Vote(NamedTuple):
    """A verdict, as the columns `VOTE` give it."""

    id: int
    candidate: int
    person: str
    choice: str
    undoes: int | None
    edit: dict[str, Any] | None


VOTE = (
    VerdictRow.id,
    VerdictRow.candidate_id,
    VerdictRow.person,
    VerdictRow.choice,
    VerdictRow.undoes,
    VerdictRow.edit,
)


def agreement_on(outcome: str, votes: Sequence[Vote]) -> float | None:
    """Share of the last votes that say what the outcome says; of a disputed one, the larger share. None without any."""
    if not votes:
        return None
    said = Counter(vote.choice for vote in votes)
    choice = _CHOICES.get(Outcome(outcome))
    return (said[choice] if choice else max(said.values())) / len(votes)


@dataclass(slots=True)
class Judging:
    """How people judged the candidates of the kept images, each with their last word."""

    people: int = 0
    candidates: int = 0
    several: int = 0
    """Candidates that several people judged."""
    agreeing: float = 0.0
    """Sum over these of the share of pairs of people who said the same."""
    choices: Counter[str] = field(default_factory=Counter)


def judging_of(session: Session, agreements: bool) -> tuple[Judging, dict[int, float]]:
    """Over all candidates, and, with agreements, the agreement on each one that was judged."""
    asked = (
        select(*VOTE, CandidateRow.outcome)
        .join(CandidateRow, CandidateRow.id == VerdictRow.candidate_id)
        .join(ImageRow, ImageRow.id == CandidateRow.image_id)
        .where(ImageRow.status == ImageState.KEPT)
        .order_by(VerdictRow.candidate_id, VerdictRow.id)
        .execution_options(yield_per=5000)
    )
    judging = Judging()
    agreement: dict[int, float] = {}
    people: set[str] = set()
    for candidate, rows in groupby(session.execute(asked), key=lambda row: row[1]):
        of_one = list(rows)
        votes = last_verdicts([Vote(*row[:6]) for row in of_one])
        share = agreement_on(of_one[0][6], votes)
        if share is None:
            continue
        if agreements:
            agreement[candidate] = share
        judging.candidates += 1
        people.update(vote.person for vote in votes)
        said = Counter(vote.choice for vote in votes)
        judging.choices += said
        if len(votes) > 1:
            judging.several += 1
            judging.agreeing += sum(n * (n - 1) for n in said.values()) / (len(votes) * (len(votes) - 1))
    judging.people = len(people)
    return judging, agreement
