"""Serves an application until Ctrl-C.

with listening("127.0.0.1", 0) as socket:
    print(address(socket))
    serve(create_app(review), socket)
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from anomreason.errors import UsageError
from anomreason.interrupt import first_ctrl_c

_GRACE = 3
"""Seconds that requests under way get at the end."""
HEAD_SECONDS = 20
"""Seconds for the head of a request, from its first byte or from the beginning of the connection."""
_THINKING = 120
"""Seconds for which a connection is kept for a person's next request."""


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that takes connections. Raises UsageError for an address that cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        made = socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(f"cannot serve on {host}:{port}: {why}; give another --port or --host") from None
    with made:
        # Inherited by each connection: an answer never waits for the browser to acknowledge its first half.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield made


def address(made: socket.socket) -> str:
    """The page's address for a browser, e.g. `http://127.0.0.1:8022`."""
    host, port = made.getsockname()[:2]
    if ip_address(host).is_unspecified:
        host = socket.getfqdn()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_loopback(made: socket.socket) -> bool:
    """Whether only this machine reaches the page."""
    return ip_address(made.getsockname()[0]).is_loopback


def serve(app: ASGIApp, made: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; what people have sent by then is kept.

    ready: called when the page can be opened.
    """
    PageServer(app, ready).run(sockets=[made])


async def serve_beside(
    app: ASGIApp, made: socket.socket, ready: Callable[[], None], stopping: Callable[[], None]
) -> None:
    """As `serve`, in the event loop at hand. stopping: called once when it is to end, before requests under way end."""
    await PageServer(app, ready, stopping).serve(sockets=[made])


class PatientProtocol(H11Protocol):
    """Closes a connection on which no whole head of a request comes in time; uvicorn would wait for ever."""

    _awaiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._awaiting:
            self._awaiting.cancel()

    def _await_head(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            if self._awaiting:
                self._awaiting.cancel()
            self._awaiting = None
        elif self._awaiting is None:
            self._awaiting = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _give_up(self) -> None:
        self._awaiting = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


class PageServer(uvicorn.Server):
    """Says when it is ready, and ends as a success when it is asked to; a second Ctrl-C ends the process at once."""

    def __init__(
        self,
        app: ASGIApp,
        ready: Callable[[], None],
        stopping: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=PatientProtocol,
                log_level="error",
                access_log=False,  # it would hold the links' tokens
                server_header=False,
                lifespan="off",
                timeout_keep_alive=_THINKING,
                timeout_graceful_shutdown=_GRACE,
            )
        )
        self._ready, self._stopping = ready, stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self.handle_exit)
        try:
            with first_ctrl_c(lambda: self.handle_exit(signal.SIGINT, None)):
                yield
        finally:
            signal.signal(signal.SIGTERM, before)
