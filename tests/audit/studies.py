"""Studies for tests: generators of known rates of anomalies, assessed by whoever made them up."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from anomreason.anomaly import Anomaly, Detection, Failure
from anomreason.audit.study import AuditImage, AuditPrompt, Study

Severities = Callable[[str, int, int], Sequence[float] | str | None]
"""(generator, number of the prompt, seed) -> severities; a failure as "missing: refused" or "failed: endpoint"."""


def anomaly(severity: float, kind: str | None = "anatomy", name: str = "Six fingers") -> Anomaly:
    return Anomaly(name=name, phenomenon="Odd hand.", reasoning="Hands have five.", severity=severity, kind=kind)


def study(
    generators: Sequence[str],
    prompts: int,
    severities: Severities,
    seeds: Sequence[int] = (0, 1),
    assessors: Sequence[str] = ("judge",),
    tags: Callable[[int], tuple[str, ...]] = lambda p: ("people",) if p % 2 else ("lettering",),
) -> Study:
    images, said = [], {}
    for generator in generators:
        for p in range(prompts):
            for seed in seeds:
                found = severities(generator, p, seed)
                missing = found.removeprefix("missing: ") if isinstance(found, str) and "missing" in found else None
                image = AuditImage(generator, f"p{p:03}", seed, None if missing else Path("a.png"), missing)
                images.append(image)
                if missing or found is None:
                    continue
                if isinstance(found, str):
                    failure = Failure.model_validate({"kind": found.removeprefix("failed: "), "message": "no"})
                    said[image.key] = Detection(image=image.key, detector="judge", status="failed", failure=failure)
                else:
                    anomalies = tuple(anomaly(s) for s in found)
                    said[image.key] = Detection(image=image.key, detector="judge", status="ok", anomalies=anomalies)
    return Study(
        prompts=tuple(AuditPrompt(id=f"p{p:03}", text=f"prompt {p}", tags=tags(p)) for p in range(prompts)),
        generators=tuple(generators),
        seeds=tuple(seeds),
        images=tuple(images),
        assessments=dict.fromkeys(assessors, said),
    )


def by_rates(rates: dict[str, float], prompts: int, seed: int = 0) -> Severities:
    """Poisson numbers of anomalies, more where a prompt is hard; the same arguments give the same answers."""
    draw = np.random.default_rng(seed)
    hard = draw.gamma(4, 0.25, prompts)
    made = {
        (name, p, s): tuple(draw.uniform(0, 60, draw.poisson(rate * hard[p])).round(2).tolist())
        for name, rate in rates.items()
        for p in range(prompts)
        for s in (0, 1)
    }
    return lambda name, p, s: made[name, p, s]
