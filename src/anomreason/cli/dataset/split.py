"""`anomreason dataset split`: images divided into parts, and a check of divisions for leaks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomreason.cli.output import json_line, printable, say
from anomreason.cli.tables import TextTable, console, number, words
from anomreason.english import counted

if TYPE_CHECKING:
    from anomreason.dataset.split import SplitReport

SHOWN = 10
"""Images that are named one by one; --json has all."""
FAR = 0.03
"""Difference between wanted and got shares that is worth a word."""


def command(
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
    scheme: Annotated[str, typer.Option(help="Name of this division.")] = "default",
    reassign: Annotated[
        bool, typer.Option("--reassign", help="Divide all images anew, also those that have a split.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done; write nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Divide the kept images into splits, by a salted hash of their groups.

    Images of one prompt, near-duplicates, and a scene and its twins stay together. Images that have a split keep it; a
    new image that would join groups of different splits gets none.
    """
    from anomreason.cli.progress import progress
    from anomreason.dataset.split import SplitOptions, parse_ratios, split
    from anomreason.dataset.store import open_store

    shares = None if ratios is None else parse_ratios(ratios)
    options = SplitOptions(shares, salt, scheme, reassign, dry_run)
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
    table.print(console())
    say("")
    say(f"{counted(report.added, 'image', 'images')} added, {report.moved:,} moved.")
    if report.left_out:
        say(f"{counted(len(report.left_out), 'image', 'images')} without a split, as each would join different ones:")
        for one in report.left_out[:SHOWN]:
            say(f"  {one.image} ({one.why})")
        if len(report.left_out) > SHOWN:
            say(f"  and {len(report.left_out) - SHOWN:,} more (--json names all)")
        say("They stay in the dataset; --reassign --dry-run shows how many images move if all are divided anew.")
    if report.straddling:
        what = counted(report.straddling, "prompt, cluster or scene has", "prompts, clusters or scenes have")
        say(f"Leak: {what} images in several splits; --check lists them, --reassign ends it.")
    if images and any(abs(report.images[n] / images - share) > FAR for n, share in report.ratios.items()):
        say(f"Shares are more than {FAR:.0%} off: few or large groups. Another --salt gives another division.")
    if report.dry_run:
        say("Dry run: nothing was written.")
    else:
        say(f"Next: anomreason dataset split {data} --check")
