"""Enlarged cut-outs of small objects: which ones are worth showing, and the numbered sheets that show them.

    shown = await asyncio.to_thread(cut_out_of, loaded, objects, "auto")
    sheets_of([shown[0], shown[3]])[0].encoded

A cut-out is made only where it shows an object larger than the image as sent does.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

from anomreason.agent.boxes import AUTO, BoxReader, RawBox
from anomreason.anomaly import Region, SceneObject
from anomreason.images import Encoded, LoadedImage, cut_out, png_of

Crops = Literal["never", "auto", "always"]
"""Whether the schedule `lean` shows cut-outs: `always` wherever they enlarge, `auto` where that shows more."""

MOST = 6
"""Cut-outs on one sheet."""
_CELLS = {1: 512, 2: 512}
_CELL = 384
"""Pixels a side of a cut-out with its number: a sheet of 3 or 4 has 768x768, as much as gpt-4o takes in."""
_STRIP = 24
"""Height of the white strip above a cut-out, which has its number: nothing covers the cut-out itself."""
_GAP = 8
_MARGIN = 0.2
"""Of an object's width or height, shown around it on each side."""
_LEAST = 32
"""Pixels of the file that a cut-out shows at least in each direction: fewer are a blur whatever they are."""
SMALL = 96
"""An object whose longer side has fewer pixels than this, as sent, is small."""
MORE = 1.25
"""A file with so many times the pixels a side that were sent holds details that the image as sent does not show."""
_CLOSER = 4 / 3
"""Such details are worth a cut-out that shows the object so many times larger than the image as sent."""


@dataclass(frozen=True, slots=True)
class CutOut:
    """One object, enlarged."""

    name: str
    place: Region
    """Which part of the image it shows."""
    pixels: Image.Image


@dataclass(frozen=True, slots=True)
class CutOutSheet:
    """Up to `MOST` cut-outs in one image."""

    encoded: Encoded
    first: int
    """Number of its first cut-out."""
    cutouts: tuple[CutOut, ...]
    cells: tuple[Region, ...]
    """Where each of them lies on the sheet."""


def worth_showing(region: Region, loaded: LoadedImage, crops: Crops) -> bool:
    """Whether an object at `region` is shown in a cut-out."""
    sent = loaded.encoded
    longer = max((region.x1 - region.x0) * sent.width, (region.y1 - region.y0) * sent.height)
    enlarged = (_CELL - _STRIP - _GAP) / (longer * (1 + 2 * _MARGIN))
    if crops == "always":
        return enlarged > 1
    return crops == "auto" and (longer < SMALL or (holds_more(loaded) and enlarged >= _CLOSER))


def holds_more(loaded: LoadedImage) -> bool:
    """Whether the file has clearly more pixels than were sent."""
    return loaded.width >= MORE * loaded.encoded.width


def cut_out_of(loaded: LoadedImage, objects: Sequence[SceneObject], crops: Crops) -> dict[str, CutOut]:
    """The cut-outs worth showing, by the object's name. Raises UnreadableImage when the file cannot be read again."""
    regions = [(o.name, o.region) for o in objects if o.region and worth_showing(o.region, loaded, crops)]
    places = [_with_margin(region, loaded) for _, region in regions]
    side = max(_CELLS.values())
    pixels = cut_out(loaded, places, side) if places else []
    return {name: CutOut(name, place, p) for (name, _), place, p in zip(regions, places, pixels, strict=True)}


def _with_margin(region: Region, loaded: LoadedImage) -> Region:
    x0, x1 = _wider(region.x0, region.x1, loaded.width)
    y0, y1 = _wider(region.y0, region.y1, loaded.height)
    return Region(x0=x0, y0=y0, x1=x1, y1=y1)


def _wider(low: float, high: float, length: int) -> tuple[float, float]:
    """The span with its margin, of at least `_LEAST` of `length` pixels, inside 0..1."""
    size = min(1.0, max((high - low) * (1 + 2 * _MARGIN), _LEAST / length))
    start = min(max(0.0, (low + high - size) / 2), 1 - size)
    return start, start + size


def sheet_size(count: int) -> tuple[int, int]:
    """Width and height of a sheet of so many cut-outs, pixels."""
    across, cell = math.ceil(math.sqrt(count)), _CELLS.get(count, _CELL)
    return across * cell, math.ceil(count / across) * cell


def sheets_of(cutouts: Sequence[CutOut]) -> list[CutOutSheet]:
    """The cut-outs on as few sheets as they need, numbered from 1."""
    count = math.ceil(len(cutouts) / MOST)
    cuts = [round(i * len(cutouts) / count) for i in range(count + 1)] if count else []
    return [_sheet(cutouts[a:b], a + 1) for a, b in itertools.pairwise(cuts)]


def _sheet(cutouts: Sequence[CutOut], first: int) -> CutOutSheet:
    width, height = sheet_size(len(cutouts))
    cell = _CELLS.get(len(cutouts), _CELL)
    sheet = Image.new(cutouts[0].pixels.mode, (width, height), "white")
    draw, font, cells = ImageDraw.Draw(sheet), ImageFont.load_default(_STRIP - 4), []
    for number, cutout in enumerate(cutouts):
        left, top = number % (width // cell) * cell, number // (width // cell) * cell
        draw.text((left + _GAP // 2, top), str(first + number), "black", font)
        room = (cell - _GAP, cell - _STRIP - _GAP)
        scale = min(room[0] / cutout.pixels.width, room[1] / cutout.pixels.height)
        size = (max(1, round(cutout.pixels.width * scale)), max(1, round(cutout.pixels.height * scale)))
        at = (left + _GAP // 2, top + _STRIP)
        sheet.paste(cutout.pixels.resize(size, Image.Resampling.LANCZOS), at)
        edges = (at[0] / width, at[1] / height, (at[0] + size[0]) / width, (at[1] + size[1]) / height)
        cells.append(Region(x0=edges[0], y0=edges[1], x1=edges[2], y1=edges[3]))
    sheet.info = dict(cutouts[0].pixels.info)
    return CutOutSheet(png_of(sheet), first, tuple(cutouts), tuple(cells))


def cutout_lines(sheets: Sequence[CutOutSheet]) -> str:
    """For a prompt: number, name and place of each cut-out, in thousandths."""
    numbered = [(sheet.first + n, c) for sheet in sheets for n, c in enumerate(sheet.cutouts)]
    return "\n".join(f"{n}: {json.dumps(c.name, ensure_ascii=False)} at {_thousandths(c.place)}" for n, c in numbered)


def _thousandths(r: Region) -> list[int]:
    return [round(v * 1000) for v in (r.x0, r.y0, r.x1, r.y1)]


class SheetBoxes:
    """Places boxes that were drawn on sheets in the whole image."""

    def __init__(self, sheets: Sequence[CutOutSheet], model: str, convention: str | None) -> None:
        """convention: of the boxes on the whole image, where it is known."""
        self._found = {sheet.first + n: (sheet, n) for sheet in sheets for n in range(len(sheet.cutouts))}
        sizes = [(sheet.encoded.width, sheet.encoded.height) for sheet in sheets]
        self._readers = [BoxReader(size, model, convention or AUTO) for size in sizes]
        self._sheets = list(sheets)

    def place(self, box: RawBox | None, number: int) -> Region | None:
        """The region of a box on cut-out `number`: its cut-out's place when the box cannot be told to lie in it.

        None for a number that no cut-out has.
        """
        if number not in self._found:
            return None
        sheet, n = self._found[number]
        cell, place = sheet.cells[n], sheet.cutouts[n].place
        [drawn] = self._readers[self._sheets.index(sheet)].place([box])
        return _inside(drawn, cell, place) or place


def _inside(drawn: Region | None, cell: Region, place: Region) -> Region | None:
    """What a region of the sheet, whose middle lies in the cell, shows of the image; None for another one."""
    if drawn is None:
        return None
    x, y = (drawn.x0 + drawn.x1) / 2, (drawn.y0 + drawn.y1) / 2
    if not (cell.x0 <= x <= cell.x1 and cell.y0 <= y <= cell.y1):
        return None
    across, down = (place.x1 - place.x0) / (cell.x1 - cell.x0), (place.y1 - place.y0) / (cell.y1 - cell.y0)
    x0, x1 = (place.x0 + (min(max(v, cell.x0), cell.x1) - cell.x0) * across for v in (drawn.x0, drawn.x1))
    y0, y1 = (place.y0 + (min(max(v, cell.y0), cell.y1) - cell.y0) * down for v in (drawn.y0, drawn.y1))
    x1, y1 = min(1.0, x1), min(1.0, y1)
    return Region(x0=x0, y0=y0, x1=x1, y1=y1) if x0 < x1 and y0 < y1 else None
