"""The violations of the sprites world that are about several things, or about what does not belong there.

Knows no pixels; see violations for how they are called. Try it:

    out_of_place(Bench(lay_out(7)), 0, numpy.random.default_rng(0))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from anomreason.anomaly import Kind
from anomreason.scenes.scene import Slots
from anomreason.scenes.sprites import violations as single
from anomreason.scenes.sprites.layout import fits, placed
from anomreason.scenes.sprites.places import PLACES, Spot
from anomreason.scenes.sprites.scene import Change, Item, Sun, drawn_height
from anomreason.scenes.sprites.table import SpriteThing, table
from anomreason.scenes.sprites.violations import Bench, large

_FREE = ("air", "wall", "underwater")


def intersection(bench: Bench, i: int, rng: np.random.Generator) -> Change | None:
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
            return Change("intersection", "deep", slots, ((i, moved),), about=(j,))
    return None


def _into(bench: Bench, item: Item, other: Item) -> Item | None:
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


def out_of_place(bench: Bench, i: int, rng: np.random.Generator) -> Change | None:
    """Something that cannot or would not be here; added where there is room, else in place of an item."""
    place, item = bench.stage.place, bench.items[i]
    wrong = [t for t in table().things if place in t.impossible or place in t.strange]
    if not wrong or item.support in _FREE or bench.guests(i) or item.host >= 0:
        return None
    spots = [s for s in bench.look.spots if s.supports[0] not in _FREE and s.share >= 1]
    for _ in range(60):
        row = wrong[int(rng.integers(len(wrong)))]
        spot = spots[int(rng.integers(len(spots)))]
        new = _brought(bench, spot, row, rng)
        if new is not None and large(new.box) and fits(new, bench.items):
            return _foreign(bench, row, new, replaced=())
    for _ in range(12):
        row = wrong[int(rng.integers(len(wrong)))]
        height = drawn_height(row.size_cm, item.y - bench.stage.horizon, bench.stage.camera_cm)
        new = replace(item, thing=row.name, h=height, state=(), flip=False)
        if large(new.box) and height <= 0.46 and fits(new, [o for j, o in enumerate(bench.items) if j != i]):
            return _foreign(bench, row, new, replaced=(i,))
    return None


def _brought(bench: Bench, spot: Spot, row: SpriteThing, rng: np.random.Generator) -> Item | None:
    """The thing set down in the spot, whatever carries it otherwise."""
    grounded = row.model_copy(update={"support": spot.supports[0]})
    return placed(bench.look, spot, grounded, rng)


def _foreign(bench: Bench, row: SpriteThing, new: Item, replaced: tuple[int, ...]) -> Change:
    level = "impossible" if bench.stage.place in row.impossible else "strange"
    home = row.home or PLACES[row.places[0]].a_place
    slots = Slots(row.phrase, new.where, detail=home, plural=row.plural)
    if replaced:
        return Change("out_of_place", level, slots, ((replaced[0], new),))
    return Change("out_of_place", level, slots, added=(new,))


def reflection(bench: Bench, i: int, rng: np.random.Generator) -> Change | None:
    """The water shows another thing, or nothing."""
    item = bench.items[i]
    mirroring = bench.stage.place in ("lake shore", "open sea") and item.support in ("floor", "water")
    if not mirroring or max(item.h, item.w) < 0.17 or 1 - item.y < max(0.12, item.h * 0.5):
        return None
    slots = bench.slots(i, rng)
    if rng.random() < 0.4:
        changed = replace(item, mirror="nothing")
        return Change("reflection", "missing", slots, ((i, changed),), everywhere=True)
    named = {other.thing for other in bench.items}
    rows = [t for t in table().things if t.picture and t.name not in named and t.sort in ("animal", "vehicle", "plant")]
    rows = [t for t in rows if t.sort != item.row.sort]
    shown = rows[int(rng.integers(len(rows)))]
    changed = replace(item, mirror=shown.name)
    detail = f"the image of another thing, namely of the {shown.name}" if shown.plural else f"{_a(shown.phrase)}"
    return Change("reflection", "other", replace(slots, detail=detail), ((i, changed),), everywhere=True)


def _a(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def function(bench: Bench, i: int, rng: np.random.Generator) -> Change | None:
    """A lamp that lights nothing, a fire under water or on it."""
    item, place = bench.items[i], bench.stage.place
    if item.is_lamp:
        return Change("function", "dark_lamp", bench.slots(i, rng), ((i, replace(item, lights=False)),))
    if place not in ("sea floor", "open sea", "lake shore"):
        return None
    fire = table().named("fire")
    spots = [s for s in bench.look.spots if {"seabed", "water"} & set(s.supports)]
    for _ in range(40):
        y = float(rng.uniform(spots[0].far, spots[0].near))
        size = min(0.26, max(0.16, drawn_height(fire.size_cm, y - bench.stage.horizon, bench.stage.camera_cm)))
        x = float(rng.uniform(0.1, 0.9))
        new = Item(fire.name, x, y, size, spots[0].phrase, spots[0].supports[0])
        if fits(new, bench.items):
            if place == "sea floor":
                slots = Slots("campfire", new.where, detail="burning under water")
                return Change("function", "under_water", slots, added=(new,))
            slots = Slots("campfire", new.where, detail="burning on the open water with nothing to burn")
            return Change("function", "running", slots, added=(new,))
    return None


def physical_state(bench: Bench, i: int, rng: np.random.Generator) -> Change | None:
    """A liquid that stands aslant, or a thing that rests on a steep ramp."""
    item = bench.items[i]
    slots = bench.slots(i, rng)
    if item.row.drawn == "glass" and item.h >= 0.13:
        tilt = float(rng.integers(24, 33)) * (1 if rng.random() < 0.5 else -1)
        return Change("physical_state", "tilted_liquid", slots, ((i, replace(item, state=("tilt", tilt))),))
    ramps = [j for j, other in enumerate(bench.items) if other.thing == "ramp"]
    if not ramps or i == ramps[0] or item.support != "floor":
        return None
    ramp = bench.items[ramps[0]]
    on = _on_slope(bench, item, ramp, ramps[0])
    if on is None or not bench.fits(on, (i, ramps[0])):
        return None
    detail = "resting on a steep slope without sliding"
    slots = replace(slots, place="on the wooden ramp", detail=detail)
    return Change("physical_state", "steep", slots, ((i, on),), about=(ramps[0],))


def _on_slope(bench: Bench, item: Item, ramp: Item, host: int) -> Item | None:
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


def lighting(bench: Bench, i: int, rng: np.random.Generator) -> Change | None:
    """A second sun, with shadows of its own."""
    item, sun = bench.items[i], bench.stage.sun
    if item.thing != "sun":
        return None
    for x in (1 - item.x, 0.5, 1 - item.x + 0.1, 1 - item.x - 0.1):
        second = replace(item, x=x, y=item.y + float(rng.uniform(-0.02, 0.03)))
        if fits(second, bench.items):
            slots = Slots("sun", "in the sky")
            other = Sun(-sun.across, sun.down, sun.strength)
            return Change("lighting", "two_suns", slots, added=(second,), about=(i,), second_sun=other, everywhere=True)
    return None


Violation = Callable[[Bench, int, np.random.Generator], Change | None]
VIOLATIONS: Mapping[Kind, Violation] = {
    "floating": single.floating, "intersection": intersection, "scale": single.scale,
    "orientation": single.orientation, "out_of_place": out_of_place, "missing_part": single.missing_part,
    "duplicated_part": single.duplicated_part, "colour": single.colour, "shadow": single.shadow,
    "reflection": reflection, "function": function, "physical_state": physical_state, "text": single.text,
    "count": single.count, "lighting": lighting, "split": single.split,
}  # fmt: skip
