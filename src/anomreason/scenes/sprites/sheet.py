"""A sheet to paint a background on: gradients, polygons, ground in perspective. Everything is in fractions of the edge.

Knows no place. Painted at twice the size and reduced, so that edges are smooth. Try it:

    sheet = Sheet(256); sheet.gradient(0, 1, (90, 160, 240), (230, 240, 255)); sheet.finished().show()
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw

RGB = tuple[int, int, int]
Points = Sequence[tuple[float, float]]
_OVER = 2
_TILE = 256


class Sheet:
    """The picture in the making."""

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
    """The outline of a ridge, down to the picture's lower edge."""
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
