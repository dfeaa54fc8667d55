"""The sprite of an object, edited as a violation needs it: a part erased or doubled, another colour, a cut.

Sprites are RGBA, trimmed, at most 192 px. An edited one may be larger than its original, so it comes with the position
of the original in it.

    sprite("banana", (), ("hue", "blue")).image.show()
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from io import BytesIO

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from anomreason.scenes.sprites.drawings import ASPECTS, State, draw_thing
from anomreason.scenes.sprites.table import SpritePart, SpriteThing, table

Edit = tuple[str | float, ...]
"""() for none, else what was done and with what: ("erase", part), ("copy", part), ("fuse", share),
("hue", colour), ("split", "across" or "down")."""
GAP = 0.3
"""Of the height or width: how far the halves of a split thing stand apart."""
HUES = {
    "red": 0.0, "orange": 0.075, "yellow": 0.145, "green": 0.34, "turquoise": 0.49, "blue": 0.61, "purple": 0.76,
    "pink": 0.91,
}  # fmt: skip


@dataclass(frozen=True)
class Sprite:
    """An edited sprite."""

    image: Image.Image
    """RGBA."""
    left: int
    """Where the unedited sprite's upper left corner would be in it, in pixels."""
    top: int
    width: int
    """Of the unedited sprite."""
    height: int


@cache
def vendored(name: str) -> Image.Image:
    """A file of `sprites/art/`, RGBA."""
    data = files("anomreason.scenes").joinpath("sprites", "art", f"{name}.webp").read_bytes()
    return Image.open(BytesIO(data)).convert("RGBA")


@cache
def aspect(name: str) -> float:
    """Width over height of the unedited sprite of a thing."""
    row = table().named(name)
    if row.drawn is not None:
        return ASPECTS[row.drawn]
    image = vendored(row.picture)
    return image.width / image.height


@lru_cache(maxsize=1024)
def _plain(name: str, state: State) -> Image.Image:
    row = table().named(name)
    return draw_thing(row.drawn, state) if row.drawn is not None else vendored(row.picture)


@lru_cache(maxsize=512)
def sprite(name: str, state: State, edit: Edit) -> Sprite:
    """A thing of the table as it is drawn in this state, edited."""
    plain = _plain(name, state)
    if not edit:
        return Sprite(plain, 0, 0, plain.width, plain.height)
    what, how = edit
    row = table().named(name)
    if what == "erase":
        edited = _faded(plain, ImageChops.invert(_mask(_part(row, str(how)), plain)))
        return Sprite(edited, 0, 0, plain.width, plain.height)
    if what == "hue":
        return Sprite(_coloured(plain, str(how)), 0, 0, plain.width, plain.height)
    if what == "copy":
        return _doubled(plain, _part(row, str(how)))
    if what == "fuse":
        return _fused(plain, float(how))
    if what == "split":
        return _split(plain, str(how))
    raise ValueError(f"no edit named {what!r}")


def _part(row: SpriteThing, name: str) -> SpritePart:
    return next(part for part in row.parts if part.name == name)


def _pixels(part: SpritePart, image: Image.Image) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = part.box
    w, h = image.size
    return round(x0 * w), round(y0 * h), round(x1 * w), round(y1 * h)


def _mask(part: SpritePart, image: Image.Image) -> Image.Image:
    """255 inside the part, with a soft edge two pixels wide."""
    mask = Image.new("L", image.size)
    pen = ImageDraw.Draw(mask)
    x0, y0, x1, y1 = _pixels(part, image)
    if part.round:
        pen.ellipse((x0 - 2, y0 - 2, x1 + 2, y1 + 2), fill=255)
    else:
        pen.rectangle((x0, y0, x1, y1), fill=255)
    return mask.filter(ImageFilter.GaussianBlur(0.8))


def _faded(image: Image.Image, keep: Image.Image) -> Image.Image:
    result = image.copy()
    result.putalpha(ImageChops.multiply(image.getchannel("A"), keep))
    return result


def _doubled(image: Image.Image, part: SpritePart) -> Sprite:
    """The part once more, where the table says that it shows; in front of a round one, else behind."""
    assert part.copy_at is not None
    box = _pixels(part, image)
    piece = _faded(image, _mask(part, image)).crop(box)
    if part.mirrored:
        piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    dx, dy = round(part.copy_at[0] * image.width), round(part.copy_at[1] * image.height)
    x, y = box[0] + dx, box[1] + dy
    left, top = max(0, -x), max(0, -y)
    right, bottom = max(0, x + piece.width - image.width), max(0, y + piece.height - image.height)
    size = (image.width + left + right, image.height + top + bottom)
    original, surplus = Image.new("RGBA", size), Image.new("RGBA", size)
    original.paste(image, (left, top))
    surplus.paste(piece, (x + left, y + top))
    layers = (original, surplus) if part.round else (surplus, original)
    return Sprite(Image.alpha_composite(*layers), left, top, image.width, image.height)


def _fused(image: Image.Image, share: float) -> Sprite:
    """The front of the thing grown together with its own mirror image."""
    cut = round(share * image.width)
    front = image.crop((0, 0, cut, image.height))
    both = Image.new("RGBA", (2 * cut, image.height))
    both.paste(front, (0, 0))
    both.paste(front.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (cut, 0))
    margin = max(0, round((2 * cut - image.width) / 2))
    return Sprite(both, margin, 0, image.width, image.height)


def _split(image: Image.Image, how: str) -> Sprite:
    """Two halves with a gap: `across`: upper and lower, `down`: left and right. The cut is a zigzag."""
    w, h = image.size
    lower = Image.new("L", image.size)
    pen = ImageDraw.Draw(lower)
    steps = 6
    if how == "across":
        edge = [(w * i / steps, h * (0.5 + 0.035 * (-1) ** i)) for i in range(steps + 1)]
        pen.polygon([*edge, (w, h), (0, h)], fill=255)
        shift = (0, round(GAP * h))
    else:
        edge = [(w * (0.5 + 0.035 * (-1) ** i), h * i / steps) for i in range(steps + 1)]
        pen.polygon([*edge, (w, h), (w, 0)], fill=255)
        shift = (round(GAP * w), 0)
    result = Image.new("RGBA", (w + shift[0], h + shift[1]))
    result.paste(_faded(image, ImageChops.invert(lower)), (0, 0))
    piece = Image.new("RGBA", result.size)
    piece.paste(_faded(image, lower), shift)
    result = Image.alpha_composite(result, piece)
    if how == "across":
        return Sprite(result, 0, shift[1], w, h)
    return Sprite(result, shift[0] // 2, 0, w, h)


def _coloured(image: Image.Image, colour: str) -> Image.Image:
    """In another colour: light and dark stay, every hue becomes that one."""
    alpha = image.getchannel("A")
    hue, saturation, value = image.convert("RGB").convert("HSV").split()
    grey = float(np.asarray(saturation, dtype=np.float32)[np.asarray(alpha) > 128].mean()) < 90
    lift = 150 if grey else 40
    saturation = saturation.point([min(255, lift + round(s * (255 - lift) / 255)) for s in range(256)])
    value = value.point([min(255, round(25 + v * 0.9)) for v in range(256)])
    hue = Image.new("L", image.size, round(HUES[colour] * 255))
    result = Image.merge("HSV", (hue, saturation, value)).convert("RGB").convert("RGBA")
    result.putalpha(alpha)
    return result
