"""The files that a browser loads, by name: those of one page's folder, or those in `page/` here, which pages share.

page_file(files("anomreason.review") / "page", "static", "app.js")
"""

from __future__ import annotations

import mimetypes
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import HTTPException, Response
from fastapi.responses import FileResponse

SHARED = files("anomreason.web") / "page"


def page_file(folder: Traversable, *names: str) -> Response:
    """A file of the page, or else a shared one; only the names that are there lead anywhere."""
    place = _found(folder, names) or _found(SHARED, names)
    if place is None:
        raise HTTPException(404, "the page has no such file; load the page again")
    kind = mimetypes.guess_type(place.name)[0] or "application/octet-stream"
    return FileResponse(str(place), media_type=kind, headers={"Cache-Control": "no-cache"})


def _found(place: Traversable, names: tuple[str, ...]) -> Traversable | None:
    for name in names:
        inside = [entry for entry in place.iterdir() if entry.name == name] if place.is_dir() else []
        if not inside:
            return None
        place = inside[0]
    return place if place.is_file() else None
