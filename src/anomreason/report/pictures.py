"""What a page can show of each picture: a small preview, the file itself by reference, or a copy a browser can show.

Previews and copies are named by the hash of the picture's bytes, so a later build finds them again and a picture
that has gone can still be shown small. Knows nothing of findings or HTML.

    prepare(detection, root=Path("/data"), report=Path("runs/demo/report")).source    # '../../../../data/a.jpg'
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from anomreason.anomaly import Detection
from anomreason.errors import UnreadableImage
from anomreason.images import browser_can_show, thumbnail

PREVIEW_SIDE = 256
COPY_SIDE = 2048


@dataclass(frozen=True, slots=True)
class Shown:
    """How one picture appears. Addresses are percent-encoded and relative to `report/pages`."""

    preview: str | None
    """File name in `report/thumbs`; None when there is none."""
    source: str | None
    """What the page shows large; None when nothing can be shown."""
    original: str | None
    """The picture file itself; None when it is not there."""
    note: str | None
    """What a person must know about the picture shown, e.g. that the file is missing."""


def prepare(detection: Detection, root: Path, report: Path) -> Shown:
    """Make the preview and, where a browser cannot show the file, the copy; neither is made twice."""
    path = root / detection.image
    name = _name(detection.sha256)
    preview = report / "thumbs" / name if name else None
    copy = report / "pictures" / name if name else None
    original, note = _original(path, detection, report / "pages")
    shows = original
    if original and note is None and preview and copy:
        try:
            _keep(preview, path, PREVIEW_SIDE)
            if not browser_can_show(path):
                _keep(copy, path, COPY_SIDE)
                shows = None
                note = (
                    f"Browsers cannot show this kind of file; this is a JPEG copy, at most {COPY_SIDE} pixels a side."
                )
        except (UnreadableImage, OSError) as e:
            shows, note = None, f"The picture cannot be opened: {e}"
    elif not preview:
        shows, note = None, note or "The file could not be opened as a picture, so there is nothing to show."
    for kept in (copy, preview):
        if shows is None and kept is not None and kept.is_file():
            shows = link(kept, report / "pages")
    return Shown(name if preview and preview.is_file() else None, shows, original, note)


def link(target: Path, start: Path) -> str:
    """The address of a file as seen from a page in the folder `start`, safe for any file name."""
    return quote(os.fsencode(os.path.relpath(target, start)))


def _name(sha256: str | None) -> str | None:
    if sha256 is None or not re.fullmatch(r"[0-9a-f]{64}", sha256):
        return None
    return f"{sha256[:40]}.jpg"


def _original(path: Path, detection: Detection, pages: Path) -> tuple[str | None, str | None]:
    """(the file's address or None, what is wrong with it or None)."""
    try:
        stat = path.stat()
        if not path.is_file():
            return None, f"There is no picture file at {path} any more."
        if _changed(path, stat, detection):
            return link(path, pages), "The file has changed since it was examined: findings and boxes may not fit it."
    except FileNotFoundError:
        return None, f"The picture file is missing: it was at {path}."
    except (OSError, ValueError) as e:
        return None, f"The picture file cannot be read: {e}."
    return link(path, pages), None


def _changed(path: Path, stat: os.stat_result, detection: Detection) -> bool:
    """True for other bytes than those examined. Hashes the file only where its size and date leave a doubt."""
    if detection.file_size is None or detection.sha256 is None:
        return False
    if stat.st_size != detection.file_size:
        return True
    if stat.st_mtime_ns == detection.file_mtime:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() != detection.sha256


def _keep(target: Path, path: Path, side: int) -> None:
    """Write the picture scaled to `side` unless it is kept already; never half of it."""
    if target.exists():
        return
    part = target.with_name(f"{target.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        part.write_bytes(thumbnail(path, side))
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
