"""Runs waiting requests in batches: one worker thread, bounded batches, halves after a failure. Try it:

>>> batcher = Batcher(lambda tickets: [t.item.upper() for t in tickets], rows=8, area=100)
>>> batcher.submit("hand", width=4).result()
'HAND'
>>> batcher.close()
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from anomreason.errors import EndpointError

Item = TypeVar("Item")
Result = TypeVar("Result")

_MORE_MEMORY = "use a smaller model or a device with more memory, or lower --max-reply-tokens"
_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Ticket(Generic[Item, Result]):
    """One request in the queue."""

    item: Item
    width: int
    """Room that its row takes, in tokens: prompt and longest reply."""
    future: Future[Result] = field(default_factory=Future)

    @property
    def dropped(self) -> bool:
        """Nobody waits for the result any more: it was cancelled, or the batcher was closed."""
        return self.future.done()


class Batcher(Generic[Item, Result]):
    """A queue and the one thread that empties it."""

    def __init__(
        self, run: Callable[[Sequence[Ticket[Item, Result]]], Sequence[Result]], *, rows: int, area: int
    ) -> None:
        """`run` gives one result a ticket, in order; it may skip tickets that are `dropped`, but not leave them out.

        rows: most tickets in a batch. area: most tokens in a batch after padding, rows x widest; a ticket that is
        larger by itself still runs, alone. A MemoryError from `run` lowers the area for good.
        """
        self._run, self._rows, self._area = run, rows, area
        self._change = threading.Condition()
        self._waiting: deque[Ticket[Item, Result]] = deque()
        self._running: list[Ticket[Item, Result]] = []
        self._expected = 0
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="anomreason-batches", daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def expected(self) -> Iterator[None]:
        """Announce a request that will be submitted inside: the worker waits for it before it starts a batch."""
        with self._change:
            self._expected += 1
        try:
            yield
        finally:
            with self._change:
                self._expected -= 1
                self._change.notify_all()

    def submit(self, item: Item, width: int) -> Future[Result]:
        """Queue one item. The future fails with EndpointError; cancelling it takes the item out."""
        ticket: Ticket[Item, Result] = Ticket(item, width)
        with self._change:
            if self._closed:
                raise EndpointError("connection", "the model has been closed; open it again to ask it")
            self._waiting.append(ticket)
            self._change.notify_all()
        return ticket.future

    def close(self) -> None:
        """Fail what waits or runs, and wait for the worker to end. May be called again."""
        with self._change:
            self._closed = True
            left = [*self._waiting, *self._running]
            self._waiting.clear()
            self._change.notify_all()
        for ticket in left:
            _fail(ticket, EndpointError("connection", "the model was closed before it had answered"))
        self._thread.join()

    def _serve(self) -> None:
        while batch := self._take():
            self._settle(batch)
            with self._change:
                self._running = []

    def _take(self) -> list[Ticket[Item, Result]]:
        """The next batch, once requests wait and none is announced; empty when closed."""
        with self._change:
            self._change.wait_for(lambda: self._closed or self._ready())
            batch: list[Ticket[Item, Result]] = []
            while self._waiting and len(batch) < self._rows and _fits(batch, self._waiting[0], self._area):
                batch.append(self._waiting.popleft())
            self._running = batch
            return batch

    def _ready(self) -> bool:
        return bool(self._waiting) and (self._expected == 0 or len(self._waiting) >= self._rows)

    def _settle(self, batch: Sequence[Ticket[Item, Result]]) -> None:
        live = [ticket for ticket in batch if not ticket.dropped]
        if not live:
            return
        _log.debug("a batch of %d", len(live))
        try:
            answered = list(zip(live, self._run(live), strict=True))
        except Exception as error:
            # The failure belongs to these requests alone; later ones may still succeed.
            failure = f"{type(error).__name__}: {error}"
            _log.warning("a batch of %d failed: %s", len(live), failure, exc_info=len(live) == 1)
            short = isinstance(error, MemoryError)
            if short:
                self._area = max(1, len(live) * max(ticket.width for ticket in live) // 2)
        else:
            for ticket, result in answered:
                with contextlib.suppress(InvalidStateError):
                    ticket.future.set_result(result)
            return
        # Outside of the handler, so that the failed attempt's frames, and the memory they hold, are gone.
        if len(live) == 1:
            remedy = _MORE_MEMORY if short else "run the same command again; if it goes on, leave this image out"
            wrong = f"the local model failed on this request: {failure}"
            _fail(live[0], EndpointError("server", wrong, remedy=remedy))
            return
        half = len(live) // 2
        self._settle(live[:half])
        self._settle(live[half:])


def _fits(batch: Sequence[Ticket[Item, Result]], candidate: Ticket[Item, Result], area: int) -> bool:
    widest = max([candidate.width, *(ticket.width for ticket in batch)])
    return not batch or widest * (len(batch) + 1) <= area


def _fail(ticket: Ticket[Item, Result], error: EndpointError) -> None:
    with contextlib.suppress(InvalidStateError):
        ticket.future.set_exception(error)
