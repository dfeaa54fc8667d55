"""Batches in worker processes: each comes back once, whoever dies; Ray is tested where `dataset filter` uses it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from anomreason.errors import UsageError
from anomreason.spread import mapping
from anomreason.spread.cluster import SpreadOptions
from anomreason.spread.mapping import HOPELESS, BatchWorker, WorkerDied, Workers, local_workers, ray_workers


def square(folder: Path, numbers: Sequence[int]) -> list[int]:
    """Ends its process at 13, and once at 7."""
    for number in numbers:
        if number == 13 or (number == 7 and not (folder / "7").exists()):
            (folder / str(number)).touch()
            os.kill(os.getpid(), signal.SIGSEGV if number == 13 else signal.SIGKILL)
    return [number * number for number in numbers]


def refuse(numbers: Sequence[int]) -> list[int]:
    raise UsageError("no such model")


def fail(numbers: Sequence[int]) -> list[int]:
    return [1 // 0]


def lost(number: int, how: str) -> Any:
    return how


def test_what_ends_a_worker_is_tried_again_and_lost_after_three_workers(tmp_path: Path) -> None:
    with local_workers(2) as workers:
        batches = [range(start, start + 5) for start in range(0, 20, 5)]
        found = {
            number: result
            for numbers, results, _ in workers.map(partial(square, tmp_path), batches, lost)
            for number, result in zip(numbers, results, strict=True)
        }
        assert found == {n: n * n for n in range(20)} | {
            13: "ended its worker process 3 times, the last time by SIGSEGV"
        }
        assert workers.replaced == 4
        again = [results for _, results, _ in workers.map(partial(square, tmp_path), [[2], [3]], lost)]
        assert sorted(again) == [[4], [9]]
        with pytest.raises(UsageError, match=r"no such model \(on the machine "):
            list(workers.map(refuse, [[1]], lost))
        with pytest.raises(RuntimeError, match=r"in fail\n(.*\n)*ZeroDivisionError"):
            list(workers.map(fail, [[1]], lost))


class FakeWorker:
    """A worker in this process, that dies at some calls."""

    def __init__(self, dies: Callable[[str, Any], bool], answers: bool = True) -> None:
        self._dies, self._answers = dies, answers
        self._dead = False
        self._worker = BatchWorker()

    def submit(self, method: str, argument: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._dead = self._dead or self._dies(method, argument)
        if self._dead:
            future.set_exception(WorkerDied("SIGKILL"))
        elif self._answers:
            future.set_result(getattr(self._worker, method)(argument))
        return future

    def result(self, future: Future[Any]) -> Any:
        return future.result()

    def end(self) -> None:
        pass


def fake_workers(count: int, make: Callable[[], FakeWorker]) -> Workers:
    return Workers(lambda _: (count, make))


def double(numbers: Sequence[int]) -> list[int]:
    return [2 * number for number in numbers]


def test_no_more_batches_are_made_than_workers_can_take() -> None:
    made = 0

    def batches() -> Iterator[list[int]]:
        nonlocal made
        for made in range(1, 101):
            yield [made]

    workers = fake_workers(4, lambda: FakeWorker(lambda *_: False))
    for done, _ in enumerate(workers.map(double, batches(), lost), 1):
        assert made <= done + 8, "four come back at once while four more are at work"
    assert done == 100


def test_workers_that_die_at_their_start_end_the_work() -> None:
    workers = fake_workers(2, lambda: FakeWorker(lambda method, _: method == "use"))
    with pytest.raises(UsageError, match=r"no worker can be started \(3 in a row ended at their start"):
        list(workers.map(double, [[1], [2]], lost))


def test_a_worker_that_does_not_start_in_time_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "START_SECONDS", 0.0)
    monkeypatch.setattr(mapping, "_POLL", 0.01)
    answers = iter([True, False])
    workers = fake_workers(2, lambda: FakeWorker(lambda *_: False, next(answers)))
    assert sorted(results for _, results, _ in workers.map(double, [[1], [2], [3]], lost)) == [[2], [4], [6]]


def test_work_at_which_every_worker_dies_ends_with_a_reason() -> None:
    workers = fake_workers(1, lambda: FakeWorker(lambda method, _: method == "work"))
    results = workers.map(double, [[number] for number in range(100)], lost)
    with pytest.raises(UsageError, match=r"died at 20 consecutive items, each of which ended its worker"):
        list(results)
    assert workers.replaced == 3 * HOPELESS


def test_nothing_is_started_for_nothing() -> None:
    with ray_workers(SpreadOptions(ray_address="nowhere")) as workers:
        assert list(workers.map(double, [], lost)) == []
    with pytest.raises(UsageError, match="at least 1"):
        local_workers(0)
