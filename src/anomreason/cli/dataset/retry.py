"""`anomreason dataset retry`: another try for what failed for one reason."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from anomreason.cli.output import json_line, say
from anomreason.english import counted


def command(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of the dataset.")],
    reason: Annotated[str, typer.Option(help="What failed: a reason as dataset list shows it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Try again what failed for one reason: files at once, generations and detections with the next run.

    Failures that may pass (a busy server, a full disk) are tried again by the same command without this.
    """
    import anomreason.dataset
    from anomreason.cli.progress import progress
    from anomreason.dataset.retry import retry

    with anomreason.dataset.open(data) as store, progress("looked at", quiet=as_json) as step:
        report = retry(store, reason, step)
    if as_json:
        say(json_line(json.dumps(asdict(report), ensure_ascii=False)))
        return
    if report.files:
        still = ", ".join(f"{count:,} {why}" for why, count in report.files_unreadable.items()) or "none"
        again = counted(report.files, "file", "files")
        say(f"{again} looked at again: {report.files_collected:,} collected, unreadable: {still}")
    if report.others:
        others = ", ".join(f"{count:,} {what}" for what, count in report.others.items())
        say(f"Other files of these inputs that are new or changed since: {others}")
    for problem in report.problems:
        say(f"Not read to its end: {problem}", err=True)
    if report.generations:
        marked = counted(report.generations, "generation is", "generations are")
        say(f"{marked} marked; next: run the same anomreason dataset generate again")
    if report.detections:
        marked = counted(report.detections, "detection is", "detections are")
        say(f"{marked} marked; next: run the same anomreason dataset annotate again")
    if report.descriptions:
        marked = counted(report.descriptions, "description is", "descriptions are")
        say(f"{marked} marked; next: run the same anomreason dataset annotate --describe again")
    if report.files:
        say(f"Next: anomreason dataset list {data} --step collect")
