"""The rooms world: path-traced interiors of which every anomaly is known.

Knows no files and no commands. Needs the extra `scenes` (Mitsuba 3 and its denoiser).

    RoomWorld().draw(seed=7, size=384, count=1).image.save("room.png")
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from PIL import Image

from anomreason.anomaly import Anomaly
from anomreason.errors import UsageError
from anomreason.scenes.phrases import describe
from anomreason.scenes.rooms import layout as furnishing
from anomreason.scenes.rooms import shell as shells
from anomreason.scenes.rooms.render import Owners, Radiance, tone, who
from anomreason.scenes.rooms.scene import Room, table
from anomreason.scenes.rooms.seen import LARGEST, LEAST_EDGE, LEAST_SHARE, Mask, around, differing, region_of, seen
from anomreason.scenes.rooms.textures import Picture
from anomreason.scenes.rooms.tricks import TRICKS, Studio, Trick
from anomreason.scenes.rooms.violations import Change, Workshop
from anomreason.scenes.rooms.violations_more import MAKERS
from anomreason.scenes.scene import Allow, Drawn, Kind, Planted, Shown, Slots, anything

GLANCE = 96
"""Edge in pixels of the owner maps by which a room is judged before it is drawn."""
FEWEST, TRIES = 4, 12
PATIENCE = 4
"""How many violations may turn out to be too faint before it is left at those that are not."""
_FEW = "top, small top, counter, toy, bin, plant, stool, picture, clock, window, towel, radiator, armchair, floor lamp"
LOOSE = frozenset((*_FEW.split(", "), "tank", "television", "tall mirror"))
"""Groups of things that can be left out without the rest looking odd."""
RARE: tuple[Kind, ...] = ("shadow", "reflection", "function", "physical_state")
"""Kinds that need a sun, a mirror, a lamp and the like."""
CHANGED = 0.004
"""Least share of the picture that a violation must change."""
LIGHT_CHANGED = {"shadow": 0.011, "reflection": 0.007, "function": 0.04}
"""The same for what is wrong with light alone, judged on a small picture."""
FAINT: dict[str, float] = {"text": 0.0008, "count": 0.0008}
"""Least share of the picture whose pixels change in the end, where that is not half of CHANGED: lines are thin."""


@dataclass(frozen=True)
class RoomWorld:
    """Interiors as a camera would see them."""

    samples: int = 8
    """Light paths a pixel, before denoising."""
    name: str = "rooms"
    kinds: tuple[Kind, ...] = tuple(MAKERS)

    @property
    def version(self) -> str:
        return table().version

    def draw(
        self, seed: int, *, size: int, count: int = 0, kinds: Sequence[Kind] = (), allow: Allow = anything
    ) -> Drawn:
        """As `World.draw`. Raises MissingExtra without Mitsuba, UsageError for a kind that no room can show."""
        if unknown := set(kinds) - set(self.kinds):
            raise UsageError(f"no room can show the kind {sorted(unknown)[0]!r}; choose among {', '.join(self.kinds)}")
        clean = clean_room(seed)
        rng = np.random.default_rng([seed, 2])
        studio = Studio(size, self.samples)
        wanted = [kind for kind in (kinds or self.kinds) if kind in self.kinds]
        picture, banned = _Picture(studio, clean), set[tuple[Kind, int]]()
        while True:
            plan = _plan(clean, count, wanted, allow, banned, rng)
            faint = picture.faint(plan)
            if not faint or len(banned) > PATIENCE:
                return picture.drawn(tuple(change for change in plan if change not in faint), rng)
            banned |= {(change.kind, change.main) for change in faint}


@lru_cache(maxsize=4)
def clean_room(seed: int) -> Room:
    """The furnished room of a seed, as the camera sees it well; nothing is wrong in it."""
    best: tuple[float, Room] | None = None
    for attempt in range(TRIES):
        room = _trimmed(_room(seed, attempt))
        views = seen(room, who(room.stage(), GLANCE))
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
    eye, target, view = shells.camera(layout.width, layout.depth, rng)
    sunny = not evening and rng.random() < 0.75
    if evening:
        layout.items = [replace(item, mesh=shells.at_night(item.mesh)) for item in layout.items]
    return Room(
        place, layout.width, layout.depth, layout.height, tuple(layout.items), shell,
        (shells.sun(rng),) if sunny else (), (0.02, 0.03, 0.06) if evening else (1.0, 1.0, 1.0), evening,
        eye, target, view, int(rng.integers(1 << 30)),
    )  # fmt: skip


def _trimmed(room: Room) -> Room:
    """Without small things of which the camera sees hardly anything. What others are arranged by stays."""
    views = seen(room, who(room.stage(), GLANCE))
    poor = {i for i, view in enumerate(views) if view.share < LEAST_SHARE or view.edge < LEAST_EDGE}
    poor = {i for i in poor if room.items[i].thing.group in LOOSE and not room.carried(i)}
    left = [i for i in range(len(room.items)) if i not in poor]
    new = {old: k for k, old in enumerate(left)}
    kept = (room.items[i] for i in left)
    return replace(room, items=tuple(replace(i, on=None if i.on is None else new[i.on]) for i in kept))


def _plan(
    clean: Room,
    count: int,
    kinds: Sequence[Kind],
    allow: Allow,
    banned: Set[tuple[Kind, int]],
    rng: np.random.Generator,
) -> tuple[Change, ...]:
    """Up to `count` changes that do not touch the same things nor hide one another."""
    plan: list[Change] = []
    room, glance = clean, who(clean.stage(), GLANCE)
    # Kinds that few rooms can show come first more often, so that in the end all are about as frequent.
    haste = {kind: float(rng.exponential()) / (5.0 if kind in RARE else 1.0) for kind in kinds}
    for kind in sorted(kinds, key=haste.__getitem__) * 2:  # a second try where chance chose badly
        if len(plan) == count:
            break
        if any(change.kind == kind for change in plan):
            continue
        taken = frozenset(i for change in plan for i in change.touched)
        for i in rng.permutation(len(clean.items)).tolist():
            if i in taken or (kind, i) in banned or not allow(kind, clean.items[i].thing.name):
                continue
            change = MAKERS[kind](Workshop(room, clean, taken), i, rng)
            if change is None or change.touched & taken or (change.trick and any(c.trick for c in plan)):
                continue
            after = change.applied(room)
            if not allow(kind, after.items[i].thing.name):
                continue
            view = who(after.stage(), GLANCE)
            if _plain(change, room, after, glance, view) and not _hides(plan, glance, view):
                plan.append(change)
                room, glance = after, view
                break
    return tuple(plan)


def _plain(change: Change, before: Room, after: Room, old: Owners, new: Owners) -> bool:
    """Whether the change can be seen well."""
    own = new == change.main + 1
    view = seen(after, new)[change.main]
    others = set(range(len(after.items))) - {change.main}
    least = 0.45 if change.kind == "intersection" else 0.75
    alone = who(after.stage(without=others), GLANCE) == change.main + 1
    if own.sum() < (0.5 if change.kind == "intersection" else 0.8) * alone.sum() or view.share < least:
        return False
    if change.kind in ("missing_part", "duplicated_part", "count") and change.items[0][1].thing.group != "clock":
        return bool((own != (old == change.main + 1)).mean() > 1.75 * CHANGED)
    if change.kind in ("text", "count", "physical_state"):
        return view.edge > {"steep": 0.065, "tilted_liquid": 0.1}.get(change.level, 0.125)
    if change.kind == "intersection":
        return view.edge > 0.12 and bool((new == change.others[0] + 1).mean() > CHANGED)
    if change.trick:
        return view.edge > 0.07 and _light_changes(change, after)
    if change.level == "tiny":
        return view.edge > 0.085 and view.pixels > CHANGED
    return view.pixels > CHANGED * 1.4 and view.edge > 0.088


def _light_changes(change: Change, room: Room) -> bool:
    """Whether a small picture shows the trick."""
    studio = Studio(GLANCE, 16)
    plain = studio.picture(room)
    exposure = _exposure(plain, room.evening)
    trick = Trick(change.trick, change.main, change.aim, change.instead)
    wrong = TRICKS[change.trick](studio, room, plain, trick)
    mask = differing(np.asarray(tone(plain, exposure)), np.asarray(tone(wrong, exposure)), 22)
    return bool(mask.mean() > LIGHT_CHANGED[change.kind])


def _hides(plan: Sequence[Change], old: Owners, new: Owners) -> bool:
    """Whether what earlier changes concern is now covered."""
    things = {i for change in plan for i in change.touched}
    return any((new == i + 1).sum() < 0.85 * (old == i + 1).sum() for i in things)


class _Picture:
    """Draws a plan and its twins; pictures and owner maps are taken once each."""

    def __init__(self, studio: Studio, clean: Room) -> None:
        self.studio, self.clean = studio, clean
        # The exposure of the clean room holds for every twin: nobody turns a dial between them.
        self.exposure = _exposure(Studio(GLANCE, studio.samples).picture(clean), clean.evening)
        self._images: dict[tuple[Change, ...], Picture] = {}
        self._maps: dict[tuple[Change, ...], Owners] = {}

    def faint(self, plan: tuple[Change, ...]) -> list[Change]:
        """Those that change too few pixels to be seen."""
        return [c for k, c in enumerate(plan) if self._changed(plan, k).mean() < FAINT.get(c.kind, CHANGED / 2)]

    def drawn(self, plan: tuple[Change, ...], rng: np.random.Generator) -> Drawn:
        index, objects, owners = self._seen(plan)
        told = [self._told(change, plan, self._changed(plan, k), rng) for k, change in enumerate(plan)]
        mended = [_without(plan, k) for k in range(len(plan))]
        twins = [self._seen(rest) for rest in mended]
        return Drawn(
            image=Image.fromarray(self._image(plan)),
            place=self.clean.place,
            objects=objects,
            planted=tuple(replace(p, objects=tuple(index[i] for i in p.objects)) for p in told),
            twins=tuple(Image.fromarray(self._image(rest)) for rest in mended),
            twin_objects=tuple(shown for _, shown, _ in twins),
            owners=owners,
            twin_owners=tuple(owned for _, _, owned in twins),
        )

    def _seen(self, plan: tuple[Change, ...]) -> tuple[dict[int, int], tuple[Shown, ...], Owners]:
        """By the thing's place in the room its index among the objects; these; and whose each pixel is."""
        index, objects = _numbered(self._shown(plan))
        lookup = np.array([0, *(index.get(i, -1) + 1 for i in range(len(self.clean.items)))], dtype=np.uint8)
        return index, objects, lookup[self._owners(plan)]

    def _told(self, change: Change, plan: tuple[Change, ...], mask: Mask, rng: np.random.Generator) -> Planted:
        room = _apply(self.clean, plan)
        item = room.items[change.main]
        where = change.place or item.where or "in the room"
        slots = Slots(
            thing=change.thing or item.phrase, place=where, other=change.other, detail=change.detail,
            plural=item.thing.plural, other_plural=change.other_plural,
        )  # fmt: skip
        name, phenomenon, reasoning, severity = describe(change.kind, change.level, slots, rng)
        owners = self._owners(plan)
        concerned = tuple(i for i in (change.main, *change.others) if (owners == i + 1).any())
        names = tuple(room.items[i].thing.name for i in concerned)
        anomaly = Anomaly(
            name=name,
            phenomenon=phenomenon,
            reasoning=reasoning,
            severity=severity,
            objects=names,
            region=region_of(mask),
        )
        return Planted(change.kind, change.level, anomaly, concerned, slots)

    def _changed(self, plan: tuple[Change, ...], k: int) -> Mask:
        """The pixels of the things concerned that this change alters."""
        change = plan[k]
        now, then = self._owners(plan), self._owners(_without(plan, k))
        different = differing(self._image(plan), self._image(_without(plan, k)))
        if change.kind == "shadow":
            return np.asarray(different | (now == change.main + 1))
        if change.kind == "reflection":
            return np.asarray(different & (now == (change.aim or 0) + 1))
        own: Mask = np.isin(now, [i + 1 for i, _ in change.items] or [change.main + 1])
        if change.kind == "function":
            return own | (different & around(own))
        return np.asarray(different & (own | np.isin(then, [i + 1 for i, _ in change.items])))

    def _shown(self, plan: tuple[Change, ...]) -> list[tuple[int, Shown]]:
        room, owners = _apply(self.clean, plan), self._owners(plan)
        out = []
        for i, item in enumerate(room.items):
            if (owners == i + 1).any():
                thing = item.thing
                out.append((i, Shown(thing.name, thing.synonyms, region_of(owners == i + 1))))
        return out

    def _image(self, plan: tuple[Change, ...]) -> Picture:
        if plan not in self._images:
            room = _apply(self.clean, plan)
            picture = self.studio.picture(room)
            for change in plan:
                if change.trick:
                    trick = Trick(change.trick, change.main, change.aim, change.instead)
                    picture = TRICKS[change.trick](self.studio, room, picture, trick)
            self._images[plan] = np.asarray(tone(picture, self.exposure))
        return self._images[plan]

    def _owners(self, plan: tuple[Change, ...]) -> Owners:
        if plan not in self._maps:
            self._maps[plan] = self.studio.owners(_apply(self.clean, plan))
        return self._maps[plan]


def _apply(room: Room, plan: Sequence[Change]) -> Room:
    for change in plan:
        room = change.applied(room)
    return room


def _without(plan: tuple[Change, ...], k: int) -> tuple[Change, ...]:
    return plan[:k] + plan[k + 1 :]


def _numbered(shown: Sequence[tuple[int, Shown]]) -> tuple[dict[int, int], tuple[Shown, ...]]:
    return {i: k for k, (i, _) in enumerate(shown)}, tuple(one for _, one in shown)


def _exposure(radiance: Radiance, evening: bool) -> float:
    """So that the picture's middle grey lies where a camera's automatic puts it; darker in the evening."""
    bright = radiance @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)
    middle = float(np.exp(np.log(bright.clip(1e-3)).mean()))
    return float(np.clip((0.16 if evening else 0.28) / middle, 0.4, 6.0))
