"""The files that a browser loads, by name: those of one page's folder, or those in `page/` here, which pages share.

page_file(files("anomreason.review") / "page", "static", "app.js")
"""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import HTTPException, Response
from fastapi.responses import FileResponse, HTMLResponse

SHARED = files("anomreason.web") / "page"
_INVALID_LINK = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>This link is not valid</title>
<link rel="icon" href="/static/icon.svg">
<link rel="stylesheet" href="/static/notice.css">
</head>
<body>
<main>
<h1>This link is not valid</h1>
<p>It is incomplete, or it has been replaced. Copy the whole link again, or ask the owner of {what} for a new one.</p>
<p><a href="/">{otherwise}</a></p>
</main>
</body>
</html>
"""


def page_file(folder: Traversable, *names: str) -> Response:
    """A file of the page, or else a shared one; only the names that are there lead anywhere."""
    place = _found(folder, names) or _found(SHARED, names)
    if place is None:
        raise HTTPException(404, "the page has no such file; load the page again")
    kind = mimetypes.guess_type(place.name)[0] or "application/octet-stream"
    return FileResponse(str(place), media_type=kind, headers={"Cache-Control": "no-cache"})


def invalid_link(what: str, otherwise: str, headers: Mapping[str, str] | None = None) -> Response:
    """The page, with status 401, for somebody who opens a link whose token is unknown.

    what: whose owner makes links, "this service"; otherwise: text of the link to the main page.
    """
    return HTMLResponse(_INVALID_LINK.format(what=what, otherwise=otherwise), 401, headers)


def _found(place: Traversable, names: tuple[str, ...]) -> Traversable | None:
    for name in names:
        inside = [entry for entry in place.iterdir() if entry.name == name] if place.is_dir() else []
        if not inside:
            return None
        place = inside[0]
    return place if place.is_file() else None
