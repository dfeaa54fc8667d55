"""Facts about calls in flight: a server gets as many as it answers in time, by a clock of the test's own."""

import asyncio
import heapq
from collections import Counter

import pytest

from anomreason.vlm.slots import AT_FIRST, CallSlots, SentCall


class SimulatedServer:
    """Answers `width` calls at a time, `seconds` each, in the order in which they come. Time is what the test says."""

    def __init__(self, seconds: float, width: int, timeout: float, most: int = 32, forgets: bool = True) -> None:
        self.now, self.seconds, self.width, self.timeout, self.forgets = 0.0, seconds, width, timeout, forgets
        self.slots = CallSlots(most, timeout, clock=lambda: self.now)
        self.outcomes: Counter[str] = Counter()
        self.most = 0

    def run(self, calls: int) -> None:
        """Send calls until this many are answered; a call that timed out is sent again."""
        waiting, free = calls, [0.0] * self.width
        events: list[tuple[float, int, str, SentCall]] = []
        number = 0
        taken = 0
        while waiting or events:
            while waiting and taken < self.slots.limit:
                waiting, taken, number = waiting - 1, taken + 1, number + 1
                self.most = max(self.most, taken)
                begins = max(self.now, heapq.heappop(free))
                ends, gives_up = begins + self.seconds, self.now + self.timeout
                late = ends > gives_up
                # A server that forgets a call whose connection is closed does no work for it.
                heapq.heappush(free, begins if late and self.forgets and begins >= gives_up else ends)
                heapq.heappush(
                    events, (gives_up if late else ends, number, "timeout" if late else "ok", self.slots.sent())
                )
            self.now, _, outcome, sent = heapq.heappop(events)
            self.outcomes[outcome] += 1
            taken -= 1
            if outcome == "ok":
                self.slots.answered(sent)
            else:
                self.slots.timed_out(sent)
                waiting += 1


@pytest.mark.parametrize("forgets", [True, False])
@pytest.mark.parametrize(("seconds", "timeout"), [(2, 16), (0.1, 0.8), (2, 120), (15, 120), (25, 120), (50, 120)])
def test_a_server_that_answers_one_call_at_a_time_answers_all_and_few_are_wasted(
    seconds: float, timeout: float, forgets: bool
) -> None:
    server = SimulatedServer(seconds, 1, timeout, forgets=forgets)
    server.run(28 * 3)
    assert server.outcomes["ok"] == 28 * 3
    assert server.outcomes["timeout"] <= 0.1 * server.outcomes.total()


@pytest.mark.parametrize("seconds", [0.2, 5.0, 20.0, 70.0, 100.0])
def test_a_server_that_answers_all_at_once_soon_gets_all_that_are_allowed(seconds: float) -> None:
    server = SimulatedServer(seconds, 64, 120.0, most=64)
    server.run(600)
    assert server.most == 64
    assert server.outcomes["timeout"] == 0
    assert server.now <= seconds * (600 / 64 + 8)


def test_a_quick_server_gets_all_after_its_first_answers() -> None:
    server = SimulatedServer(0.2, 64, 120.0, most=64)
    server.run(AT_FIRST + 64)
    assert server.most == 64


def test_after_nothing_but_timeouts_half_as_many_go_and_later_more_again() -> None:
    now = 0.0
    slots = CallSlots(32, 10.0, clock=lambda: now)
    slots.answered(slots.sent())
    assert slots.limit == 32
    for expected in (16, 8, 4, 2, 1, 1):
        sent = [slots.sent() for _ in range(slots.limit)]
        now += 10
        for call in sent:
            slots.timed_out(call)
        assert slots.limit == expected
    sent = [slots.sent()]
    now += 0.5
    slots.answered(sent[0])
    assert slots.limit == 10


def test_one_slow_call_among_many_changes_nothing() -> None:
    now = 0.0
    slots = CallSlots(8, 10.0, clock=lambda: now)
    slow = slots.sent()
    for _ in range(40):
        call = slots.sent()
        now += 0.25
        slots.answered(call)
    slots.timed_out(slow)
    assert slots.limit == 8


def test_a_model_in_this_process_gets_all_at_once() -> None:
    assert CallSlots(16, None).limit == 16


def test_places_are_given_in_order_and_a_cancelled_wait_takes_none() -> None:
    async def run() -> list[int]:
        slots, order = CallSlots(1, None), []
        await slots.enter()

        async def one(n: int) -> None:
            await slots.enter()
            order.append(n)
            slots.leave()

        jobs = [asyncio.create_task(one(n)) for n in range(4)]
        await asyncio.sleep(0)
        jobs[1].cancel()
        slots.leave()
        jobs[2].cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        await slots.enter()
        return order

    assert asyncio.run(run()) == [0, 3]
