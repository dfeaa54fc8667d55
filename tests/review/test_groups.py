"""Nearly identical candidates come at once, and each still gets a verdict of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from tests.dataset.planting import Plan, plant
from tests.review.visiting import visits

from anomreason.anomaly import Region
from anomreason.dataset.store import Store
from anomreason.dataset.tables import CandidateRow, VerdictRow
from anomreason.review.alike import Text, like, overlap, words
from anomreason.review.groups import MOST, group
from anomreason.review.queue import Answer, Queue
from anomreason.review.rounds import RoundOptions, begin_round

HERE, BESIDE = Region(x0=0.1, y0=0.1, x1=0.3, y1=0.3), Region(x0=0.2, y0=0.2, x1=0.4, y1=0.4)
ELSEWHERE = Region(x0=0.7, y0=0.7, x1=0.9, y1=0.9)


def text(candidate: int, said: str, image: int = 0, kind: str = "hand", region: Region | None = HERE) -> Text:
    return Text(candidate, image or candidate, kind, words(said), region)


def test_case_order_plurals_and_small_words_make_no_difference() -> None:
    assert words("A Hand, with six FINGERS.") == words("six-finger hand") == {"hand", "six", "finger"}
    assert overlap(words("six fingers"), words("seven fingers")) == pytest.approx(1 / 3)
    assert overlap(words("the"), words("of")) == 0


@given(st.text(), st.text())
def test_overlap_is_a_share_and_symmetric(one: str, other: str) -> None:
    assert 0 <= overlap(words(one), words(other)) == overlap(words(other), words(one)) <= 1
    assert not words(one) or overlap(words(one), words(one)) == 1


def test_those_of_the_same_kind_and_nearly_the_same_words_are_alike_the_nearest_first() -> None:
    one = text(1, "hand with six long fingers")
    others = [
        text(2, "hand with six thin fingers"),
        text(3, "six long fingers on a hand"),
        text(4, "clock without a dial"),
        text(5, "hand with six long fingers", kind="anatomy"),
    ]
    assert like(one, [one, *others], most=12) == [3, 2]
    assert like(one, others, most=1) == [3]


def test_on_one_image_only_overlapping_places_are_alike() -> None:
    one = text(1, "six fingers", image=9)
    others = [
        text(2, "six fingers", image=9, region=BESIDE),
        text(3, "six fingers", image=9, region=ELSEWHERE),
        text(4, "six fingers", image=9, region=None),
        text(5, "six fingers", image=8, region=ELSEWHERE),
    ]
    assert like(one, others, most=12) == [2, 5]


def begin(store: Store, images: int, options: RoundOptions) -> Queue:
    plant(store, Plan({"flux": images}))
    with store.command("review", {}) as command:
        return Queue(store, begin_round(store, command.id, options), command.id)


def test_a_group_is_held_by_one_person_and_of_one_size_at_most(store: Store) -> None:
    queue = begin(store, images=20, options=RoundOptions())
    (first,) = queue.next("ada", 1)
    mine = group(queue, "ada", first)
    assert mine[0] == first
    assert len(mine) == len(set(mine)) == MOST
    with store.reading() as session:
        names = set(session.scalars(select(CandidateRow.name).where(CandidateRow.id.in_(mine))))
        images = set(session.scalars(select(CandidateRow.image_id).where(CandidateRow.id.in_(mine))))
    assert len(names) == 1
    assert len(images) == MOST, "of different images"
    assert group(queue, "ada", first)[0] == first, "asked for again, it is still hers"
    assert group(queue, "ben", first) == []
    (other,) = queue.next("ben", 1)
    assert other not in mine
    assert not set(group(queue, "ben", other)) & set(mine)


def test_who_has_judged_a_candidate_does_not_get_it_again_in_a_group(store: Store) -> None:
    queue = begin(store, images=3, options=RoundOptions(overlap=1.0))
    (first,) = queue.next("ada", 1)
    mine = group(queue, "ada", first)
    for candidate in mine:
        queue.answer("ada", Answer(f"a{candidate}", candidate, "accept"))
    assert group(queue, "ada", first) == []
    assert group(queue, "ada", 10_000) == []
    theirs = group(queue, "ben", first)
    assert set(theirs) == set(mine), "the second pass of each"


def test_each_of_a_group_gets_a_verdict_and_undo_takes_them_back(store: Store) -> None:
    with visits(store, ["ada"], images=4) as visit:
        ada = visit["ada"]
        first = ada.get("/api/next?count=1")["items"][0]
        items = ada.get(f"/api/group/{first['candidate']}")["items"]
        assert len(items) == 4
        assert items[0] == first
        for item in items:
            ada.judge(item["candidate"], "reject")
        assert ada.get(f"/api/group/{first['candidate']}")["items"] == []
        with store.reading() as session:
            keys = session.scalars(select(VerdictRow.key)).all()
        assert len(set(keys)) == 4
        undone = [ada.post("/api/undo", key=f"undo-number-{n}")["item"]["candidate"] for n in range(4)]
        assert undone == [item["candidate"] for item in items[::-1]]
        assert ada.get(f"/api/group/{undone[-1]}")["items"][0]["candidate"] == undone[-1]


def test_what_is_judged_ahead_of_its_place_leaves_the_estimate_as_it_is(store: Store) -> None:
    queue = begin(store, images=60, options=RoundOptions(random_share=0.5))
    for candidate in queue.next("ada", 20) + queue.next("ben", 20):
        for person in ("ada", "ben"):
            queue.answer(person, Answer(f"{person}{candidate}", candidate, "accept"))
    before = queue.progress().share_correct
    assert before.judged == 40
    (anchor,) = queue.next("ada", 1)
    for candidate in group(queue, "ada", anchor)[1:]:
        queue.answer("ada", Answer(f"g{candidate}", candidate, "reject"))
    after = queue.progress().share_correct
    assert (after.share, after.low, after.high) == (before.share, before.low, before.high)
    while items := queue.next("ada", 20):
        for candidate in items:
            queue.answer("ada", Answer(f"r{candidate}", candidate, "accept"))
    end = queue.progress().share_correct
    assert end.judged == end.size == 180
    assert end.share == end.low == pytest.approx(1 - 11 / 180)
