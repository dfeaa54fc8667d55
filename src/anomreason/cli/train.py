"""`anomreason train` and `anomreason merge`: fine-tune by a recipe; write base and adapter as one checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anomreason.cli.output import printable, say

if TYPE_CHECKING:
    from anomreason.training.answering import Score


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of one that comes with anomreason.")],
    out: Annotated[Path, typer.Option(help="Output folder: adapter or checkpoint, log and curve.")],
    data: Annotated[
        list[str] | None,
        typer.Option(help="Training data: scenes, run folders, published JSON. [default: the recipe's]"),
    ] = None,
    held_out: Annotated[
        list[str] | None,
        typer.Option(help="Held-out data to measure on, in the same forms. [default: the recipe's]"),
    ] = None,
    base: Annotated[str | None, typer.Option(help="Model to start from. [default: the recipe's]")] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="Model that compares texts, to pick weights by SemF1. [default: by held-out loss]"),
    ] = None,
    layer: Annotated[
        int | None, typer.Option(help="Backbone layer to use. [default: the usual one, where known]")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print data, memory and time that training will take, and stop.")
    ] = False,
) -> None:
    """Fine-tune a model by a recipe. The same command again continues where it stopped.

    Use the result with anomreason detect photo.jpg --model local:BASE+OUT. On several GPUs: accelerate launch
    -m anomreason train ... Recipes that come with anomreason: anomreasonor-7b, anomreasonor-7b-deepfake,
    anomreasonor-3b, qlora-24gb, full-tiny, tiny-lora. Needs: pip install '.[train]' in the clone.
    """
    from anomreason.training.loading import prepare
    from anomreason.training.recipe import read_recipe

    settings = read_recipe(recipe)
    if base is not None:
        settings = settings.model_copy(update={"model": settings.model.model_copy(update={"base": base})})
    prepared = prepare(settings, data or (), held_out or ())
    if prepared.made is not None and (prepared.instances or prepared.made.dropped):
        say(prepared.made.table())
    if dry_run:
        from anomreason.training.plan import plan

        say(plan(prepared).text())
        return
    from anomreason.training import lora

    trained = lora.train(prepared, out, _score(backbone, layer) if backbone else None, _show)
    say(f"Chosen: step {trained.chosen} of {trained.steps}, by {trained.by}")
    say(f"Curve: {out / 'curve.html'}")
    if trained.warning:
        say(
            f"Warning: {printable(trained.warning)}. detect would lose such images: train on more images or for more "
            "steps, or lower steps.learning_rate.",
            err=True,
        )
    say(f"Use it: anomreason detect photo.jpg --schedule single --model {trained.spec}")


def merge(
    base: Annotated[str, typer.Argument(help="Model that the adapter was trained on: a folder or hub id.")],
    adapter: Annotated[str, typer.Argument(help="Adapter: a folder or hub id.")],
    out: Annotated[Path, typer.Option(help="New or empty folder for the merged checkpoint.")],
    dtype: Annotated[
        str | None, typer.Option(help="Type of the merged weights: float32, bfloat16 or float16. [default: the base's]")
    ] = None,
) -> None:
    """Write a base and its adapter as one checkpoint, and prove that both give the same logits.

    For servers that cannot load adapters. Needs: pip install '.[train]' in the clone.
    """
    from anomreason.training import merging

    proof = merging.merge(base, adapter, out, dtype)
    say(f"Merged into {out}: {proof.found}")
    say(f"Use it: anomreason detect photo.jpg --schedule single --model local:{out}")


def _score(backbone: str, layer: int | None) -> Score:
    from anomreason.metrics.bertscore import BackboneSpec
    from anomreason.training.answering import semantic_score

    return semantic_score(BackboneSpec(backbone, layer).open())


def _show(line: Mapping[str, Any]) -> None:
    """One line of the log on the terminal."""
    numbers = {**line, **line.get("scores", {})}
    head = f"step {line['step']}" if "step" in line else ""
    words = [str(line[key]) for key in ("event", "name", "found") if key in line]
    if line.get("event") == "answers":
        words += [f"{line['model']}: {line['readable']} of {line['answers']} can be read"]
    parts = [f"{key} {value:.4g}" for key, value in numbers.items() if isinstance(value, float)]
    print(printable("  ".join(part for part in (head, ": ".join(words), *parts) if part)), file=sys.stderr)
