"""`eval --exact`: one prediction file against a folder of scenes, from files to plain values.

    evaluate_exact("runs/gpt-4o", "scenes/")["recall"]["value"]

Needs no model: which claim finds which planted anomaly is told from words, and from regions where there are any.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from anomreason.anomaly import Region
from anomreason.errors import UsageError
from anomreason.evaluation.joining import Entrant, Truth, entrant
from anomreason.evaluation.known import read_scenes, region_from
from anomreason.evaluation.reading import Said, Source, key_of, read_source
from anomreason.evaluation.writing import check_folder, folders_of, make_folder, plain, write_json
from anomreason.metrics.exact import MISSING, Failures, score_exact
from anomreason.metrics.planted import Answer, Claim, KnownImage
from anomreason.textform import parse_json
from anomreason.textform.fields import shown

_Extras = Mapping[str, tuple[tuple[tuple[str, ...], Region | None], ...]]
"""Objects and region of each anomaly, by image; scores of texts need neither, and `reading` does not keep them."""


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
            "not_in_truth": [source.images[name].image for name in said.strangers],
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
    images = {key_of(one.image): Said(one.image) for one in known}
    if len(images) < len(known):
        raise UsageError(f"{path} lists a picture twice under names that are the same path; keep one")
    return Truth(Source(path.resolve().name, path, "pictures", images, path), images, (), (), ())


def _answers(known: list[KnownImage], said: Entrant) -> dict[str, Answer]:
    extras = _extras(said.source)
    found = {}
    for one in known:
        entry = said.said.get(key_of(one.image))
        if entry is not None:
            found[one.image] = _answer(entry, extras.get(key_of(entry.image), ()))
    return found


def _answer(said: Said, extras: tuple[tuple[tuple[str, ...], Region | None], ...]) -> Answer:
    if said.failure is not None or not said.annotated:
        return Answer(failure=said.failure or MISSING)
    beside = extras or (((), None),) * len(said.findings)
    return Answer(
        tuple(
            Claim(one.name, one.phenomenon, one.reasoning, one.severity, objects, region)
            for one, (objects, region) in zip(said.findings, beside, strict=True)
        )
    )


def _extras(source: Source) -> _Extras:
    """From the lines themselves, which `read_source` has checked; the published form has neither."""
    if source.form not in ("run", "lines"):
        return {}
    file = source.path / "results.jsonl" if source.form == "run" else source.path
    lines = file.read_bytes().split(b"\n")
    if source.form == "run":
        lines.pop()  # what follows the last line end is nothing, or torn by a kill
    found = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = parse_json(line.decode("utf-8-sig"))
            where = f"{file}, line {number}, anomaly"
            anomalies = enumerate(row.get("anomalies") or (), 1)
            found[key_of(row["image"])] = tuple(_extra(anomaly, f"{where} {n}") for n, anomaly in anomalies)
    return found


def _extra(anomaly: Mapping[str, Any], where: str) -> tuple[tuple[str, ...], Region | None]:
    region = anomaly.get("region")
    try:
        box = None if region is None else Region.model_validate(region_from(region))
    except ValidationError:
        raise UsageError(
            f"{where}: the region is {shown(region)}; write [x0, y0, x1, y1] in fractions 0..1 with x0 < x1 and y0 < y1"
        ) from None
    return tuple(anomaly.get("objects") or ()), box


def _signature(known: list[KnownImage], failures: Failures) -> dict[str, Any]:
    return {
        "truth": _hash(json.dumps(sorted(map(repr, known)))),
        "images": len(known),
        "cues": _hash(files("anomreason.metrics").joinpath("kind_cues.toml").read_text(encoding="utf-8")),
        "failures": failures,
        "anomreason": version("anomreason"),
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
