"""Leak check: how well properties of the file, one by one or together, tell AI images from photographs.

If all fakes are PNG files, or all of one size, a detector can score well without looking at the image, and its score
means little. Each property gets its best rule, learnt on some images and tested on others; all together get a logistic
regression. Try it:

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
from anomreason.stats import RESAMPLES, Estimate, Floats, divided, estimate

FOLDS = 5
Ints = npt.NDArray[np.int64]


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
class Fact:
    """One property of all files."""

    name: str
    values: Sequence[str | float | None]
    """Words, or numbers; None where unknown."""
    phrase: str = ""
    """What a rule calls it; the name when empty."""


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
class JointLeak:
    """How well all properties together tell them apart, on images that the regression was not learnt on."""

    accuracy: Estimate
    base_rate: float
    """Accuracy of always answering with the more frequent of the two."""
    balanced_accuracy: Estimate
    """0.5 by guessing. Learnt and counted with AI images and photographs of equal total weight."""
    auc: Estimate
    """Chance that an AI image gets a higher score than a photograph; 0.5 by guessing."""


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
    facts = [
        Fact("file type", [f.file_type for f in files]),
        Fact("bytes", [f.size for f in files], "size in bytes"),
        Fact("pixels", [_both(f, lambda w, h: w * h) for f in files], "number of pixels"),
        Fact("aspect", [_both(f, lambda w, h: w / h) for f in files], "width / height"),
    ]
    return fact_leaks(facts, np.array([f.generated for f in files]), rng, resamples=resamples)


def fact_leaks(
    facts: Sequence[Fact],
    fake: Flags,
    rng: np.random.Generator,
    groups: Ints | None = None,
    resamples: int = RESAMPLES,
) -> list[Leak]:
    """As `leaks`, for any properties.

    fake: (images,), with both. groups: (images,), from 0: images of one group are held out together, and the interval
    is a bootstrap over groups; None: each image is its own.
    """
    groups = np.arange(len(fake)) if groups is None else groups
    found = [_leak(fact, fake, groups, rng, resamples) for fact in facts]
    return sorted(found, key=lambda leak: -1.0 if (value := leak.balanced_accuracy.value) is None else value)[::-1]


def joint_leak(
    facts: Sequence[Fact],
    fake: Flags,
    rng: np.random.Generator,
    groups: Ints | None = None,
    resamples: int = RESAMPLES,
) -> JointLeak | None:
    """All properties together, as `fact_leaks`; what is unknown counts as a property too.

    None when AI images or photographs are of a single group, so that nothing can be held out.
    """
    groups = np.arange(len(fake)) if groups is None else groups
    fold = _fold_numbers(fake, groups, rng)
    if fold is None:
        return None
    scores, ranks = np.empty(len(fake)), np.empty(len(fake))
    for held in range(fold.max() + 1):
        learnt = fold != held
        levels = np.hstack([_levels(fact, learnt) for fact in facts])
        scores[~learnt] = of_fold = levels[~learnt] @ _logistic(levels[learnt], fake[learnt])
        ranks[~learnt] = _shares_below(of_fold)
    right = by_kind(fake, (scores >= 0) == fake)
    columns = np.zeros((len(fake), 2, _CELLS))
    columns[np.arange(len(fake)), fake.astype(np.int64), (ranks * _CELLS).astype(np.int64)] = 1
    n = len(fake)
    return JointLeak(
        accuracy=estimate(_by_group(right, groups), _accuracy, rng, n, resamples),
        base_rate=float(max(fake.mean(), 1 - fake.mean())),
        balanced_accuracy=estimate(_by_group(right, groups), balanced, rng, n, resamples),
        auc=estimate(_by_group(columns.reshape(n, -1), groups), _auc, rng, n, resamples),
    )


def _both(file: FileFacts, of: Callable[[int, int], float]) -> float | None:
    return of(file.width, file.height) if file.width and file.height else None


def _leak(fact: Fact, fake: Flags, groups: Ints, rng: np.random.Generator, resamples: int) -> Leak:
    known = np.array([value is not None for value in fact.values], dtype=np.bool_)
    fake, groups = fake[known], groups[known]
    column = np.array([value for value in fact.values if value is not None])
    unknown = len(known) - len(column)
    if not 0 < fake.sum() < len(fake):
        return Leak(fact.name, Estimate(None, None, len(column)), False, "", unknown)
    phrase = fact.phrase or fact.name
    learn = _words(phrase) if column.dtype.kind == "U" else _range_of(phrase)
    rule = learn(column, _weights(fake))
    fold = _fold_numbers(fake, groups, rng)
    predicted = rule.predicts(column)
    if fold is not None:
        for held in range(fold.max() + 1):
            learnt = fold != held
            predicted[~learnt] = learn(column[learnt], _weights(fake[learnt])).predicts(column[~learnt])
    sums = _by_group(by_kind(fake, predicted == fake), groups)
    measured = estimate(sums, balanced, rng, len(column), resamples)
    return Leak(fact.name, measured, fold is not None, rule.text, unknown)


def _fold_numbers(fake: Flags, groups: Ints, rng: np.random.Generator) -> Ints | None:
    """(images,): a fold for each image, whole groups together, AI images and photographs in each.

    None when one of the two has a single group.
    """
    _, place = np.unique(groups, return_inverse=True)
    holds = np.zeros((2, place.max() + 1), dtype=np.bool_)  # photographs, AI images
    holds[fake.astype(np.int64), place] = True
    folds = min(FOLDS, *holds.sum(axis=1).tolist())
    if folds < 2:
        return None
    # Photographs, both, AI images: groups with either stand in a row, so that dealing spreads them over the folds.
    order = rng.permutation(holds.shape[1])
    order = order[np.argsort(holds[1, order].astype(np.int64) - holds[0, order], kind="stable")]
    fold = np.empty(len(order), dtype=np.int64)
    fold[order] = np.arange(len(order)) % folds
    found: Ints = fold[place]
    return found


def _by_group(table: Floats, groups: Ints) -> Floats:
    """(groups, k): the rows of each group added up."""
    _, place = np.unique(groups, return_inverse=True)
    sums = np.zeros((place.max() + 1, table.shape[1]))
    np.add.at(sums, place, table)
    return sums


def _weights(fake: Flags) -> Floats:
    """Positive for AI images, negative for photographs, each summing to 1: sums are recall - (1 - specificity)."""
    weights: Floats = fake / fake.sum() - ~fake / (~fake).sum()
    return weights


NO_RULE = "none: both kinds are alike in the"
"""Begins the text of a rule that takes all images for the same."""


def _words(what: str) -> Learn:
    def learn(column: npt.NDArray[np.generic], weights: Floats) -> _Rule:
        names, place = np.unique(column, return_inverse=True)
        # A word equally frequent among both must not count as a sign of either because of rounding.
        fakes = names[np.bincount(place, weights) > 1e-9]
        text = f"AI image when the {what} is {' or '.join(map(str, fakes))}" if len(fakes) else f"{NO_RULE} {what}"
        return _Rule(
            text,
            lambda tried: np.isin(tried, fakes),
        )

    return learn


def _range_of(what: str) -> Learn:
    def learn(column: npt.NDArray[np.generic], weights: Floats) -> _Rule:
        low, high, inside = _best_range(column.astype(np.float64), weights)
        if np.isinf(low) and np.isinf(high):
            return _Rule(f"{NO_RULE} {what}", lambda tried: np.full(len(tried), inside))
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
        return f"at most {high:.6g}"
    return f"at least {low:.6g}" if np.isinf(high) else f"from {low:.6g} to {high:.6g}"


_FREQUENT = 0.02
"""Share of the images from which on a value is a level of its own, e.g. a width of 1024."""
_BINS = 8
"""Ranges of the other numbers."""
_RIDGE = 5.0
_CELLS = 64
"""Ranges of ranks by which the AUC is counted."""


def _levels(fact: Fact, learnt: Flags) -> Floats:
    """(images, levels): which level of the property each image has, 0 or 1; levels are learnt on some of the images."""
    known = np.array([value is not None for value in fact.values], dtype=np.bool_)
    if not (known & learnt).any():
        return np.zeros((len(known), 0))
    column = np.array([value for value in fact.values if value is not None])
    values, times = np.unique(column[learnt[known]], return_counts=True)
    frequent = values[times >= _FREQUENT * learnt.sum()]
    level = np.zeros(len(known), dtype=np.int64)  # 0: unknown
    places = 1 + np.searchsorted(frequent, column)
    own = np.isin(column, frequent)
    if column.dtype.kind == "U":
        level[known] = np.where(own, places, 1 + len(frequent))
    else:
        ends = np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)[1:-1]))
        level[known] = np.where(own, places, 1 + len(frequent) + np.searchsorted(ends, column))
    table: Floats = (level[:, None] == np.unique(level[learnt])).astype(np.float64)
    return table


def _logistic(levels: Floats, fake: Flags) -> Floats:
    """(levels,): ridge logistic regression by Newton's method, AI images and photographs of equal total weight.

    Without an intercept: each property has exactly one level, so that the levels hold it.
    """
    weights = np.where(fake, 1 / fake.sum(), 1 / (~fake).sum()) * len(fake) / 2
    found = np.zeros(levels.shape[1])
    for _ in range(20):
        p = 1 / (1 + np.exp(-(levels @ found)))
        slope = levels.T @ (weights * (fake - p)) - _RIDGE * found
        curve = (levels * (weights * p * (1 - p))[:, None]).T @ levels + _RIDGE * np.eye(len(found))
        step = np.linalg.solve(curve, slope)
        found += step
        if np.abs(step).max(initial=0.0) < 1e-6:
            break
    return found


def _shares_below(scores: Floats) -> Floats:
    """(images,): share of the scores below each one, equal ones counted half. Scores of two folds do not compare."""
    ordered = np.sort(scores)
    below, upto = (np.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
    shares: Floats = (below + upto) / (2 * len(scores))
    return shares


def _accuracy(sums: Floats) -> Floats:
    """Sums of `by_kind` (..., 4) -> accuracy."""
    return divided(sums[..., 0] + sums[..., 2], sums[..., 1] + sums[..., 3])


def _auc(sums: Floats) -> Floats:
    """Numbers of photographs, then of AI images, in each range of ranks (..., 2 x ranges) -> AUC; ties count half."""
    real, fake = np.split(sums, 2, axis=-1)
    below = np.cumsum(real, axis=-1) - real / 2
    return divided((fake * below).sum(axis=-1), fake.sum(axis=-1) * real.sum(axis=-1))
