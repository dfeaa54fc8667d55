"""The simulator's server in a thread of this process, where something can happen at a request.

with simulating(truth, latency=0.1) as server:
    process = Command(["detect", images, "--model", "m", "--base-url", server.url])
    server.at(7, process.kill)    # when the seventh request arrives, before it is answered
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

from anomreason.vlm.protocol import Reply, Request
from anomreason.vlm.simulator.model import Simulator, SimulatorRates
from anomreason.vlm.simulator.server import make_app


class Moments(Simulator):
    """A simulator that acts when so many requests have come."""

    url = ""
    requests = 0
    _moment: tuple[int, Callable[[], object]] | None = None
    _lock = threading.Lock()

    def at(self, count: int, act: Callable[[], object]) -> None:
        """Act once, when the request of this number comes; now, if it has come already."""
        with self._lock:
            self._moment = count, act
            self._act()

    def _act(self) -> None:
        if self._moment and self.requests >= self._moment[0]:
            act, self._moment = self._moment[1], None
            act()

    async def ask(self, request: Request) -> Reply:
        with self._lock:
            self.requests += 1
            self._act()
        return await super().ask(request)


@contextmanager
def simulating(truth: Path, **rates: float) -> Iterator[Moments]:
    """rates: as `SimulatorRates` has them."""
    simulator = Moments.from_file(truth, rates=SimulatorRates(**rates))
    assert isinstance(simulator, Moments)
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(make_app(simulator), handler_cancellation=True, shutdown_timeout=1.0)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> str:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
        return "http://{}:{}".format(*runner.addresses[0])

    try:
        simulator.url = asyncio.run_coroutine_threadsafe(start(), loop).result()
        yield simulator
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
