"""From a recipe's sources to conversations that fit the model, and what became of every picture.

prepared = prepare(read_recipe("tiny-lora"), ["scenes/"], ["held-out/"])
print(prepared.report.table())
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anomreason.errors import UsageError
from anomreason.training.data.conversations import LengthReport, Made, make_instances
from anomreason.training.data.drops import Dropped
from anomreason.training.data.instance import Annotated, Instance
from anomreason.training.data.lengths import Room
from anomreason.training.data.sources import read_annotated
from anomreason.training.loading import load_reader, require_training
from anomreason.training.plan import LIGHT
from anomreason.training.recipe import Recipe
from anomreason.vlm.local.weights import folder_of


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a training learns from, and what it is watched on."""

    instances: tuple[Instance, ...]
    held_out: tuple[Instance, ...]
    report: LengthReport
    """Of the instances that are learnt."""


def prepare(recipe: Recipe, train: Sequence[str | Path] = (), held_out: Sequence[str | Path] = ()) -> Prepared:
    """Read the sources (those given, else those of the recipe) and write the conversations.

    Of a source with a split, `train` is learnt and `test` held out. Raises UsageError for what cannot be read, and for
    pictures that would be learnt and held out.
    """
    require_training(recipe)
    folder = folder_of(recipe.model.base, LIGHT)
    reader = load_reader(recipe, folder)

    def count(text: str) -> int:
        return len(reader.tokenizer(text, add_special_tokens=False)["input_ids"])

    room = Room(count, recipe.data.max_tokens, recipe.model.min_pixels, recipe.model.max_pixels)
    made, dropped = _made(recipe, train or recipe.data.train, "train", room)
    watched, _ = _made(recipe, held_out or recipe.data.held_out, "test", room)
    learnt = {one.image.resolve() for one in made.instances}
    both = sorted({one.name for one in watched.instances if one.image.resolve() in learnt})
    if both:
        raise UsageError(
            f"pictures are both learnt from and held out ({len(both)}, the first is {both[0]}), so scores flatter; "
            "name other ones by --held-out"
        )
    return Prepared(made.instances, watched.instances, LengthReport.of(made, dropped))


def _made(recipe: Recipe, sources: Sequence[str | Path], part: str, room: Room) -> tuple[Made, list[Dropped]]:
    images: list[Annotated] = []
    dropped: list[Dropped] = []
    for source in sources:
        read = read_annotated(Path(source), part=part)
        several = len(sources) > 1
        images += [replace(one, name=f"{Path(source).name}/{one.name}") if several else one for one in read]
        dropped += read.dropped
    return make_instances(images, recipe.data.task, room, recipe.seed), dropped
