"""The violations of the sprites world: of one object alone, between several, and objects that do not belong there.

Each function takes the bench, the index of an item of the clean scene and a generator, and returns the change, or None
when that item is not fit for it.

    floating(Bench(lay_out(7)), 0, numpy.random.default_rng(0))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from anomreason.anomaly import Kind
from anomreason.english import article
from anomreason.scenes.scene import Slots
from anomreason.scenes.sprites.layout import fits, placed
from anomreason.scenes.sprites.scene import (
    SpriteChange,
    SpriteItem,
    SpriteScene,
    Sun,
    drawn_height,
    inside,
    overlap,
)
from anomreason.scenes.sprites.table import LOOKS, PLACES, Place, Sort, SpriteThing, table
from anomreason.scenes.table import Box

LEAST = 0.135
"""Of the image's edge: what a violation shows on is at least that large in one direction."""
_MAY_COVER = 0.02
_LYING: tuple[Sort, ...] = ("animal", "building", "furniture", "street")
_NO_MINIATURES: tuple[Sort, ...] = ("animal", "building", "furniture", "street", "vehicle")
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_NO_ROOM_BELOW = ("seabed", "underwater", "air", "wall")


@dataclass(frozen=True)
class Bench:
    """A clean scene to work on."""

    stage: SpriteScene

    @property
    def items(self) -> tuple[SpriteItem, ...]:
        return self.stage.items

    @property
    def look(self) -> Place:
        return LOOKS[self.stage.look]

    def guests(self, i: int) -> bool:
        """Whether something stands on it."""
        return any(item.host == i for item in self.items)

    def fits(self, item: SpriteItem, but: Sequence[int], cover: float = _MAY_COVER) -> bool:
        """Whether it is in the image and covers no other thing by more than that share, but for these indices."""
        box = item.box
        if not inside(box, -0.005):
            return False
        skip = {*but, item.host}
        return all(overlap(box, other.box) <= cover for j, other in enumerate(self.items) if j not in skip)

    def slots(self, i: int, rng: np.random.Generator, coloured: bool = True) -> Slots:
        """Thing and place for the texts."""
        item = self.items[i]
        row = item.row
        return Slots(row.phrase if coloured else row.name, self.where(item, i, rng), plural=row.plural)

    def where(self, item: SpriteItem, i: int, rng: np.random.Generator) -> str:
        """Where the item is: by the ground it is on, or beside another thing on the same."""
        beside = [
            (other, other.x - item.x)
            for j, other in enumerate(self.items)
            if j != i and other.support == item.support and other.thing != "sun" and 0.15 < abs(other.x - item.x) < 0.6
        ]
        if not beside or rng.random() < 0.55:
            return item.where
        other, shift = beside[int(rng.integers(len(beside)))]
        return f"to the {'left' if shift > 0 else 'right'} of the {other.row.phrase}"


def large(box: Box) -> bool:
    return max(box[2] - box[0], box[3] - box[1]) >= LEAST


def floating(bench: Bench, i: int, rng: np.random.Generator) -> SpriteChange | None:
    """Lifted off what carries it; its shadow stays below."""
    item = bench.items[i]
    if item.support in _NO_ROOM_BELOW or bench.guests(i) or (item.row.sort == "animal" and item.support == "water"):
        return None
    low = rng.random() < 0.2
    for _ in range(8):
        lift = float(rng.uniform(0.065, 0.085)) if low else float(rng.uniform(0.11, 0.45))
        raised = replace(item, lift=lift)
        if bench.fits(raised, (i,)):
            return SpriteChange("floating", "low" if low else "high", bench.slots(i, rng), ((i, raised),))
    return None


def scale(bench: Bench, i: int, rng: np.random.Generator) -> SpriteChange | None:
    """Far larger than something larger, or far smaller than something smaller."""
    item = bench.items[i]
    if item.support in ("air", "underwater", "wall") or bench.guests(i) or item.row.any_size:
        return None
    tries = [_giant, _tiny] if rng.random() < 0.6 else [_tiny, _giant]
    return next((change for change in (shape(bench, i, rng) for shape in tries) if change is not None), None)


def _giant(bench: Bench, i: int, rng: np.random.Generator) -> SpriteChange | None:
    item = bench.items[i]
    for factor in (3.4, 3.0, 2.6, 2.3, 2.0):
        new = replace(item, h=item.h * factor)
        for dx in (0.0, -0.06, 0.06, -0.12, 0.12, -0.2, 0.2, -0.3, 0.3) if item.host < 0 else (0.0,):
            moved = replace(new, x=min(max(item.x + dx, new.w / 2 + 0.005), 1 - new.w / 2 - 0.005))
            for j, other in _others(bench, i):
                bigger = other.row.size_cm >= item.row.size_cm * 0.7 and other.y >= item.y - 0.3
                if bigger and new.h > other.h * 1.25 and new.h <= 0.7 and bench.fits(moved, (i,), 0.35):
                    detail = f"even taller than the {other.row.phrase}"
                    slots = replace(bench.slots(i, rng), other=other.row.phrase, detail=detail)
                    return SpriteChange("scale", "giant", slots, ((i, moved),), about=(j,))
    return None


def _tiny(bench: Bench, i: int, rng: np.random.Generator) -> SpriteChange | None:
    item = bench.items[i]
    if max(item.h, item.w) < 0.2 or item.y < bench.stage.horizon + 0.1 or item.row.sort not in _NO_MINIATURES:
        return None
    new = replace(item, h=item.h * max(0.3, 0.1 / max(item.h, item.w)))
    for j, other in _others(bench, i):
        much = other.row.size_cm <= item.row.size_cm * 0.55 and new.h < other.h * 0.65
        alike = other.row.size_cm <= item.row.size_cm * 1.15 and new.h < other.h * 0.4
        alike = alike and item.row.sort not in ("animal", "plant")
        if (much or alike) and other.y <= item.y + 0.16 and new.w < other.w:
            slots = replace(bench.slots(i, rng), other=other.row.phrase, detail=f"smaller than the {other.row.phrase}")
            return SpriteChange("scale", "tiny", slots, ((i, new),), about=(j,))
    return None


def _others(bench: Bench, i: int) -> list[tuple[int, SpriteItem]]:
    """What a size can be compared with: what stands on something, too."""
    kept = ("air", "wall", "underwater")
    return [(j, other) for j, other in enumerate(bench.items) if j != i and other.support not in kept]


def orientation(bench: Bench, i: int, rng: np.random.Generator) -> SpriteChange | None:
    """Upside down, or on its side."""
    item = bench.items[i]
    if not item.row.up or bench.guests(i) or item.support == "underwater" or item.thing == "ramp":
        return None
    sideways = item.row.sort in _LYING and item.support == "floor" and rng.random() < 0.35
    turn = (90.0 if rng.random() < 0.5 else -90.0) if sideways else 180.0
    turned = replace(item, turn=turn)
    if item.support == "wall":
        turned = replace(turned, y=item.y)
    if not large(item.box) or not bench.fits(turned, (i,)):
        return None
    level = "sideways" if sideways else "upside_down"
    return SpriteChange("orientation", level, bench.slots(i, rng), ((i, turned),))


def missing_part(bench: Bench, i: int, rng: np.random.Generator) -> SpriteChange | None:
    """A part that must be there is gone."""
    item = bench.items[i]
    parts = [p for p in item.row.parts if max((p.box[2] - p.box[0]) * item.w, (p.box[3] - p.box[1]) * item.h) >= 0.055]
    if not parts or not large(item.box):
        return None
    part = parts[int(rng.integers(len(parts)))]
    slots = replace(bench.slots(i, rng), detail=f"its {part.name}")
    changed = replace(item, edit=("erase", part.name))
    return SpriteChange("missing_part", "vital" if part.vital else "other", slots, ((i, changed),))


def duplicated_part(bench: Bench, i: int, rng: np.random.Generator) -> SpriteChange | None:
    """A part stands there twice, or two of the thing are grown into one."""
    item = bench.items[i]
    copies = [part for part in item.row.parts if part.copy_at is not None]
    if not large(item.box):
        return None
    if copies and (not item.row.fuse or rng.random() < 0.6):
        part = copies[int(rng.integers(len(copies)))]
        slots = replace(bench.slots(i, rng), detail=f"a surplus {part.name.split()[-1]}")
        return SpriteChange("duplicated_part", "duplicated", slots, ((i, replace(item, edit=("copy", part.name))),))
    fused = replace(item, edit=("fuse", item.row.fuse))
    for dx in (0.0, -0.05, 0.05, 0.1, -0.1):
        moved = replace(fused, x=item.x + dx)
        if item.row.fuse and bench.fits(moved, (i,)):
            return SpriteChange("duplicated_part", "fused", bench.slots(i, rng), ((i, moved),))
    return None


def colour(bench: Bench, i: int, rng: np.random.Generator) -> SpriteChange | None:
    """A colour that such a thing never has."""
    item = bench.items[i]
    never = item.row.never
    if not never or not large(item.box):
        return None
    new = never[int(rng.integers(len(never)))]
    slots = replace(bench.slots(i, rng, coloured=False), detail=f"bright {new}")
    return SpriteChange("colour", "impossible", slots, ((i, replace(item, edit=("hue", new))),))


def shadow(bench: Bench, i: int, rng: np.random.Generator) -> SpriteChange | None:
    """It throws none, or one towards the light, while at least one other thing throws its own."""
    item = bench.items[i]
    throwing = [other for other in bench.items if other.support in ("floor", "table") and other.host < 0]
    if item not in throwing or len(throwing) < 2 or not bench.stage.sun.strength or item.h < 0.2 or bench.guests(i):
        return None
    if item.y > 0.97 - 0.6 * item.h * bench.stage.sun.down:
        return None
    wrong = rng.random() < 0.5
    tip = item.x - bench.stage.sun.across * item.h
    if wrong and not 0.02 < tip < 0.98:
        wrong = False
    changed = replace(item, shadow="wrong" if wrong else "none")
    level = "wrong_way" if wrong else "missing"
    return SpriteChange("shadow", level, bench.slots(i, rng), ((i, changed),), everywhere=True)


def split(bench: Bench, i: int, rng: np.random.Generator) -> SpriteChange | None:
    """Two halves with a gap between them."""
    item = bench.items[i]
    if bench.guests(i) or item.row.sort == "sky" or item.thing in ("ramp", "sun") or max(item.h, item.w) < 0.15:
        return None
    down_first = rng.random() < 0.5
    ways = ["down", "across"] if down_first else ["across", "down"]
    if item.support == "water":
        ways = ["across"]
    for way in ways:
        cut = replace(item, edit=("split", way))
        if bench.fits(cut, (i,)):
            return SpriteChange("split", "gap", bench.slots(i, rng), ((i, cut),))
    return None


def text(bench: Bench, i: int, rng: np.random.Generator) -> SpriteChange | None:
    """A dial or a sign that cannot be."""
    item = bench.items[i]
    slots = bench.slots(i, rng)
    if item.row.drawn == "clock":
        wrongs = {
            "thirteen": "the number 13 at the top of its dial",
            "backwards": "its numbers running backwards round the dial",
            "shuffled": "the numbers of its dial in a mixed-up order",
            "twice": "the number 6 four times on its dial",
        }
        wrong = list(wrongs)[int(rng.integers(len(wrongs)))]
        changed = replace(item, state=("text", wrong, item.state[-1] if item.state else 0))
        return SpriteChange("text", "clock", replace(slots, detail=wrongs[wrong]), ((i, changed),))
    if item.row.drawn == "sign":
        word = str(item.state[1])
        turns = _turned_letters(word, rng)
        changed = replace(item, state=("word", word, turns))
        detail = f"the word {word} with {_NUMBERS[len(word) - turns.count('.')]} of its letters turned round"
        return SpriteChange("text", "sign", replace(slots, detail=detail), ((i, changed),))
    return None


def _turned_letters(word: str, rng: np.random.Generator) -> str:
    """For each letter . (right), m (mirrored) or u (upside down); two or more that look otherwise then."""
    for _ in range(20):
        turns = "".join(("m", "u", ".")[int(rng.integers(3))] for _ in word)
        seen = [t for letter, t in zip(word, turns, strict=True) if _looks_turned(letter, t)]
        if len(seen) >= 2 and len(seen) == len(word) - turns.count("."):
            return turns
    return "".join(next((t for t in "mu" if _looks_turned(letter, t)), ".") for letter in word)


def _looks_turned(letter: str, turn: str) -> bool:
    return (turn == "m" and letter in "BCDEFGJKLNPQRSZ") or (turn == "u" and letter in "AEFGJLMPQRTUVWYKB")


def count(bench: Bench, i: int, rng: np.random.Generator) -> SpriteChange | None:
    """More of something than the thing has."""
    item = bench.items[i]
    slots = bench.slots(i, rng)
    if item.row.drawn == "traffic light":
        n = int(rng.integers(5, 7))
        state: tuple[str | int | float, ...] = ("lamps", n)
        detail = f"{_NUMBERS[n]} lamps instead of three"
    elif item.row.drawn == "die":
        n = int(rng.integers(7, 10))
        state = ("pips", n)
        detail = f"{_NUMBERS[n]} pips on one face instead of six at most"
    elif item.row.drawn == "clock":
        n = int(rng.integers(4, 7))
        state = ("hands", n, item.state[-1] if item.state else 0)
        detail = f"{_NUMBERS[n]} hands instead of two"
    else:
        return None
    return SpriteChange("count", "many", replace(slots, detail=detail), ((i, replace(item, state=state)),))


_FREE = ("air", "wall", "underwater")


def intersection(bench: Bench, i: int, rng: np.random.Generator) -> SpriteChange | None:
    """Half before and half behind another thing that stands on the same ground."""
    item = bench.items[i]
    if item.support in ("air", "wall") or bench.guests(i) or item.thing == "ramp" or item.host >= 0:
        return None
    near = sorted(range(len(bench.items)), key=lambda j: abs(bench.items[j].x - item.x))
    for j in near:
        other = bench.items[j]
        if j == i or other.support != item.support or other.host != item.host or bench.guests(j):
            continue
        if other.thing in ("ramp", "table"):
            continue
        moved = _into(bench, item, other)
        if moved is not None and bench.fits(moved, (i, j)):
            slots = replace(bench.slots(i, rng), place=item.where, other=other.row.phrase)
            return SpriteChange("intersection", "deep", slots, ((i, moved),), about=(j,))
    return None


def _into(bench: Bench, item: SpriteItem, other: SpriteItem) -> SpriteItem | None:
    """The item where the other one is, at the size it has there; it must stick out on both sides, or nearly."""
    size, horizon = item.h, bench.stage.horizon
    if item.support != "underwater":
        nearer = (other.y - horizon) / (item.y - horizon)
        size *= min(max(nearer, 0.7), 1.5)
    moved = replace(item, h=size, y=other.y - 0.004, through=other.y)
    if item.support == "underwater":
        moved = replace(moved, y=other.y - (other.h - item.h) / 2)
    if not 0.3 <= moved.h / other.h <= 1.5 or not 0.65 <= moved.w / other.w <= 4.0 or max(moved.h, moved.w) < 0.155:
        return None
    side = -1 if item.x < other.x else 1
    return replace(moved, x=other.x + side * 0.06 * other.w)


def out_of_place(bench: Bench, i: int, rng: np.random.Generator) -> SpriteChange | None:
    """Something that cannot or would not be here; added where there is room, else in place of an item."""
    place, item = bench.stage.place, bench.items[i]
    wrong = [t for t in table().things if place in t.impossible or place in t.strange]
    if not wrong or item.support in _FREE or bench.guests(i) or item.host >= 0:
        return None
    spots = [s for s in bench.look.spots if s.supports[0] not in _FREE and s.share >= 1]
    for _ in range(60):
        row = wrong[int(rng.integers(len(wrong)))]
        spot = spots[int(rng.integers(len(spots)))]
        grounded = row.model_copy(update={"support": spot.supports[0]})  # whatever carries it otherwise
        new = placed(bench.look, spot, grounded, rng)
        if new is not None and large(new.box) and fits(new, bench.items):
            return _foreign(bench, row, new, replaced=())
    for _ in range(12):
        row = wrong[int(rng.integers(len(wrong)))]
        height = drawn_height(row.size_cm, item.y - bench.stage.horizon, bench.stage.camera_cm)
        new = replace(item, thing=row.name, h=height, state=(), flip=False)
        if large(new.box) and height <= 0.46 and fits(new, [o for j, o in enumerate(bench.items) if j != i]):
            return _foreign(bench, row, new, replaced=(i,))
    return None


def _foreign(bench: Bench, row: SpriteThing, new: SpriteItem, replaced: tuple[int, ...]) -> SpriteChange:
    level = "impossible" if bench.stage.place in row.impossible else "strange"
    home = row.home or PLACES[row.places[0]].a_place
    slots = Slots(row.phrase, new.where, detail=home, plural=row.plural)
    if replaced:
        return SpriteChange("out_of_place", level, slots, ((replaced[0], new),))
    return SpriteChange("out_of_place", level, slots, added=(new,))


def reflection(bench: Bench, i: int, rng: np.random.Generator) -> SpriteChange | None:
    """The water shows another thing, or nothing."""
    item = bench.items[i]
    mirroring = bench.stage.place in ("lake shore", "open sea") and item.support in ("floor", "water")
    if not mirroring or max(item.h, item.w) < 0.17 or 1 - item.y < max(0.12, item.h * 0.5):
        return None
    slots = bench.slots(i, rng)
    if rng.random() < 0.4:
        changed = replace(item, mirror="nothing")
        return SpriteChange("reflection", "missing", slots, ((i, changed),), everywhere=True)
    named = {other.thing for other in bench.items}
    rows = [t for t in table().things if t.picture and t.name not in named and t.sort in ("animal", "vehicle", "plant")]
    rows = [t for t in rows if t.sort != item.row.sort]
    shown = rows[int(rng.integers(len(rows)))]
    changed = replace(item, mirror=shown.name)
    detail = (
        f"the image of another thing, namely of the {shown.name}"
        if shown.plural
        else f"{article(shown.phrase)} {shown.phrase}"
    )
    return SpriteChange("reflection", "other", replace(slots, detail=detail), ((i, changed),), everywhere=True)


def function(bench: Bench, i: int, rng: np.random.Generator) -> SpriteChange | None:
    """A lamp that lights nothing, a fire under water or on it."""
    item, place = bench.items[i], bench.stage.place
    if item.is_lamp:
        return SpriteChange("function", "dark_lamp", bench.slots(i, rng), ((i, replace(item, lights=False)),))
    if place not in ("sea floor", "open sea", "lake shore"):
        return None
    fire = table().named("fire")
    spots = [s for s in bench.look.spots if {"seabed", "water"} & set(s.supports)]
    for _ in range(40):
        y = float(rng.uniform(spots[0].far, spots[0].near))
        size = min(0.26, max(0.16, drawn_height(fire.size_cm, y - bench.stage.horizon, bench.stage.camera_cm)))
        x = float(rng.uniform(0.1, 0.9))
        new = SpriteItem(fire.name, x, y, size, spots[0].phrase, spots[0].supports[0])
        if fits(new, bench.items):
            if place == "sea floor":
                slots = Slots("campfire", new.where, detail="burning under water")
                return SpriteChange("function", "under_water", slots, added=(new,))
            slots = Slots("campfire", new.where, detail="burning on the open water with nothing to burn")
            return SpriteChange("function", "running", slots, added=(new,))
    return None


def physical_state(bench: Bench, i: int, rng: np.random.Generator) -> SpriteChange | None:
    """A liquid that stands aslant, or a thing that rests on a steep ramp."""
    item = bench.items[i]
    slots = bench.slots(i, rng)
    if item.row.drawn == "glass" and item.h >= 0.13:
        tilt = float(rng.integers(24, 33)) * (1 if rng.random() < 0.5 else -1)
        return SpriteChange("physical_state", "tilted_liquid", slots, ((i, replace(item, state=("tilt", tilt))),))
    ramps = [j for j, other in enumerate(bench.items) if other.thing == "ramp"]
    if not ramps or i == ramps[0] or item.support != "floor":
        return None
    ramp = bench.items[ramps[0]]
    on = _on_slope(bench, item, ramp, ramps[0])
    if on is None or not bench.fits(on, (i, ramps[0])):
        return None
    detail = "resting on a steep slope without sliding"
    slots = replace(slots, place="on the wooden ramp", detail=detail)
    return SpriteChange("physical_state", "steep", slots, ((i, on),), about=(ramps[0],))


def _on_slope(bench: Bench, item: SpriteItem, ramp: SpriteItem, host: int) -> SpriteItem | None:
    """The thing half-way up, upright to the slope."""
    size = drawn_height(item.row.size_cm, ramp.y - bench.stage.horizon, bench.stage.camera_cm)
    wide = size * item.w / item.h
    clings = item.row.sort in ("animal", "building", "boat") or (item.row.sort == "plant" and item.row.size_cm > 60)
    if clings or size > ramp.h * 0.95 or wide > ramp.w * 0.6:
        return None
    if max(size, wide) < 0.11:
        return None
    angle = math.atan2(ramp.h, ramp.w) * (-1 if ramp.flip else 1)
    middle = ramp.y - ramp.h / 2 - size / 2 * math.cos(angle)
    x = ramp.x - size / 2 * math.sin(angle)
    high = wide * abs(math.sin(angle)) + size * math.cos(angle)
    return replace(
        item, x=x, y=middle + high / 2, h=size, turn=math.degrees(angle), shadow="none", host=host, where="on the ramp"
    )  # fmt: skip


def lighting(bench: Bench, i: int, rng: np.random.Generator) -> SpriteChange | None:
    """A second sun, with shadows of its own."""
    item, sun = bench.items[i], bench.stage.sun
    if item.thing != "sun":
        return None
    for x in (1 - item.x, 0.5, 1 - item.x + 0.1, 1 - item.x - 0.1):
        second = replace(item, x=x, y=item.y + float(rng.uniform(-0.02, 0.03)))
        if fits(second, bench.items):
            slots = Slots("sun", "in the sky")
            other = Sun(-sun.across, sun.down, sun.strength)
            return SpriteChange(
                "lighting", "two_suns", slots, added=(second,), about=(i,), second_sun=other, everywhere=True
            )
    return None


Violation = Callable[[Bench, int, np.random.Generator], SpriteChange | None]
VIOLATIONS: Mapping[Kind, Violation] = {
    "floating": floating, "intersection": intersection, "scale": scale,
    "orientation": orientation, "out_of_place": out_of_place, "missing_part": missing_part,
    "duplicated_part": duplicated_part, "colour": colour, "shadow": shadow,
    "reflection": reflection, "function": function, "physical_state": physical_state, "text": text,
    "count": count, "lighting": lighting, "split": split,
}  # fmt: skip
