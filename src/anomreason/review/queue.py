"""Hands candidates out to people and takes their verdicts, however many people work at once.

    queue = Queue(store, round_id, command.id)
    items = queue.next("ada", 3)
    queue.answer("ada", Answer(key="...", candidate=items[0], choice="accept", seconds=2.5))

Each call is one short transaction. An item is leased to one person; a lease that expires frees it. A verdict that is
sent again changes nothing, and one that comes late is kept all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Literal, NamedTuple

from sqlalchemy import Integer, ScalarSelect, Select, String, bindparam, case, delete, func, select, union_all, update
from sqlalchemy.orm import Session, aliased

from anomreason.dataset.store import Store, insert_into
from anomreason.dataset.tables import (
    CandidateRow,
    ImageRow,
    ItemRow,
    LeaseRow,
    Outcome,
    RoundRow,
    SourceRow,
    TallyRow,
    UtcTime,
    VerdictRow,
)
from anomreason.dataset.verdicts import OUTCOMES, record_verdicts
from anomreason.errors import UsageError
from anomreason.review.estimate import Judged, ShareCorrect, share_correct

LEASE = timedelta(minutes=10)
"""How long an item stays with somebody who does not answer."""
MOST = 40
"""Items that one person may hold at a time, besides those of an image or a group."""
SPARE = 5
"""Items looked up beyond those that are wanted, as another process may take one at the same moment."""
Choice = Literal["accept", "reject", "unsure", "flag"]


@dataclass(frozen=True, slots=True)
class Answer:
    """One verdict as a person sends it."""

    key: str
    """Made by the sender, unique for each verdict: the same key again is the same verdict."""
    candidate: int
    choice: Choice
    seconds: float | None = None
    reason: str | None = None
    edit: dict[str, Any] | None = None
    """Fields written anew."""
    final: bool = False
    """Whether it settles a disagreement."""


@dataclass(frozen=True, slots=True)
class Undone:
    """What an undo took back."""

    candidate: int
    choice: str
    new: bool = field(default=True, compare=False)
    """False when the undo came before."""


class _Counted(NamedTuple):
    """What the tallies count of a verdict."""

    person: str
    choice: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a round is; gold items are left out."""

    verdicts: int
    wanted: int
    """Verdicts until every item is judged as often as it should be; those of dropped images are left out."""
    share_correct: ShareCorrect


class Queue:
    """One round's items. Threads and processes may share a round; the database keeps them apart."""

    def __init__(self, store: Store, round_id: int, command_id: int) -> None:
        self.store, self.round, self.command = store, round_id, command_id
        self._waiting_queries: dict[int, Select[int, int]] = {}

    def next(self, person: str, count: int = 3, have: Sequence[int] = (), now: datetime | None = None) -> list[int]:
        """Candidates for this person, the most urgent first: those already held and not answered, then new ones.

        have: what the person's page holds already; it is not given again. now: for tests. At most MOST are held.
        """
        now = now or datetime.now(UTC)
        count = max(0, min(count, MOST - len(have)))
        with self.store.writing() as session:
            held = session.scalars(self._held, {"person": person}).all()
            given = [c for c in held if c not in have][:count]
            most = count - len(given) + len(held) + SPARE
            for candidate in self._waiting(session, person, now, most) if len(given) < count else ():
                if len(given) >= count:
                    break
                if candidate not in held and self._take(session, candidate, person, now):
                    given.append(candidate)
            mine = (LeaseRow.round_id == self.round, LeaseRow.person == person)
            session.execute(update(LeaseRow).where(*mine).values(until=now + LEASE))
        return given

    @cached_property
    def _held(self) -> Select[int]:
        """What `person` holds, in order."""
        leased = (ItemRow.round_id == LeaseRow.round_id) & (ItemRow.candidate_id == LeaseRow.candidate_id)
        return (
            select(LeaseRow.candidate_id)
            .join(ItemRow, leased)
            .where(LeaseRow.round_id == self.round, LeaseRow.person == bindparam("person"))
            .order_by(ItemRow.position)
        )

    def of_image(self, person: str, image: int, now: datetime | None = None) -> list[int]:
        """The candidates of one image that wait for this person's verdict, all leased to them."""
        with self.store.reading() as session:
            waiting = session.scalars(self._of_image(person, image)).all()
        return self.take(person, waiting, now)

    def _of_image(self, person: str, image: int | ScalarSelect[int]) -> Select[int]:
        """Candidates of an image that wait for a person, whoever holds them."""
        return (
            select(ItemRow.candidate_id)
            .join(CandidateRow, CandidateRow.id == ItemRow.candidate_id)
            .where(
                CandidateRow.image_id == image,
                ItemRow.round_id == self.round,
                ItemRow.done.is_(False),
                ItemRow.first_person != person,
            )
            .order_by(CandidateRow.id)
        )

    def near(self, person: str, candidate: int, most: int, now: datetime | None = None) -> list[int]:
        """Where those like a candidate are looked for: itself, what this person holds, its image's, the next `most`.

        All of them wait for this person. Empty when the candidate itself does not.
        """
        now = now or datetime.now(UTC)
        with self.store.reading() as session:
            item = session.get(ItemRow, (self.round, candidate))
            if item is None or item.done or item.first_person == person:
                return []
            image = select(CandidateRow.image_id).where(CandidateRow.id == candidate).scalar_subquery()
            of_image = session.scalars(self._of_image(person, image)).all()
            held = session.scalars(self._held, {"person": person}).all()
            return list(dict.fromkeys([candidate, *held, *of_image, *self._waiting(session, person, now, most)]))

    def take(self, person: str, candidates: Sequence[int], now: datetime | None = None) -> list[int]:
        """Those of these candidates that this person gets: held already, or free and leased to them now."""
        now = now or datetime.now(UTC)
        with self.store.writing() as session:
            held = session.scalars(self._held, {"person": person}).all()
            return [c for c in candidates if c in held or self._take(session, c, person, now)]

    def _waiting(self, session: Session, person: str, now: datetime, most: int) -> list[int]:
        """Items that this person may get, in order: of those judged by nobody, and by each other person, the first.

        most: of each of these.
        """
        firsts = [first for first in session.scalars(self._firsts) if first != person]
        if not firsts:
            return []
        values = {"now": now, "most": most, **{f"first{n}": first for n, first in enumerate(firsts)}}
        return [candidate for _, candidate in session.execute(self._waiting_after(len(firsts)), values)]

    @cached_property
    def _firsts(self) -> Select[str]:
        """Who has judged an item that needs somebody else; empty for items that nobody has judged.

        One look into the index for each of them, however many items there are.
        """
        first = select(func.min(ItemRow.first_person).label("first")).where(
            ItemRow.round_id == self.round, ItemRow.done.is_(False)
        )
        firsts = first.cte("firsts", recursive=True)
        later = first.where(ItemRow.first_person > firsts.c.first).scalar_subquery()
        firsts = firsts.union_all(select(later).select_from(firsts).where(firsts.c.first.is_not(None)))
        return select(firsts.c.first).where(firsts.c.first.is_not(None))

    def _waiting_after(self, count: int) -> Select[int, int]:
        """Position and candidate of what waits behind each of `first0`, `first1` ..., made once for each count."""
        if count not in self._waiting_queries:
            leased = (LeaseRow.round_id == ItemRow.round_id) & (LeaseRow.candidate_id == ItemRow.candidate_id)
            parts = [
                select(ItemRow.position, ItemRow.candidate_id)
                .outerjoin(LeaseRow, leased)
                .where(
                    ItemRow.round_id == self.round,
                    ItemRow.done.is_(False),
                    ItemRow.first_person == bindparam(f"first{n}", type_=String()),
                    (LeaseRow.person.is_(None)) | (LeaseRow.until < bindparam("now", type_=UtcTime())),
                )
                .order_by(ItemRow.position)
                .limit(bindparam("most", type_=Integer()))
                .subquery()
                for n in range(count)
            ]
            together = union_all(*(select(part.c.position, part.c.candidate_id) for part in parts)).subquery()
            query = select(together.c.position, together.c.candidate_id).order_by(together.c.position)
            self._waiting_queries[count] = query
        return self._waiting_queries[count]

    def _take(self, session: Session, candidate: int, person: str, now: datetime) -> bool:
        """Lease an item that seemed to wait; False when somebody else was faster."""
        if not self._lease(session, candidate, person, now):
            return False
        # Since it was looked up, somebody may have answered it.
        item = session.get_one(ItemRow, (self.round, candidate), populate_existing=True)
        if item.done or item.first_person == person:
            of_item = (LeaseRow.round_id == self.round, LeaseRow.candidate_id == candidate)
            session.execute(delete(LeaseRow).where(*of_item))
            return False
        return True

    def _lease(self, session: Session, candidate: int, person: str, now: datetime) -> bool:
        """Whether the item is this person's now, and nobody else holds it."""
        row = {"round_id": self.round, "candidate_id": candidate, "person": person, "until": now + LEASE}
        statement = insert_into(session, LeaseRow).values(row)
        statement = statement.on_conflict_do_update(
            index_elements=["round_id", "candidate_id"],
            set_={"person": person, "until": now + LEASE},
            where=LeaseRow.until < now,
        )
        return session.connection().execute(statement.execution_options(preserve_rowcount=True)).rowcount > 0

    def answer(self, person: str, answer: Answer, now: datetime | None = None) -> bool:
        """Keep a verdict; False when it was there already. Raises UsageError for a candidate outside the round."""
        now = now or datetime.now(UTC)
        with self.store.writing() as session:
            item = session.get(ItemRow, (self.round, answer.candidate), with_for_update=True)
            if item is None:
                raise UsageError(f"candidate {answer.candidate} is not in this round; load the page again")
            before = self._standing(session, person, answer.candidate)
            row = {
                "key": answer.key,
                "candidate_id": answer.candidate,
                "person": person,
                "at": now,
                "seconds": answer.seconds,
                "choice": answer.choice,
                "edit": answer.edit,
                "reason": answer.reason,
                "undoes": None,
                "final": answer.final,
                "round": self.round,
                "command_id": self.command,
            }
            if not record_verdicts(session, [row]):
                return False
            if answer.choice not in OUTCOMES or answer.final:
                return True
            if before is not None:
                self._count(session, _Counted(person, before.choice, before.seconds), item, -1)
            elif item.needed:
                item.needed -= 1
                item.done = item.done or not item.needed
                item.first_person = person if item.needed else ""
            self._count(session, _Counted(person, answer.choice, answer.seconds), item, 1)
            mine = (
                LeaseRow.round_id == self.round,
                LeaseRow.candidate_id == answer.candidate,
                LeaseRow.person == person,
            )
            session.execute(delete(LeaseRow).where(*mine))
        return True

    def undo(self, person: str, key: str, now: datetime | None = None) -> Undone | None:
        """Take this person's latest verdict back and lease its item to them again; None when nothing is left to undo.

        key: of the undo; sent again, it gives the same answer and undoes nothing more.
        """
        now = now or datetime.now(UTC)
        with self.store.writing() as session:
            sent = session.scalar(select(VerdictRow).where(VerdictRow.key == key))
            if sent is not None:
                if sent.undoes is None or sent.person != person:
                    raise UsageError(f"the key {key!r} was used before; make a new one for each undo")
                undone = session.get_one(VerdictRow, sent.undoes)
                return Undone(undone.candidate_id, undone.choice, new=False)
            taken_back = aliased(VerdictRow)
            is_undone = select(taken_back.id).where(taken_back.undoes == VerdictRow.id).exists()
            last = session.scalar(
                select(VerdictRow)
                .where(
                    VerdictRow.round == self.round, VerdictRow.person == person, VerdictRow.choice != "undo", ~is_undone
                )
                .order_by(VerdictRow.id.desc())
                .limit(1)
            )
            if last is None:
                return None
            item = session.get_one(ItemRow, (self.round, last.candidate_id), with_for_update=True)
            row = {
                "key": key,
                "candidate_id": last.candidate_id,
                "person": person,
                "at": now,
                "choice": "undo",
                "undoes": last.id,
                "round": self.round,
                "command_id": self.command,
            }
            record_verdicts(session, [row])
            if last.choice in OUTCOMES and not last.final:
                self._count(session, _Counted(person, last.choice, last.seconds), item, -1)
                standing = self._standing(session, person, last.candidate_id)
                if standing is not None:
                    self._count(session, _Counted(person, standing.choice, standing.seconds), item, 1)
                else:
                    self._reopen(session, item, person)
            self._lease(session, last.candidate_id, person, now)
            return Undone(last.candidate_id, last.choice)

    def _reopen(self, session: Session, item: ItemRow, person: str) -> None:
        """The item is short of one verdict again."""
        others = {verdict.person for verdict in self._said(session, item.candidate_id) if verdict.person != person}
        item.needed = max(0, item.passes - len(others))
        item.done = not item.needed
        item.first_person = min(others) if others and item.needed else ""

    def _said(self, session: Session, candidate: int) -> list[VerdictRow]:
        """The verdicts on one candidate that count as passes of this round and that nobody took back, in order."""
        # Its verdicts in other rounds too: they are few, and the database finds them by the candidate alone.
        query = select(VerdictRow).where(VerdictRow.candidate_id == candidate).order_by(VerdictRow.id)
        verdicts = session.scalars(query).all()
        undone = {v.undoes for v in verdicts}
        return [
            v for v in verdicts if v.round == self.round and v.choice in OUTCOMES and not v.final and v.id not in undone
        ]

    def _standing(self, session: Session, person: str, candidate: int) -> VerdictRow | None:
        """What this person says of a candidate by now."""
        return next((v for v in reversed(self._said(session, candidate)) if v.person == person), None)

    def _count(self, session: Session, verdict: _Counted, item: ItemRow, by: int) -> None:
        """Add one verdict to the tallies, or take it out again."""
        sort = (
            select(SourceRow.name, CandidateRow.detector, CandidateRow.role, CandidateRow.kind)
            .select_from(CandidateRow)
            .join(ImageRow, ImageRow.id == CandidateRow.image_id)
            .join(SourceRow, SourceRow.id == ImageRow.source_id)
            .where(CandidateRow.id == item.candidate_id)
        )
        source, detector, role, kind = session.execute(sort).one()
        key = {
            "round_id": self.round,
            "person": verdict.person,
            "source": source,
            "detector": detector,
            "role": role or "",
            "kind": kind or "",
            "gold": item.gold or "",
            "choice": verdict.choice,
        }
        seconds = by * (verdict.seconds or 0.0)
        statement = insert_into(session, TallyRow).values(count=by, seconds=seconds, **key)
        more = {"count": TallyRow.count + by, "seconds": TallyRow.seconds + seconds}
        session.connection().execute(statement.on_conflict_do_update(index_elements=list(key), set_=more))

    def close_image(self, session: Session, image: int, closed: bool) -> None:
        """Hand the image's items out no more, since it was dropped, or again; gold ones stay."""
        of_image = select(CandidateRow.id).where(CandidateRow.image_id == image)
        query = select(ItemRow).where(
            ItemRow.round_id == self.round,
            ItemRow.candidate_id.in_(of_image),
            ItemRow.gold.is_(None),
            ItemRow.needed > 0,
            ItemRow.done.is_not(closed),
        )
        items = session.scalars(query.with_for_update()).all()
        for item in items:
            item.done = closed
        by = -1 if closed else 1
        fewer = {
            "passes": RoundRow.passes + by * sum(item.needed for item in items),
            "size": RoundRow.size + by * sum(item.needed == item.passes for item in items),
        }
        session.execute(update(RoundRow).where(RoundRow.id == self.round).values(**fewer))

    def progress(self) -> Progress:
        """How far the round is, from the tallies."""
        with self.store.reading() as session:
            round_row = session.get_one(RoundRow, self.round)
            verdicts = session.scalar(
                select(func.coalesce(func.sum(TallyRow.count), 0)).where(
                    TallyRow.round_id == self.round, TallyRow.gold == ""
                )
            )
            return Progress(min(int(verdicts or 0), round_row.passes), round_row.passes, self._estimate(session))

    def _estimate(self, session: Session) -> ShareCorrect:
        """The share of correct candidates among all of the round."""
        mine = (ItemRow.round_id == self.round, ItemRow.gold.is_(None))
        reached, last = self.frontier(session)
        judged = (ItemRow.needed < ItemRow.passes) & (ItemRow.position < reached)
        closed = ItemRow.done.is_(True) & (ItemRow.needed == ItemRow.passes)  # its image was dropped
        size = session.get_one(RoundRow, self.round).size
        known, correct = ItemRow.rank <= last, CandidateRow.outcome == Outcome.ACCEPTED
        counted = [
            func.coalesce(func.sum(case((of, 1), else_=0)), 0)
            for of in (known & judged, known & judged & correct, ~known & judged, judged & correct, known & closed)
        ]
        query = select(*counted).join_from(ItemRow, CandidateRow, CandidateRow.id == ItemRow.candidate_id)
        in_known, right_known, in_sample, right, left_out = session.execute(query.where(*mine, judged | closed)).one()
        known_size = last + 1 - left_out
        return share_correct(
            Judged(in_known, right_known, known_size), Judged(in_sample, right - right_known, size - known_size)
        )

    def frontier(self, session: Session) -> tuple[int, int]:
        """The first position that nobody was given yet, and the greatest rank by worth judged before it, or -1.

        What was judged behind it, beside others of its image or group, was neither drawn nor ranked for that.
        """
        leased = (LeaseRow.round_id == ItemRow.round_id) & (LeaseRow.candidate_id == ItemRow.candidate_id)
        query = (
            select(ItemRow.position)
            .outerjoin(LeaseRow, leased)
            .where(
                ItemRow.round_id == self.round,
                ItemRow.done.is_(False),
                ItemRow.first_person == "",
                LeaseRow.person.is_(None),
            )
            .order_by(ItemRow.position)
            .limit(1)
        )
        first = session.scalar(query)
        reached = 2**62 if first is None else first
        ranks = select(func.max(ItemRow.rank)).where(
            ItemRow.round_id == self.round,
            ItemRow.gold.is_(None),
            ItemRow.random.is_(False),
            ItemRow.needed < ItemRow.passes,
            ItemRow.position < reached,
        )
        last = session.scalar(ranks)
        return reached, -1 if last is None else last
