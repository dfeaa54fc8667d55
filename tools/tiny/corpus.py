"""Pictures of scenes with exact labels for every token of a vision tower, drawn once and kept in shards.

Two labels a token, from the scene's own truth: which thing covers it, and which violation that thing takes part in. A
scene with a violation stands beside its twin, so that what differs between them is all that tells them apart. Pictures
that are no scenes at all stand between them. Try it:

    draw_shard(Path("corpus"), 0, Size(pictures=64, side=196))
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from tools.tiny.elsewhere import no_scene
from tools.tiny.model import STEP
from tools.tiny.standins import aloft, by_lamp_light, stand_ins

from anomreason.anomaly import KINDS, Anomaly, Kind
from anomreason.english import plural
from anomreason.scenes.phrases import fill, has_slots, wordings
from anomreason.scenes.scene import Allow, PlantedAnomaly, Scene, Slots
from anomreason.scenes.sprites.layout import lay_out
from anomreason.scenes.sprites.scene import SpriteScene
from anomreason.scenes.sprites.table import PLACES, table
from anomreason.scenes.sprites.world import SpriteWorld

Bytes = npt.NDArray[np.uint8]
SIZES, SHARES = (256, 384, 512), (0.7, 0.2, 0.1)
"""Edges at which scenes are drawn before they are scaled as inference scales them, and how often each."""
LEAST = 0.12
"""Share of a token's area that a thing must cover to be its label."""
COUNTS = (0.2, 0.55, 0.2, 0.05)
"""Share of scenes with no, one, two and three violations."""
ELSEWHERE = 0.06
"""Share of pictures that are no scenes."""
DARK = 0.6
"""Share of the scenes by lamp light in which only that can be wrong: that the lamp lights nothing."""
SCENES_FROM = 10_000_000
"""First seed; those below are for evaluation."""
SEEDS_A_SHARD = 100_000
Scenes = Literal["world", "by_lamp_light", "aloft"]
_LAYOUTS: dict[Scenes, Callable[[int], SpriteScene]] = {
    "world": lay_out,
    "by_lamp_light": by_lamp_light,
    "aloft": aloft,
}


def held_out(kind: Kind, thing: str) -> bool:
    """Whether this combination is kept from training: every tenth, the same ones on every machine."""
    return hashlib.sha256(f"{kind} {thing}".encode()).digest()[0] % 10 == 0


def trained_on(kind: Kind, thing: str) -> bool:
    return not held_out(kind, thing)


def thing_names() -> tuple[str, ...]:
    """Every thing that the sprites world can show, in a fixed order."""
    return tuple(thing.name for thing in table().things)


def plurals() -> tuple[str, ...]:
    """Of the things, in the same order; of those that are plural as they are, themselves."""
    return tuple(thing.name if thing.plural else plural(thing.name) for thing in table().things)


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def thing_words() -> list[tuple[str, ...]]:
    """Of every thing, in the same order, the words for it: one and several of them, in small letters and with a
    capital."""
    pairs = zip(thing_names(), plurals(), strict=True)
    return [tuple(dict.fromkeys(form for word in pair for form in (word, capital(word)))) for pair in pairs]


def colour_words() -> tuple[str, ...]:
    """What stands before names in the texts, in small letters and with a capital."""
    words = {f"{thing.colour} " for thing in table().things if thing.colour}
    return tuple(sorted(words | set(map(capital, words))))


def varying_words(scenes: int = 800) -> tuple[str, ...]:
    """What varies in the texts: things, their colours, places, details. Those of so many scenes, which is nearly all.

    Colours stand apart from names, so that a thing is called by the same word whatever is said of it.
    """
    world, found = SpriteWorld(), set[str]()
    for seed in range(SCENES_FROM, SCENES_FROM + scenes):
        for planted in world.draw(seed, size=32, count=3, allow=trained_on).planted:
            slots = _learnt(planted.slots)
            found |= {slots.place, slots.detail} - {""}
    return tuple(sorted({*found, *map(capital, found), *chain(*thing_words()), *colour_words()}))


@dataclass(frozen=True, slots=True)
class Size:
    """Of a shard."""

    pictures: int = 2000
    side: int = 196
    """Pixels of a picture's edge as the model takes it; a multiple of STEP."""
    kinds: tuple[Kind, ...] = ()
    """Of violations; empty: all."""
    scenes: Scenes = "world"
    """The world's own, or those of `standins.py`."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """One picture with its labels."""

    picture: Bytes
    """(side, side, 3)."""
    things: Bytes
    """(cells, cells): 0 for background, else 1 + the thing's place among the names."""
    kinds: Bytes
    """(cells, cells): 0 where nothing is wrong, else 1 + the place in KINDS."""
    answer: tuple[Anomaly, ...] | None
    """In the order of KINDS; None for a picture that is no scene."""
    outlines: Bytes
    """(side, side): the thing seen at each pixel, as in `things`."""
    place: int = 0
    """1 + where the scene plays, among PLACES; 0 for a picture that is no scene."""
    planted: tuple[Kind, ...] = ()


def draw_shard(folder: Path, number: int, size: Size, allow: Allow = trained_on) -> Path:
    """Write shard `number`, whole or not at all; one that is there is left as it is. Same number, same bytes."""
    path = folder / f"{number:04d}"
    if path.exists():
        return path
    rng = np.random.default_rng([number, 7])
    world, rows = SpriteWorld(_LAYOUTS[size.scenes]), list[Labelled]()
    seed = SCENES_FROM + number * SEEDS_A_SHARD
    while len(rows) < size.pictures:
        if rng.random() < ELSEWHERE:
            rows.append(_elsewhere(rng, size.side))
        else:
            rows += _scene(world, seed, rng, size, allow)
            seed += 1
    rows = rows[: size.pictures]
    part = folder / f"{number:04d}.part"
    part.mkdir(parents=True, exist_ok=True)
    for name in ("picture", "things", "kinds", "outlines", "place"):
        np.save(part / f"{name}.npy", np.stack([getattr(row, name) for row in rows]))
    told = [{"answer": None if r.answer is None else [_plain(a) for a in r.answer], "kinds": r.planted} for r in rows]
    (part / "answers.json").write_text(json.dumps(told), encoding="utf-8")
    part.rename(path)
    return path


def _plain(anomaly: Anomaly) -> dict[str, Any]:
    return {key: getattr(anomaly, key) for key in ("name", "phenomenon", "reasoning", "severity")}


def _elsewhere(rng: np.random.Generator, side: int) -> Labelled:
    nothing = np.zeros((side // STEP, side // STEP), dtype=np.uint8)
    outlines = np.zeros((side, side), dtype=np.uint8)
    return Labelled(scaled(no_scene(rng), side), nothing, nothing, None, outlines)


def _scene(world: SpriteWorld, seed: int, rng: np.random.Generator, given: Size, allow: Allow) -> Iterator[Labelled]:
    edge, count, kinds = int(rng.choice(SIZES, p=SHARES)), int(rng.choice(len(COUNTS), p=COUNTS)), given.kinds
    if given.scenes == "aloft":
        flying = stand_ins(aloft(seed))
        turned = world.draw(
            seed, size=edge, count=1, kinds=("orientation",), allow=lambda k, thing: thing in flying and allow(k, thing)
        )
        if turned.planted:  # else, as in its twin, something hangs in the air, and nothing says so
            yield label(turned, given.side)
        return
    if given.scenes == "by_lamp_light" and rng.random() < DARK:
        count, kinds = 1, ("function",)
    drawn = world.draw(seed, size=edge, count=count, kinds=kinds, allow=allow)
    yield label(drawn, given.side)
    if drawn.planted:
        yield label_twin(drawn, int(rng.integers(len(drawn.planted))), given.side)


def label(drawn: Scene, side: int) -> Labelled:
    """The picture of a drawn scene, scaled, with its labels."""
    names = [shown.name for shown in drawn.objects]
    return _labelled(drawn, drawn.image, drawn.owners, names, drawn.planted, side)


def label_twin(drawn: Scene, mended: int, side: int) -> Labelled:
    """The same of one of its twins."""
    names = [shown.name for shown in drawn.twins[mended].objects]
    left = [_moved(planted, drawn, mended) for k, planted in enumerate(drawn.planted) if k != mended]
    return _labelled(drawn, drawn.twins[mended].image, drawn.twins[mended].owners, names, left, side)


def _moved(planted: PlantedAnomaly, drawn: Scene, mended: int) -> PlantedAnomaly:
    """With indices among the twin's objects: those that the mended violation added are gone, the others moved up."""
    lent = [len(drawn.objects) - len(twin.objects) for twin in drawn.twins]
    gone = [i for i in drawn.planted[mended].objects if i >= len(drawn.objects) - sum(lent)]
    return replace(planted, objects=tuple(i - sum(g < i for g in gone) for i in planted.objects))


def _labelled(
    drawn: Scene, image: Image.Image, owners: Bytes, names: Sequence[str], planted: Sequence[PlantedAnomaly], side: int
) -> Labelled:
    main = [one.objects[0] for one in planted]
    best, covered = _assigned(_shares(owners, len(names), side // STEP), main)
    place = {name: k + 1 for k, name in enumerate(thing_names())}
    of = np.array([place[name] for name in names] or [0], dtype=np.uint8)
    fine = np.asarray(Image.fromarray(owners).resize((side, side), Image.Resampling.NEAREST))
    wrong = np.zeros(max(len(names), 1), dtype=np.uint8)
    for one in planted:
        for thing in one.objects[: 2 if one.kind in ("intersection", "duplicated_part") else 1]:
            wrong[thing] = 1 + KINDS.index(one.kind)
    ordered = sorted(planted, key=lambda p: KINDS.index(p.kind))
    return Labelled(
        picture=scaled(image, side),
        things=np.where(covered, of[best], 0).astype(np.uint8),
        kinds=np.where(covered, wrong[best], 0).astype(np.uint8),
        answer=tuple(plain(one, names[one.objects[0]]) for one in ordered),
        outlines=np.concatenate([[np.uint8(0)], of])[fine],
        place=1 + list(PLACES).index(drawn.place),
        planted=tuple(one.kind for one in ordered),
    )


def _assigned(shares: npt.NDArray[np.float32], main: Sequence[int]) -> tuple[Bytes, npt.NDArray[np.bool_]]:
    """Which thing each token belongs to, and whether to any. What has none gets its best one; `main` last, so surely.

    shares: (cells, cells, things).
    """
    best, covered = shares.argmax(axis=-1).astype(np.uint8), shares.max(axis=-1) >= LEAST
    for thing in (*range(shares.shape[-1]), *main):
        if not np.any(covered & (best == thing)) and shares[..., thing].max() > 0:
            cell = np.unravel_index(shares[..., thing].argmax(), covered.shape)
            best[cell], covered[cell] = thing, True
    return best, covered


def _shares(owners: Bytes, things: int, cells: int) -> npt.NDArray[np.float32]:
    """How much of each token's area each thing covers."""
    fine = np.asarray(Image.fromarray(owners).resize((cells * 16, cells * 16), Image.Resampling.NEAREST))
    blocks = fine.reshape(cells, 16, cells, 16).transpose(0, 2, 1, 3).reshape(cells, cells, -1)
    shares = [(blocks == k + 1).mean(axis=-1) for k in range(things)] or [np.zeros((cells, cells))]
    return np.stack(shares, axis=-1).astype(np.float32)


def plain(planted: PlantedAnomaly, thing: str) -> Anomaly:
    """The anomaly in the wording that is learnt: one for each kind and level, the name begins with the thing as the
    table calls it, and no position beside another thing."""
    _, phenomenon, reasoning, severity = plainest(planted.kind, planted.level, _learnt(planted.slots))
    name = plainest(planted.kind, planted.level, replace(planted.slots, thing=thing))[0]
    return Anomaly(name=name, phenomenon=phenomenon, reasoning=reasoning, severity=severity)


def _learnt(slots: Slots) -> Slots:
    return replace(slots, place="in the picture") if slots.place.startswith("to the ") else slots


def scaled(image: Image.Image, side: int) -> Bytes:
    """As the image processor of inference scales it."""
    return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC), dtype=np.uint8)


@dataclass(frozen=True)
class Shard:
    """Read back; the pictures stay on the disk until they are asked for."""

    pictures: Bytes
    things: Bytes
    kinds: Bytes
    outlines: Bytes
    places: Bytes
    answers: list[dict[str, Any]]


def read_shard(path: Path) -> Shard:
    return Shard(
        np.load(path / "picture.npy", mmap_mode="r"),
        np.load(path / "things.npy"),
        np.load(path / "kinds.npy"),
        np.load(path / "outlines.npy", mmap_mode="r"),
        np.load(path / "place.npy"),
        json.loads((path / "answers.json").read_text(encoding="utf-8")),
    )


def usable(shard: Shard, kinds: Sequence[Kind]) -> list[int]:
    """Places of the pictures in which no other kind stands than these; of all pictures when `kinds` is empty."""
    return [k for k, told in enumerate(shard.answers) if not kinds or set(kinds).issuperset(told["kinds"])]


def plainest(kind: Kind, level: str, slots: Slots) -> tuple[str, str, str, float]:
    """As `describe`, in the one wording that asks least: the first that mentions neither another thing nor a detail. Of
    the names the first such one that begins with the thing, where there is one."""
    wording = wordings(kind)[level]

    def first(templates: Sequence[str]) -> str:
        usable = [t for t in templates if has_slots(t, slots)]
        return fill(next((t for t in usable if has_slots(t, replace(slots, other="", detail=""))), usable[0]), slots)

    names = sorted(wording.names, key=lambda name: not name.startswith("{thing} "))
    return first(names), first(wording.phenomena), first(wording.reasoning), wording.severity
