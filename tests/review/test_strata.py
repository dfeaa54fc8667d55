"""The share of correct candidates is estimated for each source, detector, kind and role, as unbiased as for all."""

import numpy as np
import pytest
from sqlalchemy import select
from tests.dataset.planting import Plan, plant

from anomreason.dataset.store import Store
from anomreason.dataset.tables import CandidateRow
from anomreason.review.estimate import FEWEST_AT_RANDOM, Judged, share_correct
from anomreason.review.queue import Answer, Queue
from anomreason.review.rounds import RoundOptions, begin_round
from anomreason.review.strata import DIMENSIONS, Strata


def begin(store: Store, options: RoundOptions, images: int = 60) -> Queue:
    """A round over three candidates an image; two thirds of the images are of flux."""
    plant(store, Plan({"flux": images * 2 // 3, "sdxl": images // 3}))
    with store.writing() as session:
        for candidate in session.scalars(select(CandidateRow)):
            candidate.score = float(candidate.id * 37 % 101)
    with store.command("review", {}) as command:
        return Queue(store, begin_round(store, command.id, options), command.id)


def judge(queue: Queue, count: int) -> dict[int, str]:
    """Some candidates, in order; of the kind anatomy one of two is correct, of the others all."""
    given: dict[int, str] = {}
    with queue.store.reading() as session:
        kinds = dict(session.execute(select(CandidateRow.id, CandidateRow.kind)).all())
    while len(given) < count and (items := queue.next("ada", min(20, count - len(given)))):
        for candidate in items:
            given[candidate] = "reject" if kinds[candidate] == "anatomy" and candidate % 2 else "accept"
            queue.answer("ada", Answer(str(candidate), candidate, given[candidate]))  # type: ignore[arg-type]
    return given


def test_the_parts_of_a_round_add_up_to_it_and_few_verdicts_are_no_share(store: Store) -> None:
    queue = begin(store, RoundOptions(random_share=0.5))
    strata = Strata(queue)
    judge(queue, 30)
    shares = strata.shares()
    whole = queue.progress().share_correct
    assert list(shares) == list(DIMENSIONS)
    for parts in shares.values():
        assert sum(part.size for part in parts.values()) == whole.size == 180
        assert sum(part.judged for part in parts.values()) == whole.judged == 30
    assert shares["detector"]["reader lean"] == whole, "the only detector is the whole round"
    few = [part for part in shares["kind"].values() if part.share is None]
    assert few
    assert all(part.judged < 30 for part in few)
    assert whole.share is not None


def test_the_shares_follow_the_verdicts_and_are_exact_in_the_end(store: Store) -> None:
    queue = begin(store, RoundOptions(random_share=0.5))
    strata = Strata(queue)
    judge(queue, 120)
    kinds = strata.shares()["kind"]
    assert kinds["physics"].share == kinds["lettering"].share == 1
    assert kinds["anatomy"].low < 0.5 < kinds["anatomy"].high
    assert kinds["anatomy"].half_width > 0
    judge(queue, 180)
    kinds = strata.shares()["kind"]
    assert {name: (part.share, part.half_width) for name, part in kinds.items()} == {
        "anatomy": (0.5, 0),
        "physics": (1, 0),
        "lettering": (1, 0),
    }
    assert strata.shares()["source"]["flux"].size == 120


def test_the_candidates_of_a_dropped_image_leave_their_parts(store: Store) -> None:
    queue = begin(store, RoundOptions())
    strata = Strata(queue)
    assert strata.shares()["kind"]["anatomy"].size == 60
    with store.writing() as session:
        queue.close_image(session, 1, True)
    shares = strata.shares()
    assert shares["kind"]["anatomy"].size == 59
    assert shares["source"]["flux"].size == 117


def test_the_interval_of_a_part_holds_its_truth_in_1000_reviews_by_worth() -> None:
    """Three parts whose candidates differ in worth and in how many are correct."""
    held, shown = 0, 0
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        size, until = 3000, 600
        part = rng.integers(0, 3, size)
        worth = rng.normal(size=size) + part
        correct = rng.random(size) < 1 / (1 + np.exp(-(0.5 + 0.7 * worth)))
        rank = np.empty(size, int)
        rank[np.argsort(worth)] = np.arange(size)
        known = rank < until // 2
        rest = rng.permutation(np.flatnonzero(~known))[: until // 2]
        sample = np.isin(np.arange(size), rest)
        for name in range(3):
            of = part == name
            estimate = share_correct(
                Judged(int((known & of).sum()), int(correct[known & of].sum()), int((known & of).sum())),
                Judged(int((sample & of).sum()), int(correct[sample & of].sum()), int((~known & of).sum())),
            )
            if (sample & of).sum() < FEWEST_AT_RANDOM:
                assert estimate.share is None
                continue
            shown += 1
            held += estimate.low <= correct[of].mean() <= estimate.high
    assert shown > 2900
    assert held / shown == pytest.approx(0.95, abs=0.02)
