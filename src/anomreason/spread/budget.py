"""One budget for the workers of a run: an actor holds it, and each call of each worker is reserved there.

keeper = ray.remote(BudgetKeeper).remote(setup.price, spent, setup.options, len(images))
budget = LeasedBudget(ledger, options, keeper, worker="3.1")    # in the worker
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from anomreason.anomaly import Usage
from anomreason.detector import DetectOptions
from anomreason.errors import CallFailed, StorageError
from anomreason.vlm.budget import Budget, Reservation
from anomreason.vlm.ledger import Ledger, Price

T = TypeVar("T")


@dataclass
class _Lease:
    """What one worker holds."""

    images: int = 0
    """Begun and not ended."""
    reserved: dict[int, Reservation] = field(default_factory=dict)
    """Of calls in flight, by ticket."""
    waiting: set[asyncio.Task[Any]] = field(default_factory=set)


class BudgetKeeper:
    """The budget of a run over all of its workers; to be made a Ray actor, whose methods run side by side.

    A worker is named with its incarnation, so that nothing is held for one that has died.
    """

    def __init__(self, price: Price | None, spent: Usage, options: DetectOptions, images: int) -> None:
        ledger = Ledger(price=price)
        ledger.total = spent
        self._budget = Budget(ledger, options.max_cost, options.max_tokens)
        self._budget.images = images
        self._leases: dict[str, _Lease] = {}

    async def enter(self, worker: str) -> None:
        """A worker begins."""
        self._leases[worker] = _Lease()

    async def begin_image(self, worker: str) -> bool:
        """As `Budget.begin_image`."""
        lease = self._leases[worker]
        begun = await _waiting(lease, self._budget.begin_image())
        lease.images += begun
        return begun

    async def end_image(self, worker: str, image: str, used: Usage | None) -> None:
        """As `Budget.end_image`."""
        if lease := self._leases.get(worker):
            lease.images -= 1
            self._budget.end_image(image, used)

    async def hold(self, worker: str, worst: Usage, image: str) -> Reservation | str:
        """As `Budget.hold`; gives the message instead of raising CallFailed, which does not travel."""
        lease = self._leases[worker]
        try:
            reserved = await _waiting(lease, self._budget.hold(worst, image))
        except CallFailed as error:
            return str(error)
        lease.reserved[reserved.ticket] = reserved
        return reserved

    async def settle(self, worker: str, ticket: int, used: Usage) -> None:
        """As `Budget.settle`."""
        lease = self._leases.get(worker)
        if lease and (reserved := lease.reserved.pop(ticket, None)):
            self._budget.settle(reserved, used)

    async def leave(self, worker: str) -> None:
        """A worker has died: its calls in flight may be charged, all else that it held is free."""
        lease = self._leases.pop(worker)
        for task in lease.waiting:
            task.cancel()
        for reserved in lease.reserved.values():
            self._budget.lose(reserved)
        self._budget.images += lease.images  # they will be begun and ended once more
        for _ in range(lease.images):
            self._budget.end_image("", None)


async def _waiting(lease: _Lease, work: Coroutine[Any, Any, T]) -> T:
    """What the work gives; it is cancelled when the worker dies meanwhile."""
    task = asyncio.current_task()
    assert task is not None  # a coroutine runs in one
    lease.waiting.add(task)
    try:
        return await work
    finally:
        lease.waiting.discard(task)


class LeasedBudget(Budget):
    """The budget as one worker sees it: asks the keeper before each call."""

    def __init__(self, ledger: Ledger, options: DetectOptions, keeper: Any, worker: str) -> None:
        """keeper: handle of the actor."""
        super().__init__(ledger, options.max_cost, options.max_tokens)
        self._keeper, self._worker = keeper, worker

    async def begin_image(self) -> bool:
        """As in the whole run."""
        self.reached = self.reached or not await self._answer(self._keeper.begin_image.remote(self._worker))
        return not self.reached

    def end_image(self, image: str, used: Usage | None) -> None:
        """As in the whole run."""
        self._keeper.end_image.remote(self._worker, image, used)

    async def hold(self, worst: Usage, image: str) -> Reservation:
        """As in the whole run."""
        reserved = await self._answer(self._keeper.hold.remote(self._worker, worst, image))
        if isinstance(reserved, str):
            self.reached = True
            raise CallFailed("budget", reserved)
        held: Reservation = reserved
        return held

    def settle(self, reserved: Reservation, used: Usage) -> None:
        """As in the whole run."""
        self._keeper.settle.remote(self._worker, reserved.ticket, used)

    async def _answer(self, reference: Any) -> Any:
        import ray

        try:
            return await reference
        except ray.exceptions.RayError as error:
            raise StorageError(
                f"the process that keeps the budget of all workers has ended ({type(error).__name__}); nothing "
                "recorded so far is lost: run the same command again"
            ) from error
