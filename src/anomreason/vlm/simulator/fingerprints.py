"""Recognises an image by its pixels: also after resizing, JPEG compression, or in another file format.

A fingerprint is the oriented image on white, scaled to 32x32 RGB cells. An image with exactly the cells of a known one
is that one. Any other is the nearest known one (least squares), if it is near enough and no other is nearly the same.

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
"""Changed copies of two images are told apart when some cell's channel differs by this much (of 255)."""
TOLERANCE = 16.0
"""An image is a known one when the root mean square difference of the cells is at most this (of 255)."""
MAX_PIXELS = 200_000_000

_PLAIN_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_PLAIN_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
_NEAREST = 64  # images in which near twins of the best one are searched
_TILE = 1024  # images compared at once

Cells = NDArray[np.uint8]  # (SIDE * SIDE * 3,)


def fingerprint(data: bytes) -> Cells:
    """The cells of an encoded image. Raises UnreadableImage."""
    try:
        with Image.open(BytesIO(data)) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise UnreadableImage(f"an image of {opened.width}x{opened.height} pixels is too large; send less")
            opened.draft(None, (8 * SIDE, 8 * SIDE))  # JPEG: decode no more pixels than the cells need
            image = ImageOps.exif_transpose(opened)
        if image.has_transparency_data:
            overlay = image.convert("RGBA")
            image = Image.new("RGBA", image.size, "white")
            image.alpha_composite(overlay)
        # BILINEAR averages with soft edges, so a cell hardly moves when the image was resized before.
        cells = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        return np.asarray(cells, dtype=np.uint8).ravel()
    except UnreadableImage:
        raise
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise UnreadableImage(f"this is no image that can be opened: {error!r}") from error


def _of_file(path: Path) -> Cells:
    """A file's fingerprint: that of what a model would be sent, where the file's own pixels are of another kind."""
    try:
        data = path.read_bytes()
        with Image.open(BytesIO(data)) as image:
            plain = image.format in _PLAIN_FORMATS and image.mode in _PLAIN_MODES
    except Exception:  # a missing, foreign or damaged file: loading it names the problem
        plain = False
    return fingerprint(data if plain else load_image(path).encoded.data)


def _key(cells: Cells) -> bytes:
    return hashlib.blake2b(cells.tobytes(), digest_size=16).digest()


class Fingerprints:
    """Known images, each one different from all others. 3 KB each."""

    def __init__(self, cells: Cells, names: Sequence[str]) -> None:
        """`cells`: (n, SIDE * SIDE * 3). Raises UsageError naming two images that cannot be told apart."""
        self._cells = cells
        self._rows: dict[bytes, int] = {}
        for row, own in enumerate(cells):
            if (earlier := self._rows.setdefault(_key(own), row)) != row:
                raise UsageError(
                    f"the images {names[earlier]!r} and {names[row]!r} cannot be told apart by their pixels; "
                    "keep one of them"
                )

    @classmethod
    def of_files(cls, paths: Sequence[Path], names: Sequence[str] | None = None) -> Fingerprints:
        """Read all files, on a few threads. Raises UsageError for a file that is no image, or for twins."""
        names = names or [str(path) for path in paths]

        def read(path: Path, name: str) -> Cells:
            try:
                return _of_file(path)
            except UnreadableImage as error:
                raise UsageError(f"the image {name!r} ({path}) cannot be used: {error}") from error

        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            return cls(np.stack(list(pool.map(read, paths, names))), names)

    def find(self, data: bytes) -> int | None:
        """The row of the known image that `data` shows. Raises UnreadableImage.

        None when it is none of them, or a changed copy of one that has a near twin.
        """
        cells = fingerprint(data)
        if (row := self._rows.get(_key(cells))) is not None:
            return row
        tiles = range(0, len(self._cells), _TILE)
        squares = np.concatenate([_mean_squares(self._cells[i : i + _TILE], cells) for i in tiles])
        nearest = np.argsort(squares)[:_NEAREST]
        best = int(nearest[0])
        alike = np.abs(self._cells[nearest].astype(np.int16) - self._cells[best]).max(axis=1) < TELL_APART
        return best if squares[best] <= TOLERANCE**2 and alike.sum() == 1 else None


def _mean_squares(known: Cells, cells: Cells) -> NDArray[np.float32]:
    """(n, SIDE * SIDE * 3) against one: (n,)."""
    differences = known.astype(np.float32) - cells
    squares: NDArray[np.float32] = np.einsum("ij,ij->i", differences, differences) / np.float32(len(cells))
    return squares
