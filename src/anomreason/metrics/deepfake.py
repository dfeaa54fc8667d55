"""Scores for telling AI images from photographs, with reasons: accuracy, AUROC, CSemAP and CSemF1 (Eq. 15-16).

An image without a judgement (failed, or the detector abstained) counts as judged wrong, and is also counted separately.
No accuracy is reported alone: a detector that calls every image an AI image is right on every fake. How well an image
was explained is passed in as a number. Try it:

    >>> answers = [("a", True, True), ("b", True, False), ("c", False, False), ("d", False, None)]
    >>> scores = deepfake([Judgement(*answer) for answer in answers], np.random.default_rng(0))
    >>> scores.accuracy.value, scores.fake_recall.value, scores.real_specificity.value, scores.abstained
    (0.5, 0.5, 0.5, 1)
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from pydantic import Field, computed_field

from anomreason.anomaly import Result
from anomreason.errors import UsageError
from anomreason.stats import (
    RESAMPLES,
    Estimate,
    Floats,
    Interval,
    divided,
    interval_of,
    mean,
    means,
    ratio,
    share,
    wide,
)

Flags = npt.NDArray[np.bool_]
PHOTOGRAPH_RULE = (
    "A photograph that was judged right scores its description against the truth's, and 0 without one; where the truth "
    "has none, it scores 1 if no anomaly was claimed in it and 0 if one was."
)
"""How CSemAP and CSemF1 over all images score a photograph; to be printed beside them."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """One image: the truth, and what the detector answered."""

    image: str
    generated: bool
    """The truth: AI image (True) or photograph (False)."""
    judged: bool | None
    """The detector's answer, in the same sense; None when it abstained or failed."""
    p_generated: float | None = None
    """The detector's score, higher = more likely an AI image; any scale. None when it gave none."""
    claimed: int = 0
    """Anomalies in the detector's answer."""
    failure: str | None = None
    """Kind of failure; a failed image counts as judged wrong, whatever `judged` is."""
    source: str = ""
    """Origin of the image, e.g. a generator or a photo collection."""
    asked: bool = True
    """Whether the detector was asked; an image without a judgement that was asked for has none by its own will."""
    anomalous: bool | None = None
    """Whether the truth has anomalies of this AI image; None for a photograph, and where nobody searched it."""

    @property
    def right(self) -> bool:
        return self.failure is None and self.judged is self.generated


class ExplanationScores(Result):
    """CSemAP or CSemF1 in one view: the explanation's score where the image was judged right, 0 elsewhere."""

    release: Estimate
    """Over fakes only, which is what the paper's Table 2 evidently averages."""
    over_all: Estimate
    """Over all images; PHOTOGRAPH_RULE says how photographs are scored."""
    described: int
    """Photographs scored by their description, since the truth has one."""
    by_claims: int
    """Photographs scored by whether an anomaly was claimed in them."""


class AnswerCounts(Result):
    """What became of the AI images, or of the photographs; the five add up to their number."""

    generated: int
    """Judged an AI image."""
    photograph: int
    unsure: int
    """Answered, but abstained."""
    not_asked: int
    """Answered, without having been asked for the source."""
    failed: int


class CleanScores(Result):
    """AI images in which the truth has no anomaly, and photographs: nothing in them shows what they are by an anomaly.

    A detector that goes by anomalies alone calls all of them photographs.
    """

    clean_fakes: int
    anomalous_fakes: int
    unsearched_fakes: int
    """AI images of which the truth does not say whether there are anomalies."""
    accuracy: Estimate
    """Over clean AI images and photographs. No value without clean AI images."""
    balanced_accuracy: Estimate
    """0.5 by guessing, and by going by anomalies alone."""
    clean_recall: Estimate
    """Clean AI images judged right."""
    anomalous_recall: Estimate
    """AI images with anomalies judged right."""
    false_anomalies: Estimate
    """Anomalies per clean AI image that did not fail: none is true."""


class SourceJudgements(Result):
    """The fakes, or the photographs, of one source."""

    source: str
    generated: bool
    n: int
    failures: dict[str, int]
    abstained: int
    not_asked: int = 0
    right: Estimate
    """Share judged right: recall of fakes, specificity of photographs."""
    claimed: Estimate
    """Anomalies per answered image; in photographs they are false."""


class SourceScores(SourceJudgements):
    """The same, with explanations."""

    explained: dict[str, Estimate]
    """By name of explanation score, over all images of this source."""


class Judgements(Result):
    """One detector on AI images and photographs. Images without a judgement count as wrong in all but `auroc`."""

    n: int
    fakes: int
    photographs: int
    failures: dict[str, int]
    """By kind."""
    abstained: int
    """Answered, and asked for the source, but without a judgement: the detector was unsure."""
    accuracy: Estimate
    constant_accuracy: float
    """Accuracy of always giving the more frequent answer."""
    fake_recall: Estimate
    real_specificity: Estimate
    balanced_accuracy: Estimate
    """Mean of recall and specificity: 0.5 by guessing, whatever the share of fakes."""
    auroc: Estimate
    """Probability that a fake scores higher than a photograph, ties counting half; n counts the images with a score."""
    false_anomalies: Estimate
    """Anomalies per photograph, over the photographs that did not fail."""
    photographs_with_anomalies: Estimate
    """Share of these photographs with at least one."""
    not_asked: int = 0
    """Answered, without having been asked for the source; they are not among `abstained`."""
    answers: dict[str, AnswerCounts] = Field(default_factory=dict)
    """Of `fakes` and of `photographs`."""
    judged_right: Estimate = Estimate(None, None, 0)
    """Share judged right of the images that have a judgement."""
    clean: CleanScores | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def unparsable(self) -> int:
        """Images whose reply could not be parsed; included in `failures`."""
        return self.failures.get("unparsable", 0)


class DeepfakeScores(Judgements):
    """The same, with explanations and by source."""

    explained: dict[str, ExplanationScores]
    """By name of explanation."""
    sources: tuple[SourceScores, ...]


def deepfake(
    images: Sequence[Judgement],
    rng: np.random.Generator,
    explanations: Mapping[str, Sequence[float | None]] | None = None,
    resamples: int = RESAMPLES,
) -> DeepfakeScores:
    """All scores. Intervals: Wilson's for shares, made of two of these for balanced accuracy, else by bootstrap.

    explanations: name, e.g. "semap_full" -> one score 0..1 per image, in the order of `images`: of its anomalies
    against the true ones, or of a photograph's description against the true one (0 where the detector gave none); None
    where the truth has no text (photographs) or a fake was not answered. UsageError for no images, duplicate images, a
    negative number of anomalies, a score that is not finite, explanation scores outside 0..1, and a fake that was
    judged right and has none.
    """
    _check(images)
    given = explanations or {}
    credits = {name: _explanation(name, images, scores) for name, scores in given.items()}
    fake, right, claimed = np.array([(i.generated, i.right, i.claimed) for i in images]).T
    fake, right = fake.astype(np.bool_), right.astype(np.bool_)
    every = np.ones(len(images), dtype=np.bool_)
    answered = np.array([i.failure is None for i in images])
    judged = np.array([i.failure is None and i.judged is not None for i in images])
    fakes = int(fake.sum())
    return DeepfakeScores(
        n=len(images),
        fakes=fakes,
        photographs=len(images) - fakes,
        failures=_failures(images),
        abstained=_abstained(images),
        constant_accuracy=max(fakes, len(images) - fakes) / len(images),
        not_asked=_not_asked(images),
        answers={"fakes": _answers(images, True), "photographs": _answers(images, False)},
        accuracy=_share(right, every),
        judged_right=_share(right, judged),
        fake_recall=_share(right, fake),
        real_specificity=_share(right, ~fake),
        balanced_accuracy=_balanced(right, fake, ~fake),
        clean=_clean(images, right, rng, resamples),
        false_anomalies=_mean_of(claimed, ~fake & answered, rng, resamples),
        photographs_with_anomalies=_share(claimed > 0, ~fake & answered),
        auroc=_auroc(images, rng, resamples),
        explained=_explained(images, fake, given, credits, rng, resamples),
        sources=tuple(_sources(images, credits, rng, resamples)),
    )


def by_kind(fake: Flags, right: Flags) -> Floats:
    """(images, 4) of 0 and 1: fake judged right, fake, photograph judged right, photograph."""
    return np.column_stack([right & fake, fake, right & ~fake, ~fake]).astype(np.float64)


def balanced(sums: Floats) -> Floats:
    """Sums of `by_kind` (..., 4) -> balanced accuracy; NaN without fakes or without photographs."""
    return (ratio(sums[..., :2]) + ratio(sums[..., 2:])) / 2


def _check(images: Sequence[Judgement]) -> None:
    if not images:
        raise UsageError("no images to score; pass the detector's results and which images are AI images")
    if doubles := [name for name, times in Counter(i.image for i in images).items() if times > 1]:
        raise UsageError(f"duplicate images {doubles[:5]!r}: pass each image once")
    for image in images:
        if image.claimed < 0:
            raise UsageError(f"{image.image!r} has {image.claimed} claimed anomalies; the number cannot be negative")
        if image.p_generated is not None and not np.isfinite(image.p_generated):
            raise UsageError(f"{image.image!r} has the score {image.p_generated!r}; give a finite number, or None")


def _explanation(name: str, images: Sequence[Judgement], given: Sequence[float | None]) -> Floats:
    """(images,): the terms of Eq. 15-16, before their mean."""
    if len(given) != len(images):
        raise UsageError(f"{len(given)} scores {name!r} for {len(images)} images; pass one per image, or None")
    credit = np.zeros(len(images))
    for n, (image, score) in enumerate(zip(images, given, strict=True)):
        if score is not None and not 0 <= score <= 1:
            raise UsageError(f"{name!r} of {image.image!r} is {score!r}; it must be within 0..1")
        if not image.right:
            continue
        if score is None and image.generated:
            raise UsageError(f"{image.image!r} is an AI image without {name!r}; leave it out or annotate it")
        credit[n] = float(image.claimed == 0) if score is None else score
    return credit


def _abstained(images: Sequence[Judgement]) -> int:
    return sum(i.failure is None and i.judged is None and i.asked for i in images)


def _not_asked(images: Sequence[Judgement]) -> int:
    return sum(i.failure is None and i.judged is None and not i.asked for i in images)


def _answers(images: Sequence[Judgement], generated: bool) -> AnswerCounts:
    mine = [i for i in images if i.generated is generated]
    return AnswerCounts(
        generated=sum(i.failure is None and i.judged is True for i in mine),
        photograph=sum(i.failure is None and i.judged is False for i in mine),
        unsure=_abstained(mine),
        not_asked=_not_asked(mine),
        failed=sum(i.failure is not None for i in mine),
    )


def _share(hits: Flags, among: Flags) -> Estimate:
    return share(int((hits & among).sum()), int(among.sum()))


def _mean_of(values: npt.ArrayLike, among: Flags, rng: np.random.Generator, resamples: int) -> Estimate:
    found = mean(np.asarray(values, dtype=np.float64)[among], rng, resamples)
    return replace(found, interval=wide(found.interval))


def _balanced(right: Flags, fake: Flags, photograph: Flags) -> Estimate:
    """Mean of the two shares judged right, with an interval made of theirs (Newcombe's way, for a mean)."""
    recall, specificity = _share(right, fake), _share(right, photograph)
    n = recall.n + specificity.n
    if recall.value is None or specificity.value is None:
        return Estimate(None, None, n)
    value = (recall.value + specificity.value) / 2
    if recall.interval is None or specificity.interval is None:
        return Estimate(value, None, n)
    (low, high), (least, most) = recall.interval, specificity.interval
    down = math.hypot(recall.value - low, specificity.value - least) / 2
    up = math.hypot(high - recall.value, most - specificity.value) / 2
    return Estimate(value, Interval(value - down, value + up), n)


def _clean(images: Sequence[Judgement], right: Flags, rng: np.random.Generator, resamples: int) -> CleanScores:
    clean, anomalous = (np.array([i.generated and i.anomalous is w for i in images]) for w in (False, True))
    photograph = np.array([not i.generated for i in images])
    answered = np.array([i.failure is None for i in images])
    some = bool(clean.any())
    n = int((clean | photograph).sum())
    unknown = Estimate(None, None, n)
    return CleanScores(
        clean_fakes=int(clean.sum()),
        anomalous_fakes=int(anomalous.sum()),
        unsearched_fakes=sum(i.generated and i.anomalous is None for i in images),
        accuracy=_share(right, clean | photograph) if some else unknown,
        balanced_accuracy=_balanced(right, clean, photograph) if some else unknown,
        clean_recall=_share(right, clean),
        anomalous_recall=_share(right, anomalous),
        false_anomalies=_mean_of([i.claimed for i in images], clean & answered, rng, resamples),
    )


def _auroc(images: Sequence[Judgement], rng: np.random.Generator, resamples: int) -> Estimate:
    """Mann-Whitney U over the number of pairs, with a bootstrap over images."""
    scored = [(i.p_generated, i.generated) for i in images if i.failure is None and i.p_generated is not None]
    if not scored:
        return Estimate(None, None, 0)
    scores, fake = np.array([s for s, _ in scored], dtype=np.float64), np.array([g for _, g in scored])
    levels, level = np.unique(scores, return_inverse=True)
    cell = level * 2 + fake
    value = _auroc_of(cell, len(levels))
    if np.isnan(value):
        return Estimate(None, None, len(cell))
    drawn = [_auroc_of(cell[rng.integers(0, len(cell), len(cell))], len(levels)) for _ in range(resamples)]
    return Estimate(value, wide(interval_of(drawn)), len(cell))


def _auroc_of(cell: npt.NDArray[np.intp], levels: int) -> float:
    """cell: (images,) level of the score x 2 + (1 for a fake); NaN without fakes or without photographs."""
    photographs, fakes = np.bincount(cell, minlength=2 * levels).reshape(levels, 2).T
    below = np.cumsum(photographs) - photographs / 2
    pairs = np.float64(fakes.sum()) * photographs.sum()
    return float(divided(np.asarray((fakes * below).sum()), pairs))


def _explained(
    images: Sequence[Judgement],
    fake: Flags,
    given: Mapping[str, Sequence[float | None]],
    credits: Mapping[str, Floats],
    rng: np.random.Generator,
    resamples: int,
) -> dict[str, ExplanationScores]:
    if not credits:
        return {}
    parts = {"release": fake, "over_all": np.ones(len(images))}
    measured = means(
        {f"{part} {name}": (credit, among) for part, among in parts.items() for name, credit in credits.items()},
        rng,
        resamples,
    )
    photographs = int((~fake).sum())
    described = {
        name: sum(s is not None and not i.generated for s, i in zip(scores, images, strict=True))
        for name, scores in given.items()
    }
    return {
        name: ExplanationScores(
            release=measured[f"release {name}"],
            over_all=measured[f"over_all {name}"],
            described=described[name],
            by_claims=photographs - described[name],
        )
        for name in credits
    }


def _sources(
    images: Sequence[Judgement], credits: Mapping[str, Floats], rng: np.random.Generator, resamples: int
) -> Iterator[SourceScores]:
    rows: dict[tuple[bool, str], list[int]] = {}
    for n, image in enumerate(images):
        rows.setdefault((not image.generated, image.source), []).append(n)
    for (photographs, source), places in sorted(rows.items()):
        mine, every = [images[n] for n in places], np.ones(len(places))
        answered = [i.failure is None for i in mine]
        yield SourceScores(
            source=source,
            generated=not photographs,
            n=len(mine),
            failures=_failures(mine),
            abstained=_abstained(mine),
            not_asked=_not_asked(mine),
            right=share(sum(i.right for i in mine), len(mine)),
            claimed=means({"": ([i.claimed for i in mine], answered)}, rng, resamples)[""],
            explained=means({k: (v[places], every) for k, v in credits.items()}, rng, resamples) if credits else {},
        )


def _failures(images: Sequence[Judgement]) -> dict[str, int]:
    return dict(Counter(i.failure for i in images if i.failure))
