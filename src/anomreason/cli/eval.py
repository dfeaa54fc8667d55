"""`anomreason eval`: how well detectors find and explain anomalies, against annotated images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from anomreason.cli.options import refuse_unused

NEEDS_TEXTS = (
    *("backbone", "layer", "precision", "threads", "profile", "alpha", "rank_by", "shuffles"),
    *("subset", "against", "ceiling", "report", "verbose"),
)
"""Options of the comparison of texts, which `--exact` does without."""


def command(
    context: typer.Context,
    predictions: Annotated[
        list[str],
        typer.Argument(metavar="PREDICTIONS...", help="Run folders, .jsonl files or published .json; or NAME=PATH."),
    ],
    truth: Annotated[str, typer.Argument(help="The annotated images, in any of these forms.")],
    out: Annotated[Path, typer.Option(help="Folder for metrics.json, matches.jsonl and the report.")],
    backbone: Annotated[
        str, typer.Option(help="Model that compares texts: a Hugging Face id or a local folder.")
    ] = "distilbert-base-uncased",
    layer: Annotated[int | None, typer.Option(help="Its layer. [default: the usual one, where known]")] = None,
    profile: Annotated[str, typer.Option(help="How pairs are matched and averaged: paper, release or both.")] = "paper",
    alpha: Annotated[
        list[float] | None, typer.Option(help="Further share of the phenomenon in `full`; repeat for several.")
    ] = None,
    rank_by: Annotated[
        str, typer.Option(help="What stands for confidence: severity (100 - it), order or confidence.")
    ] = "severity",
    failures: Annotated[str, typer.Option(help="Failed and missing images: zero (they score 0) or drop.")] = "zero",
    subset: Annotated[
        str | None, typer.Option(help="Only these images: a split (FILE or FILE:PART), a list, a manifest.")
    ] = None,
    against: Annotated[str | None, typer.Option(help="Other predictions to compare with, image by image.")] = None,
    ceiling: Annotated[str | None, typer.Option(help="A second annotation: what people get against the truth.")] = None,
    shuffles: Annotated[int, typer.Option(help="Shuffles of the images for the chance level; 0 for none.")] = 20,
    precision: Annotated[str, typer.Option(help="fp32; or bf16, faster, whose numbers are marked.")] = "fp32",
    threads: Annotated[int | None, typer.Option(help="CPU threads. [default: torch decides]")] = None,
    seed: Annotated[int, typer.Option(help="Of intervals, p-values and shuffles.")] = 0,
    report: Annotated[bool, typer.Option(help="Build the HTML report at the end.")] = True,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print every view by threshold, pooled scores, and what they mean.")
    ] = False,
    exact: Annotated[
        bool, typer.Option(help="TRUTH is a folder of scenes: which planted anomalies were found. Needs no model.")
    ] = False,
) -> None:
    """Score predictions against a truth: SemAP and SemF1, with interval, chance level and failures.

    Texts are compared by BERTScore F1 from 0 to 1; a prediction and a true anomaly can match from 0.7, 0.8 or 0.9 on,
    each once. Scores run from 0 to 1, higher is better. With several predictions each gets a folder of its own in OUT,
    and the truth is encoded once. Needs: pip install 'anomreason[score]'.
    """
    if exact:
        refuse_unused(context, NEEDS_TEXTS, "with --exact")
        _exact(predictions, truth, out, failures, seed)
        return
    if profile == "release":
        refuse_unused(context, ["rank_by"], "with --profile release, which does not rank predictions")
    from anomreason.cli import show_scores
    from anomreason.cli.progress import progress
    from anomreason.evaluation.running import Settings
    from anomreason.evaluation.semantic import evaluate
    from anomreason.metrics.bertscore import BackboneSpec
    from anomreason.report.scores import build_score_report

    settings = Settings(profile, tuple(alpha or ()), rank_by, failures, shuffles, seed)  # type: ignore[arg-type]
    with interruptible(out), progress("comparing texts") as step:
        found = evaluate(
            predictions,
            truth,
            out,
            BackboneSpec(backbone, layer, precision, threads),
            settings,
            subset=subset,
            against=against,
            ceiling=ceiling,
            progress=step,
        )
    # All files first: a closed pipe ends the program where it prints.
    reports = [build_score_report(one.folder) for one in found] if report else []
    show_scores.evaluations([(one.metrics, one.folder) for one in found], verbose)
    for path in reports:
        typer.echo(f"Report: {path}", err=True)
    if len(found) > 1:
        typer.echo(f"Side by side: anomreason leaderboard {out}", err=True)


def _exact(predictions: list[str], scenes: str, out: Path, failures: str, seed: int) -> None:
    from anomreason.cli import show_exact
    from anomreason.evaluation.exact import write_exact

    with interruptible(out):
        written = write_exact(predictions, scenes, out, failures, seed)
    for found, folder in written:
        show_exact.exact(found)
        typer.echo(f"Files: {folder / 'exact.json'}")


@contextmanager
def interruptible(out: Path | None) -> Iterator[None]:
    """Says on Ctrl-C what has become of `out`, and ends with status 130."""
    before = _stamps(out)
    try:
        yield
    except KeyboardInterrupt:
        left = "nothing was written" if _stamps(out) == before else "not all was written: run the same command again"
        typer.echo(f"anomreason: interrupted; {left}", err=True)
        raise typer.Exit(130) from None


def _stamps(out: Path | None) -> dict[Path, int]:
    """Times of the result files in a folder and one below."""
    names = ("metrics.json", "matches.jsonl", "deepfake.json", "exact.json")
    found = [path for name in names for place in (name, f"*/{name}") for path in out.glob(place)] if out else []
    return {path: path.stat().st_mtime_ns for path in found}
