"""Draws the objects that must be exact: a clock with its dial, lamps, pips, letters, a liquid.

Each drawing is RGBA at the size of a vendored sprite, shaded in the same manner.

    draw_thing("clock", ("numbers", 13)).show()
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFont

from anomreason.scenes.sprites.table import DrawnKind

State = tuple[str | int | float, ...]
"""() for the usual; else what it shows, as the function that draws the thing says."""
EDGE = 192
_OVER = 3
"""How much larger it is drawn before it is reduced."""
ASPECTS: dict[DrawnKind, float] = {
    "clock": 1.0, "die": 1.0, "glass": 0.66, "ramp": 1.5, "sign": 0.9, "street lamp": 0.36, "sun": 1.0, "table": 1.62,
    "traffic light": 0.3,
}  # fmt: skip


def draw_thing(kind: DrawnKind, state: State) -> Image.Image:
    ratio = ASPECTS[kind]
    width, height = (EDGE, round(EDGE / ratio)) if ratio >= 1 else (round(EDGE * ratio), EDGE)
    big = Image.new("RGBA", (width * _OVER, height * _OVER))
    image = _DRAW[kind](big, state)
    return image.reduce(_OVER)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _shaded(image: Image.Image, depth: float = 0.22) -> Image.Image:
    """Lighter at the upper left and darker at the lower right, like the vendored images."""
    w, h = image.size
    ramp = np.add.outer(np.linspace(0, 1, h), np.linspace(0, 0.6, w)) / 1.6
    light = Image.fromarray(np.uint8(np.round(255 * (1 - depth * ramp))))
    shaded = ImageChops.multiply(image.convert("RGB"), Image.merge("RGB", (light, light, light))).convert("RGBA")
    shaded.putalpha(image.getchannel("A"))
    return shaded


def _write(image: Image.Image, text: str, centre: tuple[float, float], size: int, fill: str, turn: str = "") -> None:
    """Bold text about a point; turn: `mirrored` or `upside down`."""
    font, bold = _font(size), max(1, size // 24)
    x0, y0, x1, y1 = font.getbbox(text, stroke_width=bold)
    patch = Image.new("L", (math.ceil(x1 - x0) + 4, math.ceil(y1 - y0) + 4))
    ImageDraw.Draw(patch).text((2 - x0, 2 - y0), text, fill=255, font=font, stroke_width=bold)
    if turn == "mirrored":
        patch = patch.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if turn == "upside down":
        patch = patch.transpose(Image.Transpose.ROTATE_180)
    image.paste(fill, (round(centre[0] - patch.width / 2), round(centre[1] - patch.height / 2)), patch)


def clock_numbers(state: State) -> list[str]:
    """The numerals clockwise from the top, by what is wrong: `thirteen`, `shuffled`, `backwards`, `twice`."""
    numbers = [12, *range(1, 12)]
    wrong = state[1] if len(state) > 1 and state[0] == "text" else ""
    if wrong == "thirteen":
        numbers[0] = 13
    elif wrong == "backwards":
        numbers = [12, *range(11, 0, -1)]
    elif wrong == "shuffled":
        numbers = [7, 4, 12, 9, 1, 6, 3, 11, 2, 8, 5, 10]
    elif wrong == "twice":
        numbers = [6 if n in (12, 3, 9) else n for n in numbers]
    return [str(n) for n in numbers]


_HANDS = (
    (0.154, 0.84, 0.36, 0.56, 0.98, 0.26), (0.285, 0.42, 0.66, 0.87, 0.08, 0.55), (0.868, 0.41, 0.62, 0.14, 0.27, 0.98),
    (0.59, 0.08, 0.84, 0.3, 0.45, 0.7), (0.71, 0.52, 0.2, 0.97, 0.36, 0.08),
)  # fmt: skip
"""Where the short hand, the long hand and surplus ones point, in turns from the top."""


def _clock(image: Image.Image, state: State) -> Image.Image:
    """("time", which), ("text", what, which) or ("hands", how many, which)."""
    e = image.width
    pen = ImageDraw.Draw(image)
    pen.ellipse((0, 0, e - 1, e - 1), fill="#7a4a3a")
    pen.ellipse((e * 0.07, e * 0.07, e * 0.93, e * 0.93), fill="#fbf8f2")
    image = _shaded(image, 0.16)
    pen = ImageDraw.Draw(image)
    for i, number in enumerate(clock_numbers(state)):
        angle = math.tau * i / 12
        _write(
            image,
            number,
            (e * (0.5 + 0.34 * math.sin(angle)), e * (0.5 - 0.34 * math.cos(angle))),
            round(e / 7.2),
            "#33303a",
        )
    hands = int(state[1]) if state and state[0] == "hands" else 2
    angles = _HANDS[int(state[-1]) if state else 0]
    for i in range(hands):
        long = 0.15 if i == 0 else 0.24
        tip = (e * (0.5 + long * math.sin(math.tau * angles[i])), e * (0.5 - long * math.cos(math.tau * angles[i])))
        pen.line((e * 0.5, e * 0.5, *tip), fill="#2b2730", width=round(e * 0.03))
    pen.ellipse((e * 0.465, e * 0.465, e * 0.535, e * 0.535), fill="#c8453c")
    return image


def _sign(image: Image.Image, state: State) -> Image.Image:
    """("word", the word, what is wrong: "" or for each letter one of . m u)."""
    w, h = image.size
    pen = ImageDraw.Draw(image)
    pen.rectangle((w * 0.44, h * 0.3, w * 0.56, h), fill="#8a5a3c")
    pen.rounded_rectangle((0, h * 0.04, w - 1, h * 0.5), radius=h * 0.05, fill="#b98354")
    pen.rounded_rectangle((w * 0.03, h * 0.07, w * 0.97, h * 0.47), radius=h * 0.04, fill="#f3e3c4")
    image = _shaded(image)
    word = str(state[1]) if state else "CAMP"
    turns = str(state[2]) if state and state[2] else "." * len(word)
    step = min(w * 0.86 / len(word), w * 0.2)
    for i, (letter, turn) in enumerate(zip(word, turns, strict=True)):
        x = w / 2 + (i - (len(word) - 1) / 2) * step
        _write(
            image,
            letter,
            (x, h * 0.27),
            round(step * 1.18),
            "#4a3020",
            {"m": "mirrored", "u": "upside down"}.get(turn, ""),
        )
    return image


def _traffic_light(image: Image.Image, state: State) -> Image.Image:
    """("lamps", how many)."""
    w, h = image.size
    lamps = int(state[1]) if state else 3
    pen = ImageDraw.Draw(image)
    pen.rectangle((w * 0.41, h * 0.5, w * 0.59, h * 0.98), fill="#6d7078")
    pen.ellipse((w * 0.16, h * 0.945, w * 0.84, h - 1), fill="#5a5d64")
    pen.rounded_rectangle((w * 0.02, 0, w * 0.98, h * 0.56), radius=w * 0.3, fill="#33323c")
    image = _shaded(image)
    pen = ImageDraw.Draw(image)
    colours = {1: ["#37c871"], 2: ["#f0433a", "#37c871"], 3: ["#f0433a", "#ffb52e", "#37c871"]}
    shown = colours.get(lamps) or ["#f0433a", "#ffb52e", "#37c871", "#3f8cff", "#c05bff", "#ff7fb0"][:lamps]
    room = h * 0.52 / lamps
    radius = min(room * 0.42, w * 0.3)
    for i, colour in enumerate(shown):
        x, y = w / 2, h * 0.02 + room * (i + 0.5)
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        glint = radius * 0.3
        pen.ellipse(
            (x - radius * 0.5, y - radius * 0.6, x - radius * 0.5 + glint, y - radius * 0.6 + glint), fill="#ffffff"
        )
    return image


_PIPS = {
    1: [(1, 1)], 2: [(0, 0), (2, 2)], 3: [(0, 0), (1, 1), (2, 2)], 4: [(0, 0), (0, 2), (2, 0), (2, 2)],
    5: [(0, 0), (0, 2), (1, 1), (2, 0), (2, 2)], 6: [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (2, 2)],
    7: [(0, 0), (0, 1), (0, 2), (1, 1), (2, 0), (2, 1), (2, 2)],
    8: [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)],
    9: [(a, b) for a in range(3) for b in range(3)],
}  # fmt: skip


def _die(image: Image.Image, state: State) -> Image.Image:
    """("pips", how many on its left face)."""
    e = image.width
    left = int(state[1]) if state else 5
    faces = (
        ((0.06, 0.25), (0.44, 0.19), (0, 0.48), left, "#e9e6ee"),
        ((0.5, 0.44), (0.44, -0.19), (0, 0.48), 3, "#cfcad8"),
        ((0.06, 0.25), (0.44, -0.19), (0.44, 0.19), 1, "#faf8fc"),
    )
    pen = ImageDraw.Draw(image)
    for (x, y), (ux, uy), (vx, vy), pips, fill in faces:
        corners = [(x + a * ux + b * vx, y + a * uy + b * vy) for a, b in ((0, 0), (1, 0), (1, 1), (0, 1))]
        pen.polygon([(e * px, e * py) for px, py in corners], fill=fill, outline="#b9b3c4", width=e // 90)
        for row, column in _PIPS[pips]:
            a, b = 0.22 + 0.28 * row, 0.22 + 0.28 * column
            cx, cy = x + a * ux + b * vx, y + a * uy + b * vy
            ring = [math.tau * i / 24 for i in range(24)]
            dot = [
                (cx + 0.1 * (math.cos(t) * ux + math.sin(t) * vx), cy + 0.1 * (math.cos(t) * uy + math.sin(t) * vy))
                for t in ring
            ]
            pen.polygon([(e * px, e * py) for px, py in dot], fill="#c2263b" if pips == 1 else "#2e2a3c")
    return image


def _glass(image: Image.Image, state: State) -> Image.Image:
    """("tilt", degrees)."""
    w, h = image.size
    tilt = math.tan(math.radians(float(state[1]))) if state else 0.0
    pen = ImageDraw.Draw(image)
    outer = [(0.02 * w, 0.0), (0.98 * w, 0.0), (0.84 * w, h - 1), (0.16 * w, h - 1)]
    pen.polygon(outer, fill="#cfe9f6")
    image = _shaded(image, 0.12)
    shape = Image.new("L", image.size)
    ImageDraw.Draw(shape).polygon(
        [(0.09 * w, 0.03 * h), (0.91 * w, 0.03 * h), (0.79 * w, 0.95 * h), (0.21 * w, 0.95 * h)], fill=255
    )
    liquid = Image.new("RGBA", image.size)
    level = 0.46 * h
    ends = ((0, level + tilt * w / 2), (w, level - tilt * w / 2))
    ImageDraw.Draw(liquid).polygon([*ends, (w, h), (0, h)], fill="#ff8a1f")
    ImageDraw.Draw(liquid).line(ends, fill="#ffc06a", width=round(h * 0.035))
    liquid.putalpha(ImageChops.multiply(liquid.getchannel("A"), shape))
    image = Image.alpha_composite(image, liquid)
    ImageDraw.Draw(image).polygon(
        [(0.8 * w, 0.06 * h), (0.88 * w, 0.06 * h), (0.77 * w, 0.9 * h), (0.72 * w, 0.9 * h)], fill="#ffffff"
    )
    return image


def _table(image: Image.Image, state: State) -> Image.Image:
    w, h = image.size
    pen = ImageDraw.Draw(image)
    for x in (0.17, 0.76):
        pen.rectangle((w * x, h * 0.2, w * (x + 0.065), h * 0.84), fill="#6b4329")
    for x in (0.045, 0.875):
        pen.rectangle((w * x, h * 0.25, w * (x + 0.085), h - 1), fill="#8f5d3a")
    pen.polygon([(w * 0.1, 0), (w * 0.9, 0), (w - 1, h * 0.22), (0, h * 0.22)], fill="#c98f5c")
    pen.rectangle((0, h * 0.22, w - 1, h * 0.31), fill="#a9713f")
    return _shaded(image)


def _ramp(image: Image.Image, state: State) -> Image.Image:
    w, h = image.size
    pen = ImageDraw.Draw(image)
    pen.polygon([(0, h - 1), (w - 1, 0), (w - 1, h - 1)], fill="#b4834f")
    for i in range(1, 7):
        x = w * i / 7
        pen.line((x, h, x, h - h * i / 7), fill="#8f6236", width=w // 110)
    pen.line((0, h - 1, w - 1, 0), fill="#d9ae78", width=round(h * 0.075))
    pen.polygon([(0, h - 1), (w * 0.03, h * 0.95), (w * 0.03, h - 1)], fill="#d9ae78")
    return _shaded(image)


def _street_lamp(image: Image.Image, state: State) -> Image.Image:
    w, h = image.size
    pen = ImageDraw.Draw(image)
    pen.rectangle((w * 0.45, h * 0.16, w * 0.55, h * 0.98), fill="#4a4f5c")
    pen.rounded_rectangle((w * 0.3, h * 0.955, w * 0.7, h - 1), radius=w * 0.06, fill="#3b3f4a")
    pen.polygon(
        [(w * 0.12, h * 0.2), (w * 0.88, h * 0.2), (w * 0.74, h * 0.045), (w * 0.26, h * 0.045)], fill="#fff1b8"
    )
    pen.rounded_rectangle((w * 0.18, 0, w * 0.82, h * 0.055), radius=w * 0.08, fill="#3b3f4a")
    pen.rectangle((w * 0.1, h * 0.195, w * 0.9, h * 0.22), fill="#3b3f4a")
    return image


def _sun(image: Image.Image, state: State) -> Image.Image:
    e = image.width
    pen = ImageDraw.Draw(image)
    pen.ellipse((1, 1, e - 2, e - 2), fill="#ffd34d")
    pen.ellipse((e * 0.06, e * 0.06, e * 0.94, e * 0.94), fill="#ffe27a")
    pen.ellipse((e * 0.16, e * 0.16, e * 0.84, e * 0.84), fill="#fff0a8")
    return image


_DRAW: dict[DrawnKind, Callable[[Image.Image, State], Image.Image]] = {
    "clock": _clock, "die": _die, "glass": _glass, "ramp": _ramp, "sign": _sign, "street lamp": _street_lamp,
    "sun": _sun, "table": _table, "traffic light": _traffic_light,
}  # fmt: skip
