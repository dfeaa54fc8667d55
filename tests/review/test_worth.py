"""People get those candidates first whose verdict tells most."""

import numpy as np
import pytest
from sqlalchemy import select
from tests.dataset.planting import Plan, plant

from anomreason.dataset.store import Store, add_new
from anomreason.dataset.tables import CandidateRow, DetectionRow, ItemRow
from anomreason.review.rounds import RoundOptions, begin_round
from anomreason.review.worth import disagreements, doubts_by_likeness, worths


def test_the_doubtful_and_the_new_come_first() -> None:
    worth = worths(np.array([50.0, 95.0, np.nan, 95.0]), ["hand", "hand", "hand", "text"])
    assert worth.argmax() == 0
    assert worth[3] > worth[1], "the first of its kind"


def test_detectors_disagree_where_another_one_looked_and_proposes_nothing_of_the_kind() -> None:
    candidates = [(1, "lean", "hand"), (1, "lean", "text"), (2, "lean", "hand"), (3, "lean", "hand")]
    proposals = {
        (1, "hand"): {"lean", "full"},
        (1, "text"): {"lean"},
        (2, "hand"): {"lean"},
        (3, "hand"): {"lean", "full"},
    }
    looked = {1: {"lean", "full"}, 3: {"lean", "full", "direct"}}
    assert disagreements(candidates, proposals, looked).tolist() == [0, 1, 0, 0.5]


def test_a_name_somewhat_like_a_rejected_one_of_its_kind_is_worth_more_than_an_equal_or_another_one() -> None:
    rejected = [("hand", "Hand with six fingers"), ("hand", "Thumb bent backwards")]
    names = [
        ("hand", "hand with six fingers"),
        ("hand", "hand with six long fingers"),
        ("hand", "missing ear"),
        ("text", "hand with six long fingers"),
        ("hand", ""),
    ]
    equal, near, other, other_kind, nothing = doubts_by_likeness(names, rejected).tolist()
    assert near == pytest.approx(1 - (0.75 - 0.6) / 0.4)
    assert equal == other == other_kind == nothing == 0


def test_a_round_puts_what_one_detector_alone_proposes_and_what_is_like_a_rejected_one_first(store: Store) -> None:
    plant(store, Plan({"flux": 20}))
    with store.command("review", {}) as command:
        with store.writing() as session:
            detection = {"detector": "full", "status": "ok", "record": {}, "calls": 1, "tokens": 1}
            looked = [{"image_id": image, "command_id": command.id, **detection} for image in (5, 6, 7)]
            looked[2]["record"] = {"out_of_domain": True}  # it does not know such images
            add_new(session, DetectionRow, looked)
            candidates = session.scalars(select(CandidateRow).order_by(CandidateRow.id)).all()
            for candidate in candidates:
                candidate.kind, candidate.name = "anatomy", f"Unlike {candidate.id}"
            candidates[-1].outcome, candidates[-1].name = "rejected", "Hand with six fingers"
            candidates[-2].name = "Hand with six long fingers"
            (agreed,) = (c for c in candidates if c.image_id == 6 and c.number == 0)
            agreed.kind = "physics"
            fields = ("phenomenon", "reasoning", "severity", "origin", "step")
            copied = {field: getattr(agreed, field) for field in fields}
            twin = CandidateRow(
                image_id=6, number=0, name="x", kind="physics", detector="full", command_id=command.id, **copied
            )
            session.add(twin)
            near, alone = candidates[-2].id, [c.id for c in candidates if c.image_id == 5]
        round_id = begin_round(store, command.id, RoundOptions(detector="reader lean", random_share=0.0))
    with store.reading() as session:
        order = session.scalars(
            select(ItemRow.candidate_id).where(ItemRow.round_id == round_id).order_by(ItemRow.position)
        ).all()
    assert len(order) == 59
    first = order[:9]
    assert {near, *alone} <= set(first)
    assert not set(order[:6]) & {c.id for c in candidates if c.image_id == 7}
