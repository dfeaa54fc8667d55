"""Claim: all semantic scores of an image, given its similarities, take at most 0.5 ms.

Two profiles, three views, three thresholds, 8 predictions and 6 truths per image; then the results of the whole set,
the chance level, and an image with 10,000 anomalies.

    python benchmarks/matching.py --images 10774
"""

import argparse
import os
import resource
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from anomreason.errors import UsageError
from anomreason.metrics.chance import CHUNK, ChanceScorer
from anomreason.metrics.image_scores import SemanticSettings, score_image
from anomreason.metrics.matching import rank
from anomreason.metrics.semantic import SemanticScorer, compare

Floats = npt.NDArray[np.float64]


class Image(NamedTuple):
    name: str
    phe: Floats
    rea: Floats
    severities: list[int]


def similarities(rng: np.random.Generator, predictions: int, truths: int) -> tuple[Floats, Floats]:
    """Values around all three thresholds, so that no matching is empty or trivial."""
    return rng.uniform(0.6, 1.0, (predictions, truths)), rng.uniform(0.6, 1.0, (predictions, truths))


def image(name: str, rng: np.random.Generator) -> Image:
    return Image(name, *similarities(rng, 8, 6), rng.integers(0, 101, 8).tolist())


def timed(what: str, work: Callable[[], object], images: int = 0) -> None:
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    print(f"{what}: {seconds:.2f} s" + (f", {1000 * seconds / images:.3f} ms per image" if images else ""))


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def crowded(predictions: int, truths: int) -> None:
    """All pairs equally similar: none can be excluded early, and every choice is a tie."""
    phe = rea = np.broadcast_to(0.95, (predictions, truths))
    try:
        timed(
            f"an image of {predictions:,} predictions and {truths:,} truths",
            lambda: score_image(phe, rea, rank([50.0] * predictions), SemanticSettings()),
        )
    except UsageError as error:
        print(f"refused: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_774)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    images = [image(f"{number:06}", rng) for number in range(given.images)]
    blocks = []
    scorer, other = SemanticScorer(), SemanticScorer()
    for start in range(0, len(images), CHUNK):
        block = images[start : start + CHUNK]
        began = time.perf_counter()
        for one in block:
            scorer.add(*one)
        blocks.append(1000 * (time.perf_counter() - began) / len(block))
    print(f"{given.images} images, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"ms per image: {median(blocks):.3f} (median), {min(blocks):.3f} to {max(blocks):.3f} over blocks of {CHUNK}")
    for each in images:
        other.add(*image(each.name, rng))
    timed("figures with intervals", lambda: scorer.result(rng))
    timed("compared with another", lambda: compare(scorer, other, rng))
    shuffled = images[:CHUNK]
    chance = ChanceScorer(scorer.settings)
    timed(
        "chance, 20 shuffles",
        lambda: chance.add(
            [scorer.order(i.severities) for i in shuffled],
            lambda i, j: shuffled[j][1:3],
            chance.deals(len(shuffled), rng),
        ),
        images=len(shuffled),
    )
    print(f"peak memory {peak():.0f} MB, similarities included")
    crowded(10_000, 6)
    crowded(10_000, 100)
    crowded(10_000, 10_000)
    print(f"peak memory {peak():.0f} MB")


if __name__ == "__main__":
    main()
