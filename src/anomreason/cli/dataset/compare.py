"""`anomreason dataset compare`: people's own annotations against a detector's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from anomreason.cli.options import refuse_unused
from anomreason.cli.output import json_line, say
from anomreason.cli.tables import (
    ENDS,
    TextTable,
    console,
    decimals,
    failure_kinds,
    interval,
    note,
    number,
    print_simulated,
    words,
)
from anomreason.english import counted

if TYPE_CHECKING:
    from anomreason.dataset.compare.records import DatasetComparison, SideCount
    from anomreason.stats import Estimate

KINDS = 15
"""Kinds that are listed; compare.json and the page have all."""
PAGE_IMAGES = 40


def command(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of the dataset in work.")],
    out: Annotated[Path, typer.Option(help="Folder for compare.html and compare.json.")],
    people: Annotated[
        str | None, typer.Option(help="Who annotated, e.g. ada,ben. [default: all who finished an image]")
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|RUN", help="Detector of the dataset, run folder or file. [default: the dataset's only one]"
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="Model that compares texts: a Hugging Face id or a local folder. [default: none does]"),
    ] = None,
    layer: Annotated[
        int | None, typer.Option(help="Encoder layer to use. [default: the usual one, where known]")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads. [default: torch decides]")] = None,
    images: Annotated[int, typer.Option(min=0, help="Images on the page; of more, so many at random.")] = PAGE_IMAGES,
    seed: Annotated[int, typer.Option(min=0, help="Seed for intervals and the page's images.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print compare.json.")] = False,
) -> None:
    """Compare what people annotated themselves with what a detector found in the same images.

    People annotate on the page Annotate of anomreason review. Only images count that somebody finished and that the
    detector answered. Severity: 0 = completely implausible, 100 = fully realistic.
    """
    if backbone is None:
        refuse_unused(context, ("layer", "threads"), "without --backbone")
    import anomreason.dataset
    from anomreason.cli.progress import progress
    from anomreason.dataset.compare import CompareOptions, compare
    from anomreason.dataset.compare.page import compare_page
    from anomreason.errors import UsageError
    from anomreason.files import write_atomically
    from anomreason.metrics.bertscore import BackboneSpec

    names = tuple(dict.fromkeys(part.strip() for part in (people or "").split(",") if part.strip()))
    spec = None if backbone is None else BackboneSpec(backbone, layer, threads=threads)
    options = CompareOptions(names, detector, spec, seed)
    with anomreason.dataset.open(data) as store:
        with progress("comparing texts", quiet=as_json or spec is None) as step:
            found = compare(store, options, step)
        page = compare_page(store, found, images)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write into {str(out)!r}: {error.strerror}; give another folder") from None
    write_atomically(out / "compare.html", page)
    write_atomically(out / "compare.json", found.record.model_dump_json(indent=2) + "\n")
    if as_json:
        say(json_line(found.record.model_dump_json()))
        return
    print_comparison(found.record)
    say(f"Side by side: {out / 'compare.html'}; all numbers: {out / 'compare.json'}")


def print_comparison(found: DatasetComparison) -> None:
    """Everything that a person wants to see first."""
    to = console()
    print_simulated(to, found.simulated)
    head = f"{counted(found.images, 'image', 'images')} that both covered; left out: "
    failed = sum(found.failed.values())
    kinds = f" ({failure_kinds(found.failed)})" if failed else ""
    say(f"{head}{failed:,} on which the detector failed{kinds}, {found.missing:,} that it was never given")
    _sides(found).print(to)
    if found.agreement:
        _shares(found).print(to)
        _semf1(found).print(to)
    if found.kinds:
        _kinds(found).print(to)
    to.print()
    for text in _notes(found):
        to.print(text)


def _sides(found: DatasetComparison) -> TextTable:
    heads = [number("an image"), number(ENDS), number("anomalies"), number("images"), number("lists"), number("empty")]
    table = TextTable("Anomalies an image", [words("side")], [heads])

    def add(name: str, side: SideCount) -> None:
        counts = (side.anomalies, side.images, side.annotations, side.empty)
        table.add(name, *_cells(side.per_list, 2), *(f"{count:,}" for count in counts))

    detector, *people = found.sides
    add(detector.name, detector)
    if len(people) > 1:
        add("all people", found.pooled)
    for person in people:
        add(person.name, person)
    table.add("detector minus people", *_cells(found.difference, 2), "-", f"{found.difference.n:,}", "-", "-")
    paper = found.paper
    table.add("paper: AnomAgent", f"{paper.detector:.2f}", "-", "-", f"{paper.images:,}", "-", "-", style="dim")
    table.add("paper: people", f"{paper.people:.2f}", "-", "-", f"{paper.images:,}", "-", "-", style="dim")
    return table


def _shares(found: DatasetComparison) -> TextTable:
    groups = [
        [number(f"{whose}'s that\nthe {other} has"), number(ENDS), number("chance")]
        for whose, other in (("first", "second"), ("second", "first"))
    ]
    keys = [words("first", 8), words("second", 8), number("similarity\n>=")]
    table = TextTable("The same anomalies", keys, groups)
    for one in found.agreement:
        for nth, threshold in enumerate(one.share_of_first):
            cells: list[str] = []
            for place, shares in enumerate((one.share_of_first, one.share_of_second)):
                chances = (one.chance.share_of_first, one.chance.share_of_second) if one.chance else None
                guess = chances[place][threshold] if chances else None
                cells += [*_cells(shares[threshold], 3), decimals(guess, 3)]
            table.add(*("", "") if nth else (one.first, one.second), f"{threshold:g}", *cells)
        table.section()
    return table


def _semf1(found: DatasetComparison) -> TextTable:
    groups = [[number("first against\nsecond"), number(ENDS)], [number("second against\nfirst"), number(ENDS)]]
    table = TextTable(
        "SemF1, full", [words("first", 8), words("second", 8)], [*groups, [number("chance"), number("images")]]
    )
    for one in found.agreement:
        both = (*_cells(one.semf1["full"], 3), *_cells(one.semf1_back["full"], 3))
        guess = one.chance.semf1 if one.chance else None
        table.add(one.first, one.second, *both, decimals(guess, 3), f"{one.images:,}")
    return table


def _kinds(found: DatasetComparison) -> TextTable:
    heads = [number("people's"), number("an image"), number("detector's"), number("an image")]
    more = [number("detector\nminus people"), number(ENDS), words("fewer\nfrom", 8)]
    table = TextTable("Anomalies by kind", [words("kind")], [heads, more])
    for kind in found.kinds[:KINDS]:
        table.add(
            kind.kind.replace("_", " "),
            f"{kind.people:,}",
            decimals(kind.people_per_image.value, 2),
            f"{kind.detector:,}",
            decimals(kind.detector_per_image.value, 2),
            *_cells(kind.difference, 2),
            kind.missed_by or "-",
        )
    return table


def _cells(one: Estimate, places: int) -> tuple[str, str]:
    return decimals(one.value, places), interval(one.interval)


def _notes(found: DatasetComparison) -> Iterator[Text]:
    if len(found.kinds) > KINDS:
        yield note("Kinds", f"{len(found.kinds) - KINDS:,} more in compare.json")
    if len(found.sides) > 2:
        yield note("All people", "a list each; an image that several annotated has several lists")
    for person in found.people:
        if person.begun or person.unreadable:
            begun = counted(person.begun, "image", "images")
            unreadable = counted(person.unreadable, "annotation", "annotations")
            yield note(person.person, f"left out: {begun} begun and not finished, {unreadable} that cannot be read")
    if found.compared is None:
        yield note("Without --backbone", "only numbers and kinds; it adds matches, shares and SemF1 each way")
    else:
        texts, backbone = found.compared.texts, found.compared.backbone
        yield note("Texts", f"compared by {backbone['backbone']}, layer {backbone['layer']}; {texts.truncated:,} cut")
        yield note("Chance", "the first side's anomalies matched with another image's list")
    yield note("Paper", f"{found.paper.source}: other images and people, without intervals")
