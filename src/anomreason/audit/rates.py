"""How often images of a generator have anomalies of a kind, over all prompts and by what the prompts ask for.

rates = kind_rates(cells, {"people in motion": mask})
fails_at(rates, "flux")[0].kind
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from anomreason.audit.cells import AssessorCells, Mask
from anomreason.audit.kinds import OTHER
from anomreason.audit.results import KindRate
from anomreason.stats import Floats, wilson

MOST_KINDS = 24
"""Kinds that are counted, commonest first; the others count as any anomaly only."""
LEAST_IMAGES = 20
"""Fewest images for a rate to be named among what a generator fails at."""


def kind_rates(cells: AssessorCells, tags: Mapping[str, Mask]) -> list[KindRate]:
    """Of every generator, over all prompts and those of each tag, for any anomaly and each kind.

    tags: (prompts,) by name.
    """
    parts: list[tuple[str | None, Mask]] = [(None, np.ones(len(cells.prompts), dtype=np.bool_)), *tags.items()]
    kinds: list[tuple[str | None, Mask]] = [(None, cells.values[..., 1] > 0), *islice(cells.kinds.items(), MOST_KINDS)]
    known = cells.assessed
    found = []
    for g, generator in enumerate(cells.generators):
        for tag, prompts in parts:
            images = known[g, prompts].sum(axis=1).astype(np.float64)
            for kind, has in kinds:
                hits = (has[g, prompts] & known[g, prompts]).sum(axis=1).astype(np.float64)
                found.append(_rate(generator, tag, kind, images, hits))
    return found


def _rate(generator: str, tag: str | None, kind: str | None, images: Floats, hits: Floats) -> KindRate:
    """images, hits: (prompts,)."""
    n, count = int(images.sum()), int(hits.sum())
    if not n:
        return KindRate(generator=generator, tag=tag, kind=kind, images=0, found=0, rate=None, interval=None)
    rate = count / n
    interval = wilson(rate, effective_images(images, hits))
    return KindRate(generator=generator, tag=tag, kind=kind, images=n, found=count, rate=rate, interval=interval)


def effective_images(images: Floats, hits: Floats) -> float:
    """Independent images that would tell a share as surely as these, of which those of one prompt may be alike.

    images, hits: (prompts,). Their number by the design effect, the variance between prompts over that of independent
    images (Kish 1965), which counts as at least 1; the number of prompts where all or no images have hits.
    """
    images, hits = images[images > 0], hits[images > 0]
    n, prompts = float(images.sum()), len(images)
    share = float(hits.sum()) / n
    if share in (0.0, 1.0) or prompts < 2:
        return float(prompts)
    clustered = prompts / (prompts - 1) * float(((hits - share * images) ** 2).sum()) / n**2
    return n / max(1.0, clustered / (share * (1 - share) / n))


def fails_at(rates: Sequence[KindRate], generator: str, most: int = 3) -> list[KindRate]:
    """Kinds that are surely frequent in a generator's images of a tag: by the lower end of the interval.

    One a kind; rates over fewer than LEAST_IMAGES images are passed over.
    """

    def surely() -> Iterator[tuple[float, str, KindRate]]:
        for rate in rates:
            named = rate.generator == generator and rate.kind not in (None, OTHER)
            if named and rate.interval and rate.found and rate.images >= LEAST_IMAGES:
                yield -rate.interval.low, f"{rate.kind}\n{rate.tag or ''}", rate

    chosen: dict[str | None, KindRate] = {}
    for *_, rate in sorted(surely(), key=lambda item: item[:2]):
        chosen.setdefault(rate.kind, rate)
    return list(chosen.values())[:most]
