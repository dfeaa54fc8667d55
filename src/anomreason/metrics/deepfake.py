"""Telling AI images from photographs, with reasons: who was judged right, and how well that was explained (Eq. 15-16).

Knows nothing of texts: how well an image was explained comes in as a number. An image that was not answered (failed,
or the detector abstained) counts as judged wrong, and is counted by itself beside that. No share of right answers
stands alone: a detector that calls everything an AI image is right on every fake. Try it:

    >>> said = [Judged("a", True, True), Judged("b", True, False), Judged("c", False, False), Judged("d", False, None)]
    >>> scores = deepfake(said, np.random.default_rng(0))
    >>> scores.accuracy.value, scores.fake_recall.value, scores.real_specificity.value, scores.abstained
    (0.5, 0.5, 0.5, 1)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anomreason.anomaly import Detection
from anomreason.errors import UsageError
from anomreason.stats import RESAMPLES, Estimate, Floats, divided, estimate, interval_of, mean, means, ratio

Flags = npt.NDArray[np.bool_]
EXPLAINED = (
    "A photograph that was judged right scores its description against the truth's, and 0 without one; where the truth "
    "has none, it scores 1 if no anomaly was claimed in it and 0 if one was."
)
"""What CSemAP and CSemF1 over all images take for the explanation of a photograph; to be printed beside them."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known of one image, and what the detector said of it."""

    image: str
    generated: bool
    """The truth: AI image (True) or photograph (False)."""
    judged: bool | None
    """The detector's judgement, in the same sense; None when it abstained or failed."""
    p_generated: float | None = None
    """The detector's score, higher = more likely an AI image; any scale. None when it gave none."""
    claimed: int = 0
    """Anomalies that it claimed."""
    failure: str | None = None
    """Kind of failure; a failed image counts as judged wrong, whatever `judged` is."""
    source: str = ""
    """Where the image is from, e.g. a generator or a photo collection."""

    @property
    def right(self) -> bool:
        return self.failure is None and self.judged is self.generated


@dataclass(frozen=True, slots=True)
class Explained:
    """CSemAP or CSemF1 in one view: the explanation's score where the image was judged right, 0 elsewhere."""

    release: Estimate
    """Over fakes only, which is what the paper's Table 2 evidently averages."""
    over_all: Estimate
    """Over all images; see EXPLAINED for what a photograph scores."""
    described: int
    """Photographs that were scored by their description, since the truth has one."""
    by_claims: int
    """Photographs that were scored by whether an anomaly was claimed in them."""


@dataclass(frozen=True, slots=True)
class SourceScores:
    """The fakes, or the photographs, of one source."""

    source: str
    generated: bool
    n: int
    failures: dict[str, int]
    abstained: int
    right: Estimate
    """Share judged right: recall of fakes, specificity of photographs."""
    claimed: Estimate
    """Anomalies an answered image; in photographs they are false."""
    explained: dict[str, Estimate]
    """Per name of explanation, over all images of this row."""


@dataclass(frozen=True, slots=True)
class DeepfakeScores:
    """One detector on images of both kinds. What was not answered counts as wrong in all but `auroc`."""

    n: int
    fakes: int
    photographs: int
    failures: dict[str, int]
    """By kind."""
    abstained: int
    """Answered, but without a judgement."""
    accuracy: Estimate
    constant_accuracy: float
    """What always giving the more frequent answer would get."""
    fake_recall: Estimate
    real_specificity: Estimate
    balanced_accuracy: Estimate
    """Mean of recall and specificity: 0.5 by guessing, whatever the mixture."""
    auroc: Estimate
    """Chance that a fake has a higher score than a photograph, ties half; n counts the images with a score."""
    false_anomalies: Estimate
    """Anomalies claimed in a photograph, mean over the photographs that did not fail."""
    photographs_with_anomalies: Estimate
    """Share of these photographs in which any was claimed."""
    explained: dict[str, Explained]
    sources: tuple[SourceScores, ...]

    @property
    def unparsable(self) -> int:
        """Images whose reply could not be read; among the failures."""
        return self.failures.get("unparsable", 0)


def judged(detection: Detection, generated: bool, source: str = "") -> Judged:
    """What a detection says of an image that is known to be an AI image (True) or a photograph (False)."""
    return Judged(
        image=detection.image,
        generated=generated,
        judged=detection.generated,
        p_generated=detection.p_generated,
        claimed=len(detection.anomalies),
        failure=detection.failure.kind if detection.failure else None,
        source=source,
    )


def deepfake(
    images: Sequence[Judged],
    rng: np.random.Generator,
    explanations: Mapping[str, Sequence[float | None]] | None = None,
    resamples: int = RESAMPLES,
) -> DeepfakeScores:
    """Every number of the table, with its interval by bootstrap over images.

    explanations: name, e.g. "semap_full" -> one score 0..1 an image, in the order of `images`: of its anomalies
    against the true ones, or of a photograph's description against the true one (0 where the detector gave none); None
    where the truth has no text (photographs) or a fake was not answered. UsageError for no images, an image that stands
    twice, an anomaly count below 0, a score that is not finite, explanations outside 0..1, and a fake that was judged
    right and has none.
    """
    _check(images)
    given = explanations or {}
    credits = {name: _explanation(name, images, scores) for name, scores in given.items()}
    fake, right, claimed = np.array([(i.generated, i.right, i.claimed) for i in images]).T
    fake, right = fake.astype(np.bool_), right.astype(np.bool_)
    every, seen = np.ones(len(images)), np.array([not i.generated and i.failure is None for i in images])
    measured = means(
        {
            "accuracy": (right, every),
            "fake_recall": (right, fake),
            "real_specificity": (right, ~fake),
            "false_anomalies": (claimed, seen),
            "photographs_with_anomalies": (claimed > 0, seen),
        },
        rng,
        resamples,
    )
    fakes = int(fake.sum())
    return DeepfakeScores(
        n=len(images),
        fakes=fakes,
        photographs=len(images) - fakes,
        failures=_failures(images),
        abstained=_abstained(images),
        constant_accuracy=max(fakes, len(images) - fakes) / len(images),
        balanced_accuracy=estimate(by_kind(fake, right), balanced, rng, resamples=resamples),
        auroc=_auroc(images, rng, resamples),
        explained=_explained(images, fake, given, credits, rng, resamples),
        sources=tuple(_sources(images, credits, rng, resamples)),
        **measured,
    )


def by_kind(fake: Flags, right: Flags) -> Floats:
    """(images, 4): right among the fakes, fake, right among the photographs, photograph."""
    return np.column_stack([right & fake, fake, right & ~fake, ~fake]).astype(np.float64)


def balanced(sums: Floats) -> Floats:
    """Sums of `by_kind` (..., 4) -> mean of the two shares right; NaN when a kind is missing."""
    return (ratio(sums[..., :2]) + ratio(sums[..., 2:])) / 2


def _check(images: Sequence[Judged]) -> None:
    if not images:
        raise UsageError("there are no images to score; give the detector's results and which images are AI images")
    if doubles := [name for name, times in Counter(i.image for i in images).items() if times > 1]:
        raise UsageError(f"images that stand twice: {doubles[:5]!r}; pass each image once")
    for image in images:
        if image.claimed < 0:
            raise UsageError(f"{image.image!r} has {image.claimed} claimed anomalies; the number cannot be negative")
        if image.p_generated is not None and not np.isfinite(image.p_generated):
            raise UsageError(f"{image.image!r} has the score {image.p_generated!r}; give a finite number, or None")


def _explanation(name: str, images: Sequence[Judged], given: Sequence[float | None]) -> Floats:
    """(images,): Eq. 15-16 before the mean."""
    if len(given) != len(images):
        raise UsageError(f"{len(given)} explanations {name!r} for {len(images)} images; give one an image, or None")
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


def _abstained(images: Sequence[Judged]) -> int:
    return sum(i.failure is None and i.judged is None for i in images)


def _auroc(images: Sequence[Judged], rng: np.random.Generator, resamples: int) -> Estimate:
    """Mann-Whitney U over the number of pairs; the resamples draw images, as elsewhere."""
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
    return Estimate(value, interval_of(drawn), len(cell))


def _auroc_of(cell: npt.NDArray[np.intp], levels: int) -> float:
    """cell: (images,) level of the score x 2 + (1 for a fake); NaN when a kind is missing."""
    photographs, fakes = np.bincount(cell, minlength=2 * levels).reshape(levels, 2).T
    below = np.cumsum(photographs) - photographs / 2
    pairs = np.float64(fakes.sum()) * photographs.sum()
    return float(divided(np.asarray((fakes * below).sum()), pairs))


def _explained(
    images: Sequence[Judged],
    fake: Flags,
    given: Mapping[str, Sequence[float | None]],
    credits: Mapping[str, Floats],
    rng: np.random.Generator,
    resamples: int,
) -> dict[str, Explained]:
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
        name: Explained(
            measured[f"release {name}"], measured[f"over_all {name}"], described[name], photographs - described[name]
        )
        for name in credits
    }


def _sources(
    images: Sequence[Judged], credits: Mapping[str, Floats], rng: np.random.Generator, resamples: int
) -> Iterator[SourceScores]:
    rows: dict[tuple[bool, str], list[int]] = {}
    for n, image in enumerate(images):
        rows.setdefault((not image.generated, image.source), []).append(n)
    for (photographs, source), places in sorted(rows.items()):
        mine, every = [images[n] for n in places], np.ones(len(places))
        seen = [i.failure is None for i in mine]
        yield SourceScores(
            source=source,
            generated=not photographs,
            n=len(mine),
            failures=_failures(mine),
            abstained=_abstained(mine),
            right=mean([i.right for i in mine], rng, resamples),
            claimed=means({"": ([i.claimed for i in mine], seen)}, rng, resamples)[""],
            explained=means({k: (v[places], every) for k, v in credits.items()}, rng, resamples) if credits else {},
        )


def _failures(images: Sequence[Judged]) -> dict[str, int]:
    return dict(Counter(i.failure for i in images if i.failure))
