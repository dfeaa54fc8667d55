"""`anomreason audit add`: a further generator in an audit that is finished, or under way."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anomreason.cli.audit.run import JsonOption
from anomreason.cli.output import say


def command(
    file: Annotated[Path, typer.Argument(metavar="AUDIT.TOML", help="File of the audit.")],
    generators: Annotated[
        list[str],
        typer.Argument(
            metavar="GENERATOR...",
            help="Recipes, by name or as .toml files; or folders of images, each with a manifest in it. NAME=... gives "
            "another name.",
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be left to do and its cost, and stop.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put further generators into an audit, and run what they lack.

    They are written to the end of the file, so that `audit run` knows them too. What was made and assessed of the
    others stays as it is, and nothing of it is paid for again. Exit code as of `audit run`.
    """
    from anomreason.audit.adding import add_generators
    from anomreason.cli.audit.run import RunOptions, show_plan, work_through
    from anomreason.errors import UsageError

    if dry_run and as_json:
        raise UsageError("--json has no effect with --dry-run; leave it out")
    audit, added = add_generators(file, generators, write=not dry_run)
    for name in added:
        say(f"{'Would add' if dry_run else 'Added'} {name} to {file}", err=True)
    if dry_run:
        show_plan(audit)
    else:
        raise typer.Exit(work_through(audit, RunOptions(yes, as_json)))
