"""Leak check: how well a single property of the file tells AI images from photographs.

If all fakes are PNG files, or all of one size, a detector can score well without looking at the image, and its score
means little. Each property gets its best rule, learnt on some images and tested on others. Try it:

    >>> files = [FileFacts(str(n), n < 20, "png" if n < 20 else "jpeg", 9, 64, 64) for n in range(40)]
    >>> leak = leaks(files, np.random.default_rng(0))[0]
    >>> leak.fact, leak.balanced_accuracy.value, leak.rule
    ('file type', 1.0, 'AI image when the file type is png')
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anomreason.errors import UsageError
from anomreason.metrics.deepfake import Flags, balanced, by_kind
from anomreason.stats import RESAMPLES, Estimate, Floats, estimate

FOLDS = 5


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Properties of one file that need no look at its pixels; None when unknown."""

    image: str
    generated: bool
    """The truth: AI image (True) or photograph (False)."""
    file_type: str | None = None
    size: int | None = None
    """Bytes."""
    width: int | None = None
    """Pixels."""
    height: int | None = None


@dataclass(frozen=True, slots=True)
class Leak:
    """Balanced accuracy of the best rule on one property alone."""

    fact: str
    balanced_accuracy: Estimate
    """0.5 by guessing. On images that the rule was not learnt on, if `cross_validated`; n counts images."""
    cross_validated: bool
    """False with a single AI image or photograph: the rule is then tested where it was learnt, and overrated."""
    rule: str
    """The best rule on all these images."""
    unknown: int
    """Images left out because the property is unknown."""


@dataclass(frozen=True, slots=True)
class _Rule:
    text: str
    predicts: Callable[[npt.NDArray[np.generic]], Flags]


Learn = Callable[[npt.NDArray[np.generic], Floats], _Rule]


def leaks(files: Sequence[FileFacts], rng: np.random.Generator, resamples: int = RESAMPLES) -> list[Leak]:
    """Leaks by file type, bytes, pixels and aspect (width / height), the largest first.

    A rule on file types predicts AI image for those more frequent among AI images; a rule on numbers does so within
    one range, or outside it. AI images and photographs have equal total weight. A property that is unknown for all AI
    images, or for all photographs, has no value and no rule. As the best of four, the first is slightly too high on
    few images. UsageError without AI images or without photographs.
    """
    fakes = sum(f.generated for f in files)
    if not 0 < fakes < len(files):
        raise UsageError(f"{fakes} of {len(files)} files are AI images; pass both AI images and photographs")
    facts: dict[str, tuple[list[object], Learn]] = {
        "file type": ([f.file_type for f in files], _types),
        "bytes": ([f.size for f in files], _range_of("size in bytes")),
        "pixels": ([_both(f, lambda w, h: w * h) for f in files], _range_of("number of pixels")),
        "aspect": ([_both(f, lambda w, h: w / h) for f in files], _range_of("width / height")),
    }
    found = [_leak(name, files, values, learn, rng, resamples) for name, (values, learn) in facts.items()]
    return sorted(found, key=lambda leak: -1.0 if (value := leak.balanced_accuracy.value) is None else value)[::-1]


def _both(file: FileFacts, of: Callable[[int, int], float]) -> float | None:
    return of(file.width, file.height) if file.width and file.height else None


def _leak(
    fact: str,
    files: Sequence[FileFacts],
    values: Sequence[object],
    learn: Learn,
    rng: np.random.Generator,
    resamples: int,
) -> Leak:
    known = [n for n, value in enumerate(values) if value is not None]
    fake = np.array([files[n].generated for n in known], dtype=np.bool_)
    column = np.array([values[n] for n in known])
    unknown = len(files) - len(known)
    fewest = int(min(fake.sum(), (~fake).sum()))
    if not fewest:
        return Leak(fact, Estimate(None, None, len(known)), False, "", unknown)
    rule = learn(column, _weights(fake))
    predicted = _held_out(column, fake, learn, rng, fewest) if fewest > 1 else rule.predicts(column)
    measured = estimate(by_kind(fake, predicted == fake), balanced, rng, resamples=resamples)
    return Leak(fact, measured, fewest > 1, rule.text, unknown)


def _held_out(
    column: npt.NDArray[np.generic], fake: Flags, learn: Learn, rng: np.random.Generator, fewest: int
) -> Flags:
    """(files,): prediction for each file by a rule learnt without it, in stratified folds."""
    folds = min(FOLDS, fewest)
    fold = np.empty(len(fake), dtype=np.int64)
    for kind in (fake, ~fake):
        fold[kind] = rng.permutation(np.arange(kind.sum()) % folds)
    predicted = np.zeros(len(fake), dtype=np.bool_)
    for held in range(folds):
        learnt = fold != held
        predicted[~learnt] = learn(column[learnt], _weights(fake[learnt])).predicts(column[~learnt])
    return predicted


def _weights(fake: Flags) -> Floats:
    """Positive for AI images, negative for photographs, each summing to 1: sums are recall - (1 - specificity)."""
    weights: Floats = fake / fake.sum() - ~fake / (~fake).sum()
    return weights


def _types(column: npt.NDArray[np.generic], weights: Floats) -> _Rule:
    names, place = np.unique(column, return_inverse=True)
    # A type equally frequent among both must not count as a sign of either because of rounding.
    fakes = names[np.bincount(place, weights) > 1e-9]
    return _Rule(
        f"AI image when the file type is {' or '.join(map(str, fakes)) or 'none of these'}",
        lambda tried: np.isin(tried, fakes),
    )


def _range_of(what: str) -> Learn:
    def learn(column: npt.NDArray[np.generic], weights: Floats) -> _Rule:
        low, high, inside = _best_range(column.astype(np.float64), weights)
        text = _range_text(low, high)
        rule = f"AI image when the {what} is {text}" if inside else f"AI image unless the {what} is {text}"
        return _Rule(rule, lambda tried: ((tried >= low) & (tried <= high)) == inside)  # type: ignore[operator]

    return learn


def _best_range(values: Floats, weights: Floats) -> tuple[float, float, bool]:
    """The range of largest weight (low, high, True) or of smallest (low, high, False), whichever is farther from 0.

    Its ends lie half way to the next value outside it, or at infinity when there is none.
    """
    levels, place = np.unique(values, return_inverse=True)
    sums = np.concatenate([[0.0], np.cumsum(np.bincount(place, weights))])
    ends = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
    most, least = _steepest(sums), _steepest(-sums)
    inside = sums[most[1]] - sums[most[0]] >= sums[least[0]] - sums[least[1]] - 1e-12
    start, stop = most if inside else least
    return float(ends[start]), float(ends[stop]), bool(inside)


def _steepest(sums: Floats) -> tuple[int, int]:
    """Places i < j with the greatest sums[j] - sums[i]."""
    lowest = np.minimum.accumulate(sums[:-1])
    stop = int(np.argmax(sums[1:] - lowest)) + 1
    return int(np.argmin(sums[:stop])), stop


def _range_text(low: float, high: float) -> str:
    if np.isinf(low):
        return "anything" if np.isinf(high) else f"at most {high:.6g}"
    return f"at least {low:.6g}" if np.isinf(high) else f"from {low:.6g} to {high:.6g}"
