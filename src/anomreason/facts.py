"""What an image file tells of its making: JPEG quality, chroma subsampling, colour mode, kinds of metadata.

A set whose photographs and AI images differ in these can be told apart without a look at any pixel.

    >>> jpeg_quality([16, 11, 10, 16, 24, 40, 51, 61] * 8)
    (78, False)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

# Luminance quantisation of Annex K of the JPEG standard (ITU-T T.81), row by row, which IJG's quality scales.
_ANNEX_K = (
    *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
)
_SUBSAMPLING: dict[tuple[int, ...], str] = {
    (1, 1): "4:4:4",
    (2, 1): "4:2:2",
    (2, 2): "4:2:0",
    (4, 1): "4:1:1",
    (1, 2): "4:4:0",
}
_MOST_SEGMENTS = 10_000
_C2PA_BOX = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
"""Names the box of a C2PA manifest in AVIF and HEIF."""
_JPEG_KINDS: tuple[tuple[int, bytes, str], ...] = (
    (0xE0, b"JFIF\0", "jfif"),
    (0xE1, b"Exif\0", "exif"),
    (0xE1, b"http://ns.adobe.com/x", "xmp"),
    (0xE2, b"ICC_PROFILE\0", "icc"),
    (0xE2, b"MPF\0", "mpf"),
    (0xEB, b"JP", "c2pa"),
    (0xED, b"Photoshop 3.0\0", "photoshop"),
    (0xEE, b"Adobe", "adobe"),
    (0xFE, b"", "comment"),
)
"""Marker of a segment, what it begins with, and the kind of metadata."""
_PNG_KINDS = {b"eXIf": "exif", b"iCCP": "icc", b"tEXt": "text", b"zTXt": "text", b"iTXt": "text", b"caBX": "c2pa"}
_PNG_KINDS |= {b"tIME": "time", b"pHYs": "density", b"sRGB": "srgb", b"gAMA": "gamma", b"cHRM": "chroma"}
_WEBP_KINDS = {b"EXIF": "exif", b"XMP ": "xmp", b"ICCP": "icc", b"C2PA": "c2pa"}
_INFO_KINDS = {"exif": "exif", "icc_profile": "icc", "xmp": "xmp", "comment": "comment"}


@dataclass(frozen=True, slots=True)
class EncodingFacts:
    """What an image file tells of its making."""

    mode: str
    """Colour mode, as Pillow names it."""
    metadata: tuple[str, ...]
    """Kinds of metadata, e.g. `exif`, `icc`, `xmp`, `text`, `c2pa`; sorted."""
    jpeg_quality: int | None = None
    """1..100, on IJG's scale, by the nearest quantisation table; None for what is no JPEG."""
    standard_tables: bool | None = None
    """Whether that table is exactly IJG's of this quality; cameras and Photoshop have their own. None: no JPEG."""
    subsampling: str | None = None
    """Of chroma, e.g. `4:2:0`; None for what is no JPEG in colour."""
    progressive: bool | None = None
    """None: no JPEG."""


def encoding_facts(image: ImageFile, data: bytes, kind: str) -> EncodingFacts:
    """image: with its header read, not yet decoded; data: the whole file."""
    metadata = tuple(sorted(set(_metadata(image.info, data, kind))))
    if kind != "JPEG":
        return EncodingFacts(image.mode, metadata)
    tables: Mapping[int, Sequence[int]] = getattr(image, "quantization", {})
    quality, standard = jpeg_quality(tables[min(tables)]) if tables else (None, None)
    layers: Sequence[Sequence[int]] = getattr(image, "layer", ())
    sampling = _SUBSAMPLING.get(tuple(layers[0][1:3]), "other") if len(layers) == 3 else None
    return EncodingFacts(image.mode, metadata, quality, standard, sampling, "progressive" in image.info)


def jpeg_quality(table: Sequence[int]) -> tuple[int, bool]:
    """IJG's quality (1..100) whose luminance table is nearest to the given one, and whether both are equal.

    table: 64 steps, row by row.
    """
    import numpy as np

    quality = np.arange(1, 101)[:, None]
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    tables = ((np.array(_ANNEX_K) * scale + 50) // 100).clip(1, 255)  # (qualities, steps)
    off = np.abs(tables - np.array(table)).sum(axis=1)
    best = int(off.argmin())
    return best + 1, bool(off[best] == 0)


def _metadata(info: Mapping[str | tuple[int, int], object], data: bytes, kind: str) -> Iterator[str]:
    if kind == "JPEG":
        yield from _in_jpeg(data)
    elif kind == "PNG":
        yield from _in_png(data)
    elif kind == "WEBP":
        yield from _in_webp(data)
    else:
        yield from (name for key, name in _INFO_KINDS.items() if info.get(key))
        if _C2PA_BOX in data:
            yield "c2pa"


def _in_jpeg(data: bytes) -> Iterator[str]:
    at = 2
    for _ in range(_MOST_SEGMENTS):
        marker = data[at + 1 : at + 2]
        if data[at : at + 1] != b"\xff" or marker in (b"", b"\xd9", b"\xda"):
            return
        for number, start, name in _JPEG_KINDS:
            if marker[0] == number and data.startswith(start, at + 4):
                yield name
        at += 1 if marker == b"\xff" else 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))


def _in_png(data: bytes) -> Iterator[str]:
    at = 8
    for _ in range(_MOST_SEGMENTS):
        name = data[at + 4 : at + 8]
        if name in (b"", b"IEND"):
            return
        if name in _PNG_KINDS:
            yield "xmp" if name == b"iTXt" and data.startswith(b"XML:com.adobe.xmp", at + 8) else _PNG_KINDS[name]
        at += 12 + int.from_bytes(data[at : at + 4], "big")


def _in_webp(data: bytes) -> Iterator[str]:
    at = 12
    for _ in range(_MOST_SEGMENTS):
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if not name:
            return
        if name in _WEBP_KINDS:
            yield _WEBP_KINDS[name]
        at += 8 + length + length % 2
