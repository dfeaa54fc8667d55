"""Facts about choosing: k of them, no one twice, quotas met where they can be, far from one another."""

from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomreason.audit.prompts.choosing import choose, quotas

Floats = npt.NDArray[np.float32]


def unit(vectors: npt.NDArray[np.float64]) -> Floats:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def clustered(rng: np.random.Generator, sizes: list[int]) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Texts around so many centres, and the number of each one's centre."""
    centres = unit(rng.normal(size=(len(sizes), 64)))
    which = np.repeat(np.arange(len(sizes)), sizes)
    return unit(centres[which] + rng.normal(size=(len(which), 64)) * 0.05), which


@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.sets(st.sampled_from("abcde"), max_size=3), min_size=1, max_size=50),
    st.integers(1, 60),
    st.one_of(st.none(), st.integers(0, 5)),
)
def test_any_choice_has_k_different_texts_and_meets_the_quotas_that_can_be_met(
    seed: int, tags: list[set[str]], k: int, each: int | None
) -> None:
    rng = np.random.default_rng(seed)
    vectors = unit(rng.normal(size=(len(tags), 8)))
    wanted = quotas(tags, k, each)
    choice = choose(vectors, tags, k, wanted, rng)
    assert len(set(choice.places)) == len(choice.places) == min(k, len(tags))
    if each is None and k >= len(wanted):
        there, taken = Counter(t for some in tags for t in some), Counter(t for p in choice.places for t in tags[p])
        assert all(taken[tag] >= min(number, there[tag]) for tag, number in wanted.items())
    chosen = vectors[list(choice.places)]
    for place, nearest in enumerate(choice.nearest):
        others = chosen[[p != place for p in choice.places]] @ vectors[place]
        assert nearest == pytest.approx(others.max(initial=-np.inf), abs=1e-5)


def test_the_same_seed_gives_the_same_choice_and_another_begins_elsewhere() -> None:
    vectors, _ = clustered(np.random.default_rng(0), [5] * 20)
    tags: list[set[str]] = [set()] * len(vectors)
    first, same, other = (choose(vectors, tags, 20, {}, np.random.default_rng(seed)).places for seed in (1, 1, 2))
    assert first == same
    assert first[0] != other[0]


def test_it_covers_all_clusters_where_a_random_choice_leaves_many_out() -> None:
    rng = np.random.default_rng(7)
    vectors, which = clustered(rng, [200, 100, 50, *[4] * 27])  # 30 clusters, three of them hold most texts
    chosen = choose(vectors, [()] * len(which), 30, {}, rng).places
    random = [len(set(which[rng.choice(len(which), 30, replace=False)])) for _ in range(200)]
    assert len(set(which[list(chosen)])) == 30
    assert np.mean(random) < 13


def test_a_quota_is_met_by_the_most_diverse_texts_of_its_tag() -> None:
    rng = np.random.default_rng(3)
    vectors, which = clustered(rng, [40, *[10] * 9])
    tags = [{"rare"} if cluster in (7, 8, 9) else {"usual"} for cluster in which]
    chosen = choose(vectors, tags, 12, {"rare": 6, "usual": 6}, rng).places
    assert Counter(tag for place in chosen for tag in tags[place]) == {"rare": 6, "usual": 6}
    assert {7, 8, 9} <= set(which[list(chosen)])


def test_shares_of_k_are_equal_and_listed_tags_count_though_none_has_them() -> None:
    assert quotas([{"a"}, {"a", "b"}], 10, None) == {"a": 5, "b": 5}
    assert quotas([{"a"}], 10, None, ["b", "c"]) == {"b": 3, "c": 3, "a": 3}
    assert quotas([{"a"}], 10, 7) == {"a": 7}
    assert quotas([{"a"}, {"b"}, {"c"}], 2, None) == {"a": 1, "b": 1, "c": 1}
    assert quotas([set()], 10, None) == {}
