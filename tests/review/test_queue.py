"""Each candidate goes to as many people as it should; nothing is lost, nothing counts twice, and undo goes back."""

from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select
from tests.dataset.planting import Plan, plant

from anomreason.dataset.store import Store
from anomreason.dataset.tables import CandidateRow, ItemRow, TallyRow, VerdictRow
from anomreason.errors import UsageError
from anomreason.review.queue import LEASE, Answer, Queue
from anomreason.review.rounds import RoundOptions, begin_round

START = datetime(2026, 1, 1, tzinfo=UTC)


PLAIN = RoundOptions()


def begin(store: Store, images: int = 10, options: RoundOptions = PLAIN) -> Queue:
    """A round over three candidates an image."""
    plant(store, Plan({"flux": images}))
    with store.command("review", {}) as command:
        return Queue(store, begin_round(store, command.id, options), command.id)


def say(candidate: int, choice: str = "accept", key: str | None = None) -> Answer:
    return Answer(key or f"{candidate}-{choice}", candidate, choice, seconds=2.0)  # type: ignore[arg-type]


def outcome(queue: Queue, candidate: int) -> str:
    with queue.store.reading() as session:
        return session.get_one(CandidateRow, candidate).outcome


def test_every_item_is_judged_once_and_two_people_never_get_the_same(store: Store) -> None:
    queue = begin(store)
    held: dict[str, list[int]] = {p: queue.next(p, 3) for p in ("ada", "ben", "cleo")}
    assert len({c for items in held.values() for c in items}) == 9
    judged: list[int] = []
    while any(held.values()):
        for person, items in held.items():
            if items:
                queue.answer(person, say(items[0]))
                judged.append(items.pop(0))
            items += queue.next(person, 3 - len(items), have=items)
    assert sorted(judged) == sorted(set(judged))
    assert len(judged) == 30
    progress = queue.progress()
    assert (progress.verdicts, progress.wanted) == (30, 30)
    assert progress.share_correct.share == progress.share_correct.low == 1


def test_a_page_that_is_loaded_again_gets_what_it_held(store: Store) -> None:
    queue = begin(store)
    held = queue.next("ada", 3)
    assert queue.next("ada", 3) == held
    assert not set(queue.next("ada", 2, have=held)) & set(held)


def test_what_somebody_left_open_goes_to_others_after_a_while(store: Store) -> None:
    queue = begin(store, images=1)
    held = queue.next("ada", 3, now=START)
    assert queue.next("ben", 3, now=START + LEASE / 2) == []
    assert queue.next("ben", 3, now=START + LEASE + timedelta(seconds=1)) == held
    assert queue.next("ada", 3, now=START + LEASE + timedelta(seconds=2)) == []
    assert queue.answer("ada", say(held[0])), "a late verdict is kept all the same"
    assert outcome(queue, held[0]) == "accepted"


def test_a_verdict_that_is_sent_again_changes_nothing(store: Store) -> None:
    queue = begin(store)
    (candidate,) = queue.next("ada", 1)
    assert queue.answer("ada", say(candidate, "accept", "k"))
    assert not queue.answer("ada", say(candidate, "accept", "k"))
    assert queue.progress().verdicts == 1


def test_a_changed_mind_counts_once_and_is_kept(store: Store) -> None:
    queue = begin(store)
    (candidate,) = queue.next("ada", 1)
    queue.answer("ada", say(candidate, "accept"))
    queue.answer("ada", say(candidate, "reject"))
    assert outcome(queue, candidate) == "rejected"
    assert queue.progress().verdicts == 1
    with store.reading() as session:
        assert session.scalars(select(VerdictRow.choice).order_by(VerdictRow.id)).all() == ["accept", "reject"]
        tallies = session.execute(select(TallyRow.choice, TallyRow.count).order_by(TallyRow.choice)).all()
    assert tallies == [("accept", 0), ("reject", 1)]


def test_undo_goes_back_to_any_depth_and_gives_the_items_again(store: Store) -> None:
    queue = begin(store)
    items = queue.next("ada", 5)
    for candidate in items:
        queue.answer("ada", say(candidate))
    again = Queue(store, queue.round, queue.command)  # as after a restart
    undone = [again.undo("ada", f"u{n}") for n in range(5)]
    assert [u.candidate for u in undone if u] == items[::-1]
    assert again.undo("ada", "u9") is None
    assert again.undo("ada", "u4") == undone[4], "sent again, it undoes nothing more"
    assert again.progress().verdicts == 0
    assert {outcome(queue, c) for c in items} == {"unverified"}
    assert again.next("ada", 5) == items
    with store.reading() as session:
        assert session.scalar(select(func.count()).select_from(VerdictRow)) == 10, "the history is kept"


def test_undo_of_a_changed_mind_brings_the_first_verdict_back(store: Store) -> None:
    queue = begin(store)
    (candidate,) = queue.next("ada", 1)
    queue.answer("ada", say(candidate, "accept"))
    queue.answer("ada", say(candidate, "reject"))
    queue.undo("ada", "u")
    assert outcome(queue, candidate) == "accepted"
    assert queue.progress().verdicts == 1


def test_two_people_judge_the_overlap_without_getting_an_item_twice(store: Store) -> None:
    queue = begin(store, images=20, options=RoundOptions(overlap=0.5))
    judged: dict[str, list[int]] = defaultdict(list)
    for person in ("ada", "ben"):
        while items := queue.next(person, 4):
            for candidate in items:
                queue.answer(person, say(candidate, key=f"{person}{candidate}"))
                judged[person].append(candidate)
    times = Counter(c for items in judged.values() for c in items)
    assert max(Counter(judged["ada"]).values()) == max(Counter(judged["ben"]).values()) == 1
    assert len(times) == 60
    assert 15 < sum(n == 2 for n in times.values()) < 45
    progress = queue.progress()
    assert progress.verdicts == progress.wanted == sum(times.values())


def test_undo_of_a_first_verdict_leaves_the_second_one(store: Store) -> None:
    queue = begin(store, images=1, options=RoundOptions(overlap=1.0))
    candidate = queue.next("ada", 1)[0]
    queue.answer("ada", say(candidate, key="a"))
    assert candidate in queue.next("ben", 3)
    queue.answer("ben", say(candidate, "reject", key="b"))
    assert outcome(queue, candidate) == "disputed"
    queue.undo("ada", "u")
    assert outcome(queue, candidate) == "rejected"
    with store.reading() as session:
        item = session.get_one(ItemRow, (queue.round, candidate))
        assert (item.needed, item.done, item.first_person) == (1, False, "ben")


def test_many_people_at_once_lose_nothing_and_share_nothing(store: Store) -> None:
    queue = begin(store, images=40, options=RoundOptions(overlap=0.2))

    def work(person: str) -> list[int]:
        mine: list[int] = []
        while items := queue.next(person, 3):
            for candidate in items:
                queue.answer(person, say(candidate, key=f"{person}{candidate}"))
            mine += items
        return mine

    people = [f"person{n}" for n in range(4)]
    judged: dict[str, list[int]] = {person: [] for person in people}
    with ThreadPoolExecutor(4) as pool:
        # Who found nothing may have come while another had the last items in hand, of which some need a second person.
        while any(turn := list(pool.map(work, people))):
            for person, items in zip(people, turn, strict=True):
                judged[person] += items
    times = Counter(c for items in judged.values() for c in items)
    with store.reading() as session:
        passes = dict(session.execute(select(ItemRow.candidate_id, ItemRow.passes)).all())
        assert session.scalar(select(func.count()).select_from(VerdictRow)) == sum(passes.values())
    assert times == passes


def test_gold_items_test_people_and_do_not_enter_the_estimate(store: Store) -> None:
    plant(store, Plan({"flux": 20}, verdicts=True))
    with store.writing() as session:
        for candidate in session.scalars(select(CandidateRow).where(CandidateRow.id % 2 == 0)):
            candidate.outcome = "unverified"
    with store.command("review", {}) as command:
        queue = Queue(store, begin_round(store, command.id, RoundOptions(gold=5)), command.id)
    items = queue.next("ada", 20)
    with store.reading() as session:
        gold = dict(session.execute(select(ItemRow.candidate_id, ItemRow.gold).where(ItemRow.gold.is_not(None))).all())
    assert len(gold) == 5
    assert set(gold.values()) <= {"accept", "reject"}
    assert any(c in gold for c in items), "mixed in from the beginning"
    for candidate in items:
        queue.answer("ada", say(candidate))
    assert queue.progress().verdicts == sum(c not in gold for c in items)
    assert queue.progress().wanted == 30


def test_a_round_goes_on_under_its_name_and_refuses_other_options(store: Store) -> None:
    queue = begin(store)
    with store.command("review", {}) as command:
        assert begin_round(store, command.id, RoundOptions()) == queue.round
        with pytest.raises(UsageError, match="was begun with other options"):
            begin_round(store, command.id, RoundOptions(overlap=0.5))


def test_nothing_to_judge_is_told(store: Store) -> None:
    with store.command("review", {}) as command, pytest.raises(UsageError, match="find some with anomreason dataset"):
        begin_round(store, command.id)


def test_a_candidate_of_no_round_is_refused(store: Store) -> None:
    queue = begin(store)
    with pytest.raises(UsageError, match="candidate 999999 is not in this round; load the page again"):
        queue.answer("ada", say(999999))


def test_the_estimate_of_a_round_by_worth_holds_the_truth(sqlite_store: Store) -> None:
    queue = begin(sqlite_store, images=200, options=RoundOptions(random_share=0.5))
    truth = {c: "accept" if c % 3 else "reject" for c in range(1, 601)}
    for _ in range(10):
        for candidate in queue.next("ada", 20):
            queue.answer("ada", say(candidate, truth[candidate]))
    estimate = queue.progress().share_correct
    assert estimate.judged == 200
    assert estimate.low < 2 / 3 < estimate.high
    assert estimate.half_width < 0.12
