"""The rooms world: path-traced interiors of which every anomaly is known.

Needs the extra `scenes` (Mitsuba 3 and its denoiser).

    RoomWorld().draw(seed=7, size=384, count=1).image.save("room.png")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image

from anomreason.anomaly import Kind
from anomreason.scenes.phrases import planted_anomaly
from anomreason.scenes.rooms import layout as furnishing
from anomreason.scenes.rooms import shell as shells
from anomreason.scenes.rooms.render import Owners, Radiance, owner_map, tone, trace
from anomreason.scenes.rooms.room import (
    LARGEST,
    LEAST_EDGE,
    LEAST_MIRRORED,
    LEAST_SHARE,
    Room,
    around,
    differing,
    reflecting,
    table,
    visibilities,
)
from anomreason.scenes.rooms.textures import Pixels
from anomreason.scenes.rooms.violations import VIOLATIONS, RoomChange, Workshop
from anomreason.scenes.scene import (
    Allow,
    Mask,
    PlantedAnomaly,
    Scene,
    SceneVersion,
    Slots,
    allow_all,
    box_of,
    check_arguments,
    visible_objects,
    without,
)

GLANCE = 128
"""Edge in pixels of the owner maps by which a room is judged before it is drawn."""
FEWEST, TRIES = 4, 12
PATIENCE = 4
"""How many violations may turn out to be too faint before it is left at those that are not."""
_FEW = "top, small top, counter, toy, bin, plant, stool, picture, clock, window, towel, radiator, armchair, floor lamp"
LOOSE = frozenset((*_FEW.split(", "), "tank", "television", "mirror", "tall mirror"))
"""Groups of things that can be left out without the rest looking odd."""
CLEARLY = 28
"""Difference (of 255) from which a pixel counts as clearly changed."""
LENIENT = 0.7
"""Share of these minima that the full image must reach after a small one has passed."""
NARROWEST = 0.12
"""Least shorter edge of a dial whose writing is to be read, as a share of the image's edge."""


class RoomWorld:
    """Interiors as a camera would see them. The same arguments give the same pixels on one machine."""

    name = "rooms"
    kinds: tuple[Kind, ...] = tuple(VIOLATIONS)

    def __init__(self, samples: int = 8) -> None:
        """samples: light paths a pixel, before denoising; the glimpses by which a plan is judged take twice as many."""
        self.samples = samples
        self.version = table().version

    def draw(
        self, seed: int, *, size: int, count: int = 0, kinds: Sequence[Kind] = (), allow: Allow = allow_all
    ) -> Scene:
        """As `World.draw`. Raises MissingExtra without Mitsuba, UsageError for a kind that no room can show."""
        check_arguments(self, seed, size, count, kinds)
        clean = clean_room(seed)
        rng = np.random.default_rng([seed, 2])
        studio = Studio(size, self.samples)
        wanted = kinds or self.kinds
        glimpse, banned = PlanRenderer(Studio(GLANCE, 2 * self.samples), clean), set[tuple[Kind, int]]()
        renderer = PlanRenderer(studio, clean)
        while True:
            plan = _plan(glimpse, count, wanted, allow, banned, rng)
            faint = renderer.faint(plan, LENIENT)
            if not faint or len(banned) > PATIENCE:
                return renderer.scene(tuple(change for change in plan if change not in faint), rng)
            banned |= {(change.kind, change.main) for change in faint}


@lru_cache(maxsize=4)
def clean_room(seed: int) -> Room:
    """The furnished room of a seed, as the camera sees it well; nothing is wrong in it."""
    best: tuple[float, Room] | None = None
    for attempt in range(TRIES):
        room = _trimmed(_room(seed, attempt))
        views = visibilities(room, owner_map(room.stage(), GLANCE))
        good = sum(view.share > 0.6 and view.edge > 0.1 for view in views)
        score = good - 4.0 * max((view.pixels - LARGEST for view in views if view.pixels > LARGEST), default=0.0)
        if best is None or score > best[0]:
            best = score, room
        if len(room.items) >= FEWEST and score >= 5 and max(view.pixels for view in views) <= LARGEST:
            break
    return best[1] if best else room


def _room(seed: int, attempt: int) -> Room:
    rng = np.random.default_rng([seed, 1, attempt])
    places = tuple(furnishing.plans())
    place = places[int(np.random.default_rng([seed, 0]).integers(len(places)))]
    layout = furnishing.furnish(place, rng)
    lamps = any("lit" in item.thing.does for item in layout.items)
    evening = bool(lamps and rng.random() < 0.6)
    shell = shells.shell(place, layout.width, layout.depth, layout.height, rng, evening)
    cameras = [shells.camera(layout.width, layout.depth, rng) for _ in range(6)]
    sunny = not evening and rng.random() < 0.75
    if evening:
        layout.items = [replace(item, mesh=shells.at_night(item.mesh)) for item in layout.items]
    room = Room(
        place, layout.width, layout.depth, layout.height, tuple(layout.items), shell,
        (shells.sun(rng),) if sunny else (), (0.02, 0.03, 0.06) if evening else (1.0, 1.0, 1.0), evening,
        *cameras[0], int(rng.integers(1 << 30)),
    )  # fmt: skip
    mirrors = [i for i, item in enumerate(room.items) if item.thing.group == "tall mirror"]
    # Of the places a camera could take, the one from which a mirror shows most.
    rooms = [replace(room, eye=eye, target=target, view=view) for eye, target, view in cameras[: 6 if mirrors else 1]]
    return max(rooms, key=lambda one: sum(reflecting(one, i) for i in mirrors))


def _trimmed(room: Room) -> Room:
    """Without small things of which the camera sees hardly anything. What others are arranged by stays."""
    views = visibilities(room, owner_map(room.stage(), GLANCE))
    poor = {i for i, view in enumerate(views) if view.share < LEAST_SHARE or view.edge < LEAST_EDGE}
    mirrors = (i for i, item in enumerate(room.items) if "mirror" in item.thing.group)
    poor |= {i for i in mirrors if reflecting(room, i) < LEAST_MIRRORED}
    poor = {i for i in poor if room.items[i].thing.group in LOOSE and not room.carried(i)}
    left = [i for i in range(len(room.items)) if i not in poor]
    new = {old: k for k, old in enumerate(left)}
    kept = (room.items[i] for i in left)
    return replace(room, items=tuple(replace(i, on=None if i.on is None else new[i.on]) for i in kept))


def _plan(
    glimpse: PlanRenderer,
    count: int,
    kinds: Sequence[Kind],
    allow: Allow,
    banned: Set[tuple[Kind, int]],
    rng: np.random.Generator,
) -> tuple[RoomChange, ...]:
    """Up to `count` changes that do not touch the same things nor hide one another."""
    plan: list[RoomChange] = []
    clean = room = glimpse.clean
    glance = owner_map(clean.stage(), GLANCE)
    # Kinds that few rooms can show come first more often, so that in the end all are about as frequent.
    haste = {kind: float(rng.exponential()) / table().more["haste"].get(kind, 1.0) for kind in kinds}
    for kind in sorted(kinds, key=haste.__getitem__) * 2:  # a second try where chance chose badly
        if len(plan) == count:
            break
        if any(change.kind == kind for change in plan):
            continue
        taken = frozenset(i for change in plan for i in change.touched)
        for i in rng.permutation(len(clean.items)).tolist():
            if i in taken or (kind, i) in banned or not allow(kind, clean.items[i].thing.name):
                continue
            change = VIOLATIONS[kind](Workshop(room, clean, taken), i, rng)
            if (
                change is None
                or change.touched & taken
                or (change.kind in LIGHT_EFFECTS and any(c.kind in LIGHT_EFFECTS for c in plan))
            ):
                continue
            after = change.applied(room)
            if not allow(kind, after.items[i].thing.name):
                continue
            view = owner_map(after.stage(), GLANCE)
            open_to_view = _plain(change, after, view) and not _hides(plan, glance, view)
            if open_to_view and not glimpse.faint((*plan, change)):
                plan.append(change)
                room, glance = after, view
                break
    return tuple(plan)


def _plain(change: RoomChange, after: Room, new: Owners) -> bool:
    """Whether the change is open to the camera and large enough."""
    main = change.others[0] if change.level == "steep" else change.main  # the shelf, not what lies on it
    own = new == main + 1
    view = visibilities(after, new)[main]
    through = change.kind == "intersection"
    others = set(range(len(after.items))) - {main}
    alone = owner_map(after.stage(without=others), GLANCE) == main + 1
    if own.sum() < (0.5 if through else 0.7) * alone.sum() or view.share < (0.45 if through else 0.75):
        return False
    least = table().more["least_own"]
    if own.mean() < least.get(change.level, least.get(change.kind, 0.0)):
        return False
    if through:
        return bool((new == change.others[0] + 1).mean() > 0.01)
    if change.kind in ("text", "count") and after.items[change.main].thing.group == "clock":
        x0, y0, x1, y1 = box_of(own)
        return min(x1 - x0, y1 - y0) > NARROWEST
    return view.edge > {"vital": 0.06, "dark_lamp": 0.07}.get(change.level, 0.1)


def _hides(plan: Sequence[RoomChange], old: Owners, new: Owners) -> bool:
    """Whether what earlier changes concern is now covered."""
    things = {i for change in plan for i in change.touched}
    return any((new == i + 1).sum() < 0.85 * (old == i + 1).sum() for i in things)


class PlanRenderer:
    """Renders a plan and its twins; every image and owner map is rendered once."""

    def __init__(self, studio: Studio, clean: Room) -> None:
        self.studio, self.clean = studio, clean
        # One exposure, that of the clean room, for the scene and all its twins.
        self.exposure = _exposure(clean)
        self._images: dict[tuple[RoomChange, ...], Pixels] = {}
        self._maps: dict[tuple[RoomChange, ...], Owners] = {}

    def faint(self, plan: tuple[RoomChange, ...], share: float = 1.0) -> list[RoomChange]:
        """The changes that are hardly visible: they change less than this share of the minimum."""
        return [c for k, c in enumerate(plan) if self._clear(plan, k) < share * self._least(c)]

    def _least(self, change: RoomChange) -> float:
        least: Mapping[str, float] = table().more["least_changed"]
        if self.clean.items[change.main].thing.group == "clock" and change.kind == "count":
            return least["text"]
        return least.get(change.level, least.get(change.kind, least["else"]))

    def _clear(self, plan: tuple[RoomChange, ...], k: int) -> float:
        """Share of the image that a change alters clearly: where its things are, for a lamp everywhere."""
        if plan[k].kind == "function":
            return float(differing(self._image(plan), self._image(without(plan, k)), CLEARLY).mean())
        return float(self._changed(plan, k, CLEARLY).mean())

    def scene(self, plan: tuple[RoomChange, ...], rng: np.random.Generator) -> Scene:
        index, version = self._visible(plan)
        planted = tuple(self._planted(plan, k, index, rng) for k in range(len(plan)))
        twins = tuple(self._visible(without(plan, k))[1] for k in range(len(plan)))
        return Scene(version.image, version.objects, version.owners, self.clean.place, planted, twins)

    def _visible(self, plan: tuple[RoomChange, ...]) -> tuple[dict[int, int], SceneVersion]:
        """The index among the visible objects by the index in the room; the image with these objects."""
        room, owners = _apply(self.clean, plan), self._owners(plan)
        visible = [i for i in range(len(room.items)) if (owners == i + 1).any()]
        index = {i: k for k, i in enumerate(visible)}
        lookup = np.array([0, *(index.get(i, -1) + 1 for i in range(len(room.items)))], dtype=np.uint8)
        objects = visible_objects([room.items[i].thing for i in visible], lookup[owners])
        return index, SceneVersion(Image.fromarray(self._image(plan)), objects, lookup[owners])

    def _planted(
        self, plan: tuple[RoomChange, ...], k: int, index: Mapping[int, int], rng: np.random.Generator
    ) -> PlantedAnomaly:
        change, room = plan[k], _apply(self.clean, plan)
        item = room.items[change.main]
        slots = Slots(
            thing=change.thing or item.phrase, place=change.place or item.where or "in the room", other=change.other,
            detail=change.detail, plural=item.thing.plural,
        )  # fmt: skip
        objects = {index[i]: room.items[i].thing.name for i in (change.main, *change.others) if i in index}
        return planted_anomaly(change, slots, objects, self._changed(plan, k), rng)

    def _changed(self, plan: tuple[RoomChange, ...], k: int, least: int = 18) -> Mask:
        """The pixels of the things concerned that this change alters."""
        change = plan[k]
        now, then = self._owners(plan), self._owners(without(plan, k))
        different = differing(self._image(plan), self._image(without(plan, k)), least)
        if change.kind == "reflection":
            return np.asarray(different & (now == change.others[0] + 1))
        own: Mask = np.isin(now, [i + 1 for i, _ in change.items] or [change.main + 1])
        if change.kind == "function":
            return own | (different & around(own))
        return np.asarray(different & (own | np.isin(then, [i + 1 for i, _ in change.items])))

    def _image(self, plan: tuple[RoomChange, ...]) -> Pixels:
        if plan not in self._images:
            room = _apply(self.clean, plan)
            image = self.studio.render(room)
            for change in plan:
                if change.kind in LIGHT_EFFECTS:
                    image = LIGHT_EFFECTS[change.kind](self.studio, room, image, change)
            self._images[plan] = np.asarray(tone(image, self.exposure))
        return self._images[plan]

    def _owners(self, plan: tuple[RoomChange, ...]) -> Owners:
        if plan not in self._maps:
            self._maps[plan] = self.studio.owners(_apply(self.clean, plan))
        return self._maps[plan]


def _apply(room: Room, plan: Sequence[RoomChange]) -> Room:
    for change in plan:
        room = change.applied(room)
    return room


@lru_cache(maxsize=2)
def _exposure(room: Room) -> float:
    """Middle grey of a small rendering goes where a camera's automatic exposure puts it; darker in the evening."""
    radiance = Studio(GLANCE // 2, 8).render(room)
    bright = radiance @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
    middle = float(np.exp(np.log(bright.clip(1e-3)).mean()))
    return float(np.clip((0.16 if room.evening else 0.28) / middle, 0.4, 6.0))


FINE = 3
"""Rays along a pixel's edge where a thing is cut out."""


@dataclass(frozen=True)
class Studio:
    """Renders rooms at one size and quality."""

    size: int
    samples: int

    def render(self, room: Room, **changes: object) -> Radiance:
        return trace(room.stage(**changes), self.size, self.samples, room.seed)  # type: ignore[arg-type]

    def owners(self, room: Room) -> Owners:
        return owner_map(room.stage(), self.size)

    def cover(self, room: Room, i: int) -> Radiance:
        """(size, size, 1): the share of each pixel that thing i covers, for edges without steps."""
        fine = owner_map(room.stage(), self.size * FINE) == i + 1
        blocks = fine.reshape(self.size, FINE, self.size, FINE).mean(axis=(1, 3))
        return np.asarray(blocks, dtype=np.float32)[:, :, None]


def wrong_reflection(studio: Studio, room: Room, image: Radiance, change: RoomChange) -> Radiance:
    """The mirror's pixels come from a room without the object, or with another in its place."""
    glass = studio.cover(room, change.others[0])
    if change.instead is None:
        return glass * studio.render(room, without={change.main}) + (1 - glass) * image
    return glass * studio.render(room.with_item(change.main, change.instead)) + (1 - glass) * image


def dark_lamp(studio: Studio, room: Room, image: Radiance, change: RoomChange) -> Radiance:
    """The lit lamp in a room that it does not light."""
    own = studio.cover(room, change.main)
    return own * image + (1 - own) * studio.render(room, dark={change.main})


LIGHT_EFFECTS: Mapping[Kind, Callable[[Studio, Room, Radiance, RoomChange], Radiance]] = {
    "reflection": wrong_reflection, "function": dark_lamp,
}  # fmt: skip
"""Kinds that no moved object can show: their image is put together from renderings of changed rooms."""
