"""The violations that move, turn, replace or cut things: from a room to the changed room and what was done.

Knows no renderer. Each function takes a Workshop (the room, and where there is still space) and the index of a thing
and answers a Change, or None when it does not fit there.

    floating(shop, 3, rng)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

import numpy as np

from anomreason.anomaly import Kind
from anomreason.scenes.rooms.furniture import Floats, Mesh, bounds, clipped, selected, split_off, transformed
from anomreason.scenes.rooms.scene import Item, Room, RoomPart, build, overlap, scaled, shift, table, turn


@dataclass(frozen=True, eq=False)
class Change:
    """One violation of one room."""

    kind: Kind
    level: str
    main: int
    """Index of the thing that is wrong."""
    items: tuple[tuple[int, Item], ...] = ()
    """What stands in their places instead; empty where only the light is wrong."""
    others: tuple[int, ...] = ()
    """Further things that the texts name."""
    detail: str = ""
    thing: str = ""
    """Noun phrase in place of the thing's own."""
    place: str = ""
    """Where it is, in place of what the thing says of itself."""
    other: str = ""
    other_plural: bool = False
    trick: str = ""
    """What is done with light, by its name in `tricks`; empty when things alone have changed."""
    aim: int | None = None
    """The second thing a trick needs: the mirror."""
    instead: Item | None = None
    """What a mirror shows instead."""

    @property
    def touched(self) -> frozenset[int]:
        return frozenset((self.main, *self.others, *(i for i, _ in self.items)))

    def applied(self, room: Room) -> Room:
        for i, item in self.items:
            room = room.with_item(i, item)
        return room


@dataclass(frozen=True, eq=False)
class Workshop:
    """A room in which something is to be made wrong."""

    room: Room
    clean: Room
    """The same without any violation: what is mended later must find its place again."""
    taken: frozenset[int] = field(default_factory=frozenset)
    """Things that another violation concerns."""

    def fits(self, box: Floats, but: Collection[int]) -> bool:
        """Whether a box lies within the walls and in nothing else's space."""
        room = self.room
        half = room.width / 2 + 0.01
        if box[0, 0] < -half or box[1, 0] > half or box[1, 1] > room.depth + 0.01 or box[0, 1] < 0.45:
            return False
        if box[1, 2] > room.height or box[0, 2] < -0.02:
            return False
        pairs = list(zip(room.items, self.clean.items, strict=True))
        boxes = [it.box for i, pair in enumerate(pairs) if i not in but for it in pair if it.thing.group != "rug"]
        return not any(overlap(box, other, -0.012) for other in boxes)

    def host(self, i: int) -> tuple[int, ...]:
        """The thing that carries i, as a tuple for `but`."""
        on = self.room.items[i].on
        return () if on is None else (on,)


Maker = Callable[[Workshop, int, np.random.Generator], Change | None]


def floating(shop: Workshop, i: int, rng: np.random.Generator) -> Change | None:
    item = shop.room.items[i]
    if "float" not in item.thing.can or shop.room.carried(i):
        return None
    for _ in range(6):
        low, high = (0.22, 0.42) if item.on is not None else (0.5, 0.9)
        lifted = item.moved(shift(0, 0, float(rng.uniform(low, high))))
        if shop.fits(lifted.box, (i,)):
            return Change("floating", "high", i, ((i, lifted),))
    return None


def intersection(shop: Workshop, i: int, rng: np.random.Generator) -> Change | None:
    """Something tall or bulky stands in the middle of a piece of furniture, which cuts through it."""
    item = shop.room.items[i]
    if "pierce" not in item.thing.can or item.on is not None:
        return None
    solid = [j for j, o in enumerate(shop.room.items) if j != i and o.on is None and o.thing.group in _SOLID]
    solid = [j for j in solid if j not in shop.taken]
    for j in rng.permutation(solid).astype(int).tolist():
        for moved in _into(item, shop.room.items[j]):
            if shop.fits(moved.box, (i, j, *shop.room.carried(j), *_seated(shop, j))) and not _hits_carried(
                shop, j, moved
            ):
                return Change("intersection", "deep", i, ((i, moved),), (j,), other=shop.room.items[j].phrase)
    return None


def _into(item: Item, other: Item) -> list[Item]:
    """Places where it comes out of the other's upper side, turned to the camera; none where too little would show."""
    (low, high), own = other.box, bounds(item.mesh)
    if own[1, 2] < _SURFACE.get(other.thing.group, high[2]) + _ABOVE or other.thing.name == "covered table":
        return []
    turned = replace(item, pose=np.eye(4))
    middle, reach = (low + high) / 2, (high - low) / 2
    if other.thing.group in ("sofa", "armchair"):  # in the front half, before the back
        middle = middle - [0.0, 0.35 * reach[1], 0.0]
    if other.thing.group == "bathtub":  # through its near side, else it would seem to stand in it
        middle = middle - [0.0, reach[1], 0.0]
    return [
        turned.moved(shift(float(middle[0] + x * reach[0]), float(middle[1] + y * reach[1]), 0.0))
        for x in (0.0, 0.4, -0.4, 0.75, -0.75)
        for y in (0.0, -0.3)
    ]


_SURFACE = {"bathtub": 0.5, "bed": 0.5, "sofa": 0.45, "armchair": 0.45}
"""Height in metres of what one lies or sits on, where something rises above it; else the highest face."""
_ABOVE = 0.15
"""How far a thing must come out of what it passes through, in metres."""
_SOLID = ("table", "sofa", "bed", "desk", "coffee table", "armchair", "bedside", "bathtub")


def _seated(shop: Workshop, j: int) -> tuple[int, ...]:
    """The seats at table j: their boxes reach under its top."""
    name = f"at the {shop.room.items[j].thing.name}"
    return tuple(k for k, o in enumerate(shop.room.items) if o.where == name)


def _hits_carried(shop: Workshop, j: int, moved: Item) -> bool:
    return any(overlap(moved.box, shop.room.items[k].box) for k in shop.room.carried(j))


def scale(shop: Workshop, i: int, rng: np.random.Generator) -> Change | None:
    item = shop.room.items[i]
    if shop.room.carried(i) or not {"giant", "tiny"} & set(item.thing.can):
        return None
    giant = "giant" in item.thing.can
    if giant and item.on is not None and shop.room.items[item.on].thing.group == "wall shelf":
        return None  # it would hide the shelf and seem to hang in the air
    size = bounds(item.mesh)[1] - bounds(item.mesh)[0]
    reach = float(max(size))
    factor = float(np.clip(rng.uniform(0.95, 1.15) / reach, 2.4, 6.0)) if giant else float(rng.uniform(0.3, 0.36))
    for _ in range(3 if giant else 1):
        changed = _inside(shop, replace(item, pose=item.pose @ scaled(factor)))
        if shop.fits(changed.box, (i, *shop.host(i))):
            detail = f"about {_TIMES[min(6, round(factor))]} as large as usual" if giant else "no larger than a toy"
            return Change("scale", "giant" if giant else "tiny", i, ((i, changed),), detail=detail)
        factor = max(2.3, factor * 0.8)
    return None


_TIMES = {2: "more than twice", 3: "three times", 4: "four times", 5: "five times", 6: "six times"}


def _inside(shop: Workshop, item: Item) -> Item:
    """Pushed back to where it does not reach through a wall."""
    half = shop.room.width / 2
    x = max(0.0, -half + 0.02 - item.box[0, 0]) - max(0.0, item.box[1, 0] - half + 0.02)
    y = -max(0.0, item.box[1, 1] - shop.room.depth + 0.02)
    return item.moved(shift(float(x), float(y), 0.0)) if x or y else item


def orientation(shop: Workshop, i: int, rng: np.random.Generator) -> Change | None:
    item = shop.room.items[i]
    if shop.room.carried(i) or not {"flip", "lie"} & set(item.thing.can):
        return None
    flip = "flip" in item.thing.can
    turned = replace(item, pose=item.pose @ turn(np.pi if flip else np.pi / 2 * float(rng.choice([-1, 1])), axis=1))
    rest = turned.moved(shift(0, 0, float(item.box[0, 2] - turned.box[0, 2])))
    for x in (0.0, -0.3, 0.3, -0.6, 0.6):
        placed = _inside(shop, rest.moved(shift(x if not flip else 0.0, 0, 0)))
        if shop.fits(placed.box, (i, *shop.host(i))):
            return Change("orientation", "upside_down" if flip else "sideways", i, ((i, placed),))
    return None


def out_of_place(shop: Workshop, i: int, rng: np.random.Generator) -> Change | None:
    """Something foreign stands where i stood."""
    item = shop.room.items[i]
    if shop.room.carried(i) or item.on is not None or item.thing.support != "floor" or item.thing.group == "rug":
        return None
    place = shop.room.place
    strays = [t for t in table().things if place in (*t.impossible, *t.strange)]
    middle = (item.box[0] + item.box[1]) / 2
    angle = float(np.arctan2(item.pose[1, 0], item.pose[0, 0]))
    for k in rng.permutation(len(strays)).tolist():
        thing = strays[k]
        mesh, colour = build(thing, rng)
        for aside, extra in itertools.product((0.0, 0.4), (0.0, np.pi / 2, -np.pi / 2)):
            pose = shift(float(middle[0]), float(middle[1]) - aside, 0.0) @ turn(angle + extra)
            stray = _inside(shop, Item(thing, mesh, pose, colour, None, item.where))
            if shop.fits(stray.box, (i,)):
                level = "impossible" if place in thing.impossible else "strange"
                return Change("out_of_place", level, i, ((i, stray),), detail=thing.home)
    return None


def split(shop: Workshop, i: int, rng: np.random.Generator) -> Change | None:
    """Cut through the middle, the halves moved apart: sideways where it looks to the camera, else upwards."""
    item = shop.room.items[i]
    if "split" not in item.thing.can or shop.room.carried(i):
        return None
    size = bounds(item.mesh)
    facing = abs(float(np.arctan2(item.pose[1, 0], item.pose[0, 0]))) < 0.7
    for axis in (0, 2) if facing else (2,):
        middle = float(size[:, axis].sum() / 2)
        gap = float(np.clip(0.36 * (size[1, axis] - size[0, axis]), 0.14, 0.4))
        lower, upper = (clipped(item.mesh, axis, middle, above) for above in (False, True))
        if not lower or not upper:
            continue
        step = np.eye(3)[axis] * gap
        # On a floor or wall the lower half stays; sideways both give way.
        down, up = (-step / 2, step / 2) if axis == 0 else (0 * step, step)
        mesh = (*transformed(lower, shift(*down)), *transformed(upper, shift(*up)))
        changed = replace(item, mesh=mesh)
        if shop.fits(changed.box, (i, *shop.host(i))):
            return Change("split", "gap", i, ((i, changed),))
    return None


def missing_part(shop: Workshop, i: int, rng: np.random.Generator) -> Change | None:
    item = shop.room.items[i]
    able = [p for p in item.thing.parts if p.gone and not (p.name in ("top", "seat") and shop.room.carried(i))]
    if not able:
        return None
    part = able[int(rng.integers(len(able)))]
    _, rest = split_off(item.mesh, masks(item.mesh, part))
    if not rest:
        return None
    return Change(
        "missing_part", "vital" if part.vital else "other", i, ((i, replace(item, mesh=rest)),), detail=part.gone
    )


def masks(mesh: Mesh, part: RoomPart) -> list[np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """The faces of a part, for each part of the mesh."""
    box = np.array(part.within, dtype=float).reshape(2, 3)
    names = tuple(p.name for p in mesh if not part.of or p.name.startswith(part.of))
    if not part.cut:
        return selected(mesh, box, names) if names else [np.zeros(len(p.faces), dtype=bool) for p in mesh]
    low, high = bounds(mesh)
    middles = [(p.corners.mean(axis=1) - low) / (high - low) for p in mesh]
    return [((m >= box[0]) & (m <= box[1])).all(axis=1) for m in middles]


def duplicated_part(shop: Workshop, i: int, rng: np.random.Generator) -> Change | None:
    """A part a second time, or two of the thing grown into one."""
    item = shop.room.items[i]
    able = [p for p in item.thing.parts if p.again]
    if able:
        part = able[int(rng.integers(len(able)))]
        taken, _ = split_off(item.mesh, masks(item.mesh, part))
        size = bounds(item.mesh)[1] - bounds(item.mesh)[0]
        copy = transformed(taken, shift(*(np.array(part.shift) * size)) @ turn(np.radians(part.turned)))
        changed = replace(item, mesh=(*item.mesh, *copy))
        if shop.fits(changed.box, (i, *shop.host(i), *_at_table(shop, i))):
            return Change("duplicated_part", "duplicated", i, ((i, changed),), detail=part.again)
    aside = abs(float(np.sin(np.arctan2(item.pose[1, 0], item.pose[0, 0]))))
    if "fuse" in item.thing.can and not shop.room.carried(i) and aside < 0.6:  # from its side one would hide the other
        width = float(bounds(item.mesh)[1, 0] - bounds(item.mesh)[0, 0])
        for side in rng.permutation([-1.0, 1.0]).tolist():
            copy = transformed(item.mesh, shift(side * width * float(rng.uniform(0.5, 0.6)), 0, 0) @ turn(side * 0.12))
            changed = replace(item, mesh=(*item.mesh, *copy))
            if shop.fits(changed.box, (i, *shop.host(i))):
                return Change("duplicated_part", "fused", i, ((i, changed),))
    return None


def _at_table(shop: Workshop, i: int) -> tuple[int, ...]:
    return tuple(
        j
        for j, o in enumerate(shop.room.items)
        if o.thing.group in ("table", "desk") and "at the" in shop.room.items[i].where
    )
