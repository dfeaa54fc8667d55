"""What is done to every request and answer, whatever the application.

    app.add_middleware(Guard, refuse=lambda scope: None)

A body is read whole before the application sees it, and bounded; routes that take uploads bound theirs themselves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 64 * 1024
"""Of a request's body."""
BODY_SECONDS = 30
"""Seconds until a request's body is whole."""
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


class Guard:
    """Around the application: bounds what comes in, and puts the headers above on what goes out."""

    def __init__(
        self,
        app: ASGIApp,
        refuse: Callable[[Scope], str | None],
        uploads: Collection[str] = (),
    ) -> None:
        """refuse: why a request is refused with status 403, None when it is not; it has not come through a login yet.

        uploads: paths whose routes read and bound the body themselves.
        """
        self.app, self._refuse, self._uploads = app, refuse, frozenset(uploads)

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

        if (refusal := self._refuse(scope)) is not None:
            await _problem(403, refusal)(scope, receive, send_guarded)
            return
        if scope["path"] in self._uploads:
            await self.app(scope, receive, send_guarded)
            return
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _body(receive)
        except TimeoutError:
            refusal = f"the request did not come within {BODY_SECONDS} s; send it again"
            await _problem(408, refusal)(scope, receive, send_guarded)
            return
        if body is None:
            refusal = f"the request is larger than {MOST_BYTES:,} bytes; send less text"
            await _problem(413, refusal)(scope, receive, send_guarded)
            return
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive_again() -> Message:
            return next(messages, None) or await receive()

        await self.app(scope, receive_again, send_guarded)


def _problem(status: int, error: str) -> JSONResponse:
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
