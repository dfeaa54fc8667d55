"""Lays out clean scenes: which place, which objects, where they stand and how large they appear. Only the seed counts.

[item.thing for item in lay_out(7).items]
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from anomreason.scenes.sprites.drawings import State
from anomreason.scenes.sprites.scene import SpriteItem, SpriteScene, Sun, drawn_height, grown
from anomreason.scenes.sprites.sprite import aspect
from anomreason.scenes.sprites.table import LOOKS, Place, Spot, SpriteThing, table
from anomreason.scenes.table import Box

SMALLEST, TALLEST, WIDEST = 0.145, 0.46, 0.5
"""Bounds of what is drawn: the larger edge at least, the height and the width at most."""
_ON_TABLE = 0.068
"""Smallest height of what stands on a table."""
_MOST = 6
MARGIN = 0.012
"""Between the boxes of two things."""
_TRIES = 14
_VARIETY = 4


@cache
def _looks() -> tuple[int, ...]:
    return tuple(i for i, look in enumerate(LOOKS) for _ in range(look.weight))


def lay_out(seed: int) -> SpriteScene:
    """The clean scene of a seed."""
    rng = np.random.default_rng((seed, 0))
    look_index = _looks()[int(rng.integers(len(_looks())))]
    look = LOOKS[look_index]
    side = 1 if rng.random() < 0.5 else -1
    sun = Sun(side * float(rng.uniform(0.45, 0.85)), float(rng.uniform(0.2, 0.32)), look.shadows)
    items: list[SpriteItem] = []
    if look.sky and rng.random() < 0.9:
        size = float(rng.uniform(0.1, 0.13))
        x = 0.5 - side * float(rng.uniform(0.24, 0.4))
        items.append(SpriteItem("sun", x, float(rng.uniform(0.15, 0.2)), size, "in the sky", "air"))
    wanted = int(rng.integers(3, _MOST))
    _furnish(look_index, items, wanted, rng)
    return SpriteScene(seed, look.name, look_index, look.horizon, look.camera_cm, sun, tuple(items))


def _furnish(index: int, items: list[SpriteItem], wanted: int, rng: np.random.Generator) -> None:
    """Puts things in, first some on which much can be wrong, until there are as many as wanted."""
    look = LOOKS[index]
    if look.name == "street at night":
        _put(look, look.spots[0], (table().named("street lamp"),), items, rng)
    if rng.random() < 0.8:
        _tell(index, items, rng)
    ground = [k for k, spot in enumerate(look.spots) if spot.share >= 1 and not spot.only]
    shares = _shares(index)
    for attempt in range(24):
        if len(items) >= _MOST or sum(item.thing != "sun" for item in items) >= wanted:
            return
        k = int(np.searchsorted(shares, rng.random(), side="right"))
        if attempt < 2:
            k = ground[int(rng.integers(len(ground)))]
        spot = look.spots[min(k, len(look.spots) - 1)]
        if spot.supports == ("air",) and any(i.support == "air" and i.thing != "sun" for i in items):
            continue
        _put(look, spot, _candidates(index, k)[attempt + 1 if attempt < 2 and rng.random() < 0.8 else 0], items, rng)
        if any(i.thing == "table" for i in items) and rng.random() < 0.7:
            _put_on_table(look, [t for t in _at(index) if t.support == "table"], items, rng)


def _tell(index: int, items: list[SpriteItem], rng: np.random.Generator) -> None:
    look, telling = LOOKS[index], [t for t in _at(index) if t.telling]
    if not telling:
        return
    row = telling[int(rng.integers(len(telling)))]
    spots = [s for s in look.spots if _suits(row, s)]
    if spots:
        _put(look, spots[0], (row,), items, rng)
        if row.name == "ramp":
            loose = tuple(t for t in _at(index) if t.rolls and _suits(t, spots[0]))
            _put(look, spots[0], loose, items, rng)
    elif row.support == "table":
        _put(look, look.spots[-1], (table().named("table"),), items, rng)
        _put_on_table(look, (row,), items, rng)


@cache
def _shares(index: int) -> tuple[float, ...]:
    shares = np.array([spot.share for spot in LOOKS[index].spots])
    return tuple(np.cumsum(shares / shares.sum()).tolist())


@cache
def _at(index: int) -> tuple[SpriteThing, ...]:
    """What belongs to a place as that camera sees it."""
    look = LOOKS[index]
    return tuple(t for t in table().at(look.name) if t.size_cm <= look.largest_cm and t.name != "sun")


@cache
def _candidates(index: int, spot: int) -> tuple[tuple[SpriteThing, ...], ...]:
    """What can stand in a spot; of these, what has a colour that can be wrong; what has parts that can be wrong.

    Where only few have that, all stand instead, so that a place does not always hold the same.
    """
    every = tuple(t for t in _at(index) if _suits(t, LOOKS[index].spots[spot]))
    coloured = tuple(t for t in every if t.never)
    parted = tuple(t for t in every if t.parts and (t.fuse or t.never or any(p.copy_at for p in t.parts)))
    return every, *(few if len(few) >= _VARIETY else every for few in (coloured, parted))


def _suits(row: SpriteThing, spot: Spot) -> bool:
    if spot.only:
        return row.name in spot.only
    return row.support in spot.supports and row.sort in spot.sorts and row.name not in ("table", "street lamp", "door")


def _put(
    look: Place, spot: Spot, rows: Sequence[SpriteThing], items: list[SpriteItem], rng: np.random.Generator
) -> None:
    """Adds one of these things there, if there is room."""
    there = {item.thing for item in items}
    rows = [row for row in rows if row.name not in there]
    boxes = [grown(item.box, MARGIN) for item in items]
    for _ in range(_TRIES if rows else 0):
        row = rows[int(rng.integers(len(rows)))]
        item = placed(look, spot, row, rng)
        if item is not None and clear(item.box, boxes):
            items.append(item)
            return


def placed(look: Place, spot: Spot, row: SpriteThing, rng: np.random.Generator) -> SpriteItem | None:
    """The thing somewhere in the spot; None when it would be seen too small or too large everywhere there."""
    y = float(rng.uniform(spot.far, spot.near))
    if row.support in ("air", "wall", "underwater"):
        height = _free_height(row, rng)
    else:
        height = drawn_height(row.size_cm, y - look.horizon, look.camera_cm)
        best = TALLEST if aspect(row.name) < 1 else min(TALLEST, WIDEST / aspect(row.name))
        if height > best and spot.near - spot.far > 0.2:
            y = look.horizon + (y - look.horizon) * best / height * float(rng.uniform(0.75, 1))
            height = drawn_height(row.size_cm, y - look.horizon, look.camera_cm)
    width = height * aspect(row.name)
    if not (spot.far - 1e-6 <= y <= spot.near + 1e-6):
        return None
    if max(width, height) < SMALLEST or height > TALLEST or width > WIDEST:
        return None
    x = float(rng.uniform(width / 2 + 0.015, 1 - width / 2 - 0.015))
    flip = bool(row.front) and bool(rng.random() < 0.5)
    support = spot.supports[0] if row.support not in ("air", "wall") else row.support
    return SpriteItem(row.name, x, y, height, spot.phrase, support, flip=flip, state=usual_state(row, look, rng))


def _free_height(row: SpriteThing, rng: np.random.Generator) -> float:
    """Of what has no foot on the ground, so that its distance is free."""
    vary = float(rng.uniform(0.9, 1.1))
    if row.support == "wall":
        return float(0.27 * (row.size_cm / 70) ** 0.5 * vary)
    if row.support == "underwater":
        return min(0.4, float(0.26 * (row.size_cm / 60) ** 0.3 * vary))
    return min(0.24, float(0.15 * (row.size_cm / 40) ** 0.12 * vary))


def usual_state(row: SpriteThing, look: Place, rng: np.random.Generator) -> State:
    if row.drawn == "sign":
        return ("word", look.words[int(rng.integers(len(look.words)))], "")
    if row.drawn == "clock":
        return ("time", int(rng.integers(5)))
    return ()


def fits(item: SpriteItem, items: Sequence[SpriteItem]) -> bool:
    """Whether it is wholly in the image and over nothing else."""
    return clear(item.box, [grown(other.box, MARGIN) for other in items])


def clear(box: Box, others: Sequence[Box]) -> bool:
    """Whether the box lies in the image and touches none of the others."""
    x0, y0, x1, y1 = box
    if x0 < 0.01 or y0 < 0.01 or x1 > 0.99 or y1 > 0.99:
        return False
    return all(x0 >= b[2] or x1 <= b[0] or y0 >= b[3] or y1 <= b[1] for b in others)


def _put_on_table(look: Place, rows: Sequence[SpriteThing], items: list[SpriteItem], rng: np.random.Generator) -> None:
    host = next((i for i, item in enumerate(items) if item.thing == "table"), -1)
    there = {item.thing for item in items}
    rows = [row for row in rows if row.name not in there]
    if host < 0 or not rows:
        return
    for _ in range(_TRIES):
        row = rows[int(rng.integers(len(rows)))]
        item = _on_table(look, items[host], host, row, rng)
        if item is not None and fits(item, [o for i, o in enumerate(items) if i != host]):
            items.append(item)
            return


def _on_table(
    look: Place, desk: SpriteItem, host: int, row: SpriteThing, rng: np.random.Generator
) -> SpriteItem | None:
    height = drawn_height(row.size_cm, desk.y - look.horizon, look.camera_cm)
    width = height * aspect(row.name)
    x0, y0, x1, _ = desk.box
    if height < _ON_TABLE or width > (x1 - x0) * 0.5:
        return None
    y = y0 + desk.h * 0.13
    x = float(rng.uniform(x0 + width / 2 + 0.04, x1 - width / 2 - 0.04))
    flip = bool(row.front) and bool(rng.random() < 0.5)
    state = usual_state(row, look, rng)
    return SpriteItem(row.name, x, y, height, "on the table", "table", flip=flip, state=state, host=host)
