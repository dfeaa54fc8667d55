"""The backgrounds of rooms.

Knows no things. Try it:

    living_room(256, 0.34, numpy.random.default_rng(0)).show()
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from anomreason.scenes.sprites.sheet import RGB, Sheet, mixed, roughened, varied

_WALLS: tuple[RGB, ...] = ((226, 214, 190), (196, 212, 206), (214, 204, 220), (232, 206, 188), (190, 206, 222))
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


def _wall(sheet: Sheet, low: float, rng: np.random.Generator) -> RGB:
    colour = varied(rng, _WALLS[int(rng.integers(len(_WALLS)))], 8)
    sheet.gradient(0, low, mixed(colour, WHITE, 0.2), mixed(colour, BLACK, 0.06))
    return colour


def _tiles(sheet: Sheet, low: float, edge: float, tile: RGB, joint: RGB, rng: np.random.Generator) -> None:
    """A wall of tiles."""
    sheet.gradient(0, low, mixed(tile, WHITE, 0.25), mixed(tile, BLACK, 0.05))
    for _ in range(7):
        column, row = int(rng.integers(int(1 / edge) + 1)), int(rng.integers(int(low / edge)))
        y = low - (row + 1) * edge
        sheet.rectangle(column * edge, max(y, 0), (column + 1) * edge, max(y + edge, 0), varied(rng, tile, 7))
    for i in range(int(1 / edge) + 2):
        sheet.line([(i * edge, 0), (i * edge, low)], 0.003, joint)
        sheet.line([(0, low - i * edge), (1, low - i * edge)], 0.003, joint)


def living_room(size: int, horizon: float, rng: np.random.Generator) -> Image.Image:
    sheet = Sheet(size)
    base = 0.64
    wall = _wall(sheet, base, rng)
    if rng.random() < 0.5:
        for i in range(13):
            sheet.rectangle(i * 0.08 + 0.01, 0, i * 0.08 + 0.04, base, mixed(wall, WHITE, 0.16))
    sheet.rectangle(0, base - 0.028, 1, base, mixed(wall, WHITE, 0.65))
    sheet.rectangle(0, base - 0.004, 1, base + 0.004, mixed(wall, BLACK, 0.45))
    wood = varied(rng, (186, 138, 92), 12)
    _boards(sheet, base, horizon, wood, rng)
    rug = varied(rng, ((150, 74, 80), (86, 110, 140), (120, 128, 84))[int(rng.integers(3))], 12)
    middle = float(rng.uniform(0.42, 0.58))
    for shrink, colour in ((0.0, rug), (0.03, mixed(rug, WHITE, 0.35)), (0.05, rug)):
        near, far = 0.36 - shrink, 0.25 - shrink
        points = [
            (middle - far, 0.74 + shrink / 3),
            (middle + far, 0.74 + shrink / 3),
            (middle + near, 0.93 - shrink / 2),
        ]
        sheet.polygon([*points, (middle - near, 0.93 - shrink / 2)], colour)
    return roughened(sheet.finished(), horizon, 0.05, int(rng.integers(256)), top=base)


def _boards(sheet: Sheet, base: float, horizon: float, wood: RGB, rng: np.random.Generator) -> None:
    """Floor boards that run away from the viewer."""
    stretch = (1 - horizon) / (base - horizon)
    sheet.gradient(base, 1, mixed(wood, BLACK, 0.1), wood)
    for i in range(-9, 9):
        a, b = i * 0.075, (i + 1) * 0.075
        shade = mixed(wood, WHITE if i % 2 else BLACK, float(rng.uniform(0, 0.1)))
        sheet.polygon([(0.5 + a, base), (0.5 + b, base), (0.5 + b * stretch, 1), (0.5 + a * stretch, 1)], shade)
        sheet.line([(0.5 + a, base), (0.5 + a * stretch, 1)], 0.003, mixed(wood, BLACK, 0.28))


def bathroom(size: int, horizon: float, rng: np.random.Generator) -> Image.Image:
    sheet = Sheet(size)
    base = 0.64
    tile = varied(rng, ((206, 226, 232), (222, 230, 216), (232, 222, 214))[int(rng.integers(3))], 6)
    _tiles(sheet, base, 0.107, tile, mixed(tile, WHITE, 0.7), rng)
    trim = varied(rng, (70, 140, 170), 14)
    sheet.rectangle(0, 0.235, 1, 0.262, trim)
    floor = varied(rng, (150, 164, 176), 10)
    sheet.gradient(base, 1, mixed(floor, BLACK, 0.12), floor)
    stretch, joint = (1 - horizon) / (base - horizon), mixed(floor, WHITE, 0.45)
    rows = [horizon + (base - horizon) / (1 - 0.13 * k) for k in range(6)]
    for row, (y0, y1) in enumerate(zip(rows, [*rows[1:], 1.1], strict=True)):
        for i in range(-7, 7):
            if (i + row) % 2:
                a0, b0 = (k * 0.11 * (y0 - horizon) / (base - horizon) + 0.5 for k in (i, i + 1))
                a1, b1 = (k * 0.11 * (y1 - horizon) / (base - horizon) + 0.5 for k in (i, i + 1))
                sheet.polygon([(a0, y0), (b0, y0), (b1, y1), (a1, y1)], mixed(floor, BLACK, 0.16))
    for i in range(-7, 8):
        sheet.line([(0.5 + i * 0.11, base), (0.5 + i * 0.11 * stretch, 1)], 0.003, joint)
    sheet.rectangle(0, base - 0.006, 1, base + 0.003, mixed(floor, BLACK, 0.4))
    return roughened(sheet.finished(), horizon, 0.03, int(rng.integers(256)), top=base)


def kitchen(size: int, horizon: float, rng: np.random.Generator) -> Image.Image:
    sheet = Sheet(size)
    tile = varied(rng, ((236, 234, 226), (214, 228, 222), (240, 224, 204))[int(rng.integers(3))], 6)
    _tiles(sheet, 0.6, 0.12, tile, mixed(tile, BLACK, 0.14), rng)
    top = varied(rng, ((196, 190, 184), (150, 110, 78), (120, 124, 130))[int(rng.integers(3))], 8)
    _worktop(sheet, top)
    door = varied(rng, (226, 222, 214), 8)
    sheet.rectangle(0, 0.985, 1, 1, mixed(door, BLACK, 0.3))
    return roughened(sheet.finished(), horizon, 0.07, int(rng.integers(256)), top=0.6)


def _worktop(sheet: Sheet, top: RGB) -> None:
    sheet.gradient(0.6, 0.955, mixed(top, BLACK, 0.14), mixed(top, WHITE, 0.1))
    sheet.rectangle(0, 0.594, 1, 0.602, mixed(top, BLACK, 0.45))
    sheet.rectangle(0, 0.955, 1, 0.962, mixed(top, WHITE, 0.5))
    sheet.rectangle(0, 0.962, 1, 0.985, mixed(top, BLACK, 0.25))


def desk(size: int, horizon: float, rng: np.random.Generator) -> Image.Image:
    sheet = Sheet(size)
    _wall(sheet, 0.6, rng)
    wood = varied(rng, ((176, 124, 78), (140, 92, 60), (206, 170, 124))[int(rng.integers(3))], 9)
    _worktop(sheet, wood)
    grain = mixed(wood, BLACK, 0.1)
    for y, x, length in zip(
        rng.uniform(0.61, 0.95, 26), rng.uniform(-0.2, 1, 26), rng.uniform(0.15, 0.5, 26), strict=True
    ):
        sheet.line([(x, y), (x + length, y + 0.002)], 0.002, grain)
    sheet.rectangle(0, 0.985, 1, 1, mixed(wood, BLACK, 0.6))
    return roughened(sheet.finished(), horizon, 0.04, int(rng.integers(256)), top=0.6)
