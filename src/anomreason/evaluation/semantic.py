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
class EvalInputs:
    """Predictions and truth, read and joined."""

    truth: Truth
    entrants: tuple[Entrant, ...]
    folders: tuple[Path, ...]
    """Where the results of each go."""
    against: Entrant | None
    ceiling: Entrant | None


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

    predictions, truth, against, ceiling: as `reading.read_source` takes them. subset: as `reading.read_names` takes it.
    Raises UsageError, naming file and place, for what cannot be read, joined or written.
    """
    spec = BackboneSpec(str(backbone)) if isinstance(backbone, str) else backbone
    inputs = read_inputs(predictions, truth, out, subset, against, ceiling)
    with ExitStack() as stack:
        stores = [stack.enter_context(LineStore()) for _ in inputs.entrants]
        contests = [Contest(e, settings, store) for e, store in zip(inputs.entrants, stores, strict=True)]
        against_contest = Contest(inputs.against, settings) if inputs.against else None
        ceiling_contest = Contest(inputs.ceiling, settings) if inputs.ceiling else None
        opened = spec.open()
        further = [contest for contest in (against_contest, ceiling_contest) if contest]
        run([*contests, *further], inputs.truth, opened, progress)
        results = _results(inputs, contests, opened, against_contest, ceiling_contest)
        found = [Evaluation(folder, result) for folder, result in zip(inputs.folders, results, strict=True)]
        for one, store in zip(found, stores, strict=True):
            write_results(one.folder, one.result, store, inputs.truth.images)
    return found


def read_inputs(
    predictions: Sequence[str | Path],
    truth: str | Path,
    out: Path,
    subset: str | Path | None = None,
    against: str | Path | None = None,
    ceiling: str | Path | None = None,
) -> EvalInputs:
    """Read and join everything. UsageError for whatever cannot be used."""
    true = scored_images(read_source(truth), subset)
    entrants = tuple(entrant(read_source(path), true) for path in predictions)
    if not entrants:
        raise UsageError("there are no predictions; give at least one file before the truth")
    folders = result_folders([e.source for e in entrants], out)
    for folder in folders:
        check_folder(folder)
    other = entrant(read_source(against), true) if against is not None else None
    second = entrant(read_source(ceiling), true) if ceiling is not None else None
    return EvalInputs(true, entrants, folders, other, second)


def _results(
    inputs: EvalInputs,
    contests: Sequence[Contest],
    backbone: Backbone,
    against: Contest | None,
    ceiling: Contest | None,
) -> list[EvalResult]:
    """A record for each file; all share what belongs to the truth and the backbone."""
    truth, settings, counts = inputs.truth, contests[0].settings, backbone.counts
    signature = semantic_signature(backbone.signature, settings.semantic, truth.images)
    common = EvalCommon(
        signature=signature,
        comparable={profile: signature.comparable(profile) for profile in settings.semantic.profiles},
        ceiling=None if ceiling is None else _ceiling(ceiling),
        settings=EvalOptions(failures=settings.failures, shuffles=settings.shuffles, seed=settings.seed),
        alphas=settings.semantic.alphas,
        texts=EncodedTexts(encoded=counts.texts, truncated=counts.truncated, blank=counts.blank, limit=backbone.limit),
        drift=_drift(inputs, backbone),
        left_out=LeftOut(photographs=truth.photographs, truth_failed=truth.failed, subset_unknown=truth.unknown),
        truth=AnnotationsFile(path=str(truth.source.path), images=len(truth.images)),
    )
    return [_result(contest, truth, common, against) for contest in contests]


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
            pictures=None if source.pictures is None else str(source.pictures),
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


def _drift(inputs: EvalInputs, backbone: Backbone) -> PrecisionDrift | None:
    """How far a lower precision is off, on texts of these very files; None for fp32."""
    if backbone.signature["precision"] == "fp32":
        return None
    sides = [
        [f.phenomenon for said in images for f in said.anomalies][:_SAMPLE]
        for images in (inputs.entrants[0].said.values(), inputs.truth.images.values())
    ]
    if not all(sides):
        return None
    return backbone.drift(*sides)
