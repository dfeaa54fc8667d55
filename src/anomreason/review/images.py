"""Images and crops for the review page, made once and kept in the dataset's folder.

shown_image(store, 12, 1536)    # a Shown: bytes, MIME type and the hash that its address names

An image is asked for by its id alone; where its file lies stays inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

from PIL import Image
from sqlalchemy import select

from anomreason.anomaly import Region
from anomreason.dataset.store import Store
from anomreason.dataset.tables import CandidateRow, ImageRow
from anomreason.errors import UnreadableImage
from anomreason.files import write_atomically
from anomreason.images import load_pixels
from anomreason.review.items import region_of

Side = Literal[512, 1024, 1536, 2048]
"""Longest edge of an image, pixels."""
CROP_SIDE = 640
"""Longest edge of a crop, pixels: smaller ones are enlarged."""
MARGIN = 0.25
"""Of the region's size, around it on each side."""
_CACHE = Path("review", "cache")
_QUALITY = 90


@dataclass(frozen=True, slots=True)
class ShownImage:
    """An image file for the browser: JPEG."""

    data: bytes
    sha256: str
    """Of the original file."""


def shown_image(store: Store, image: int, side: Side) -> ShownImage | None:
    """An image, its longest edge at most `side`; None when there is no such image. Raises UnreadableImage."""
    with store.reading() as session:
        row = session.execute(select(ImageRow.path, ImageRow.sha256).where(ImageRow.id == image)).first()
    if row is None:
        return None
    cached = store.folder / _CACHE / row.sha256[:2] / f"{row.sha256}-{side}.jpg"
    if not cached.is_file():
        pixels = _pixels(store.path(row.path), row.sha256)
        pixels.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
        _keep(cached, pixels)
    return ShownImage(cached.read_bytes(), row.sha256)


def shown_crop(store: Store, candidate: int) -> ShownImage | None:
    """A candidate's region with a margin, from the original, enlarged; None without candidate or region."""
    query = select(ImageRow.path, ImageRow.sha256, CandidateRow.region).join_from(CandidateRow, ImageRow)
    with store.reading() as session:
        row = session.execute(query.where(CandidateRow.id == candidate)).first()
    region = None if row is None else region_of(row.region)
    if row is None or region is None:
        return None
    cached = store.folder / _CACHE / row.sha256[:2] / f"{row.sha256}-crop-{candidate}.jpg"
    if not cached.is_file():
        pixels = _pixels(store.path(row.path), row.sha256)
        part = pixels.crop(_box(region, *pixels.size))
        scale = CROP_SIDE / max(part.size)
        size = max(1, round(part.width * scale)), max(1, round(part.height * scale))
        _keep(cached, part.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0))
    return ShownImage(cached.read_bytes(), row.sha256)


def _box(region: Region, width: int, height: int) -> tuple[int, int, int, int]:
    """The region and its margin in pixels: at least one pixel, inside the image."""
    across, down = (region.x1 - region.x0) * MARGIN, (region.y1 - region.y0) * MARGIN
    left = min(max(round((region.x0 - across) * width), 0), width - 1)
    top = min(max(round((region.y0 - down) * height), 0), height - 1)
    right = min(max(round((region.x1 + across) * width), left + 1), width)
    bottom = min(max(round((region.y1 + down) * height), top + 1), height)
    return left, top, right, bottom


def _pixels(path: Path, sha256: str) -> Image.Image:
    pixels, found = load_pixels(path)
    if found != sha256:
        raise UnreadableImage(f"{str(path)!r} is another file than was collected; put the original back")
    return pixels


def _keep(path: Path, pixels: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = BytesIO()
    pixels.save(buffer, "JPEG", quality=_QUALITY)
    write_atomically(path, buffer.getvalue(), sync=False)
