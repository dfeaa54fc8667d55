"""Budgets of clients under the budget of the service."""

import asyncio

from anomreason.anomaly import Usage
from anomreason.serve.allowances import Allowances
from anomreason.serve.clients import Client
from anomreason.vlm.ledger import Ledger, worst_case
from anomreason.vlm.protocol import Request, Sampling, Tag


def request(image: str) -> Request:
    return Request(("x" * 400,), Tag(image, "r", "s"), sampling=Sampling(max_tokens=1000))


WORST = worst_case(request("a"))


def test_an_image_that_comes_again_goes_behind_those_begun_meanwhile() -> None:
    allowances = Allowances(Ledger())
    ada = Client(name="ada", sha256="0" * 64, max_tokens=2 * WORST.tokens)
    allowances.add(ada, Usage(prompt_tokens=WORST.tokens // 2))
    order = list[str]()

    async def call(image: str) -> None:
        reserved = await allowances.reserve(request(image))
        order.append(image)
        await asyncio.sleep(0)
        allowances.settle(reserved, Usage())

    async def run() -> None:
        with allowances.charging("ada", "again"):
            await call("again")
        with allowances.charging("ada", "first"), allowances.charging("ada", "again"):
            await asyncio.gather(call("first"), call("first"), call("again"))

    asyncio.run(run())
    assert order == ["again", "first", "first", "again"]
