"""Opens image files: what they are, what decoding them takes, and their pixels. Everything below is for `images`.

A file is hostile until it is decoded: its content decides the type, only the formats listed here are tried, and
whatever is wrong with it becomes an UnreadableImage.

    with opened(path) as file, reading(path):
        image, kind = read_header(file, path)
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image

from anomreason import archives, buckets, parquet
from anomreason.buckets import Address
from anomreason.containers import HEAD, Kind, jpeg_scans, kind_of, looks_like, sound_metadata
from anomreason.decoding import DECODING, memory_lacks
from anomreason.errors import UnreadableImage, UnreadableReason, UsageError
from anomreason.pixels import to_rgb_or_grey

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_MAX_BYTES = 1 << 30
"""A larger file is refused before it is read into memory."""
_MAX_SIDE = 65_535
"""Pixels. No camera or model makes a longer image, and Pillow takes time quadratic in the length of a row."""
_MAX_SCANS = 100
"""Each scan of a JPEG goes over all of its pixels. Cameras and programs write about 10, and cjpeg refuses more too."""
PER_PIXEL = {"JPEG": 16, "WEBP": 21, "AVIF": 19, "HEIF": 21, "TIFF": 17}
_PER_PIXEL_ELSE = 11
"""Bytes for a pixel while it is decoded: 4 as it is, 5 to convert it, the rest inside the decoder; measured."""
_PER_PIXEL_ENCODED = 6
"""More of these bytes when the whole image is written as PNG."""
APART_PIXELS, _APART_BYTES = 30_000_000, 1 << 26
"""An image with more pixels, or a longer file, is decoded in a process that can be ended."""
_HEADER_MEMORY = 700_000_000
"""What a decoder may take for a header alone, bytes: WebP's makes room for two images."""
_TURN = Image.Transpose
_TURNS = {2: _TURN.FLIP_LEFT_RIGHT, 3: _TURN.ROTATE_180, 4: _TURN.FLIP_TOP_BOTTOM, 5: _TURN.TRANSPOSE}
_TURNS |= {6: _TURN.ROTATE_270, 7: _TURN.TRANSVERSE, 8: _TURN.ROTATE_90}


@contextmanager
def opened(path: Path, has_room: bool = False, data: bytes | None = None) -> Iterator[BinaryIO]:
    """The file, if it is a regular one of sensible size. Never waits for a pipe or device.

    data: its bytes, where they are in memory already. Waits for room for all of its bytes, unless the caller has taken
    that: a member of an archive is unpacked into memory, and a file whose header is damaged is read to its end.
    """
    file: BinaryIO
    if data is None:
        data = fetched(path)
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


def fetched(path: Path) -> bytes | None:
    """The bytes of an image in a bucket or in a Parquet file; None for one that is opened where it lies.

    They come whole and once, so a caller that opens the image several times fetches it before. Raises UnreadableImage.
    """
    if parquet.is_row(path):
        return parquet.read_row(path)
    if not isinstance(path, Address):
        return None
    place = _inside(path)
    data = place[0].read(place[1]) if place else buckets.read(path)
    if not data:
        raise UnreadableImage(f"{str(path)!r} is empty (0 bytes); upload it again", reason="empty")
    return data


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
def reading(path: Path, memory: int = _HEADER_MEMORY) -> Iterator[None]:
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
                f"{str(path)!r} is HEIF, which needs the optional part 'heif': pip install '.[heif]' "
                "in the clone of anomreason",
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


def read_header(stream: BinaryIO, path: Path) -> tuple[ImageFile, Kind]:
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


def decoded(image: ImageFile, kind: Kind, notes: list[str]) -> Image.Image:
    """The pixels, upright, in mode RGB or L; what had to be done for that is added to `notes`."""
    # TIFF is turned while it is decoded and then forgets that it was; a PNG may state its orientation after the pixels.
    turn = orientation(image) if kind == "TIFF" else 1
    image.load()
    if kind == "WEBP":  # the decoder holds three times the memory of the pixels
        vars(image).pop("_decoder", None)
        image.fp = None
    plain = to_rgb_or_grey(image, notes)
    if kind != "TIFF":
        turn = orientation(image)
        plain = plain.transpose(_TURNS[turn]) if turn in _TURNS else plain
    if turn in _TURNS:
        notes.append(f"turned by EXIF orientation {turn}")
    return plain


def orientation(image: ImageFile) -> int:
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


@dataclass(frozen=True, slots=True)
class DecodingCost:
    """What decoding a file takes, by its header."""

    memory: int
    """Bytes at most."""
    apart: bool
    """Whether it may take long, so that it is done in a process that can be ended."""


def decoding_cost(path: Path, encoded: bool = False, data: bytes | None = None) -> DecodingCost:
    """encoded: the whole image is written as PNG too. Raises UnreadableImage for a header that is refused."""
    with opened(path, data=data) as file, reading(path):
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        image, kind = read_header(file, path)
        pixels = image.width * image.height
    each = PER_PIXEL.get(kind, _PER_PIXEL_ELSE) + _PER_PIXEL_ENCODED * encoded
    return DecodingCost(2 * size + pixels * each, pixels > APART_PIXELS or size > _APART_BYTES)


def check_scans(data: bytes, kind: Kind, path: Path) -> None:
    if kind != "JPEG" or data.count(b"\xff\xda") <= _MAX_SCANS:  # the bytes before each scan, and by chance elsewhere
        return
    if (scans := jpeg_scans(data)) > _MAX_SCANS:
        raise UnreadableImage(
            f"{str(path)!r} is a JPEG of {scans:,} scans, each of which takes as long as an image; at most "
            f"{_MAX_SCANS} are decoded: export it again, e.g. as PNG",
            reason="too_large",
        )
