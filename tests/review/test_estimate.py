"""The estimate of how many candidates are correct is unbiased under any order, and its interval holds the truth."""

import numpy as np
import pytest

from anomreason.review.estimate import FEWEST_AT_RANDOM, Judged, share_correct, verdicts_needed


def review(rng: np.random.Generator, size: int, until: int, random_share: float) -> tuple[float, Judged, Judged]:
    """A simulated review by worth of candidates whose truth is known: true share, known stratum, sample.

    The worth of a candidate tells much about whether it is correct, as the score of a check does."""
    worth = rng.normal(size=size)
    correct = rng.random(size) < 1 / (1 + np.exp(-(0.8 + 1.5 * worth)))
    by_worth = np.argsort(worth)  # the doubtful ones first: much worse than the rest
    rank = np.empty(size, int)
    rank[by_worth] = np.arange(size)
    shuffled = rng.permutation(size)
    taken = np.zeros(size, bool)
    by_worth_places, random_places = iter(range(size)), iter(shuffled)
    last = -1
    for random in rng.random(until) < random_share:
        if random:
            taken[next(place for place in random_places if not taken[place])] = True
        else:
            last = next(n for n in by_worth_places if not taken[by_worth[n]])
            taken[by_worth[last]] = True
    inside = rank <= last
    known = taken & inside
    sample = taken & ~inside
    return (
        float(correct.mean()),
        Judged(int(known.sum()), int(correct[known].sum()), int(inside.sum())),
        Judged(int(sample.sum()), int(correct[sample].sum()), int((~inside).sum())),
    )


def test_the_interval_holds_the_truth_as_often_as_it_says_in_1000_reviews_by_worth() -> None:
    held, errors = 0, []
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        truth, known, sample = review(rng, size=3000, until=600, random_share=0.4)
        estimate = share_correct(known, sample)
        held += estimate.low <= truth <= estimate.high
        assert estimate.share is not None
        errors.append(estimate.share - truth)
    assert 930 <= held <= 970
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(1000), "no bias"


def test_the_plain_share_of_what_was_judged_is_biased_by_an_order_by_worth() -> None:
    truth, known, sample = review(np.random.default_rng(0), size=3000, until=600, random_share=0.4)
    plain = (known.correct + sample.correct) / (known.judged + sample.judged)
    assert plain < truth - 0.1


def test_a_round_that_is_judged_to_its_end_is_known_exactly() -> None:
    estimate = share_correct(Judged(10, 4, 10), Judged(30, 26, 30))
    assert (estimate.share, estimate.low, estimate.high) == (0.75, 0.75, 0.75)
    assert verdicts_needed(estimate, 0.02, 0.2) == 0


@pytest.mark.parametrize(
    ("known", "sample"),
    [
        (Judged(0, 0, 0), Judged(0, 0, 0)),
        (Judged(5, 5, 5), Judged(0, 0, 95)),
        (Judged(7, 5, 7), Judged(3, 3, 43)),
        (Judged(0, 0, 0), Judged(FEWEST_AT_RANDOM - 1, 9, 95)),
        (Judged(0, 0, 5), Judged(20, 20, 95)),
        (Judged(2, 2, 2), Judged(5, 5, 6)),
    ],
)
def test_without_enough_random_draws_there_is_no_estimate(known: Judged, sample: Judged) -> None:
    estimate = share_correct(known, sample)
    assert (estimate.share, estimate.low, estimate.high) == (None, 0, 1)


def test_ten_random_draws_are_enough_for_an_estimate_and_so_are_all_of_fewer() -> None:
    ten = share_correct(Judged(10, 5, 10), Judged(FEWEST_AT_RANDOM, 8, 90))
    assert ten.share == pytest.approx(0.1 * 0.5 + 0.9 * 0.8)
    assert share_correct(Judged(2, 1, 2), Judged(6, 6, 6)).share == pytest.approx(7 / 8)


def test_nobody_is_promised_certainty_after_few_verdicts() -> None:
    estimate = share_correct(Judged(0, 0, 0), Judged(10, 10, 10_000))
    assert estimate.share == 1
    assert estimate.low < 0.75


def test_the_promised_number_of_verdicts_brings_the_interval_where_it_should_be() -> None:
    estimate = share_correct(Judged(0, 0, 0), Judged(100, 70, 20_000))
    more = verdicts_needed(estimate, 0.03, random_share=1.0)
    after = share_correct(Judged(0, 0, 0), Judged(100 + more, round((100 + more) * 0.7), 20_000))
    assert after.half_width == pytest.approx(0.03, abs=0.001)
    assert verdicts_needed(after, 0.031, 1.0) == 0
    assert verdicts_needed(share_correct(Judged(0, 0, 0), Judged(0, 0, 50)), 0.02, 1.0) in (49, 50)
