"""Requests that wait together run together, and one's fault or departure is not another's."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from anomreason.errors import EndpointError
from anomreason.vlm.local.batching import Batcher, Ticket

WAIT = 120.0


class Desk:
    """A batcher whose batches are recorded, and whose first batch can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.started = threading.Event()
        self.go_on = threading.Event()
        self.poison: dict[str, Exception] = {}
        self.room = 1000
        self.batcher: Batcher[str, str] = Batcher(self._run, rows=4, area=100)

    def _run(self, tickets: Sequence[Ticket[str, str]]) -> Sequence[str]:
        items = [ticket.item for ticket in tickets]
        self.batches.append(items)
        if "hold" in items:
            self.started.set()
            assert self.go_on.wait(WAIT)
        for item in items:
            if item in self.poison:
                raise self.poison[item]
        if len(items) * max(ticket.width for ticket in tickets) > self.room:
            raise MemoryError("no room")
        return [item.upper() for item in items]

    def hold(self) -> None:
        """Keep the worker busy until `go_on` is set."""
        self.batcher.submit("hold", 1)
        assert self.started.wait(WAIT)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.go_on.set()
    desk.batcher.close()


def test_what_waits_runs_as_one_batch_and_each_gets_its_own_result(desk: Desk) -> None:
    desk.hold()
    futures = [desk.batcher.submit(item, 1) for item in "abc"]
    desk.go_on.set()
    assert [future.result(WAIT) for future in futures] == ["A", "B", "C"]
    assert desk.batches == [["hold"], ["a", "b", "c"]]


def test_a_batch_waits_for_what_has_been_announced(desk: Desk) -> None:
    with desk.batcher.expected():
        first = desk.batcher.submit("a", 1)
        with desk.batcher.expected():
            second = desk.batcher.submit("b", 1)
        assert desk.batches == []
    assert (first.result(WAIT), second.result(WAIT)) == ("A", "B")
    assert desk.batches == [["a", "b"]]


def test_a_full_batch_does_not_wait_for_more(desk: Desk) -> None:
    with desk.batcher.expected():
        futures = [desk.batcher.submit(item, 1) for item in "abcd"]
        assert [future.result(WAIT) for future in futures] == ["A", "B", "C", "D"]


def test_batches_hold_at_most_the_rows_and_the_padded_tokens_allowed(desk: Desk) -> None:
    desk.hold()
    futures = [desk.batcher.submit(item, width) for item, width in [*((c, 1) for c in "abcde"), ("f", 60), ("g", 60)]]
    futures.append(desk.batcher.submit("wider than any batch", 500))
    desk.go_on.set()
    for future in futures:
        future.result(WAIT)
    assert desk.batches[1:] == [["a", "b", "c", "d"], ["e"], ["f"], ["g"], ["wider than any batch"]]


def test_a_request_that_fails_fails_alone(desk: Desk) -> None:
    desk.poison["c"] = ZeroDivisionError("c is odd")
    desk.hold()
    futures = [desk.batcher.submit(item, 1) for item in "abcd"]
    desk.go_on.set()
    with pytest.raises(EndpointError, match="ZeroDivisionError: c is odd") as caught:
        futures[2].result(WAIT)
    assert caught.value.kind == "server"
    assert [futures[i].result(WAIT) for i in (0, 1, 3)] == ["A", "B", "D"]


def test_a_request_that_fails_says_what_may_help(desk: Desk) -> None:
    desk.poison |= {"odd": ZeroDivisionError("odd"), "large": MemoryError("no room")}
    with pytest.raises(EndpointError, match="ZeroDivisionError: odd; run the same command again; if it goes on, leave"):
        desk.batcher.submit("odd", 1).result(WAIT)
    with pytest.raises(EndpointError, match="MemoryError: no room; use a smaller model or a device with more memory"):
        desk.batcher.submit("large", 1).result(WAIT)


def test_a_batch_too_large_for_memory_is_halved_and_later_ones_are_smaller_from_the_start(desk: Desk) -> None:
    desk.room = 40
    desk.hold()
    futures = [desk.batcher.submit(item, 20) for item in "abcdefgh"]
    desk.go_on.set()
    assert [future.result(WAIT) for future in futures] == list("ABCDEFGH")
    assert desk.batches[1:] == [["a", "b", "c", "d"], ["a", "b"], ["c", "d"], ["e", "f"], ["g", "h"]]


def test_a_cancelled_request_is_not_run_and_others_are(desk: Desk) -> None:
    desk.hold()
    gone, kept = desk.batcher.submit("gone", 1), desk.batcher.submit("kept", 1)
    assert gone.cancel()
    desk.go_on.set()
    assert kept.result(WAIT) == "KEPT"
    assert desk.batches == [["hold"], ["kept"]]


def test_a_request_cancelled_while_it_runs_is_seen_as_dropped_and_harms_nobody() -> None:
    seen: list[bool] = []
    started, go_on = threading.Event(), threading.Event()

    def run(tickets: Sequence[Ticket[str, str]]) -> Sequence[str]:
        started.set()
        assert go_on.wait(WAIT)
        seen.extend(ticket.dropped for ticket in tickets)
        return [ticket.item.upper() for ticket in tickets]

    batcher: Batcher[str, str] = Batcher(run, rows=4, area=100)
    with batcher.expected():
        gone, kept = batcher.submit("gone", 1), batcher.submit("kept", 1)
    assert started.wait(WAIT)
    assert gone.cancel()
    go_on.set()
    assert kept.result(WAIT) == "KEPT"
    assert seen == [True, False]
    batcher.close()


def test_closing_fails_what_waits_and_what_runs_and_takes_nothing_new(desk: Desk) -> None:
    desk.hold()
    waiting = desk.batcher.submit("waiting", 1)
    closing = threading.Thread(target=desk.batcher.close)
    closing.start()
    with pytest.raises(EndpointError, match="closed") as caught:
        waiting.result(WAIT)
    assert caught.value.kind == "connection"
    with pytest.raises(EndpointError, match="closed"):
        desk.batcher.submit("late", 1)
    desk.go_on.set()
    closing.join(WAIT)
    assert not closing.is_alive()
    assert desk.batches == [["hold"]]
