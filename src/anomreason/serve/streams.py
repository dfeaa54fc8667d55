"""Streams of server-sent events: how many are open, all together and for each client.

streams = Streams()
return streams.stream(client, lines)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable

from fastapi import HTTPException
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from anomreason.serve.clients import Client

MOST = 200
"""Streams that are open at a time."""
MOST_EACH = 20
"""Of these, of one client: each page holds one."""
_LATER = {"Retry-After": "5"}


class EventStream(StreamingResponse):
    """A stream with its place among those that are open."""

    media_type = "text/event-stream"

    def __init__(self, lines: AsyncIterator[str], ended: Callable[[], None]) -> None:
        """ended: called when it has ended, however it does."""
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # else nginx holds events back
        super().__init__(lines, headers=headers)
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._ended()


class Streams:
    """All streams of one service."""

    def __init__(self) -> None:
        self._open = Counter[str]()

    def stream(self, client: Client, lines: AsyncIterator[str]) -> EventStream:
        """A stream of these lines. Raises HTTPException when too many are open."""
        if self._open[client.name] >= MOST_EACH:
            much = f"you have {MOST_EACH} event streams open, which is all that one client may"
            raise HTTPException(429, f"{much}; close one, or ask for the job now and then", _LATER)
        if self._open.total() >= MOST:
            raise HTTPException(503, "too many pages watch jobs; ask for the job now and then", _LATER)
        self._open[client.name] += 1

        def ended() -> None:
            self._open[client.name] -= 1

        return EventStream(lines, ended)
