"""Draws a scene of the sprites world: background, reflections, shadows, objects in order, lamp light, noise.

One canvas draws all versions of a scene and draws what they share once, so that two versions are equal wherever nothing
was changed.

    Canvas(lay_out(7), 256).draw(lay_out(7).items)[0].show()
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter

from anomreason.scenes.sprites.backgrounds import PAINTERS, RGB, meadow_close
from anomreason.scenes.sprites.scene import SpriteItem, SpriteScene, Sun
from anomreason.scenes.sprites.sprite import sprite
from anomreason.scenes.sprites.table import LOOKS

_SHADES: dict[str, RGB] = {"snow field": (120, 150, 205), "desert": (120, 95, 90), "savanna": (110, 95, 80)}
_BANK = 0.51
"""Where the lake begins."""
_TOP = 0.31
"""Of a table's height in its image: its top and front edge."""
_NIGHT: RGB = (100, 106, 156)
_EVENING: RGB = (168, 150, 140)
_LAMP: RGB = (190, 165, 110)


@dataclass(frozen=True)
class Layer:
    """A thing as it will be pasted."""

    image: Image.Image
    left: int
    top: int


class Canvas:
    """Draws versions of one scene at one size."""

    def __init__(self, stage: SpriteScene, size: int) -> None:
        self.stage, self.size = stage, size
        self._look = LOOKS[stage.look]
        rng = np.random.default_rng((stage.seed, 1))
        close = self._look.name == "meadow" and self._look.largest_cm < 100
        paint = meadow_close if close else PAINTERS[stage.place]
        self._ground = paint(size, stage.horizon, rng)
        grain = np.frombuffer(rng.bytes(size * size), dtype=np.uint8).reshape(size, size)
        grain = (np.uint8(124) + grain // 32).astype(np.uint8)
        self._noise = Image.merge("RGB", [Image.fromarray(grain)] * 3)
        self._layers: dict[SpriteItem, Layer] = {}

    def draw(self, items: Sequence[SpriteItem], second_sun: Sun | None = None) -> tuple[Image.Image, NDArray[np.uint8]]:
        """The image, and its owner map (size, size): 0 for background, else 1 + the index of the item seen there."""
        image = self._ground.copy()
        order = sorted(range(len(items)), key=lambda i: self._depth(items, i))
        if self._look.mirrors:
            for i in order:
                self._mirror(image, items[i])
        for sun in (self.stage.sun, *([second_sun] if second_sun else [])):
            image = self._shaded(image, items, sun)
        owners = np.zeros((self.size, self.size), dtype=np.uint8)
        steps = [(self._depth(items, i), i, False) for i in order]
        for i in order:
            beyond = items[i].through
            if beyond is not None:
                steps.append(((self._depth(items, i)[0], beyond + 1e-3, i), i, True))
        for _, i, half in sorted(steps):
            self._paste(image, owners, items[i], i, half)
        image = self._lit(image, items)
        return ImageChops.add(image, self._noise, 1, -128), owners

    def layer(self, item: SpriteItem) -> Layer:
        """The thing at its size and place."""
        if item not in self._layers:
            self._layers[item] = _layer(item, self.size)
        return self._layers[item]

    @staticmethod
    def _depth(items: Sequence[SpriteItem], i: int) -> tuple[float, float, int]:
        """What is drawn first: the sky, the walls, then the ground from far to near."""
        item = items[i]
        if item.thing == "sun":
            return 0.0, 0.0, i
        if item.support == "air":
            return 1.0, item.y, i
        if item.support == "wall":
            return 2.0, 0.0, i
        if item.support == "underwater":
            return 2.5, item.y if item.through is None else item.through - 1e-3, i
        if item.host >= 0:
            return 3.0, items[item.host].y + 1e-4, i
        return 3.0, item.y, i

    def _paste(self, image: Image.Image, owners: NDArray[np.uint8], item: SpriteItem, index: int, half: bool) -> None:
        layer = self.layer(item)
        cut, left = layer.image, layer.left
        if half:
            cut = cut.crop((0, 0, cut.width // 2, cut.height))
        if item.thing == "sun":
            self._glow(image, layer)
        if item.support == "water" and not item.lift:
            self._foam(image, layer)
        image.paste(cut, (left, layer.top), cut)
        x0, y0 = max(0, left), max(0, layer.top)
        x1, y1 = min(self.size, left + cut.width), min(self.size, layer.top + cut.height)
        if x0 < x1 and y0 < y1:
            alpha = np.asarray(cut.getchannel("A"))[y0 - layer.top : y1 - layer.top, x0 - left : x1 - left]
            owners[y0:y1, x0:x1][alpha > 127] = index + 1

    def _glow(self, image: Image.Image, layer: Layer) -> None:
        wide = layer.image.width * 3
        halo = scaled(spot(wide, wide), 0.55)
        centre = (layer.left + layer.image.width // 2, layer.top + layer.image.height // 2)
        image.paste((255, 246, 214), (centre[0] - wide // 2, centre[1] - wide // 2), halo)

    def _foam(self, image: Image.Image, layer: Layer) -> None:
        """The water broken by what swims in it."""
        wide, high = round(layer.image.width * 1.12), max(3, round(self.size * 0.022))
        left = layer.left - (wide - layer.image.width) // 2
        water = layer.top + layer.image.height
        image.paste((232, 244, 252), (left, water - high // 2), scaled(spot(wide, high), 0.75))

    def _mirror(self, image: Image.Image, item: SpriteItem) -> None:
        if item.support not in ("floor", "water") or item.mirror == "nothing" or item.lift:
            return
        # What is seen in the mirror, as if it stood there.
        other = replace(item, thing=item.mirror, mirror="", state=(), edit=(), turn=0.0) if item.mirror else item
        layer = self.layer(other)
        foot = round(item.y * self.size)
        bank = self.stage.place == "lake shore" and item.support == "floor"
        strength = {"lake shore": 0.72, "open sea": 0.55, "street at night": 0.55}[self.stage.place]
        piece = mirrored(layer.image, strength, self.size / 340)
        image.paste(piece, (layer.left, round(_BANK * self.size) + 1 if bank else foot), piece)

    def _shaded(self, image: Image.Image, items: Sequence[SpriteItem], sun: Sun) -> Image.Image:
        """With what the things take away from that sun's light."""
        mask = Image.new("L", image.size)
        for item in items:
            if item.support in ("floor", "seabed", "table") and item.shadow != "none":
                self._shadow(mask, item, items, sun)
            elif item.support == "wall":
                layer, shift = self.layer(item), max(1, round(self.size * 0.014))
                alpha = scaled(layer.image.getchannel("A"), 0.6)
                add_max(mask, alpha, layer.left + (shift if sun.across > 0 else -shift), layer.top + shift)
        mask = mask.filter(ImageFilter.BoxBlur(self.size / 180))
        shade = _SHADES.get(self.stage.place, (96, 98, 112))
        return darkened(image, scaled(mask, 0.8), shade)

    def _shadow(self, mask: Image.Image, item: SpriteItem, items: Sequence[SpriteItem], sun: Sun) -> None:
        layer = self.layer(item)
        alpha = layer.image.getchannel("A")
        foot = round(item.y * self.size)
        piece = Image.new("L", mask.size)
        if sun.strength and item.host < 0:
            across = -1.25 * sun.across if item.shadow == "wrong" else sun.across
            cast, offset = cast_shadow(alpha, across, sun.down)
            add_max(piece, cast, layer.left - offset, foot - 1)
        low = alpha.crop((0, round(alpha.height * 0.93), alpha.width, alpha.height)).getbbox()
        x0, x1 = (low[0], low[2]) if low else (0, alpha.width)
        wide = max(4, round((x1 - x0) * 1.15))
        contact = spot(wide, max(3, round(min(wide * 0.2, self.size * 0.05))))
        middle = layer.left + (x0 + x1) // 2
        add_max(piece, scaled(contact, 0.6 if item.lift else 1.0), middle - wide // 2, foot - contact.height // 2)
        if item.host >= 0:
            piece = self._on_top(piece, items[item.host])
        if self.stage.place in ("kitchen", "desk"):
            piece.paste(0, (0, round(0.955 * self.size), self.size, self.size))
        mask.paste(ImageChops.lighter(mask, piece))

    def _on_top(self, piece: Image.Image, desk: SpriteItem) -> Image.Image:
        """What of a shadow falls on the top of a table."""
        x0, y0, x1, _ = desk.box
        left, top, right, edge = (round(v * self.size) for v in (x0, y0, x1, y0 + desk.h * _TOP))
        result = Image.new("L", piece.size)
        result.paste(piece.crop((left, top, right, edge)), (left, top))
        return result

    def _lit(self, image: Image.Image, items: Sequence[SpriteItem]) -> Image.Image:
        """As it looks by lamp light, or through water."""
        if self.stage.place == "sea floor":
            return Image.blend(image, Image.new("RGB", image.size, (40, 140, 180)), 0.2)
        lamps = [item for item in items if item.is_lamp]
        night = self.stage.place == "street at night"
        if not night and not any(item.is_lamp for item in self.stage.items):
            return image
        n = self.size
        light = Image.new("RGB", image.size, _NIGHT if night else _EVENING)
        for item in lamps:
            layer = self.layer(item)
            head = (layer.left + layer.image.width * (0.5 if night else (0.7 if item.flip else 0.3))) / n
            top = (layer.top + layer.image.height * (0.12 if night else 0.24)) / n
            if item.lights:
                light = brightened(light, (head * n, top * n), (n * 0.62, n * 0.62), _LAMP)
                light = brightened(light, (head * n, item.y * n), (n * 0.75, n * 0.3), _LAMP)
            shine = item.h * (0.3 if night else 0.36)
            light = brightened(light, (head * n, top * n), (shine * n, shine * n * 0.8), (255, 255, 235))
        return ImageChops.multiply(image, light)


def _layer(item: SpriteItem, size: int) -> Layer:
    shown = sprite(item.thing, item.state, item.edit)
    scale = item.h * size / shown.height
    width, height = max(2, round(shown.image.width * scale)), max(2, round(shown.image.height * scale))
    how = Image.Resampling.HAMMING if scale < 0.9 else Image.Resampling.BICUBIC
    image = shown.image.resize((width, height), how)
    middle, foot = (shown.left + shown.width / 2) * scale, (shown.top + shown.height) * scale
    if item.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        middle = width - middle
    if item.turn:
        image = image.rotate(item.turn, Image.Resampling.BICUBIC, expand=True)
        if item.turn % 90 == 0:
            image = image.crop(image.getchannel("A").point([0] * 25 + [255] * 231).getbbox())
        middle, foot = image.width / 2, image.height
    left, top = round(item.x * size - middle), round((item.y - item.lift) * size - foot)
    if item.support == "water" and not item.lift:
        sink = round(max(item.row.sink, 0.03) * image.height)
        image = image.crop((0, 0, image.width, image.height - sink))
        top += sink
    return Layer(image, left, top)


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
    """The image with that much of it in the shade; shade: what is left of red, green, blue, of 255."""
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
