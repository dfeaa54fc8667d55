"""Scenes that the world does not lay out: one thing stands in for another, as a lamp or in the sky.

Some kinds befall so few things that nothing is left to learn them from once one is held out. Two things alone are
lamps, and of what flies only a helicopter can be turned. Here any thing that belongs to a place can be its lamp, and
others hang in the sky upside down, so that what it is to light nothing, or to be turned up there, is seen on many.
Try it:

    SpriteWorld(by_lamp_light).draw(7, size=256, count=1, kinds=("function",), allow=trained_on).image.show()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from anomreason.scenes.sprites.layout import fits, lay_out
from anomreason.scenes.sprites.scene import SpriteItem, SpriteScene
from anomreason.scenes.sprites.table import table

FLYING = (
    "car", "taxi", "police car", "ambulance", "fire engine", "bus", "minibus", "delivery truck", "pickup truck", "jeep",
    "lorry", "motor scooter", "motorcycle", "auto rickshaw", "sled", "sailboat", "speedboat", "motorboat", "ship",
    "cow", "horse", "pig", "sheep", "elephant", "rhinoceros", "camel", "zebra", "bison", "dog", "goat", "deer", "duck",
)  # fmt: skip
EXCHANGED = 0.85
"""Share of the scenes by lamp light in which another thing of the place is the lamp."""
WIDEST = 0.3
"""Of the picture's edge: a lamp's width at most; aloft, the height too."""
_FROM = 2**40
"""First seed of layouts; neither those of evaluation nor of the world's own scenes in training come near it."""
_TRIES = 256


def by_lamp_light(seed: int) -> SpriteScene:
    """A clean scene with a lamp, mostly another thing that belongs there."""
    rng = np.random.default_rng((seed, 8))
    stage, lamp = _with(seed, lambda item: item.is_lamp)
    if lamp < 0 or rng.random() > EXCHANGED:
        return stage
    old, places = stage.items[lamp], {stage.place, "street"} if stage.place == "street at night" else {stage.place}
    names = [t.name for t in table().things if places.intersection(t.places) and t.support == "floor"]
    return _exchanged(stage, lamp, names, lambda new: min(old.h * float(rng.uniform(0.35, 1)), _widest(new)), rng)


@lru_cache(maxsize=1)  # asked for once to draw, once to know what stands in
def aloft(seed: int) -> SpriteScene:
    """A clean scene with one of FLYING in the sky, where it can only be of interest turned."""
    rng = np.random.default_rng((seed, 9))
    stage, flying = _with(seed, lambda item: item.thing == "helicopter")
    if flying < 0:
        return stage
    edge = max(stage.items[flying].h, stage.items[flying].w)
    return _exchanged(stage, flying, FLYING, lambda new: min(edge * new.h / max(new.h, new.w), WIDEST), rng)


def stand_ins(stage: SpriteScene) -> frozenset[str]:
    """Names of what stands in for another thing."""
    return frozenset(i.thing for i in stage.items if i.glows or (i.support == "air" != i.row.support))


def _with(seed: int, wanted: Callable[[SpriteItem], bool]) -> tuple[SpriteScene, int]:
    """A layout with such an item, and where that is among its items; -1 in the rare case that none was found."""
    for k in range(_FROM + seed * _TRIES, _FROM + (seed + 1) * _TRIES):
        stage = lay_out(k)
        for i, item in enumerate(stage.items):
            if wanted(item):
                return stage, i
    return stage, -1


def _exchanged(
    stage: SpriteScene, i: int, names: Sequence[str], height: Callable[[SpriteItem], float], rng: np.random.Generator
) -> SpriteScene:
    """With one of these things instead of item `i`; as it was where there is no room."""
    others = [item for j, item in enumerate(stage.items) if j != i]
    fit = [name for name in names if all(name != item.thing for item in others)]
    for _ in range(8):
        name = fit[int(rng.integers(len(fit)))]
        new = replace(stage.items[i], thing=name, glows=stage.items[i].is_lamp, state=())
        new = replace(new, h=height(new))
        if fits(new, others):
            return replace(stage, items=(*stage.items[:i], new, *stage.items[i + 1 :]))
    return stage


def _widest(item: SpriteItem) -> float:
    """Height at which it is as wide as may be."""
    return WIDEST * item.h / item.w
