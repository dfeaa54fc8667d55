"""`eval --exact`: one prediction file against a folder of scenes, from files to plain values.

    evaluate_exact("runs/gpt-4o", "scenes/")["recall"]["value"]

Needs no model: which claim finds which planted anomaly is told from words, and from regions where there are any.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from anomreason.errors import UsageError
from anomreason.evaluation.writing import check_folder, folders_of, make_folder, plain, write_json
from anomreason.metrics.exact import Failures, score_exact
from anomreason.metrics.planted import ImagePrediction, KnownImage
from anomreason.sources.annotations import ImageAnnotation, Source, key_of, read_source
from anomreason.sources.joining import Entrant, Truth, entrant
from anomreason.sources.scenes import read_scenes


def evaluate_exact(
    predictions: str | Path, scenes: str | Path, *, failures: Failures = "missed", seed: int = 0
) -> dict[str, Any]:
    """Every number of one detector; what `metrics.json` holds.

    predictions: PATH or NAME=PATH of a run folder, our JSON lines or the published JSON. failures: whether anomalies of
    failed scenes are missed or left out. Raises UsageError, naming file and place.
    """
    if seed < 0:
        raise UsageError(f"the seed is {seed}; it cannot be below 0")
    known = read_scenes(scenes)
    source = read_source(predictions)
    said = entrant(source, _truth(Path(scenes), known))
    answers = _answers(known, said)
    scores = score_exact(known, answers, np.random.default_rng(seed), failures=failures)
    return {
        "name": source.name,
        "signature": _signature(known, failures),
        "simulated": source.simulated,
        "truth": str(scenes),
        "settings": {"failures": failures, "seed": seed},
        **plain(scores),
        "joined": {
            "by_file_name": said.by_file_name,
            "not_in_truth": said.named(said.strangers),
            "ambiguous": said.named(said.ambiguous),
            "missing": [one.image for one in known if key_of(one.image) not in said.said],
        },
    }


def write_exact(
    predictions: Sequence[str | Path], scenes: str | Path, out: Path, failures: str = "zero", seed: int = 0
) -> list[tuple[dict[str, Any], Path]]:
    """Evaluate files and write `exact.json`: into `out`, or `out/NAME` when there are several; each with its folder.

    failures: `zero` (their anomalies are missed) or `drop`. Raises UsageError before anything is written.
    """
    told: dict[str, Failures] = {"zero": "missed", "drop": "dropped"}
    if failures not in told:
        raise UsageError(f"failures are counted as {failures!r}; choose zero or drop")
    folders = folders_of([read_source(path) for path in predictions], out)
    for folder in folders:
        check_folder(folder)
    found = [evaluate_exact(path, scenes, failures=told[failures], seed=seed) for path in predictions]
    for folder, one in zip(folders, found, strict=True):
        make_folder(folder)
        write_json(folder / "exact.json", one)
    return list(zip(found, folders, strict=True))


def _truth(path: Path, known: list[KnownImage]) -> Truth:
    images = {key_of(one.image): ImageAnnotation(one.image) for one in known}
    if len(images) < len(known):
        raise UsageError(f"{path} lists a picture twice under names that are the same path; keep one")
    return Truth(Source(path.resolve().name, path, "pictures", images, path), images, (), (), ())


def _answers(known: list[KnownImage], said: Entrant) -> dict[str, ImagePrediction]:
    there = ((one.image, said.said.get(key_of(one.image))) for one in known)
    return {i: ImagePrediction(a.anomalies, a.unanswered) for i, a in there if a is not None}


def _signature(known: list[KnownImage], failures: Failures) -> dict[str, Any]:
    return {
        "truth": _hash(json.dumps(sorted(map(repr, known)))),
        "images": len(known),
        "cues": _hash("".join(_read(name) for name in ("kind_cues.toml", "kind_words.tsv"))),
        "failures": failures,
        "anomreason": version("anomreason"),
    }


def _read(name: str) -> str:
    return files("anomreason.metrics").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
