"""The files that a browser loads: those of one folder, by name.

page_file(files("anomreason.review") / "page", "static", "app.js")
"""

from __future__ import annotations

import mimetypes
from importlib.resources.abc import Traversable

from fastapi import HTTPException, Response
from fastapi.responses import FileResponse


def page_file(folder: Traversable, *names: str) -> Response:
    """A file of the page; only the names that are there lead anywhere."""
    place = folder
    for name in names:
        found = [entry for entry in place.iterdir() if entry.name == name] if place.is_dir() else []
        if not found:
            raise HTTPException(404, "the page has no such file; load the page again")
        place = found[0]
    if not place.is_file():
        raise HTTPException(404, "the page has no such file; load the page again")
    kind = mimetypes.guess_type(place.name)[0] or "application/octet-stream"
    return FileResponse(str(place), media_type=kind, headers={"Cache-Control": "no-cache"})
