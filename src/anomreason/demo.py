"""Four pictures that the program draws itself, with the truth about them, to try everything without a model.

write_demo(Path("demo"))    # demo/*.png and demo/simulator.json
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

SIDE = 512
_SCALE = 2  # drawn larger and reduced, for smooth edges

Box = tuple[float, float, float, float]
Drawing = Callable[["Canvas"], None]


class Canvas:
    """Draws in units of the finished picture's pixels."""

    def __init__(self, background: str) -> None:
        self.image = Image.new("RGB", (SIDE * _SCALE, SIDE * _SCALE), background)
        self._draw = ImageDraw.Draw(self.image)

    def _up(self, *points: float) -> list[float]:
        return [p * _SCALE for p in points]

    def box(self, at: Box, fill: str, radius: float = 0) -> None:
        self._draw.rounded_rectangle(self._up(*at), radius * _SCALE, fill=fill)

    def oval(self, at: Box, fill: str | None = None, line: str | None = None, width: float = 1) -> None:
        self._draw.ellipse(self._up(*at), fill=fill, outline=line, width=round(width * _SCALE))

    def line(self, at: Box, fill: str, width: float) -> None:
        """With round ends."""
        self._draw.line(self._up(*at), fill=fill, width=round(width * _SCALE))
        for x, y in (at[:2], at[2:]):
            r = width / 2
            self.oval((x - r, y - r, x + r, y + r), fill)

    def polygon(self, points: list[tuple[float, float]], fill: str) -> None:
        self._draw.polygon([(x * _SCALE, y * _SCALE) for x, y in points], fill=fill)

    def text(self, x: float, y: float, text: str, fill: str, size: float) -> None:
        """Centred on x, y."""
        from PIL import ImageFont

        font = ImageFont.load_default(size * _SCALE)
        self._draw.text((x * _SCALE, y * _SCALE), text, fill=fill, font=font, anchor="mm")

    def finished(self) -> Image.Image:
        return self.image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _room(c: Canvas) -> None:
    c.box((0, 0, SIDE, 340), "#e9e2d0")
    c.box((0, 340, SIDE, SIDE), "#b08a62")
    c.box((0, 334, SIDE, 344), "#f7f3e8")
    c.box((40, 50, 180, 210), "#ffffff", 4)
    c.box((50, 60, 170, 200), "#a8d4ef")
    c.line((110, 60, 110, 200), "#ffffff", 6)
    c.line((50, 130, 170, 130), "#ffffff", 6)


def _table(c: Canvas) -> None:
    for x in (150, 350):
        c.box((x, 370, x + 16, 480), "#6d4a2c", 3)
    c.box((120, 350, 400, 376), "#8a6038", 6)


def _cup(c: Canvas, x: float, y: float) -> None:
    c.oval((x + 44, y + 14, x + 76, y + 50), line="#c0392b", width=8)
    c.box((x, y, x + 60, y + 64), "#d9453a", 10)
    c.oval((x, y - 8, x + 60, y + 10), "#8f2b22")


def hanging_cup(c: Canvas) -> None:
    _room(c)
    _table(c)
    _cup(c, 220, 190)


def _fingers(c: Canvas, degrees: list[float]) -> None:
    skin, shade = "#e8b98f", "#d9a578"
    c.box((212, 400, 300, SIDE), "#35607f", 8)
    c.box((220, 330, 292, 420), skin, 20)
    c.box((190, 250, 322, 370), skin, 40)
    for degree in degrees:
        a = math.radians(degree)
        x, y = 256 + 60 * math.cos(a), 300 - 45 * math.sin(a)
        length = 80 if 20 < degree < 160 else 62
        c.line((x, y, x + length * math.cos(a), y - (length + 25) * math.sin(a)), skin, 24)
    c.line((215, 330, 285, 318), shade, 2)


def six_fingers(c: Canvas) -> None:
    c.box((0, 0, SIDE, SIDE), "#b9cfd8")
    _fingers(c, [8, 50, 72, 94, 116, 140])


def _clock(c: Canvas, last: int) -> None:
    c.oval((106, 76, 406, 376), "#4a3a2c")
    c.oval((118, 88, 394, 364), "#fbf7ec")
    for n in range(1, last + 1):
        a = math.radians(360 * n / last - 90)
        c.text(256 + 112 * math.cos(a), 226 + 112 * math.sin(a), str(n), "#2c2c2c", 24)
    c.line((256, 226, 300, 170), "#2c2c2c", 8)
    c.line((256, 226, 165, 296), "#2c2c2c", 5)
    c.oval((247, 217, 265, 235), "#c0392b")


def thirteen_hours(c: Canvas) -> None:
    c.box((0, 0, SIDE, SIDE), "#cbbfae")
    c.box((0, 430, SIDE, SIDE), "#8a6038")
    _clock(c, 13)


def sound_room(c: Canvas) -> None:
    _room(c)
    _table(c)
    _cup(c, 220, 290)


_TABLE = {
    "name": "table",
    "description": "A brown wooden table with two visible legs.",
    "box": [0.23, 0.68, 0.79, 0.94],
}

PICTURES: dict[str, tuple[Drawing, dict[str, Any]]] = {
    "hanging-cup.png": (
        hanging_cup,
        {
            "objects": [
                {"name": "red cup", "description": "A red cup high above a table.", "box": [0.42, 0.35, 0.59, 0.5]},
                _TABLE,
            ],
            "anomalies": [
                {
                    "name": "Cup hanging in the air",
                    "phenomenon": "The red cup is upright in mid-air, about a hand's length above the table; nothing "
                    "touches it from below or above.",
                    "reasoning": "A cup has weight and falls unless something carries it. There is no hand, string or "
                    "shelf, and it is not tilted or blurred as a falling cup would be.",
                    "severity": 5,
                    "objects": ["red cup", "table"],
                    "region": [0.42, 0.35, 0.59, 0.5],
                }
            ],
        },
    ),
    "six-fingers.png": (
        six_fingers,
        {
            "objects": [{"name": "hand", "description": "A raised open hand.", "box": [0.25, 0.22, 0.83, 0.82]}],
            "anomalies": [
                {
                    "name": "Six fingers on one hand",
                    "phenomenon": "The raised open hand has six digits: a thumb on the right and five long fingers.",
                    "reasoning": "A human hand has a thumb and four fingers. A sixth fully formed digit of the same "
                    "shape is an error of anatomy, not of perspective.",
                    "severity": 10,
                    "objects": ["hand"],
                    "region": [0.25, 0.22, 0.83, 0.6],
                }
            ],
        },
    ),
    "thirteen-hours.png": (
        thirteen_hours,
        {
            "objects": [{"name": "wall clock", "description": "A round wall clock.", "box": [0.2, 0.14, 0.8, 0.74]}],
            "anomalies": [
                {
                    "name": "Clock face with thirteen hours",
                    "phenomenon": "The numerals on the round wall clock run from 1 to 13, evenly spaced.",
                    "reasoning": "Clock faces are divided into twelve hours; with thirteen the hands could not show "
                    "the time.",
                    "severity": 20,
                    "objects": ["wall clock"],
                    "region": [0.2, 0.14, 0.8, 0.74],
                }
            ],
        },
    ),
    "sound-room.png": (
        sound_room,
        {
            "objects": [
                {"name": "red cup", "description": "A red cup on a table.", "box": [0.42, 0.55, 0.59, 0.69]},
                _TABLE,
            ],
            "anomalies": [],
        },
    ),
}


def write_demo(folder: Path) -> Path:
    """Draw the pictures and write their truth; gives the truth file, for `sim:`."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = {}
    for name, (draw, known) in PICTURES.items():
        canvas = Canvas("#ffffff")
        draw(canvas)
        canvas.finished().save(folder / name)
        truth[name] = known
    file = folder / "simulator.json"
    file.write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    return file
