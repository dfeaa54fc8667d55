"""Conversations to learn from, made of annotated pictures: what is asked, what is answered, and what does not fit.

The two recipes of the paper's appendix D. Each image has a random order and wording of its own, which follow from the
seed and its name alone: other images and their order change nothing. An answer that would be too long is given in
several instances, by whole anomalies. Knows no files but the size of a picture, and no model. Try it:

    made = make_instances(read_annotated(Path("scenes")), "anomalies", Room(count_text=len))
    print(LengthReport.of(made).table())
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from os.path import abspath
from typing import Any, get_args

import numpy as np

from anomreason.anomaly import Anomaly
from anomreason.errors import UnreadableImage, UsageError
from anomreason.images import image_size
from anomreason.textform import write_anomalies
from anomreason.training.data.drops import Dropped, tally
from anomreason.training.data.instance import Annotated, Instance, Turn
from anomreason.training.data.lengths import PERCENTILES, Room, Tokens, spread_of, table
from anomreason.training.data.wording import CONTROL, Recipe, Wording

NOT_SEARCHED = "not searched for anomalies"
NO_KIND = "AI image or photograph is not told"
NO_DESCRIPTION = "a photograph without a description"
FAULTY_PHOTOGRAPH = "a photograph with anomalies"
CONTROL_TOKEN = "its text holds a control token"
UNREADABLE = "picture cannot be opened"
NO_ROOM = "no room beside picture and prompt"
TOO_LONG = "too long for one instance"
"""Of a single anomaly, or of a description. Neither is ever cut."""
NONE_FITS = "none of its anomalies fits"

_NONE = write_anomalies(())

Say = Callable[[Sequence[Anomaly]], tuple[Turn, ...]]
"""The conversation whose list holds these anomalies."""


@dataclass(frozen=True, slots=True)
class Made:
    """The instances of one training set, sorted by image."""

    recipe: Recipe
    seed: int
    wording: Wording
    room: Room
    images: int
    """That were given; each has instances or is among `dropped`."""
    instances: tuple[Instance, ...]
    tokens: tuple[Tokens, ...]
    """Length of each instance."""
    anomalies: int
    """In the answers of all instances."""
    clean: int
    """Instances whose answer is that there are none."""
    dropped: tuple[Dropped, ...]


def make_instances(
    images: Iterable[Annotated], recipe: Recipe, room: Room, seed: int = 0, wording: Wording | None = None
) -> Made:
    """Conversations about each image, within the length.

    The order of `images` does not matter. Raises UsageError for an unknown recipe, and when one picture is annotated
    twice. What cannot be learnt from is in `dropped`, with its reason.
    """
    if recipe not in get_args(Recipe):
        raise UsageError(f"{recipe!r} is no recipe; choose one of {', '.join(get_args(Recipe))}")
    wording = wording or Wording.load()
    given = _ordered(images)
    instances: list[Instance] = []
    tokens: list[Tokens] = []
    dropped: list[Dropped] = []
    learnt = clean = 0
    for image in given:
        said = _said(image, recipe, seed, wording)
        lists = said if isinstance(said, Dropped) else _fitted(image, said, room, dropped)
        if isinstance(lists, Dropped):
            dropped.append(lists)
            continue
        for part, one in enumerate(lists, 1):
            instances.append(Instance(image.image, image.name, one.turns, part, len(lists)))
            tokens.append(one.tokens)
            learnt += len(one.anomalies)
            clean += one.turns[-1].text == _NONE
    return Made(recipe, seed, wording, room, len(given), tuple(instances), tuple(tokens), learnt, clean, tuple(dropped))


def _ordered(images: Iterable[Annotated]) -> list[Annotated]:
    given = sorted(images, key=lambda one: (one.name, str(one.image)))
    seen: dict[str, Annotated] = {}
    for one in given:
        before = seen.setdefault(abspath(one.image), one)
        if before is not one:
            raise UsageError(
                f"{one.image} is annotated twice (as {before.name!r} of {before.source!r} and {one.name!r} of "
                f"{one.source!r}); leave one of the two out, or the model learns two answers for one picture"
            )
    return given


@dataclass(frozen=True, slots=True)
class _Said:
    """What is to be said of one image: its anomalies in their random order, and how they are put."""

    anomalies: tuple[Anomaly, ...]
    say: Say


def _said(image: Annotated, recipe: Recipe, seed: int, wording: Wording) -> _Said | Dropped:
    """The conversation about an image, or why there is none."""
    texts = [text for a in image.anomalies for text in (a.name, a.phenomenon, a.reasoning)]
    for text in [*texts, image.description or ""]:
        if found := CONTROL.search(text):
            detail = f"{found[0]!r} stands for a picture or ends a message; remove it from the annotation"
            return Dropped(image.name, CONTROL_TOKEN, detail)
    draw = _generator(seed, recipe, image.name, "order")
    order = tuple(image.anomalies[i] for i in draw.permutation(len(image.anomalies)))
    pick = _generator(seed, recipe, image.name, "wording")
    if recipe == "anomalies":
        return _anomalies(image, order, wording, pick)
    return _authenticity(image, order, wording, pick)


def _anomalies(
    image: Annotated, order: tuple[Anomaly, ...], wording: Wording, pick: np.random.Generator
) -> _Said | Dropped:
    if not _searched(image):
        return Dropped(image.name, NOT_SEARCHED)
    asked = Turn("user", _one(wording.ask, pick))
    return _Said(order, lambda found: (asked, Turn("assistant", write_anomalies(found))))


def _authenticity(
    image: Annotated, order: tuple[Anomaly, ...], wording: Wording, pick: np.random.Generator
) -> _Said | Dropped:
    asked, explain = Turn("user", _one(wording.source, pick)), Turn("user", _one(wording.explain, pick))
    if image.generated is None:
        return Dropped(image.name, NO_KIND)
    if image.generated:
        head = asked, Turn("assistant", wording.generated), explain
        said = _Said(order, lambda found: (*head, Turn("assistant", write_anomalies(found))))
        return said if _searched(image) else Dropped(image.name, NOT_SEARCHED)
    described = (image.description or "").strip()
    if order or not described:
        return Dropped(image.name, FAULTY_PHOTOGRAPH if order else NO_DESCRIPTION)
    whole = asked, Turn("assistant", wording.photograph), explain, Turn("assistant", described)
    return _Said((), lambda _: whole)


def _searched(image: Annotated) -> bool:
    """Whether somebody looked for anomalies; of a picture that is only described nobody knows that it has none."""
    return bool(image.anomalies) or image.description is None


def _generator(seed: int, *names: str) -> np.random.Generator:
    digest = hashlib.sha256("\0".join((str(seed), *names)).encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def _one(texts: Sequence[str], pick: np.random.Generator) -> str:
    return texts[int(pick.integers(len(texts)))]


@dataclass(frozen=True, slots=True)
class _Part:
    anomalies: tuple[Anomaly, ...]
    turns: tuple[Turn, ...]
    tokens: Tokens


def _fitted(image: Annotated, said: _Said, room: Room, dropped: list[Dropped]) -> list[_Part] | Dropped:
    """The conversation in one part, or in as few as whole anomalies allow in their order; or why it does not fit.

    Single anomalies that are too long are added to `dropped`.
    """
    try:
        picture = room.picture(*image_size(image.image))
    except UnreadableImage as error:
        return Dropped(image.name, UNREADABLE, str(error))

    def part(anomalies: tuple[Anomaly, ...]) -> _Part | None:
        turns = said.say(anomalies)
        tokens = room.measure(turns, picture)
        return _Part(anomalies, turns, tokens) if tokens.total <= room.max_tokens else None

    whole = part(said.anomalies)
    if whole is not None:
        return [whole]
    least = room.measure([*said.say(())[:-1], Turn("assistant", "")], picture).total
    if least >= room.max_tokens:
        detail = f"picture and prompt take {least:,} of {room.max_tokens:,} tokens; allow more tokens or fewer pixels"
        return Dropped(image.name, NO_ROOM, detail)
    if not said.anomalies:
        return Dropped(image.name, TOO_LONG, f"with picture and prompt more than {room.max_tokens:,} tokens")
    parts: list[_Part] = []
    for anomaly in said.anomalies:
        longer = part((*parts[-1].anomalies, anomaly)) if parts else None
        alone = None if longer else part((anomaly,))
        if longer:
            parts[-1] = longer
        elif alone:
            parts.append(alone)
        else:
            detail = f"{anomaly.name!r}: with picture and prompt more than {room.max_tokens:,} tokens"
            dropped.append(Dropped(image.name, TOO_LONG, detail, "anomaly"))
    return parts or Dropped(image.name, NONE_FITS, "allow more tokens, fewer pixels, or shorten the annotation")


@dataclass(frozen=True, slots=True)
class LengthReport:
    """What a training set holds, how long its instances are and what was left out: to be read before training."""

    made: Made
    dropped: tuple[Dropped, ...]
    """Of the sources and of the making."""

    @classmethod
    def of(cls, made: Made, of_sources: Iterable[Dropped] = ()) -> LengthReport:
        return cls(made, (*of_sources, *made.dropped))

    def record(self) -> dict[str, Any]:
        """All of it as JSON holds it. Token counts are percentiles that occur among the instances."""
        made = self.made
        split = [one.parts for one in made.instances if one.part == 1 and one.parts > 1]
        return {
            "recipe": made.recipe,
            "seed": made.seed,
            "prompts": made.wording.record(),
            **made.room.settings(),
            "images": made.images,
            "images_learnt_from": sum(one.part == 1 for one in made.instances),
            "instances": len(made.instances),
            "clean": made.clean,
            "anomalies": made.anomalies,
            "images_split": len(split),
            "instances_of_split_images": sum(split),
            "tokens": spread_of(made.tokens),
            "tokens_in_all": sum(one.total for one in made.tokens),
            "tokens_of_answers": sum(one.answer for one in made.tokens),
            "dropped": tally(self.dropped),
        }

    def table(self) -> str:
        """For a person, as plain text."""
        found = self.record()
        lines = [
            f"{found['instances']:,} instances of {found['images_learnt_from']:,} images, recipe {found['recipe']!r}: "
            f"{found['anomalies']:,} anomalies, {found['clean']:,} answers that there are none",
            f"images split: {found['images_split']:,}, into {found['instances_of_split_images']:,} instances",
            f"at most {found['max_tokens']:,} tokens, {found['min_pixels']:,} to {found['max_pixels']:,} pixels; "
            f"{found['tokens_in_all']:,} tokens in all, {found['tokens_of_answers']:,} of them learnt",
            "",
            *table([*(f"p{p}" for p in PERCENTILES[:-1]), "max"], found["tokens"]),
            "",
            *self._left_out(),
        ]
        return "\n".join(lines)

    def _left_out(self) -> Iterator[str]:
        counted = tally(self.dropped)
        if not counted:
            yield "nothing was left out"
        for what, reasons in counted.items():
            plural = "images" if what == "image" else "anomalies"
            yield f"{sum(reasons.values()):,} {plural} left out:"
            yield from (f"  {count:>9,}  {reason}" for reason, count in reasons.items())
