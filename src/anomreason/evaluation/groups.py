"""Scores by the number of true anomalies of an image: is a detector worse where there is more to find?

Knows nothing of files: a scorer in, plain values out. Try it:

    >>> by_truths(scorer, np.random.default_rng(0))[0]["images"]
    12
"""

from __future__ import annotations

from typing import Any

import numpy as np

from anomreason.metrics.semantic import SemanticScorer
from anomreason.stats import mean

LAST = 10
"""From so many true anomalies on, images stand in one group."""


def by_truths(scorer: SemanticScorer, rng: np.random.Generator) -> list[dict[str, Any]]:
    """One group for each number of truths that occurs, failed images at zero; scores with intervals over images."""
    table, settings = scorer.table, scorer.settings
    scores = {"semap": table.ap.mean(axis=-1), "semf1": table.f1.mean(axis=-1)}  # (images, profiles, views)
    number = np.minimum(table.truths, LAST)

    def score(metric: str, group: int, profile: int, view: int) -> dict[str, Any]:
        found = mean(scores[metric][number == group, profile, view], rng)
        return {"value": found.value, "interval": list(found.interval) if found.interval else None}

    return [
        {
            "from": group,
            "to": None if group == LAST else group,
            "images": int((number == group).sum()),
            "profiles": {
                profile: {
                    view: {metric: score(metric, group, p, v) for metric in scores}
                    for v, view in enumerate(settings.views)
                }
                for p, profile in enumerate(settings.profiles)
            },
        }
        for group in np.unique(number).tolist()
    ]
