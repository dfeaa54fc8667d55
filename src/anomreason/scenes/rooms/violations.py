"""The violations of the rooms world: moved, cut or doubled shapes, wrong surfaces and numbers, wrong light and mirrors.

Each function takes a Workshop (the room, and where there is space left) and the index of an object, and returns a
RoomChange, or None when the violation does not fit there. Effects of light alone are only named here; `world` renders
them.

    floating(shop, 3, rng)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from anomreason.anomaly import Kind
from anomreason.english import article
from anomreason.scenes.rooms import textures as textures
from anomreason.scenes.rooms.furniture import clock_with, water_in
from anomreason.scenes.rooms.meshes import (
    Colour,
    Finish,
    Floats,
    Mesh,
    MeshPart,
    bounds,
    box,
    clipped,
    refinished,
    selected,
    split_off,
    transformed,
)
from anomreason.scenes.rooms.room import (
    Room,
    RoomItem,
    RoomPart,
    RoomThing,
    build,
    overlap,
    paint,
    scaled,
    shift,
    table,
    turn,
)
from anomreason.scenes.scene import Change


@dataclass(frozen=True, eq=False)
class RoomChange(Change):
    """A violation of a room."""

    main: int
    """Index of the thing that is wrong."""
    items: tuple[tuple[int, RoomItem], ...] = ()
    """What stands in their places instead; empty where only the light is wrong."""
    others: tuple[int, ...] = ()
    """Further things that the texts name."""
    detail: str = ""
    thing: str = ""
    """Noun phrase in place of the thing's own."""
    place: str = ""
    """Where it is, in place of what the thing says of itself."""
    other: str = ""
    instead: RoomItem | None = None
    """What the mirror, the first of `others`, shows in place of the main object; None: nothing."""

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


Violation = Callable[[Workshop, int, np.random.Generator], RoomChange | None]


def floating(shop: Workshop, i: int, rng: np.random.Generator) -> RoomChange | None:
    item = shop.room.items[i]
    if "float" not in item.thing.can or shop.room.carried(i):
        return None
    for _ in range(6):
        low, high = (0.22, 0.42) if item.on is not None else (0.5, 0.9)
        lifted = item.moved(shift(0, 0, float(rng.uniform(low, high))))
        if shop.fits(lifted.box, (i,)):
            return RoomChange("floating", "high", i, ((i, lifted),))
    return None


def intersection(shop: Workshop, i: int, rng: np.random.Generator) -> RoomChange | None:
    """Something tall or bulky stands in the middle of a piece of furniture, which cuts through it."""
    item = shop.room.items[i]
    if "pierce" not in item.thing.can or item.on is not None:
        return None
    solid = [j for j, o in enumerate(shop.room.items) if j != i and o.on is None and o.thing.group in _SOLID]
    solid = [j for j in solid if j not in shop.taken]
    for j in rng.permutation(solid).astype(int).tolist():
        for moved in _into(item, shop.room.items[j]):
            carried = shop.room.carried(j)
            free = not any(overlap(moved.box, shop.room.items[k].box) for k in carried)
            if free and shop.fits(moved.box, (i, j, *carried, *_seated(shop, j))):
                return RoomChange("intersection", "deep", i, ((i, moved),), (j,), other=shop.room.items[j].phrase)
    return None


def _into(item: RoomItem, other: RoomItem) -> list[RoomItem]:
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


def scale(shop: Workshop, i: int, rng: np.random.Generator) -> RoomChange | None:
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
            return RoomChange("scale", "giant" if giant else "tiny", i, ((i, changed),), detail=detail)
        factor = max(2.3, factor * 0.8)
    return None


_TIMES = {2: "more than twice", 3: "three times", 4: "four times", 5: "five times", 6: "six times"}


def _inside(shop: Workshop, item: RoomItem) -> RoomItem:
    """Pushed back to where it does not reach through a wall."""
    half = shop.room.width / 2
    x = max(0.0, -half + 0.02 - item.box[0, 0]) - max(0.0, item.box[1, 0] - half + 0.02)
    y = -max(0.0, item.box[1, 1] - shop.room.depth + 0.02)
    return item.moved(shift(float(x), float(y), 0.0)) if x or y else item


def orientation(shop: Workshop, i: int, rng: np.random.Generator) -> RoomChange | None:
    item = shop.room.items[i]
    if shop.room.carried(i) or not {"flip", "lie"} & set(item.thing.can):
        return None
    flip = "flip" in item.thing.can
    turned = replace(item, pose=item.pose @ turn(np.pi if flip else np.pi / 2 * float(rng.choice([-1, 1])), axis=1))
    rest = turned.moved(shift(0, 0, float(item.box[0, 2] - turned.box[0, 2])))
    for x in (0.0, -0.3, 0.3, -0.6, 0.6):
        placed = _inside(shop, rest.moved(shift(x if not flip else 0.0, 0, 0)))
        if shop.fits(placed.box, (i, *shop.host(i))):
            return RoomChange("orientation", "upside_down" if flip else "sideways", i, ((i, placed),))
    return None


def out_of_place(shop: Workshop, i: int, rng: np.random.Generator) -> RoomChange | None:
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
            stray = _inside(shop, RoomItem(thing, mesh, pose, colour, None, item.where))
            if shop.fits(stray.box, (i,)):
                level = "impossible" if place in thing.impossible else "strange"
                return RoomChange("out_of_place", level, i, ((i, stray),), detail=thing.home)
    return None


def split(shop: Workshop, i: int, rng: np.random.Generator) -> RoomChange | None:
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
            return RoomChange("split", "gap", i, ((i, changed),))
    return None


def missing_part(shop: Workshop, i: int, rng: np.random.Generator) -> RoomChange | None:
    item = shop.room.items[i]
    able = [p for p in item.thing.parts if p.gone and not (p.name in ("top", "seat") and shop.room.carried(i))]
    if not able:
        return None
    part = able[int(rng.integers(len(able)))]
    _, rest = split_off(item.mesh, masks(item.mesh, part))
    if not rest:
        return None
    return RoomChange(
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


def duplicated_part(shop: Workshop, i: int, rng: np.random.Generator) -> RoomChange | None:
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
            return RoomChange("duplicated_part", "duplicated", i, ((i, changed),), detail=part.again)
    aside = abs(float(np.sin(np.arctan2(item.pose[1, 0], item.pose[0, 0]))))
    if "fuse" in item.thing.can and not shop.room.carried(i) and aside < 0.6:  # from its side one would hide the other
        width = float(bounds(item.mesh)[1, 0] - bounds(item.mesh)[0, 0])
        for side in rng.permutation([-1.0, 1.0]).tolist():
            copy = transformed(item.mesh, shift(side * width * float(rng.uniform(0.5, 0.6)), 0, 0) @ turn(side * 0.12))
            changed = replace(item, mesh=(*item.mesh, *copy))
            if shop.fits(changed.box, (i, *shop.host(i))):
                return RoomChange("duplicated_part", "fused", i, ((i, changed),))
    return None


def _at_table(shop: Workshop, i: int) -> tuple[int, ...]:
    return tuple(
        j
        for j, o in enumerate(shop.room.items)
        if o.thing.group in ("table", "desk") and "at the" in shop.room.items[i].where
    )


NEVER: Mapping[str, Colour] = {
    "blue": (0.02, 0.1, 0.7), "purple": (0.28, 0.02, 0.45), "pink": (0.85, 0.1, 0.35), "green": (0.04, 0.5, 0.05),
}  # fmt: skip
METAL = Finish((0.78, 0.78, 0.8), 0.16, metal=1.0)


def colour(shop: Workshop, i: int, rng: np.random.Generator) -> RoomChange | None:
    """A colour of the table's column `never`; or polished metal where the table says soft."""
    item = shop.room.items[i]
    if item.thing.never:
        word = str(rng.choice(item.thing.never))

        def wrong(part: MeshPart) -> Finish:
            wanted = not item.thing.paint or part.name.startswith(item.thing.paint)
            return replace(part.finish, colour=NEVER[word], texture=None, metal=0.0) if wanted else part.finish

        changed = replace(item, mesh=refinished(item.mesh, wrong), colour=word)
        return RoomChange("colour", "impossible", i, ((i, changed),), detail=f"bright {word}", thing=item.thing.name)
    if item.thing.soft:
        changed = replace(item, mesh=refinished(item.mesh, lambda part: METAL), colour="metal")
        return RoomChange("colour", "material", i, ((i, changed),), detail="polished metal", thing=item.thing.name)
    return None


def text(shop: Workshop, i: int, rng: np.random.Generator) -> RoomChange | None:
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
    face = textures.dial(numerals, _hands(2, rng), mirrored)
    return RoomChange("text", "clock", i, ((i, _clock(item, face)),), detail=detail)


def _hands(count: int, rng: np.random.Generator) -> tuple[tuple[float, float], ...]:
    start = float(rng.random())
    return tuple(
        ((start + k / count + float(rng.uniform(-0.05, 0.05))) % 1, 0.42 if k % 2 else 0.74) for k in range(count)
    )


def _clock(item: RoomItem, face: textures.Pixels) -> RoomItem:
    width, depth, height = (length / 100 for length in item.thing.size or (50, 5, 50))
    return replace(item, mesh=clock_with((width, depth, height), paint(item.colour), face))


def count(shop: Workshop, i: int, rng: np.random.Generator) -> RoomChange | None:
    """A clock with many hands, or seven legs where there should be four."""
    item = shop.room.items[i]
    if item.thing.group == "clock":
        many = int(rng.integers(5, 7))
        face = textures.dial(textures.ARABIC, _hands(many, rng))
        word = {5: "five", 6: "six"}[many]
        return RoomChange("count", "many", i, ((i, _clock(item, face)),), detail=f"{word} hands instead of two")
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
    return RoomChange("count", "many", i, ((i, changed),), detail="seven legs instead of four")


def physical_state(shop: Workshop, i: int, rng: np.random.Generator) -> RoomChange | None:
    """Water that stands askew in its tank; or things that rest on a steep shelf."""
    item = shop.room.items[i]
    if item.thing.group == "tank":
        width, depth, height = (length / 100 for length in item.thing.size or (60, 30, 40))
        slope = float(rng.choice([-1, 1]) * rng.uniform(0.7, 0.85))
        water = water_in((width, depth, height), slope)
        changed = replace(item, mesh=tuple(water if part.name == "water" else part for part in item.mesh))
        return RoomChange("physical_state", "tilted_liquid", i, ((i, changed),))
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
    return RoomChange(
        "physical_state", "steep", i, moved, (item.on,), detail="resting on a steep slope without sliding"
    )


def lighting(shop: Workshop, i: int, rng: np.random.Generator) -> RoomChange | None:
    """Two suns in the sky outside of a window."""
    item = shop.room.items[i]
    if item.thing.group != "window" or shop.room.evening:
        return None
    height = float(rng.uniform(0.2, 0.28))
    suns = (
        (float(rng.uniform(0.2, 0.32)), height),
        (float(rng.uniform(0.68, 0.8)), height + float(rng.uniform(-0.06, 0.06))),
    )

    def redo(part: MeshPart) -> MeshPart:
        texture = part.finish.texture
        if part.name != "face" or not isinstance(texture, np.ndarray):
            return part
        return replace(part, finish=replace(part.finish, texture=textures.with_suns(texture, suns)))

    changed = replace(item, mesh=tuple(redo(part) for part in item.mesh))
    return RoomChange("lighting", "two_suns", i, ((i, changed),), thing="sun", place="outside the window")


def reflection(shop: Workshop, i: int, rng: np.random.Generator) -> RoomChange | None:
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
        return RoomChange("reflection", "missing", i, others=(mirrors[0],))
    stand_in = _stand_in(item, {other.thing.group for other in room.items}, rng)
    detail = f"{article(stand_in.phrase)} {stand_in.phrase}"
    return RoomChange("reflection", "other", i, others=(mirrors[0],), detail=detail, instead=stand_in)


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


def _stand_in(item: RoomItem, present: set[str], rng: np.random.Generator) -> RoomItem:
    """Something else of about the same size in its place, such as the room does not hold."""
    tall = float(bounds(item.mesh)[1, 2])
    if item.thing.support == "floor":  # small things are lost in a mirror
        tall = max(1.4 * tall, 1.0)
    others = [t for t in table().things if t.support == item.thing.support and not _alike(t, item.thing)]
    near = sorted([t for t in others if t.group not in present], key=lambda t: abs(t.size_cm / 100 - tall))[:6]
    thing = near[int(rng.integers(len(near)))]
    mesh, word = build(thing, rng)
    return RoomItem(thing, mesh, item.pose, word, item.on, item.where)


def _alike(a: RoomThing, b: RoomThing) -> bool:
    """Of one sort or of one colour: that would not stand out in a mirror. Nor would a rug."""
    return a.group in (b.group, "rug", "bed", "tall mirror") or bool(a.colour and a.colour == b.colour)


def function(shop: Workshop, i: int, rng: np.random.Generator) -> RoomChange | None:
    """A lit lamp from which nothing gets any light. Beside another lamp that would hardly show."""
    item = shop.room.items[i]
    lamps = sum("lit" in other.thing.does for other in shop.room.items)
    if not shop.room.evening or "lit" not in item.thing.does or lamps > 1:
        return None
    return RoomChange("function", "dark_lamp", i, thing=f"lit {item.phrase}")


VIOLATIONS: Mapping[Kind, Violation] = {
    "floating": floating, "intersection": intersection, "scale": scale, "orientation": orientation,
    "out_of_place": out_of_place, "missing_part": missing_part, "duplicated_part": duplicated_part, "colour": colour,
    "reflection": reflection, "function": function, "physical_state": physical_state, "text": text,
    "count": count, "lighting": lighting, "split": split,
}  # fmt: skip
