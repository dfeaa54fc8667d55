"""`anomreason eval`: how well detectors find and explain anomalies, against annotated images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from anomreason.cli.options import refuse_unused
from anomreason.cli.output import printable, say
from anomreason.cli.tables import (
    ENDS,
    SCORES,
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
    p_value,
    print_simulated,
    warning,
    words,
)
from anomreason.english import counted
from anomreason.interrupt import saying

if TYPE_CHECKING:
    from anomreason.evaluation.records import EvalResult, ExactResult
    from anomreason.evaluation.semantic import Evaluation
    from anomreason.metrics.semantic import Figures

NEEDS_TEXTS = (
    *("backbone", "layer", "precision", "threads", "profile", "alpha", "rank_by", "shuffles"),
    *("subset", "against", "ceiling", "verbose"),
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
    layer: Annotated[
        int | None, typer.Option(help="Encoder layer to use. [default: the usual one, where known]")
    ] = None,
    profile: Annotated[
        str,
        typer.Option(help="How pairs are matched and averaged: equations (or paper), table1 (or release), or both."),
    ] = "paper",
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
    seed: Annotated[int, typer.Option(help="Seed for intervals, p-values and shuffles.")] = 0,
    report: Annotated[bool, typer.Option(help="Build the HTML report at the end.")] = True,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Print every view by threshold, pooled scores, and what they mean.")
    ] = False,
    exact: Annotated[
        bool,
        typer.Option(help="TRUTH is a folder of scenes: score which planted anomalies were found. Needs no model."),
    ] = False,
) -> None:
    """Score predictions against a truth: SemAP and SemF1, with interval, chance level and failures.

    Texts are compared by BERTScore F1 from 0 to 1; a prediction and a true anomaly can match from 0.7, 0.8 or 0.9 on,
    each once. Scores run from 0 to 1, higher is better. With several predictions each gets a folder of its own in OUT,
    and the truth is encoded once. Needs the extra score: pip install '.[score]' in the clone.
    """
    if exact:
        refuse_unused(context, NEEDS_TEXTS, "with --exact")
        _exact(predictions, truth, out, failures, seed, report)
        return
    from anomreason.cli.progress import progress
    from anomreason.evaluation.running import Settings
    from anomreason.evaluation.semantic import evaluate
    from anomreason.metrics.bertscore import BackboneSpec
    from anomreason.report.scores import build_score_report

    settings = Settings(profile, tuple(alpha or ()), rank_by, failures, shuffles, seed)  # type: ignore[arg-type]
    if settings.profile == "release":
        refuse_unused(context, ["rank_by"], f"with --profile {profile}, which does not rank predictions")
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
    print_evaluations(found, verbose)
    for path in reports:
        say(f"Report: {path}", err=True)
    if len(found) > 1:
        say(f"Side by side: anomreason leaderboard {out}", err=True)


def _exact(predictions: list[str], scenes: str, out: Path, failures: str, seed: int, report: bool) -> None:
    from anomreason.evaluation.exact import write_exact
    from anomreason.report.scores import build_exact_report

    with interruptible(out):
        written = write_exact(predictions, scenes, out, failures, seed)
    reports = [build_exact_report(folder) for _, folder in written] if report else []
    for result, folder in written:
        print_exact(result)
        say(f"Files: {folder / 'exact.json'}")
    for path in reports:
        say(f"Report: {path}", err=True)


@contextmanager
def interruptible(out: Path | None) -> Iterator[None]:
    """Says on Ctrl-C what has become of `out`, and ends with status 130."""
    before = _stamps(out)

    def message() -> str:
        left = "nothing was written" if _stamps(out) == before else "not all was written: run the same command again"
        return f"interrupted; {left}"

    try:
        with saying(message):
            yield
    except KeyboardInterrupt:
        say(f"anomreason: {message()}", err=True)
        raise typer.Exit(130) from None


def _stamps(out: Path | None) -> dict[Path, int]:
    """Times of the result files in a folder and one below."""
    names = ("metrics.json", "matches.jsonl", "deepfake.json", "exact.json")
    found = [path for name in names for place in (name, f"*/{name}") for path in out.glob(place)] if out else []
    return {path: path.stat().st_mtime_ns for path in found}


def print_evaluations(found: Sequence[Evaluation], verbose: bool = False) -> None:
    """The results of one command; what they share is printed once, at the end."""
    out = console()
    for one in found:
        _print_evaluation(out, one.result, verbose)
        files = printable(str(one.folder / "metrics.json"))
        out.print(Text(f"Files: {files}, matches.jsonl", style="dim"), soft_wrap=True)
    if found:
        out.print()
        for text in _shared_notes([one.result for one in found], verbose):
            out.print(text, soft_wrap=text.plain.startswith("Signature"))


def _print_evaluation(out: Console, result: EvalResult, verbose: bool) -> None:
    from anomreason.evaluation.notices import eval_notices

    out.print()
    print_simulated(out, result.simulated)
    kinds = f" ({failure_kinds(result.failures)})" if result.failed else ""
    head = Text.assemble((printable(result.name), "bold"), f" against {printable(result.truth.path)}: ")
    head.append(f"{counted(result.n, 'image', 'images')}, {result.images.answered:,} answered, ")
    out.print(head.append(f"{result.failed:,} failed{kinds}"), soft_wrap=True)
    _scores(result).print(out)
    if verbose:
        _counted_otherwise(result).print(out)
    _thresholds(result, verbose).print(out)
    if result.against:
        _against(result).print(out)
    out.print()
    for text in (*_notes(result), *map(warning, eval_notices(result))):
        out.print(text)


def _shown(result: EvalResult, profile: str, view: str) -> Figures | None:
    """Figures with failures counted as asked; None when all failed and are left out."""
    figures = result.profiles[profile][view]
    return figures.dropped if result.settings.failures == "drop" else figures


def _scores(result: EvalResult) -> TextTable:
    """A row a view: both scores, each with its interval, its chance level and its ceiling where there are any."""
    ceiling, chance, dropped = result.ceiling, bool(result.settings.shuffles), result.settings.failures == "drop"
    beside = [*(["chance"] if chance else []), *(["ceiling"] if ceiling else [])]
    groups = [[number(name), number(ENDS), *map(number, beside)] for name in SCORES.values()]
    over = counted(result.images.answered if dropped else result.n, "image", "images")
    table = TextTable(f"Over {over}", [label("profile"), label("compares")], groups)
    for profile, views in result.profiles.items():
        for view in views:
            figures, cells = _shown(result, profile, view), list[str]()
            top = ceiling.profiles.get(profile, {}).get(view) if ceiling else None
            for metric in SCORES:
                guess = figures.chance if figures else None
                cells.append(decimals(getattr(figures, metric)) if figures else "-")
                cells.append(interval(getattr(figures.interval, metric)) if figures else "-")
                cells += [decimals(getattr(guess, metric) if guess else None)] if chance else []
                cells += [decimals(getattr(top, metric) if top else None)] if ceiling else []
            table.add(profile, VIEWS.get(view, view), *cells)
        table.section()
    return table


def _counted_otherwise(result: EvalResult) -> TextTable:
    """The same scores counted in other ways: pooled, and with failed images the other way."""
    other_way = "failed\nat 0" if result.settings.failures == "drop" else "failed\nleft out"
    groups = [
        [number(f"{name}\npooled")] + ([number(f"{name},\n{other_way}")] if result.failures else [])
        for name in SCORES.values()
    ]
    table = TextTable("Counted otherwise", [label("profile"), label("compares")], groups)
    for profile, views in result.profiles.items():
        for view, zero in views.items():
            figures, other = _shown(result, profile, view), result.beside(profile, view)
            if not zero.dropped and result.settings.failures == "drop":
                other = zero
            # Where SemAP is a precision, its pooled form is the pooled precision.
            pooled = (
                {"semap": figures.micro.precision if profile == "release" else None, "semf1": figures.micro.f1}
                if figures
                else {}
            )
            cells = []
            for metric in SCORES:
                cells.append(decimals(pooled.get(metric)))
                cells += [decimals(getattr(other, metric) if other else None)] if result.failures else []
            table.add(profile, VIEWS.get(view, view), *cells)
        table.section()
    return table


def _thresholds(result: EvalResult, verbose: bool) -> TextTable:
    chance = bool(result.settings.shuffles)
    heads = [
        "similarity\n>=",
        "matched",
        "unmatched\npredictions",
        "unmatched\ntruths",
        "precision",
        "recall",
        "AP",
        "F1",
    ]
    title = "By threshold of similarity" + ("" if verbose else ", full")
    keys = [label("profile"), *([label("compares")] if verbose else [])]
    table = TextTable(title, keys, [[number(head) for head in [*heads, *(["chance\nF1"] if chance else [])]]])
    for profile, views in result.profiles.items():
        for view in views if verbose else ("full",):
            figures = _shown(result, profile, view)
            for threshold, row in figures.thresholds.items() if figures else ():
                guess = figures.chance.thresholds[threshold].f1.mean if figures and figures.chance else None
                table.add(
                    *(profile, *([VIEWS.get(view, view)] if verbose else [])),
                    f"{'! ' if row.saturated else ''}{threshold:.10g}",
                    *(f"{count:,}" for count in (row.tp, row.fp, row.fn)),
                    *(decimals(share, 3) for share in (row.precision, row.recall)),
                    # Where SemAP is a precision, that stands there already.
                    decimals(row.ap if profile == "paper" else None, 3),
                    decimals(row.f1, 3),
                    *([decimals(guess, 3)] if chance else []),
                )
        table.section()
    return table


def _against(result: EvalResult) -> TextTable:
    against = result.against
    if against is None:
        raise ValueError("these results were compared with nothing")
    over = counted(against.n, "image", "images")
    title = printable(f"{result.name} minus {against.name}, on the same {over}")
    groups = [[number(name), number(ENDS), number("p")] for name in SCORES.values()]
    table = TextTable(title, [label("profile"), label("compares")], groups)
    for profile, views in against.profiles.items():
        for view, scores in views.items():
            cells = []
            for one in (scores.semap, scores.semf1):
                cells += [f"{one.value:+.4f}", interval(one.interval), p_value(one.p)]
            table.add(profile, VIEWS.get(view, view), *cells)
        table.section()
    return table


def _notes(result: EvalResult) -> Iterator[Text]:
    images = result.images
    if images.both_empty or images.one_empty:
        both = counted(images.both_empty, "image", "images")
        yield note(
            "Empty", f"{both} without anomalies on both sides (scored 1), {images.one_empty:,} on one (scored 0)"
        )
    if result.failures:
        how = "score 0" if result.settings.failures == "zero" else "are left out"
        kinds = failure_kinds(result.failures)
        yield note("Failed", f"{kinds}; here they {how}, and both numbers are in metrics.json")


def _shared_notes(found: Sequence[EvalResult], verbose: bool) -> Iterator[Text]:
    """What holds for all files of a command, a line each."""
    from anomreason.metrics.image_scores import PROFILES

    result = found[0]
    if verbose:
        for profile in result.profiles:
            yield note(f"Profile {profile}", PROFILES[profile])  # type: ignore[index]
        if "paper" in result.profiles and result.signature.rank_by == "severity":
            yield note(
                "Confidence", "100 - severity, our reading of the paper's `severity can optionally serve as confidence`"
            )
    if shuffles := result.settings.shuffles:
        shown = (
            _shown(one, profile, view) for one in found for profile in one.profiles for view in one.profiles[profile]
        )
        if any(figures and figures.chance for figures in shown):
            mean = "one shuffle" if shuffles == 1 else f"mean of {shuffles} shuffles"
            yield note("Chance", f"the same predictions scored against other images, {mean}")
        else:
            yield note("Chance", "unknown, since it takes two images that were answered")
    if ceiling := result.ceiling:
        images = counted(ceiling.n, "image", "images")
        yield note("Ceiling", f"what a second annotation, {ceiling.name}, gets on its {images}")
    several = len(result.comparable) > 1
    compared = (f"{profile}: {text}" if several else text for profile, text in result.comparable.items())
    yield note("May be compared", "; ".join(compared))
    yield note("Signature", result.signature.line())
    if not verbose:
        yield Text("More, such as every view by threshold: --verbose, metrics.json and the report.", style="dim")


def print_exact(result: ExactResult) -> None:
    """Everything that one exact evaluation holds."""
    from anomreason.evaluation.notices import exact_notices

    to = console()
    to.print()
    print_simulated(to, result.simulated)
    to.print(_exact_head(result), soft_wrap=True)
    _exact_numbers(result).print(to)
    if result.kinds:
        _exact_kinds(result).print(to)
    to.print()
    how = "are missed" if result.settings.failures == "missed" else "are left out"
    to.print(
        note("Failed", f"anomalies of scenes that failed {how}; pairs with a failed side are left out of the twin test")
    )
    to.print(
        note("Found", "the prediction names the object, and its kind or a region that overlaps by half (IoU >= 0.5)")
    )
    to.print(note("No interval", "fewer than two scenes, or all are alike, which shows nothing of how they spread"))
    if alone := result.found_by_region_alone:
        to.print(note("By region alone", f"{alone:,} of those found; the prediction names another kind, or none"))
    for notice in exact_notices(result):
        to.print(warning(notice))
    to.print(note("Signature", result.signature.line()), soft_wrap=True)


def _exact_head(result: ExactResult) -> Text:
    def failed(kinds: dict[str, int], one: str, many: str) -> str:
        number_of = sum(kinds.values())
        return counted(number_of, one, many) + (f" failed ({failure_kinds(kinds)})" if number_of else " failed")

    head = Text.assemble((printable(result.name), "bold"), f" against {printable(result.truth)}: ")
    head.append(f"{counted(result.n, 'scene', 'scenes')}, {result.clean:,} of them clean, ")
    head.append(f"{counted(result.twins, 'twin', 'twins')}; {failed(result.failures, 'scene', 'scenes')}, ")
    return head.append(failed(result.twin_failures, "twin", "twins"))


def _exact_numbers(result: ExactResult) -> TextTable:
    from anomreason.report.scores import number_rows

    groups = [[number("value"), number(ENDS), number("n"), words("share of, or mean of", 24)]]
    table = TextTable("", [words("number", 19)], groups)
    for row in number_rows(result):
        table.add(row.name, *estimate_cells(row.estimate), row.meaning)
    return table


def _exact_kinds(result: ExactResult) -> TextTable:
    groups = [
        [number(score), number(ENDS), number(of)] for score, of in (("recall", "planted"), ("precision", "predicted"))
    ]
    table = TextTable("By kind", [words("kind")], groups)
    for kind, scores in result.kinds.items():
        name = "no kind named" if kind == "none" else kind.replace("_", " ")
        table.add(name, *estimate_cells(scores.recall), *estimate_cells(scores.precision))
    return table
