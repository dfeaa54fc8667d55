"""How many verdicts it takes until the share of correct candidates is known to +-2 %: by worth, or at random.

    python benchmarks/review_stop.py [--reviews 1000] [--sizes 3000 20000] [--within 0.02]

Reviews are simulated over candidates whose truth is known. The order is that of a round, and so is the estimate; the
worth of a candidate tells much about whether it is correct. The share saved is of the verdicts in a random order.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np

from anomreason.review.estimate import Judged, ShareCorrect, share_correct
from anomreason.review.rounds import RoundOptions, order_of


def estimate(
    ranks: np.ndarray, order: np.ndarray, random: np.ndarray, correct: np.ndarray, judged: int
) -> ShareCorrect:
    """What is known after the first verdicts."""
    places, drawn = order[:judged], random[:judged]
    last = int(ranks[places[~drawn]].max(initial=-1))
    known = ranks[places] <= last
    right = correct[places]
    return share_correct(
        Judged(int(known.sum()), int(right[known].sum()), last + 1),
        Judged(int((~known).sum()), int(right[~known].sum()), len(ranks) - last - 1),
    )


def verdicts_until(within: float, size: int, options: RoundOptions, seed: int) -> tuple[int, bool]:
    """Verdicts of one review until the interval is narrow enough, and whether it then holds the truth."""
    rng = np.random.default_rng(seed)
    worth = rng.normal(size=size)
    correct = rng.random(size) < 1 / (1 + np.exp(-(0.8 - 1.5 * worth)))
    ranks, order, random = (np.array(part) for part in order_of(worth, options, rng))
    after = partial(estimate, ranks, order, random, correct)
    low, high = 0, size
    while high - low > 1:  # the width falls with each verdict but for noise
        middle = (low + high) // 2
        found = after(middle)
        low, high = (low, middle) if found.share is not None and found.half_width <= within else (middle, high)
    found = after(high)
    return high, bool(found.low <= correct.mean() <= found.high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reviews", type=int, default=1000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[3_000, 20_000])
    parser.add_argument("--within", type=float, default=0.02)
    arguments = parser.parse_args()
    for size in arguments.sizes:
        usual = 0.0
        for name, options in (
            ("random", RoundOptions(order="random")),
            ("worth, 30 % at random", RoundOptions(random_share=0.3)),
            ("worth, 60 % at random", RoundOptions(random_share=0.6)),
        ):
            found = [verdicts_until(arguments.within, size, options, seed) for seed in range(arguments.reviews)]
            median = float(np.median([judged for judged, _ in found]))
            usual = usual or median
            low, high = np.percentile([judged for judged, _ in found], [5, 95])
            held = np.mean([holds for _, holds in found])
            print(
                f"{size:8,} candidates, {name:22}: {median:8,.0f} verdicts ({low:,.0f} to {high:,.0f}), "
                f"saved {1 - median / usual:+.0%}; the interval held the truth in {held:.1%} of {len(found):,}",
                flush=True,
            )


if __name__ == "__main__":
    main()
