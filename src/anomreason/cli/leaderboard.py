"""`anomreason leaderboard`: scored detectors or generators in one table, beside the paper's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help="Folders that eval, deepfake or plausibility wrote, or holding such."),
    ],
    out: Annotated[Path | None, typer.Option(help="Also write Markdown, HTML and CSV files here.")] = None,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Show results that were not made alike in one table, marked.")
    ] = False,
) -> None:
    """Put results side by side, columns as in the paper's Tables 1, 2 and 3.

    Results with different signatures (backbone, layer, weights, precision, thresholds, ranking, truth, version) are
    refused, since their numbers cannot be compared. Rows marked † are the paper's own figures.
    """
    from anomreason.cli.show_leaderboard import leaderboards
    from anomreason.report.leaderboard import boards, find, write_boards

    made = boards(find(folders), mixed=mixed)
    # Files first: a closed pipe ends the program where it prints.
    written = write_boards(made, out) if out is not None else []
    leaderboards(made)
    for path in written:
        typer.echo(f"Wrote {path}", err=True)
