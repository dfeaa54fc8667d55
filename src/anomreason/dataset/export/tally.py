"""Counts of what an export holds, for its manifest and its card.

tally = ExportTally()
tally.add(image)
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from anomreason.dataset.export.options import Counts, split_counts
from anomreason.dataset.export.records import ExportedImage

NO_KIND = "(no kind)"


@dataclass(slots=True)
class SourceTally:
    """Of one source."""

    kind: str
    generator: str | None
    licence: str | None
    terms: str | None = None
    images: Counter[str] = field(default_factory=Counter)
    """By split."""
    anomalies: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class ExportTally:
    """Of a whole export."""

    sources: dict[str, SourceTally] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    severities: Counter[int] = field(default_factory=Counter)
    """By tenth: 0 for 0..10, 9 for 90..100."""
    described: int = 0
    clean: int = 0
    """Images without anomalies and without description."""
    undecided: int = 0
    """Images with candidates that nobody decided."""
    regions: int = 0
    """Anomalies with a region."""

    def add(self, image: ExportedImage) -> None:
        made = SourceTally(image.source_kind, image.generator, image.licence, image.terms)
        source = self.sources.setdefault(image.source, made)
        source.images[image.split] += 1
        source.anomalies[image.split] += len(image.anomalies)
        self.formats[image.format] += 1
        self.described += image.description is not None
        self.clean += not image.anomalies and image.description is None
        self.undecided += image.undecided > 0
        for one in image.anomalies:
            self.outcomes[one.outcome if one.choices or one.origin == "detector" else one.origin] += 1
            if one.anomaly:
                self.kinds[one.anomaly.kind or NO_KIND] += 1
                self.severities[min(int(one.anomaly.severity // 10), 9)] += 1
                self.regions += one.anomaly.region is not None

    @property
    def splits(self) -> Counts:
        found: dict[str, tuple[int, int]] = {}
        for source in self.sources.values():
            for split, images in source.images.items():
                before = found.get(split, (0, 0))
                found[split] = before[0] + images, before[1] + source.anomalies[split]
        return split_counts(found)

    @property
    def images(self) -> int:
        return sum(sum(source.images.values()) for source in self.sources.values())

    @property
    def anomalies(self) -> int:
        return sum(sum(source.anomalies.values()) for source in self.sources.values())
