"""Pictures turned and tinted, and cut-outs of things set down in other pictures: to be named, not to be judged.

A tower that only ever saw things as they are, and as those violations show them that it was shown, takes what is wrong
with a thing, and where it is, for evidence of which thing it is: a green dog must be something else. So it is shown
things in any colour, turn, size and surroundings that say nothing of what may be, and asked only what they are (copying
things into other pictures is after Ghiasi et al. 2021, "Simple Copy-Paste is a Strong Data Augmentation Method"). Try
it:

    rng = np.random.default_rng(0)
    with_cutouts(rng, scene, [drawn(rng, "dog", 196)])[0].picture
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tools.tiny.corpus import Bytes, held_out, thing_names
from tools.tiny.model import STEP

from anomreason.scenes.sprites.sprite import vendored
from anomreason.scenes.sprites.table import table

UPRIGHT, TURNED, UNKNOWN = 0, 1, 2
TURNS = (0.5, 0.1, 0.3, 0.1)
"""By quarter turns."""
TINTED = 0.5
SILHOUETTES = 0.75
"""Share of the cut-outs that are cut along the thing's outline; the others bring what is around it."""
AS_IT_STOOD = 0.4
"""Share of the cut-outs that keep size, turn, colour and place, and so stand as things do, in another scene."""
DRAWN = 0.4
"""Share of the cut-outs that show a thing's own picture."""
SHADOWED = 0.5
"""Share of the cut-outs that have a shadow at their foot."""
SMALLEST, LARGEST = 14, 0.66
"""Of a cut-out's longer side: pixels, and share of the picture's side."""
SPLINTER = 0.25
"""Share of a token that a thing must cover in a changed picture to be its label; with less it has none."""
_MARGIN = 2
_TRIES = 12

Mask = npt.NDArray[np.bool_]
Cover = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class View:
    """A picture, or a piece of one, and what is seen at each of its pixels."""

    picture: Bytes
    """(height, width, 3)."""
    outlines: Bytes
    """(height, width): 0 for background, else 1 + the thing's place among the names."""
    turned: Bytes
    """(height, width): UPRIGHT, TURNED or UNKNOWN."""


@dataclass(frozen=True, slots=True)
class Cutout:
    piece: View
    corner: tuple[int, int] | None = None
    """Row and column of its upper left corner; None: anywhere."""


def changed(rng: np.random.Generator, view: View) -> View:
    """Turned by quarters, mirrored, in one hue, several of these or none."""
    quarters, mirrored = int(rng.choice(4, p=TURNS)), rng.random() < 0.5
    picture, turned = view.picture, view.turned
    if rng.random() < TINTED:
        picture = _tinted(rng, picture)
    if quarters:
        turned = np.where(turned == UPRIGHT, TURNED, UNKNOWN).astype(np.uint8)
    parts = [np.rot90(part, quarters) for part in (picture, view.outlines, turned)]
    return View(*(part[:, ::-1] for part in parts)) if mirrored else View(*parts)


def repainted(rng: np.random.Generator, view: View) -> tuple[View, Mask]:
    """One of the picture's things in one hue, and which pixels it has; none of a picture without."""
    things = np.unique(view.outlines[view.outlines > 0])
    touched = np.isin(view.outlines, rng.choice(things, size=1) if len(things) else [])
    shown = _softened(touched)[..., None]
    picture = np.rint(view.picture * (1 - shown) + _tinted(rng, view.picture) * shown).astype(np.uint8)
    return View(picture, view.outlines, view.turned), touched


def _tinted(rng: np.random.Generator, picture: Bytes) -> Bytes:
    """Every hue becomes one; light and dark stay."""
    hue, saturation, value = Image.fromarray(np.ascontiguousarray(picture)).convert("HSV").split()
    lift = int(rng.integers(20, 170))
    hue = Image.new("L", hue.size, int(rng.integers(256)))
    saturation = saturation.point([min(255, lift + round(s * (255 - lift) / 255)) for s in range(256)])
    return np.asarray(Image.merge("HSV", (hue, saturation, value)).convert("RGB"))


def with_cutouts(rng: np.random.Generator, view: View, cutouts: Sequence[Cutout]) -> tuple[View, Mask]:
    """The picture with these on its background, and which pixels are not as they were.

    One for which there is no room is left out.
    """
    made = View(*(np.array(part) for part in (view.picture, view.outlines, view.turned)))
    touched = np.zeros(made.outlines.shape, dtype=np.bool_)
    for one in cutouts:
        piece, stays = one.piece, one.corner is not None
        outlined = stays or rng.random() < SILHOUETTES
        cover = _softened(piece.outlines > 0) if outlined else _rounded(rng, piece.outlines.shape)
        high, wide = cover.shape
        for _ in range(1 if stays else _TRIES):
            y, x = one.corner or (int(rng.integers(0, len(touched) - edge + 1)) for edge in (high, wide))
            there = slice(y, y + high), slice(x, x + wide)
            if not (made.outlines[there] * (cover > 0)).any():
                if rng.random() < SHADOWED:
                    _shade(rng, made, touched, there)
                _set_down(made, piece, cover, there)
                touched[there] |= cover > 0
                break
    return made, touched


def cut(rng: np.random.Generator, view: View, thing: int) -> Cutout | None:
    """That thing: as it stood, or changed, in another size and with a little of what is around it. None where it shows
    in no pixel."""
    rows, columns = np.nonzero(view.outlines == thing)
    if not len(rows):
        return None
    margin = _MARGIN + int(rng.uniform(0, 0.2) * max(np.ptp(rows), np.ptp(columns)))
    top, left = max(int(rows.min()) - margin, 0), max(int(columns.min()) - margin, 0)
    there = slice(top, int(rows.max()) + margin + 1), slice(left, int(columns.max()) + margin + 1)
    square, outlines, turned = view.picture[there], view.outlines[there], view.turned[there]
    if rng.random() < AS_IT_STOOD:
        return Cutout(View(square, np.where(outlines == thing, outlines, 0), turned), (top, left))
    longest = max(outlines.shape)
    wanted = float(np.clip(longest * 2.0 ** rng.uniform(-1, 1), SMALLEST, LARGEST * len(view.outlines)))
    high, wide = (max(2, round(edge * wanted / longest)) for edge in outlines.shape)
    inside = Image.fromarray(np.where(outlines > 0, 255, 0).astype(np.uint8))
    picture, smooth = (
        np.asarray(part.resize((wide, high), Image.Resampling.BICUBIC)) for part in (Image.fromarray(square), inside)
    )
    at = (np.arange(high) * outlines.shape[0] // high)[:, None], np.arange(wide) * outlines.shape[1] // wide
    shown = np.where(smooth > 127, np.where(outlines[at] > 0, outlines[at], thing), 0).astype(np.uint8)
    return Cutout(changed(rng, View(picture, shown, turned[at])))


@cache
def with_picture() -> tuple[str, ...]:
    """Things that have a picture of their own, which is the same in every scene."""
    return tuple(thing.name for thing in table().things if thing.drawn is None)


def drawn(rng: np.random.Generator, name: str, side: int) -> Cutout:
    """A thing's own picture, sharp in any size and alone on one colour, changed.

    Of one of `with_picture`. side: pixels of the picture's edge for which it is made.
    """
    sprite = vendored(table().named(name).picture)
    longest = SMALLEST * (LARGEST * side / SMALLEST) ** rng.random()
    wide, high = (max(2, round(edge * longest / max(sprite.size))) for edge in sprite.size)
    small = sprite.resize((wide, high), Image.Resampling.BICUBIC)
    picture = Image.new("RGB", (wide, high), tuple(int(c) for c in rng.integers(60, 230, size=3)))
    picture.paste(small, (0, 0), small)
    outlines = np.where(np.asarray(small.getchannel("A")) > 127, 1 + thing_names().index(name), 0).astype(np.uint8)
    return Cutout(changed(rng, View(np.asarray(picture), outlines, np.zeros_like(outlines))))


def _softened(inside: Mask) -> Cover:
    """Its edge a pixel wide."""
    padded = np.pad(inside.astype(np.float32), 1)
    high, wide = inside.shape
    near = [padded[y : y + high, x : x + wide] for y, x in ((0, 1), (1, 0), (1, 2), (2, 1))]
    mean: Cover = (inside * (4 + sum(near)) / 8).astype(np.float32)
    return mean


def _rounded(rng: np.random.Generator, shape: tuple[int, ...]) -> Cover:
    """The whole of it, round or square, its edge soft or sharp."""
    power, soft = float(rng.uniform(2.5, 12)), float(rng.uniform(0.02, 0.3))
    v, u = (np.abs(np.linspace(-1, 1, edge)) for edge in shape)
    radius = (v[:, None] ** power + u**power) ** (1 / power)
    cover: Cover = np.clip((1 - radius) / soft, 0, 1).astype(np.float32)
    return cover


def _shade(rng: np.random.Generator, made: View, touched: Mask, there: tuple[slice, slice]) -> None:
    """Darken the ground under what will be set down there."""
    (top, foot), (left, right) = ((part.start, part.stop) for part in there)
    wide, high = 0.6 * (right - left), 2 + 0.12 * (foot - top)
    y, x = np.ogrid[: len(touched), : len(touched)]
    inside = np.clip(1.3 - ((y - foot + 1) / high) ** 2 - ((x - (left + right) / 2) / wide) ** 2, 0, 1)
    inside = inside * (made.outlines == 0)
    made.picture[...] = made.picture * (1 - rng.uniform(0.2, 0.5) * inside[..., None])
    touched |= inside > 0


def _set_down(made: View, piece: View, cover: Cover, there: tuple[slice, slice]) -> None:
    ground, shown = made.picture[there], cover[..., None]
    ground[...] = np.rint(ground * (1 - shown) + piece.picture * shown)
    kept = cover >= 0.5
    made.outlines[there] = np.where(kept, piece.outlines, made.outlines[there])
    made.turned[there] = np.where(kept, piece.turned, made.turned[there])


def tokens(view: View) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each token: the thing (0 background, -1 unknown), and whether it is turned (-1 unknown).

    (tokens,) each.
    """
    order, turned = _by_token(view.outlines), _by_token(view.turned)
    count, pixels = order.shape
    most = 1 + len(table().things)
    votes = np.bincount((np.arange(count)[:, None] * most + order).ravel(), minlength=count * most).reshape(count, most)
    votes[:, 0] = 0
    best, share = votes.argmax(axis=1), votes.max(axis=1) / pixels
    things = np.where(share >= SPLINTER, best, np.where(share > 0.04, -1, 0))
    own = order == best[:, None]
    down = ((turned == TURNED) & own).sum(axis=1) / np.maximum(own.sum(axis=1), 1)
    known = (things > 0) & told_upright()[best] & ~((turned == UNKNOWN) & own).any(axis=1)
    return things.astype(np.int64), np.where(known, down > 0.5, -1).astype(np.int64)


def changed_tokens(touched: Mask) -> Mask:
    """Which tokens hold such a pixel. (tokens,)"""
    return np.asarray(_by_token(touched).any(axis=1))


def _by_token(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(side, side) -> (tokens, pixels of a token)."""
    count = len(pixels) // STEP
    return pixels.reshape(count, STEP, count, STEP).transpose(0, 2, 1, 3).reshape(count * count, -1)


@cache
def told_upright() -> npt.NDArray[np.bool_]:
    """By label: whether it is told of such a thing that it is upright or turned. Not where it has no upper side, and
    not where its turning is held out."""
    return np.array([False, *(bool(t.up) and not held_out("orientation", t.name) for t in table().things)])
