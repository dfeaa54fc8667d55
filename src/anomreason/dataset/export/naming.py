"""File names of exported images: the original ones where they are unique and safe on every system.

>>> safe_name("../a b/<x>.PNG", "PNG")
'a b/_x_.PNG'
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple
from unicodedata import normalize

_UNSAFE = re.compile(r"[<>:\"'`|?*\\&$;#%{}\[\]\ufffd]")
_START = re.compile(r"^(?:[\s.~-]|__)+")
"""Hidden files, options of a command line; libraries pass over names that begin with two underscores."""
_RESERVED = re.compile(r"^(?:con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", re.I)
_LONGEST, _DEEPEST = 150, 6
"""Bytes of a part of a name, and parts."""
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg"),
    "PNG": (".png", ".apng"),
    "TIFF": (".tif", ".tiff"),
    "HEIF": (".heic", ".heif"),
}


class Named(NamedTuple):
    """What a name is made of."""

    sha256: str
    name: str
    source: str
    format: str
    """As Pillow names it."""


def unique_names(images: Iterable[Named]) -> list[str]:
    """A file name for each image: its own where no other has it, else `SOURCE/NAME`, else that with a hash before it.

    Names that differ by case or by the way of writing letters alone count as the same. Forward slashes; no name is the
    folder of another one.
    """
    images = list(images)
    names = [safe_name(image.name, image.format) for image in images]
    alone = _unclashing(names)
    for at in [i for i, free in enumerate(alone) if not free]:
        names[at] = safe_name(f"{images[at].source}/{images[at].name}", images[at].format)
    again = _unclashing(names)
    clashing = [i for i, free in enumerate(again) if not free and not alone[i]]
    for length in (12, 64):
        for at in clashing:
            image = images[at]
            path = PurePosixPath(safe_name(f"{image.source}/{image.name}", image.format))
            names[at] = str(path.with_name(f"{image.sha256[:length]}-{path.name}"))
        free = _unclashing(names)
        clashing = [i for i in range(len(names)) if not free[i]]
        if not clashing:
            break
    return names


def _unclashing(names: Sequence[str]) -> list[bool]:
    """Whether each name stands alone."""
    keys = [normalize("NFC", name).casefold() for name in names]
    count = Counter(keys)
    folders = {str(parent) for key in count for parent in PurePosixPath(key).parents}
    return [count[key] == 1 and key not in folders for key in keys]


def safe_name(name: str, format: str) -> str:
    """A relative path that every file system, archive and program takes; ends as its format does."""
    parts = [part for part in map(_safe, name.replace("\\", "/").split("/")) if part][-_DEEPEST:] or ["image"]
    suffixes = _SUFFIXES.get(format, ("." + (re.sub(r"\W", "", format.lower()) or "img"),))
    if not parts[-1].lower().endswith(suffixes):
        parts[-1] += suffixes[0]
    return "/".join(parts)


def safe_split(name: str) -> str:
    """A split's name as `datasets` takes it: letters, digits and underscores."""
    return re.sub(r"\W", "_", name).strip("_") or "split"


def _safe(part: str) -> str:
    plain = "".join(c if c.isprintable() else "_" for c in normalize("NFC", part))
    plain = _START.sub("", _UNSAFE.sub("_", plain)).rstrip(". ")
    if _RESERVED.match(plain):
        plain = f"_{plain}"
    data = plain.encode("utf-8", "replace")
    if len(data) <= _LONGEST:
        return data.decode("utf-8")
    stem, dot, suffix = plain.rpartition(".")
    tail = dot + suffix if stem and len(suffix) <= 5 else ""
    kept = data[: _LONGEST - 20].decode("utf-8", "ignore")
    return f"{kept}-{hashlib.sha256(data).hexdigest()[:8]}{tail}"
