"""Image files as bytes: the format of a file, and the same file without its metadata.

A file that is not plainly built is left to the caller, who then encodes its pixels anew.

    >>> kind_of(b"GIF89a...")
    'GIF'
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Literal

Kind = Literal["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "HEIF"]

HEAD = 4096
"""Bytes from the start of a file that are enough for `kind_of` and `looks_like`."""

_STARTS: tuple[tuple[bytes, Kind], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II\x2a\x00", "TIFF"),
    (b"MM\x00\x2a", "TIFF"),
    (b"II\x2b\x00", "TIFF"),
    (b"MM\x00\x2b", "TIFF"),
    (b"BM", "BMP"),
)

_ARCHIVES = (
    (b"PK\3\4", "a zip archive or office document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
)

# JPEG markers that the pixels need: baseline and progressive Huffman frames, tables, restart interval.
_JPEG_KEPT = {0xC0, 0xC1, 0xC2, 0xC4, 0xDB, 0xDD}
_JPEG_SCAN, _JPEG_END, _JPEG_COMMENT = 0xDA, 0xD9, 0xFE
# Within a scan FF 00 is a data byte, FF D0..D7 restart it and FF FF is fill; anything else is the next marker.
_JPEG_BARE = {0x01, 0xD8}  # markers without a length
_JPEG_SCAN_END = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")

_PNG_PIXELS = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}
_PNG_COLOUR = {b"tRNS", b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"sBIT", b"cICP"}

_PNG_LENGTHS = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"cICP": 4, b"acTL": 8, b"fcTL": 26}
_PNG_EXIF_TEXT = b"Raw profile type exif"
_JPEG_LEAST = {0xE0: {b"JFIF": 14}, 0xE2: {b"ICC_PROFILE\0": 15}, 0xEE: {b"Adobe": 12}}
"""Fewest bytes of an application segment that begins so."""
_MOST_UNPACKED = 1 << 20
"""Bytes of a PNG's colour profile or EXIF text once unpacked; Pillow refuses more."""
_MOST_CHUNKS = 1_000_000

_WEBP_KEPT = {b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ICCP"}
_WEBP_EXIF, _WEBP_XMP = 0x08, 0x04


def kind_of(head: bytes) -> Kind | None:
    """The format by content alone; None when it is none of those we open."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        brands = head[8 : max(16, int.from_bytes(head[:4], "big"))]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        return "HEIF" if brands[:4] in (b"mif1", b"msf1") or brands[:2] == b"he" else None
    return next((kind for start, kind in _STARTS if head.startswith(start)), None)


def looks_like(head: bytes) -> str:
    """What a file that is none of our formats seems to be, and what to do: the rest of a sentence about it."""
    packed = next((what for start, what in _ARCHIVES if head.startswith(start)), None)
    packed = "a tar archive" if packed is None and head[257:262] == b"ustar" else packed
    if packed:
        return f"is {packed}, not an image; unpack it and give its images"
    if head.startswith(b"PAR1"):
        return (
            "is a Parquet table, not an image; write its images to files first (docs/detect.md, Inputs, has the lines)"
        )
    if head.startswith(b"%PDF"):
        return "is a PDF, not an image; export its pages as PNG first"
    lower = head.lower()
    if b"<svg" in lower:
        return "is an SVG drawing, which has no pixels; render it to PNG first"
    if b"<html" in lower or b"<!doctype html" in lower:
        return "is a web page, not an image; download the image itself"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the image itself; fetch the images with `git lfs pull`"
    if head[4:8] == b"ftyp" or head.startswith(b"\x1aE\xdf\xa3"):
        return "is a video or another file of media, not an image; export its frames as PNG first"
    if head.decode("utf-8", "ignore").strip() and not re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\xff]", head):
        return "is a text file, not an image; give the image itself"
    return (
        "is not an image of a known type (JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF, HEIF; the content decides, not "
        "the name); convert it to PNG"
    )


def jpeg_scans(data: bytes) -> int:
    """Number of scans before the end of a JPEG; those of thumbnails within its segments do not count."""
    scans, at = 0, 2
    while found := _JPEG_SCAN_END.search(data, at):
        marker, at = data[found.end() - 1], found.end()
        if marker == _JPEG_END:
            break
        scans += marker == _JPEG_SCAN
        if marker not in _JPEG_BARE:
            at += int.from_bytes(data[at : at + 2], "big")
    return scans


def without_metadata(data: bytes, kind: Kind) -> bytes | None:
    """The same pixels and colour profile in the same encoding, without EXIF, XMP, comments or anything appended.

    None when the file is not plainly built, or of a kind that is not widely accepted: encode its pixels anew.
    """
    strip = {"JPEG": _strip_jpeg, "PNG": _strip_png, "WEBP": _strip_webp}.get(kind)
    return strip(data) if strip else None


def sound_metadata(data: bytes) -> bytes:
    """The same PNG or JPEG without metadata that decoders refuse, or that is of no use to us; other files as they are.

    Image generators write whole workflows into text chunks, and editors write broken EXIF and colour profiles. What
    decides the pixels, their colours and the orientation stays, and so does whatever is wrong with the rest.
    """
    spans = {"PNG": _sound_png, "JPEG": _sound_jpeg}.get(kind_of(data[:HEAD]) or "")
    kept, at = [], 0
    for start, end in spans(data) if spans else ():
        kept.append(data[at:start])
        at = end
    return b"".join([*kept, data[at:]]) if at else data


def _sound_png(data: bytes) -> Iterator[tuple[int, int]]:
    """Where the chunks stand that are left out."""
    at = 8
    for _ in range(_MOST_CHUNKS):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        name = data[at + 4 : at + 8]
        if end > len(data) or name == b"IEND":
            return
        if name[:1].islower() and name not in (b"tRNS", b"fdAT"):
            stored = int.from_bytes(data[end - 4 : end], "big")
            if not (_is_sound(name, data[at + 8 : end - 4]) and zlib.crc32(data[at + 4 : end - 4]) == stored):
                yield at, end
        at = end


def _is_sound(name: bytes, body: bytes) -> bool:
    """Whether an ancillary chunk of a PNG says something about the pixels, and can be read."""
    if name in _PNG_LENGTHS:
        return len(body) == _PNG_LENGTHS[name]
    if name in (b"iCCP", b"zTXt"):
        keyword, _, rest = body.partition(b"\0")
        return (name == b"iCCP" or keyword == _PNG_EXIF_TEXT) and rest[:1] == b"\0" and _unpacks(rest[1:])
    return name in (b"eXIf", b"sBIT") or (name == b"tEXt" and body.startswith(_PNG_EXIF_TEXT + b"\0"))


def _unpacks(packed: bytes) -> bool:
    unpacking = zlib.decompressobj()
    try:
        unpacking.decompress(packed, _MOST_UNPACKED)
    except zlib.error:
        return False
    return unpacking.eof


def _sound_jpeg(data: bytes) -> Iterator[tuple[int, int]]:
    """Where the application segments stand that are too short for what they claim to be."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker, end = data[at + 1], at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:
            at += 1
            continue
        if marker in (_JPEG_SCAN, _JPEG_END) or end < at + 4:
            return
        for start, least in _JPEG_LEAST.get(marker, {}).items():
            if data.startswith(start, at + 4) and end - at - 4 < least:
                yield at, end
        at = end


def _strip_jpeg(data: bytes) -> bytes | None:
    kept, at = [data[:2]], 2
    while data[at : at + 1] == b"\xff" and at + 1 < len(data):
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == _JPEG_END:
            return b"".join([*kept, b"\xff\xd9"])
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + length
        if marker == _JPEG_SCAN:
            following = _JPEG_SCAN_END.search(data, end)
            end = following.start() if following else len(data)
        if length < 2 or not (marker in _JPEG_KEPT | {_JPEG_SCAN, _JPEG_COMMENT} or 0xE0 <= marker <= 0xEF):
            return None
        if 0xE0 <= marker <= 0xEF:
            kept.append(_kept_app(marker, data[at + 4 : end]))
        elif marker != _JPEG_COMMENT:
            kept.append(data[at:end])
        at = end
    return None


def _kept_app(marker: int, body: bytes) -> bytes:
    """Of an application segment, what decides how the pixels are read: the colour space and the colour profile."""
    if marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14:
        body = body[:12] + b"\0\0"  # no thumbnail
    elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
        body = body[:12]
    elif not (marker == 0xE2 and body.startswith(b"ICC_PROFILE\0")):
        return b""
    return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body


def _strip_png(data: bytes) -> bytes | None:
    kept, at = [data[:8]], 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        name = data[at + 4 : at + 8]
        if end > len(data):
            return None
        if name in _PNG_PIXELS or name in _PNG_COLOUR:
            if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
                return None
            kept.append(data[at:end])
        elif not name[:1].islower():
            return None
        if name == b"IEND":
            return b"".join(kept) if end == at + 12 else None
        at = end
    return None


def _strip_webp(data: bytes) -> bytes | None:
    total = 8 + int.from_bytes(data[4:8], "little")
    kept, at, bitstreams = [b"WEBP"], 12, 0
    while at + 8 <= total <= len(data):
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + length + length % 2
        if end > total:
            return None
        chunk = data[at:end]
        if name == b"VP8X" and length:
            chunk = chunk[:8] + bytes([chunk[8] & ~(_WEBP_EXIF | _WEBP_XMP)]) + chunk[9:]
        if name in _WEBP_KEPT:
            kept.append(chunk)
        bitstreams += name in (b"VP8 ", b"VP8L")
        at = end
    body = b"".join(kept)
    return b"RIFF" + len(body).to_bytes(4, "little") + body if bitstreams == 1 and at == total else None
