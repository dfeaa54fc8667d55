"""Furnishes a room: picks objects from the table and places them where they belong, without overlaps.

>>> furnish("study", np.random.default_rng(1)).place
'study'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np

from anomreason.errors import UsageError
from anomreason.scenes.rooms.meshes import Floats, bounds
from anomreason.scenes.rooms.room import RoomItem, build, overlap, shift, table, turn

MARGIN = 0.04
"""Least distance in metres between things that stand on the floor."""
WALK = 0.55
"""What must stay free before the camera: nothing stands nearer to y = 0."""
TRIES = 40


@dataclass(frozen=True)
class Want:
    """One line of a room's plan."""

    group: str
    """Or several, with | between them."""
    where: str
    """`back`, `side`, `wall` (either), `corner`, `free`, `before` (the last `back` or `side` thing), `around` (the
    table), `on` (whatever has a top), `on shelf`, `on dresser`, `hang` (on a wall), `above` (hung over the last thing),
    `row` (beside it), `back side` (off the middle of the back wall), `facing` (the standing mirror), `ceiling`,
    `under`."""
    chance: float = 1.0
    most: int = 1


@cache
def plans() -> Mapping[str, tuple[Want, ...]]:
    """What each kind of room holds, from things.toml. Raises UsageError on a word for `where` that is unknown."""
    found = {place: tuple(Want(*entry) for entry in entries) for place, entries in table().more["plans"].items()}
    for place, wants in found.items():
        if unknown := [want.where for want in wants if want.where not in PLACERS]:
            raise UsageError(
                f"rooms/things.toml: the plan of {place!r} says {unknown[0]!r}; choose among {', '.join(PLACERS)}"
            )
    return found


@dataclass
class Layout:
    """A room while it is being furnished."""

    place: str
    width: float
    depth: float
    height: float
    items: list[RoomItem] = field(default_factory=list)
    last: int | None = None
    """The thing that `before`, `above`, `beside` and `row` refer to."""

    def between_walls(self, box: Floats) -> bool:
        half = self.width / 2 + 1e-6
        return bool(-half <= box[0, 0] and box[1, 0] <= half and box[1, 1] <= self.depth + 1e-6)

    def free(self, box: Floats, gap: float = MARGIN) -> bool:
        """Whether a box lies inside of the room and away from everything else (rugs may be stood on)."""
        inside = self.between_walls(box) and box[0, 1] >= WALK
        others = (other for other in self.items if other.thing.group != "rug")
        return bool(inside and box[1, 2] <= self.height + 1e-6) and not any(
            overlap(box, other.box, gap) for other in others
        )


def furnish(place: str, rng: np.random.Generator) -> Layout:
    """A furnished room: 4 to 9 things when all goes well; whoever calls looks whether they are seen."""
    width, depth = float(rng.uniform(3.1, 3.7)), float(rng.uniform(3.4, 4.0))
    layout = Layout(place, round(width, 2), round(depth, 2), 2.6)
    for want in plans()[place]:
        for _ in range(want.most):
            if len(layout.items) < 10 and rng.random() < want.chance:
                _try(layout, want, rng)
    return layout


def _try(layout: Layout, want: Want, rng: np.random.Generator) -> None:
    groups = want.group.split("|")
    things = [t for t in table().at(layout.place) if t.group in groups]
    once = [t for t in things if all(i.thing.name != t.name for i in layout.items)]
    seated = {i.thing.name for i in layout.items if i.thing.group == "chair"}
    pool = (want.where == "around" and [t for t in things if t.name in seated]) or once
    if not pool:
        return
    thing = pool[int(rng.integers(len(pool)))]
    mesh, colour = build(thing, rng)
    same = [i for i in layout.items if i.thing is thing]
    if same and thing.group == "chair":  # chairs at one table match
        mesh, colour = same[0].mesh, same[0].colour
    item = RoomItem(thing, mesh, np.eye(4), colour)
    for _ in range(TRIES):
        placed = PLACERS[want.where](layout, item, rng)
        if placed is None:
            return
        if placed is item:  # no room there; another try
            continue
        gap = 0.0 if want.where == "row" else MARGIN
        if want.where.startswith("on") or want.where == "under" or layout.free(placed.box, gap):
            layout.items.append(placed)
            if want.where in ("back", "side", "wall", "row", "middle"):
                layout.last = len(layout.items) - 1
            return


def _put(item: RoomItem, angle: float, x: float, y: float, z: float, where: str) -> RoomItem:
    return RoomItem(item.thing, item.mesh, shift(x, y, z) @ turn(angle), item.colour, None, where)


def _against(layout: Layout, item: RoomItem, wall: str, along: float, z: float = 0.0, where: str = "") -> RoomItem:
    """Its back to a wall. along: x for the back wall, y for the left and right ones."""
    size = bounds(item.mesh)
    back = size[1, 1] + 0.005
    text = where or f"against the {wall} wall"
    if wall == "back":
        return _put(item, 0.0, along, layout.depth - back, z, text)
    if wall == "left":
        return _put(item, np.pi / 2, -layout.width / 2 + back, along, z, text)
    return _put(item, -np.pi / 2, layout.width / 2 - back, along, z, text)


def _wall(layout: Layout, item: RoomItem, rng: np.random.Generator, walls: Sequence[str]) -> RoomItem:
    wall = str(rng.choice(list(walls)))
    half = float(bounds(item.mesh)[1, 0])
    if wall == "back":
        room = layout.width / 2 - half - 0.02
        return _against(layout, item, wall, float(rng.uniform(-room, room)) if room > 0 else 0.0)
    low = 1.6 + half
    return _against(
        layout, item, wall, float(rng.uniform(min(low, layout.depth - half - 0.05), layout.depth - half - 0.05))
    )


def _back_side(layout: Layout, item: RoomItem, rng: np.random.Generator) -> RoomItem:
    half = float(bounds(item.mesh)[1, 0])
    room = max(0.5, layout.width / 2 - half - 0.1)
    return _against(layout, item, "back", float(rng.choice([-1, 1]) * rng.uniform(0.45, room)))


def _facing(layout: Layout, item: RoomItem, rng: np.random.Generator) -> RoomItem | None:
    """Before the standing mirror, where a camera in the middle of the near side sees its reflection."""
    mirrors = [other for other in layout.items if other.thing.group == "tall mirror"]
    if not mirrors:
        return None
    x = float(mirrors[0].pose[0, 3]) * float(rng.uniform(1.15, 1.4))
    y = layout.depth - float(rng.uniform(0.8, 1.2))
    return _put(item, float(rng.normal(0, 0.3)), x, y, 0.0, "in front of the standing mirror")


def _beside(layout: Layout, item: RoomItem, rng: np.random.Generator, gap: float, says: bool) -> RoomItem | None:
    """Side by side with the last one along the back wall. says: whether the texts name that one."""
    if layout.last is None:
        return None
    anchor, half = layout.items[layout.last], float(bounds(item.mesh)[1, 0])
    left = bool(rng.random() < 0.5)
    x = anchor.box[0, 0] - half - gap if left else anchor.box[1, 0] + half + gap
    return _against(layout, item, "back", float(x), where=f"beside the {anchor.thing.name}" if says else "")


def _corner(layout: Layout, item: RoomItem, rng: np.random.Generator) -> RoomItem:
    size = bounds(item.mesh)
    reach = float(np.abs(size[:, :2]).max()) + 0.03
    side = 1.0 if rng.random() < 0.5 else -1.0
    x, y = side * (layout.width / 2 - reach), layout.depth - reach - float(rng.choice([0.0, 0.0, 0.7, 1.2]))
    corner = f"in the {'right' if side > 0 else 'left'} corner" if y > layout.depth - reach - 0.1 else ""
    wall = f"by the {'right' if side > 0 else 'left'} wall"
    return _put(item, 0.0, x, y, 0.0, corner or wall)


def _free(layout: Layout, item: RoomItem, rng: np.random.Generator) -> RoomItem:
    """Somewhere on the floor; seats at a side and turned to the middle of the room."""
    seat = item.thing.group == "armchair"
    x = (
        float(rng.choice([-1, 1]) * rng.uniform(0.22, 0.36)) * layout.width
        if seat
        else float(rng.uniform(-0.36, 0.36)) * layout.width
    )
    y = float(rng.uniform(1.7 if seat else 1.3, layout.depth - 0.7))
    angle = float(np.arctan2(-x, y - 1.0)) if seat else 0.0
    if item.thing.group != "table":
        angle += float(rng.normal(0, 0.2))
    side = "on the left" if x < -0.6 else "on the right" if x > 0.6 else "in the middle"
    return _put(
        item, angle, x, y, 0.0, f"{side} of the room" if side == "in the middle" else f"{side} side of the room"
    )


def _middle(layout: Layout, item: RoomItem, rng: np.random.Generator) -> RoomItem:
    x, y = float(rng.uniform(-0.3, 0.3)), layout.depth * float(rng.uniform(0.48, 0.58))
    return _put(item, 0.0, x, y, 0.0, "in the middle of the room")


def _before(layout: Layout, item: RoomItem, rng: np.random.Generator) -> RoomItem | None:
    """In front of the last thing: a low table before a sofa, a chair at a desk (then turned to it)."""
    if layout.last is None:
        return None
    anchor = layout.items[layout.last]
    seat = "chair" in item.thing.group
    size, own = bounds(anchor.mesh), bounds(item.mesh)
    gap = float(rng.uniform(0.02, 0.12)) if seat else float(rng.uniform(0.3, 0.45))
    inward = own[1, 1] if not seat else -own[0, 1]
    local = np.array([float(rng.uniform(-0.15, 0.15)), size[0, 1] - gap - inward, 0.0, 1.0])
    angle = float(np.arctan2(anchor.pose[1, 0], anchor.pose[0, 0])) + (np.pi if seat else 0.0)
    x, y, _, _ = anchor.pose @ local
    return _put(
        item, angle + float(rng.normal(0, 0.15)) * seat, float(x), float(y), 0.0, f"in front of the {anchor.thing.name}"
    )


def _around(layout: Layout, item: RoomItem, rng: np.random.Generator) -> RoomItem | None:
    """At a table, facing it, its seat a little under the top."""
    tables = [i for i, other in enumerate(layout.items) if other.thing.group == "table"]
    if not tables:
        return None
    anchor = layout.items[tables[0]]
    box, own = anchor.box, bounds(item.mesh)
    side = str(rng.choice(["left", "right", "far", "far", "near"]))
    gap = 0.05
    middle = (box[0] + box[1]) / 2
    reach = -float(own[0, 1]) + gap
    long = box[1, 0] - box[0, 0] > 1.2
    slide = float(rng.choice([-0.3, 0.3])) if long and side in ("far", "near") else 0.0
    spots = {
        "far": (0.0, middle[0] + slide, box[1, 1] + reach), "near": (np.pi, middle[0] + slide, box[0, 1] - reach),
        "left": (np.pi / 2, box[0, 0] - reach, middle[1]), "right": (-np.pi / 2, box[1, 0] + reach, middle[1]),
    }  # fmt: skip
    angle, x, y = spots[side]
    return _put(item, angle, float(x), float(y), 0.0, f"at the {anchor.thing.name}")


def _on(layout: Layout, item: RoomItem, rng: np.random.Generator, group: str = "") -> RoomItem | None:
    """On the highest face of a thing, away from what stands there."""
    hosts = [i for i, o in enumerate(layout.items) if o.thing.top and o.thing.group == (group or o.thing.group)]
    if not hosts:
        return None
    own = bounds(item.mesh)
    need = (own[1] - own[0])[:2] / 2 + (0.0 if group == "wall shelf" else 0.03)
    host = int(rng.choice(hosts))
    base, size = layout.items[host], bounds(layout.items[host].mesh)
    reach = (size[1] - size[0])[:2] / 2 * (0.68 if base.thing.group == "table" and base.thing.model else 0.97) - need
    if (reach < 0).any():
        return None if len(hosts) == 1 else item
    middle = (size[0] + size[1])[:2] / 2
    offset = middle + reach * np.array([float(rng.uniform(-1, 1)), float(rng.uniform(-0.3, 0.6))])
    pose = base.pose @ shift(float(offset[0]), float(offset[1]), float(size[1, 2]))
    placed = RoomItem(
        item.thing, item.mesh, pose @ turn(float(rng.normal(0, 0.15))), item.colour, host, f"on the {base.thing.name}"
    )
    others = [o for i, o in enumerate(layout.items) if i != host]
    stands = layout.between_walls(placed.box) and not any(overlap(placed.box, o.box, 0.02) for o in others)
    return placed if stands else item


def _hang(layout: Layout, item: RoomItem, rng: np.random.Generator) -> RoomItem:
    # What must be read or seen into hangs where the camera looks at it squarely.
    often = {"clock": 8, "wall shelf": 3, "window": 2}.get(item.thing.group, 2)
    wall = str(rng.choice([*["back"] * often, "left", "right"]))
    tall = float(bounds(item.mesh)[1, 2])
    middle = {"window": 1.55, "towel": 1.2, "wall shelf": 1.35}.get(item.thing.group, 1.62)
    half = float(bounds(item.mesh)[1, 0]) + 0.15
    reach = layout.width / 2 - half
    along = float(rng.uniform(-reach, reach)) if wall == "back" else float(rng.uniform(2.2, layout.depth - half))
    return _against(layout, item, wall, along, middle - tall / 2, f"on the {wall} wall")


def _above(layout: Layout, item: RoomItem, rng: np.random.Generator) -> RoomItem | None:
    """On the wall above the last thing, if that is low enough."""
    if layout.last is None:
        return None
    anchor = layout.items[layout.last]
    tall = float(bounds(item.mesh)[1, 2])
    z = max(float(anchor.box[1, 2]) + 0.08, 0.9)
    wall = next((w for w in ("back", "left", "right") if w in anchor.where), None)
    if wall is None or z + tall > layout.height - 0.15:
        return None
    x, y = anchor.pose[:2, 3]
    along = float(x if wall == "back" else y) + float(rng.uniform(-0.05, 0.05))
    return _against(layout, item, wall, along, z, f"above the {anchor.thing.name}")


def _over(layout: Layout, item: RoomItem, rng: np.random.Generator) -> RoomItem | None:
    """A wall cabinet over a kitchen unit."""
    units = [o for o in layout.items if o.thing.group == "kitchen unit"]
    if not units:
        return None
    x = float(units[int(rng.integers(len(units)))].pose[0, 3])
    return _against(layout, item, "back", x, 1.45, "on the back wall")


def _ceiling(layout: Layout, item: RoomItem, rng: np.random.Generator) -> RoomItem | None:
    if layout.last is None:
        return None
    x, y = layout.items[layout.last].pose[:2, 3]
    return _put(item, 0.0, float(x), float(y), layout.height - float(bounds(item.mesh)[1, 2]), "above the table")


def _under(layout: Layout, item: RoomItem, rng: np.random.Generator) -> RoomItem:
    x, y = float(rng.uniform(-0.3, 0.3)), layout.depth * 0.5 + float(rng.uniform(-0.1, 0.1))
    return _put(item, 0.0, x, y, 0.001, "on the floor")


Placer = Callable[[Layout, RoomItem, np.random.Generator], RoomItem | None]
PLACERS: Mapping[str, Placer] = {
    "back": partial(_wall, walls=("back",)),
    "back side": _back_side,
    "facing": _facing,
    "side": partial(_wall, walls=("left", "right")),
    "wall": partial(_wall, walls=("back", "back", "left", "right")),
    "row": partial(_beside, gap=0.004, says=False),
    "corner": _corner,
    "free": _free,
    "middle": _middle,
    "before": _before,
    "beside": partial(_beside, gap=0.06, says=True),
    "around": _around,
    "on": _on,
    "on shelf": partial(_on, group="wall shelf"),
    "on dresser": partial(_on, group="dresser"),
    "hang": _hang,
    "above": _above,
    "over": _over,
    "ceiling": _ceiling,
    "under": _under,
}
"""A placer answers the thing put somewhere, the same thing when that spot is taken, None when there is no spot."""
