"""The violations of surfaces, numbers, light and mirrors: from a room to what is done to it.

Knows no renderer; what is done with light is only named here, and carried out in `tricks`.

    colour(shop, 3, rng)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from anomreason.anomaly import Kind
from anomreason.scenes.rooms import textures as textures
from anomreason.scenes.rooms.furniture import Colour, Finish, Part, bounds, refinished
from anomreason.scenes.rooms.made import clock_with, water_in
from anomreason.scenes.rooms.scene import PAINTS, Item, RoomThing, build, table, turn
from anomreason.scenes.rooms.shapes import box
from anomreason.scenes.rooms.violations import (
    Change,
    Maker,
    Workshop,
    duplicated_part,
    floating,
    intersection,
    missing_part,
    orientation,
    out_of_place,
    scale,
    split,
)  # fmt: skip

NEVER: Mapping[str, Colour] = {
    "blue": (0.02, 0.1, 0.7), "purple": (0.28, 0.02, 0.45), "pink": (0.85, 0.1, 0.35), "green": (0.04, 0.5, 0.05),
}  # fmt: skip
METAL = Finish((0.78, 0.78, 0.8), 0.16, metal=1.0)


def colour(shop: Workshop, i: int, rng: np.random.Generator) -> Change | None:
    """A colour of the table's column `never`; or polished metal where the table says soft."""
    item = shop.room.items[i]
    if item.thing.never:
        word = str(rng.choice(item.thing.never))

        def paint(part: Part) -> Finish:
            wanted = not item.thing.paint or part.name.startswith(item.thing.paint)
            return replace(part.finish, colour=NEVER[word], texture=None, metal=0.0) if wanted else part.finish

        changed = replace(item, mesh=refinished(item.mesh, paint), colour=word)
        return Change("colour", "impossible", i, ((i, changed),), detail=f"bright {word}", thing=item.thing.name)
    if item.thing.soft:
        changed = replace(item, mesh=refinished(item.mesh, lambda part: METAL), colour="metal")
        return Change("colour", "material", i, ((i, changed),), detail="polished metal", thing=item.thing.name)
    return None


def text(shop: Workshop, i: int, rng: np.random.Generator) -> Change | None:
    """A clock whose dial cannot be."""
    item = shop.room.items[i]
    if item.thing.group != "clock":
        return None
    arabic = textures.ARABIC
    seven = str(int(rng.integers(3, 10)))
    dials = (
        (arabic, True, "numerals in mirror writing"),
        ((seven,) * 12, False, f"the number {seven} in all twelve places"),
        (tuple(rng.permutation(arabic).tolist()), False, "the twelve numbers in a jumbled order"),
    )
    numerals, mirrored, detail = dials[int(rng.integers(len(dials)))]
    face = textures.dial(numerals, _hands(2, rng), mirrored, (244, 241, 232), (25, 25, 30))
    return Change("text", "clock", i, ((i, _clock(item, face)),), detail=detail)


def _hands(count: int, rng: np.random.Generator) -> tuple[tuple[float, float], ...]:
    start = float(rng.random())
    return tuple(
        ((start + k / count + float(rng.uniform(-0.05, 0.05))) % 1, 0.42 if k % 2 else 0.74) for k in range(count)
    )


def _clock(item: Item, face: textures.Picture) -> Item:
    width, depth, height = (length / 100 for length in item.thing.size or (50, 5, 50))
    paint, rough = PAINTS[item.colour]
    return replace(item, mesh=clock_with((width, depth, height), Finish(paint, rough), face))


def count(shop: Workshop, i: int, rng: np.random.Generator) -> Change | None:
    """A clock with many hands, or seven legs where there should be four."""
    item = shop.room.items[i]
    if item.thing.group == "clock":
        many = int(rng.integers(5, 7))
        face = textures.dial(textures.ARABIC, _hands(many, rng), False, (244, 241, 232), (25, 25, 30))
        word = {5: "five", 6: "six"}[many]
        return Change("count", "many", i, ((i, _clock(item, face)),), detail=f"{word} hands instead of two")
    if "legs" not in item.thing.can:
        return None
    legs = [part for part in item.mesh if part.name.startswith("leg")]
    sizes = bounds(legs)
    tall, thick = float(sizes[1, 2]), float(np.ptp(legs[0].vertices[:, 0]))
    x, y = (float(sizes[1, k]) - thick / 2 for k in (0, 1))
    wide = x > 0.4
    spots = ((-x / 3, -y), (x / 3, -y), (0.0, y)) if wide else ((0.0, -y), (-x, 0.0), (x, 0.0))
    extra = [
        box(f"leg {5 + k}", (a, b, tall / 2), (thick, thick, tall), legs[0].finish) for k, (a, b) in enumerate(spots)
    ]
    changed = replace(item, mesh=(*item.mesh, *extra))
    return Change("count", "many", i, ((i, changed),), detail="seven legs instead of four")


def physical_state(shop: Workshop, i: int, rng: np.random.Generator) -> Change | None:
    """Water that stands askew in its tank; or things that rest on a steep shelf."""
    item = shop.room.items[i]
    if item.thing.group == "tank":
        width, depth, height = (length / 100 for length in item.thing.size or (60, 30, 40))
        slope = float(rng.choice([-1, 1]) * rng.uniform(0.7, 0.85))
        water = water_in((width, depth, height), slope)
        changed = replace(item, mesh=tuple(water if part.name == "water" else part for part in item.mesh))
        return Change("physical_state", "tilted_liquid", i, ((i, changed),))
    if item.on is None or shop.room.items[item.on].thing.group != "wall shelf" or item.on in shop.taken:
        return None
    shelf = shop.room.items[item.on]
    angle = float(rng.choice([-1, 1]) * rng.uniform(0.42, 0.55))
    about = shelf.pose @ turn(angle, axis=1) @ np.linalg.inv(shelf.pose)
    carried = shop.room.carried(item.on)
    if any(j in shop.taken for j in carried):
        return None
    moved = tuple((j, shop.room.items[j].moved(about)) for j in (item.on, *carried))
    if not all(shop.fits(thing.box, (item.on, *carried)) for _, thing in moved):
        return None
    return Change("physical_state", "steep", i, moved, (item.on,), detail="resting on a steep slope without sliding")


def lighting(shop: Workshop, i: int, rng: np.random.Generator) -> Change | None:
    """Two suns in the sky outside of a window."""
    item = shop.room.items[i]
    if item.thing.group != "window" or shop.room.evening:
        return None
    height = float(rng.uniform(0.2, 0.28))
    suns = (
        (float(rng.uniform(0.2, 0.32)), height),
        (float(rng.uniform(0.68, 0.8)), height + float(rng.uniform(-0.06, 0.06))),
    )

    def redo(part: Part) -> Part:
        texture = part.finish.texture
        if part.name != "face" or not isinstance(texture, np.ndarray):
            return part
        return replace(part, finish=replace(part.finish, texture=textures.with_suns(texture, suns)))

    changed = replace(item, mesh=tuple(redo(part) for part in item.mesh))
    return Change("lighting", "two_suns", i, ((i, changed),), thing="sun", place="outside the window")


def reflection(shop: Workshop, i: int, rng: np.random.Generator) -> Change | None:
    """A mirror that leaves a thing out or shows another in its place."""
    room, item = shop.room, shop.room.items[i]
    mirrors = [
        j
        for j, o in enumerate(room.items)
        if o.thing.group in ("mirror", "tall mirror") and j != i and j not in shop.taken
    ]
    flat = item.thing.group in ("rug", "tall mirror") or item.thing.support == "wall"
    if not mirrors or flat or room.carried(i):
        return None
    if not _mirrored(shop, i, mirrors[0]):
        return None
    if rng.random() < 0.3:
        return Change("reflection", "missing", i, others=(mirrors[0],), trick="not mirrored", aim=mirrors[0])
    stand_in = _stand_in(item, {other.thing.group for other in room.items}, rng)
    detail = "a " + stand_in.phrase if stand_in.phrase[0] not in "aeio" else "an " + stand_in.phrase
    return Change(
        "reflection",
        "other",
        i,
        others=(mirrors[0],),
        detail=detail,
        trick="not mirrored",
        aim=mirrors[0],
        instead=stand_in,
    )


def _mirrored(shop: Workshop, i: int, mirror: int) -> bool:
    """Whether a ray from the camera's mirror image to the thing passes through the glass."""
    glass = shop.room.items[mirror]
    into = np.linalg.inv(glass.pose)  # the mirror's own coordinates: its plane is y = 0
    eye = (into @ np.array([*shop.room.eye, 1.0]))[:3]
    low, high = shop.room.items[i].box
    spots = [
        low + np.array(share) * (high - low)
        for share in ((0.5, 0.5, 0.5), (0.5, 0.5, 0.9), (0.2, 0.5, 0.7), (0.8, 0.5, 0.7))
    ]
    eye[1] = -eye[1]
    size = bounds(glass.mesh)
    for spot in spots:
        middle = (into @ np.array([*spot, 1.0]))[:3]
        if middle[1] > 0 or eye[1] < 0:
            continue
        hit = eye + eye[1] / (eye[1] - middle[1]) * (middle - eye)
        if size[0, 0] < hit[0] < size[1, 0] and size[0, 2] < hit[2] < size[1, 2]:
            return True
    return False


def _stand_in(item: Item, present: set[str], rng: np.random.Generator) -> Item:
    """Something else of about the same size in its place, such as the room does not hold."""
    tall = float(bounds(item.mesh)[1, 2])
    if item.thing.support == "floor":  # small things are lost in a mirror
        tall = max(1.4 * tall, 1.0)
    others = [t for t in table().things if t.support == item.thing.support and not _alike(t, item.thing)]
    near = sorted([t for t in others if t.group not in present], key=lambda t: abs(t.size_cm / 100 - tall))[:6]
    thing = near[int(rng.integers(len(near)))]
    mesh, word = build(thing, rng)
    return Item(thing, mesh, item.pose, word, item.on, item.where)


def _alike(a: RoomThing, b: RoomThing) -> bool:
    """Of one sort or of one colour: that would not stand out in a mirror. Nor would a rug."""
    return a.group in (b.group, "rug", "bed", "tall mirror") or bool(a.colour and a.colour == b.colour)


def function(shop: Workshop, i: int, rng: np.random.Generator) -> Change | None:
    """A lit lamp from which nothing gets any light. Beside another lamp that would hardly show."""
    item = shop.room.items[i]
    lamps = sum("lit" in other.thing.does for other in shop.room.items)
    if not shop.room.evening or "lit" not in item.thing.does or lamps > 1:
        return None
    return Change("function", "dark_lamp", i, trick="dark lamp", thing=f"lit {item.phrase}")


MAKERS: Mapping[Kind, Maker] = {
    "floating": floating, "intersection": intersection, "scale": scale, "orientation": orientation,
    "out_of_place": out_of_place, "missing_part": missing_part, "duplicated_part": duplicated_part, "colour": colour,
    "reflection": reflection, "function": function, "physical_state": physical_state, "text": text,
    "count": count, "lighting": lighting, "split": split,
}  # fmt: skip
