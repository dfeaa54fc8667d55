"""The detections of a run in the order of the report, a few at a time, and their totals.

They are sorted in a temporary database on disk, so that memory does not grow with the run.

    with closing(Results(Path("runs/demo"))) as results:
        print(sum(len(batch) for batch in results.batches()), "images")
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from anomreason.anomaly import Detection, Usage
from anomreason.runs import recorded

BATCH = 64
BANDS = ("implausible", "hardly plausible", "doubtful", "mostly plausible", "nearly realistic")
"""Words for severities of 0-19, 20-39, 40-59, 60-79 and 80-100."""


def band(severity: float) -> int:
    """Which of the five BANDS a severity (0..100) falls into, 0..4."""
    return min(int(severity // 20), 4)


def status(detection: Detection) -> str:
    """What became of an image: a key of `Tally.statuses`, and no guess that an image is clean where nobody looked."""
    if detection.failure is not None:
        return "failed"
    if detection.anomalies:
        return "with anomalies"
    if detection.description is not None:
        return "described"
    return "none found" if detection.searched else "not searched"


class Results:
    """The last detection of each image: worst severity first, then failures, then images without anomalies."""

    def __init__(self, run: Path) -> None:
        self.detectors: set[str] = set()
        self._db = sqlite3.connect("")  # a temporary database: in memory while small, on disk when large
        self._db.execute(
            "CREATE TABLE results (image TEXT PRIMARY KEY, place INTEGER, worst REAL, anomalies INTEGER, line TEXT)"
        )
        rows = (self._row(detection) for _, _, detection in recorded(run))
        self._db.executemany("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)", rows)

    def _row(self, d: Detection) -> tuple[str, int, float, int, str]:
        self.detectors.add(d.detector)
        return d.image, 0 if d.anomalies else 1 if d.failure else 2, d.worst or 0.0, len(d.anomalies), d.json_line()

    def _ordered(self, column: str) -> sqlite3.Cursor:
        return self._db.execute(f"SELECT {column} FROM results ORDER BY place, worst, anomalies DESC, image")

    def images(self) -> list[str]:
        """Names of all images."""
        return [row[0] for row in self._ordered("image")]

    def batches(self) -> Iterator[list[Detection]]:
        """All detections in the order of `images`, at most BATCH at a time."""
        cursor = self._ordered("line")
        while lines := cursor.fetchmany(BATCH):
            yield [Detection.model_validate_json(line) for (line,) in lines]

    def close(self) -> None:
        self._db.close()


@dataclass
class Tally:
    """Totals over detections."""

    images: int = 0
    found: int = 0
    """Images with anomalies."""
    anomalies: int = 0
    described: int = 0
    """Images that were described and not searched for anomalies."""
    unsearched: int = 0
    """Images without anomalies that nobody looked for, or of a type that the detector does not know."""
    failed: Counter[str] = field(default_factory=Counter)
    """Failed images by kind of failure."""
    bands: Counter[int] = field(default_factory=Counter)
    """Images by the band of their worst severity."""
    sources: Counter[str] = field(default_factory=Counter)
    """Images by the detector's judgement of their source, if it was asked for."""
    usage: Usage = field(default_factory=Usage)

    def add(self, detection: Detection) -> None:
        self.images += 1
        self.anomalies += len(detection.anomalies)
        self.usage += detection.usage
        if detection.failure is not None:
            self.failed[detection.failure.kind] += 1
        became = status(detection)
        self.described += became == "described"
        self.unsearched += became == "not searched"
        if detection.source is not None:
            self.sources[detection.source.label] += 1
        if detection.worst is not None:
            self.found += 1
            self.bands[band(detection.worst)] += 1

    @property
    def statuses(self) -> dict[str, int]:
        """Images by status, as the gallery filters them."""
        failed = self.failed.total()
        others = {"described": self.described, "not searched": self.unsearched}
        none = self.images - self.found - sum(others.values()) - failed
        some = {name: count for name, count in others.items() if count}
        return {"all": self.images, "with anomalies": self.found, "none found": none, **some, "failed": failed}
