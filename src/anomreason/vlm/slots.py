"""How many calls are in flight: as many as allowed, but no more than the server answers in time.

slots = CallSlots(32, timeout=120)
await slots.enter()
sent = slots.sent()
...                    # the call
slots.answered(sent)   # or slots.timed_out(sent)
slots.leave()
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

AT_FIRST = 4
"""Calls in flight until the first answers show how many the server can take."""


@dataclass(frozen=True, slots=True)
class SentCall:
    """A call on its way."""

    at: float
    """When it was sent, by the clock of the slots."""
    in_flight: int
    """Calls on their way then, this one included."""
    answered: int
    """Calls that had been answered by then."""


class CallSlots:
    """Places for calls in flight, given in the order in which they are asked for.

    A call keeps its place until its connection is closed, so that calls that timed out do not pile up at the server.
    """

    def __init__(self, most: int, timeout: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        """timeout: seconds after which a call is given up; None when the server is this process: all places at once."""
        self.limit = most if timeout is None else min(most, AT_FIRST)
        self._most, self._timeout, self._clock = most, timeout, clock
        self._taken = self._on_their_way = self._answered = 0
        self._quickest = float("inf")
        self._lowered = float("-inf")
        self._queue: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> None:
        """Wait for a place."""
        if self._taken < self.limit and not self._queue:
            self._taken += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._queue.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Give the place back."""
        self._taken -= 1
        self._admit()

    def _admit(self) -> None:
        while self._queue and self._taken < self.limit:
            place = self._queue.popleft()
            if not place.done():
                self._taken += 1
                place.set_result(None)

    def sent(self) -> SentCall:
        """A call is sent now. Ends with one of `answered`, `timed_out` or `failed`."""
        self._on_their_way += 1
        return SentCall(self._clock(), self._on_their_way, self._answered)

    def failed(self) -> None:
        """The call ended with an error, which says nothing of how many calls the server can take."""
        self._on_their_way -= 1

    def answered(self, sent: SentCall) -> None:
        """The call was answered. There may be as many as are answered in half the time one by one.

        Also one more when this one took no longer than a call that went alone: then the server answers them together.
        """
        self._on_their_way -= 1
        self._answered += 1
        if self._timeout is None:
            return
        seconds = max(self._clock() - sent.at, 1e-6)
        one_by_one = int(self._timeout / 2 * sent.in_flight / seconds)
        together = self.limit + 1 if sent.in_flight > 1 and seconds <= 1.2 * self._quickest else 0
        self._quickest = min(self._quickest, seconds)
        self.limit = min(self._most, max(self.limit, one_by_one, together))
        self._admit()

    def timed_out(self, sent: SentCall) -> None:
        """The call was given up: half as many as were answered in that time; of nothing but timeouts half as many."""
        self._on_their_way -= 1
        answered = self._answered - sent.answered
        if sent.at >= self._lowered:  # those sent before have had their say
            self.limit = max(1, min(self.limit, answered // 2 if answered else self.limit // 2))
            self._lowered = self._clock()

    def one_at_a_time(self) -> None:
        """Until the next answer: the server is not ready yet."""
        self.limit = 1
