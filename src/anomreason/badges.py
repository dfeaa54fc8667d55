"""Where the numbers of boxes stand: beside their boxes, never on what a box marks.

>>> place_badges([(0.0, 0.0, 1.0, 1.0)], widths=(200,), ratio=1.0)
[Badge(x=0.0, y=0.0, dx=11.0, dy=-15.0, apart=False)]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

Box: TypeAlias = "tuple[float, float, float, float]"
"""x0, y0, x1, y1; in fractions of the image or in pixels."""

HALF = 11.0
"""Half the side of a badge, pixels."""
GAP = 4.0
"""Between a badge and its box, which is drawn with a broad line, pixels."""
_STEPS = 6
"""Places that are tried along each side of a box."""
_RINGS = 3
"""Rows of badges around a box, for crowds."""
_CROWD = 30
"""Boxes of an image. With more there is no room left to search for, and only the nearest places are tried."""
_TOUCH, _ON_BADGE, _ON_BOX, _IN_BOX, _OUT = 10.0, 100.0, 20.0, 0.15, 1000.0
"""Costs of touching another badge, of covering it, all of another box or a part of a large one, and of leaving the
margin."""


class Badge(NamedTuple):
    """One number: a point on the edge of its box, and how far from there the middle of the number is."""

    x: float
    """Of the point, in fractions of the image's width."""
    y: float
    dx: float
    """Pixels, whatever size the image is shown in."""
    dy: float
    apart: bool
    """Whether it stands away from its box, so that a line has to lead there."""

    def square(self, width: float, height: float, half: float = HALF) -> Box:
        """What it covers, pixels from the corner of an image shown in this size."""
        x, y = self.x * width + self.dx, self.y * height + self.dy
        return x - half, y - half, x + half, y + half


def margin(half: float = HALF, gap: float = GAP) -> float:
    """Pixels that badges need around the image, for boxes that reach its edges."""
    return 2 * half + gap


def place_badges(
    boxes: Sequence[Box], widths: Sequence[float], ratio: float, half: float = HALF, gap: float = GAP
) -> list[Badge]:
    """A place beside each box (in fractions), a badge a box.

    widths: those that the image may be shown in, pixels, the smallest first; no badge covers another in any of them
    where that can be had. ratio: height over width. Small boxes choose first: large ones have more room around them.
    """
    scales = [(width, width * ratio) for width in widths]
    drawn = [[(x0 * w, y0 * h, x1 * w, y1 * h) for x0, y0, x1, y1 in boxes] for w, h in scales]
    taken: list[list[Box]] = [[] for _ in scales]
    found: dict[int, Badge] = {}
    for place in sorted(range(len(boxes)), key=lambda n: _area(boxes[n])):
        best, least = None, float("inf")
        for cost, badge in _candidates(boxes[place], scales[0], (half, gap), crowded=len(boxes) > _CROWD):
            if cost >= least:
                break
            for (w, h), others, badges in zip(scales, drawn, taken, strict=True):
                square = badge.square(w, h, half)
                cost += _cost(square, (w, h), others[:place] + others[place + 1 :], badges)
                cost += _OUT * _beyond(square, w, h, margin(half, gap))
            if cost < least:
                best, least = badge, cost
        assert best is not None  # the first candidate costs less than infinity
        found[place] = best
        for (w, h), badges in zip(scales, taken, strict=True):
            badges.append(best.square(w, h, half))
    return [found[place] for place in range(len(boxes))]


def _candidates(
    box: Box, smallest: tuple[float, float], size: tuple[float, float], crowded: bool
) -> Iterator[tuple[float, Badge]]:
    """(cost, badge) around a box, the cheapest first: at its corners, along its sides, then in rows further out.

    smallest: of the sizes of the image. size: half a badge, and the gap.
    """
    (x0, y0, x1, y1), (half, gap) = box, size
    wide, high = (x1 - x0) * smallest[0], (y1 - y0) * smallest[1]
    pitch = 2 * half + 2
    for ring in range(1 if crowded else _RINGS):
        away = gap + half + ring * pitch
        for k in range(2 if crowded else _STEPS):
            along = half + k * pitch
            above, beside = (ring > 0 or along - half > side for side in (wide, high))
            row = (
                Badge(x0, y0, along, -away, above),
                Badge(x1, y0, away, along, beside),
                Badge(x0, y1, along, away, above),
                Badge(x0, y0, -away, along, beside),
                Badge(x1, y0, -along, -away, above),
                Badge(x1, y1, away, -along, beside),
                Badge(x1, y1, -along, away, above),
                Badge(x0, y1, -away, -along, beside),
            )
            yield from ((2.0 * ring + 0.3 * k + 0.02 * n, badge) for n, badge in enumerate(row))


def _cost(square: Box, size: tuple[float, float], boxes: Sequence[Box], badges: Sequence[Box]) -> float:
    whole = _area(square)
    covered = [shared for badge in badges if (shared := _shared(square, badge))]
    cost = _TOUCH * len(covered) + _ON_BADGE * sum(covered) / whole
    for box in boxes:
        if shared := _shared(square, box):
            cost += _ON_BOX * shared / _area(box) + _IN_BOX * shared / whole
    outside = whole - _shared(square, (0.0, 0.0, *size))
    return cost + 0.25 * outside / whole  # the margin is for those that find no room on the image


def _beyond(square: Box, width: float, height: float, around: float) -> float:
    """Pixels by which a badge leaves the margin."""
    x0, y0, x1, y1 = square
    return max(0.0, -around - x0, -around - y0, x1 - width - around, y1 - height - around)


def _area(box: Box) -> float:
    return max((box[2] - box[0]) * (box[3] - box[1]), 1e-12)


def _shared(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0
