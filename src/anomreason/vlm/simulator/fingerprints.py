"""Knowing a picture by its pixels: also after resizing, JPEG, or another file format.

A fingerprint is the oriented picture, alpha over white, scaled to 32x32 RGB. A picture with the very cells of a known
one is that one, so that twins differing in one small object are told apart; another is the nearest known one (least
squares), if that is near enough and no other known one is nearly the same. Knows nothing of models or truth files.

    Fingerprints.of_files([Path("a.jpg"), Path("b.png")]).find(Path("a.jpg").read_bytes())  # 0
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from anomreason.errors import UnreadableImage, UsageError
from anomreason.images import load_image

SIDE = 32
TELL_APART = 4
"""Changed copies of two pictures are told apart when some cell's channel differs by this much (of 255)."""
TOLERANCE = 16.0
"""A picture is a known one when the root mean square difference of the cells is at most this (of 255)."""
MAX_PIXELS = 200_000_000

_PLAIN_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_PLAIN_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
_COARSE = 8  # cells a side of the prefilter
_NEAREST = 64  # pictures that pass the prefilter
_TILE = 1024  # pictures whose means are taken at once

Print = NDArray[np.uint8]  # (SIDE, SIDE, 3)


def fingerprint(picture: bytes | Image.Image) -> Print:
    """The picture's 32x32 RGB cells. Raises UnreadableImage for bytes that are no picture."""
    try:
        if isinstance(picture, Image.Image):
            return _cells(picture)
        with Image.open(BytesIO(picture)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImage(f"a picture of {image.width}x{image.height} pixels is too large; send less")
            image.draft(None, (8 * SIDE, 8 * SIDE))  # JPEG: decode no more pixels than the cells need
            return _cells(image)
    except UnreadableImage:
        raise
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise UnreadableImage(f"this is no picture that can be opened: {error!r}") from error


def _of_file(path: Path) -> Print:
    """A file's fingerprint: that of what a model would be sent, where the file's own pixels are of another kind."""
    try:
        data = path.read_bytes()
        with Image.open(BytesIO(data)) as image:
            plain = image.format in _PLAIN_FORMATS and image.mode in _PLAIN_MODES
    except Exception:  # a missing, foreign or damaged file: opening it as a picture says which
        plain = False
    return fingerprint(data if plain else load_image(path).encoded.data)


def _cells(image: Image.Image) -> Print:
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        overlay = image.convert("RGBA")
        image = Image.new("RGBA", image.size, "white")
        image.alpha_composite(overlay)
    # BILINEAR averages with soft edges, so a cell hardly moves when the picture was resized before.
    return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=np.uint8)


def _coarse(prints: Print) -> NDArray[np.float32]:
    """(n, SIDE, SIDE, 3) -> (n, 192): means of blocks of cells, around zero so that float32 loses nothing."""
    block = SIDE // _COARSE
    blocks = prints.reshape(-1, _COARSE, block, _COARSE, block, 3)
    means: NDArray[np.float32] = blocks.mean(axis=(2, 4), dtype=np.float32) - np.float32(128)
    return means.reshape(-1, _COARSE * _COARSE * 3)


def _key(cells: Print) -> bytes:
    return hashlib.blake2b(cells.tobytes(), digest_size=16).digest()


class Fingerprints:
    """Known pictures, told apart. About 4 KB each."""

    def __init__(self, prints: Print, names: Sequence[str]) -> None:
        """`prints`: (n, SIDE, SIDE, 3). Raises UsageError naming two pictures that cannot be told apart."""
        self._prints = prints
        self._exact: dict[bytes, int] = {}
        for row, cells in enumerate(prints):
            if (earlier := self._exact.setdefault(_key(cells), row)) != row:
                raise UsageError(
                    f"the pictures {names[earlier]!r} and {names[row]!r} cannot be told apart by their pixels; "
                    "keep one of them"
                )
        self._coarse = np.empty((len(prints), _COARSE * _COARSE * 3), dtype=np.float32)
        for start in range(0, len(prints), _TILE):
            self._coarse[start : start + _TILE] = _coarse(prints[start : start + _TILE])
        self._lengths = np.einsum("ij,ij->i", self._coarse, self._coarse)

    @classmethod
    def of_files(cls, paths: Sequence[Path], names: Sequence[str] | None = None) -> Fingerprints:
        """Read all files, on a few threads. Raises UsageError for a file that is no picture, or twins."""
        names = names or [str(path) for path in paths]
        prints = np.empty((len(paths), SIDE, SIDE, 3), dtype=np.uint8)

        def fill(rows: range) -> None:
            for row in rows:
                try:
                    prints[row] = _of_file(paths[row])
                except UnreadableImage as error:
                    raise UsageError(f"the picture {names[row]!r} ({paths[row]}) cannot be used: {error}") from error

        workers = min(4, os.cpu_count() or 1)
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(fill, [range(start, len(paths), workers) for start in range(workers)]))
        return cls(prints, names)

    def find(self, picture: bytes | Image.Image) -> int | None:
        """The row of the known picture that this is; None when it is none of them, or a changed copy of one that has a
        near twin. Raises UnreadableImage.
        """
        cells = fingerprint(picture)
        if (row := self._exact.get(_key(cells))) is not None:
            return row
        distances = self._lengths - 2 * (self._coarse @ _coarse(cells[None])[0])
        rows = (
            np.argpartition(distances, _NEAREST)[:_NEAREST] if len(distances) > _NEAREST else np.arange(len(distances))
        )
        differences = self._prints[rows].astype(np.int32) - cells
        squares = np.mean(differences * differences, axis=(1, 2, 3))
        best = int(np.argmin(squares))
        alike = np.abs(self._prints[rows].astype(np.int16) - self._prints[rows[best]]).max(axis=(1, 2, 3)) < TELL_APART
        return int(rows[best]) if squares[best] <= TOLERANCE**2 and alike.sum() == 1 else None
