"""Drives the workers of a run: gives them images, takes their detections into the run folder, replaces dead ones.

async with open_spread(setup, run, start_workers(setup, 4)) as session:
    await session.detect(images, print)
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

from anomreason.anomaly import Detection, Usage
from anomreason.detection import Losses, earlier_usage
from anomreason.detector import DetectorSetup
from anomreason.errors import AnomreasonError, UsageError
from anomreason.files import write_atomically
from anomreason.runs import RunFolder, detection_from
from anomreason.sources.inputs import Image
from anomreason.spread.budget import BudgetKeeper
from anomreason.spread.cluster import CPUS, MOST_DEATHS, START_SECONDS
from anomreason.spread.worker import Assignment, Worker, WorkerState
from anomreason.vlm.cache import ReplyStore
from anomreason.vlm.ledger import CALLS, Ledger
from anomreason.vlm.parts import REPLIES, part_of, take_in_parts

ERRORS = "worker-error.txt"
"""In the run folder: the traceback of an exception in a worker."""
_POLL = 2.0
"""Seconds between two looks at how far the workers are, for the progress alone."""
_CLOSE_SECONDS = 10.0


@dataclass
class _Slot:
    """The place of one worker, which another process takes when it dies."""

    number: int
    share: int
    """Calls that it may have in flight, which is also how many images it works on."""
    spare: Any = None
    """An actor that has no assignment yet."""
    actor: Any = None
    incarnation: int = 0
    deaths: int = 0
    """Since it last finished an image."""
    state: WorkerState | None = None
    given_up: str | None = None
    """Why it gets no more images."""
    starting: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def name(self) -> str:
        return f"{self.number}.{self.incarnation}"


class Spread:
    """The workers of one run, used as a `detection.Session` is."""

    def __init__(self, setup: DetectorSetup, run: RunFolder, actors: Sequence[Any], before: Ledger) -> None:
        """actors: what `start_workers` gave; before: the calls that stand in the run folder."""
        self.setup, self._run, self._before = setup, run, before
        shares = _shares(setup, len(actors))
        self._slots = [_Slot(number, *of) for number, of in enumerate(zip(shares, actors, strict=True))]
        self._queue: deque[Image] = deque()
        self._keeper: Any = None
        self._earlier: dict[str, Usage] = {}
        self._done: Callable[[Detection], None] = lambda _: None
        self._losses = Losses()
        self.dead: str | None = None
        """Why the run stops early."""
        self.stopping = self.budget_reached = False
        self.replaced = 0
        """Workers that died and were replaced."""

    @property
    def spent(self) -> Usage:
        """What all calls of the run have used, by what is known here."""
        return sum((slot.state.total for slot in self._slots if slot.state), self._before.total)

    @property
    def estimated(self) -> int:
        """Calls of the run whose tokens were estimated."""
        return self._before.estimated + sum(slot.state.estimated for slot in self._slots if slot.state)

    @property
    def others(self) -> Collection[str]:
        """Names under which another model than the one asked for has answered."""
        return {name for slot in self._slots if slot.state for name in slot.state.others}

    @property
    def waiting(self) -> str:
        """What the calls wait for, in words; empty when they do not."""
        if all(slot.state is None for slot in self._slots):
            return f"{len(self._slots)} workers start"
        replaced = f"{self.replaced} workers died and were replaced" if self.replaced else ""
        return next((slot.state.waiting for slot in self._slots if slot.state and slot.state.waiting), replaced)

    def stop(self) -> None:
        """Send no new call; those in flight end and are kept."""
        self.stopping = True
        self._tell_workers()

    def _tell_workers(self) -> None:
        for slot in self._slots:
            if slot.actor is not None:
                slot.actor.stop.remote()

    @property
    def _over(self) -> bool:
        return self.stopping or self.budget_reached or self.dead is not None

    async def detect(
        self,
        images: Sequence[Image],
        done: Callable[[Detection], None],
        put_off: Callable[[str], None] = lambda _: None,
    ) -> None:
        """As `detection.detect_images`, over all workers; batches are not spread, so that no image is put off.

        Raises UsageError when a worker cannot open the model or does not see the run folder, StorageError when one
        cannot write.
        """
        import ray

        self._queue.extend(replace(image, path=image.path.absolute()) for image in images)
        self._earlier = earlier_usage(self._run, images)
        self._done = done
        options = self.setup.options
        if options.max_cost is not None or options.max_tokens is not None:
            waiting = 4 * options.in_flight + 16  # each call and each image may wait there for its turn
            keeper = ray.remote(BudgetKeeper).options(num_cpus=0, max_concurrency=waiting)
            self._keeper = keeper.remote(self.setup.price, self._before.total, options, len(images))
        watching = asyncio.create_task(self._watch())
        try:
            while self._queue and not self._over:
                slots = [slot for slot in self._slots if slot.given_up is None]
                if not slots:
                    self.dead = f"no worker is left. {self._slots[0].given_up}"
                    return
                await _all(self._serve(slot) for slot in slots for _ in range(min(slot.share, len(images))))
        finally:
            watching.cancel()
            await self._close()

    async def _serve(self, slot: _Slot) -> None:
        """Give a worker one image after the other; as many of these run as it may work on."""
        while self._queue and not self._over and slot.given_up is None:
            image = self._queue.popleft()
            line = await self._detection(slot, image)
            if line is None:
                self._queue.appendleft(image)  # undecided
            else:
                self._take(line, image)

    async def _detection(self, slot: _Slot, image: Image) -> str | None:
        """The line of the image's detection; None when it stays undecided."""
        import ray

        while not self._over:
            actor = await self._ready(slot)
            if actor is None or self._over:
                break
            try:
                line, state = await actor.detect.remote(image, self._earlier.get(image.name, Usage()))
            except ray.exceptions.RayActorError as error:
                await self._bury(slot, actor, str(error), image)
                continue
            except ray.exceptions.RayTaskError as error:
                raise self._raised(slot, error) from None
            if slot.actor is actor:
                self._see(slot, state)
            if line is not None:
                slot.deaths = 0
            if line is not None or self._over:
                return line  # type: ignore[no-any-return]
        return None

    def _take(self, line: str, image: Image) -> None:
        detection = detection_from(json.loads(line), f"the result of a worker for {image.name!r}")
        self._run.append(detection)
        self._done(detection)
        if lost := self._losses.after(detection):
            self._end(lost)

    def _see(self, slot: _Slot, state: WorkerState) -> None:
        slot.state = state
        if state.fault:
            raise state.fault.error()
        if state.dead:
            self._end(state.dead)
        self.budget_reached = self.budget_reached or state.budget_reached

    def _end(self, why: str) -> None:
        self.dead = self.dead or why
        self._tell_workers()

    async def _ready(self, slot: _Slot) -> Any:
        """The slot's worker, started if there is none; None when it is given up."""
        import ray

        async with slot.starting:
            while slot.actor is None and slot.given_up is None and not self._over:
                slot.incarnation += 1
                part = part_of(self._run.path.absolute(), slot.number)
                part.mkdir(parents=True, exist_ok=True)
                setup = replace(self.setup, options=replace(self.setup.options, in_flight=slot.share))
                assignment = Assignment(setup, self._run.path.absolute(), part, slot.name, self._keeper)
                if self._keeper is not None:
                    await self._keeper.enter.remote(slot.name)
                slot.actor = actor = slot.spare or _new_worker(slot.share)
                slot.spare = None
                try:
                    state = await asyncio.wait_for(actor.start.remote(assignment), START_SECONDS)
                except TimeoutError:
                    ray.kill(actor)
                    await self._bury(slot, actor, "")
                    slot.given_up = f"Worker {slot.number} did not start within {START_SECONDS:g} s"
                except ray.exceptions.RayActorError as error:
                    await self._bury(slot, actor, str(error))
                except ray.exceptions.RayTaskError as error:
                    raise self._raised(slot, error) from None
                else:
                    if state.version != version("anomreason"):
                        raise UsageError(
                            f"the machine {state.host} has anomreason {state.version}, and this one "
                            f"{version('anomreason')}; install the same version on all machines"
                        )
                    self._see(slot, state)
            return slot.actor

    def _raised(self, slot: _Slot, error: Exception) -> AnomreasonError:
        """An exception in a worker as one line; the whole goes to a file of the run folder."""
        text, file = _plain(str(error)).strip(), self._run.path / ERRORS
        write_atomically(file, text + "\n")
        return AnomreasonError(f"worker {slot.number}: {text.splitlines()[-1]} (the traceback is in {file})")

    async def _bury(self, slot: _Slot, actor: Any, why: str, image: Image | None = None) -> None:
        """A worker has died; the next one takes its place, unless too many have."""
        if slot.actor is not actor:
            return  # another of its images has told so
        slot.actor = None
        slot.deaths += 1
        self.replaced += 1
        if slot.deaths >= MOST_DEATHS:
            at = f" while it worked on {image.name!r} and others" if image else ""
            slot.given_up = (
                f"Worker {slot.number} has died {slot.deaths} times in a row{at}: {' '.join(_plain(why).split())[:300]}"
            )
        if self._keeper is not None:
            await self._keeper.leave.remote(slot.name)

    async def _watch(self) -> None:
        """Look now and then how far the workers are; an image may take long."""
        import ray

        while True:
            await asyncio.sleep(_POLL)
            for slot in self._slots:
                if (actor := slot.actor) is not None and slot.state is not None:
                    with suppress(ray.exceptions.RayError):
                        state = await actor.state.remote()
                        if slot.actor is actor:
                            slot.state = state

    async def _close(self) -> None:
        """End all workers; the ones that do not answer are killed."""
        await asyncio.gather(*(self._close_worker(slot) for slot in self._slots if slot.actor is not None))

    async def _close_worker(self, slot: _Slot) -> None:
        import ray

        with suppress(ray.exceptions.RayError, TimeoutError):
            slot.state = await asyncio.wait_for(slot.actor.close.remote(), _CLOSE_SECONDS)
        ray.kill(slot.actor)
        slot.actor = None


def start_workers(setup: DetectorSetup, workers: int) -> list[Any]:
    """Actors without an assignment, when their processes have started; one that has not is left to `Spread`."""
    import ray

    actors = [_new_worker(share) for share in _shares(setup, workers)]
    ray.wait([actor.__ray_ready__.remote() for actor in actors], num_returns=workers, timeout=START_SECONDS)
    return actors


def _shares(setup: DetectorSetup, workers: int) -> list[int]:
    """Calls that each worker may have in flight."""
    share, more = divmod(setup.options.in_flight, workers)
    return [share + (number < more) for number in range(workers)]


def _new_worker(share: int) -> Any:
    import ray

    made = ray.remote(Worker).options(
        num_cpus=CPUS, max_restarts=0, max_concurrency=share + 4, scheduling_strategy="SPREAD"
    )
    return made.remote()


@asynccontextmanager
async def open_spread(setup: DetectorSetup, run: RunFolder, actors: Sequence[Any]) -> AsyncIterator[Spread]:
    """The workers of a run, as `start_workers` gave them; at the end the run takes in what they have recorded.

    Raises UsageError for max_cost without a known price.
    """
    with closing(Ledger(run.path / CALLS, setup.price)) as ledger:
        if (run.path / REPLIES).is_file():
            with closing(ReplyStore(run.path / REPLIES)) as store:
                ledger.adopt(store.unanswered())
                store.forget_unanswered()
                store.settle()
    try:
        yield Spread(setup, run, actors, ledger)
    finally:
        take_in_parts(run)


def _plain(text: str) -> str:
    """Without the colours that Ray puts into messages."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all; the first error ends the others."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
