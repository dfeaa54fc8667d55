"""A second opinion on explanations: another model's ratings, 1-5, of whether each is true of the image.

The same explanations are shown with other images too: a judge that rates these as high does not look. Try it:

    >>> own = [RatedImage("a", True, True, (5, 4)), RatedImage("b", True, False, (2,)), RatedImage("c", False, True)]
    >>> found = second_opinion("gpt-4o", own, [RatedControl("a", (1, 1))], np.random.default_rng(0))
    >>> found.mean.value, found.right.value, found.wrong.value, found.control.value, found.difference.value
    (3.25, 4.5, 2.0, 1.0, 3.5)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from pydantic import Field

from anomreason.anomaly import Result, Usage
from anomreason.errors import UsageError
from anomreason.stats import RESAMPLES, Correlation, Estimate, correlation, mean

LOWEST, HIGHEST = 1, 5


@dataclass(frozen=True, slots=True)
class RatedImage:
    """The explanations of one image, rated with that image."""

    image: str
    generated: bool
    """The truth: AI image (True) or photograph (False)."""
    right: bool
    """Whether the detector judged the image right."""
    ratings: tuple[int, ...] = ()
    """1 = not true of the image .. 5 = wholly true, one an explanation; empty without explanations, or if it failed."""
    failure: str | None = None
    """Kind; `not reached` where the work was stopped before."""
    left_out: int = 0
    """Explanations beyond those that one request holds."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """By metric, 0..1: how well the explanation agrees with the truth's text."""


@dataclass(frozen=True, slots=True)
class RatedControl:
    """The same explanations, rated with another image."""

    image: str
    """The image whose explanations they are."""
    ratings: tuple[int, ...] = ()
    failure: str | None = None


class SecondOpinion(Result):
    """What another model holds of the explanations. An image counts with the mean rating of its explanations."""

    model: str
    simulated: bool = False
    images: int
    """With explanations to rate."""
    unexplained: int
    """Images that failed or were given no explanation."""
    explanations: int
    """That were rated."""
    left_out: int
    """Explanations beyond those that one request holds."""
    failures: dict[str, int]
    """Images without ratings, by kind; they are in no mean."""
    counts: tuple[int, int, int, int, int]
    """Explanations rated 1, 2, 3, 4 and 5."""
    mean: Estimate
    """1..5. All means have a bootstrap interval over images."""
    right: Estimate
    """Of images that the detector judged right."""
    wrong: Estimate
    """Of the others."""
    fakes: Estimate
    photographs: Estimate
    control: Estimate
    """Of the same explanations shown with other images."""
    control_failures: dict[str, int]
    difference: Estimate
    """Ratings with the own image minus ratings with another one, of the same explanations."""
    agreement: dict[str, Correlation] = Field(default_factory=dict)
    """By metric: Spearman's rank correlation of the mean rating of an image and its explanation score."""
    usage: Usage = Usage()
    """What all ratings used."""

    @property
    def looks(self) -> bool | None:
        """Whether the ratings depend on the image: surely higher with the own one. None where that is not known."""
        ends = self.difference.interval
        return None if ends is None else ends.low > 0


def second_opinion(
    model: str,
    own: Sequence[RatedImage],
    controls: Sequence[RatedControl],
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> SecondOpinion:
    """All numbers of one judge. UsageError for a rating outside 1..5."""
    for image, ratings in [*((o.image, o.ratings) for o in own), *((c.image, c.ratings) for c in controls)]:
        if any(not LOWEST <= rating <= HIGHEST for rating in ratings):
            raise UsageError(f"{image!r} has the ratings {ratings!r}; they must be {LOWEST}..{HIGHEST}")
    rated = [one for one in own if one.failure is None and one.ratings]
    with_other = {c.image: float(np.mean(c.ratings)) for c in controls if c.failure is None and c.ratings}
    of_image = {one.image: float(np.mean(one.ratings)) for one in rated}

    def mean_of(some: Sequence[RatedImage]) -> Estimate:
        return mean([of_image[one.image] for one in some], rng, resamples)

    counted = Counter(r for one in rated for r in one.ratings)
    both = [image for image in with_other if image in of_image]
    return SecondOpinion(
        model=model,
        images=len(rated) + sum(one.failure is not None for one in own),
        unexplained=sum(one.failure is None and not one.ratings for one in own),
        explanations=sum(len(one.ratings) for one in rated),
        left_out=sum(one.left_out for one in own),
        failures=dict(Counter(one.failure for one in own if one.failure is not None)),
        counts=(counted[1], counted[2], counted[3], counted[4], counted[5]),
        mean=mean_of(rated),
        right=mean_of([one for one in rated if one.right]),
        wrong=mean_of([one for one in rated if not one.right]),
        fakes=mean_of([one for one in rated if one.generated]),
        photographs=mean_of([one for one in rated if not one.generated]),
        control=mean(list(with_other.values()), rng, resamples),
        control_failures=dict(Counter(c.failure for c in controls if c.failure is not None)),
        difference=mean([of_image[image] - with_other[image] for image in both], rng, resamples),
        agreement={
            metric: correlation(
                [of_image[one.image] for one in rated if metric in one.scores],
                [one.scores[metric] for one in rated if metric in one.scores],
                rng,
                resamples=resamples,
            )
            for metric in sorted({metric for one in rated for metric in one.scores})
        },
    )
