"""People's verdicts: recorded once, never overwritten, and summed up in each candidate's outcome.

with store.writing() as session:
    record_verdicts(session, [{"key": "1", "candidate_id": 7, "person": "ada", "choice": "accept", ...}])
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from anomreason.dataset.store import BATCH, add_new
from anomreason.dataset.tables import CandidateRow, Outcome, VerdictRow

OUTCOMES = {"accept": Outcome.ACCEPTED, "reject": Outcome.REJECTED, "unsure": Outcome.UNSURE}
"""What each choice says of a candidate."""


def record_verdicts(session: Session, verdicts: Sequence[Mapping[str, Any]]) -> int:
    """Add verdicts (rows of `VerdictRow`, all with the same keys) and let the outcomes follow; gives how many are new.

    One whose `key` is there already was sent twice and changes nothing.
    """
    new = add_new(session, VerdictRow, verdicts)
    if new:
        refresh_outcomes(session, [int(v["candidate_id"]) for v in verdicts])
    return new


def refresh_outcomes(session: Session, candidates: Iterable[int]) -> None:
    """Make the outcome of these candidates follow from the verdicts about them."""
    ids = sorted(set(candidates))
    for start in range(0, len(ids), BATCH):
        part = ids[start : start + BATCH]
        of: dict[int, list[VerdictRow]] = defaultdict(list)
        for verdict in session.scalars(
            select(VerdictRow).where(VerdictRow.candidate_id.in_(part)).order_by(VerdictRow.id)
        ):
            of[verdict.candidate_id].append(verdict)
        change = update(CandidateRow.__table__).where(CandidateRow.id == bindparam("of"))  # type: ignore[arg-type]
        values = [{"of": i, "now": outcome(of[i]).value} for i in part]
        session.connection().execute(change.values(outcome=bindparam("now")), values)


class GivenVerdict(Protocol):
    """What counting needs of a verdict; see `VerdictRow`."""

    @property
    def id(self) -> int: ...
    @property
    def person(self) -> str: ...
    @property
    def choice(self) -> str: ...
    @property
    def undoes(self) -> int | None: ...


V = TypeVar("V", bound=GivenVerdict)


def last_verdicts(verdicts: Sequence[V]) -> list[V]:
    """Of the verdicts on one candidate: each person's last one that was not undone, in the order of their ids."""
    undone = {v.undoes for v in verdicts if v.choice == "undo"}
    of_person = {v.person: v for v in verdicts if v.choice in OUTCOMES and v.id not in undone}
    return sorted(of_person.values(), key=lambda v: v.id)


def outcome(verdicts: Sequence[VerdictRow]) -> Outcome:
    """What all verdicts on one candidate, in the order of their ids, together say.

    Of a person the last verdict counts that was not undone. One that settles a disagreement counts alone. Otherwise
    more of `accept` or `reject` wins; as many of both are disputed; people who are unsure leave it to the others.
    """
    counting = last_verdicts(verdicts)
    final = [v for v in counting if v.final]
    if final:
        return OUTCOMES[final[-1].choice]
    choices = [v.choice for v in counting]
    accepts, rejects = choices.count("accept"), choices.count("reject")
    if accepts != rejects:
        return Outcome.ACCEPTED if accepts > rejects else Outcome.REJECTED
    if accepts:
        return Outcome.DISPUTED
    return Outcome.UNSURE if choices else Outcome.UNVERIFIED
