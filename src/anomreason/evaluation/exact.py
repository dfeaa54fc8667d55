"""`eval --exact`: one prediction file against a folder of scenes.

    evaluate_exact("runs/gpt-4o", "scenes/").recall.value

Needs no model: words, and regions where there are any, decide which prediction finds which planted anomaly.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from anomreason.errors import UsageError
from anomreason.evaluation.records import ExactOptions, ExactResult, JoinedImages
from anomreason.evaluation.signature import Signature, code_signature, short_hash
from anomreason.evaluation.writing import check_folder, make_folder, result_folders, write_record
from anomreason.metrics.exact import Failures, score_exact
from anomreason.metrics.planted import ImagePrediction, KnownImage
from anomreason.sources.annotations import ImageAnnotation, Source, key_of, read_source
from anomreason.sources.joining import Entrant, Truth, entrant
from anomreason.sources.scenes import read_scenes


def evaluate_exact(
    predictions: str | Path, scenes: str | Path, *, failures: Failures = "missed", seed: int = 0
) -> ExactResult:
    """Every number of one detector; what `exact.json` holds.

    predictions: PATH or NAME=PATH of a run folder, our JSON lines or the published JSON. failures: whether anomalies of
    failed scenes are missed or left out. Raises UsageError, naming file and place.
    """
    return _evaluated(
        read_source(predictions), Path(scenes), read_scenes(scenes), ExactOptions(failures=failures, seed=seed)
    )


def _evaluated(source: Source, scenes: Path, known: list[KnownImage], options: ExactOptions) -> ExactResult:
    if options.seed < 0:
        raise UsageError(f"the seed is {options.seed}; it cannot be below 0")
    truth = _truth(scenes, known)
    entry = entrant(source, truth)
    scores = score_exact(known, _answers(known, entry), np.random.default_rng(options.seed), failures=options.failures)
    return ExactResult(
        **dict(scores),
        name=source.name,
        signature=_signature(known, options.failures),
        simulated=source.simulated,
        truth=str(scenes),
        settings=options,
        joined=JoinedImages.of(entry, truth.images),
    )


def write_exact(
    predictions: Sequence[str | Path], scenes: str | Path, out: Path, failures: str = "zero", seed: int = 0
) -> list[tuple[ExactResult, Path]]:
    """Evaluate files and write `exact.json`: into `out`, or `out/NAME` when there are several; each with its folder.

    failures: `zero` (their anomalies are missed) or `drop`. Raises UsageError before anything is written.
    """
    ways: dict[str, Failures] = {"zero": "missed", "drop": "dropped"}
    if failures not in ways:
        raise UsageError(f"failures are counted as {failures!r}; choose zero or drop")
    sources = [read_source(path) for path in predictions]
    folders = result_folders(sources, out)
    for folder in folders:
        check_folder(folder)
    known, options = read_scenes(scenes), ExactOptions(failures=ways[failures], seed=seed)
    found = [_evaluated(source, Path(scenes), known, options) for source in sources]
    for folder, one in zip(folders, found, strict=True):
        make_folder(folder)
        write_record(folder / "exact.json", one)
    return list(zip(found, folders, strict=True))


def _truth(path: Path, known: list[KnownImage]) -> Truth:
    images = {key_of(one.image): ImageAnnotation(one.image) for one in known}
    if len(images) < len(known):
        raise UsageError(f"{path} has duplicate images under names that are the same path: remove one of the two")
    return Truth(Source(path.resolve().name, path, "images", images, path), images, (), (), ())


def _answers(known: list[KnownImage], entry: Entrant) -> dict[str, ImagePrediction]:
    there = ((one.image, entry.answers.get(key_of(one.image))) for one in known)
    return {i: ImagePrediction(a.anomalies, a.unanswered) for i, a in there if a is not None}


def _signature(known: list[KnownImage], failures: Failures) -> Signature:
    return code_signature().model_copy(
        update={
            "truth": short_hash(json.dumps(sorted(map(repr, known)))),
            "images": len(known),
            "cues": short_hash("".join(map(_word_list, ("kind_cues.toml", "kind_words.tsv")))),
            "failures": failures,
        }
    )


def _word_list(name: str) -> str:
    return files("anomreason.metrics").joinpath(name).read_text(encoding="utf-8")
