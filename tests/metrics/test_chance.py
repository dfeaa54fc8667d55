"""Chance is what the same predictions get on other images: nobody keeps the own one, and every deal is as likely."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomreason.metrics.chance import ChanceScorer, chunks, derangement
from anomreason.metrics.semantic import SemanticScorer, SemanticSettings


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(st.integers(0, 60).filter(lambda n: n != 1), st.integers(0, 99))
def test_a_derangement_deals_everything_and_leaves_nothing_in_its_place(n: int, seed: int) -> None:
    dealt = derangement(n, rng(seed))
    assert sorted(dealt) == list(range(n))
    assert not np.any(dealt == np.arange(n))
    assert np.array_equal(dealt, derangement(n, rng(seed)))


def test_each_of_the_nine_derangements_of_four_is_as_likely() -> None:
    source = rng()
    counts = Counter(tuple(derangement(4, source)) for _ in range(9000))
    assert len(counts) == 9
    assert all(abs(count - 1000) < 130 for count in counts.values()), "more than four standard deviations off"


def test_one_item_cannot_be_dealt_out_anew() -> None:
    with pytest.raises(ValueError, match="chunks"):
        derangement(1, rng())


@pytest.mark.parametrize(
    ("n", "sizes"), [(0, []), (1, []), (2, [2]), (199, [199]), (399, [399]), (400, [200, 200]), (650, [200, 200, 250])]
)
def test_chunks_hold_at_least_two_hundred_images_where_there_are_so_many(n: int, sizes: list[int]) -> None:
    found = chunks(n)
    assert [len(chunk) for chunk in found] == sizes
    assert [place for chunk in found for place in chunk] == (list(range(n)) if n > 1 else [])


class World:
    """Images whose predictions are like their own truths and less like any other's."""

    def __init__(self, count: int, own: float = 0.95, other: float = 0.75) -> None:
        self.count, self.own, self.other = count, own, other
        self.scorer = SemanticScorer()
        for number in range(count):
            self.scorer.add(f"{number:03}", *self.across(number, number), severities=[10.0, 20.0])

    def across(self, i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
        table = np.full((2, 2), self.other)
        if i == j:
            np.fill_diagonal(table, self.own)
        return table, table

    def chance(self, seed: int = 0, repeats: int = 20) -> ChanceScorer:
        made, source = ChanceScorer(self.scorer.settings, repeats), rng(seed)
        for chunk in chunks(self.count):
            made.add([[0, 1]] * len(chunk), self.across, made.deals(len(chunk), source))
        return made


def test_chance_is_below_identity_and_known_exactly_when_all_others_are_alike() -> None:
    world = World(410)
    figures = world.scorer.result(rng(), world.chance().totals).profiles["paper"]["full"]
    assert figures.semap == 1
    assert figures.chance is not None
    assert figures.chance.repeats == 20
    assert (figures.chance.semap, *figures.chance.band.semap) == pytest.approx(
        (1 / 3, 1 / 3, 1 / 3)
    )  # reaches 0.7, not 0.8 and 0.9
    assert figures.chance.micro_f1 == pytest.approx(1 / 3)
    assert [figures.chance.thresholds[t].ap.mean for t in (0.7, 0.8, 0.9)] == [1, 0, 0]


def test_two_images_swap_their_truths() -> None:
    asked: list[tuple[int, int]] = []

    def across(i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
        asked.append((i, j))
        table = np.full((1, 2), 0.85 if i == 0 else 0.1)
        return table, table

    made = ChanceScorer(SemanticSettings(thresholds=(0.8,)), repeats=3)
    made.add([[0], [0]], across, made.deals(2, rng()))
    assert sorted(asked) == [(0, 1)] * 3 + [(1, 0)] * 3
    scorer = SemanticScorer(SemanticSettings(thresholds=(0.8,)))
    for name in "ab":
        scorer.add(name, np.full((1, 2), 0.9), np.full((1, 2), 0.9), [50.0])
    chance = scorer.result(rng(), made.totals).profiles["paper"]["phe"].chance
    assert chance is not None
    assert chance.semap == pytest.approx((1 / 2 + 0) / 2)
    assert chance.micro_recall == pytest.approx(1 / 4)


def test_predictions_keep_their_own_order_on_other_truths() -> None:
    """Image 0 is surest of the one prediction that is like a truth; in the order of image 1 it would come last."""
    table = np.array([[0.9], [0.1]])
    made = ChanceScorer(SemanticSettings(profiles=("paper",)), repeats=1)
    made.add([[0, 1], [1, 0]], lambda i, j: (table, table) if i == 0 else (0 * table, 0 * table), made.deals(2, rng()))
    assert made.totals[0].overall((0, 0)).semap == pytest.approx((1 + 0) / 2)


def test_failed_images_lower_chance_as_they_lower_the_score() -> None:
    world = World(10)
    world.scorer.add_failure("x", "refused", truths=4)
    view = world.scorer.result(rng(), world.chance().totals).profiles["paper"]["phe"]
    assert view.dropped is not None
    assert view.chance is not None
    assert view.dropped.chance is not None
    assert view.dropped.chance.semap == pytest.approx(1 / 3)
    assert view.chance.semap == pytest.approx(1 / 3 * 10 / 11)
    assert view.chance.micro_recall == pytest.approx(1 / 3 * 20 / 24)


def test_one_image_has_no_chance() -> None:
    world = World(1)
    assert world.scorer.result(rng(), world.chance().totals).profiles["paper"]["phe"].chance is None


def test_the_same_seed_shuffles_the_same_and_shuffles_differ() -> None:
    source = rng(3)
    tables = source.uniform(0.5, 1.0, (30, 30, 2, 3, 3))

    def totals(seed: int) -> list[float]:
        made = ChanceScorer(SemanticSettings())
        made.add([[0, 1, 2]] * 30, lambda i, j: (tables[i, j, 0], tables[i, j, 1]), made.deals(30, rng(seed)))
        return [one.overall((0, 0)).semap for one in made.totals]

    assert totals(1) == totals(1) != totals(2)
    assert len(set(totals(1))) > 10


def test_chance_over_other_images_than_were_answered_is_a_mistake() -> None:
    world = World(5)
    world.scorer.add("late", *world.across(0, 0), severities=[1, 2])
    with pytest.raises(ValueError, match="over 5 images, but 6"):
        world.scorer.result(rng(), world.chance().totals)
