"""Who may use the review page, and what is done to every request and answer.

    links = Links.of(Path("data"))
    links.token("ada")    # the secret part of Ada's link, the same each time

Tokens follow from one secret file, so that a restart keeps the links; only their hashes are in the database. They are
compared in constant time and never logged.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 64 * 1024
"""Of a request's body."""
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Of every answer."""
_SECRET = Path("review", "secret")


@dataclass(frozen=True, slots=True)
class Reviewer:
    """Somebody who may use the page."""

    name: str
    owner: bool
    token_sha256: str


@dataclass(frozen=True, slots=True)
class Links:
    """Makes the token of each person."""

    secret: bytes

    @classmethod
    def of(cls, folder: Path, new: bool = False) -> Links:
        """Those of a dataset's folder, made when there are none yet. new: all links so far end."""
        path = folder / _SECRET
        path.parent.mkdir(exist_ok=True)
        if new:
            path.unlink(missing_ok=True)
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            secret = path.read_bytes()
            if len(secret) >= 32:
                return cls(secret)
            file = os.open(path, os.O_WRONLY | os.O_TRUNC)  # its writer was stopped
        secret = secrets.token_bytes(32)
        os.write(file, secret)
        os.close(file)
        return cls(secret)

    def token(self, person: str) -> str:
        """The secret part of a person's link: 192 bits."""
        mac = hmac.new(self.secret, f"person {person}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(mac[:24]).decode()

    @property
    def cookie(self) -> str:
        """Name of the cookie; datasets that are served on one machine do not share it."""
        return "anomreason_" + hmac.new(self.secret, b"cookie", hashlib.sha256).hexdigest()[:12]


def hashed(token: str) -> str:
    """What the database holds of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def reviewer_of(token: str, people: Sequence[Reviewer]) -> Reviewer | None:
    """Whose token it is. Takes the same time whether it is somebody's or not."""
    digest, found = hashed(token), None
    for person in people:
        if hmac.compare_digest(digest, person.token_sha256):
            found = person
    return found


class Guard:
    """Around the application: bounds what comes in, and puts the headers above on what goes out."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if scope["method"] not in ("GET", "HEAD") and Headers(scope=scope).get("X-Anomreason") != "1":
            refusal = "a request that writes needs the header X-Anomreason: 1; use the review page"
            await _refuse(403, refusal)(scope, receive, send_guarded)
            return
        body = await _body(receive)
        if body is None:
            refusal = f"the request is larger than {MOST_BYTES:,} bytes; send less text"
            await _refuse(413, refusal)(scope, receive, send_guarded)
            return
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive_again() -> Message:
            return next(messages, None) or await receive()

        await self.app(scope, receive_again, send_guarded)


def _refuse(status: int, error: str) -> JSONResponse:
    return JSONResponse({"error": error}, status)


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None when it is too large."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return body
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MOST_BYTES:
            return None
    return body
