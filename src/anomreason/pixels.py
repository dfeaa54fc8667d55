"""Brings decoded pixels of any mode to 8 bits of RGB or grey.

>>> to_rgb_or_grey(Image.new("LA", (1, 1)), notes := []).getpixel((0, 0)), notes
(255, ['transparency flattened on white'])
"""

from __future__ import annotations

import math
from io import BytesIO
from typing import Any

from PIL import Image

_BAND_PIXELS = 1 << 22
"""Pixels whose values are converted at a time."""


def to_rgb_or_grey(image: Image.Image, notes: list[str]) -> Image.Image:
    """A decoded image in mode RGB or L, transparency on white; what had to be done for that is added to `notes`."""
    if image.mode in ("CMYK", "LAB"):
        notes.append(f"{image.mode} converted to sRGB")
        return _to_srgb(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _to_8_bits(image, notes)
    if image.has_transparency_data:
        return _flattened(image, notes)
    return image if image.mode in ("RGB", "L") else image.convert("L" if image.mode == "1" else "RGB")


def _flattened(image: Image.Image, notes: list[str]) -> Image.Image:
    """On white; an alpha channel that is opaque everywhere is dropped without a note."""
    grey = image.mode in ("1", "L", "LA", "La")
    straight = image.convert("LA") if image.mode == "La" else image
    rgba = straight if straight.mode == "RGBA" else straight.convert("RGBA")
    alpha = rgba.getchannel("A")
    if alpha.getextrema()[0] == 255:
        flat = rgba.convert("RGB")
    else:
        notes.append("transparency flattened on white")
        flat = Image.new("RGB", rgba.size, "white")
        flat.paste(rgba, mask=alpha)
    return flat.convert("L") if grey else flat


def _to_srgb(image: Image.Image) -> Image.Image:
    """By the file's own colour profile where it has a usable one, else by Pillow's plain formula (CMYK only)."""
    from PIL import ImageCms

    srgb = ImageCms.createProfile("sRGB")
    try:
        own: Any = BytesIO(image.info["icc_profile"]) if image.mode == "CMYK" else ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(image, own, srgb, outputMode="RGB")
    except (KeyError, TypeError, ImageCms.PyCMSError):
        converted = None
    return converted or image.convert("RGB")


def _to_8_bits(image: Image.Image, notes: list[str]) -> Image.Image:
    """One channel of 12, 16 or 32 bits, integer or float; brightness keeps its meaning if the range shows it."""
    import numpy as np

    values = np.asarray(image)
    if image.mode.startswith("I;16"):
        bits = max(getattr(image, "tag_v2", {}).get(258, (16,)))
        grey = (values >> (bits - 8)).astype(np.uint8)
        clear = image.info.get("transparency")
        if isinstance(clear, int):
            grey[values == clear] = 255
            notes.append("transparency flattened on white")
        return Image.fromarray(grey)
    bands = np.array_split(values, math.ceil(values.size / _BAND_PIXELS) or 1)  # rows; views, not copies
    ranges = [
        (float(band[finite].min()), float(band[finite].max())) for band in bands if (finite := np.isfinite(band)).any()
    ]
    low, high = min((r[0] for r in ranges), default=0.0), max((r[1] for r in ranges), default=0.0)
    scales = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    full = next((s for s in scales if low >= 0 and high <= s), None)
    notes.append(f"32-bit values {low:g} to {high:g} brought to 8 bits")
    start, width = (0.0, full) if full else (low, high - low or 1.0)
    grey = np.empty(values.shape, dtype=np.uint8)
    for band, into in zip(bands, np.array_split(grey, len(bands)), strict=True):
        scaled = np.nan_to_num((band.astype(np.float64) - start) / width, nan=0.0, posinf=1.0, neginf=0.0)
        into[...] = (scaled.clip(0, 1) * 255).round()
    return Image.fromarray(grey)
