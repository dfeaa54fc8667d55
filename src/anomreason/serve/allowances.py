"""Budgets of clients under the budget of the service: each call reserves its worst case in both before it is sent.

allowances = Allowances(ledger, max_cost=None, max_tokens=None)
allowances.add(client, spent)
with allowances.charging(client.name, job.id):
    ...    # calls about this image
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from anomreason.anomaly import Usage
from anomreason.errors import CallFailed
from anomreason.serve.clients import Client
from anomreason.vlm.budget import Budget, Reservation
from anomreason.vlm.ledger import Ledger
from anomreason.vlm.protocol import Request


@dataclass(frozen=True, slots=True)
class _Limited:
    """A client with a limit."""

    client: Client
    budget: Budget


@dataclass(frozen=True, slots=True)
class _Both(Reservation):
    """What one call may use at most, reserved in the service's budget and in its client's."""

    budget: Budget
    """The client's."""
    own: Reservation


class Allowances(Budget):
    """The budget of the service, and those of the clients that have a limit."""

    def __init__(self, ledger: Ledger, max_cost: float | None = None, max_tokens: int | None = None) -> None:
        super().__init__(ledger, max_cost, max_tokens)
        self._price = ledger.price
        self._limited: dict[str, _Limited] = {}
        self._charged: dict[str, _Limited] = {}
        """By image in work."""

    def add(self, client: Client, spent: Usage) -> None:
        """Keep to the limits of a client, which has used so much."""
        if client.max_cost is None and client.max_tokens is None:
            return
        ledger = Ledger(price=self._price)
        ledger.total += spent
        self._limited[client.name] = _Limited(client, Budget(ledger, client.max_cost, client.max_tokens))

    def used_up(self, client: Client) -> bool:
        """Whether a call of this client was refused, since it might have exceeded its limit."""
        limited = self._limited.get(client.name)
        return limited is not None and limited.budget.reached

    @contextmanager
    def charging(self, client: str, image: str) -> Iterator[None]:
        """Calls about the image count for the client, by its name."""
        if limited := self._limited.get(client):
            self._charged[image] = limited
        try:
            yield
        finally:
            if limited:
                del self._charged[image]
                limited.budget.forget(image)

    async def reserve(self, request: Request) -> Reservation:
        limited = self._charged.get(request.tag.image)
        if limited is None:
            return await super().reserve(request)
        try:
            own = await limited.budget.reserve(request)
        except CallFailed:
            raise CallFailed("budget", beyond(limited.client)) from None
        try:
            lowered = replace(request, sampling=replace(request.sampling, max_tokens=own.max_tokens))
            whole = await super().reserve(lowered)
        except BaseException:
            limited.budget.settle(own, Usage())
            raise
        return _Both(whole.ticket, whole.worst, whole.max_tokens, limited.budget, own)

    def settle(self, reserved: Reservation, used: Usage) -> None:
        super().settle(reserved, used)
        if isinstance(reserved, _Both):
            reserved.budget.settle(reserved.own, used)


def beyond(client: Client, what: str = "the next call to the model") -> str:
    """That a client's limit holds; what: that which might exceed it."""
    limits = [f"${client.max_cost:g}"] if client.max_cost is not None else []
    limits += [f"{client.max_tokens:,} tokens"] if client.max_tokens is not None else []
    return f"this token may use {' and '.join(limits)} in all, which {what} may exceed; ask the service's owner"
