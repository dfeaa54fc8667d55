"""Maps a function over batches in worker processes, on this machine or, with Ray, on many.

with local_workers(8) as workers:
    for items, results, _ in workers.map(measure, batches, lost=lambda item, why: None):
        ...

For work that takes CPU and needs no run folder: each worker has one batch at a time, so that what is in flight is
bounded and whose fault a death is stays known. Nothing is started before there is a batch.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from typing import Any, Generic, Protocol, Self, TypeVar

from anomreason.errors import AnomreasonError, StorageError, UsageError, require
from anomreason.spread.cluster import MOST_DEATHS, START_SECONDS, SpreadOptions, cluster

T = TypeVar("T")
R = TypeVar("R")
_Done = tuple[Sequence[T], Sequence[R], str]
"""Items, their results and the machine."""
HOPELESS = 20
"""After so many items were lost, and no batch done in between, the work ends."""
_END_SECONDS = 10.0
"""So long a process that has closed its pipe gets to end."""
_POLL = 5.0
"""Seconds between two looks at workers that do not start."""


@dataclass(frozen=True, slots=True)
class WorkerPlace:
    """Where a worker runs, and with what."""

    host: str
    version: str
    """Of anomreason."""


class WorkerDied(Exception):
    """A worker's process has ended; says how."""


class BatchWorker:
    """What runs in a worker's process."""

    def __init__(self) -> None:
        self._function: Callable[[Any], Any] | None = None

    def use(self, function: bytes) -> WorkerPlace:
        """Take another function, pickled."""
        with _portable_errors():
            self._function = pickle.loads(function)
        return WorkerPlace(socket.gethostname(), version("anomreason"))

    def work(self, items: Sequence[Any]) -> Any:
        """The results of a batch."""
        assert self._function is not None  # `use` comes first
        with _portable_errors():
            return self._function(items)


@contextmanager
def _portable_errors() -> Iterator[None]:
    """Errors as they can be pickled, ours with the machine's name, others with their traceback as text."""
    try:
        yield
    except AnomreasonError as error:
        kind = UsageError if isinstance(error, UsageError) else StorageError
        raise kind(f"{error} (on the machine {socket.gethostname()})") from None
    except Exception:
        raise RuntimeError(f"in a worker on {socket.gethostname()}:\n{traceback.format_exc()}") from None


class _Worker(Protocol):
    """One worker's process, as this process sees it. It does what is submitted in that order."""

    def submit(self, method: str, argument: Any) -> Future[Any]: ...

    def result(self, future: Future[Any]) -> Any:
        """Raises WorkerDied, or what the method has raised."""

    def end(self) -> None: ...


class _Process:
    """A worker on this machine."""

    def __init__(self) -> None:
        self._pipe, theirs = get_context("spawn").Pipe()
        self._process = get_context("spawn").Process(target=_serve, args=(theirs,))
        resource_tracker.ensure_running()  # its start lifts the block that follows
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # it is born so: Ctrl-C is ours to handle
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()
        self._asking = ThreadPoolExecutor(1)

    def submit(self, method: str, argument: Any) -> Future[Any]:
        return self._asking.submit(self._ask, method, argument)

    def _ask(self, method: str, argument: Any) -> Any:
        try:
            self._pipe.send((method, argument))
            good, value = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(_END_SECONDS)
            self._process.kill()
            self._process.join()
            code = self._process.exitcode or 0
            raise WorkerDied(signal.Signals(-code).name if code < 0 else f"exit status {code}") from None
        if not good:
            raise value
        return value

    def result(self, future: Future[Any]) -> Any:
        return future.result()

    def end(self) -> None:
        self._process.kill()
        self._asking.shutdown()
        self._process.join()
        self._pipe.close()


def _serve(pipe: Connection) -> None:
    """A worker's process: does what it is asked and ends with the process that asks."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a worker is for one core, as Ray has it too
    worker = BatchWorker()
    with suppress(EOFError, OSError):
        while True:
            method, argument = pipe.recv()
            try:
                answer = True, getattr(worker, method)(argument)
            except (UsageError, StorageError, RuntimeError) as error:
                answer = False, error
            pipe.send(answer)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class _Actor:
    """A worker of a Ray cluster."""

    def __init__(self) -> None:
        import ray

        made = ray.remote(BatchWorker).options(num_cpus=1, max_restarts=0, scheduling_strategy="SPREAD")
        self._actor = made.remote()

    def submit(self, method: str, argument: Any) -> Future[Any]:
        future: Future[Any] = getattr(self._actor, method).remote(argument).future()
        return future

    def result(self, future: Future[Any]) -> Any:
        import ray

        try:
            return future.result()
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise WorkerDied(f"{type(error).__name__} in Ray") from None

    def end(self) -> None:
        import ray

        ray.kill(self._actor)


class _WorkerSlot:
    """The place of one worker, which another process takes when it ends."""

    def __init__(self, make: Callable[[], _Worker]) -> None:
        self._make = make
        self._worker: _Worker | None = None
        self._function: bytes | None = None
        self._opened: Future[Any] = Future()
        self._began = 0.0
        self.deaths = 0
        """While it started, in a row."""
        self.host = ""

    @property
    def starting(self) -> bool:
        """Whether it has not taken its function yet."""
        return not self._opened.done()

    @property
    def late(self) -> bool:
        return self.starting and time.monotonic() - self._began > START_SECONDS

    def give(self, function: bytes, items: Sequence[Any]) -> Future[Any]:
        """The results of a batch, to be taken with `take`."""
        if self._worker is None:
            self._worker, self._function = self._make(), None
        if self._function is not function:
            self._opened, self._function = self._worker.submit("use", function), function
            self._began = time.monotonic()
        return self._worker.submit("work", items)

    def take(self, future: Future[Any]) -> Any:
        """Raises WorkerDied, with `deaths` above 0 when it was at its start; or what the function has raised."""
        assert self._worker is not None
        self.deaths += 1
        place = self._worker.result(self._opened)
        if place.version != version("anomreason"):
            raise UsageError(
                f"the machine {place.host} has anomreason {place.version}, and this one {version('anomreason')}; "
                "install the same version on all machines"
            )
        self.deaths, self.host = 0, place.host
        return self._worker.result(future)

    def end(self) -> None:
        if self._worker is not None:
            self._worker.end()
            self._worker = None


@dataclass(frozen=True, slots=True)
class _Batch(Generic[T]):
    items: Sequence[T]
    deaths: int = 0
    """Workers that ended while they had these items; after the first each item is a batch of its own."""


class Workers:
    """Worker processes that stay from one `map` to the next. Use as a context manager, which ends them."""

    def __init__(self, open: Callable[[ExitStack], tuple[int, Callable[[], _Worker]]]) -> None:
        """open: gives the number of workers and what starts one; what goes onto the stack is closed after they ended.

        It is called when there is a first batch.
        """
        self._open, self._stack = open, ExitStack()
        self._opening = False
        self._slots: list[_WorkerSlot] | None = None
        self.replaced = 0
        """Workers that ended and were replaced."""

    @property
    def status(self) -> str:
        """What is going on, in words; empty when they just work."""
        if self._opening or (self._slots and all(slot.starting for slot in self._slots)):
            return "workers start"
        return f"{self.replaced} workers died and were replaced" if self.replaced else ""

    def map(
        self,
        function: Callable[[Sequence[T]], Sequence[R]],
        batches: Iterable[Sequence[T]],
        lost: Callable[[T, str], R],
    ) -> Iterator[_Done[T, R]]:
        """(items, results, machine) of each batch, in any order.

        function: pickled; gives a result for each item. lost: the result of an item that ended MOST_DEATHS workers; the
        text completes "ITEM ...". Raises UsageError and StorageError as the function does, and UsageError when no
        worker is left or when workers end at every item.
        """
        return _Mapping(self, pickle.dumps(function), batches, lost).run()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def slots(self) -> list[_WorkerSlot]:
        """Those that are not given up."""
        if self._slots is None:
            self._opening = True
            count, make = self._open(self._stack)
            self._slots = [_WorkerSlot(make) for _ in range(count)]
            for slot in self._slots:
                self._stack.callback(slot.end)
            self._opening = False
        return self._slots

    def give_up(self, slot: _WorkerSlot, why: str) -> None:
        """Raises UsageError when it was the last one."""
        slots = self.slots()
        slots.remove(slot)
        if not slots:
            raise UsageError(
                f"no worker can be started ({why}); nothing recorded so far is lost: mend that and run the same "
                "command again, with fewer workers or none"
            )


class _Mapping(Generic[T, R]):
    """One `map` at work."""

    def __init__(
        self, workers: Workers, function: bytes, batches: Iterable[Sequence[T]], lost: Callable[[T, str], R]
    ) -> None:
        self._workers, self._function, self._lost = workers, function, lost
        self._source = (_Batch(items) for items in batches)
        self._again: deque[_Batch[T]] = deque()
        self._flying: dict[Future[Any], tuple[_WorkerSlot, _Batch[T]]] = {}
        self._lost_in_a_row = 0

    def run(self) -> Iterator[_Done[T, R]]:
        ready: list[_Done[T, R]] = []
        while self._give_out():
            yield from ready  # while the workers go on
            finished, _ = wait(self._flying, _POLL, FIRST_COMPLETED)
            ready = [done for future in finished if (done := self._taken(future)) is not None]
            for slot, batch in [pair for pair in self._flying.values() if pair[0].late]:
                self._drop(slot, batch)
        yield from ready

    def _give_out(self) -> bool:
        """Give each idle worker a batch; False when all is done."""
        busy = {id(slot) for slot, _ in self._flying.values()}
        while batch := self._again.popleft() if self._again else next(self._source, None):
            slot = next((slot for slot in self._workers.slots() if id(slot) not in busy), None)
            if slot is None:
                self._again.appendleft(batch)
                break
            busy.add(id(slot))
            self._flying[slot.give(self._function, batch.items)] = slot, batch
        return bool(self._flying)

    def _taken(self, future: Future[Any]) -> _Done[T, R] | None:
        """What a batch has come to; None when it is to be done again."""
        slot, batch = self._flying.pop(future)
        try:
            results = slot.take(future)
        except WorkerDied as death:
            return self._after_death(slot, batch, str(death))
        self._lost_in_a_row = 0
        return batch.items, results, slot.host

    def _after_death(self, slot: _WorkerSlot, batch: _Batch[T], why: str) -> _Done[T, R] | None:
        slot.end()
        self._workers.replaced += 1
        if slot.deaths:
            self._again.append(batch)
            if slot.deaths >= MOST_DEATHS:
                self._workers.give_up(slot, f"{slot.deaths} in a row ended at their start, the last one by {why}")
            return None
        deaths = batch.deaths + 1
        if deaths < MOST_DEATHS:
            self._again.extend(_Batch([item], deaths) for item in batch.items)
            return None
        self._lost_in_a_row += 1
        ended = f"ended its worker process {deaths} times, the last time by {why}"
        if self._lost_in_a_row >= HOPELESS:
            raise UsageError(
                f"workers died at {HOPELESS} consecutive items, each of which {ended}; nothing recorded so far is "
                "lost: see that each worker has enough memory, and run the same command again"
            )
        return batch.items, [self._lost(item, ended) for item in batch.items], slot.host

    def _drop(self, slot: _WorkerSlot, batch: _Batch[T]) -> None:
        """Do without a worker that does not start."""
        self._flying = {future: pair for future, pair in self._flying.items() if pair[0] is not slot}
        self._again.append(batch)
        slot.end()
        self._workers.give_up(slot, f"the last one did not start within {START_SECONDS:g} s")


def local_workers(count: int) -> Workers:
    """So many processes on this machine."""
    if count < 1:
        raise UsageError(f"workers must be at least 1, not {count}")
    return Workers(lambda _: (count, _Process))


def ray_workers(options: SpreadOptions) -> Workers:
    """Processes on a Ray cluster, which is started, or connected to, when there is work.

    Raises MissingExtra without Ray; `map` raises UsageError as `cluster` does.
    """
    require("--engine ray", "ray", "ray")
    return Workers(lambda stack: (stack.enter_context(cluster(options, None)), _Actor))
