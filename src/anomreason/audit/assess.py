"""`plausibility`: how plausible the images of generators are, by what an assessor found in them.

    assess(["flux=runs/flux", "sdxl=runs/sdxl"], pair_by_name=True).generators[0].scores["mai"]

A generator is an input, or what a manifest says of each image. Severities alone count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from os.path import splitext
from pathlib import Path
from posixpath import basename
from typing import NamedTuple

import numpy as np

from anomreason.errors import UsageError
from anomreason.evaluation.records import PlausibilityResult
from anomreason.evaluation.signature import Signature, code_signature, short_hash
from anomreason.metrics.plausibility import (
    METRICS,
    Assessment,
    GeneratorPlausibility,
    Metric,
    differences,
    plausibility,
    rank_agreement,
)
from anomreason.metrics.semantic import MISSING
from anomreason.sources.annotations import ImageAnnotation, Source, check_text, key_of, read_source
from anomreason.sources.joining import join
from anomreason.sources.manifests import manifest_rows

UNKNOWN = "unknown"


class ManifestEntry(NamedTuple):
    """What a manifest says of one image."""

    generator: str
    prompt: str | None


def assess(
    inputs: Sequence[str | Path],
    *,
    manifest: Path | None = None,
    pair_by_name: bool = False,
    against: Sequence[str | Path] = (),
    seed: int = 0,
) -> PlausibilityResult:
    """Scores, ranks and differences of generators; what `plausibility.json` holds.

    inputs: as `annotations.read_source` takes them, one a generator, or whatever holds the images of the manifest.
    pair_by_name: images of one name, folder and suffix aside, were made from the same prompt; where a generator has a
    name in several folders, of one path. against: another assessor's results of the same generators. `warnings` says
    what a reader must know. Raises UsageError, naming file and place.
    """
    made = None if manifest is None else read_generators(manifest)
    sources = [read_source(path) for path in inputs]
    records, strangers, warnings = _assessed(sources, made, manifest)
    records = _paired(records) if pair_by_name else records
    rng = np.random.default_rng(seed)
    generators, paired = plausibility(records, rng), differences(records, rng)
    if len(detectors := sorted({name for source in sources for name in source.detectors})) > 1:
        warnings.append(
            f"the generators were assessed by different detectors ({', '.join(detectors)}), so differences "
            "may be theirs; assess all generators with one"
        )
    prompts = any(r.prompt is not None for r in records)
    if prompts and len(generators) > 1 and not any(d.difference.n for d in paired):
        warnings.append("no prompt is common to two generators, so no pair is compared; check names and prompts")
    second, agreement = None, {}
    if against:
        others = [read_source(path) for path in against]
        theirs, _, _ = _assessed(others, made, manifest)
        theirs = _paired(theirs) if pair_by_name else theirs
        warnings += _same_generators(others, records, theirs)
        second = _signature(others, theirs)
        one, other = _scores(generators), _scores(plausibility(theirs, rng))
        agreement = {metric: rank_agreement(one[metric], other[metric], rng) for metric in METRICS}
    return PlausibilityResult(
        signature=_signature(sources, records),
        simulated=any(source.simulated for source in sources),
        paired=prompts,
        not_in_manifest=tuple(strangers),
        generators=tuple(generators),
        differences=tuple(paired),
        against=second,
        agreement=agreement,
        warnings=tuple(warnings),
    )


def read_generators(path: Path) -> dict[str, ManifestEntry]:
    """Generator and prompt by normalised image name, from the columns `generator` and `prompt` of a manifest."""
    found: dict[str, ManifestEntry] = {}
    for row in manifest_rows(path):
        where, generator, prompt = f"{path}, line {row.line}", row.values.get("generator"), row.values.get("prompt")
        if not isinstance(generator, str) or not generator.strip():
            raise UsageError(f"{where}: write the image's generator under 'generator'")
        key = key_of(row.image)
        if key in found:
            raise UsageError(f"{where}: duplicate image {row.image!r}: remove one of the two rows")
        check_text(f"{generator}{prompt}", where)
        found[key] = ManifestEntry(generator.strip(), str(prompt).strip() or None if prompt is not None else None)
    if not found:
        raise UsageError(f"{path} lists no images; write one row per image")
    return found


def _assessed(
    sources: Sequence[Source], made: Mapping[str, ManifestEntry] | None, manifest: Path | None
) -> tuple[list[Assessment], list[str], list[str]]:
    """A record an image, the images that the manifest does not have, and warnings."""
    if made is None:
        names = [source.name for source in sources]
        if doubles := sorted({name for name in names if names.count(name) > 1}):
            raise UsageError(f"two inputs are called {doubles[0]!r}; name the generators as NAME=PATH")
        records = [
            _record(key, annotation, source.name, None)
            for source in sources
            for key, annotation in source.images.items()
        ]
        return records, [], []
    found: dict[str, Assessment] = {}
    strangers: list[str] = []
    warnings: list[str] = []
    for source in sources:
        joined = join(made, source.images)
        strangers += [source.images[name].image for name in joined.strangers]
        if doubtful := joined.ambiguous:
            name = source.images[doubtful[0]].image
            warnings.append(
                f"{source.path}: {len(doubtful):,} images are among several of one file name, e.g. {name!r}"
            )
        for name, there in joined.of.items():
            if name in found:
                raise UsageError(f"{source.path} has the image {name!r} that another input has too; give it once")
            found[name] = _record(name, source.images[there], *made[name])
    for name, one in made.items():
        if name not in found:
            found[name] = Assessment(name, one.generator, one.prompt, failure=MISSING)
    if all(record.failure == MISSING for record in found.values()):
        paths = ", ".join(str(source.path) for source in sources)
        raise UsageError(
            f"no image of the manifest {manifest} is in {paths}; they are joined by relative path, else by a file name "
            "that occurs once"
        )
    return list(found.values()), strangers, warnings


def _record(name: str, annotation: ImageAnnotation, generator: str, prompt: str | None) -> Assessment:
    if annotation.unanswered is not None:
        return Assessment(name, generator, prompt, failure=annotation.unanswered)
    return Assessment(name, generator, prompt, tuple(anomaly.severity for anomaly in annotation.anomalies))


def _paired(records: Sequence[Assessment]) -> list[Assessment]:
    """The same, with the file name in place of an unknown prompt."""
    stems = [splitext(record.image)[0] for record in records]
    times = Counter((record.generator, basename(stem)) for record, stem in zip(records, stems, strict=True))
    repeated = {name for (_, name), count in times.items() if count > 1}
    return [
        replace(record, prompt=record.prompt or (stem if basename(stem) in repeated else basename(stem)))
        for record, stem in zip(records, stems, strict=True)
    ]


def _same_generators(
    sources: Sequence[Source], records: Sequence[Assessment], second: Sequence[Assessment]
) -> list[str]:
    """A warning of generators that one assessor alone saw. UsageError for one that the first does not know."""
    known = {r.generator for r in records}
    if unknown := sorted({r.generator for r in second} - known):
        paths = ", ".join(str(source.path) for source in sources)
        raise UsageError(
            f"{paths}: the generator {unknown[0]!r} of --against is not among those that are scored "
            f"({', '.join(map(repr, sorted(known)))}); name each as NAME=PATH as there"
        )
    one, other = ({r.generator for r in of if r.severities is not None} for of in (records, second))
    alone = ", ".join(map(repr, sorted(one ^ other)))
    return [f"only one assessor has results of {alone}, left out of the agreement"] if alone else []


def _signature(sources: Sequence[Source], records: Iterable[Assessment]) -> Signature:
    assessors = sorted({name for source in sources for name in source.detectors or (UNKNOWN,)})
    prompts = sorted({record.prompt for record in records if record.prompt is not None})
    digest = short_hash("\n".join(prompts)) if prompts else UNKNOWN
    return code_signature().model_copy(update={"assessor": tuple(assessors), "prompts": digest})


def _scores(generators: Sequence[GeneratorPlausibility]) -> dict[Metric, dict[str, float]]:
    """By metric and generator, where there is a value."""
    return {
        metric: {g.generator: value for g in generators if (value := g.scores[metric].value) is not None}
        for metric in METRICS
    }
