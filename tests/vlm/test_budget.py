"""Facts about caps on tokens and money: they hold, they are used, and images are finished under them."""

import asyncio
import random
from pathlib import Path

import pytest

from anomreason.anomaly import Usage
from anomreason.errors import CallFailed, UsageError
from anomreason.vlm.budget import Budget
from anomreason.vlm.ledger import Call, Ledger, Price, worst_case
from anomreason.vlm.protocol import Request, Sampling, Tag


def request(cap: int = 1000, image: str = "a.jpg") -> Request:
    return Request(("x" * 400,), Tag(image, "r", "s"), sampling=Sampling(max_tokens=cap))


WORST = worst_case(request())


def test_a_cap_on_money_needs_a_price() -> None:
    with pytest.raises(UsageError, match="--max-tokens"):
        Budget(Ledger(), max_cost=1.0)


def bill(prompt: float, reply: float) -> Usage:
    return scaled(WORST, prompt, reply).model_copy(update={"calls": 1})


def scaled(usage: Usage, prompt: float, reply: float) -> Usage:
    return Usage(
        prompt_tokens=round(usage.prompt_tokens * prompt), completion_tokens=round(usage.completion_tokens * reply)
    )


def spend(budget: Budget, used: Usage, calls: int = 1000) -> tuple[int, int]:
    """Send calls all at once until the budget is reached; gives tokens spent and calls refused."""

    async def run() -> tuple[int, int]:
        spent = refused = 0

        async def one() -> None:
            nonlocal spent, refused
            try:
                reserved = await budget.reserve(request())
            except CallFailed as e:
                refused += e.kind == "budget"
                return
            await asyncio.sleep(0)
            part = scaled(used, 1, reserved.max_tokens / 1000).model_copy(update={"estimated": used.estimated})
            spent += part.tokens
            budget.settle(reserved, part)

        await asyncio.gather(*(one() for _ in range(calls)))
        return spent, refused

    return asyncio.run(run())


@pytest.mark.parametrize("capped_by", ["tokens", "cost"])
@pytest.mark.parametrize(("prompt", "reply"), [(0.5, 0.5), (1.0, 1.0), (0.3, 0.0), (4.2, 1.0), (1.0, 9.0), (3.0, 3.0)])
def test_the_cap_holds_with_many_calls_at_once_whatever_the_server_bills(
    prompt: float, reply: float, capped_by: str
) -> None:
    used, cap = bill(prompt, reply), 40 * WORST.tokens
    price = Price(1e6, 1e6, 1e6)  # a dollar a token
    budget = Budget(Ledger(price=price), max_cost=cap) if capped_by == "cost" else Budget(Ledger(), max_tokens=cap)
    spent, refused = spend(budget, used)
    assert budget.reached
    assert refused > 0
    assert cap - max(WORST.tokens, used.tokens) <= spent <= cap


def test_estimates_bind_like_counts() -> None:
    used = bill(0.5, 0.5).model_copy(update={"estimated": True})
    spent, _ = spend(Budget(Ledger(), max_tokens=20 * WORST.tokens), used)
    assert 19 * WORST.tokens <= spent <= 20 * WORST.tokens


def test_the_first_call_goes_alone_to_see_how_the_server_bills() -> None:
    async def run() -> None:
        budget = Budget(Ledger(), max_tokens=100 * WORST.tokens)
        first = await budget.reserve(request())
        others = [asyncio.create_task(budget.reserve(request())) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not any(o.done() for o in others)
        budget.settle(first, bill(1, 1))
        await asyncio.gather(*others)

    asyncio.run(run())


def test_a_lower_cap_of_the_reply_uses_what_is_left() -> None:
    async def run() -> None:
        budget = Budget(Ledger(), max_tokens=WORST.tokens - 500)
        reserved = await budget.reserve(request())
        assert reserved.max_tokens == 500
        budget.settle(reserved, Usage(prompt_tokens=WORST.prompt_tokens, completion_tokens=500))
        with pytest.raises(CallFailed, match="--max-tokens"):
            await budget.reserve(request())

    asyncio.run(run())


def test_calls_of_the_image_begun_first_go_first() -> None:
    async def run() -> list[str]:
        budget, order = Budget(Ledger(), max_tokens=WORST.tokens * 3 // 2), []
        holding = await budget.reserve(request(image="a"))

        async def one(image: str) -> None:
            reserved = await budget.reserve(request(image=image))
            order.append(image)
            budget.settle(reserved, Usage(calls=1))

        jobs = []
        for image in ("b", "c", "a", "b", "a"):
            jobs.append(asyncio.create_task(one(image)))
            await asyncio.sleep(0)
        budget.settle(holding, Usage(calls=1, prompt_tokens=1))
        await asyncio.gather(*jobs)
        return order

    assert asyncio.run(run()) == ["a", "a", "b", "b", "c"]


def test_money_spent_before_counts_towards_the_cap(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "calls.jsonl", Price(1, 1, 1))
    ledger.record(Call("a", "r", "s", None, 0, 1, "ok", "m", 100, 0, 10, 0.9, 1.0, 2.0, "k"))

    async def run() -> None:
        with pytest.raises(CallFailed, match=r"--max-cost 0\.9"):
            await Budget(ledger, max_cost=0.9).reserve(request())
        await Budget(ledger, max_cost=0.91).reserve(request())

    asyncio.run(run())
    ledger.close()


def test_without_a_cap_nothing_waits() -> None:
    async def run() -> None:
        budget = Budget(Ledger())
        assert await budget.begin_image()
        reserved = [await budget.reserve(request()) for _ in range(50)]
        assert {r.max_tokens for r in reserved} == {1000}

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("steps", [1, 3, 12])
def test_a_cap_for_ten_images_finishes_at_least_eight(steps: int, seed: int) -> None:
    """Images of `steps` calls after one another, of uneven use, 32 at once; a call uses a third of its worst case."""
    uneven = random.Random(seed)
    mean = bill(0.5, 0.2)
    cap = 10 * steps * mean.tokens
    budget = Budget(Ledger(), max_tokens=cap)
    done, begun, spent = 0, 0, 0

    async def image(name: str) -> None:
        nonlocal done, begun, spent
        if not await budget.begin_image():
            return
        begun += 1
        total = Usage()
        try:
            for _ in range(steps):
                reserved = await budget.reserve(request(image=name))
                await asyncio.sleep(0)
                size = uneven.uniform(0.85, 1.15)
                used = scaled(mean, size, size).model_copy(update={"calls": 1})
                budget.settle(reserved, used)
                spent += used.tokens
                total += used
            done += 1
        except CallFailed:
            pass
        finally:
            budget.end_image(name, total)

    async def run() -> None:
        await asyncio.gather(*(image(f"{n}.jpg") for n in range(32)))

    asyncio.run(run())
    assert done >= 8
    assert begun <= done + 2
    assert spent <= cap


def test_an_image_that_asked_nothing_tells_nothing_of_what_images_use() -> None:
    async def run() -> None:
        budget = Budget(Ledger(), max_tokens=10 * WORST.tokens)
        for _ in range(3):
            assert await budget.begin_image()
            budget.end_image("broken.jpg", None)
        assert await budget.begin_image()
        second = asyncio.create_task(budget.begin_image())
        await asyncio.sleep(0)
        assert not second.done()  # the first that is asked about goes alone
        budget.end_image("a.jpg", bill(40, 4))
        assert not await second
        assert budget.reached

    asyncio.run(run())
