"""`anomreason deepfake score`: who tells AI images from photographs, and how well that is explained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from anomreason.cli.options import refuse_unused
from anomreason.cli.output import printable, say
from anomreason.cli.tables import (
    ENDS,
    VIEWS,
    TextTable,
    console,
    decimals,
    estimate_cells,
    failure_kinds,
    label,
    note,
    number,
    print_simulated,
    warning,
    words,
)
from anomreason.english import counted

if TYPE_CHECKING:
    from anomreason.evaluation.records import DeepfakeResult


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
    out: Annotated[Path | None, typer.Option(help="Folder for deepfake.json.")] = None,
) -> None:
    """Score judgements "AI image" or "photograph", and explanations where they can be scored.

    What failed, is missing or was not judged counts as wrong, and is counted beside that.
    """
    from anomreason.cli.eval import interruptible
    from anomreason.cli.progress import progress
    from anomreason.deepfake.judge import judge
    from anomreason.evaluation.running import Settings
    from anomreason.evaluation.writing import check_folder, make_folder, write_record
    from anomreason.metrics.bertscore import BackboneSpec

    settings = Settings(profile, rank_by=rank_by, seed=seed)  # type: ignore[arg-type]
    if backbone is None:
        refuse_unused(context, ("layer", "precision", "threads", "profile", "rank_by"), "without --backbone")
    elif settings.profile == "release":
        refuse_unused(context, ["rank_by"], f"with --profile {profile}, which does not rank predictions")
    if out is not None:
        check_folder(out)
    spec = None if backbone is None else BackboneSpec(backbone, layer, precision, threads)
    with interruptible(out), progress("comparing texts") as step:
        found = judge(predictions, truth, spec, settings, subset=subset, image_folder=image_folder, progress=step)
    if out is not None:
        # Before it is printed: a closed pipe ends the program there.
        make_folder(out)
        write_record(out / "deepfake.json", found)
    print_judgements(found)
    if out is not None:
        say(f"Wrote {out / 'deepfake.json'}", err=True)


def print_judgements(found: DeepfakeResult) -> None:
    """Everything that one `deepfake.json` holds."""
    from anomreason.evaluation.notices import deepfake_notices
    from anomreason.metrics.image_scores import PROFILES

    to = console()
    print_simulated(to, found.simulated)
    _print_shares(found, to)
    _print_explained(found, to)
    if len(found.sources) > 2:
        _sources(found).print(to)
    if found.leaks:
        _leaks(found).print(to)
    else:
        to.print(Text("No leak check: it needs AI images and photographs.", style="yellow"))
    to.print()
    for notice in deepfake_notices(found):
        to.print(warning(notice))
    for profile in found.explained:
        to.print(note(f"Profile {profile}", PROFILES[profile]))  # type: ignore[index]
    to.print(note("Signature", found.signature.line()), soft_wrap=True)


def _print_shares(found: DeepfakeResult, to: Console) -> None:
    failed = f"{sum(found.failures.values()):,} failed"
    failed += f" ({failure_kinds(found.failures)})" if found.failures else ""
    head = Text.assemble((printable(found.name), "bold"), f" against {printable(found.truth)}: ")
    head.append(f"{counted(found.n, 'image', 'images')}, {counted(found.fakes, 'AI image', 'AI images')}, ")
    head.append(f"{counted(found.photographs, 'photograph', 'photographs')}; {failed}, ")
    to.print(head.append(f"{found.unparsable:,} of them unparsable; {found.abstained:,} not judged"), soft_wrap=True)
    groups = [[number("value"), number(ENDS), number("n"), words("share of, or mean of", 20)]]
    table = TextTable("", [words("number", 18)], groups)
    for name, one, meaning in (
        ("accuracy", found.accuracy, "judged right"),
        ("fake recall", found.fake_recall, "AI images judged right"),
        ("real specificity", found.real_specificity, "photographs judged right"),
        ("balanced accuracy", found.balanced_accuracy, "mean of these two; 0.5 by guessing"),
        ("auroc", found.auroc, "an AI image has the higher score than a photograph; 0.5 by guessing"),
        ("false anomalies", found.false_anomalies, "anomalies claimed per photograph"),
        ("photographs with anomalies", found.photographs_with_anomalies, "photographs in which any was claimed"),
    ):
        table.add(name, *estimate_cells(one), meaning)
    table.print(to)
    to.print(Text(f"Always giving the more frequent answer: accuracy {found.constant_accuracy:.4f}"))


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
    rest = [number("anomalies\nper image"), number("not\njudged"), words("failed", 9)]
    table = TextTable("By source", [words("source"), label("kind")], [right, rest])
    for one in found.sources:
        cells = [*estimate_cells(one.right), decimals(one.claimed.value, 2), f"{one.abstained:,}"]
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
