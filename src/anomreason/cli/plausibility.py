"""`anomreason plausibility`: how plausible the images of generators are, from what a detector found in them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="RUNS_OR_FILES...", help="One a generator, as NAME=PATH; or any, with --manifest."),
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
    seed: Annotated[int, typer.Option(help="Of intervals and p-values.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for plausibility.json.")] = None,
) -> None:
    """Score image generators by the anomalies found in their images. Lower is better, 0 is flawless.

    MAI adds up how implausible an image's anomalies are, (100 - severity) / 100 each; AF counts them; CAP is MAI x AF.
    Images that failed are left out and counted beside the scores, since a failure is no flawless image.
    """
    from anomreason.audit.assess import assess
    from anomreason.cli.show_plausibility import generators
    from anomreason.evaluation.writing import check_folder, make_folder, write_json

    if out is not None:
        check_folder(out)
    found = assess(inputs, manifest=manifest, pair_by_name=pair_by_name, against=against or (), seed=seed)
    if out is not None:
        # Before it is printed: a closed pipe ends the program there.
        make_folder(out)
        write_json(out / "plausibility.json", found)
    generators(found)
    if out is not None:
        typer.echo(f"Wrote {out / 'plausibility.json'}", err=True)
