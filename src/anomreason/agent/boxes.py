"""Boxes in replies: reads every spelling in use, tells the convention, and places them as regions.

Models write boxes in thousandths, fractions, percent or pixels, x or y first, with corners or with a size. The family
of the model, all boxes of an image and its size as sent tell which. A box that two conventions place differently is
left out.

    >>> BoxReader((1000, 600), "qwen3-vl").place([read_box([500, 500, 1000, 1000])])
    [Region(x0=0.5, y0=0.5, x1=1.0, y1=1.0)]
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from anomreason.anomaly import Region

Layout = Literal["xyxy", "yxyx", "xywh"]
Scale = Literal["thousandths", "fractions", "percent", "pixels", "pixels-28"]

AUTO = "auto"
SCALES: tuple[Scale, ...] = ("thousandths", "fractions", "percent", "pixels", "pixels-28")
"""Units of a box. `pixels` are those of the image as sent, `pixels-28` of that image with its sides rounded to
multiples of 28, as Qwen2.5-VL sees it."""
PREFIXES: dict[str, Layout] = {"": "xyxy", "yxyx-": "yxyx", "xywh-": "xywh"}
CONVENTIONS = (AUTO, *(prefix + scale for prefix in PREFIXES for scale in SCALES))
"""What the option `boxes` takes: `auto`, or a scale, with `yxyx-` for y first and `xywh-` for x, y, width, height."""
BOX_KEYS = ("box", "bbox_2d", "box_2d", "bbox", "bounding_box", "boundingBox")
"""Keys under which replies hold a box."""

_SLACK = 0.02
"""How far outside the image, in fractions, a box may reach; it is cut there."""
_SAME = 0.01
"""Two readings whose edges differ by at most this, in fractions, are the same place."""
_SMALLEST = 0.002
"""Shortest side of a box, in fractions: more than one thousandth, so that [0, 0, 1, 1] is never a speck."""
_BESIDE = 0.25
"""How far a part may lie outside of its owner's box, in sizes of that box."""
_SWAPPED = 0.25
"""Of four and more boxes, the largest share with swapped corners; more of them are something else."""


@dataclass(frozen=True, slots=True)
class RawBox:
    """A box as a model wrote it."""

    values: tuple[float, ...]
    """Four numbers; empty when what was written cannot be read as a box."""
    layout: Layout | None = None
    """What the numbers are, where named corners or the key say so."""
    scale: Scale | None = None
    """Their unit, where the numbers themselves say so."""


_UNREADABLE = RawBox(())
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_UNITS = re.compile(rf"({_NUMBER.pattern})\s*(%|px)?")
_NO_NUMBERS = re.compile(r"[\s\[\](){}<>,;\"']*")
_LOW = {
    "x": ("x0", "x_min", "xmin", "min_x", "minx", "left", "x", "x_left"),
    "y": ("y0", "y_min", "ymin", "min_y", "miny", "top", "y", "y_top"),
}
_HIGH = {
    "x": ("x2", "x_max", "xmax", "max_x", "maxx", "right", "x_right"),
    "y": ("y2", "y_max", "ymax", "max_y", "maxy", "bottom", "y_bottom"),
}
_SIZE = {"x": ("width", "w"), "y": ("height", "h")}
_CORNERS = (("top_left", "bottom_right"), ("topleft", "bottomright"), ("min", "max"), ("start", "end"))


def read_box(value: object, key: str = "box") -> RawBox | None:
    """A box in any spelling; None where there is none.

    Takes lists of four numbers or of two corners, texts that hold such a list, and objects with named corners or a
    size. key: the name it stands under, since `box_2d` is y first and `bbox_2d` x first.
    """
    if isinstance(value, RawBox) or value is None or value in ("", "null", "none", [], {}):
        return value if isinstance(value, RawBox) else None
    if isinstance(value, Mapping):
        inner = next((k for k in BOX_KEYS if k in value), None)
        return read_box(value[inner], inner) if inner else _named(value)
    values, unit = _numbers(value)
    if len(values) != 4:
        return _UNREADABLE
    layout: Layout | None = "yxyx" if key == "box_2d" else "xyxy" if key == "bbox_2d" else None
    return _raw(values, layout, unit)


def _raw(values: Sequence[float], layout: Layout | None, unit: Scale | None) -> RawBox:
    if not all(abs(v) < 1e6 for v in values):  # nor nan
        return _UNREADABLE
    if unit is None and all(-_SLACK <= v <= 1 + _SLACK for v in values) and any(isinstance(v, float) for v in values):
        unit = "fractions"
    return RawBox(tuple(map(float, values)), layout, unit)


def _numbers(value: object) -> tuple[list[float], Scale | None]:
    """The numbers of a list or text, and their unit where a text names it; none when it holds anything else."""
    if isinstance(value, str):
        found = _UNITS.findall(value[:200])
        if len(value) > 200 or not _NO_NUMBERS.fullmatch(_UNITS.sub("", value)):
            return [], None
        units = {unit for _, unit in found}
        numbers = [float(n) if set(n) & set(".eE") else int(n) for n, _ in found]
        unit = {"%": "percent", "px": "pixels"}.get("".join(units))
        return ([], None) if len(units) != 1 else (numbers, unit)  # type: ignore[return-value]
    if not isinstance(value, list | tuple):
        return [], None
    if len(value) == 1 or (len(value) == 2 and all(isinstance(v, list | tuple) and len(v) == 2 for v in value)):
        return _numbers([n for v in value for n in v] if isinstance(value[0], list | tuple) else value[0])
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
        return list(value), None
    if len(value) == 4 and all(isinstance(v, str | int | float) and not isinstance(v, bool) for v in value):
        return _numbers(",".join(map(str, value)))
    return [], None


def _named(value: Mapping[object, object]) -> RawBox:
    """From named corners, or a corner and a size."""
    fields = {str(k).lower().replace("-", "_").replace(" ", "_"): v for k, v in value.items()}
    for first, second in _CORNERS:
        if first in fields and second in fields:
            points = [_point(fields[first]), _point(fields[second])]
            return _read_named(points[0] + points[1], "xyxy")
    low, high, size = [], [], []
    for axis in ("x", "y"):
        # x1 is the low corner beside x2, else the high one beside x0 or x.
        second = f"{axis}1"
        lows = (second, *_LOW[axis]) if f"{axis}2" in fields else _LOW[axis]
        highs = _HIGH[axis] if f"{axis}2" in fields else (*_HIGH[axis], second)
        low += [fields[k] for k in lows if k in fields][:1]
        high += [fields[k] for k in highs if k in fields][:1]
        size += [fields[k] for k in _SIZE[axis] if k in fields][:1]
    return _read_named(low + (high if len(high) == 2 else size), "xyxy" if len(high) == 2 else "xywh")


def _point(value: object) -> list[object]:
    if isinstance(value, Mapping):
        return [value.get("x"), value.get("y")]
    return list(value) if isinstance(value, list | tuple) else []


def _read_named(values: list[object], layout: Layout) -> RawBox:
    numbers, unit = _numbers(values)
    return _raw(numbers, layout, unit) if len(numbers) == 4 else _UNREADABLE


@dataclass(frozen=True, slots=True)
class Convention:
    """One way to read four numbers."""

    scale: Scale
    layout: Layout
    frame: tuple[float, float]
    """What the right and the lower border of the image are in that scale."""

    def name(self, box: RawBox) -> str:
        """How it reads this box, as the option `boxes` calls it."""
        layout, scale = box.layout or self.layout, box.scale if box.scale in _FIXED else self.scale
        return next(p for p, known in PREFIXES.items() if known == layout) + (scale or self.scale)

    def corners(self, box: RawBox) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 in fractions, as written: corners may be swapped and lie anywhere."""
        a, b, c, d = box.values
        layout = box.layout or self.layout
        width, height = self.frame if box.scale is None else _FIXED.get(box.scale, self.frame)
        if box.scale == "pixels" and not self.scale.startswith("pixels"):
            return -1, -1, 2, 2
        if layout == "yxyx":
            a, b, c, d = b, a, d, c
        elif layout == "xywh":
            c, d = a + c, b + d
        return a / width, b / height, c / width, d / height


_FIXED: dict[str, tuple[float, float]] = {"thousandths": (1000, 1000), "fractions": (1, 1), "percent": (100, 100)}


def _outside(corners: Iterable[float]) -> bool:
    return any(not -_SLACK <= v <= 1 + _SLACK for v in corners)


def _swapped(corners: Sequence[float]) -> bool:
    return corners[0] > corners[2] or corners[1] > corners[3]


def _placed(convention: Convention, box: RawBox) -> Region | None:
    """The region of a box; None for one outside the image or without area."""
    corners = convention.corners(box)
    if _outside(corners) or (_swapped(corners) and (box.layout or convention.layout) == "xywh"):
        return None
    x0, x1 = sorted((min(max(corners[0], 0.0), 1.0), min(max(corners[2], 0.0), 1.0)))
    y0, y1 = sorted((min(max(corners[1], 0.0), 1.0), min(max(corners[3], 0.0), 1.0)))
    if min(x1 - x0, y1 - y0) < _SMALLEST:
        return None
    return Region(x0=x0, y0=y0, x1=x1, y1=y1)


def _plausible(convention: Convention, boxes: Sequence[RawBox], swaps: bool = False) -> bool:
    """Whether every box lies in the image under this convention. swaps: whatever the number of swapped corners."""
    corners = [convention.corners(box) for box in boxes]
    if any(map(_outside, corners)):
        return False
    turned = [(box.layout or convention.layout) != "xywh" for box, c in zip(boxes, corners, strict=True) if _swapped(c)]
    if not all(turned) or (not swaps and len(boxes) > 3 and len(turned) > _SWAPPED * len(boxes)):
        return False
    # A scale that no box needs says nothing; one that is needed must give at least one box with an area.
    needing = [box for box in boxes if box.scale is None] or boxes
    return any(_placed(convention, box) for box in needing)


def _touches(convention: Convention, boxes: Sequence[RawBox]) -> int:
    """How many right and lower edges lie exactly on the image's border."""
    return sum(v == 1 for box in boxes if box.scale is None for v in convention.corners(box)[2:])


def _better(found: Sequence[Convention], boxes: Sequence[RawBox]) -> list[Convention]:
    """Without conventions whose scale another one of the same layout refutes: by edges exactly on the border.

    A centred box reaches the border as x, y, width, height too, so that layout refutes nothing.
    """
    many = max(2, math.ceil(0.2 * 2 * len(boxes)))
    touches = {c: _touches(c, boxes) for c in found}
    sure = [c for c in found if c.layout != "xywh" and touches[c] >= many]
    return [c for c in found if touches[c] or not any(s.layout == c.layout for s in sure)]


def qwen_size(width: int, height: int, most: int = 12_845_056) -> tuple[int, int]:
    """The size to which Qwen2.5-VL's processor scales an image: sides in multiples of 28, 3,136 to `most` pixels."""
    down, across = max(28, round(height / 28) * 28), max(28, round(width / 28) * 28)
    if down * across > most:
        shrink = math.sqrt(width * height / most)
        down, across = (max(28, math.floor(side / shrink / 28) * 28) for side in (height, width))
    elif down * across < 3136:
        grow = math.sqrt(3136 / (width * height))
        down, across = (math.ceil(side * grow / 28) * 28 for side in (height, width))
    return across, down


_OLLAMA_PIXELS = 1_003_520
"""Ollama's bound on an image for Qwen2.5-VL, and the one that its documentation proposes (1,280 tokens)."""
_FAMILIES = (
    ("simulator", re.compile(r"^sim:")),
    ("qwen2.5-vl", re.compile(r"qwen[-_.]?2[._-]?5[-_.]?(vl|omni)|^local:")),
    ("thousandths", re.compile(r"qwen[-_.]?3[-_.]?(vl|omni)|qwen[-_.]?2[-_.]?vl|internvl|glm-?4")),
    ("y-first", re.compile(r"gemini|gemma")),
    # Keep to the order that was asked for, not always to the scale.
    ("x-first", re.compile(r"(?<![a-z])(chat)?gpt|(?<![a-z0-9])o[134](?![a-z0-9])|claude|qwen|kimi|llava|llama|pixtral"
                           r"|mistral|grok|minicpm|molmo|deepseek|(?<![a-z])phi-")),
)  # fmt: skip


def family_of(*names: str) -> str | None:
    """The family of a model by the first name that tells; None when none does.

    Sources: the models' cards and documentation; see "Boxes" in docs/detect.md.
    """
    for name in names:
        for family, pattern in _FAMILIES:
            if pattern.search(name.lower()):
                return family
    return None


class BoxReader:
    """Places the boxes of one image. Each further reply may tell more about the convention: see `again`."""

    def __init__(self, size: tuple[int, int], model: str = "", convention: str = AUTO) -> None:
        """size: width and height of the image as sent, pixels. model: its name. convention: one of CONVENTIONS."""
        self._size = size
        self._names = [model]
        self._convention = convention
        self._boxes: list[RawBox] = []
        self._unreadable = 0
        self._astray = 0
        self._placed: dict[Region, RawBox | None] = {}

    def answered_by(self, model: str) -> None:
        """The name that the model gives itself, which may tell more than the one it was asked under."""
        if model not in self._names:
            self._names.insert(0, model)

    @property
    def unknown(self) -> bool:
        """Whether neither a convention nor a known name of the model tells how it writes boxes."""
        return self._convention == AUTO and family_of(*self._names) is None

    @property
    def seen(self) -> tuple[RawBox, ...]:
        """The boxes so far."""
        return tuple(self._boxes)

    def told(self, convention: str) -> None:
        """How the model writes boxes, known from elsewhere; boxes so far are to be placed anew."""
        self._convention = convention
        self._boxes, self._unreadable, self._placed = [], 0, {}

    def place(self, boxes: Sequence[RawBox | None]) -> list[Region | None]:
        """The regions of one reply's boxes, in the same order; None for what has no box or is left out."""
        self._unreadable += sum(box is not None and not box.values for box in boxes)
        # A reply that is asked for again repeats its boxes.
        self._boxes += [box for box in dict.fromkeys(boxes) if box and box.values and box not in self._boxes]
        found = self._candidates()
        return [self._region(box, found) for box in boxes]

    def place_parts(self, boxes: Sequence[RawBox | None], owner: Region | None) -> list[Region | None]:
        """The regions of parts of one object, by the convention of all other boxes, of which they are no evidence.

        None for what cannot be placed, and for what does not lie in or beside the owner's region.
        """
        found = self._candidates()
        regions = [self._region(box, found) for box in boxes]
        regions = [r if r and (owner is None or _belongs(r, owner)) else None for r in regions]
        self._astray += sum(box is not None and region is None for box, region in zip(boxes, regions, strict=True))
        return regions

    def copied(self, boxes: Sequence[RawBox | None], shown: Sequence[Region]) -> list[Region | None]:
        """As `place`, for boxes that repeat regions which the prompt gave in thousandths; others are left out."""
        regions = [
            _placed(Convention("thousandths", "xyxy", (1000, 1000)), b) if b and b.values else None for b in boxes
        ]
        return [r if r and any(r.iou(one) >= 0.1 for one in shown) else None for r in regions]

    def again(self, region: Region | None) -> Region | None:
        """A region that `place` gave, as all boxes since then place it."""
        if region is None or region not in self._placed:
            return region
        box = self._placed[region]
        return self._region(box, self._candidates()) if box else None

    @property
    def convention(self) -> str | None:
        """The convention by which boxes were placed; None when none was."""
        found = self._candidates()
        return next((found[0].name(box) for box in self._boxes if self._agreed(box, found)), None)

    @property
    def notes(self) -> list[str]:
        """What was left out, in sentences."""
        found = self._candidates()
        lost = [box for box in self._boxes if self._agreed(box, found) is None]
        unclear = [box for box in lost if len(found) > 1]
        notes = []
        if self._unreadable:
            notes.append(f"{_boxes(self._unreadable)} could not be read and {_were(self._unreadable)} left out")
        if self._astray:
            notes.append(f"{_boxes(self._astray)} of parts of objects {_were(self._astray)} left out")
        if unclear:
            ways = " or ".join(dict.fromkeys(c.name(unclear[0]) for c in found if _placed(c, unclear[0])))
            notes.append(
                f"{_boxes(len(unclear))} could be read as {ways} and {_were(len(unclear))} left out; "
                "say which with --boxes"
            )
        elif lost:
            notes.append(f"{_boxes(len(lost))} outside the image or without area {_were(len(lost))} left out")
        return notes

    def _region(self, box: RawBox | None, found: Sequence[Convention]) -> Region | None:
        region = self._agreed(box, found) if box is not None and box.values else None
        if region is not None:
            self._placed[region] = box if self._placed.get(region, box) == box else None
        return region

    @staticmethod
    def _agreed(box: RawBox, found: Sequence[Convention]) -> Region | None:
        """The place on which all these conventions agree."""
        regions = [_placed(convention, box) for convention in found]
        first = regions[0] if regions else None
        if first is None:
            return None
        same = all(r and all(abs(a - b) <= _SAME for a, b in zip(r.box, first.box, strict=True)) for r in regions)
        return first if same else None

    def _candidates(self) -> list[Convention]:
        """The conventions that fit all boxes so far; empty when none does."""
        if self._convention != AUTO:
            prefix = next(p for p in reversed(PREFIXES) if self._convention.startswith(p))
            scale = next(s for s in SCALES if prefix + s == self._convention)
            said = [replace(c, layout=PREFIXES[prefix]) for c in self._scales() if c.scale == scale]
            if scale == "pixels-28":  # bounded or not
                said = [c for c in said if _plausible(c, self._boxes, swaps=True)] or said
                return _better(said, self._boxes)
            return said[:1]
        boxes = self._boxes
        everything = self._scales()
        # What no convention at all can place is no evidence against any of them.
        boxes = [
            b for b in boxes if any(_placed(replace(c, layout=w), b) for c in everything for w in PREFIXES.values())
        ]
        for number, tier in enumerate(self._tiers(everything)):
            found = [c for c in tier if _plausible(c, boxes, swaps=number > 0)]
            if found:
                return _better(found, boxes)
        return []

    def _scales(self) -> list[Convention]:
        """Every scale, x first with corners."""
        width, height = self._size
        short = min(1.0, 768 / min(width, height))  # GPT-4o's own bounds, then Claude's
        area = min(1.0, 1568 / max(width, height), math.sqrt(1_150_000 / (width * height)))
        scaled = [(round(width * s), round(height * s)) for s in (short, area) if s < 1]
        return [
            *(Convention(scale, "xyxy", _FIXED[scale]) for scale in ("thousandths", "fractions", "percent")),
            *(Convention("pixels", "xyxy", frame) for frame in [self._size, *scaled]),
            *(Convention("pixels-28", "xyxy", qwen_size(*self._size, *most)) for most in ((), (_OLLAMA_PIXELS,))),
        ]

    def _tiers(self, scales: Sequence[Convention]) -> list[list[Convention]]:
        """The conventions that a model of this family uses, then those that it may fall back on."""
        family = family_of(*self._names)
        asked = [c for c in scales if c.scale == "thousandths"]
        y_first = [replace(c, layout="yxyx") for c in scales]
        by_size = [replace(c, layout="xywh") for c in scales]
        if family == "simulator":
            return [asked]
        if family == "qwen2.5-vl":
            return [[c for c in scales if c.scale == "pixels-28"], [*scales, *by_size]]
        if family == "thousandths":
            return [asked, [*scales, *by_size]]
        if family == "y-first":
            return [y_first[:1], y_first]
        every = [*scales, *by_size] if family == "x-first" else [*scales, *y_first, *by_size]
        return [every, every]


def _belongs(part: Region, owner: Region) -> bool:
    """Whether the middle of a part lies in its owner's region, or within a quarter of its size around it."""
    across, down = _BESIDE * (owner.x1 - owner.x0), _BESIDE * (owner.y1 - owner.y0)
    x, y = (part.x0 + part.x1) / 2, (part.y0 + part.y1) / 2
    return owner.x0 - across <= x <= owner.x1 + across and owner.y0 - down <= y <= owner.y1 + down


def _boxes(number: int) -> str:
    return f"{number} box{'es' if number > 1 else ''}"


def _were(number: int) -> str:
    return "were" if number > 1 else "was"
