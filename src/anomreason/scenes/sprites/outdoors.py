"""The backgrounds under an open sky, and the one under water.

Knows no things. A painter takes the place's horizon and a generator of its own, so that a scene's background depends on
nothing else. Try it:

    meadow(256, 0.44, numpy.random.default_rng(0)).show()
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from anomreason.scenes.sprites.sheet import RGB, Sheet, hills, mixed, roughened, varied

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
    for y0, y1 in ((horizon + 0.012, 1.0),):
        sheet.polygon([(middle - 0.004, y0), (middle + 0.004, y0), (middle + 0.16, y1), (middle - 0.2, y1)], path)
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
