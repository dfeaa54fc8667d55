"""`eval`: prediction files against one truth, from files to files.

    evaluate(["runs/gpt-4o"], "truth.json", Path("scores"), backbone="distilbert-base-uncased")

Everything is read, joined and checked before a model is loaded, and nothing is written before everything is scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomreason.errors import UsageError
from anomreason.evaluation.groups import by_truths
from anomreason.evaluation.running import COMPARISON, Contest, Progress, Settings, run
from anomreason.evaluation.signature import comparable, semantic_signature
from anomreason.evaluation.writing import Lines, check_folder, folders_of, write_results
from anomreason.metrics.bertscore import Backbone, BackboneSpec
from anomreason.metrics.semantic import SemanticResult, compare
from anomreason.sources.annotations import read_source
from anomreason.sources.joining import Entrant, Truth, entrant, scored_images

_GROUPS = 3
"""Stream of the draws for scores by number of truths; see `running`."""
_SAMPLE = 32
"""Texts of each side on which the drift of a lower precision is measured."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is held against what, read and joined."""

    truth: Truth
    entrants: tuple[Entrant, ...]
    folders: tuple[Path, ...]
    """Where the results of each go."""
    against: Entrant | None
    ceiling: Entrant | None


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One scored file."""

    folder: Path
    metrics: dict[str, Any]
    """What `metrics.json` holds."""


def evaluate(
    predictions: Sequence[str | Path],
    truth: str | Path,
    out: Path,
    backbone: BackboneSpec | str = BackboneSpec(),  # noqa: B008
    settings: Settings = Settings(),  # noqa: B008
    *,
    subset: str | Path | None = None,
    against: str | Path | None = None,
    ceiling: str | Path | None = None,
    progress: Progress = lambda *_: None,
) -> list[Evaluated]:
    """Score files and write `metrics.json` and `matches.jsonl`: into `out`, or `out/NAME` when there are several.

    predictions, truth, against, ceiling: as `reading.read_source` takes them. subset: as `reading.read_names` takes it.
    Raises UsageError, naming file and place, for what cannot be read, joined or written.
    """
    spec = BackboneSpec(str(backbone)) if isinstance(backbone, str) else backbone
    question = ask(predictions, truth, out, subset, against, ceiling)
    with ExitStack() as stack:
        kept = [stack.enter_context(Lines()) for _ in question.entrants]
        contests = [Contest(e, settings, lines) for e, lines in zip(question.entrants, kept, strict=True)]
        beside = {
            name: Contest(one, settings)
            for name, one in (("against", question.against), ("ceiling", question.ceiling))
            if one
        }
        opened = spec.open()
        run([*contests, *beside.values()], question.truth, opened, progress)
        common = _common(question, settings, opened, beside.get("ceiling"))
        found = [
            Evaluated(folder, _metrics(contest, question.truth, common, beside.get("against")))
            for contest, folder in zip(contests, question.folders, strict=True)
        ]
        for one, lines in zip(found, kept, strict=True):
            write_results(one.folder, one.metrics, lines, question.truth.images)
    return found


def ask(
    predictions: Sequence[str | Path],
    truth: str | Path,
    out: Path,
    subset: str | Path | None = None,
    against: str | Path | None = None,
    ceiling: str | Path | None = None,
) -> Question:
    """Read and join everything. UsageError for whatever cannot be used."""
    true = scored_images(read_source(truth), subset)
    entrants = tuple(entrant(read_source(path), true) for path in predictions)
    if not entrants:
        raise UsageError("there are no predictions; give at least one file before the truth")
    folders = folders_of([e.source for e in entrants], out)
    for folder in folders:
        check_folder(folder)
    other = entrant(read_source(against), true) if against is not None else None
    second = entrant(read_source(ceiling), true) if ceiling is not None else None
    return Question(true, entrants, folders, other, second)


def _common(question: Question, settings: Settings, backbone: Backbone, ceiling: Contest | None) -> dict[str, Any]:
    """What all results of one command share."""
    semantic, truth, counts = settings.semantic, question.truth, backbone.counts
    return {
        "signature": semantic_signature(backbone.signature, semantic, truth.images),
        "settings": {"failures": settings.failures, "shuffles": settings.shuffles, "seed": settings.seed},
        "alphas": list(semantic.alphas),
        "texts": {
            "encoded": counts.texts,
            "truncated": counts.truncated,
            "blank": counts.blank,
            "limit": backbone.limit,
        },
        "drift": _drift(question, backbone),
        "left_out": {
            "photographs": list(truth.photographs),
            "truth_failed": list(truth.failed),
            "subset_unknown": list(truth.unknown),
        },
        "truth": {"path": str(truth.source.path), "images": len(truth.images)},
        "ceiling": None if ceiling is None else _ceiling(ceiling),
    }


def _metrics(contest: Contest, truth: Truth, common: dict[str, Any], against: Contest | None) -> dict[str, Any]:
    result, settings = contest.result(), contest.settings
    figures = result.as_json()
    both, one = figures.pop("both_empty"), figures.pop("one_empty")
    source, ceiling = contest.entrant.source, common["ceiling"]
    compared = None
    if against is not None:
        compared = {"name": against.entrant.source.name, "path": str(against.entrant.source.path)}
        compared |= compare(contest.scorer, against.scorer, settings.rng(COMPARISON), settings.failures).as_json()
    return {
        "name": source.name,
        "signature": common["signature"],
        "comparable": {p: comparable(common["signature"], p) for p in settings.semantic.profiles},
        "simulated": source.simulated,
        **figures,
        "images": {"answered": result.n - sum(result.failures.values()), "both_empty": both, "one_empty": one},
        "saturated": _saturated(result),
        **({"ceiling": ceiling} if ceiling else {}),
        **({"against": compared} if compared else {}),
        "severity": contest.calibration.as_json(),
        "by_truths": by_truths(contest.scorer, settings.rng(_GROUPS)),
        "joined": _joined(contest.entrant, truth),
        **{k: v for k, v in common.items() if k not in ("signature", "ceiling") and v is not None},
        "predictions": {
            "path": str(source.path),
            "detectors": list(source.detectors),
            "pictures": None if source.pictures is None else str(source.pictures),
        },
    }


def _joined(one: Entrant, truth: Truth) -> dict[str, Any]:
    return {
        "by_path": len(one.said) - one.by_file_name,
        "by_file_name": one.by_file_name,
        "not_in_truth": one.named(one.strangers),
        "ambiguous": one.named(one.ambiguous),
        "missing": [said.image for name, said in truth.images.items() if name not in one.said],
    }


def _saturated(result: SemanticResult) -> list[dict[str, Any]]:
    """Thresholds at which nearly nothing or nearly everything matches, which hardly tell detectors apart."""
    return [
        {"profile": profile, "view": view, "threshold": threshold, "matches": row.saturated, "share": row.matched}
        for profile, views in result.profiles.items()
        for view, score in views.items()
        for threshold, row in score.zero.thresholds.items()
        if row.saturated
    ]


def _ceiling(contest: Contest) -> dict[str, Any]:
    """Of the images that the second annotation has: those it lacks say nothing of how well people agree."""
    result = contest.result()
    source = contest.entrant.source
    views = {
        profile: {view: score.dropped.as_json() for view, score in found.items() if score.dropped}
        for profile, found in result.profiles.items()
    }
    n = result.n - sum(result.failures.values())
    return {"name": source.name, "path": str(source.path), "n": n, "profiles": views}


def _drift(question: Question, backbone: Backbone) -> dict[str, Any] | None:
    """How far a lower precision is off, on texts of these very files; None for fp32."""
    if backbone.signature["precision"] == "fp32":
        return None
    sides = [
        [f.phenomenon for said in images for f in said.anomalies][:_SAMPLE]
        for images in (question.entrants[0].said.values(), question.truth.images.values())
    ]
    if not all(sides):
        return None
    drift = backbone.drift(*sides)
    return {"pairs": drift.pairs, "mean": drift.mean, "largest": drift.largest}
