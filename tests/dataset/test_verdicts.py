"""Verdicts are kept, count once, and decide the outcome of a candidate."""

from datetime import UTC, datetime
from itertools import count

import pytest
from sqlalchemy import select
from tests.dataset.planting import Plan, plant

from anomreason.dataset.store import Store
from anomreason.dataset.tables import CandidateRow, Outcome, VerdictRow
from anomreason.dataset.verdicts import outcome, record_verdicts


def said(*verdicts: str) -> Outcome:
    """The outcome of verdicts written as 'person choice', with '!' for a final one and a number for what is undone."""
    rows = []
    for number, verdict in zip(count(1), verdicts):
        person, choice, *undone = verdict.rstrip("!").split()
        undoes = int(undone[0]) if undone else None
        rows.append(VerdictRow(id=number, person=person, choice=choice, undoes=undoes, final=verdict.endswith("!")))
    return outcome(rows)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], Outcome.UNVERIFIED),
        (["ada accept"], Outcome.ACCEPTED),
        (["ada reject"], Outcome.REJECTED),
        (["ada unsure"], Outcome.UNSURE),
        (["ada accept", "ben reject"], Outcome.DISPUTED),
        (["ada accept", "ben reject", "cleo reject"], Outcome.REJECTED),
        (["ada accept", "ben unsure"], Outcome.ACCEPTED),
        (["ada accept", "ada reject"], Outcome.REJECTED),
        (["ada accept", "ada undo 1"], Outcome.UNVERIFIED),
        (["ada accept", "ada reject", "ada undo 2"], Outcome.ACCEPTED),
        (["ada flag"], Outcome.UNVERIFIED),
        (["ada accept", "ben reject", "owner accept!"], Outcome.ACCEPTED),
        (["owner reject!", "ada accept", "ben accept"], Outcome.REJECTED),
    ],
)
def test_the_outcome_is_what_people_together_say(verdicts: list[str], expected: Outcome) -> None:
    assert said(*verdicts) == expected


def test_a_verdict_that_is_sent_twice_counts_once(store: Store) -> None:
    plant(store, Plan({"flux": 1}, candidates=2))
    with store.reading() as session:
        first, second = session.scalars(select(CandidateRow.id).order_by(CandidateRow.id)).all()
    at = datetime(2026, 1, 1, tzinfo=UTC)
    verdict = {"key": "k1", "candidate_id": first, "person": "ada", "choice": "accept", "at": at, "command_id": 1}
    with store.writing() as session:
        assert record_verdicts(session, [verdict]) == 1
    with store.writing() as session:
        assert record_verdicts(session, [verdict | {"choice": "reject"}]) == 0
        assert record_verdicts(session, []) == 0
    with store.reading() as session:
        rows = session.execute(select(CandidateRow.id, CandidateRow.outcome).order_by(CandidateRow.id)).all()
        assert rows == [(first, "accepted"), (second, "unverified")]
        assert session.scalars(select(VerdictRow.choice)).all() == ["accept"]
