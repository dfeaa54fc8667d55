"""Opens image files once and safely, and orients, scales, encodes and crops them.

A file is hostile until it is decoded: its content decides the type, only the formats listed here are tried, and
whatever is wrong with it becomes an UnreadableImage. Safe in threads.

    >>> load_image(Path("photo.jpg")).sent
    SentImage(mime='image/jpeg', width=1024, height=768, bytes=..., notes=('metadata removed',))
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image

from anomreason import archives
from anomreason.anomaly import Region, SentImage
from anomreason.containers import HEAD, Kind, jpeg_scans, kind_of, looks_like, sound_metadata, without_metadata
from anomreason.decoding import DECODING, call_apart, memory_lacks
from anomreason.errors import UnreadableImage, UnreadableReason, UsageError
from anomreason.facts import EncodingFacts, encoding_facts
from anomreason.pixels import to_rgb_or_grey

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_MAX_BYTES = 1 << 30
"""A larger file is refused before it is read into memory."""
_MAX_SIDE = 65_535
"""Pixels. No camera or model makes a longer image, and Pillow takes time quadratic in the length of a row."""
_PNG_LEVEL = 2
"""A 1024x1024 photograph: 62 ms, 1,159 KB. At level 1: 61 ms, 1,175 KB; at 4: 99 ms, 1,107 KB; at 6: about 240 ms."""
_MAX_SCANS = 100
"""Each scan of a JPEG goes over all of its pixels. Cameras and programs write about 10, and cjpeg refuses more too."""
_PER_PIXEL = {"JPEG": 16, "WEBP": 21, "AVIF": 19, "HEIF": 21, "TIFF": 17}
_PER_PIXEL_ELSE = 11
"""Bytes for a pixel while it is decoded: 4 as it is, 5 to convert it, the rest inside the decoder; measured."""
_PER_PIXEL_ENCODED = 6
"""More of these bytes when the whole image is written as PNG."""
_APART_PIXELS, _APART_BYTES = 30_000_000, 1 << 26
"""An image with more pixels, or a longer file, is decoded in a process that can be ended."""
_HEADER_MEMORY = 700_000_000
"""What a decoder may take for a header alone, bytes: WebP's makes room for two images."""
_COUNTED_BYTES = 1 << 24
"""Counting the frames of a GIF reads all of it, so larger files are not counted."""
_MAX_PROFILE = 1 << 19
"""Largest colour profile that is kept, bytes; PNG readers refuse huge ones."""
_TURN = Image.Transpose
_TURNS = {2: _TURN.FLIP_LEFT_RIGHT, 3: _TURN.ROTATE_180, 4: _TURN.FLIP_TOP_BOTTOM, 5: _TURN.TRANSPOSE}
_TURNS |= {6: _TURN.ROTATE_270, 7: _TURN.TRANSVERSE, 8: _TURN.ROTATE_90}


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
    """The file's bytes, where they do not lie at `path`."""


def load_image(path: Path, max_side: int | None = 1536, data: bytes | None = None) -> LoadedImage:
    """Open, orient, bound and encode one file. Raises UnreadableImage.

    data: the file's bytes, where they do not lie at `path`, which then only names the image in messages.
    The long edge is at most `max_side` pixels (None: as it is). The file's own bytes are sent, less their metadata,
    when they are JPEG, PNG or WebP and need no change; otherwise its pixels as PNG.
    """
    cost = _cost_of(path, max_side is None, data)
    with DECODING.take(cost.memory):
        if cost.apart and sys.executable:
            loaded: LoadedImage = call_apart("anomreason.images:load_here", path, max_side, cost.memory, data)
        else:
            loaded = load_here(path, max_side, cost.memory, data)
    return loaded if data is None else replace(loaded, data=data)


def load_here(path: Path, max_side: int | None, memory: int, data: bytes | None = None) -> LoadedImage:
    """As `load_image`, in this process and without waiting for memory; memory: what that takes, bytes."""
    with _opened(path, has_room=True, data=data) as file, _reading(path, memory):
        data = file.read()
        sound = sound_metadata(data)
        image, kind = _header(BytesIO(sound), path)
        _check_scans(data, kind, path)
        notes = [*_depth_note(image, kind, data), *_frame_note(image, len(data))]
        whole = image.size
        reduced = kind == "JPEG" and max_side is not None and image.draft(None, (2 * max_side, 2 * max_side))
        plain = _decoded(image, kind, notes)
        width, height = plain.size
        if reduced:
            width, height = reversed(whole) if _orientation(image) >= 5 else whole
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
    cost = _cost_of(path, data=data)
    with DECODING.take(cost.memory):
        if cost.apart and sys.executable:
            inspected: InspectedImage = call_apart("anomreason.images:inspect_here", path, data, cost.memory)
            return inspected
        return inspect_here(path, data, cost.memory)


def inspect_here(path: Path, data: bytes | None, memory: int) -> InspectedImage:
    """As `inspect_image`, in this process and without waiting for memory; memory: what that takes, bytes."""
    with _opened(path, has_room=True, data=data) as file, _reading(path, memory):
        data = file.read()
        image, kind = _header(BytesIO(sound_metadata(data)), path)
        _check_scans(data, kind, path)
        facts = encoding_facts(image, data, kind)
        whole = image.size
        reduced = kind == "JPEG" and image.draft("L", (4 * GREY_SIDE, 4 * GREY_SIDE))
        plain = _decoded(image, kind, [])
        size = plain.size
        if reduced:
            size = whole[::-1] if _orientation(image) >= 5 else whole
        grey = plain.convert("L").resize((GREY_SIDE, GREY_SIDE), Image.Resampling.LANCZOS)
    grey.info = {}
    return InspectedImage(hashlib.sha256(data).hexdigest(), *size, kind, len(data), facts, grey)


@dataclass(frozen=True, slots=True)
class _Cost:
    """What decoding a file takes, by its header."""

    memory: int
    """Bytes at most."""
    apart: bool
    """Whether it may take long, so that it is done in a process that can be ended."""


def _cost_of(path: Path, encoded: bool = False, data: bytes | None = None) -> _Cost:
    """encoded: the whole image is written as PNG too. Raises UnreadableImage for a header that is refused."""
    with _opened(path, data=data) as file, _reading(path):
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        image, kind = _header(file, path)
        pixels = image.width * image.height
    each = _PER_PIXEL.get(kind, _PER_PIXEL_ELSE) + _PER_PIXEL_ENCODED * encoded
    return _Cost(2 * size + pixels * each, pixels > _APART_PIXELS or size > _APART_BYTES)


def _check_scans(data: bytes, kind: Kind, path: Path) -> None:
    if kind != "JPEG" or data.count(b"\xff\xda") <= _MAX_SCANS:  # the bytes before each scan, and by chance elsewhere
        return
    if (scans := jpeg_scans(data)) > _MAX_SCANS:
        raise UnreadableImage(
            f"{str(path)!r} is a JPEG of {scans:,} scans, each of which takes as long as an image; at most "
            f"{_MAX_SCANS} are decoded: export it again, e.g. as PNG",
            reason="too_large",
        )


def packed(image: Encoded, most: int) -> Encoded | None:
    """The same pixels as a JPEG of at most `most` bytes, of the best quality that fits; None when none does."""
    with Image.open(BytesIO(image.data)) as opened:
        pixels = opened.convert("RGB")
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
    memory = width * height * _PER_PIXEL["WEBP"]
    with DECODING.take(memory), _reading(loaded.path, memory):
        image, kind = _header(BytesIO(loaded.encoded.data), loaded.path)
        part = _decoded(image, kind, []).crop((left, top, right, bottom))
    return _png(part, image)


def cut_out(loaded: LoadedImage, places: Sequence[Region], side: int) -> list[Image.Image]:
    """These parts of the image, each with its longer side scaled to `side`, from the file's pixels if it has more.

    With the image's colour profile. Raises UnreadableImage, also when the file is no longer the one that was loaded.
    """
    sent = loaded.encoded
    if loaded.width <= sent.width:
        memory = sent.width * sent.height * _PER_PIXEL["WEBP"]
        with DECODING.take(memory):
            return cut_out_here(loaded.path, places, side, memory, sent.data)
    cost = _cost_of(loaded.path, data=loaded.data)
    with DECODING.take(cost.memory):
        given = (loaded.path, places, side, cost.memory, loaded.data, loaded.sha256)
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
    with _opened(path, has_room=True, data=data) as file, _reading(path, memory):
        data = file.read()
        if sha256 not in (None, hashlib.sha256(data).hexdigest()):
            raise UnreadableImage(f"{str(path)!r} changed while it was examined; run again", final=False)
        image, kind = _header(BytesIO(sound_metadata(data)), path)
        _check_scans(data, kind, path)
        whole, profile = _decoded(image, kind, []), image.info.get("icc_profile")
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
    cost = _cost_of(path)
    with DECODING.take(cost.memory):
        if cost.apart and sys.executable:
            pixels: tuple[Image.Image, str] = call_apart("anomreason.images:pixels_here", path, cost.memory)
            return pixels
        return pixels_here(path, cost.memory)


def pixels_here(path: Path, memory: int) -> tuple[Image.Image, str]:
    """As `load_pixels`, in this process and without waiting for memory; memory: what that takes, bytes."""
    with _opened(path, has_room=True) as file, _reading(path, memory):
        data = file.read()
        image, kind = _header(BytesIO(sound_metadata(data)), path)
        _check_scans(data, kind, path)
        pixels = _decoded(image, kind, []).copy()  # no ImageFile, which would hold on to the file's bytes
    pixels.info = {}
    return pixels, hashlib.sha256(data).hexdigest()


def file_bytes(path: Path) -> bytes:
    """The bytes of an image file as they are, in an archive too; nothing is decoded. Raises UnreadableImage."""
    with _opened(path) as file, _reading(path):
        return file.read()


def pixels_of(data: bytes, name: str) -> Image.Image:
    """The pixels of an image in memory, upright, in mode RGB or L, with its colour profile and no other metadata.

    name: of the image in messages. Raises UnreadableImage, also for one that would take a process of its own.
    """
    path = Path(name)
    cost = _cost_of(path, data=data)
    if cost.apart:
        raise UnreadableImage(
            f"{name!r} has over {_APART_PIXELS:,} pixels, too many to decode here; ask for a smaller image",
            reason="too_large",
        )
    with DECODING.take(cost.memory), _reading(path, cost.memory):
        image, kind = _header(BytesIO(sound_metadata(data)), path)
        _check_scans(data, kind, path)
        pixels = _decoded(image, kind, []).copy()
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
    with _opened(path, data=data) as file, _reading(path):
        image, kind = _header(file, path)
        width, height = image.size
        turned = kind != "TIFF" and _orientation(image) >= 5
    return (height, width) if turned else (width, height)


def thumbnail(path: Path, side: int) -> bytes:
    """A small JPEG whose long edge is at most `side` pixels, oriented, flattened on white. Raises UnreadableImage."""
    memory = _cost_of(path).memory
    with DECODING.take(memory), _opened(path, has_room=True) as file, _reading(path, memory):
        data = file.read()
        image, kind = _header(BytesIO(sound_metadata(data)), path)
        _check_scans(data, kind, path)
        image.draft(None, (2 * side, 2 * side))
        small = _decoded(image, kind, [])
        small.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    small.info = {}
    out = BytesIO()
    small.save(out, "JPEG", quality=80)
    return out.getvalue()


def browser_can_show(path: Path) -> bool:
    """Whether a web browser shows this very file, the right way up. False also for what cannot be opened."""
    try:
        with _opened(path) as file, _reading(path):
            image, kind = _header(file, path)
            # Browsers turn JPEG (by EXIF) and AVIF (by its own boxes), the other formats not everywhere.
            upright = kind in ("JPEG", "AVIF") or _orientation(image) == 1
            return upright and kind not in ("TIFF", "HEIF") and image.mode != "CMYK"
    except UnreadableImage:
        return False


def _span(low: float, high: float, length: int) -> tuple[int, int]:
    """Whole pixels that cover the fractions low..high of `length`: at least one, none outside."""
    start = min(max(math.floor(low * length), 0), length - 1)
    return start, min(max(math.ceil(high * length), start + 1), length)


@contextmanager
def _opened(path: Path, has_room: bool = False, data: bytes | None = None) -> Iterator[BinaryIO]:
    """The file, if it is a regular one of sensible size. Never waits for a pipe or device.

    data: its bytes, where they are in memory already. Waits for room for all of its bytes, unless the caller has taken
    that: a member of an archive is unpacked into memory, and a file whose header is damaged is read to its end.
    """
    file: BinaryIO
    if data is not None:
        with BytesIO(data) as file:
            yield file
        return
    try:
        status = os.stat(path)
        problem = _why_not(status)
        if problem is None:
            # A pipe put there since the look above must not block either.
            flags = getattr(os, "O_NONBLOCK", 0)
            file = open(path, "rb", opener=lambda name, mode: os.open(name, mode | flags))  # noqa: SIM115
    except NotADirectoryError:
        place = _inside(path)
        if place is None:
            raise UnreadableImage(f"{str(path)!r} does not exist; check the path", reason="missing") from None
        archive, name = place
        size = archive.member(name).size
        with nullcontext() if has_room else DECODING.take(2 * size), BytesIO(archive.read(name)) as member:
            yield member
        return
    except FileNotFoundError:
        link = f"is a link to {os.readlink(path)!r}, which " if path.is_symlink() else ""
        raise UnreadableImage(f"{str(path)!r} {link}does not exist; check the path", reason="missing") from None
    except PermissionError:
        raise UnreadableImage(
            f"{str(path)!r} may not be read; change its permissions", final=False, reason="forbidden"
        ) from None
    except (OSError, ValueError) as error:
        raise UnreadableImage(f"{str(path)!r} cannot be opened ({error}); check the path", reason="missing") from error
    if problem is not None:
        raise UnreadableImage(f"{str(path)!r} {problem[1]}", reason=problem[0])
    with file, nullcontext() if has_room else DECODING.take(2 * status.st_size):
        yield file


def _inside(path: Path) -> tuple[archives.Archive, str] | None:
    try:
        return archives.inside(path)
    except UsageError as error:
        raise UnreadableImage(str(error), final=False) from None


def _why_not(status: os.stat_result) -> tuple[UnreadableReason, str] | None:
    """Why a file is not read, in a word and for people; None for one that is."""
    if stat.S_ISDIR(status.st_mode):
        return "not_image", "is a directory, not an image; name the images inside it"
    if not stat.S_ISREG(status.st_mode):
        return "not_image", "is a pipe or a device, not a regular file; save the image to a file first"
    if status.st_size == 0:
        return "empty", "is empty (0 bytes); copy or download it again"
    if status.st_size > _MAX_BYTES:
        most = f"{_MAX_BYTES:,}"
        return (
            "too_large",
            f"has {status.st_size:,} bytes, more than the {most} that are read; make a smaller file of it",
        )
    return None


@contextmanager
def _reading(path: Path, memory: int = _HEADER_MEMORY) -> Iterator[None]:
    """Whatever a decoder raises on a damaged or hostile file becomes UnreadableImage; memory: what it takes, bytes."""
    try:
        yield
    except UnreadableImage:
        raise
    except MemoryError as error:
        raise UnreadableImage(_too_large(path), final=False, reason="memory") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(
            f"{str(path)!r} is too large to decode safely ({error}); scale it down first", reason="too_large"
        ) from error
    except Exception as error:
        what = f"{type(error).__name__}: {str(error)[:200]}"
        if memory_lacks(memory):
            raise UnreadableImage(_too_large(path), final=False, reason="memory") from error
        raise UnreadableImage(
            f"{str(path)!r} is damaged, incomplete or of an unusual make ({what}); export it again, e.g. as PNG"
        ) from error


def _too_large(path: Path) -> str:
    return f"{str(path)!r} needs more memory than there is; free some and run again, or scale the image down first"


def _reader(kind: Kind, path: Path) -> Callable[[BinaryIO], ImageFile]:
    """Pillow's reader of one format. Named one by one, so that no other format is ever tried: some run programs."""
    if kind == "HEIF":
        try:
            from pillow_heif import HeifImageFile
        except ImportError as error:
            raise UnreadableImage(
                f"{str(path)!r} is HEIF, which needs the optional part 'heif': pip install 'anomreason[heif]' "
                "(in a clone: pip install '.[heif]')",
                final=False,
                reason="unsupported",
            ) from error
        reader: Callable[[BinaryIO], ImageFile] = HeifImageFile
        return reader
    from PIL.AvifImagePlugin import AvifImageFile
    from PIL.BmpImagePlugin import BmpImageFile
    from PIL.GifImagePlugin import GifImageFile
    from PIL.JpegImagePlugin import JpegImageFile
    from PIL.PngImagePlugin import PngImageFile
    from PIL.TiffImagePlugin import TiffImageFile
    from PIL.WebPImagePlugin import WebPImageFile

    readers: dict[Kind, Callable[[BinaryIO], ImageFile]] = {
        "JPEG": JpegImageFile,
        "PNG": PngImageFile,
        "WEBP": WebPImageFile,
        "GIF": GifImageFile,
        "TIFF": TiffImageFile,
        "BMP": BmpImageFile,
        "AVIF": AvifImageFile,
    }
    return readers[kind]


def _header(stream: BinaryIO, path: Path) -> tuple[ImageFile, Kind]:
    """The image with its header read and its size checked; pixels are not decoded yet."""
    head = stream.read(HEAD)
    stream.seek(0)
    kind = kind_of(head)
    if kind is None:
        raise UnreadableImage(f"{str(path)!r} {looks_like(head)}", reason="not_image")
    try:
        image = _reader(kind, path)(stream)
    except (ValueError, SyntaxError):
        stream.seek(0)
        image = _reader(kind, path)(BytesIO(sound_metadata(stream.read())))
    width, height = image.size
    limit = Image.MAX_IMAGE_PIXELS or math.inf
    if width * height > limit or max(width, height) > _MAX_SIDE:
        allowed = f"{limit:,} in all or {_MAX_SIDE:,} a side"
        raise UnreadableImage(
            f"{str(path)!r} is {width}x{height} pixels, more than is decoded safely ({allowed}); scale it down first",
            reason="too_large",
        )
    return image, kind


def _decoded(image: ImageFile, kind: Kind, notes: list[str]) -> Image.Image:
    """The pixels, upright, in mode RGB or L; what had to be done for that is added to `notes`."""
    # TIFF is turned while it is decoded and then forgets that it was; a PNG may state its orientation after the pixels.
    turn = _orientation(image) if kind == "TIFF" else 1
    image.load()
    if kind == "WEBP":  # the decoder holds three times the memory of the pixels
        vars(image).pop("_decoder", None)
        image.fp = None
    plain = to_rgb_or_grey(image, notes)
    if kind != "TIFF":
        turn = _orientation(image)
        plain = plain.transpose(_TURNS[turn]) if turn in _TURNS else plain
    if turn in _TURNS:
        notes.append(f"turned by EXIF orientation {turn}")
    return plain


def _orientation(image: ImageFile) -> int:
    """EXIF orientation, 1..8; 1 when it is missing or cannot be read, as browsers take it."""
    if image.format == "PNG" and image.tile and not image.info.keys() & {"exif", "Raw profile type exif"}:
        return 1  # not decoded yet, and getexif would decode it
    # Pillow would fall back on XMP, which browsers do not: the report must show the image as the model saw it.
    image.info.pop("xmp", None)
    image.info.pop("XML:com.adobe.xmp", None)
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # damaged EXIF is the file's fault and says nothing against its pixels
        return 1
    return value if value in _TURNS else 1


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
