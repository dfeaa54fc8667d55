"""Knowing a picture by its pixels: also after resizing, JPEG, or another file format.

A fingerprint is the oriented picture, alpha over white, scaled to 32x32 RGB. Two pictures count as different when at
least one of those cells differs clearly, so that twins differing in one small object are told apart; a new picture is
the nearest known one (least squares), if that is near enough. Knows nothing of models or truth files.

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
from anomreason.images import load_picture

SIDE = 32
TELL_APART = 4
"""Two pictures are distinct when some cell's channel differs by at least this much (of 255)."""
TOLERANCE = 16.0
"""A picture is a known one when the root mean square difference of the cells is at most this (of 255)."""
MAX_PIXELS = 200_000_000

_PLAIN_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_PLAIN_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")
_COARSE = 8  # cells a side of the prefilter
_NEAREST = 64  # pictures that pass the prefilter
_TILE = 1024  # pictures compared with as many others at once: 4 MB of distances

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
    return fingerprint(data if plain else load_picture(path).encoded.data)


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
        self._exact = {_key(cells): row for row, cells in enumerate(prints)}
        self._coarse = np.empty((len(prints), _COARSE * _COARSE * 3), dtype=np.float32)
        for start in range(0, len(prints), _TILE):
            self._coarse[start : start + _TILE] = _coarse(prints[start : start + _TILE])
        self._lengths = np.einsum("ij,ij->i", self._coarse, self._coarse)
        self._check_distinct(names)

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
        """The row of the known picture that this is; None when it is none of them. Raises UnreadableImage."""
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
        return int(rows[best]) if squares[best] <= TOLERANCE**2 else None

    def _check_distinct(self, names: Sequence[str]) -> None:
        # Block means differ by no more than their cells do, so the prefilter passes every pair that matters.
        limit = self._coarse.shape[1] * (TELL_APART - 1) ** 2 + 1
        starts = range(0, len(self._prints), _TILE)
        for top in starts:
            for left in (start for start in starts if start <= top):
                rows, columns = slice(top, top + _TILE), slice(left, left + _TILE)
                distances = -2 * (self._coarse[rows] @ self._coarse[columns].T)
                distances += self._lengths[rows, None]
                distances += self._lengths[None, columns]
                near = np.argwhere(distances <= limit) + np.array([top, left])
                self._check_pairs(near[near[:, 0] > near[:, 1]], names)

    def _check_pairs(self, pairs: NDArray[np.intp], names: Sequence[str]) -> None:
        for start in range(0, len(pairs), _TILE):
            chunk = pairs[start : start + _TILE]
            one, other = self._prints[chunk[:, 0]], self._prints[chunk[:, 1]]
            largest = (np.maximum(one, other) - np.minimum(one, other)).max(axis=(1, 2, 3))
            if (largest < TELL_APART).any():
                row, earlier = chunk[int(np.argmax(largest < TELL_APART))]
                raise UsageError(
                    f"the pictures {names[earlier]!r} and {names[row]!r} cannot be told apart by their pixels; "
                    "keep one of them"
                )
