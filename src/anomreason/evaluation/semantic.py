"""`eval`: prediction files against one truth, from files to files.

    evaluate(["runs/gpt-4o"], "truth.json", Path("scores"), backbone="distilbert-base-uncased")

Everything is read, joined and checked before a model is loaded, and nothing is written before everything is scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from anomreason.errors import UsageError
from anomreason.evaluation.breakdowns import by_truths
from anomreason.evaluation.records import (
    AgainstResult,
    AnnotationsFile,
    CeilingResult,
    EncodedTexts,
    EvalCommon,
    EvalOptions,
    EvalResult,
    JoinedImages,
    LeftOut,
    PredictionsFile,
)
from anomreason.evaluation.running import COMPARISON, Contest, Progress, Settings, run
from anomreason.evaluation.signature import semantic_signature
from anomreason.evaluation.writing import LineStore, check_folder, result_folders, write_results
from anomreason.metrics.bertscore import Backbone, BackboneSpec, PrecisionDrift
from anomreason.metrics.semantic import compare
from anomreason.sources.annotations import read_source
from anomreason.sources.joining import Entrant, Truth, entrant, scored_images

_GROUPS = 3
"""Stream of the draws for scores by number of truths; see `running`."""
_SAMPLE = 32
"""Texts of each side on which the drift of a lower precision is measured."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One scored file."""

    folder: Path
    result: EvalResult
    """What `metrics.json` in the folder holds."""


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
) -> list[Evaluation]:
    """Score files and write `metrics.json` and `matches.jsonl`: into `out`, or `out/NAME` when there are several.

    predictions, truth, against, ceiling: as `annotations.read_source` takes them. subset: as `read_names` takes it.
    Raises UsageError, naming file and place, for what cannot be read, joined or written.
    """
    spec = BackboneSpec(str(backbone)) if isinstance(backbone, str) else backbone
    true = scored_images(read_source(truth), subset)
    entrants = [entrant(read_source(path), true) for path in predictions]
    if not entrants:
        raise UsageError("there are no predictions; give at least one file before the truth")
    folders = result_folders([e.source for e in entrants], out)
    for folder in folders:
        check_folder(folder)
    others = [None if given is None else entrant(read_source(given), true) for given in (against, ceiling)]
    with ExitStack() as stack:
        stores = [stack.enter_context(LineStore()) for _ in entrants]
        contests = [Contest(e, settings, store) for e, store in zip(entrants, stores, strict=True)]
        other, second = (None if e is None else Contest(e, settings) for e in others)
        opened = spec.open()
        run([*contests, *(contest for contest in (other, second) if contest)], true, opened, progress)
        common = _common(true, contests[0], opened, second)
        found = [
            Evaluation(folder, _result(contest, true, common, other))
            for folder, contest in zip(folders, contests, strict=True)
        ]
        for one, store in zip(found, stores, strict=True):
            write_results(one.folder, one.result, store, true.images)
    return found


def _common(truth: Truth, contest: Contest, backbone: Backbone, ceiling: Contest | None) -> EvalCommon:
    """What belongs to the truth and the backbone; drift is measured on the predictions of this contest."""
    settings, counts = contest.settings, backbone.counts
    signature = semantic_signature(backbone.signature, settings.semantic, truth.images)
    return EvalCommon(
        signature=signature,
        comparable={profile: signature.comparable(profile) for profile in settings.semantic.profiles},
        ceiling=None if ceiling is None else _ceiling(ceiling),
        settings=EvalOptions(failures=settings.failures, shuffles=settings.shuffles, seed=settings.seed),
        alphas=settings.semantic.alphas,
        texts=EncodedTexts(
            encoded=counts.texts,
            truncated=counts.truncated,
            blank=counts.blank,
            unknown=counts.unknown,
            limit=backbone.limit,
        ),
        drift=_drift(contest.entrant, truth, backbone),
        left_out=LeftOut(photographs=truth.photographs, truth_failed=truth.failed, subset_unknown=truth.unknown),
        truth=AnnotationsFile(path=str(truth.source.path), images=len(truth.images)),
    )


def _result(contest: Contest, truth: Truth, common: EvalCommon, against: Contest | None) -> EvalResult:
    source, settings = contest.entrant.source, contest.settings
    compared = None
    if against is not None:
        other = against.entrant.source
        comparison = compare(contest.scorer, against.scorer, settings.rng(COMPARISON), settings.failures)
        compared = AgainstResult(**dict(comparison), name=other.name, path=str(other.path))
    return EvalResult(
        **dict(contest.result()),
        **dict(common),
        name=source.name,
        simulated=source.simulated,
        against=compared,
        severity=contest.calibration.result(),
        by_truths=tuple(by_truths(contest.scorer, settings.rng(_GROUPS))),
        joined=JoinedImages.of(contest.entrant, truth.images),
        predictions=PredictionsFile(
            path=str(source.path),
            detectors=source.detectors,
            pictures=None if source.image_folder is None else str(source.image_folder),
        ),
    )


def _ceiling(contest: Contest) -> CeilingResult:
    """On the images that the second annotation has: those it lacks do not show how well people agree."""
    result, source = contest.result(), contest.entrant.source
    views = {
        profile: {view: score.dropped for view, score in found.items() if score.dropped}
        for profile, found in result.profiles.items()
    }
    return CeilingResult(name=source.name, path=str(source.path), n=result.images.answered, profiles=views)


def _drift(predictions: Entrant, truth: Truth, backbone: Backbone) -> PrecisionDrift | None:
    """How far a lower precision is off, on texts of these very files; None for fp32."""
    if backbone.signature["precision"] == "fp32":
        return None
    sides = [
        [f.phenomenon for image in images for f in image.anomalies][:_SAMPLE]
        for images in (predictions.answers.values(), truth.images.values())
    ]
    return backbone.drift(*sides) if all(sides) else None
