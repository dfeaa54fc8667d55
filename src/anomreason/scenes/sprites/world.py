"""The sprites world: emoji on painted backgrounds, drawn in milliseconds, with every anomaly known.

SpriteWorld().draw(7, size=256, count=1, kinds=("floating",)).image.show()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from anomreason.anomaly import Kind
from anomreason.scenes.phrases import planted_anomaly
from anomreason.scenes.scene import (
    Allow,
    Mask,
    PlantedAnomaly,
    Scene,
    SceneVersion,
    allow_all,
    check_arguments,
    visible_objects,
    without,
)
from anomreason.scenes.sprites.layout import lay_out
from anomreason.scenes.sprites.render import Canvas
from anomreason.scenes.sprites.scene import SpriteChange, SpriteScene, applied, grown, overlap, union
from anomreason.scenes.sprites.table import table
from anomreason.scenes.sprites.violations import VIOLATIONS, Bench
from anomreason.scenes.table import Box

_ON_LIGHT: tuple[Kind, ...] = ("shadow", "lighting")
"""Kinds of which only one is planted in a scene: together neither would be recognisable."""


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
        check_arguments(self, seed, size, count, kinds)
        stage = self._lay_out(seed)
        rng = np.random.default_rng((seed, 2))
        changes = plant(stage, count, tuple(kinds) or self.kinds, allow, rng) if count else []
        canvas = Canvas(stage, size)
        view = _drawn(canvas, stage, changes)
        twins = tuple(_drawn(canvas, stage, without(changes, k)) for k in range(len(changes)))
        planted = (
            _planted(stage, changes, k, (view, twin), np.random.default_rng((seed, 3, k)))
            for k, twin in enumerate(twins)
        )
        return Scene(view.image, view.objects, view.owners, stage.place, tuple(planted), twins)


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


def _drawn(canvas: Canvas, stage: SpriteScene, changes: Sequence[SpriteChange]) -> SceneVersion:
    second = next((change.second_sun for change in changes if change.second_sun is not None), None)
    items = applied(stage, changes)
    image, owners = canvas.draw(items, second)
    return SceneVersion(image, visible_objects([item.row for item in items], owners), owners)


def _planted(
    stage: SpriteScene,
    changes: Sequence[SpriteChange],
    k: int,
    drawn: tuple[SceneVersion, SceneVersion],
    rng: np.random.Generator,
) -> PlantedAnomaly:
    """drawn: the scene and its twin without this change."""
    change, (view, twin) = changes[k], drawn
    first = len(stage.items) + sum(len(other.added) for other in changes[:k])
    old = tuple(i for i, _ in change.replaced)
    objects = (*old, *range(first, first + len(change.added)), *change.about)
    changed = np.any(np.asarray(view.image) != np.asarray(twin.image), axis=2)
    if not change.everywhere:
        own = _owned(view.owners, objects) | _owned(twin.owners, (*old, *change.about))
        changed = changed & own if np.any(changed & own) else changed
    items = applied(stage, changes)
    return planted_anomaly(change, change.slots, {i: items[i].thing for i in objects}, changed, rng)


def _owned(owners: NDArray[np.uint8], items: Sequence[int]) -> Mask:
    return np.isin(owners, [i + 1 for i in items])
