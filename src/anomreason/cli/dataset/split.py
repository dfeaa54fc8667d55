"""`anomreason dataset split`: images divided into parts, and a check of divisions for leaks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomreason.cli.options import refuse_unused
from anomreason.cli.output import json_line, printable, say
from anomreason.cli.tables import ENDS, TextTable, console, decimals, estimate_cells, number, words
from anomreason.english import counted

if TYPE_CHECKING:
    from anomreason.dataset.leaks import FormatLeak, LeakReport, SchemeLeaks
    from anomreason.dataset.split import SplitReport

SHOWN = 10
"""Images that are named one by one; --json has all."""
WIDEST = 80
"""Characters of a prompt that are shown."""
FAR = 0.03
"""Difference between wanted and got shares that is worth a word."""


def command(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of the dataset in work.")],
    ratios: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=SHARE,...",
            help="Share of each split, e.g. train=0.8,val=0.1,test=0.1. [default: as before, or train=0.5,test=0.5]",
        ),
    ] = None,
    salt: Annotated[
        str | None, typer.Option(help="Another text gives another division. [default: as before, or anomreason]")
    ] = None,
    scheme: Annotated[
        str | None,
        typer.Option(help="Name of this division. [default: default; with --check, all]", show_default=False),
    ] = None,
    reassign: Annotated[
        bool, typer.Option("--reassign", help="Divide all images anew, also those that have a split.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done; write nothing.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Divide nothing; look for leaks. Exit status 1 when groups straddle.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Divide the kept images into splits, by a salted hash of their groups.

    Images of one prompt, near-duplicates, and a scene and its twins stay together. Images that have a split keep it; a
    new image that would join groups of different splits gets none. --check lists groups with images in several splits,
    also of a scheme that came with the images, and says whether files alone tell photographs from AI images.
    """
    from anomreason.cli.progress import progress
    from anomreason.dataset.split import SplitOptions, parse_ratios, split
    from anomreason.dataset.store import open_store

    if check:
        refuse_unused(context, ("ratios", "salt", "reassign", "dry_run"), "with --check")
        check_splits(data, scheme, json)
        return
    shares = None if ratios is None else parse_ratios(ratios)
    options = SplitOptions(shares, salt, scheme or "default", reassign, dry_run)
    with open_store(data) as store, progress("images", quiet=json) as step:
        report = split(store, options, step)
    if json:
        say(json_line(report.model_dump_json()))
    else:
        print_split(report, data)


def print_split(report: SplitReport, data: Path) -> None:
    images, groups = sum(report.images.values()), sum(report.groups.values())
    size = f"{counted(images, 'image', 'images')} in {counted(groups, 'group', 'groups')}"
    title = f"Scheme {report.scheme}: {size}, the largest of {report.largest_group:,}"
    heads = [number(head) for head in ("wanted", "got", "images", "groups")]
    table = TextTable(printable(title), [words("split", 8)], [heads])
    for name, share in report.ratios.items():
        got = report.images[name] / images if images else 0.0
        table.add(name, f"{share:.3f}", f"{got:.3f}", f"{report.images[name]:,}", f"{report.groups[name]:,}")
    table.print(console(), first=True)
    say("")
    say(f"{counted(report.added, 'image', 'images')} added, {report.moved:,} moved.")
    if report.left_out:
        say(f"{counted(len(report.left_out), 'image', 'images')} without a split, as each would join different ones:")
        for one in report.left_out[:SHOWN]:
            say(f"  {printable(one.image)} ({one.why})")
        if len(report.left_out) > SHOWN:
            say(f"  and {len(report.left_out) - SHOWN:,} more (--json names all)")
        say("They stay in the dataset; --reassign --dry-run shows how many images move if all are divided anew.")
    if report.straddling:
        what = counted(report.straddling, "prompt, cluster or scene has", "prompts, clusters or scenes have")
        say(f"Leak: {what} images in several splits; --check lists them, --reassign ends it.")
    if not report.near_duplicates_known:
        say(
            "Nobody has looked for near-duplicates, so a split may divide them: run "
            f"anomreason dataset filter {data} first"
        )
    if images and any(abs(report.images[n] / images - share) > FAR for n, share in report.ratios.items()):
        say(
            f"Shares are more than {FAR:.0%} off: few or large groups. See --salt TEXT --reassign --dry-run for others."
        )
    if report.dry_run:
        say("Dry run: nothing was written.")
    else:
        say(f"Next: anomreason dataset split {data} --check")


def check_splits(data: Path, scheme: str | None, json: bool) -> None:
    from anomreason.dataset.leaks import check
    from anomreason.dataset.store import open_store

    with open_store(data) as store:
        report = check(store, scheme)
    if json:
        say(json_line(report.model_dump_json()))
    else:
        print_leaks(report, data)
    if report.straddling:
        raise typer.Exit(1)


SORTS = {
    "prompt": "one prompt",
    "prompts": "one group of prompts",
    "cluster": "near-duplicates",
    "group": "a scene and its twins",
}


def print_leaks(report: LeakReport, data: Path) -> None:
    if not report.schemes:
        say(f"No image has a split yet: anomreason dataset split {data}\n")
    for scheme in report.schemes:
        _print_scheme(scheme)
    if not report.near_duplicates_known:
        say(f"Nobody has looked for near-duplicates yet, so those that straddle are not seen: dataset filter {data}\n")
    _print_format(report.format)
    default = [scheme for scheme in report.schemes if scheme.scheme == "default"]
    if any(default[0].straddling.values() if default else ()):
        say(f"Next: anomreason dataset split {data} --reassign --dry-run")
    elif report.straddling or any(scheme.without for scheme in default):
        say(f"Next: anomreason dataset split {data}")
    else:
        say(f"Next: anomreason dataset stats {data}")


def _print_scheme(scheme: SchemeLeaks) -> None:
    sizes = ", ".join(f"{n:,} {name}" for name, n in scheme.images.items())
    title = f"Scheme {scheme.scheme}: {sizes}, {scheme.without:,} without a split"
    table = TextTable(printable(title), [words("images of", 21)], [[number("in several splits"), number("images")]])
    for sort, count in scheme.straddling.items():
        table.add(SORTS[sort], f"{count:,}", f"{scheme.straddling_images[sort]:,}")
    table.print(console(), first=True)
    for group in scheme.examples:
        key = group.key if len(group.key) <= WIDEST else f"{group.key[:WIDEST]}…"
        say(f"  {SORTS[group.sort]}, {printable(key)}:")
        for name, path in group.examples.items():
            say(f"    {group.images[name]:,} in {name}, e.g. {printable(path)}")
    say("")


def _print_format(found: FormatLeak | None) -> None:
    if found is None:
        say("Format leak: not looked for, as there are no photographs beside AI images.")
        return
    sizes = f"{found.photographs:,} photographs, {found.ai_images:,} AI images"
    if found.unknown:
        sizes += f", {found.unknown:,} of unknown kind left out"
    title = f"Files alone: {sizes}, told apart by one property (balanced accuracy, 0.5 by guessing)"
    table = TextTable(
        title, [words("property", 20)], [[number("accuracy"), number(ENDS), number("n")], [words("rule")]]
    )
    together = found.together
    if together is not None:
        table.add("all together", *estimate_cells(together.balanced_accuracy), f"AUC {decimals(together.auc.value, 3)}")
    for leak in found.properties[:SHOWN]:
        rule = leak.rule if leak.cross_validated else f"{leak.rule} (not cross-validated)"
        table.add(leak.fact, *estimate_cells(leak.balanced_accuracy), rule)
    table.print(console(), first=True)
    say("")
    if together is not None:
        accuracy = decimals(together.accuracy.value)
        say(f"All together: accuracy {accuracy}; the more frequent answer alone: {together.base_rate:.4f}.")
    if found.leaks:
        names = ", ".join(leak.fact for leak in found.telling) or "only all properties together"
        say(
            f"Format leak: {names} give the source away. A detector of AI images can score well without seeing them: "
            "write all images alike (one format, quality and size, no metadata) before you train or score with them."
        )
    else:
        say("No format leak: nothing known of the files tells photographs from AI images.")
