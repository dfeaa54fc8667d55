"""Furniture built part by part: tables, chairs, lamps, a clock, a mirror, a bathtub, a fish tank.

The mesh follows from the name, the size (width, depth, height in metres) and the generator; parts have the names that
`things.toml` uses.

    >>> sorted(part.name for part in make("table", (0.5, 0.5, 0.5), WOOD, np.random.default_rng(1)))[-1]
    'top'
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from anomreason.scenes.rooms import textures as textures
from anomreason.scenes.rooms.meshes import (
    Colour,
    Finish,
    Floats,
    Mesh,
    MeshPart,
    Triple,
    box,
    disc,
    grid,
    rod,
    sheet,
    soft_box,
    turned,
)

WOOD = Finish((0.35, 0.19, 0.08), 0.45)
STEEL = Finish((0.55, 0.55, 0.56), 0.35, metal=0.8)
WHITE = Finish((0.8, 0.79, 0.76), 0.3)
BLACK = Finish((0.02, 0.02, 0.02), 0.35)
LIT = (7.0, 5.1, 3.0)
"""Radiance of a lit lampshade."""
Maker = Callable[[Triple, Finish, np.random.Generator], Mesh]


def legs(size: Triple, finish: Finish, thickness: float, inset: float = 0.03) -> list[MeshPart]:
    """Four legs, numbered from the left front one against the clock; `size` ends at their upper ends."""
    w, d, h = size[0] / 2 - inset - thickness / 2, size[1] / 2 - inset - thickness / 2, size[2]
    places = ((-w, -d), (w, -d), (w, d), (-w, d))
    return [box(f"leg {i + 1}", (x, y, h / 2), (thickness, thickness, h), finish) for i, (x, y) in enumerate(places)]


def table(size: Triple, finish: Finish, rng: np.random.Generator) -> Mesh:
    w, d, h = size
    thick = 0.035 if h > 0.55 else 0.03
    top = box("top", (0, 0, h - thick / 2), (w, d, thick), finish)
    apron = [
        box("frame", (0, s * (d / 2 - 0.07), h - thick - 0.035), (w - 0.16, 0.02, 0.07), finish) for s in (-1, 1)
    ] + [box("frame", (s * (w / 2 - 0.07), 0, h - thick - 0.035), (0.02, d - 0.16, 0.07), finish) for s in (-1, 1)]
    return (top, *legs((w, d, h - thick), finish, 0.06 if h > 0.55 else 0.05), *apron)


def chair(size: Triple, finish: Finish, rng: np.random.Generator) -> Mesh:
    w, d, h = size
    seat_h = 0.45
    cloth = replace(finish, colour=_cloth(rng), roughness=0.9)
    seat = soft_box("seat", (0, 0, seat_h), (w, d, 0.07), cloth, power=8)
    x, y = w / 2 - 0.03, d / 2
    posts = [rod("back", (s * x, y - 0.03, seat_h), (s * x, y + 0.04, h), 0.018, finish) for s in (-1, 1)]
    slats = [
        box("back", (0, d / 2 + 0.0 + 0.028 * k, seat_h + 0.2 + 0.12 * k), (w - 0.06, 0.018, 0.06), finish)
        for k in range(2)
    ]
    rail = box("back", (0, d / 2 + 0.036, h - 0.05), (w - 0.02, 0.025, 0.1), finish)
    return (seat, *legs((w, d, seat_h - 0.02), finish, 0.04, 0.01), *posts, *slats, rail)


def _cloth(rng: np.random.Generator) -> Colour:
    choices = ((0.35, 0.05, 0.05), (0.06, 0.13, 0.3), (0.08, 0.22, 0.12), (0.55, 0.5, 0.4), (0.2, 0.2, 0.22))
    return choices[int(rng.integers(len(choices)))]


def cabinet(size: Triple, finish: Finish, rng: np.random.Generator) -> Mesh:
    """A chest with drawers on short legs."""
    w, d, h = size
    rows, columns = max(1, round((h - 0.12) / 0.22)), max(1, round(w / 0.6))
    body = box("body", (0, 0.01, (h - 0.12) / 2 + 0.12), (w, d - 0.02, h - 0.12), finish)
    parts = [body, *legs((w, d, 0.12), finish, 0.05)]
    red, green, blue = (min(0.85, c * 1.25 + 0.01) for c in finish.colour)
    front = replace(finish, colour=(red, green, blue))
    high, wide = (h - 0.12 - 0.03) / rows, (w - 0.03) / columns
    for i in range(rows):
        for j in range(columns):
            x, z = -w / 2 + 0.015 + wide * (j + 0.5), 0.135 + high * (i + 0.5)
            parts.append(box("drawer", (x, -d / 2 + 0.005, z), (wide - 0.015, 0.02, high - 0.015), front))
            parts.append(soft_box("handle", (x, -d / 2 - 0.015, z), (0.1, 0.02, 0.02), STEEL))
    return tuple(parts)


def lamp_shade(name: str, low: float, high: float, bottom: float, top: float) -> MeshPart:
    body = turned(name, [(low, bottom), (high, top)], Finish((0.7, 0.62, 0.5), 0.9, emission=LIT))
    return replace(body, smooth=True)


def table_lamp(size: Triple, finish: Finish, rng: np.random.Generator) -> Mesh:
    w, _, h = size
    base = turned("foot", [(1e-4, 0), (w * 0.24, 0), (w * 0.24, 0.02), (w * 0.08, 0.04), (w * 0.16, h * 0.2),
                           (w * 0.14, h * 0.34), (0.012, h * 0.46), (0.012, h * 0.62)], finish)  # fmt: skip
    return base, lamp_shade("shade", w / 2, w * 0.34, h * 0.56, h)


def floor_lamp(size: Triple, finish: Finish, rng: np.random.Generator) -> Mesh:
    w, _, h = size
    foot = turned("foot", [(1e-4, 0), (w * 0.38, 0), (w * 0.38, 0.025), (0.014, 0.04), (0.014, h - 0.25)], STEEL)
    return foot, lamp_shade("shade", w / 2, w * 0.36, h - 0.32, h)


def pendant(size: Triple, finish: Finish, rng: np.random.Generator) -> Mesh:
    w, _, h = size
    cord = rod("cord", (0, 0, 0.2), (0, 0, h), 0.006, BLACK)
    cap = turned("cap", [(1e-4, 0.2), (0.05, 0.2), (0.05, 0.26), (1e-4, 0.28)], STEEL)
    return cord, cap, lamp_shade("shade", w / 2, w * 0.22, 0.0, 0.21)


def framed(size: Triple, frame: Finish, face: Finish, border: float) -> list[MeshPart]:
    """A picture or mirror: its back on y = depth / 2, looking to -y."""
    w, d, h = size
    bars = [box("frame", (s * (w - border) / 2, 0, h / 2), (border, d, h), frame) for s in (-1, 1)]
    bars += [box("frame", (0, 0, z), (w, d, border), frame) for z in (border / 2, h - border / 2)]
    surface = sheet("face", (-w / 2 + border, -d * 0.1, border), (w - 2 * border, 0, 0), (0, 0, h - 2 * border), face)
    return [*bars, box("back", (0, d * 0.3, h / 2), (w - border, d * 0.35, h - border), frame), surface]


def picture(size: Triple, finish: Finish, rng: np.random.Generator) -> Mesh:
    face = Finish((0.5, 0.5, 0.5), 0.6, texture=textures.painting(rng))
    return tuple(framed(size, finish, face, 0.035))


def mirror(size: Triple, finish: Finish, rng: np.random.Generator) -> Mesh:
    return tuple(framed(size, finish, Finish((0.9, 0.9, 0.9), 0.02, mirror=True), 0.035))


def clock(size: Triple, finish: Finish, rng: np.random.Generator) -> Mesh:
    hour, minute = int(rng.integers(1, 12)), int(rng.choice([0, 5, 10, 20, 25, 35, 40, 50]))
    hands = ((((hour + minute / 60) / 12) % 1, 0.42), (minute / 60, 0.78))
    face = textures.dial(textures.ARABIC, hands)
    return clock_with(size, finish, face)


def clock_with(size: Triple, finish: Finish, face: textures.Pixels) -> Mesh:
    w, d, h = size
    rim = turned("rim", [(1e-4, 0), (w / 2, 0), (w / 2, d), (w / 2 - 0.02, d), (w / 2 - 0.025, d * 0.6)], finish)
    plate = disc("dial", w / 2 - 0.02, Finish((0.9, 0.9, 0.9), 0.5, texture=face), (0, 0, d * 0.65), columns=48)
    # Laid down, looking up; stood up it looks to -y with its twelve upwards.
    turn = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=float)
    shift = np.array([0, d / 2, h / 2])
    return tuple(replace(p, vertices=p.vertices @ turn.T + shift) for p in (rim, plate))


def bathtub(size: Triple, finish: Finish, rng: np.random.Generator) -> Mesh:
    w, d, h = size
    rim, floor = 0.05, 0.14
    outer = soft_box("body", (0, 0, h * 0.5), (w, d, h), WHITE, power=10)
    shell = replace(outer, vertices=np.minimum(outer.vertices, [9, 9, h * 0.93]))
    points = soft_box("body", (0, 0, h), (w - 2 * rim, d - 2 * rim, 2 * (h - floor)), WHITE, power=5)
    inner = replace(points, vertices=np.minimum(points.vertices, [9, 9, h * 0.932]))
    lip = [box("body", (0, s * (d / 2 - 0.03), h * 0.945), (w, 0.075, 0.045), WHITE) for s in (-1, 1)]
    lip += [box("body", (s * (w / 2 - 0.035), 0, h * 0.945), (0.085, d, 0.045), WHITE) for s in (-1, 1)]
    tap = [rod("tap", (w / 2 - 0.06, 0, h * 0.95), (w / 2 - 0.06, 0, h + 0.1), 0.018, STEEL),
           rod("tap", (w / 2 - 0.05, 0, h + 0.09), (w / 2 - 0.2, 0, h + 0.07), 0.015, STEEL)]  # fmt: skip
    hollow = _open_top(shell, inner, h * 0.925)
    return (*hollow, *lip, *tap)


def _open_top(shell: MeshPart, inner: MeshPart, height: float) -> list[MeshPart]:
    """Both without the lids that clipping at a height has left."""
    out = []
    for part in (shell, inner):
        lid = (part.corners[:, :, 2] > height).all(axis=1)
        out.append(replace(part, faces=part.faces[~lid]))
    return out


def rug(size: Triple, finish: Finish, rng: np.random.Generator) -> Mesh:
    w, d, h = size
    colours = ((120, 40, 36), (44, 66, 100), (150, 130, 100), (70, 90, 70), (190, 180, 160), (90, 60, 50))
    a, b = rng.permutation(len(colours))[:2]
    face = Finish((0.4, 0.2, 0.2), 0.95, texture=textures.rug(rng, colours[int(a)], colours[int(b)]))
    body = box("body", (0, 0, h / 2), (w, d, h * 0.9), Finish((0.3, 0.25, 0.2), 0.95))
    return body, sheet("face", (-w / 2, -d / 2, h), (w, 0, 0), (0, d, 0), face)


def fish_tank(size: Triple, finish: Finish, rng: np.random.Generator) -> Mesh:
    """A box of clear glass with sand and blue water, empty above; `water_in` redraws the water."""
    w, d, h = size
    # Clear glass is not drawn: the panes would take light from what is inside and show nothing.
    edges = [box("rim", (sx * w / 2, sy * d / 2, h / 2), (0.014, 0.014, h), BLACK) for sx in (-1, 1) for sy in (-1, 1)]
    edges += [box("rim", (0, s * d / 2, z), (w + 0.014, 0.014, 0.014), BLACK) for s in (-1, 1) for z in (0.007, h)]
    edges += [box("rim", (s * w / 2, 0, z), (0.014, d, 0.014), BLACK) for s in (-1, 1) for z in (0.007, h)]
    sand = box("sand", (0, 0, 0.035), (w - 0.02, d - 0.02, 0.06), Finish((0.55, 0.42, 0.22), 0.95))
    return (*edges, sand, water_in((w, d, h), 0.0))


def water_in(size: Triple, slope: float) -> MeshPart:
    """The water of a tank; slope: rise of its surface over the width, as a share of the height."""
    w, d, h = size[0] - 0.02, size[1] - 0.02, size[2]
    body = box("water", (0, 0, 0.065 + h * 0.28), (w, d, h * 0.56), Finish((0.02, 0.24, 0.55), 0.2))
    top: Floats = body.vertices.copy()
    high = top[:, 2] > h * 0.3
    top[high, 2] += slope * h * top[high, 0] / w
    return replace(body, vertices=top)


def books(size: Triple, finish: Finish, rng: np.random.Generator) -> Mesh:
    """A row of books."""
    w, d, h = size
    parts: list[MeshPart] = []
    x = -w / 2
    while x < w / 2 - 0.02:
        thick = min(float(rng.uniform(0.022, 0.05)), w / 2 - x)
        high = h * float(rng.uniform(0.78, 1.0))
        red, green, blue = (float(c) for c in rng.choice(_SPINES))
        deep = d * float(rng.uniform(0.85, 1.0))
        parts.append(
            box(
                "book",
                (x + thick / 2, (d - deep) / 2, high / 2),
                (thick - 0.002, deep, high),
                Finish((red, green, blue), 0.6),
            )
        )
        x += thick
    return tuple(parts)


_SPINES = np.array([[0.3, 0.04, 0.04], [0.04, 0.1, 0.3], [0.05, 0.2, 0.1], [0.55, 0.45, 0.25], [0.12, 0.12, 0.13],
                    [0.5, 0.2, 0.05], [0.6, 0.6, 0.55], [0.25, 0.12, 0.3]])  # fmt: skip


def vase(size: Triple, finish: Finish, rng: np.random.Generator) -> Mesh:
    w, _, h = size
    r = w / 2
    profile = [(1e-4, 0), (r * 0.55, 0), (r * 0.95, h * 0.3), (r, h * 0.45), (r * 0.75, h * 0.7), (r * 0.38, h * 0.85),
               (r * 0.5, h), (r * 0.42, h), (r * 0.3, h * 0.86), (r * 0.6, h * 0.7)]  # fmt: skip
    return (turned("body", profile, finish),)


def bananas(size: Triple, finish: Finish, rng: np.random.Generator) -> Mesh:
    """A bowl of bananas."""
    w, _, h = size
    r = w / 2
    bowl = turned(
        "bowl",
        [
            (1e-4, 0),
            (r * 0.5, 0),
            (r * 0.85, h * 0.3),
            (r, h * 0.6),
            (r * 0.95, h * 0.6),
            (r * 0.5, h * 0.12),
            (1e-4, h * 0.1),
        ],
        WHITE,
    )
    parts = [bowl]
    for k in range(3):
        parts.append(
            _banana("fruit", (0.0, (k - 1) * r * 0.42, h * (0.62 + 0.06 * (k == 1))), r * 1.55, 0.022 + w * 0.03)
        )
    return tuple(parts)


def _banana(name: str, middle: Triple, length: float, radius: float) -> MeshPart:
    columns, rows = 12, 14
    t = np.linspace(-1, 1, rows + 1)
    centre = np.stack([t * length / 2, np.zeros(rows + 1), 0.34 * length * (t**2 - 0.5)], axis=1)
    thick = radius * np.maximum(0.12, (1 - np.abs(t) ** 6)) * (0.85 + 0.15 * np.cos(t * 2))
    u = np.linspace(0, 2 * np.pi, columns, endpoint=False)
    up = np.stack([-1.36 * t, np.zeros(rows + 1), np.ones(rows + 1)], axis=1)
    up /= np.linalg.norm(up, axis=1, keepdims=True)
    rings = centre[:, None] + thick[:, None, None] * (
        np.cos(u)[None, :, None] * up[:, None] + np.sin(u)[None, :, None] * np.array([0, 1.0, 0])
    )
    return MeshPart(name, rings.reshape(-1, 3) + np.array(middle), grid(rows, columns), Finish((0.75, 0.5, 0.03), 0.5))


OUTSIDE = (2.2, 2.3, 2.5)
"""Radiance of white in the view from a window by day."""


def window(size: Triple, finish: Finish, rng: np.random.Generator) -> Mesh:
    """A frame with a cross and a sill; the view behind it gives light."""
    w, d, h = size
    face = Finish((0.02, 0.02, 0.02), 0.2, texture=textures.landscape(rng, 256), emission=OUTSIDE)
    bars = [
        box("cross", (0, 0, h / 2), (0.045, d * 0.7, h), finish),
        box("cross", (0, 0, h * 0.62), (w, d * 0.6, 0.04), finish),
    ]
    sill = box("sill", (0, -d * 0.8, 0), (w + 0.12, d * 2.4, 0.035), finish)
    return (*framed(size, finish, face, 0.06), *bars, sill)


def shelf(size: Triple, finish: Finish, rng: np.random.Generator) -> Mesh:
    """A board on the wall."""
    w, d, h = size
    return (box("board", (0, 0, h / 2), (w, d, h), finish),)


MAKERS: dict[str, Maker] = {
    "table": table, "chair": chair, "cabinet": cabinet, "table lamp": table_lamp, "floor lamp": floor_lamp,
    "pendant": pendant, "picture": picture, "mirror": mirror, "clock": clock, "bathtub": bathtub, "rug": rug,
    "fish tank": fish_tank, "books": books, "vase": vase, "fruit": bananas, "shelf": shelf, "window": window,
}  # fmt: skip


def make(name: str, size: Triple, finish: Finish, rng: np.random.Generator) -> Mesh:
    """What `name` calls, in the middle of z = 0."""
    return MAKERS[name](size, finish, rng)
