"""The sprites world: emoji on painted backgrounds, drawn in milliseconds, with every anomaly known.

SpriteWorld().draw(7, size=256, count=1, kinds=("floating",)).image.show()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from anomreason.anomaly import Anomaly, Kind, Region
from anomreason.errors import UsageError
from anomreason.scenes.phrases import describe
from anomreason.scenes.scene import Allow, PlantedAnomaly, Scene, VisibleObject, allow_all
from anomreason.scenes.sprites.layout import lay_out
from anomreason.scenes.sprites.render import Canvas, Rendering
from anomreason.scenes.sprites.scene import Box, SpriteChange, SpriteItem, SpriteScene, applied, grown, overlap, union
from anomreason.scenes.sprites.table import table
from anomreason.scenes.sprites.violations import VIOLATIONS, Bench

SMALLEST_SIZE = 32
_ON_LIGHT: tuple[Kind, ...] = ("shadow", "lighting")
"""Kinds of which only one is planted in a scene: together neither could be told."""


class SpriteWorld:
    """2D compositions of Microsoft's Fluent 3D emoji. The same arguments give the same bytes."""

    name = "sprites"
    kinds: tuple[Kind, ...] = tuple(VIOLATIONS)

    def __init__(self, lay_out: Callable[[int], SpriteScene] = lay_out) -> None:
        """lay_out: the clean scene of a seed."""
        self.version = table().version
        self._lay_out = lay_out

    def draw(
        self, seed: int, *, size: int, count: int = 0, kinds: Sequence[Kind] = (), allow: Allow = allow_all
    ) -> Scene:
        """See `scene.World`. UsageError for a negative seed, a size below 32, or a kind this world cannot plant."""
        _check(seed, size, count, kinds)
        stage = self._lay_out(seed)
        rng = np.random.default_rng((seed, 2))
        changes = plant(stage, count, tuple(kinds) or self.kinds, allow, rng) if count else []
        canvas = Canvas(stage, size)
        view = _drawn(canvas, stage, changes)
        twins = [_drawn(canvas, stage, _without(changes, k)) for k in range(len(changes))]
        items = applied(stage, changes)
        planted = tuple(
            _planted(stage, changes, k, view, twin, np.random.default_rng((seed, 3, k))) for k, twin in enumerate(twins)
        )
        return Scene(
            view.image,
            stage.place,
            _shown(items, view.owners),
            planted,
            tuple(twin.image for twin in twins),
            tuple(_shown(applied(stage, _without(changes, k)), twin.owners) for k, twin in enumerate(twins)),
            view.owners,
            tuple(twin.owners for twin in twins),
        )


def plant(
    stage: SpriteScene, wanted: int, kinds: Sequence[Kind], allow: Allow, rng: np.random.Generator
) -> list[SpriteChange]:
    """Up to that many violations, each of another kind, on different things, none over another."""
    bench, chosen = Bench(stage), list[SpriteChange]()
    for _ in range(wanted):
        taken = {change.kind for change in chosen}
        left = [kind for kind in dict.fromkeys(kinds) if kind not in taken]
        change = _one(bench, [left[i] for i in rng.permutation(len(left))], chosen, allow, rng)
        if change is None:
            break
        chosen.append(change)
    return chosen


def _one(
    bench: Bench, kinds: Sequence[Kind], chosen: Sequence[SpriteChange], allow: Allow, rng: np.random.Generator
) -> SpriteChange | None:
    busy = {j for change in chosen for j in (*(j for j, _ in change.replaced), *change.about)}
    for kind in kinds:
        if kind in _ON_LIGHT and any(change.kind in _ON_LIGHT for change in chosen):
            continue
        for i in rng.permutation(len(bench.items)).tolist():
            if i in busy:
                continue
            if kind != "function" and bench.items[i].is_lamp:
                continue  # its light falls on everything, and only `function` may change that
            change = VIOLATIONS[kind](bench, i, rng)
            if change is None or not allow(kind, change.items[0].thing):
                continue
            if busy.isdisjoint(change.about) and _clear(bench, change, chosen):
                return change
    return None


def _clear(bench: Bench, change: SpriteChange, chosen: Sequence[SpriteChange]) -> bool:
    """Whether it neither covers nor is covered by another one."""
    own = _extent(bench, change)
    return all(overlap(own, _extent(bench, other)) < 0.02 for other in chosen)


def _extent(bench: Bench, change: SpriteChange) -> Box:
    """Where a violation shows, before and after it; light is left out."""
    boxes = [item.box for item in change.items]
    boxes += [bench.items[i].box for i, _ in change.replaced]
    if change.kind == "intersection":
        boxes += [bench.items[i].box for i in change.about]
    if change.kind == "reflection":
        boxes += [(b[0], b[3], b[2], min(1.0, 2 * b[3] - b[1])) for b in boxes]
    return grown(union(boxes), 0.005)


def _without(changes: Sequence[SpriteChange], k: int) -> list[SpriteChange]:
    return [change for j, change in enumerate(changes) if j != k]


def _drawn(canvas: Canvas, stage: SpriteScene, changes: Sequence[SpriteChange]) -> Rendering:
    second = next((change.second_sun for change in changes if change.second_sun is not None), None)
    return canvas.draw(applied(stage, changes), second)


def _planted(
    stage: SpriteScene,
    changes: Sequence[SpriteChange],
    k: int,
    view: Rendering,
    twin: Rendering,
    rng: np.random.Generator,
) -> PlantedAnomaly:
    change = changes[k]
    first = len(stage.items) + sum(len(other.added) for other in changes[:k])
    new = tuple(range(first, first + len(change.added)))
    old = tuple(i for i, _ in change.replaced)
    objects = (*old, *new, *change.about)
    names = tuple(item.thing for item in applied(stage, changes))
    changed = np.any(np.asarray(view.image) != np.asarray(twin.image), axis=2)
    if not change.everywhere:
        theirs = _owned(view.owners, objects) | _owned(twin.owners, (*old, *change.about))
        changed = changed & theirs if np.any(changed & theirs) else changed
    name, phenomenon, reasoning, severity = describe(change.kind, change.level, change.slots, rng)
    anomaly = Anomaly(
        name=name,
        phenomenon=phenomenon,
        reasoning=reasoning,
        severity=severity,
        kind=change.kind,
        objects=tuple(names[i] for i in objects),
        region=_region(changed),
    )
    return PlantedAnomaly(change.kind, change.level, anomaly, objects, change.slots)


def _owned(owners: NDArray[np.uint8], items: Sequence[int]) -> NDArray[np.bool_]:
    return np.isin(owners, [i + 1 for i in items])


def _region(mask: NDArray[np.bool_]) -> Region:
    """The box of what is set, in fractions."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    size = mask.shape[0]
    return Region(
        x0=float(columns[0]) / size,
        y0=float(rows[0]) / size,
        x1=float(columns[-1] + 1) / size,
        y1=float(rows[-1] + 1) / size,
    )


def _shown(items: Sequence[SpriteItem], owners: NDArray[np.uint8]) -> tuple[VisibleObject, ...]:
    return tuple(VisibleObject(item.thing, item.row.synonyms, _region(owners == i + 1)) for i, item in enumerate(items))


def _check(seed: int, size: int, count: int, kinds: Sequence[Kind]) -> None:
    if seed < 0 or count < 0:
        raise UsageError(f"seed {seed} and count {count} must not be negative")
    if size < SMALLEST_SIZE:
        raise UsageError(f"a picture of {size} pixels is too small to show anything; ask for {SMALLEST_SIZE} or more")
    unknown = [kind for kind in kinds if kind not in VIOLATIONS]
    if unknown:
        raise UsageError(f"the sprites world plants no {unknown[0]!r}; its kinds are {', '.join(VIOLATIONS)}")
