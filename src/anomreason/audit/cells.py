"""What one assessor said of a study, as arrays over generators, prompts and seeds.

cells = AssessorCells.of(study, "tiny")
cells.values[0, 2, 1]    # MAI, AF and CAP of the first generator's image of the third prompt and second seed
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anomreason.audit.kinds import audit_kind
from anomreason.audit.study import AuditImage, Study
from anomreason.errors import UsageError
from anomreason.metrics.plausibility import METRICS, Assessment, Metric, image_plausibility
from anomreason.stats import Floats

Mask = npt.NDArray[np.bool_]
NOT_ASSESSED = "not assessed"
NOT_GIVEN = "not given"
WORST_SHARE = 0.05
"""Share of all assessed images that the worst ones are, whose mean a failed image counts in the upper bound."""


@dataclass(frozen=True, slots=True)
class AssessorCells:
    """One cell an image that was wanted: generator, prompt and seed."""

    generators: tuple[str, ...]
    prompts: tuple[str, ...]
    """Ids."""
    keys: tuple[tuple[tuple[str, ...], ...], ...]
    """Name of each image."""
    values: Floats
    """(generators, prompts, seeds, 3): MAI, AF and CAP; NaN where nothing was assessed."""
    severities: dict[str, tuple[float, ...]]
    """By key, of the assessed images."""
    missing: tuple[dict[str, int], ...]
    """By generator: images that were not made, by reason."""
    failed: tuple[dict[str, int], ...]
    """By generator: images that were not assessed, by kind of failure."""
    kinds: dict[str, Mask]
    """By kind, commonest first: (generators, prompts, seeds), whether the image has an anomaly of it."""
    detectors: tuple[str, ...]

    @classmethod
    def of(cls, study: Study, assessor: str) -> AssessorCells:
        """Of a study that `check_study` accepts."""
        said = study.assessments[assessor]
        shape = len(study.generators), len(study.prompts), len(study.seeds)
        images = {(i.generator, i.prompt, i.seed): i for i in study.images}
        values = np.full((*shape, 3), np.nan)
        severities: dict[str, tuple[float, ...]] = {}
        found: dict[str, Mask] = {}
        missing: list[Counter[str]] = [Counter() for _ in study.generators]
        failed: list[Counter[str]] = [Counter() for _ in study.generators]
        for g, generator in enumerate(study.generators):
            for p, prompt in enumerate(study.prompts):
                for s, seed in enumerate(study.seeds):
                    image = images.get((generator, prompt.id, seed))
                    if image is None or image.missing is not None or image.path is None:
                        missing[g][(image.missing if image else None) or NOT_GIVEN] += 1
                        continue
                    detection = said.get(image.key)
                    if detection is None or not detection.searched:
                        failed[g][detection.failure.kind if detection and detection.failure else NOT_ASSESSED] += 1
                        continue
                    severities[image.key] = tuple(anomaly.severity for anomaly in detection.anomalies)
                    values[g, p, s] = image_plausibility(severities[image.key])
                    for anomaly in detection.anomalies:
                        found.setdefault(audit_kind(anomaly), np.zeros(shape, dtype=np.bool_))[g, p, s] = True
        return cls(
            generators=study.generators,
            prompts=tuple(prompt.id for prompt in study.prompts),
            keys=tuple(
                tuple(tuple(AuditImage(g, p.id, s).key for s in study.seeds) for p in study.prompts)
                for g in study.generators
            ),
            values=values,
            severities=severities,
            missing=tuple(map(dict, missing)),
            failed=tuple(map(dict, failed)),
            kinds=dict(sorted(found.items(), key=lambda item: (-int(item[1].sum()), item[0]))),
            detectors=tuple(sorted({d.detector for d in said.values()})),
        )

    @property
    def assessed(self) -> Mask:
        """(generators, prompts, seeds)."""
        known: Mask = ~np.isnan(self.values[..., 0])
        return known

    @property
    def has_images(self) -> Mask:
        """(generators, prompts): whether there is an assessed image."""
        known: Mask = np.asarray(self.assessed.any(axis=2))
        return known

    def records(
        self, generators: Sequence[int], prompts: Mask | None = None, by_seed: bool = False
    ) -> list[Assessment]:
        """The images of some generators, and of some prompts; by_seed: each seed is a generator of its own."""
        found = []
        for g in generators:
            for p in range(len(self.prompts)) if prompts is None else np.flatnonzero(prompts).tolist():
                for s, key in enumerate(self.keys[g][p]):
                    name, severities = f"{s}" if by_seed else self.generators[g], self.severities.get(key)
                    failure = None if severities is not None else NOT_ASSESSED
                    found.append(Assessment(key, name, self.prompts[p], severities, failure))
        return found

    def worst(self) -> dict[Metric, float]:
        """Mean of the worst WORST_SHARE of all assessed images, at least of one; empty without any."""
        known = self.values[self.assessed]
        if not len(known):
            return {}
        count = max(1, round(WORST_SHARE * len(known)))
        mai, af, cap = np.sort(known, axis=0)[-count:].mean(axis=0).tolist()
        return dict(zip(METRICS, (mai, af, cap, mai * af), strict=True))

    def filled(self, by: tuple[float, float, float]) -> Floats:
        """Scores with MAI, AF and CAP of every failed or missing image given: (generators, 4), as METRICS.

        Over the prompts of which any generator has an assessed image, of which there must be one.
        """
        values = self.values[:, self.has_images.any(axis=0)]
        means = np.where(np.isnan(values), np.array(by), values).mean(axis=(1, 2))
        return np.column_stack([means, means[:, 0] * means[:, 1]])


def check_study(study: Study) -> None:
    """UsageError for what cannot be compared: no prompts, generators or seeds, duplicates, images of neither."""
    for what, names in (
        ("prompt", [prompt.id for prompt in study.prompts]),
        ("generator", list(study.generators)),
        ("seed", [str(seed) for seed in study.seeds]),
    ):
        if not names:
            raise UsageError(f"the audit has no {what}s; give at least one")
        if doubles := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"two {what}s are called {doubles[0]!r}; give each a name of its own")
    if not study.assessments:
        raise UsageError("the audit has no assessors, so there is nothing to report; assess its images first")
    prompts, seen = {prompt.id for prompt in study.prompts}, set[tuple[str, str, int]]()
    for image in study.images:
        place = image.generator, image.prompt, image.seed
        if image.generator not in study.generators or image.prompt not in prompts or image.seed not in study.seeds:
            raise UsageError(f"the image {image.key!r} is of a generator, prompt or seed that the audit does not have")
        if place in seen:
            raise UsageError(f"duplicate image {image.key!r}: give one of each generator, prompt and seed")
        seen.add(place)
