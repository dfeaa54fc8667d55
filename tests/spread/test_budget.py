"""The budget that workers share, without Ray."""

import asyncio

import pytest

from anomreason.anomaly import Usage
from anomreason.detector import DetectOptions
from anomreason.spread.budget import BudgetKeeper
from anomreason.vlm.budget import Reservation
from anomreason.vlm.ledger import FREE


def keeper(most: int) -> BudgetKeeper:
    return BudgetKeeper(FREE, Usage(), DetectOptions(max_tokens=most), images=10)


def usage(tokens: int) -> Usage:
    return Usage(calls=1, prompt_tokens=tokens // 2, completion_tokens=tokens // 2)


async def hold(budget: BudgetKeeper, worker: str, tokens: int) -> Reservation:
    held = await asyncio.wait_for(budget.hold(worker, usage(tokens), "a.jpg"), 5)
    assert isinstance(held, Reservation)
    return held


async def blocked(work: "asyncio.Task[object]") -> bool:
    for _ in range(10):
        await asyncio.sleep(0)
    return not work.done()


def test_calls_of_all_workers_fit_into_one_limit() -> None:
    async def work() -> None:
        budget = keeper(1000)
        await budget.enter("0.1")
        await budget.enter("1.1")
        first = await hold(budget, "0.1", 600)
        await budget.settle("0.1", first.ticket, usage(400))
        await hold(budget, "0.1", 400)
        other = asyncio.ensure_future(budget.hold("1.1", usage(600), "b.jpg"))
        assert await blocked(other), "400 are spent and 400 are in flight"
        other.cancel()

    asyncio.run(work())


def test_a_worker_that_dies_holds_nothing_up_and_its_calls_count_in_full() -> None:
    async def work() -> None:
        budget = keeper(2000)
        await budget.enter("0.1")
        await budget.enter("1.1")
        assert await budget.begin_image("0.1")
        first = await hold(budget, "0.1", 600)
        await budget.settle("0.1", first.ticket, usage(200))
        await hold(budget, "0.1", 1000)  # in flight when the worker dies
        waiting = asyncio.ensure_future(budget.hold("0.1", usage(1000), "a.jpg"))
        other = asyncio.ensure_future(budget.hold("1.1", usage(1000), "b.jpg"))
        image = asyncio.ensure_future(budget.begin_image("1.1"))
        assert await blocked(waiting)
        assert await blocked(image), "the first image goes alone"
        await budget.leave("0.1")
        answer = await asyncio.wait_for(other, 5)
        assert isinstance(answer, Reservation)
        assert answer.max_tokens < 500, "1200 of 2000 tokens are gone, so the reply's cap is lowered"
        assert await asyncio.wait_for(image, 5)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await budget.settle("0.1", first.ticket, usage(200))  # a late word of the dead worker changes nothing
        with pytest.raises(KeyError):
            await budget.hold("0.1", usage(100), "a.jpg")

    asyncio.run(work())
