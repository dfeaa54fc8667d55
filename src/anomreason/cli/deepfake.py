"""`anomreason deepfake`: who tells AI images from photographs, and how well that is explained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anomreason.cli.options import refuse_unused


def command(
    context: typer.Context,
    predictions: Annotated[str, typer.Argument(help="Run folder (detect --judge-source), .jsonl or published .json.")],
    truth: Annotated[str, typer.Argument(help="Which is which: a folder with 0_real/ and 1_fake/, or a file.")],
    backbone: Annotated[
        str | None, typer.Option(help="Also score explanations with this model (id or folder).")
    ] = None,
    layer: Annotated[int | None, typer.Option(help="Its layer. [default: the usual one, where known]")] = None,
    profile: Annotated[str, typer.Option(help="How pairs are matched: paper, release or both.")] = "paper",
    rank_by: Annotated[str, typer.Option(help="Confidence: severity (100 - it), order or confidence.")] = "severity",
    subset: Annotated[str | None, typer.Option(help="Only these images: FILE or FILE:PART.")] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder of the picture files, to check what they alone give away.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    threads: Annotated[int | None, typer.Option(help="CPU threads. [default: torch decides]")] = None,
    seed: Annotated[int, typer.Option(help="Of intervals.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for deepfake.json.")] = None,
) -> None:
    """Score judgements AI image / photograph: accuracy never alone, explanations where they can be scored.

    What failed, is missing or was not judged counts as wrong, and is counted beside that.
    """
    from anomreason.cli.eval import interruptible
    from anomreason.cli.progress import progress
    from anomreason.cli.show_deepfake import judgements
    from anomreason.deepfake.judge import judge
    from anomreason.evaluation.running import Settings
    from anomreason.evaluation.writing import check_folder, make_folder, write_json
    from anomreason.metrics.bertscore import BackboneSpec

    if backbone is None:
        refuse_unused(context, ("layer", "precision", "threads", "profile", "rank_by"), "without --backbone")
    elif profile == "release":
        refuse_unused(context, ["rank_by"], "with --profile release, which does not rank predictions")
    if out is not None:
        check_folder(out)
    settings = Settings(profile, rank_by=rank_by, seed=seed)  # type: ignore[arg-type]
    spec = None if backbone is None else BackboneSpec(backbone, layer, precision, threads)
    with interruptible(out), progress("comparing texts") as step:
        found = judge(predictions, truth, spec, settings, subset=subset, pictures=pictures, progress=step)
    if out is not None:
        # Before it is printed: a closed pipe ends the program there.
        make_folder(out)
        write_json(out / "deepfake.json", found)
    judgements(found)
    if out is not None:
        typer.echo(f"Wrote {out / 'deepfake.json'}", err=True)
