"""Shadows, mirror images and lamp light of the sprites world.

Knows no things and no places: it works on pictures (RGBA) that already have their size. Try it:

    cast_shadow(Image.new("L", (40, 80), 255), 0.7, 0.3)
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from anomreason.scenes.sprites.sheet import RGB


@lru_cache(maxsize=64)
def spot(width: int, height: int) -> Image.Image:
    """A soft ellipse, L: 255 in the middle, 0 at the edge."""
    x = (np.arange(width) + 0.5) / width * 2 - 1
    y = (np.arange(height) + 0.5) / height * 2 - 1
    radius = np.minimum(1, np.hypot(x[None, :], y[:, None]))
    return Image.fromarray(np.uint8(np.round(255 * (1 - radius) ** 1.3)))


def cast_shadow(alpha: Image.Image, across: float, down: float) -> tuple[Image.Image, int]:
    """The silhouette as it lies on the ground, and how far its left edge is left of the silhouette's.

    Its upper edge is the foot of what throws it.
    """
    w, h = alpha.size
    reach = round(abs(across) * h)
    offset = reach if across < 0 else 0
    size = (w + reach, max(2, round(h * down)))
    flat = (1, -across / down, -offset, 0, -1 / down, h - 0.5)
    return alpha.transform(size, Image.Transform.AFFINE, flat, Image.Resampling.BILINEAR), offset


def add_max(mask: Image.Image, piece: Image.Image, left: int, top: int) -> None:
    """Lays a piece of shadow into the mask; where two fall on each other the darker one counts."""
    x0, y0 = max(0, left), max(0, top)
    x1, y1 = min(mask.width, left + piece.width), min(mask.height, top + piece.height)
    if x0 >= x1 or y0 >= y1:
        return
    part = piece.crop((x0 - left, y0 - top, x1 - left, y1 - top))
    mask.paste(ImageChops.lighter(mask.crop((x0, y0, x1, y1)), part), (x0, y0))


def darkened(image: Image.Image, mask: Image.Image, shade: RGB) -> Image.Image:
    """The picture with that much of it in the shade; shade: what is left of red, green, blue, of 255."""
    dark = ImageChops.multiply(image, Image.new("RGB", image.size, shade))
    return Image.composite(dark, image, mask)


@lru_cache(maxsize=64)
def _multiples(by: float) -> list[int]:
    return [round(v * by) for v in range(256)]


def scaled(mask: Image.Image, by: float) -> Image.Image:
    return mask.point(_multiples(by))


def mirrored(image: Image.Image, strength: float, blur: float) -> Image.Image:
    """Upside down, as seen on water: blurred a little and fading with depth."""
    turned = image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    if blur >= 0.3:
        turned = turned.filter(ImageFilter.BoxBlur((blur, blur / 2)))
    fade = np.round(255 * strength * np.linspace(1, 0.35, turned.height)).astype(np.uint8)
    ramp = Image.fromarray(fade[:, None]).resize(turned.size, Image.Resampling.NEAREST)
    turned.putalpha(ImageChops.multiply(turned.getchannel("A"), ramp))
    return turned


def brightened(light: Image.Image, centre: tuple[float, float], size: tuple[float, float], colour: RGB) -> Image.Image:
    """The light map (RGB, 255 = full light) with a soft elliptic pool of light added; in pixels."""
    glow = spot(max(2, round(size[0])), max(2, round(size[1])))
    patch = Image.merge("RGB", [scaled(glow, c / 255) for c in colour])
    left, top = round(centre[0] - size[0] / 2), round(centre[1] - size[1] / 2)
    whole = Image.new("RGB", light.size)
    whole.paste(patch, (left, top))
    return ImageChops.add(light, whole)
