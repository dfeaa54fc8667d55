"""Procedural textures: boards, tiles, carpet, plaster, wallpaper, paintings, clock dials and views from a window.

Every texture is (height, width, 3) uint8 sRGB.

    >>> boards(np.random.default_rng(1), (150, 100, 60)).shape
    (512, 512, 3)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from anomreason.scenes.rooms.meshes import Floats

Pixels = NDArray[np.uint8]
Rgb = tuple[int, int, int]
EDGE = 512


def noise(rng: np.random.Generator, height: int, width: int, cells: tuple[int, int]) -> Floats:
    """Smooth noise between 0 and 1 that repeats at its borders, with about `cells` bumps down and across."""
    grid = rng.random(cells)
    small = np.pad(grid, 2, mode="wrap")
    image = Image.fromarray((small * 255).astype(np.uint8))
    scale_y, scale_x = height / cells[0], width / cells[1]
    large = image.resize((round(small.shape[1] * scale_x), round(small.shape[0] * scale_y)), Image.Resampling.BICUBIC)
    top, left = round(2 * scale_y), round(2 * scale_x)
    return np.asarray(large, dtype=float)[top : top + height, left : left + width] / 255


def _pixels(base: Floats) -> Pixels:
    return np.asarray(base.clip(0, 255).astype(np.uint8))


def boards(rng: np.random.Generator, colour: Rgb) -> Pixels:
    """Wooden boards side by side, each of its own tint and grain; they run across the image."""
    out = np.zeros((EDGE, EDGE, 3))
    rows = 8
    height = EDGE // rows
    for row in range(rows):
        start = int(rng.integers(0, EDGE))
        for half in range(2):
            columns = (np.arange(EDGE // 2) + start + half * EDGE // 2) % EDGE
            tint = rng.normal(1.0, 0.08)
            grain = noise(rng, height, EDGE, (height // 2, 5)) * 0.5 + noise(rng, height, EDGE, (6, 3)) * 0.5
            board = np.array(colour) * (tint * (0.82 + 0.3 * grain))[:, :, None]
            board[:, 0] *= 0.55  # the joint to the next board
            out[row * height : (row + 1) * height, columns] = board[:, : EDGE // 2]
        out[row * height : row * height + 2] *= 0.55
    return _pixels(out)


def tiles(rng: np.random.Generator, colours: Sequence[Rgb], count: int = 4, joint: Rgb = (150, 148, 142)) -> Pixels:
    """Square tiles with joints; two colours make a chessboard."""
    out = np.zeros((EDGE, EDGE, 3))
    edge = EDGE // count
    for i in range(count):
        for j in range(count):
            tint = rng.normal(1.0, 0.02)
            cloud = noise(rng, edge, edge, (4, 4))[:, :, None] * 0.025 + 0.985
            out[i * edge : (i + 1) * edge, j * edge : (j + 1) * edge] = (
                np.array(colours[(i + j) % len(colours)]) * tint * cloud
            )
            out[i * edge : i * edge + 3, j * edge : (j + 1) * edge] = joint
            out[i * edge : (i + 1) * edge, j * edge : j * edge + 3] = joint
    return _pixels(out)


def carpet(rng: np.random.Generator, colour: Rgb) -> Pixels:
    grain = rng.normal(1.0, 0.09, (EDGE, EDGE, 1)) * (0.97 + 0.06 * noise(rng, EDGE, EDGE, (24, 24))[:, :, None])
    return _pixels(np.array(colour) * grain)


def plaster(rng: np.random.Generator, colour: Rgb) -> Pixels:
    grain = 0.975 + 0.025 * noise(rng, EDGE, EDGE, (90, 90)) + 0.012 * noise(rng, EDGE, EDGE, (5, 5))
    return _pixels(np.array(colour) * grain[:, :, None])


def wallpaper(rng: np.random.Generator, colour: Rgb) -> Pixels:
    """Soft vertical stripes."""
    x = np.arange(EDGE)
    stripes = 1.0 - 0.07 * ((x // 32) % 2)
    return _pixels(plaster(rng, colour).astype(float) * stripes[None, :, None])


def rug(rng: np.random.Generator, colour: Rgb, second: Rgb) -> Pixels:
    """A border, a field and diamonds or stripes."""
    y, x = np.mgrid[0:EDGE, 0:EDGE] / EDGE
    edge = np.minimum(np.minimum(x, 1 - x), np.minimum(y, 1 - y))
    if rng.random() < 0.5:
        inner = ((np.abs((x * 6) % 1 - 0.5) + np.abs((y * 6) % 1 - 0.5)) < 0.3)[:, :, None]
    else:
        inner = ((y * 9).astype(int) % 2 == 0)[:, :, None]
    field = np.where(inner, np.array(colour) * 0.55 + np.array(second) * 0.45, np.array(colour))
    out = np.where((edge > 0.06)[:, :, None] & (edge < 0.09)[:, :, None], np.array(second), field)
    return _pixels(out * rng.normal(1.0, 0.06, (EDGE, EDGE, 1)))


def painting(rng: np.random.Generator) -> Pixels:
    """A landscape with hills, or a few coloured forms."""
    size = 256
    if rng.random() < 0.6:
        return landscape(rng, size)
    image = Image.new("RGB", (size, size), _any_colour(rng, 190, 245))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(4, 8))):
        x, y = (int(v) for v in rng.integers(-20, size - 40, 2))
        w, h = (int(v) for v in rng.integers(40, 140, 2))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x, y, x + w, y + h), fill=_any_colour(rng, 40, 225))
    return np.array(image.filter(ImageFilter.GaussianBlur(1.0)))


def _any_colour(rng: np.random.Generator, low: int, high: int) -> Rgb:
    red, green, blue = (int(v) for v in rng.integers(low, high, 3))
    return red, green, blue


def landscape(rng: np.random.Generator, size: int) -> Pixels:
    """Sky, far hills and a meadow."""
    y, x = np.mgrid[0:size, 0:size] / size
    top, low = np.array([110, 160, 220]), np.array([205, 225, 245])
    out = top + (low - top) * (y / 0.6).clip(0, 1)[:, :, None]
    clouds = (noise(rng, size, size, (8, 5)) - 0.55).clip(0, 1)[:, :, None] * 2.0 * (y < 0.5)[:, :, None]
    out = out + (np.array([250, 250, 252]) - out) * clouds.clip(0, 0.8)
    for distance in range(3):
        ridge = 0.52 + 0.09 * distance
        ridge = ridge + 0.05 * np.sin(x * (5 + 3 * distance) + rng.uniform(0, 6)) + 0.02 * np.sin(x * 17 + distance)
        green = np.array([[120, 150, 160], [95, 140, 100], [85, 130, 60]][distance]) * rng.uniform(0.9, 1.1)
        out = np.where((y > ridge)[:, :, None], green * (1 - 0.25 * (y - ridge))[:, :, None], out)
    return _pixels(out)


def with_suns(view: Pixels, suns: Sequence[tuple[float, float]]) -> Pixels:
    """The view with suns in its sky, at fractions from the upper left."""
    size = len(view)
    y, x = np.mgrid[0:size, 0:size] / size
    out = view.astype(float) * (0.5 if suns else 1.0)  # a darker sky, so that a disc's edge is seen
    for sun_x, sun_y in suns:
        distance_to = np.hypot(x - sun_x, y - sun_y)[:, :, None]
        glow = np.exp(-((distance_to / 0.11) ** 2)) * 0.35
        disc = ((0.066 - distance_to) * 120).clip(0, 1)
        out = out + (np.array([255, 226, 120]) - out) * np.maximum(glow, disc)
    return _pixels(out)


ARABIC = ("12", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11")


def dial(numerals: Sequence[str], hands: Sequence[tuple[float, float]], mirrored: bool = False) -> Pixels:
    """A clock's face of 384 px. hands: (turn from 0 to 1 clockwise from the top, length as a share of the radius)."""
    size = 384
    middle = size / 2
    tint, ink = (244, 241, 232), (25, 25, 30)
    image = Image.new("RGB", (size, size), tint)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=66)
    for minute in range(60):
        angle = minute / 60 * 2 * math.pi
        inner = 0.90 if minute % 5 else 0.86
        draw.line(
            [_on_dial(middle, angle, inner), _on_dial(middle, angle, 0.95)], fill=ink, width=2 if minute % 5 else 5
        )
    for i, text in enumerate(numerals):
        x, y = _on_dial(middle, i / len(numerals) * 2 * math.pi, 0.67)
        draw.text((x, y), text, fill=ink, font=font, anchor="mm", stroke_width=2)
    if mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        draw = ImageDraw.Draw(image)
    for turn, length in hands:
        angle = turn * 2 * math.pi
        draw.line(
            [_on_dial(middle, angle, -0.1), _on_dial(middle, angle, length)], fill=ink, width=22 if length < 0.5 else 15
        )
    draw.ellipse((middle - 16, middle - 16, middle + 16, middle + 16), fill=ink)
    return np.array(image)


def _on_dial(middle: float, angle: float, radius: float) -> tuple[float, float]:
    return middle + middle * radius * math.sin(angle), middle - middle * radius * math.cos(angle)
