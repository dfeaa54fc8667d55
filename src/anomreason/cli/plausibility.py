"""`anomreason plausibility`: how plausible the images of generators are, from what a detector found in them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from anomreason.cli.output import printable, say
from anomreason.cli.tables import (
    ENDS,
    TextTable,
    console,
    decimals,
    failure_kinds,
    interval,
    note,
    number,
    p_value,
    print_simulated,
    warning,
    words,
)
from anomreason.english import counted

if TYPE_CHECKING:
    from anomreason.evaluation.records import PlausibilityResult
    from anomreason.metrics.plausibility import GeneratorPlausibility, Metric
    from anomreason.stats import Correlation

NAMES: dict[Metric, str] = {"mai": "MAI", "af": "AF", "cap": "CAP", "cap_of_means": "CAP of means"}
MOST = 30
"""Pairs of generators that are shown."""


def command(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="RUNS_OR_FILES...", help="One per generator, as NAME=PATH; or any, with --manifest."),
    ],
    manifest: Annotated[
        Path | None, typer.Option(help="A .csv or .jsonl with each image's generator and, if known, prompt.")
    ] = None,
    pair_by_name: Annotated[
        bool, typer.Option("--pair-by-name", help="Images of one name were made from the same prompt.")
    ] = False,
    against: Annotated[
        list[str] | None, typer.Option(help="Another assessor's result of a generator; repeat for each.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed for intervals and p-values.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for plausibility.json.")] = None,
) -> None:
    """Score image generators by the anomalies found in their images. Lower is better, 0 is flawless.

    MAI adds up how implausible an image's anomalies are, (100 - severity) / 100 each; AF counts them; CAP is MAI x AF.
    Images that failed are left out and counted beside the scores, since a failure is no flawless image.
    """
    from anomreason.audit.assess import assess
    from anomreason.evaluation.writing import check_folder, make_folder, write_record

    if out is not None:
        check_folder(out)
    found = assess(inputs, manifest=manifest, pair_by_name=pair_by_name, against=against or (), seed=seed)
    if out is not None:
        # Before it is printed: a closed pipe ends the program there.
        make_folder(out)
        write_record(out / "plausibility.json", found)
    print_generators(found)
    if out is not None:
        say(f"Wrote {out / 'plausibility.json'}", err=True)


def print_generators(found: PlausibilityResult) -> None:
    """Everything that one `plausibility.json` holds."""
    from anomreason.evaluation.notices import plausibility_notices
    from anomreason.metrics.plausibility import METRICS

    to = console()
    print_simulated(to, found.simulated)
    _generators(found).print(to)
    _print_differences(found, to)
    to.print()
    for metric, meaning in METRICS.items():
        to.print(note(NAMES[metric], meaning))
    to.print(note("Rank", "by CAP; shared by generators that cannot be distinguished, range in brackets"))
    for notice in plausibility_notices(found):
        to.print(warning(notice))
    for metric, scores in found.agreement.items():
        both = f"spearman {_correlation(scores.spearman)}, kendall {_correlation(scores.kendall)}"
        to.print(note(f"Assessors agree on {NAMES[metric]}", both))
    to.print(note("Signature", found.signature.line()), soft_wrap=True)


def _generators(found: PlausibilityResult) -> TextTable:
    sizes = [number("images"), words("failed", 9)]
    scores = [[number(name)] for name in NAMES.values()]
    table = TextTable("", [words("generator")], [[number("rank")], *scores, sizes])
    for one in sorted(found.generators, key=_cap):
        cells = []
        for metric in NAMES:
            score = one.scores[metric]
            cells.append(Text(decimals(score.value, 3)).append(f"\n{interval(score.interval)}", style="dim"))
        rank = one.ranks.get("cap")
        place = f"{rank.rank}\n({rank.low}-{rank.high})" if rank else "-"
        failed = failure_kinds(one.failures) or "none"
        table.add(printable(one.generator), place, *cells, f"{one.n:,}", failed)
    return table


def _cap(generator: GeneratorPlausibility) -> float:
    """Sorts those without a score last."""
    value = generator.scores["cap"].value
    return float("inf") if value is None else value


def _print_differences(found: PlausibilityResult, to: Console) -> None:
    rows = [d for d in found.differences if d.metric == "cap" and d.difference.value is not None]
    if not rows:
        return
    title = "Differences in CAP over the same prompts (below 0: the first is more plausible)"
    heads = ("difference", ENDS, "p", "p (Holm)", "prompts")
    table = TextTable(title, [words("first", 8), words("second", 8)], [[number(head) for head in heads]])
    for row in rows[:MOST]:
        score, ps = row.difference, (p_value(row.p), p_value(row.p_holm))
        names = printable(row.one), printable(row.other)
        table.add(*names, f"{score.value:+.3f}", interval(score.interval), *ps, f"{score.n:,}")
    table.print(to)
    if len(rows) > MOST:
        to.print(Text(f"and {len(rows) - MOST:,} more pairs, and those of MAI and AF (see --out)", style="dim"))


def _correlation(found: Correlation) -> str:
    if found.value is None:
        return f"undefined (n = {found.n})"
    ends = "" if found.interval is None else f" ({found.interval.low:.2f} to {found.interval.high:.2f})"
    return f"{found.value:.2f}{ends} over {counted(found.n, 'generator', 'generators')}"
