"""Enlarged cut-outs of small objects and of parts: which are worth showing, and the numbered sheets that show them.

    [shown] = await asyncio.to_thread(cut_outs_of, loaded, [objects], "auto")
    sheets_of(shown)[0].encoded

A cut-out is made only where it shows something larger than the image as sent does.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw, ImageFont

from anomreason.agent.boxes import AUTO, BoxReader, RawBox
from anomreason.agent.candidates import Entry
from anomreason.agent.forms import Suspicion
from anomreason.anomaly import Region, SceneObject
from anomreason.images import Encoded, LoadedImage, cut_out, png_of

Crops = Literal["never", "auto", "always"]
"""Whether the schedule `lean` shows cut-outs: `always` wherever they enlarge, `auto` where that shows more."""

MOST = 6
"""Cut-outs on one sheet."""
SHEETS = 2
"""Sheets of an inspection that is the image's only one; every other call has one."""
_CELLS = {1: (512, 512), 2: (512, 512), 3: (384, 384), 4: (384, 384)}
_CELL = (341, 384)
"""Width and height of a cut-out with its number, pixels: a sheet of 3 to 6 has at most 1023x768, which gpt-4o takes in
as it is, in four tiles."""
_STRIP = 24
"""Height of the white strip above a cut-out, which has its number: nothing covers the cut-out itself."""
_GAP = 8
_MARGIN = 0.2
"""Of an object's width or height, shown around it on each side."""
_PART_MARGIN = 24
"""Pixels as sent, at least, around a part: one sees where it is joined, and a box a little off shows it as well."""
_LEAST = 32
"""Pixels of the file that a cut-out shows at least in each direction: fewer are a blur whatever they are."""
SMALL = 96
"""An object whose longer side has fewer pixels than this, as sent, is small."""
MORE = 1.25
"""A file with so many times the pixels a side that were sent holds details that the image as sent does not show."""
_CLOSER = 4 / 3
"""Such details, and parts, are worth a cut-out that shows them so many times larger than the image as sent."""
_WITHIN = 0.9
"""Share of a part's area in another cut-out from which that shows it too."""


@dataclass(frozen=True, slots=True)
class View:
    """What a cut-out can show: an object, or a part of one."""

    of: str
    """Name of the object."""
    region: Region
    part: str | None = None
    """None: the object itself."""
    as_part: bool = False
    """Whether it is a part, or an object without parts beside others that have some, such as a hand listed apart."""

    @property
    def name(self) -> str:
        """The object's name, or the part's with that of its owner."""
        return self.of if self.part is None else part_name(self.part, self.of)


def part_name(part: str, of: str) -> str:
    """`left hand of woman in red`; the part alone where it names its owner already."""
    return part if re.search(rf"(?<!\w){re.escape(of)}(?!\w)", part, re.IGNORECASE) else f"{part} of {of}"


@dataclass(frozen=True, slots=True)
class CutOut:
    """An object or a part of one, enlarged."""

    view: View
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


def worth_showing(view: View, loaded: LoadedImage, crops: Crops, count: int) -> bool:
    """Whether a cut-out of it, one of `count`, shows more than the image as sent."""
    sent, region, enlarged = loaded.encoded, view.region, _enlarged(view, loaded, count)
    longer = max((region.x1 - region.x0) * sent.width, (region.y1 - region.y0) * sent.height)
    if crops == "always":
        return enlarged > 1
    closer = (view.as_part or holds_more(loaded)) and enlarged >= _CLOSER
    return crops == "auto" and (longer < SMALL or closer)


def _enlarged(view: View, loaded: LoadedImage, count: int) -> float:
    """How many times larger than in the image as sent one of `count` cut-outs shows it."""
    place, sent = _place(view, loaded), loaded.encoded
    width, height = _room(_cell(math.ceil(count / math.ceil(count / MOST))))
    return min(width / ((place.x1 - place.x0) * sent.width), height / ((place.y1 - place.y0) * sent.height))


def holds_more(loaded: LoadedImage) -> bool:
    """Whether the file has clearly more pixels than were sent."""
    return loaded.width >= MORE * loaded.encoded.width


def views_of(objects: Sequence[SceneObject], parted: bool) -> list[list[View]]:
    """What could be shown of each object: the object itself, then its parts as they were listed.

    parted: whether any object of the image has parts.
    """
    whole = [[View(o.name, o.region, None, parted and not o.parts)] if o.region else [] for o in objects]
    parts = [[View(o.name, part.region, part.name, True) for part in o.parts] for o in objects]
    return [[*a, *b] for a, b in zip(whole, parts, strict=True)]


def chosen(by_object: Sequence[Sequence[View]], loaded: LoadedImage, crops: Crops, most: int) -> list[View]:
    """Of the views of some objects as many as are worth showing among so many, at most `most`, object by object.

    Objects take turns: one view of each, then a second of each, and so on.
    """
    order = [view for views in by_object for view in views]
    for count in range(most, 0, -1):
        shown = _in_turns(by_object, loaded, crops, count)[:count]
        if len(shown) == count:
            return sorted(shown, key=order.index)
    return []


def _in_turns(by_object: Sequence[Sequence[View]], loaded: LoadedImage, crops: Crops, count: int) -> list[View]:
    by_object = [[v for v in views if worth_showing(v, loaded, crops, count)] for views in by_object]
    whole = [view for views in by_object for view in views if view.part is None]
    shown: list[View] = []
    for view in (view for turn in itertools.zip_longest(*by_object) for view in turn if view):
        if view.part is None or not any(_shows(other, view, loaded, count) for other in (*whole, *shown)):
            shown.append(view)
    return shown


def _shows(view: View, part: View, loaded: LoadedImage, count: int) -> bool:
    """Whether the cut-out of a view shows a part too, nearly as well as the part's own would."""
    place, region = _place(view, loaded), part.region
    across = min(place.x1, region.x1) - max(place.x0, region.x0)
    down = min(place.y1, region.y1) - max(place.y0, region.y0)
    if min(across, down) <= 0 or across * down < _WITHIN * region.area:
        return False
    return _detail(part, loaded, count) < _CLOSER * _detail(view, loaded, count)


def _detail(view: View, loaded: LoadedImage, count: int) -> float:
    """How many times as many pixels of the file a side its cut-out shows as the image as sent does."""
    return min(_enlarged(view, loaded, count), loaded.width / loaded.encoded.width)


def cut_outs_of(loaded: LoadedImage, groups: Sequence[Sequence[SceneObject]], crops: Crops) -> list[list[CutOut]]:
    """The cut-outs to show of each group of objects. Raises UnreadableImage when the file cannot be read again."""
    most = MOST if len(groups) > 1 else MOST * SHEETS
    parted = any(o.parts for group in groups for o in group)
    views = [chosen(views_of(group, parted), loaded, crops, most) for group in groups]
    places = [_place(view, loaded) for of_one in views for view in of_one]
    pixels = cut_out(loaded, places, max(max(size) for size in _CELLS.values())) if places else []
    cut = iter(zip(places, pixels, strict=True))
    return [[CutOut(view, *next(cut)) for view in of_one] for of_one in views]


def concerned(cutouts: Sequence[CutOut], entries: Sequence[Entry]) -> list[CutOut]:
    """The cut-outs of what candidates are about, at most a sheet.

    Candidates take turns, the surest first: each has the view of which it speaks most, then its next one, and so on.
    It speaks of an object or part that it names, and of a part of its objects whose word stands in it.
    """
    own = [
        sorted((rank, n) for n, c in enumerate(cutouts) if (rank := _rank(c.view, entry)) < _UNCONCERNED)
        for entry in sorted(entries, key=_surest)
    ]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*own))
    chosen = list(dict.fromkeys(turn[1] for turn in turns if turn))
    return [cutouts[n] for n in sorted(chosen[:MOST])]


def _surest(entry: Entry) -> float:
    sure = entry.proposed.sure if isinstance(entry.proposed, Suspicion) else None
    return -(50.0 if sure is None else sure)


_UNCONCERNED = 2


def _rank(view: View, entry: Entry) -> int:
    """0: the candidate speaks of it; 1: it is another view of an object that the candidate is about."""
    named = {name.casefold() for name in (entry.of, *entry.proposed.objects) if name}
    if view.name.casefold() in named:
        return 0
    if view.of.casefold() not in named:
        return _UNCONCERNED
    word = (re.findall(r"\w+", (view.part or "").casefold()) or [""])[-1]
    return 0 if word and word in f"{entry.proposed.name} {entry.proposed.phenomenon}".casefold() else 1


def _place(view: View, loaded: LoadedImage) -> Region:
    """What its cut-out shows of the image: the region with its margin."""
    least = _PART_MARGIN if view.as_part else 0
    x0, x1 = _wider(view.region.x0, view.region.x1, least / loaded.encoded.width, loaded.width)
    y0, y1 = _wider(view.region.y0, view.region.y1, least / loaded.encoded.height, loaded.height)
    return Region(x0=x0, y0=y0, x1=x1, y1=y1)


def _wider(low: float, high: float, least: float, length: int) -> tuple[float, float]:
    """The span with its margin of at least `least`, of at least `_LEAST` of `length` pixels, inside 0..1."""
    margin = max((high - low) * _MARGIN, least)
    size = min(1.0, max(high - low + 2 * margin, _LEAST / length))
    start = min(max(0.0, (low + high - size) / 2), 1 - size)
    return start, start + size


def _cell(count: int) -> tuple[int, int]:
    """Width and height of each of so many cut-outs on a sheet, with its number, pixels."""
    return _CELLS.get(count, _CELL)


def _room(cell: tuple[int, int]) -> tuple[int, int]:
    """Width and height that a cell leaves for the cut-out itself."""
    return cell[0] - _GAP, cell[1] - _STRIP - _GAP


def sheet_size(count: int) -> tuple[int, int]:
    """Width and height of a sheet of so many cut-outs, pixels."""
    across, (width, height) = math.ceil(math.sqrt(count)), _cell(count)
    return across * width, math.ceil(count / across) * height


def sheets_of(cutouts: Sequence[CutOut]) -> list[CutOutSheet]:
    """The cut-outs on as few sheets as they need, numbered from 1."""
    count = math.ceil(len(cutouts) / MOST)
    cuts = [round(i * len(cutouts) / count) for i in range(count + 1)] if count else []
    return [_sheet(cutouts[a:b], a + 1) for a, b in itertools.pairwise(cuts)]


def _sheet(cutouts: Sequence[CutOut], first: int) -> CutOutSheet:
    width, height = sheet_size(len(cutouts))
    across, down = _cell(len(cutouts))
    sheet = Image.new(cutouts[0].pixels.mode, (width, height), "white")
    draw, font, cells = ImageDraw.Draw(sheet), ImageFont.load_default(_STRIP - 4), []
    for number, cutout in enumerate(cutouts):
        left, top = number % (width // across) * across, number // (width // across) * down
        draw.text((left + _GAP // 2, top), str(first + number), "black", font)
        room = _room((across, down))
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
    return "\n".join(
        f"{n}: {json.dumps(c.view.name, ensure_ascii=False)} at {_thousandths(c.place)}" for n, c in numbered
    )


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
