"""How the page of an image shows where its anomalies are: boxes, numbers beside them, and enlarged parts.

mark([Anomaly(name="Six fingers", ..., region=Region(x0=0.4, y0=0.5, x1=0.5, y1=0.6))], (800, 600)).each[0].badge
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anomreason.anomaly import Anomaly, Region
from anomreason.badges import Badge, place_badges

WIDTHS = (240.0, 480.0, 960.0)
"""Pixels between which pages show an image, from telephones to large screens; badges are placed for all of them."""
AROUND = 0.25
"""Share of a region's longer side that an enlarged part shows on each side of it."""
SMALLEST_PART = 96
"""Pixels of the image as sent, the least that is enlarged."""
LARGEST_PART = (0.75, 0.65)
"""Shares of width and height; a larger part would be smaller on the card than in the image."""


@dataclass(frozen=True, slots=True)
class EnlargedPart:
    """An enlarged part of the image, in pixels of the image as sent."""

    x: float
    y: float
    width: float
    height: float
    whole: tuple[int, int]
    """Width and height of the image."""


@dataclass(frozen=True, slots=True)
class BoxMark:
    """One anomaly on the page."""

    number: int
    """Place among the anomalies, from 1."""
    anomaly: Anomaly
    region: Region
    badge: Badge
    part: EnlargedPart | None
    """None where the region is so large that the image shows it as large, or where the image's size is not known."""


@dataclass(frozen=True, slots=True)
class BoxMarks:
    """All that is drawn over one image."""

    each: Sequence[BoxMark]
    """Large regions first, so that small ones lie on top of them."""
    sides: Sequence[str]
    """Sides of the image beyond which badges stand: left, top, right, bottom."""

    def of(self, number: int) -> BoxMark | None:
        """The mark of an anomaly; None for one without a region."""
        return next((mark for mark in self.each if mark.number == number), None)


def mark(anomalies: Sequence[Anomaly], size: tuple[int, int] | None) -> BoxMarks:
    """BoxMarks for those of the anomalies that have a region. size: of the image, pixels; None where not known."""
    boxed = [(n, a, a.region) for n, a in enumerate(anomalies, 1) if a.region is not None]
    boxed.sort(key=lambda one: -one[2].area)
    ratio = size[1] / size[0] if size else 1.0
    widths = [width / max(ratio, 1.0) for width in WIDTHS]
    badges = place_badges([region.box for _, _, region in boxed], widths, ratio)
    squares = [(badge.square(width, width * ratio), width, width * ratio) for badge in badges for width in widths]
    beyond = {
        "left": any(square[0] < 0 for square, _, _ in squares),
        "top": any(square[1] < 0 for square, _, _ in squares),
        "right": any(square[2] > width for square, width, _ in squares),
        "bottom": any(square[3] > height for square, _, height in squares),
    }
    each = [
        BoxMark(number, anomaly, region, badge, _part(region, size))
        for (number, anomaly, region), badge in zip(boxed, badges, strict=True)
    ]
    return BoxMarks(each, [side for side, needed in beyond.items() if needed])


def _part(region: Region, whole: tuple[int, int] | None) -> EnlargedPart | None:
    if whole is None:
        return None
    (x0, x1), (y0, y1) = (region.x0, region.x1), (region.y0, region.y1)
    around = AROUND * max((x1 - x0) * whole[0], (y1 - y0) * whole[1])
    left, width = _stretch(x0 * whole[0], x1 * whole[0], around, whole[0])
    top, height = _stretch(y0 * whole[1], y1 * whole[1], around, whole[1])
    if width > LARGEST_PART[0] * whole[0] or height > LARGEST_PART[1] * whole[1]:
        return None
    return EnlargedPart(left, top, width, height, whole)


def _stretch(start: float, end: float, around: float, most: int) -> tuple[float, float]:
    """(start, length) of a stretch with its surroundings, within 0..most."""
    around = max(around, (SMALLEST_PART - (end - start)) / 2)
    start, end = max(0.0, start - around), min(float(most), end + around)
    return start, end - start
