"""What a predicted severity is worth: is an anomaly that is called worse more often a true one, and as bad as that?

Counts of matched pairs in the view `full`, by the predicted severity. Knows nothing of how pairs were found. Try it:

    >>> calibration = Calibration(SemanticSettings(profiles=("paper",)))
    >>> calibration.as_json()["paper"]["0.7"]["pairs"]
    0
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from anomreason.anomaly import Anomaly
from anomreason.metrics.image_scores import SemanticSettings

BINS = 10
"""Bins of ten points each; the last one holds 100 too."""


class Calibration:
    """Takes the images one by one."""

    def __init__(self, settings: SemanticSettings) -> None:
        self._settings = settings
        shape = (len(settings.profiles), len(settings.thresholds), BINS)
        self._predictions = np.zeros(BINS, dtype=np.int64)
        self._matched = np.zeros(shape, dtype=np.int64)
        self._true = np.zeros(shape)
        """Sum of the true severities of the matched."""
        self._apart = np.zeros(shape)
        """Sum of |predicted - true| of the matched."""

    def add(
        self, predictions: Sequence[Anomaly], truths: Sequence[Anomaly], pairs: Iterable[Mapping[str, Any]]
    ) -> None:
        """One image; `pairs` as `pairs.pairs_of` gives them."""
        for anomaly in predictions:
            self._predictions[_bin(anomaly.severity)] += 1
        for pair in pairs:
            said, true = predictions[pair["p"]].severity, truths[pair["t"]].severity
            for profile, views in pair["matched"].items():
                for threshold in views.get("full", ()):
                    cell = (
                        self._settings.profiles.index(profile),
                        self._settings.thresholds.index(threshold),
                        _bin(said),
                    )
                    self._matched[cell] += 1
                    self._true[cell] += true
                    self._apart[cell] += abs(said - true)

    def as_json(self) -> dict[str, dict[str, dict[str, Any]]]:
        """By profile and threshold: pairs, mean |predicted - true| severity, and the bins of predicted severity."""
        return {
            profile: {f"{t:.10g}": self._cell(p, k) for k, t in enumerate(self._settings.thresholds)}
            for p, profile in enumerate(self._settings.profiles)
        }

    def _cell(self, profile: int, threshold: int) -> dict[str, Any]:
        matched, true = self._matched[profile, threshold], self._true[profile, threshold]
        pairs = int(matched.sum())
        return {
            "pairs": pairs,
            "mean_absolute_difference": float(self._apart[profile, threshold].sum()) / pairs if pairs else None,
            "bins": [
                {
                    "from": 100 // BINS * place,
                    "to": 100 // BINS * (place + 1),
                    "predictions": int(self._predictions[place]),
                    "matched": int(matched[place]),
                    "mean_true_severity": float(true[place]) / int(matched[place]) if matched[place] else None,
                }
                for place in range(BINS)
            ],
        }


def _bin(severity: float) -> int:
    return min(int(severity * BINS / 100), BINS - 1)
