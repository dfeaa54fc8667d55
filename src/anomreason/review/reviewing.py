"""What a person does on the review page, as calls on the store.

review = Review(store, queue, links, people, "default")
review.next(people[0], 3, have=[])
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Generic, Literal, TypeVar

from sqlalchemy import Select, bindparam, func, select
from sqlalchemy.orm import Session, aliased

from anomreason.dataset.store import Store, add_new, decide
from anomreason.dataset.tables import (
    CandidateRow,
    CommandRow,
    DecisionRow,
    DetectionRow,
    ImageRow,
    ImageState,
    ItemRow,
    Origin,
    Outcome,
    RoundRow,
    TallyRow,
    VerdictRow,
)
from anomreason.dataset.verdicts import OUTCOMES, record_verdicts
from anomreason.errors import UsageError
from anomreason.review.estimate import ShareCorrect
from anomreason.review.groups import group
from anomreason.review.items import images, items
from anomreason.review.keys import read_keys
from anomreason.review.messages import (
    AnnotatedSent,
    AnnotationSent,
    AnnotationTakenBack,
    ImageDecisionSent,
    ItemImages,
    Items,
    KeptAnnotation,
    Me,
    NextItems,
    Opinion,
    Opinions,
    PageProgress,
    Taken,
    Undoing,
    UndoneChoice,
    VerdictSent,
)
from anomreason.review.owner import OwnerReport, owner_report
from anomreason.review.queue import Answer, Queue
from anomreason.review.security import Links, Reviewer
from anomreason.review.strata import Strata

T = TypeVar("T")
FILTER = "review"
"""Name of the rule by which people drop images."""
FRESH = 5.0
"""Seconds for which an estimate on the owner's page is good enough."""


@dataclass
class Review:
    """One round, its people and its store. Safe in threads."""

    store: Store
    queue: Queue
    links: Links
    people: Sequence[Reviewer]
    round: str
    """Name of the round."""
    within: float = 0.02
    """Half of the interval that is enough for the owner, 0..1."""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _golds: int = 0
    _days: dict[str, tuple[datetime, int]] = field(default_factory=dict)
    """Verdicts of each person on their last day; kept here, since no other process takes verdicts for this dataset."""

    def __post_init__(self) -> None:
        self._keys = read_keys(self.store.folder)
        self._share = Lately(lambda: self.queue.progress().share_correct)
        self._strata = Lately(Strata(self.queue).shares)
        golds = select(func.count()).where(ItemRow.round_id == self.queue.round, ItemRow.gold.is_not(None))
        undo = aliased(VerdictRow)
        undone = select(undo.id).where(undo.undoes == VerdictRow.id).exists()
        today = select(VerdictRow.person, func.count()).where(
            VerdictRow.round == self.queue.round,
            VerdictRow.at >= _midnight(),
            VerdictRow.choice.in_(OUTCOMES),
            ~undone,
        )
        with self.store.reading() as session:
            self._golds = session.scalar(golds) or 0
            counts = session.execute(today.group_by(VerdictRow.person)).all()
        self._days = {person: (_midnight(), count) for person, count in counts}

    def me(self, person: Reviewer) -> Me:
        with self.store.reading() as session:
            kinds = session.scalars(select(CandidateRow.kind).distinct().where(CandidateRow.kind.is_not(None)))
            began = select(CommandRow.begun).join(RoundRow, RoundRow.command_id == CommandRow.id)
            begun = session.scalars(began.where(RoundRow.id == self.queue.round)).one()
            return Me(
                person=person.name,
                owner=person.owner,
                round=self.round,
                begun=begun,
                kinds=sorted(filter(None, kinds)),
                keys=self._keys,
            )

    def next(self, person: Reviewer, count: int, have: Sequence[int]) -> NextItems:
        ids = self.queue.next(person.name, count, have)
        with self.store.reading() as session:
            found = items(session, ids) if ids else []
            progress = self.progress(person, session)
        state: Literal["working", "finished", "empty"] = "working"
        if not found and not have:
            state = "finished" if progress.verdicts >= progress.wanted else "empty"
        return NextItems(items=found, progress=progress, state=state)

    def answer(self, person: Reviewer, sent: VerdictSent) -> Taken:
        edit = sent.edit.fields() if sent.edit else None
        answer = Answer(sent.key, sent.candidate, sent.choice, sent.seconds, sent.reason, edit, sent.final)
        new = self.queue.answer(person.name, answer)
        self._today(person.name, int(new and sent.choice in OUTCOMES))
        return Taken(new=new, progress=self.progress(person))

    def undo(self, person: Reviewer, key: str) -> Undoing:
        undone = self.queue.undo(person.name, key)
        self._today(person.name, -int(undone is not None and undone.new and undone.choice in OUTCOMES))
        with self.store.reading() as session:
            again = items(session, [undone.candidate]) if undone else []
        return Undoing(
            undone=UndoneChoice(candidate=undone.candidate, choice=undone.choice) if undone else None,
            item=again[0] if again else None,
            progress=self.progress(person),
        )

    def image_items(self, person: Reviewer, image: int) -> Items:
        ids = self.queue.of_image(person.name, image)
        with self.store.reading() as session:
            return Items(items=items(session, ids))

    def group(self, person: Reviewer, candidate: int) -> Items:
        ids = group(self.queue, person.name, candidate)
        with self.store.reading() as session:
            return Items(items=items(session, ids))

    def images(
        self, person: Reviewer, mode: Literal["keep", "annotate"], count: int, have: Sequence[int]
    ) -> ItemImages:
        """All go around the same circle of images; who keeps or drops begins at a place of their own."""
        open_images = select(ImageRow.id).where(ImageRow.status == ImageState.KEPT, ImageRow.id.not_in(have))
        if mode == "keep":
            decided = select(DecisionRow.image_id).where(
                DecisionRow.image_id == ImageRow.id, DecisionRow.filter == FILTER
            )
            begin = hashlib.sha256(person.name.encode()).hexdigest()
        else:
            decided = select(DetectionRow.image_id).where(
                DetectionRow.image_id == ImageRow.id, DetectionRow.detector == person.name
            )
            begin = ""
        query = open_images.where(~decided.exists()).order_by(ImageRow.sha256)
        with self.store.reading() as session:
            found = images(session, query.where(ImageRow.sha256 >= begin).limit(count))
            if len(found) < count and begin:
                found += images(session, query.where(ImageRow.sha256 < begin).limit(count - len(found)))
        return ItemImages(images=found)

    def decide(self, person: Reviewer, image: int, sent: ImageDecisionSent) -> Taken:
        decision = {
            "image_id": image,
            "filter": FILTER,
            "score": None,
            "keep": sent.keep,
            "reason": None if sent.keep else sent.reason or FILTER,
            "message": f"{'kept' if sent.keep else 'dropped'} by {person.name}",
            "command_id": self.queue.command,
        }
        with self.store.writing() as session:
            _need_image(session, image)
            before = session.get(DecisionRow, (image, FILTER))
            new = before is None or (before.keep, before.reason, before.message) != (
                decision["keep"],
                decision["reason"],
                decision["message"],
            )
            decide(session, [decision])
            image_row = session.get_one(ImageRow, image, populate_existing=True)
            self.queue.close_image(session, image, image_row.status == ImageState.DROPPED)
        return Taken(new=new, progress=self.progress(person))

    def annotate(self, person: Reviewer, sent: AnnotationSent) -> KeptAnnotation:
        """What a person found is accepted by that person, so that one verdict stands from the beginning."""
        fields = sent.model_dump(mode="json", exclude={"key", "image"})
        with self.store.writing() as session:
            _need_image(session, sent.image)
            before = session.scalar(select(VerdictRow).where(VerdictRow.key == sent.key))
            if before is not None:
                return KeptAnnotation(candidate=before.candidate_id, new=False)
            number = session.scalar(
                select(func.coalesce(func.max(CandidateRow.number), -1) + 1).where(
                    CandidateRow.image_id == sent.image, CandidateRow.detector == person.name
                )
            )
            row = CandidateRow(
                image_id=sent.image,
                number=number or 0,
                origin=Origin.PERSON,
                detector=person.name,
                command_id=self.queue.command,
                **fields,
            )
            session.add(row)
            session.flush()
            verdict = {
                "key": sent.key,
                "candidate_id": row.id,
                "person": person.name,
                "at": datetime.now(UTC),
                "choice": "accept",
                "command_id": self.queue.command,
            }
            record_verdicts(session, [verdict])
            return KeptAnnotation(candidate=row.id, new=True)

    def take_annotation_back(self, person: Reviewer, sent: AnnotationTakenBack) -> Taken:
        """Nothing is erased: the candidate stays as one that its author dropped, and nobody accepts it any more."""
        with self.store.writing() as session:
            given = session.scalar(select(VerdictRow).where(VerdictRow.key == sent.annotation))
            if given is None or given.person != person.name or given.round or given.choice != "accept":
                raise UsageError("there is no such annotation of yours; load the page again")
            undone = session.scalar(select(VerdictRow.id).where(VerdictRow.undoes == given.id))
            verdict = {
                "key": sent.key,
                "candidate_id": given.candidate_id,
                "person": person.name,
                "at": datetime.now(UTC),
                "choice": "undo",
                "undoes": given.id,
                "command_id": self.queue.command,
            }
            new = undone is None and bool(record_verdicts(session, [verdict]))
            session.get_one(CandidateRow, given.candidate_id).dropped = "taken back"
        return Taken(new=new, progress=self.progress(person))

    def annotated(self, person: Reviewer, sent: AnnotatedSent) -> Taken:
        row = {
            "image_id": sent.image,
            "detector": person.name,
            "status": "ok",
            "record": {},
            "calls": 0,
            "tokens": 0,
            "command_id": self.queue.command,
        }
        with self.store.writing() as session:
            _need_image(session, sent.image)
            new = add_new(session, DetectionRow, [row])
        return Taken(new=bool(new), progress=self.progress(person))

    def progress(self, person: Reviewer, session: Session | None = None) -> PageProgress:
        """Gold items count as all others here: nobody can tell them by a number that stands still."""
        with nullcontext(session) if session else self.store.reading() as reading:
            counts = reading.execute(self._counts, {"person": person.name}).one()
        share = self.estimate() if person.owner else None
        return PageProgress(
            verdicts=counts.verdicts or 0,
            wanted=counts.passes + self._golds,
            mine=counts.mine or 0,
            mine_today=self._today(person.name, 0),
            share=share.share if share else None,
            low=share.low if share else None,
            high=share.high if share else None,
        )

    @cached_property
    def _counts(self) -> Select[int, int | None, int | None]:
        """Passes of the round, verdicts of all, verdicts of `person`."""
        given = select(func.sum(TallyRow.count)).where(TallyRow.round_id == self.queue.round)
        mine = given.where(TallyRow.person == bindparam("person"))
        return select(
            RoundRow.passes, given.scalar_subquery().label("verdicts"), mine.scalar_subquery().label("mine")
        ).where(RoundRow.id == self.queue.round)

    def _today(self, person: str, more: int) -> int:
        """How many verdicts a person has given since midnight, `more` of them just now."""
        with self._lock:
            day, count = self._days.get(person, (_midnight(), 0))
            count = (count if day == _midnight() else 0) + more
            self._days[person] = _midnight(), max(0, count)
            return max(0, count)

    def estimate(self) -> ShareCorrect:
        """The share of correct candidates as it was a few seconds ago; nobody but the first one waits for it."""
        return self._share.value()

    def disputed(self) -> Items:
        query = (
            select(CandidateRow.id)
            .join(ItemRow, ItemRow.candidate_id == CandidateRow.id)
            .where(ItemRow.round_id == self.queue.round, CandidateRow.outcome == Outcome.DISPUTED)
            .order_by(CandidateRow.id)
            .limit(100)
        )
        with self.store.reading() as session:
            return Items(items=items(session, session.scalars(query).all()))

    def opinions(self, candidate: int) -> Opinions:
        undo = aliased(VerdictRow)
        undone = select(undo.id).where(undo.undoes == VerdictRow.id).exists()
        query = select(VerdictRow).where(VerdictRow.candidate_id == candidate, VerdictRow.choice.in_(OUTCOMES), ~undone)
        with self.store.reading() as session:
            last = {verdict.person: verdict for verdict in session.scalars(query.order_by(VerdictRow.id))}
        return Opinions(
            opinions=[
                Opinion(person=v.person, choice=v.choice, reason=v.reason, edit=v.edit, seconds=v.seconds)
                for v in last.values()
            ]
        )

    def report(self) -> OwnerReport:
        """For the owner."""
        return owner_report(self.store, self.queue.round, self.estimate(), self._strata.value(), self.within)


class Lately(Generic[T]):
    """What takes long to make, as it was a short while ago: made again in a thread of its own when it is old.

    It never takes more than a twentieth of a processor.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: tuple[T] | None = None
        self._due = 0.0

    def value(self) -> T:
        """Waits the first time alone."""
        with self._lock:
            if self._made is None:
                self._renew()
            elif time.monotonic() > self._due:
                self._due = float("inf")
                threading.Thread(target=self._renew, daemon=True).start()
            assert self._made is not None
            return self._made[0]

    def _renew(self) -> None:
        begun = time.monotonic()
        try:
            self._made = (self._make(),)
        finally:
            now = time.monotonic()
            self._due = now + max(FRESH, 20 * (now - begun))


def _midnight() -> datetime:
    """The beginning of this day, UTC."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _need_image(session: Session, image: int) -> None:
    if session.get(ImageRow, image) is None:
        raise UsageError(f"there is no image {image}; load the page again")
