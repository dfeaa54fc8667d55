"""`anomreason deepfake score`: who tells AI images from photographs, and how well that is explained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from anomreason.cli import detect
from anomreason.cli.options import borrow_options, refuse_unused
from anomreason.cli.output import printable, say
from anomreason.cli.tables import (
    ENDS,
    VIEWS,
    TextTable,
    console,
    decimals,
    estimate_cells,
    failure_kinds,
    interval,
    label,
    note,
    number,
    print_simulated,
    warning,
    words,
)
from anomreason.english import counted
from anomreason.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomreason.deepfake.judge import ScoredRun
    from anomreason.deepfake.opinion import AskedQuestions
    from anomreason.deepfake.rating import RaterSetup
    from anomreason.evaluation.records import DeepfakeResult
    from anomreason.report.deepfake import CardRow

JUDGE_OPTIONS = (
    "base_url",
    "api_key_env",
    "in_flight",
    "timeout",
    "retries",
    "patience",
    "temperature",
    "max_reply_tokens",
    "max_side",
    "control_question",
    "max_cost",
    "max_tokens",
    "prices",
    "device",
    "dtype",
    "yes",
)
"""Options of `detect` that concern the model of --judge."""


def command(
    context: typer.Context,
    predictions: Annotated[str, typer.Argument(help="Run folder (detect --judge-source), .jsonl or published .json.")],
    truth: Annotated[str, typer.Argument(help="Which is which: a folder with 0_real/ and 1_fake/, or a file.")],
    backbone: Annotated[
        str | None, typer.Option(help="Also score explanations with this model (id or folder).")
    ] = None,
    layer: Annotated[int | None, typer.Option(help="Encoder layer to use. [default: the usual one]")] = None,
    profile: Annotated[
        str, typer.Option(help="How pairs are matched: equations (or paper), table1 (or release), or both.")
    ] = "paper",
    rank_by: Annotated[str, typer.Option(help="Confidence: severity (100 - it), order or confidence.")] = "severity",
    subset: Annotated[str | None, typer.Option(help="Only these images: FILE or FILE:PART.")] = None,
    image_folder: Annotated[
        Path | None, typer.Option(help="Folder of the image files, to check what they alone give away.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    threads: Annotated[int | None, typer.Option(help="CPU threads. [default: torch decides]")] = None,
    seed: Annotated[int, typer.Option(help="Seed for the intervals.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for deepfake.json, judgements.jsonl and the report page.")
    ] = None,
    report: Annotated[bool, typer.Option(help="Write the report page.")] = True,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Model that sees the images and rates each explanation, 1-5; needs --out, where it continues."
        ),
    ] = None,
    controls: Annotated[
        int, typer.Option(min=0, help="Images whose explanations are shown with another image too, with --judge.")
    ] = 50,
    **_judge: object,
) -> None:
    """Score judgements "AI image" or "photograph", and explanations where they can be scored.

    What failed, is missing or was not judged counts as wrong, and is counted beside that.
    """
    from anomreason.cli.eval import interruptible
    from anomreason.cli.progress import progress
    from anomreason.deepfake.card import write_card
    from anomreason.deepfake.judge import score
    from anomreason.deepfake.opinion import FOLDER
    from anomreason.evaluation.running import Settings
    from anomreason.evaluation.writing import check_folder
    from anomreason.metrics.bertscore import BackboneSpec

    settings = Settings(profile, rank_by=rank_by, seed=seed)  # type: ignore[arg-type]
    if backbone is None:
        refuse_unused(context, ("layer", "precision", "threads", "profile", "rank_by"), "without --backbone")
    elif settings.profile == "release":
        refuse_unused(context, ["rank_by"], f"with --profile {profile}, which does not rank predictions")
    if judge is None:
        refuse_unused(context, ("controls", *JUDGE_OPTIONS), "without --judge")
    elif out is None:
        raise UsageError("--judge keeps its ratings, so that the same command continues: name a folder with --out")
    if out is not None:
        check_folder(out)
    spec = None if backbone is None else BackboneSpec(backbone, layer, precision, threads)
    with interruptible(out), progress("comparing texts") as step:
        found = score(predictions, truth, spec, settings, subset=subset, image_folder=image_folder, progress=step)
    status = detect.DONE
    if judge is not None and out is not None:
        found, status = _ask_judge(context, found, judge, out)
    # Written before it is printed: a closed pipe ends the program there.
    page = write_card(found, out, report) if out is not None else None
    print_judgements(found.result)
    if out is not None:
        say(f"Wrote {out / 'deepfake.json'}", err=True)
    if page is not None:
        say(f"Report: {page}", err=True)
    if judge is None and out is not None and (out / FOLDER / "run.json").is_file():
        say(f"The ratings in {out / FOLDER} are left out; add --judge to have them in the card.", err=True)
    if status != detect.DONE:
        raise typer.Exit(status)


borrow_options(command, detect.command, JUDGE_OPTIONS)


def _ask_judge(context: typer.Context, run: ScoredRun, model: str, out: Path) -> tuple[ScoredRun, int]:
    """The scored run with the judge's ratings as far as they have come, and the exit code."""
    from anomreason.cli.options import fitting, model_options
    from anomreason.deepfake.opinion import FOLDER, questions
    from anomreason.deepfake.rating import rater

    asked = questions(run, context.params["controls"])
    taken = {"base_urls", *JUDGE_OPTIONS} - {"yes"}
    setup = fitting(
        context,
        lambda: rater(model, detect.detect_options(context), asked.explanations, model_options(context) & taken),
    )
    return ask_judge(setup, run, asked, out / FOLDER, yes=context.params["yes"])


def ask_judge(
    setup: RaterSetup, run: ScoredRun, asked: AskedQuestions, folder: Path, *, yes: bool
) -> tuple[ScoredRun, int]:
    """The scored run with the ratings that the folder has by the end, and the exit code. Asks before much is spent."""
    import numpy as np

    from anomreason.deepfake.opinion import open_ratings, with_opinion

    options = detect.CommandOptions(None, None, yes=yes, json_only=False, report=False)
    with open_ratings(setup, run, asked, folder) as ratings:
        todo = asked.todo(ratings)
        detect.note_processed(len(asked.asked) - len(todo), len(asked.asked), ratings.path, quiet=False)
        status = detect.process(setup, ratings, todo, options)
        detect.note_unfinished(ratings, [one.shown for one in asked.asked], status)
        rng = np.random.default_rng([setup.options.seed, 3])
        return with_opinion(run, asked, setup.model, ratings.path, rng), status


def print_judgements(found: DeepfakeResult) -> None:
    """Everything that one `deepfake.json` holds."""
    from anomreason.evaluation.notices import deepfake_notices
    from anomreason.metrics.image_scores import PROFILES
    from anomreason.report.deepfake import clean_rows, clean_sentence, number_rows, reference_sentence

    to = console()
    print_simulated(to, found.simulated)
    _print_head(found, to)
    _print_points(found, to)
    numbers = _numbers("Accuracy", number_rows(found))
    numbers.print(to)
    to.print(Text(f"Always giving the more frequent answer: accuracy {found.constant_accuracy:.4f}"))
    if found.uncalibrated:
        to.print(Text(f"No calibration: {found.uncalibrated}"))
    if found.answers:
        _answers(found).print(to)
    _numbers("Clean images and false anomalies", clean_rows(found)).print(to)
    if sentence := clean_sentence(found):
        to.print(Text(sentence))
    _print_explained(found, to)
    _print_opinion(found, to)
    if len(found.sources) > 2:
        _sources(found).print(to)
    if found.leaks:
        _leaks(found).print(to)
    else:
        to.print(Text("No leak check: it needs AI images and photographs.", style="yellow"))
    to.print()
    for notice in deepfake_notices(found):
        if notice.title != "Leak":
            to.print(warning(notice))
    for profile in found.explained:
        to.print(note(f"Profile {profile}", PROFILES[profile]))  # type: ignore[index]
    to.print(note("Reference", reference_sentence()))
    to.print(note("Signature", found.signature.line()), soft_wrap=True)


def _print_head(found: DeepfakeResult, to: Console) -> None:
    from anomreason.evaluation.notices import leak_notices

    failed = f"{found.failed:,} failed"
    failed += f" ({failure_kinds(found.failures)})" if found.failures else ""
    head = Text.assemble((printable(found.name), "bold"), f" against {printable(found.truth)}: ")
    head.append(f"{counted(found.n, 'image', 'images')}, {counted(found.fakes, 'AI image', 'AI images')}, ")
    head.append(f"{counted(found.photographs, 'photograph', 'photographs')}; {failed}, ")
    head.append(f"{found.abstained:,} unsure, {found.not_asked:,} not asked")
    to.print(head, soft_wrap=True)
    for notice in leak_notices(found):
        to.print(warning(notice))


def _print_points(found: DeepfakeResult, to: Console) -> None:
    from anomreason.report.deepfake import curve_sentence, point_rows

    if found.operating is None:
        return
    groups = [[number("AI images\nfound"), number(ENDS), words("by", 24)]]
    table = TextTable("Operating points", [number("false\nalarms")], groups)
    for row in point_rows(found.operating):
        table.add(row.false_alarms, decimals(row.recall.value, 3), interval(row.recall.interval), row.note)
    table.print(to)
    to.print(Text(curve_sentence(found.operating)))


def _numbers(title: str, rows: Sequence[CardRow]) -> TextTable:
    groups = [[number("value"), number(ENDS), number("n"), words("share of, or mean of", 20)]]
    table = TextTable(title, [words("number", 18)], groups)
    for row in rows:
        table.add(row.name, *estimate_cells(row.estimate), row.meaning)
    return table


def _answers(found: DeepfakeResult) -> TextTable:
    heads = ("judged\nAI image", "judged\nphotograph", "unsure", "not\nasked", "failed")
    table = TextTable("What became of the images", [label("truth")], [list(map(number, heads))])
    for kind, name in (("fakes", "AI images"), ("photographs", "photographs")):
        one = found.answers[kind]
        cells = (one.generated, one.photograph, one.unsure, one.not_asked, one.failed)
        table.add(name, *(f"{n:,}" for n in cells))
    return table


def _print_opinion(found: DeepfakeResult, to: Console) -> None:
    from anomreason.report.deepfake import opinion_rows

    if (opinion := found.opinion) is None:
        return
    _numbers(f"A second opinion on the explanations: {printable(opinion.model)}", opinion_rows(found)).print(to)
    counts = ", ".join(f"{n:,} rated {rating}" for rating, n in enumerate(opinion.counts, 1))
    failed = failure_kinds(opinion.failures) or "none"
    to.print(
        Text(
            f"Explanations: {counts}. Images without ratings: {failed}; without explanations: {opinion.unexplained:,}."
        )
    )


def _print_explained(found: DeepfakeResult, to: Console) -> None:
    if found.unexplained:
        to.print(Text(f"Explanations were not scored: {found.unexplained}", style="yellow"))
        return
    groups = [[number(over), number(ENDS), number("n")] for over in ("AI images\nonly", "all\nimages")]
    table = TextTable("Explanations", [words(name, 8) for name in ("profile", "score", "compares")], groups)
    described = 0
    for profile, views in found.explained.items():
        for view, scores in views.items():
            for name, one in (("CSemAP", scores.semap), ("CSemF1", scores.semf1)):
                described = one.described
                table.add(
                    profile, name, VIEWS.get(view, view), *estimate_cells(one.release), *estimate_cells(one.over_all)
                )
    table.print(to)
    to.print(Text(f"{found.rule} Scored by description: {counted(described, 'photograph', 'photographs')}."))


def _sources(found: DeepfakeResult) -> TextTable:
    right = [number("judged\nright"), number(ENDS), number("images")]
    rest = [number("anomalies\nper image"), number("unsure"), number("not\nasked"), words("failed", 9)]
    table = TextTable("By source", [words("source"), label("kind")], [right, rest])
    for one in found.sources:
        cells = [*estimate_cells(one.right), decimals(one.claimed.value, 2), f"{one.abstained:,}", f"{one.not_asked:,}"]
        kind = "AI images" if one.generated else "photographs"
        table.add(printable(one.source) or "(top folder)", kind, *cells, failure_kinds(one.failures) or "none")
    return table


def _leaks(found: DeepfakeResult) -> TextTable:
    title = "Could the file alone give it away? Balanced accuracy of one fact, 0.5 by guessing"
    heads = ("balanced\naccuracy", ENDS, "n", "not\nknown")
    table = TextTable(title, [label("fact")], [[*map(number, heads), words("best rule", 20)]])
    for leak in found.leaks:
        table.add(leak.fact, *estimate_cells(leak.balanced_accuracy), f"{leak.unknown:,}", printable(leak.rule))
    return table
