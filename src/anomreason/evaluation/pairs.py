"""Which prediction met which truth in one image, at which thresholds, and in words why not at the others.

Knows nothing of texts and files: similarities and what was matched by them in, records out. The words speak of one view
in one profile, the first profile's `full`; the numbers of all. Try it:

    >>> from anomreason.metrics.image_scores import score_image
    >>> phe, rea = [[0.75]], [[0.65]]
    >>> pairs_of(phe, rea, score_image(phe, rea, [0], SemanticSettings(profiles=("paper",))))[0]["why"]
    '0.700 is below 0.8'
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from anomreason.metrics.image_scores import (
    FULL_ALPHA,
    ImageScores,
    Matching,
    Profile,
    SemanticSettings,
    similarity_views,
)

Place = tuple[Profile, str, float]
"""Profile, view, threshold."""


def pairs_of(phe: npt.ArrayLike, rea: npt.ArrayLike, scores: ImageScores) -> list[dict[str, Any]]:
    """One record a pair that matched somewhere, or that is the nearest partner of a side left alone in `full`.

    phe, rea: (predictions, truths), -1..1. scores: what `score_image` made of them. Records are sorted by prediction,
    then truth; `matched` holds thresholds by profile and view, `why` is empty for a pair that matched at all of them.
    """
    if not scores.matched:
        return []
    settings = scores.settings
    views = _views(phe, rea, settings)
    matchings = dict(zip(_places(settings), scores.matched, strict=True))
    found: dict[tuple[int, int], dict[str, dict[str, list[float]]]] = {}
    for (profile, view, threshold), matching in matchings.items():
        for p, t in enumerate(matching):
            if t is not None:
                found.setdefault((p, t), {}).setdefault(profile, {}).setdefault(view, []).append(threshold)
    for pair in _nearest(views["full"], matchings):
        found.setdefault(pair, {})
    names = ("phe", "rea", "full", *(v for v in settings.views if "@" in v))
    return [
        {"p": p, "t": t}
        | {name: round(float(views[name][p, t]), 6) for name in names}
        | {"matched": found[p, t], "why": _why(p, t, views["full"], matchings, settings)}
        for p, t in sorted(found)
    ]


def _views(phe: npt.ArrayLike, rea: npt.ArrayLike, settings: SemanticSettings) -> dict[str, npt.NDArray[np.float64]]:
    names = ("phe", "rea", "full", *settings.views[2:])
    return dict(zip(names, similarity_views(phe, rea, (FULL_ALPHA, *settings.alphas)), strict=True))


def _places(settings: SemanticSettings) -> list[Place]:
    """In the order of the cells of an image."""
    return [(p, v, t) for p in settings.profiles for v in settings.views for t in settings.thresholds]


def _nearest(full: npt.NDArray[np.float64], matchings: dict[Place, Matching]) -> set[tuple[int, int]]:
    """Most similar partners of the predictions and truths that no threshold matches in `full`, in any profile."""
    matched = {(p, t) for place, m in matchings.items() if place[1] == "full" for p, t in enumerate(m)}
    predictions, truths = ({pair[side] for pair in matched if pair[1] is not None} for side in (0, 1))
    alone = {(p, int(full[p].argmax())) for p in range(full.shape[0]) if p not in predictions}
    return alone | {(int(full[:, t].argmax()), t) for t in range(full.shape[1]) if t not in truths}


def _why(
    p: int, t: int, full: npt.NDArray[np.float64], matchings: dict[Place, Matching], settings: SemanticSettings
) -> str:
    """Why a pair is not matched at every threshold, each reason once; of the first profile."""
    reasons: dict[str, None] = {}
    for threshold in sorted(settings.thresholds):
        matching = matchings.get((settings.profiles[0], "full", threshold)) or []
        if full[p, t] < threshold:
            reasons[f"{full[p, t]:.3f} is below {threshold:g}"] = None
            break
        if matching and matching[p] != t:
            reasons |= dict.fromkeys(_taken(p, t, full, matching))
    return "; ".join(reasons)


def _taken(p: int, t: int, full: npt.NDArray[np.float64], matching: Matching) -> list[str]:
    mine = matching[p]
    reasons = [] if mine is None else [f"prediction {p} took truth {mine} ({full[p, mine]:.3f})"]
    if t in matching:
        other = matching.index(t)
        reasons.append(f"truth {t} was taken by prediction {other} ({full[other, t]:.3f})")
    return reasons
