"""Cut-outs of things, turned, recoloured, enlarged, set down anywhere in other pictures: to be named, not to be judged.

A tower that only ever saw things as they are, and as those violations show them that it was shown, takes what is wrong
with a thing, and where it is, for evidence of which thing it is: a green dog must be something else. A cut-out says
nothing of what may be; a token that shows one is asked what it shows and whether that is upright. Try it:

    with_cutouts(np.random.default_rng(0), scene, [other])[0].picture
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from anomreason.scenes.sprites.table import table
from anomreason.training.tiny.corpus import GRAIN, Bytes
from anomreason.training.tiny.model import STEP

UPRIGHT, TURNED, UNKNOWN = 0, 1, 2
TURNS = (0.5, 0.1, 0.3, 0.1)
"""Of a cut-out, by quarter turns."""
TINTED = 0.45
SMALLEST, LARGEST = 6, 0.66
"""Of a cut-out's longer side: cells, and share of the picture's side."""
SPLINTER = 0.25
"""Share of a token that a thing must cover beside a cut-out to be its label; with less it has none."""
_TRIES = 12

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class View:
    """A picture and, in cells of GRAIN pixels, what is seen in it."""

    picture: Bytes
    """(side, side, 3); of a cut-out (height, width, 3)."""
    outlines: Bytes
    """(height / GRAIN, width / GRAIN): 0 for background, else 1 + the thing's place among the names."""
    turned: Bytes
    """The same: UPRIGHT, TURNED or UNKNOWN."""


def with_cutouts(rng: np.random.Generator, view: View, others: Sequence[View]) -> tuple[View, Mask]:
    """The picture with a thing of each other one somewhere on its background, and which cells are not as they were.

    A thing for which there is no room is left out.
    """
    made = View(*(np.array(part) for part in (view.picture, view.outlines, view.turned)))
    touched = np.zeros(made.outlines.shape, dtype=np.bool_)
    for other in others:
        piece = _cut(rng, other)
        if piece is None:
            continue
        piece = _changed(rng, piece)
        high, wide = piece.outlines.shape
        for _ in range(_TRIES):
            y, x = (int(rng.integers(0, len(touched) - edge + 1)) for edge in (high, wide))
            if not made.outlines[y : y + high, x : x + wide].any():
                touched[y : y + high, x : x + wide] |= _set_down(rng, made, piece, y, x)
                break
    return made, touched


def _cut(rng: np.random.Generator, view: View) -> View | None:
    """One of its things with a little of what is around it, in another size."""
    things = np.unique(view.outlines[view.outlines > 0])
    if not len(things):
        return None
    rows, columns = np.nonzero(view.outlines == things[int(rng.integers(len(things)))])
    margin = 1 + int(rng.uniform(0, 0.2) * max(np.ptp(rows), np.ptp(columns)))
    top, left = max(int(rows.min()) - margin, 0), max(int(columns.min()) - margin, 0)
    bottom, right = int(rows.max()) + margin + 1, int(columns.max()) + margin + 1
    part = view.outlines[top:bottom, left:right]
    longest = max(part.shape)
    wanted = float(np.clip(longest * 2.0 ** rng.uniform(-1, 1), SMALLEST, LARGEST * len(view.outlines)))
    high, wide = (max(2, round(edge * wanted / longest)) for edge in part.shape)
    square = view.picture[top * GRAIN : bottom * GRAIN, left * GRAIN : right * GRAIN]
    scaled = Image.fromarray(square).resize((wide * GRAIN, high * GRAIN), Image.Resampling.BICUBIC)
    at = (top + np.arange(high) * part.shape[0] // high)[:, None], left + np.arange(wide) * part.shape[1] // wide
    return View(np.asarray(scaled), view.outlines[at], view.turned[at])


def _changed(rng: np.random.Generator, view: View) -> View:
    """Turned by quarters, mirrored, in one hue, several of these or none."""
    quarters, mirrored = int(rng.choice(4, p=TURNS)), rng.random() < 0.5
    picture, outlines, turned = view.picture, view.outlines, view.turned
    if rng.random() < TINTED:
        picture = _tinted(rng, picture)
    if quarters:
        turned = np.where(turned == UPRIGHT, TURNED, UNKNOWN).astype(np.uint8)
    parts = [np.rot90(part, quarters) for part in (picture, outlines, turned)]
    return View(*(part[:, ::-1] for part in parts)) if mirrored else View(*parts)


def _tinted(rng: np.random.Generator, picture: Bytes) -> Bytes:
    """Every hue becomes one; light and dark stay."""
    hue, saturation, value = Image.fromarray(np.ascontiguousarray(picture)).convert("HSV").split()
    lift = int(rng.integers(20, 170))
    hue = Image.new("L", hue.size, int(rng.integers(256)))
    saturation = saturation.point([min(255, lift + round(s * (255 - lift) / 255)) for s in range(256)])
    return np.asarray(Image.merge("HSV", (hue, saturation, value)).convert("RGB"))


def _set_down(rng: np.random.Generator, made: View, piece: View, y: int, x: int) -> Mask:
    """Paints the piece over what is there, round or square, its edge soft or sharp. The cells that changed."""
    high, wide = piece.outlines.shape
    power, soft = float(rng.uniform(2.5, 12)), float(rng.uniform(0.02, 0.3))
    v, u = (np.abs(np.linspace(-1, 1, edge * GRAIN)) for edge in (high, wide))
    radius = (v[:, None] ** power + u**power) ** (1 / power)
    cover = np.clip((1 - radius) / soft, 0, 1)
    there = made.picture[y * GRAIN : (y + high) * GRAIN, x * GRAIN : (x + wide) * GRAIN]
    there[...] = np.rint(there * (1 - cover[..., None]) + piece.picture * cover[..., None])
    share = cover.reshape(high, GRAIN, wide, GRAIN).mean(axis=(1, 3))
    kept = share >= 0.5
    made.outlines[y : y + high, x : x + wide] = np.where(kept, piece.outlines, 0)
    made.turned[y : y + high, x : x + wide] = np.where(kept, piece.turned, UPRIGHT)
    return np.asarray(share > 0)


def tokens(view: View) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For each token: the thing (0 background, -1 unknown), and whether it is turned (-1 unknown). (tokens,) each."""
    order, turned = _by_token(view.outlines), _by_token(view.turned)
    count, cells = order.shape
    most = 1 + len(table().things)
    votes = np.bincount((np.arange(count)[:, None] * most + order).ravel(), minlength=count * most).reshape(count, most)
    votes[:, 0] = 0
    best, share = votes.argmax(axis=1), votes.max(axis=1) / cells
    things = np.where(share >= SPLINTER, best, np.where(share > 0.04, -1, 0))
    own = order == best[:, None]
    down = ((turned == TURNED) & own).sum(axis=1) / np.maximum(own.sum(axis=1), 1)
    known = (things > 0) & sided()[best] & ~((turned == UNKNOWN) & own).any(axis=1)
    return things.astype(np.int64), np.where(known, down > 0.5, -1).astype(np.int64)


def changed_tokens(touched: Mask) -> Mask:
    """Which tokens hold such a cell. (tokens,)"""
    return np.asarray(_by_token(touched).any(axis=1))


def _by_token(cells: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(side, side) in cells -> (tokens, cells of a token)."""
    each = STEP // GRAIN
    count = len(cells) // each
    return cells.reshape(count, each, count, each).transpose(0, 2, 1, 3).reshape(count * count, -1)


@cache
def sided() -> npt.NDArray[np.bool_]:
    """By label: whether such a thing has an upper side."""
    return np.array([False, *(thing.up for thing in table().things)])
