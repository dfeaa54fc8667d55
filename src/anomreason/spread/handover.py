"""Detects in this process first, and hands the rest of a run over to worker processes as soon as they have started.

    async with open_engine(setup, run, SpreadOptions(workers=4)) as session:
        await session.detect(images, print)

To start Ray and its workers takes seconds, and they gain nothing in a run that is over by then. To go on with workers
is what the same command with `--engine ray` does with a run that another one began.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any

from anomreason.anomaly import Detection, Usage
from anomreason.detection import Session, detect_images, open_session
from anomreason.detector import DetectorSetup
from anomreason.errors import UsageError, require
from anomreason.runs import RunFolder
from anomreason.sources.inputs import Image
from anomreason.spread.cluster import SpreadOptions, cluster, initialized
from anomreason.spread.driving import Spread, open_spread, start_workers

PAYS = 30.0
"""Ray is started when this process needs more seconds for the images that are left, at its pace so far.

Starting and ending it, and the work that this holds up, took 7 to 9 seconds on two cores (docs/benchmarks.md)."""


class RayThread:
    """Ray and its workers, started and ended in one thread: Ray's processes end with the thread that started them."""

    def __init__(self, options: SpreadOptions, setup: DetectorSetup) -> None:
        self._options, self._setup = options, setup
        self._thread, self._stack = ThreadPoolExecutor(1), ExitStack()

    def start(self) -> Future[list[Any]]:
        """The workers, as `start_workers` gives them; raises as `cluster` does."""
        return self._thread.submit(self._start)

    def _start(self) -> list[Any]:
        return start_workers(self._setup, self._stack.enter_context(cluster(self._options, self._setup)))

    async def close(self) -> None:
        """End what was started; waits for what is starting."""
        await asyncio.wrap_future(self._thread.submit(self._stack.close))
        self._thread.shutdown()


class Handover:
    """One run, in this process and then over workers, used as a `detection.Session` is."""

    def __init__(self, run: RunFolder, ray: RayThread, session: Session, stack: AsyncExitStack, pays: float) -> None:
        """session: open in this process; stack: closes it; pays: see PAYS."""
        self._run, self._ray, self._stack, self._pays = run, ray, stack, pays
        self._stage: Session | Spread = session
        self._starting: Future[list[Any]] | None = None
        self._others: set[str] = set()
        self.stopping = False

    @property
    def spent(self) -> Usage:
        """What all calls of the run have used."""
        return self._stage.spent

    @property
    def estimated(self) -> int:
        """Calls of the run whose tokens were estimated."""
        return self._stage.estimated

    @property
    def others(self) -> Collection[str]:
        """Names under which another model than the one asked for has answered."""
        return self._others.union(self._stage.others)

    @property
    def waiting(self) -> str:
        """What the calls wait for or do without, in words; empty when they do not."""
        starts = self._starting is not None and not self._starting.done()
        return self._stage.waiting or ("workers start" if starts else "no workers" if self.unaided else "")

    @property
    def unaided(self) -> str:
        """Why no workers could be started; empty when they could, and when nobody tried."""
        error = self._starting.exception() if self._starting and self._starting.done() else None
        return (str(error) or repr(error)) if error else ""

    @property
    def alone(self) -> bool:
        """Whether nobody tried to start workers, as the run was too short for them."""
        return self._starting is None

    @property
    def dead(self) -> str | None:
        """Why the run stops early."""
        return self._stage.dead

    @property
    def budget_reached(self) -> bool:
        return self._stage.budget_reached

    def stop(self) -> None:
        """Send no new call; those in flight end and are kept."""
        self.stopping = True
        self._stage.stop()

    async def detect(
        self,
        images: Sequence[Image],
        done: Callable[[Detection], None],
        put_off: Callable[[str], None] = lambda _: None,
    ) -> None:
        """As `detection.detect_images`; raises as `Spread.detect` does. Goes on here when Ray does not start."""
        assert isinstance(self._stage, Session)  # it was opened for one call
        setup, wave = self._stage.setup, self._stage.setup.options.in_flight
        warm, begun, ended = 0.0, 0, set[str]()

        def enough() -> bool:
            nonlocal begun
            if self._starting is None and len(ended) >= 2 * wave:
                seconds = (time.monotonic() - warm) / (len(ended) - wave) * (len(images) - begun)
                self._starting = self._ray.start() if seconds > self._pays else None
            begun += 1
            return self._starting is not None and self._starting.done() and not self.unaided

        def one_more(detection: Detection) -> None:
            nonlocal warm
            ended.add(detection.image)
            warm = time.monotonic() if len(ended) == wave else warm  # the first images take longer
            done(detection)

        await detect_images(images, self._stage, one_more, put_off, enough)
        left = [image for image in images if image.name not in ended]
        if self._starting is None or self.unaided or not left or self.stopping or self.budget_reached or self.dead:
            return
        actors = await asyncio.wrap_future(self._starting)
        self._others.update(self._stage.others)
        await self._stack.aclose()
        self._stage = await self._stack.enter_async_context(open_spread(setup, self._run, actors))
        if not self.stopping:
            await self._stage.detect(left, done)


def open_engine(
    setup: DetectorSetup, run: RunFolder | None, spread: SpreadOptions | None
) -> AbstractAsyncContextManager[Session | Handover | Spread]:
    """What detects in the images of a run: in this process, or with workers. Raises as `open_session` does, or as
    `_open_workers`, and UsageError for workers without a run folder.
    """
    if spread is None:
        return open_session(setup, run)
    if run is None:
        raise UsageError("engine='ray' records in a run folder, which all workers see: give run='runs/NAME'")
    return _open_workers(setup, run, spread)


@asynccontextmanager
async def _open_workers(
    setup: DetectorSetup, run: RunFolder, options: SpreadOptions
) -> AsyncIterator[Handover | Spread]:
    """On a cluster that runs already the workers do all the work: they may reach what this process does not.

    Raises UsageError for options that cannot be used, a cluster that cannot be reached or is too small, and max_cost
    without a known price; MissingExtra without Ray.
    """
    options.check(setup)
    require("--engine ray", "ray", "ray")
    ray = RayThread(options, setup)
    try:
        async with AsyncExitStack() as stack:
            if options.ray_address is None and not initialized():
                session = await stack.enter_async_context(open_session(setup, run))
                yield Handover(run, ray, session, stack, PAYS)
            else:
                actors = await asyncio.wrap_future(ray.start())
                yield await stack.enter_async_context(open_spread(setup, run, actors))
    finally:
        await ray.close()
