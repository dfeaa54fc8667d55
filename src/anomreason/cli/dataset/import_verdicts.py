"""`anomreason dataset import-verdicts`: verdicts that people gave in another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anomreason.cli.output import json_line, say
from anomreason.english import counted

_MEANING = {
    "unanswered": "nobody answered them in the tool",
    "skipped": "the annotator skipped them",
    "no_candidate": "they show an image without a candidate",
    "unreadable": "they cannot be read",
    "nobody": "they do not say who answered; name them with --person NAME",
    "unknown_candidate": "this dataset has no such candidate",
    "other_image": "the candidate is of another image here",
    "other_text": "the candidate says something else here",
    "later_verdict": "the person judged the candidate again since, in the dataset",
}
_SHOWN = 20
"""Rows that are listed; --json has all."""


def command(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of the dataset that was exported.")],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="Label Studio's JSON export (not JSON-MIN), or Prodigy's db-out."),
    ],
    tool: Annotated[str, typer.Option("--from", help="The tool: label-studio or prodigy.")],
    person: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[ID=]NAME",
            help="Our name for the annotator whom the tool calls ID; NAME alone for rows that name nobody. Repeatable.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Bring verdicts in that people gave in Label Studio or Prodigy, on candidates that export wrote.

    The same file again changes nothing. A verdict that somebody changed in the tool since counts anew.
    """
    import anomreason.dataset
    from anomreason.cli.progress import progress
    from anomreason.dataset.verdict_import import import_verdicts

    names = {id_: name for id_, _, name in (one.rpartition("=") for one in person or ())}
    with anomreason.dataset.open(data) as store, progress("verdicts", quiet=as_json) as step:
        report = import_verdicts(store, files, tool, names, step)
    if as_json:
        say(json_line(report.model_dump_json()))
        return
    already = counted(report.known, "verdict was", "verdicts were")
    say(f"{counted(report.new, 'new verdict', 'new verdicts')}; {already} there already")
    for name, count in report.people.items():
        say(f"{name}: {counted(count, 'verdict', 'verdicts')}")
    if report.outcomes:
        judged = counted(sum(report.outcomes.values()), "candidate", "candidates")
        say(f"{judged} by now: {', '.join(f'{count:,} {outcome}' for outcome, count in report.outcomes.items())}")
    for reason, count in report.left_out.items():
        say(f"Left out: {counted(count, 'row', 'rows')}, {reason} ({_MEANING[reason]})")
    for row in report.rows[:_SHOWN]:
        say(f"  {row.place}: {row.message}")
    if len(report.rows) > _SHOWN:
        say(f"  and {len(report.rows) - _SHOWN:,} more; --json lists all")
    say(f"Next: anomreason dataset stats {data}")
