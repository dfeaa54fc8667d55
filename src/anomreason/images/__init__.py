"""Opens image files once and safely, and orients, scales, encodes and crops them.

A file is hostile until it is decoded: `files` opens it, and whatever is wrong with it becomes an UnreadableImage. Safe
in threads.

    >>> load_image(Path("photo.jpg")).sent
    SentImage(mime='image/jpeg', width=1024, height=768, bytes=..., notes=('metadata removed',))
"""

from __future__ import annotations

import base64
import hashlib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from anomreason.anomaly import Region, SentImage
from anomreason.containers import Kind, sound_metadata, without_metadata
from anomreason.decoding import DECODING, call_apart
from anomreason.errors import UnreadableImage
from anomreason.facts import EncodingFacts, encoding_facts
from anomreason.images.files import (
    APART_PIXELS,
    PER_PIXEL,
    check_scans,
    decoded,
    decoding_cost,
    fetched,
    opened,
    orientation,
    read_header,
    reading,
)
from anomreason.pixels import to_rgb_or_grey

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_PNG_LEVEL = 2
"""A 1024x1024 photograph: 62 ms, 1,159 KB. At level 1: 61 ms, 1,175 KB; at 4: 99 ms, 1,107 KB; at 6: about 240 ms."""
_COUNTED_BYTES = 1 << 24
"""Counting the frames of a GIF reads all of it, so larger files are not counted."""
_KEPT_BYTES = 1 << 24
"""A longer file of a bucket is fetched again for cut-outs, so that images in work take bounded memory."""
_MAX_PROFILE = 1 << 19
"""Largest colour profile that is kept, bytes; PNG readers refuse huge ones."""


@dataclass(frozen=True)
class Encoded:
    """An image as it is sent to a model."""

    data: bytes
    mime: str
    width: int
    height: int

    @cached_property
    def sha256(self) -> str:
        """Of `data`, hex."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def data_url(self) -> str:
        """`data:image/...;base64,...`, made once for an image, not once for a call."""
        return f"data:{self.mime};base64,{base64.b64encode(self.data).decode('ascii')}"


@dataclass(frozen=True)
class LoadedImage:
    """One opened image: facts about the file, and what is sent to the model."""

    path: Path
    sha256: str
    """Of the file's bytes, hex."""
    width: int
    height: int
    """Of the oriented original, pixels."""
    encoded: Encoded
    sent: SentImage
    data: bytes | None = field(default=None, repr=False)
    """The file's bytes, where they do not lie at `path`, or not near."""


def load_image(path: Path, max_side: int | None = 1536, data: bytes | None = None) -> LoadedImage:
    """Open, orient, bound and encode one file. Raises UnreadableImage.

    data: the file's bytes, where they do not lie at `path`, which then only names the image in messages.
    The long edge is at most `max_side` pixels (None: as it is). The file's own bytes are sent, less their metadata,
    when they are JPEG, PNG or WebP and need no change; otherwise its pixels as PNG.
    """
    given, data = data, fetched(path) if data is None else data
    cost = decoding_cost(path, max_side is None, data)
    with DECODING.take(cost.memory):
        if cost.apart and sys.executable:
            loaded: LoadedImage = call_apart("anomreason.images:load_here", path, max_side, cost.memory, data)
        else:
            loaded = load_here(path, max_side, cost.memory, data)
    cut_again = data is not None and loaded.width > loaded.sent.width and len(data) <= _KEPT_BYTES
    return replace(loaded, data=data) if given is not None or cut_again else loaded


def load_here(path: Path, max_side: int | None, memory: int, data: bytes | None = None) -> LoadedImage:
    """As `load_image`, in this process and without waiting for memory; memory: what that takes, bytes."""
    with opened(path, has_room=True, data=data) as file, reading(path, memory):
        data = file.read()
        sound = sound_metadata(data)
        image, kind = read_header(BytesIO(sound), path)
        check_scans(data, kind, path)
        notes = [*_depth_note(image, kind, data), *_frame_note(image, len(data))]
        whole = image.size
        reduced = kind == "JPEG" and max_side is not None and image.draft(None, (2 * max_side, 2 * max_side))
        plain = decoded(image, kind, notes)
        width, height = plain.size
        if reduced:
            width, height = reversed(whole) if orientation(image) >= 5 else whole
        if max_side is not None and max(width, height) > max_side:
            scale = max_side / max(width, height)
            small = max(1, round(width * scale)), max(1, round(height * scale))
            plain = plain.resize(small, Image.Resampling.LANCZOS)
            notes.append(f"scaled from {width}x{height}")
        original = None if notes else without_metadata(sound, kind)
        if original is None:
            encoded = _png(plain, image)
            notes += [] if kind == "PNG" else [f"{kind} encoded as PNG"]
        else:
            encoded = Encoded(original, f"image/{kind.lower()}", *plain.size)
            notes += [] if original == data else ["metadata removed"]
    sent = SentImage(
        mime=encoded.mime, width=encoded.width, height=encoded.height, bytes=len(encoded.data), notes=tuple(notes)
    )
    return LoadedImage(path, hashlib.sha256(data).hexdigest(), width, height, encoded, sent)


@dataclass(frozen=True)
class InspectedImage:
    """All that a dataset keeps of one image file."""

    sha256: str
    """Of the file's bytes, hex."""
    width: int
    height: int
    """Of the oriented image, pixels."""
    format: Kind
    bytes: int
    facts: EncodingFacts
    grey: Image.Image
    """The oriented image, squeezed to `GREY_SIDE` x `GREY_SIDE` grey pixels: what perceptual hashes are made of."""


GREY_SIDE = 32


def inspect_image(path: Path, data: bytes | None = None) -> InspectedImage:
    """Decode one file to see that it is whole, and describe it. Raises UnreadableImage.

    data: the file's bytes, where they do not lie at `path`, which then only names the image in messages. A JPEG is
    decoded at an eighth of its size where that is enough, which moves a perceptual hash by at most 2 of 64 bits.
    """
    data = fetched(path) if data is None else data
    cost = decoding_cost(path, data=data)
    with DECODING.take(cost.memory):
        if cost.apart and sys.executable:
            inspected: InspectedImage = call_apart("anomreason.images:inspect_here", path, data, cost.memory)
            return inspected
        return inspect_here(path, data, cost.memory)


def inspect_here(path: Path, data: bytes | None, memory: int) -> InspectedImage:
    """As `inspect_image`, in this process and without waiting for memory; memory: what that takes, bytes."""
    with opened(path, has_room=True, data=data) as file, reading(path, memory):
        data = file.read()
        image, kind = read_header(BytesIO(sound_metadata(data)), path)
        check_scans(data, kind, path)
        facts = encoding_facts(image, data, kind)
        whole = image.size
        reduced = kind == "JPEG" and image.draft("L", (4 * GREY_SIDE, 4 * GREY_SIDE))
        plain = decoded(image, kind, [])
        size = plain.size
        if reduced:
            size = whole[::-1] if orientation(image) >= 5 else whole
        grey = plain.convert("L").resize((GREY_SIDE, GREY_SIDE), Image.Resampling.LANCZOS)
    grey.info = {}
    return InspectedImage(hashlib.sha256(data).hexdigest(), *size, kind, len(data), facts, grey)


def packed(image: Encoded, most: int) -> Encoded | None:
    """The same pixels as a JPEG of at most `most` bytes, of the best quality that fits; None when none does."""
    with Image.open(BytesIO(image.data)) as whole:
        pixels = whole.convert("RGB")
    for quality in (92, 80, 60, 40):
        buffer = BytesIO()
        pixels.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= most:
            return Encoded(buffer.getvalue(), "image/jpeg", image.width, image.height)
    return None


def crop(loaded: LoadedImage, region: Region, margin: float = 0.1) -> Encoded:
    """The part of the sent image inside `region`, widened by `margin` of its size on each side, losslessly.

    It is never empty: at least one pixel a side.
    """
    width, height = loaded.encoded.width, loaded.encoded.height
    across, down = (region.x1 - region.x0) * margin, (region.y1 - region.y0) * margin
    left, right = _span(region.x0 - across, region.x1 + across, width)
    top, bottom = _span(region.y0 - down, region.y1 + down, height)
    memory = width * height * PER_PIXEL["WEBP"]
    with DECODING.take(memory), reading(loaded.path, memory):
        image, kind = read_header(BytesIO(loaded.encoded.data), loaded.path)
        part = decoded(image, kind, []).crop((left, top, right, bottom))
    return _png(part, image)


def cut_out(loaded: LoadedImage, places: Sequence[Region], side: int) -> list[Image.Image]:
    """These parts of the image, each with its longer side scaled to `side`, from the file's pixels if it has more.

    With the image's colour profile. Raises UnreadableImage, also when the file is no longer the one that was loaded.
    """
    sent = loaded.encoded
    if loaded.width <= sent.width:
        memory = sent.width * sent.height * PER_PIXEL["WEBP"]
        with DECODING.take(memory):
            return cut_out_here(loaded.path, places, side, memory, sent.data)
    data = fetched(loaded.path) if loaded.data is None else loaded.data
    cost = decoding_cost(loaded.path, data=data)
    with DECODING.take(cost.memory):
        given = (loaded.path, places, side, cost.memory, data, loaded.sha256)
        if cost.apart and sys.executable:
            parts: list[Image.Image] = call_apart("anomreason.images:cut_out_here", *given)
            return parts
        return cut_out_here(*given)


def cut_out_here(
    path: Path,
    places: Sequence[Region],
    side: int,
    memory: int,
    data: bytes | None = None,
    sha256: str | None = None,
) -> list[Image.Image]:
    """As `cut_out`, in this process and without waiting for memory; memory: what that takes, bytes.

    sha256: of the bytes, if they must be the same; None for any.
    """
    with opened(path, has_room=True, data=data) as file, reading(path, memory):
        data = file.read()
        if sha256 not in (None, hashlib.sha256(data).hexdigest()):
            raise UnreadableImage(f"{str(path)!r} changed while it was examined; run again", final=False)
        image, kind = read_header(BytesIO(sound_metadata(data)), path)
        check_scans(data, kind, path)
        whole, profile = decoded(image, kind, []), image.info.get("icc_profile")
        profile = None if image.mode in ("CMYK", "LAB") else profile
        parts = []
        for place in places:
            left, right = _span(place.x0, place.x1, whole.width)
            top, bottom = _span(place.y0, place.y1, whole.height)
            scale = side / max(right - left, bottom - top)
            size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
            part = whole.resize(size, Image.Resampling.LANCZOS, (left, top, right, bottom))
            part.info = {} if profile is None else {"icc_profile": profile}
            parts.append(part)
    return parts


def load_pixels(path: Path) -> tuple[Image.Image, str]:
    """All pixels of a file, upright, in mode RGB or L, transparency on white; and the sha256 of the file's bytes, hex.

    Raises UnreadableImage.
    """
    data = fetched(path)
    cost = decoding_cost(path, data=data)
    with DECODING.take(cost.memory):
        if cost.apart and sys.executable:
            pixels: tuple[Image.Image, str] = call_apart("anomreason.images:pixels_here", path, cost.memory, data)
            return pixels
        return pixels_here(path, cost.memory, data)


def pixels_here(path: Path, memory: int, data: bytes | None = None) -> tuple[Image.Image, str]:
    """As `load_pixels`, in this process and without waiting for memory; memory: what that takes, bytes."""
    with opened(path, has_room=True, data=data) as file, reading(path, memory):
        data = file.read()
        image, kind = read_header(BytesIO(sound_metadata(data)), path)
        check_scans(data, kind, path)
        pixels = decoded(image, kind, []).copy()  # no ImageFile, which would hold on to the file's bytes
    pixels.info = {}
    return pixels, hashlib.sha256(data).hexdigest()


def file_bytes(path: Path) -> bytes:
    """The bytes of an image file as they are, in an archive too; nothing is decoded. Raises UnreadableImage."""
    with opened(path) as file, reading(path):
        return file.read()


def pixels_of(data: bytes, name: str) -> Image.Image:
    """The pixels of an image in memory, upright, in mode RGB or L, with its colour profile and no other metadata.

    name: of the image in messages. Raises UnreadableImage, also for one that would take a process of its own.
    """
    path = Path(name)
    cost = decoding_cost(path, data=data)
    if cost.apart:
        raise UnreadableImage(
            f"{name!r} has over {APART_PIXELS:,} pixels, too many to decode here; ask for a smaller image",
            reason="too_large",
        )
    with DECODING.take(cost.memory), reading(path, cost.memory):
        image, kind = read_header(BytesIO(sound_metadata(data)), path)
        check_scans(data, kind, path)
        pixels = decoded(image, kind, []).copy()
    profile = image.info.get("icc_profile")
    pixels.info = {} if profile is None or image.mode in ("CMYK", "LAB") else {"icc_profile": profile}
    return pixels


def png_of(image: Image.Image) -> Encoded:
    """An image of any mode as PNG, losslessly, with its colour profile if it still holds, and no other metadata."""
    return _png(to_rgb_or_grey(image, []), image)


def image_size(path: Path, data: bytes | None = None) -> tuple[int, int]:
    """Width and height of the oriented image in pixels, from the file's header alone. Raises UnreadableImage.

    data: as `load_image` takes it. An orientation that a PNG states only after its pixels is not seen here.
    """
    with opened(path, data=data) as file, reading(path):
        image, kind = read_header(file, path)
        width, height = image.size
        turned = kind != "TIFF" and orientation(image) >= 5
    return (height, width) if turned else (width, height)


def thumbnail(path: Path, side: int, data: bytes | None = None) -> bytes:
    """A small JPEG whose long edge is at most `side` pixels, oriented, flattened on white. Raises UnreadableImage.

    data: as `load_image` takes it.
    """
    data = fetched(path) if data is None else data
    memory = decoding_cost(path, data=data).memory
    with DECODING.take(memory), opened(path, has_room=True, data=data) as file, reading(path, memory):
        data = file.read()
        image, kind = read_header(BytesIO(sound_metadata(data)), path)
        check_scans(data, kind, path)
        image.draft(None, (2 * side, 2 * side))
        small = decoded(image, kind, [])
        small.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    small.info = {}
    out = BytesIO()
    small.save(out, "JPEG", quality=80)
    return out.getvalue()


def browser_can_show(path: Path) -> bool:
    """Whether a web browser shows this very file, the right way up. False also for what cannot be opened."""
    try:
        with opened(path) as file, reading(path):
            image, kind = read_header(file, path)
            # Browsers turn JPEG (by EXIF) and AVIF (by its own boxes), the other formats not everywhere.
            upright = kind in ("JPEG", "AVIF") or orientation(image) == 1
            return upright and kind not in ("TIFF", "HEIF") and image.mode != "CMYK"
    except UnreadableImage:
        return False


def _span(low: float, high: float, length: int) -> tuple[int, int]:
    """Whole pixels that cover the fractions low..high of `length`: at least one, none outside."""
    start = min(max(math.floor(low * length), 0), length - 1)
    return start, min(max(math.ceil(high * length), start + 1), length)


def _depth_note(image: ImageFile, kind: Kind, data: bytes) -> list[str]:
    bits = 8
    if kind == "PNG":
        bits = data[24]
    elif kind == "TIFF" and image.mode not in ("I", "F"):
        bits = max(getattr(image, "tag_v2", {}).get(258, (8,)))
    return [f"{bits} bits a channel reduced to 8"] if bits > 8 else []


def _frame_note(image: ImageFile, size: int) -> list[str]:
    if not getattr(image, "is_animated", False):
        return []
    which = "main" if image.format == "HEIF" else "first"
    # Walking a hostile TIFF takes time quadratic in its pages, a GIF time linear in its bytes.
    if image.format == "TIFF" or size > _COUNTED_BYTES:
        return [f"{which} of several frames"]
    try:
        return [f"{which} of {getattr(image, 'n_frames', 1)} frames"]
    except Exception:  # a damaged later frame says nothing against the first
        image.seek(0)
        return [f"{which} of several frames"]


def _png(plain: Image.Image, source: Image.Image) -> Encoded:
    """Losslessly, with the source's colour profile if it still holds, and without other metadata."""
    profile = source.info.get("icc_profile")
    profile = profile if isinstance(profile, bytes) else b""  # a TIFF may claim it to be anything
    space = {"RGB": b"RGB ", "L": b"GRAY"}[plain.mode]
    holds = source.mode not in ("CMYK", "LAB") and profile[16:20] == space and len(profile) <= _MAX_PROFILE
    plain.info = {}
    out = BytesIO()
    plain.save(out, "PNG", compress_level=_PNG_LEVEL, icc_profile=profile if holds else None)
    return Encoded(out.getvalue(), "image/png", *plain.size)
