"""What one look at an image's pixels measures, and the scores that follow from it.

    >>> measure(Image.new("L", (8, 8), 255)).brightness_99
    1.0

The scores are those of cleanvision 0.3.7 (https://github.com/cleanlab/cleanvision) for images in mode RGB or L. Other
files are measured as they are shown: turned by EXIF, transparency on white, palettes as colours.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter, ImageStat

from anomreason.anomaly import Record

Floats = npt.NDArray[np.float64]

_WEIGHTS = (0.241, 0.691, 0.068)
"""Of red, green and blue in the square of a pixel's brightness (https://alienryderflex.com/hsp.html)."""
_SQUARE = (np.arange(256) ** 2).astype(np.float32)
_LONGEST = 1 << 24
"""Pixels whose brightness is sorted; of a larger image every n-th row."""
_BLUR_SIDE = 64
THUMB = 16
"""Side of the thumbnail by which near-duplicates are compared."""


class PixelMeasures(Record):
    """All that the rules want to know of the pixels."""

    brightness_5: float
    brightness_99: float
    """Percentiles of the pixels' brightness, 0..1."""
    entropy: float
    """Of the histogram over all channels, bits."""
    edges: float
    """Standard deviation of the edges in the grey image scaled to 64 pixels."""
    histogram: float
    """Standard deviation of the counts in that image's histogram."""
    grey: bool
    """Whether the file has one channel."""
    pixels: str
    """Hash of size, mode and pixels, hex."""
    phash: str
    """Perceptual hash, 64 bits, hex."""
    thumb: str
    """The image as 16x16 pixels of RGB, base64."""


def measure(image: Image.Image) -> PixelMeasures:
    """Measure an image in mode RGB or L."""
    low, high = _brightness(image)
    shrink = max(image.size) / _BLUR_SIDE
    small = image
    if shrink > 1:
        small = image.resize((max(int(image.width // shrink), 1), max(int(image.height // shrink), 1)))
    grey = small.convert("L")
    thumb = image.convert("RGB").resize((THUMB, THUMB), Image.Resampling.BOX)
    whole = hashlib.sha256(f"{image.mode} {image.size}".encode())
    whole.update(image.tobytes())
    return PixelMeasures(
        brightness_5=low,
        brightness_99=high,
        entropy=float(image.entropy()),
        edges=float(np.sqrt(ImageStat.Stat(grey.filter(ImageFilter.FIND_EDGES)).var[0])),
        histogram=float(np.std(grey.histogram())),
        grey=image.mode == "L",
        pixels=whole.hexdigest()[:32],
        phash=str(imagehash.phash(image)),
        thumb=base64.b64encode(thumb.tobytes()).decode("ascii"),
    )


def record(path: Path, image: Image.Image) -> dict[str, Any]:
    """What `measure` gives of an image, as the store keeps it; path: not looked at."""
    return measure(image).model_dump()


def _brightness(image: Image.Image) -> tuple[float, float]:
    """Percentiles 5 and 99, between two ranks as numpy's are."""
    values = np.asarray(image)[:: -(-image.width * image.height // _LONGEST)]
    channels = [values] if values.ndim == 2 else [values[..., channel] for channel in range(3)]
    tables = [_SQUARE] if values.ndim == 2 else [_SQUARE * np.float32(weight) for weight in _WEIGHTS]
    squares = tables[0][channels[0]]
    for table, channel in zip(tables[1:], channels[1:], strict=True):
        squares += table[channel]
    squares = squares.reshape(-1)
    last = squares.size - 1
    ranks = [share * last for share in (0.05, 0.99)]
    squares.partition(sorted({min(int(rank) + up, last) for rank in ranks for up in (0, 1)}))

    def at(rank: float) -> float:
        low, high = (float(np.sqrt(squares[min(int(rank) + up, last)])) for up in (0, 1))
        return (low + (high - low) * (rank - int(rank))) / 255

    return at(ranks[0]), at(ranks[1])


@dataclass(frozen=True)
class PixelTable:
    """The measures of many images, in the order of a pool; NaN where an image was not measured."""

    measured: npt.NDArray[np.bool_]
    brightness_5: Floats
    brightness_99: Floats
    entropy: Floats
    edges: Floats
    histogram: Floats
    grey: npt.NDArray[np.bool_]
    pixels: npt.NDArray[np.void]
    """(n,) of 16 bytes."""
    phash: npt.NDArray[np.uint64]
    thumb: npt.NDArray[np.uint8]
    """(n, 768)"""


def pixel_table(n: int, records: Iterable[tuple[int, Mapping[str, Any]]]) -> PixelTable:
    """The table of n images from (place, stored measures)."""
    numbers = {name: np.full(n, np.nan) for name in _NUMBERS}
    measured, grey = np.zeros(n, bool), np.zeros(n, bool)
    pixels, phash = np.zeros(n, "V16"), np.zeros(n, np.uint64)
    thumb = np.zeros((n, THUMB * THUMB * 3), np.uint8)
    for place, record in records:
        measured[place], grey[place] = True, record["grey"]
        for name, column in numbers.items():
            column[place] = record[name]
        pixels[place] = bytes.fromhex(record["pixels"])
        phash[place] = int(record["phash"], 16)
        thumb[place] = np.frombuffer(base64.b64decode(record["thumb"]), np.uint8)
    return PixelTable(measured, **numbers, grey=grey, pixels=pixels, phash=phash, thumb=thumb)


_NUMBERS = ("brightness_5", "brightness_99", "entropy", "edges", "histogram")


def darkness(table: PixelTable) -> Floats:
    """Low where even the brightest pixels are dark."""
    return table.brightness_99


def lightness(table: PixelTable) -> Floats:
    """Low where even the darkest pixels are light."""
    return 1 - table.brightness_5


def information(table: PixelTable) -> Floats:
    """Low for an image of few colours."""
    score: Floats = np.minimum(0.1 * table.entropy, 1)
    return score


def sharpness(table: PixelTable) -> Floats:
    """Low where there are hardly any edges. An image of few grey levels, such as a drawing, counts as sharp."""
    edges, flat = 1 - np.exp(-0.01 * table.edges), 1 - np.exp(-0.01 * table.histogram)
    score: Floats = np.minimum(edges + np.where(flat <= 0.18, 0, flat), 1)
    return score


def colour(table: PixelTable) -> Floats:
    """0 for a file with one channel, 1 for others."""
    return np.where(table.measured, np.where(table.grey, 0.0, 1.0), np.nan)


def size_scores(width: npt.NDArray[np.int64], height: npt.NDArray[np.int64], factor: float) -> tuple[Floats, float]:
    """How near each image's size is to the usual one, and the score below which it is odd.

    The size is sqrt(width x height); it is odd beyond `factor` times the distance of the quartiles from the nearer
    quartile.
    """
    size = np.sqrt(width.astype(float)) * np.sqrt(height.astype(float))
    low, high = np.percentile(size, [25, 75])
    spread = (high - low) * (1 + 2 * factor)
    middle = (low + high) / 2
    score = 1 - np.clip(np.abs(size - middle) / (spread or middle), 0, 1)
    return score, 0.5 if spread else 1.0
