"""The painted backgrounds of the sprites world. All coordinates are fractions of the edge.

A painter takes the size, the horizon of the place and a generator of its own, so that the background of a scene depends
on nothing else. It paints at twice the size and reduces, so that edges are smooth.

    meadow(256, 0.44, numpy.random.default_rng(0)).show()
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

RGB = tuple[int, int, int]
Points = Sequence[tuple[float, float]]
_OVER = 2
_TILE = 256


class Sheet:
    """A background while it is painted."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._edge = size * _OVER
        self._image = Image.new("RGB", (self._edge, self._edge))
        self._pen = ImageDraw.Draw(self._image)

    def gradient(self, y0: float, y1: float, top: RGB, bottom: RGB) -> None:
        """Fills the strip between two heights."""
        first = round(y0 * self._edge)
        last = max(first + 1, round(y1 * self._edge))
        t = np.linspace(0, 1, last - first)[:, None]
        rows = np.asarray(top) * (1 - t) + np.asarray(bottom) * t
        strip = Image.fromarray(np.round(rows).astype(np.uint8)[:, None, :])
        self._image.paste(strip.resize((self._edge, last - first), Image.Resampling.NEAREST), (0, first))

    def polygon(self, points: Points, fill: RGB) -> None:
        self._pen.polygon([(x * self._edge, y * self._edge) for x, y in points], fill=fill)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, fill: RGB) -> None:
        left, top, right, bottom = (round(v * self._edge) for v in (x0, y0, x1, y1))
        self._pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), fill=fill)

    def ellipse(self, x0: float, y0: float, x1: float, y1: float, fill: RGB) -> None:
        self._pen.ellipse((x0 * self._edge, y0 * self._edge, x1 * self._edge, y1 * self._edge), fill=fill)

    def line(self, points: Points, width: float, fill: RGB) -> None:
        thick = max(1, round(width * self._edge))
        self._pen.line([(x * self._edge, y * self._edge) for x, y in points], fill=fill, width=thick)

    def finished(self) -> Image.Image:
        return self._image.reduce(_OVER)


def hills(rng: np.random.Generator, base: float, height: float, waves: float) -> Points:
    """The outline of a ridge, down to the image's lower edge."""
    x = np.linspace(0, 1, 25)
    phase, tilt = rng.uniform(0, 6.28, 2)
    y = np.sin(x * waves + phase) + 0.45 * np.sin(x * waves * 2.3 + tilt)
    y = base - height * (0.5 + 0.34 * y)
    return [(0.0, 1.0), *zip(x.tolist(), y.tolist(), strict=True), (1.0, 1.0)]


def mixed(a: RGB, b: RGB, share: float) -> RGB:
    """a, with that share of b."""
    mix = [round(p + (q - p) * share) for p, q in zip(a, b, strict=True)]
    return mix[0], mix[1], mix[2]


def varied(rng: np.random.Generator, colour: RGB, by: int) -> RGB:
    """A colour near to it."""
    shift = rng.integers(-by, by + 1, 3)
    new = [int(min(255, max(0, c + s))) for c, s in zip(colour, shift.tolist(), strict=True)]
    return new[0], new[1], new[2]


@cache
def _tile(streaks: bool) -> NDArray[np.int16]:
    """A seamless patch of roughness about 0; (256, 256)."""
    rng = np.random.default_rng(20_240)
    total: NDArray[np.float32] = np.zeros((_TILE, _TILE), dtype=np.float32)
    for step, weight in ((32, 1.0), (16, 0.9), (8, 0.8), (4, 0.7)):
        cells = rng.standard_normal((_TILE // step, _TILE // (step * (4 if streaks else 1)) or 1))
        patch = np.tile(cells, (3, 3)).astype(np.float32)
        image = Image.fromarray(patch).resize((3 * _TILE, 3 * _TILE), Image.Resampling.BICUBIC)
        total += weight * np.asarray(image)[_TILE : 2 * _TILE, _TILE : 2 * _TILE]
    tile: NDArray[np.int16] = np.round(total / total.std() * 40).astype(np.int16)
    return tile


@lru_cache(maxsize=32)
def _ground(size: int, horizon: float) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """For each pixel below the horizon: column and row in the tile, and how near it is (0 at the horizon, 1 below)."""
    first = round(horizon * size) + 1
    depth = (np.arange(first, size) + 0.5) / size - horizon
    near = (depth / (1 - horizon)).astype(np.float32)
    x = (np.arange(size) + 0.5) / size - 0.5
    u = (x[None, :] / depth[:, None]) * 55
    v = np.broadcast_to((40.0 / depth)[:, None], u.shape)
    return u.astype(np.int32), v.astype(np.int32), near


def roughened(
    image: Image.Image, horizon: float, strength: float, seed: int, streaks: bool = False, top: float = 0.0
) -> Image.Image:
    """The ground below the horizon (and below `top`) with a rough surface that gets finer with distance."""
    u, v, near = _ground(image.width, horizon)
    skip = max(0, round(top * image.width) - (image.width - u.shape[0]))
    du, dv = seed * 37 % _TILE, seed * 91 % _TILE
    rough = _tile(streaks)[(v[skip:] + dv) % _TILE, (u[skip:] + du) % _TILE]
    fade = (strength * np.minimum(1, near[skip:] * 4 + 0.15))[:, None]
    change = Image.fromarray(np.uint8(np.clip(rough * fade + 128, 0, 255)))
    whole = Image.new("L", image.size, 128)
    whole.paste(change, (0, image.height - change.height))
    return ImageChops.add(image, Image.merge("RGB", (whole, whole, whole)), 1, -128)


_SKIES: tuple[tuple[RGB, RGB], ...] = (
    ((86, 158, 232), (206, 230, 248)),
    ((110, 176, 236), (232, 240, 246)),
    ((72, 140, 214), (226, 226, 232)),
    ((120, 170, 224), (250, 232, 214)),
)


def _sky(sheet: Sheet, horizon: float, rng: np.random.Generator) -> RGB:
    """Returns its colour at the horizon, which is the colour of haze."""
    top, low = _SKIES[int(rng.integers(len(_SKIES)))]
    low = varied(rng, low, 6)
    sheet.gradient(0, horizon + 0.02, varied(rng, top, 10), low)
    return low


def street(size: int, horizon: float, rng: np.random.Generator) -> Image.Image:
    sheet = Sheet(size)
    haze = _sky(sheet, 0.5, rng)
    _skyline(sheet, haze, rng)
    slab = varied(rng, (176, 172, 166), 8)
    asphalt = varied(rng, (92, 94, 102), 8)
    sheet.gradient(0.485, 0.55, mixed(slab, haze, 0.25), slab)
    sheet.rectangle(0, 0.55, 1, 0.562, mixed(slab, (255, 255, 255), 0.35))
    sheet.gradient(0.562, 0.745, mixed(asphalt, haze, 0.14), asphalt)
    for i in range(-1, 9):
        x = i * 0.15 + 0.03
        lower, upper = 0.5 + (x - 0.5) * 1.05, 0.5 + (x - 0.5)
        points = [(upper, 0.641), (upper + 0.08, 0.641), (lower + 0.086, 0.652), (lower, 0.652)]
        sheet.polygon(points, (226, 222, 206))
    sheet.rectangle(0, 0.745, 1, 0.757, mixed(slab, (255, 255, 255), 0.4))
    sheet.rectangle(0, 0.757, 1, 0.772, mixed(slab, (0, 0, 0), 0.3))
    sheet.gradient(0.772, 1, mixed(slab, haze, 0.1), mixed(slab, (0, 0, 0), 0.06))
    joint = mixed(slab, (0, 0, 0), 0.16)
    for i in range(-9, 10):
        far, near = 0.5 + i * 0.095, 0.5 + i * 0.095 * (1 - horizon) / (0.772 - horizon)
        sheet.line([(far, 0.772), (near, 1.0)], 0.0025, joint)
    for y in (0.812, 0.866, 0.94):
        sheet.line([(0, y), (1, y)], 0.0025, joint)
    return roughened(sheet.finished(), horizon, 0.09, int(rng.integers(256)), top=0.485)


def _skyline(sheet: Sheet, haze: RGB, rng: np.random.Generator) -> None:
    """A row of distant blocks with windows."""
    x = -0.04
    while x < 1:
        width, top = float(rng.uniform(0.09, 0.17)), float(rng.uniform(0.22, 0.37))
        wall = mixed(varied(rng, (172, 158, 160), 22), haze, 0.5)
        sheet.rectangle(x, top, x + width, 0.487, wall)
        glass = mixed(wall, (90, 120, 160), 0.35)
        columns = int(width / 0.032)
        for row in range(int((0.47 - top) / 0.042)):
            for column in range(columns):
                left, upper = x + 0.011 + column * 0.032, top + 0.018 + row * 0.042
                sheet.rectangle(left, upper, left + 0.014, upper + 0.02, glass)
        x += width


def meadow(size: int, horizon: float, rng: np.random.Generator) -> Image.Image:
    sheet = Sheet(size)
    haze = _sky(sheet, horizon, rng)
    grass = varied(rng, (106, 168, 74), 12)
    sheet.polygon(hills(rng, horizon + 0.03, 0.14, 5.0), mixed(grass, haze, 0.62))
    sheet.polygon(hills(rng, horizon + 0.03, 0.08, 8.0), mixed(grass, haze, 0.4))
    sheet.gradient(horizon + 0.01, 1, mixed(grass, haze, 0.2), mixed(grass, (30, 80, 20), 0.22))
    middle = float(rng.uniform(0.3, 0.7))
    path = mixed(varied(rng, (206, 182, 138), 8), grass, 0.25)
    far = horizon + 0.012
    sheet.polygon([(middle - 0.004, far), (middle + 0.004, far), (middle + 0.16, 1.0), (middle - 0.2, 1.0)], path)
    return roughened(sheet.finished(), horizon, 0.2, int(rng.integers(256)))


def meadow_close(size: int, horizon: float, rng: np.random.Generator) -> Image.Image:
    sheet = Sheet(size)
    haze = _sky(sheet, horizon + 0.06, rng)
    grass = varied(rng, (112, 176, 78), 12)
    sheet.polygon(hills(rng, horizon + 0.05, 0.16, 4.0), mixed(grass, haze, 0.45))
    sheet.gradient(horizon + 0.03, 1, mixed(grass, haze, 0.12), mixed(grass, (30, 80, 20), 0.25))
    image = roughened(sheet.finished(), horizon - 0.02, 0.26, int(rng.integers(256)), top=horizon + 0.03)
    blades = Image.new("L", (2 * size, 2 * size))
    pen = ImageDraw.Draw(blades)
    places, lengths, bends = rng.uniform(0, 1, 60), rng.uniform(0.02, 0.055, 60), rng.uniform(-0.012, 0.012, 60)
    for i, (x, length, bend) in enumerate(zip(places.tolist(), lengths.tolist(), bends.tolist(), strict=True)):
        y = horizon + 0.05 + (0.95 - horizon) * (i / 60)
        tip = (2 * size * (x + bend), 2 * size * (y - length * (0.4 + i / 60)))
        pen.polygon([(2 * size * (x - 0.003), 2 * size * y), (2 * size * (x + 0.003), 2 * size * y), tip], fill=150)
    image.paste(mixed(grass, (20, 90, 20), 0.5), (0, 0), blades.reduce(2))
    return image


def savanna(size: int, horizon: float, rng: np.random.Generator) -> Image.Image:
    sheet = Sheet(size)
    haze = _sky(sheet, horizon, rng)
    grass = varied(rng, (206, 174, 92), 10)
    sheet.polygon(hills(rng, horizon + 0.02, 0.07, 4.0), mixed((120, 130, 130), haze, 0.6))
    sheet.gradient(horizon, 1, mixed(grass, haze, 0.3), mixed(grass, (120, 80, 20), 0.22))
    leaf = mixed((104, 122, 62), haze, 0.35)
    for x in rng.uniform(0.02, 0.98, 5).tolist():
        height = float(rng.uniform(0.035, 0.06))
        sheet.rectangle(x - 0.003, horizon - height, x + 0.003, horizon + 0.012, mixed(leaf, (60, 40, 20), 0.4))
        sheet.ellipse(x - height * 0.9, horizon - height * 1.2, x + height * 0.9, horizon - height * 0.7, leaf)
    return roughened(sheet.finished(), horizon, 0.22, int(rng.integers(256)))


def desert(size: int, horizon: float, rng: np.random.Generator) -> Image.Image:
    sheet = Sheet(size)
    haze = mixed(_sky(sheet, horizon, rng), (250, 224, 178), 0.4)
    sand = varied(rng, (228, 188, 124), 9)
    for height, share in ((0.15, 0.5), (0.09, 0.3)):
        sheet.polygon(hills(rng, horizon + 0.03, height, 3.5), mixed(sand, haze, share))
    sheet.gradient(horizon + 0.015, 1, mixed(sand, haze, 0.16), mixed(sand, (170, 110, 50), 0.2))
    return roughened(sheet.finished(), horizon, 0.13, int(rng.integers(256)), streaks=True)


def snow_field(size: int, horizon: float, rng: np.random.Generator) -> Image.Image:
    sheet = Sheet(size)
    haze = _sky(sheet, horizon, rng)
    snow = varied(rng, (238, 243, 250), 4)
    sheet.polygon(hills(rng, horizon + 0.03, 0.2, 6.0), mixed((170, 186, 210), haze, 0.4))
    ridge = hills(rng, horizon + 0.02, 0.08, 5.0)
    sheet.polygon(ridge, mixed(snow, (150, 180, 220), 0.22))
    dark = mixed((70, 100, 96), haze, 0.35)
    for x in rng.uniform(0, 1, 9).tolist():
        y = horizon + 0.015
        sheet.polygon([(x - 0.016, y), (x + 0.016, y), (x, y - 0.06)], dark)
    sheet.gradient(horizon + 0.01, 1, mixed(snow, (170, 196, 232), 0.3), snow)
    return roughened(sheet.finished(), horizon, 0.09, int(rng.integers(256)), streaks=True)


def _waves(sheet: Sheet, first: float, last: float, horizon: float, light: RGB, rng: np.random.Generator) -> None:
    """Short crests, longer and farther apart the nearer they are."""
    for _ in range(70):
        near = float(rng.uniform(0.03, 1)) ** 1.6
        y, x, length = (
            first + (last - first) * near,
            float(rng.uniform(-0.1, 1)),
            0.03 + 0.16 * (first - horizon + near),
        )
        sheet.line([(x, y), (x + length / 2, y - 0.002 - 0.004 * near), (x + length, y)], 0.0016 + 0.003 * near, light)


def beach(size: int, horizon: float, rng: np.random.Generator) -> Image.Image:
    sheet = Sheet(size)
    haze = _sky(sheet, horizon, rng)
    water, sand = varied(rng, (44, 142, 196), 12), varied(rng, (236, 212, 162), 8)
    sheet.gradient(horizon, 0.54, mixed(water, haze, 0.3), mixed(water, (90, 210, 210), 0.4))
    _waves(sheet, horizon + 0.01, 0.52, horizon, mixed(water, (255, 255, 255), 0.35), rng)
    sheet.gradient(0.535, 1, mixed(sand, (150, 110, 60), 0.14), sand)
    phase = float(rng.uniform(0, 6.28))
    x = np.linspace(0, 1, 30)
    for lift, colour in (
        (0.0, mixed(sand, (120, 90, 60), 0.3)),
        (-0.012, (250, 252, 252)),
        (-0.02, mixed(water, (90, 210, 210), 0.4)),
    ):
        edge = 0.558 + lift + 0.006 * np.sin(x * 14 + phase) + 0.004 * np.sin(x * 31)
        shore = list(zip(x.tolist(), edge.tolist(), strict=True))
        sheet.polygon([(0, 0.532), *shore, (1, 0.532)], colour)
    return roughened(sheet.finished(), horizon, 0.12, int(rng.integers(256)), top=0.57)


def open_sea(size: int, horizon: float, rng: np.random.Generator) -> Image.Image:
    sheet = Sheet(size)
    haze = _sky(sheet, horizon, rng)
    water = varied(rng, (30, 104, 168), 14)
    sheet.gradient(horizon, 1, mixed(water, haze, 0.4), mixed(water, (8, 40, 90), 0.35))
    _waves(sheet, horizon + 0.01, 1.0, horizon, mixed(water, (255, 255, 255), 0.3), rng)
    return roughened(sheet.finished(), horizon, 0.14, int(rng.integers(256)), streaks=True)


def lake_shore(size: int, horizon: float, rng: np.random.Generator) -> Image.Image:
    sheet = Sheet(size)
    haze = _sky(sheet, horizon + 0.1, rng)
    grass = varied(rng, (104, 158, 82), 10)
    sheet.polygon(hills(rng, 0.47, 0.24, 4.5), mixed((112, 138, 160), haze, 0.5))
    sheet.polygon(hills(rng, 0.47, 0.12, 7.0), mixed(grass, haze, 0.4))
    sheet.gradient(0.455, 0.51, mixed(grass, haze, 0.15), grass)
    sheet.rectangle(0, 0.5, 1, 0.51, mixed(grass, (80, 60, 30), 0.5))
    image = sheet.finished()
    bank = round(0.51 * size)
    mirrored = image.crop((0, 0, size, bank)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    mirrored = mirrored.resize((size, size - bank)).filter(ImageFilter.GaussianBlur(size / 160))
    water = Image.new("RGB", mirrored.size, varied(rng, (46, 110, 150), 10))
    image.paste(Image.blend(mirrored, water, 0.42), (0, bank))
    return roughened(image, 0.4, 0.07, int(rng.integers(256)), streaks=True, top=0.52)


def sea_floor(size: int, horizon: float, rng: np.random.Generator) -> Image.Image:
    sheet = Sheet(size)
    water = varied(rng, (22, 128, 178), 10)
    sheet.gradient(0, 0.8, mixed(water, (170, 236, 240), 0.5), mixed(water, (6, 50, 100), 0.45))
    for height, share in ((0.2, 0.75), (0.12, 0.55)):
        sheet.polygon(hills(rng, 0.8, height, 5.0), mixed((196, 180, 140), water, share))
    sheet.gradient(0.765, 1, mixed((206, 190, 148), water, 0.4), mixed((214, 198, 152), water, 0.22))
    image = roughened(sheet.finished(), horizon, 0.16, int(rng.integers(256)), streaks=True, top=0.765)
    rays = Image.new("L", (size, size))
    pen = ImageDraw.Draw(rays)
    for x in rng.uniform(-0.1, 1.0, 5).tolist():
        wide = float(rng.uniform(0.03, 0.09))
        pen.polygon(
            [
                (size * x, 0),
                (size * (x + wide), 0),
                (size * (x + wide * 2 + 0.2), size * 0.8),
                (size * (x + 0.2), size * 0.8),
            ],
            fill=26,
        )
    rays = rays.filter(ImageFilter.BoxBlur(size / 50))
    return ImageChops.add(image, Image.merge("RGB", (rays, rays, rays)))


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


Painter = Callable[[int, float, np.random.Generator], Image.Image]
PAINTERS: dict[str, Painter] = {
    "street": street, "street at night": street, "meadow": meadow,
    "savanna": savanna, "desert": desert, "snow field": snow_field,
    "beach": beach, "open sea": open_sea, "lake shore": lake_shore,
    "sea floor": sea_floor, "living room": living_room, "bathroom": bathroom,
    "kitchen": kitchen, "desk": desk,
}  # fmt: skip
