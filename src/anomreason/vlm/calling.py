"""One model call seen through: kept replies, budget, attempts, retries, larger caps, one re-ask, the ledger.

A VLM makes one attempt; a `Caller` makes a call succeed or says for good why not. It does not know what is asked.

    caller = Caller(open_vlm("gpt-4o"))
    objects = await caller.call(request, read_objects, Meter())
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from anomreason.anomaly import Usage
from anomreason.errors import CallFailed, EndpointError, ParseError, Stopped
from anomreason.vlm.cache import ReplyStore, request_key
from anomreason.vlm.ledger import Budget, Call, Ledger
from anomreason.vlm.protocol import VLM, Reply, Request

T = TypeVar("T")

REASK = "Your answer could not be used: {complaint}\nGive the whole answer again, in the asked form and nothing else."
_REFUSAL = re.compile(
    r"\s*(i['’]?m sorry|sorry|i apologi[sz]e|i can(no|['’])t|i (am|['’]m) (not able|unable)|i won['’]t)\b.{0,120}"
    r"\b(assist|help|provide|comply|analy[sz]e|identify|do that|with (that|this)|request)\b",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a call is pursued. The defaults are those of the command line."""

    retries: int = 6
    """Further attempts after a server's fault, a 429, a timeout or a lost connection."""
    timeout: float | None = 120.0
    """Seconds until one attempt is given up; None for ever (a model in this process)."""
    max_reply_tokens: int = 8192
    """The reply's cap is doubled up to this when a reply is cut; then the call is `truncated`."""
    first_wait: float = 0.5
    """Seconds before the first retry; doubled each time, up to `longest_wait`, unless the server says how long."""
    longest_wait: float = 60.0


@dataclass
class Meter:
    """What one image has used so far, and whether one of its steps is lost."""

    usage: Usage = field(default_factory=Usage)
    lost: CallFailed | None = None


@dataclass
class Caller:
    """Everything around a VLM that one run shares."""

    vlm: VLM
    ledger: Ledger = field(default_factory=Ledger)
    store: ReplyStore | None = None
    budget: Budget | None = None
    in_flight: int = 32
    patience: Patience = Patience()
    stopping: bool = False
    """Set to send nothing new: calls in flight end and are kept, the others raise Stopped."""

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.in_flight)
        self._budget = self.budget or Budget(self.ledger)

    @property
    def budget_reached(self) -> bool:
        return self._budget.reached

    async def call(self, request: Request, read: Callable[[Reply], T], meter: Meter) -> T:
        """Ask until `read` accepts the reply. Raises CallFailed when the call is lost, Stopped when asked to stop."""
        name = request_key(self.vlm.name, request)
        kept = self.store.good(name) if self.store else None
        if kept is not None:
            try:
                value = read(kept)
            except ParseError:
                pass  # kept by a version that read less strictly: ask again
            else:
                meter.usage += kept.usage
                return value
        try:
            return await self._pursue(request, read, meter, name)
        except CallFailed as e:
            meter.lost = meter.lost or e
            raise

    async def _pursue(self, request: Request, read: Callable[[Reply], T], meter: Meter, name: str) -> T:
        cap, turns, attempt, faults, adjusted = request.sampling.max_tokens, request.turns, 0, 0, 0
        while True:
            attempt += 1
            sent = replace(request, sampling=replace(request.sampling, max_tokens=cap), turns=turns)
            try:
                reply, started = await self._attempt(sent, attempt, meter)
            except EndpointError as e:
                adjusted += e.kind == "adjusted"
                faults += e.kind != "adjusted"
                if e.kind == "rejected" or faults > self.patience.retries or adjusted > 8:
                    raise CallFailed("endpoint", f"{e} ({_tried(attempt)})") from e
                if e.kind != "adjusted":
                    await self._wait(e, faults, name)
                continue
            if reply.finish == "refused" or _REFUSAL.match(reply.text[:400]):
                self._record(sent, reply, started, attempt, "refused", meter)
                raise CallFailed("refused", f"the model refused: {_excerpt(reply.text)}")
            if reply.finish == "length":
                self._record(sent, reply, started, attempt, "length", meter)
                if cap >= self.patience.max_reply_tokens:
                    raise CallFailed("truncated", f"the reply was still cut at {cap} tokens (--max-reply-tokens)")
                cap = min(cap * 2, self.patience.max_reply_tokens)
                continue
            try:
                value = read(reply)
            except ParseError as complaint:
                self._record(sent, reply, started, attempt, "unparsable", meter)
                if turns != request.turns:
                    raise CallFailed("unparsable", f"{complaint}; the reply was: {_excerpt(reply.text)}") from complaint
                turns = (*request.turns, (reply.text[:8000], REASK.format(complaint=complaint)))
                continue
            self._record(sent, reply, started, attempt, "ok", meter, good_for=name)
            return value

    async def _attempt(self, sent: Request, attempt: int, meter: Meter) -> tuple[Reply, float]:
        """One attempt, within the bounds on calls at once, time and money; a failed one is written down here."""
        async with self._slots:
            if self.stopping:
                raise Stopped("asked to stop")
            if meter.lost is not None:
                raise CallFailed(meter.lost.kind, "not asked, as another step of this image was lost")
            ticket = await self._budget.reserve(sent)
            started, used = time.time(), None
            try:
                async with asyncio.timeout(self.patience.timeout):
                    reply = await self.vlm.ask(sent)
                used = reply.usage
                return reply, started
            except TimeoutError:
                error = EndpointError("timeout", f"no answer within {self.patience.timeout:g} s (--timeout)")
            except EndpointError as e:
                error = e
                used = None if e.kind == "timeout" else Usage()
            finally:
                self._budget.settle(ticket, used)
            self._record(sent, None, started, attempt, error.kind, meter)
            raise error

    def _record(
        self,
        sent: Request,
        reply: Reply | None,
        started: float,
        attempt: int,
        outcome: str,
        meter: Meter,
        good_for: str | None = None,
    ) -> None:
        usage = self.ledger.priced(reply.usage if reply else Usage(calls=1))
        key = None
        if reply is not None and self.store is not None:
            kept = replace(reply, usage=usage)
            key = self.store.put(sent, kept, model=self.vlm.name, good_for=good_for)
        meter.usage += usage
        tag = sent.tag
        self.ledger.record(
            Call(
                tag.image,
                tag.role,
                tag.step,
                tag.object,
                tag.sample,
                attempt,
                outcome,
                reply.model if reply else self.vlm.name,
                usage.prompt_tokens,
                usage.cached_tokens,
                usage.completion_tokens,
                usage.cost,
                round(time.time() - started, 4),
                round(started, 3),
                key,
            )
        )

    async def _wait(self, error: EndpointError, faults: int, name: str) -> None:
        """As long as the server said, else twice as long each time, spread by a jitter that the request decides."""
        jitter = random.Random(f"{name}{faults}").uniform(0.5, 1.0)
        wait = self.patience.first_wait * 2 ** (faults - 1) * jitter
        if error.retry_after is not None:
            wait = error.retry_after + 0.1 * wait
        await asyncio.sleep(min(wait, self.patience.longest_wait))


def _tried(attempts: int) -> str:
    return "tried once" if attempts == 1 else f"tried {attempts} times"


def _excerpt(text: str, length: int = 160) -> str:
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= length else flat[: length - 3] + "...")
