"""`anomreason train`: fine-tune a vision-language model on verified anomalies, by a recipe."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer


def command(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of one that comes with anomreason.")],
    out: Annotated[Path, typer.Option(help="Folder of the training and of what comes out of it.")],
    data: Annotated[
        list[str] | None,
        typer.Option(help="What to learn from: scenes, run folders, published JSON. [default: the recipe's]"),
    ] = None,
    held_out: Annotated[
        list[str] | None, typer.Option(help="What it is watched on, in the same forms. [default: the recipe's]")
    ] = None,
    base: Annotated[str | None, typer.Option(help="Model to start from. [default: the recipe's]")] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="Model that compares texts: watch SemF1 by it. [default: the held-out loss is watched]"),
    ] = None,
    layer: Annotated[int | None, typer.Option(help="Its layer. [default: the usual one, where known]")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it takes, and train nothing.")] = False,
) -> None:
    """Fine-tune by a recipe; the same command again continues where it was stopped.

    What comes out is used at once: anomreason detect photo.jpg --model local:BASE+OUT. Several GPUs: accelerate launch
    -m anomreason train ... Recipes that come with anomreason: anomreasonor-7b, anomreasonor-7b-deepfake,
    anomreasonor-3b, qlora-24gb, full-tiny, tiny-lora. Needs: pip install 'anomreason[train]'.
    """
    from anomreason.training.prepare import prepare
    from anomreason.training.recipe import read_recipe

    asked = read_recipe(recipe)
    if base is not None:
        asked = asked.model_copy(update={"model": asked.model.model_copy(update={"base": base})})
    prepared = prepare(asked, data or (), held_out or ())
    typer.echo(prepared.report.table())
    if dry_run:
        from anomreason.training.plan import plan

        typer.echo(plan(asked, prepared.instances).text())
        return
    from anomreason.training.lora import train

    score = _score(backbone, layer) if backbone else None
    trained = train(asked, prepared.instances, prepared.held_out, out, score, _say)
    typer.echo(f"Chosen: step {trained.chosen} of {trained.steps}, by {trained.by}")
    typer.echo(f"Curve: {out / 'curve.html'}")
    typer.echo(f"Use it: anomreason detect photo.jpg --schedule single --model {trained.spec}")


def _score(backbone: str, layer: int | None) -> Any:
    from anomreason.metrics.bertscore import BackboneSpec
    from anomreason.training.scoring import semantic_score

    return semantic_score(BackboneSpec(backbone, layer).open())


def _say(line: Mapping[str, Any]) -> None:
    """A line of the log, as a person reads it."""
    from anomreason.cli.summary import printable

    numbers = {**line, **line.get("scores", {})}
    head = f"step {line['step']}" if "step" in line else ""
    words = [str(line[key]) for key in ("event", "name", "found") if key in line]
    parts = [f"{key} {value:.4g}" for key, value in numbers.items() if isinstance(value, float)]
    print(printable("  ".join(part for part in (head, ": ".join(words), *parts) if part)), file=sys.stderr)
