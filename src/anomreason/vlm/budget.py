"""A cap on tokens or money that holds with many calls in flight, and under which images are finished, not begun.

budget = Budget(ledger, max_tokens=100_000)
reserved = await budget.reserve(request)    # waits for room; the reply's cap may come out lower
budget.settle(reserved, usage)
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass

from anomreason.anomaly import Usage
from anomreason.errors import CallFailed, UsageError
from anomreason.vlm.ledger import Ledger, worst_case
from anomreason.vlm.protocol import Request

SHORTEST_CAP = 256
"""The cap of a reply is not lowered under this many tokens to fit into the budget."""


@dataclass(frozen=True, slots=True)
class Reservation:
    """What one call may use at most."""

    ticket: int
    worst: Usage
    """Tokens, before what is known of this server's bills."""
    max_tokens: int
    """The cap that the reply must be asked with."""


class Budget:
    """Reserves the worst case of a call before it is sent, so the cap holds; learns from what is billed."""

    def __init__(self, ledger: Ledger, max_cost: float | None = None, max_tokens: int | None = None) -> None:
        """Raises UsageError for a cap on money with a model whose price is not known."""
        if max_cost is not None and ledger.price is None:
            raise UsageError(
                "--max-cost needs the model's price, which is not known here: use --max-tokens instead, or give prices "
                "with --prices FILE"
            )
        self._ledger = ledger
        self._max_cost = max_cost
        self._max_tokens = max_tokens
        self._capped = max_cost is not None or max_tokens is not None
        self._spent = ledger.total
        self._reserved: dict[int, Usage] = {}
        self._tickets = itertools.count()
        self._waiting: set[tuple[int, int]] = set()
        self._begun: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._prompt_factor = self._reply_factor = 1.0
        """What the server has billed at most, in worst cases."""
        self._billed = False
        self._longest = 0
        self._images, self._ended, self._finished, self._used_by_images = 0, 0, 0, Usage()
        self.images = 0
        """Images to do, 0 when it is not known."""
        self.reached = False

    async def begin_image(self) -> bool:
        """Wait until the usual use of an image fits beside that of the images in work; False when it never will.

        The first image goes alone, to see what an image uses.
        """
        while self._capped:
            if self.reached:
                return False
            alone = not self._finished and self._images == 0
            if alone or (self._finished and self._within(self._spent + self._usual(self._images + 1))):
                break
            if self._images == 0:
                self.reached = True
                return False
            await self._changed.wait()
        self._images += 1
        return True

    def end_image(self, image: str, used: Usage | None) -> None:
        """An image is done; `used` is None when nothing was asked about it."""
        self._images -= 1
        self._ended += not self.reached  # what the budget has cut short is not done
        self.forget(image)
        if used is not None and used.calls:
            self._finished += 1
            self._used_by_images += used
        self._wake()

    def forget(self, image: str) -> None:
        """No call about this image comes any more."""
        self._begun.pop(image, None)

    async def reserve(self, request: Request) -> Reservation:
        """Reserve the call's worst case, as `hold` does. Raises CallFailed("budget") when it does not fit."""
        if not self._capped:
            return Reservation(0, Usage(), request.sampling.max_tokens)
        return await self.hold(worst_case(request, self._ledger.price), request.tag.image)

    async def hold(self, worst: Usage, image: str) -> Reservation:
        """Reserve the worst case of a call; waits while calls in flight may still release some of theirs.

        Calls of the image that was begun first go first. When nothing is in flight and the worst case does not fit, a
        lower cap of the reply may. Raises CallFailed("budget") when none does.
        """
        cap = asked = worst.completion_tokens
        ticket = next(self._tickets)
        rank = (self._begun.setdefault(image, ticket), ticket)
        self._waiting.add(rank)
        try:
            while min(self._waiting) != rank or not self._fits(worst):
                if not self._reserved and min(self._waiting) == rank:
                    cap = self._lower_cap(worst)
                    if cap < min(max(SHORTEST_CAP, self._longest), asked):
                        self.reached = True
                        raise CallFailed("budget", self._message(worst))
                    worst = worst.model_copy(update={"completion_tokens": cap})
                    break
                await self._changed.wait()
            self._reserved[ticket] = worst
            return Reservation(ticket, worst, cap)
        finally:
            self._waiting.discard(rank)
            self._wake()

    def settle(self, reserved: Reservation, used: Usage) -> None:
        """End a call with what it used."""
        if not self._capped:
            return
        self._reserved.pop(reserved.ticket, None)
        self._spent += self._ledger.priced(used)
        if used.tokens and not used.estimated:
            worst = reserved.worst
            self._prompt_factor = max(self._prompt_factor, used.prompt_tokens / worst.prompt_tokens)
            self._reply_factor = max(self._reply_factor, used.completion_tokens / max(1, worst.completion_tokens))
        if used.tokens:
            self._billed = True
            self._longest = max(self._longest, used.completion_tokens)
        self._wake()

    def lose(self, reserved: Reservation) -> None:
        """End a call whose process has died, as if the server had charged its worst case."""
        self._reserved.pop(reserved.ticket, None)
        self._spent += self._ledger.priced(reserved.worst.model_copy(update={"calls": 1}))
        self._wake()

    def _usual(self, images: int) -> Usage:
        """What so many images use, by those that are finished."""
        count, used = images / self._finished, self._used_by_images
        return Usage(
            prompt_tokens=round(used.prompt_tokens * count),
            completion_tokens=round(used.completion_tokens * count),
            cost=None if used.cost is None else used.cost * count,
        )

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _fits(self, worst: Usage) -> bool:
        """Until the first bill has come, nobody knows how this server counts: one call goes alone."""
        if self._reserved and not self._billed:
            return False
        held = self._spent
        for usage in (*self._reserved.values(), worst):
            held += self._bill(usage)
        return self._within(held)

    def _bill(self, worst: Usage) -> Usage:
        """The worst case as this server bills it."""
        bill = Usage(
            prompt_tokens=round(worst.prompt_tokens * self._prompt_factor),
            completion_tokens=round(worst.completion_tokens * self._reply_factor),
        )
        return self._ledger.priced(bill)

    def _within(self, usage: Usage) -> bool:
        too_dear = self._max_cost is not None and (usage.cost or 0.0) > self._max_cost
        too_many = self._max_tokens is not None and usage.tokens > self._max_tokens
        return not (too_dear or too_many)

    def _lower_cap(self, worst: Usage) -> int:
        """The longest reply that still fits, tokens; 0 or less when not even the prompt does."""
        prompt = self._spent + self._bill(worst.model_copy(update={"completion_tokens": 0}))
        caps = [float(worst.completion_tokens)]
        if self._max_tokens is not None:
            caps.append((self._max_tokens - prompt.tokens) / self._reply_factor)
        price = self._ledger.price
        if self._max_cost is not None and price is not None:
            left = self._max_cost - (prompt.cost or 0.0)
            caps.append(left * 1e6 / price.output / self._reply_factor if price.output else caps[0] if left >= 0 else 0)
        return int(min(caps))

    def _message(self, worst: Usage) -> str:
        """Names the cap that would allow one more call, and what all images that are left may need."""
        spent, bill = self._spent, self._bill(worst)
        paid, cost = spent.cost or 0.0, bill.cost or 0.0
        if self._max_cost is not None and paid + cost > self._max_cost:
            return (
                f"stopped at --max-cost {self._max_cost:g}: ${paid:.4f} are spent, and one more call could cost up to "
                f"${cost:.4f}; to go on, run the same command with --max-cost {paid + cost:.4f} or more"
                f"{self._rest(in_money=True)}"
            )
        return (
            f"stopped at --max-tokens {self._max_tokens}: {spent.tokens:,} are used, and one more call could use up to "
            f"{bill.tokens:,}; to go on, run the same command with --max-tokens {spent.tokens + bill.tokens} or more"
            f"{self._rest(in_money=False)}"
        )

    def _rest(self, in_money: bool) -> str:
        """What all images need that are not done, for the message; empty for the last one."""
        left = self.images - self._ended
        if left < 2:
            return ""
        if not self._finished:
            return f"; {left:,} images are not done, and how much they need is not known before one is"
        rest = self._usual(left)
        amount = f"${rest.cost or 0.0:.4f}" if in_money else f"{rest.tokens:,} tokens"
        return f"; the {left:,} images that are not done need about {amount} more"
