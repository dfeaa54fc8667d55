"""Opens collected images: whole or not, hash, pixels, facts; and copies them into the dataset's folder.

seen = look(ImageEntry("a.png", "a.png", Path("a.png")), Path("data"), copy=False)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from anomreason.buckets import Address
from anomreason.dataset.collect.entries import IMAGES, ImageEntry, Remark
from anomreason.dataset.store import storable
from anomreason.errors import UnreadableImage
from anomreason.files import write_atomically
from anomreason.images import InspectedImage, file_bytes, inspect_image


@dataclass(frozen=True, slots=True)
class SeenImage:
    """An image that is whole."""

    image: InspectedImage
    copied: str | None
    """Place of its copy in the dataset's folder; None: it lies where the entry says."""


def look(entry: ImageEntry, folder: Path, copy: bool) -> SeenImage | Remark:
    """What there is to see, or why nothing is.

    folder: of the dataset. Images of which no file holds the bytes are always copied. Raises StorageError.
    """
    try:
        image = inspect_image(entry.path, entry.data)
        copied = _copy(entry, image, folder) if copy or entry.data is not None else None
    except UnreadableImage as error:
        return Remark(error.reason, storable(str(error)))
    return SeenImage(image, copied)


def is_lost(entry: ImageEntry, seen: SeenImage | Remark) -> bool:
    """Whether not the image is at fault, but the bucket that it lies in."""
    return isinstance(entry.path, Address) and isinstance(seen, Remark) and seen.reason in ("unreachable", "forbidden")


def _copy(entry: ImageEntry, image: InspectedImage, folder: Path) -> str:
    ending = {"JPEG": "jpg"}.get(image.format, image.format.lower())
    place = f"{IMAGES}/{image.sha256[:3]}/{image.sha256}.{ending}"
    target = folder / place
    if not target.is_file() or target.stat().st_size != image.bytes:
        data = entry.data if entry.data is not None else file_bytes(entry.path)
        if hashlib.sha256(data).hexdigest() != image.sha256:
            raise UnreadableImage(f"{str(entry.path)!r} changes while it is read; collect it again", final=False)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, data, sync=False)
    return place
