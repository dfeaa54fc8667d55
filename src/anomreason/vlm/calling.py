"""Runs one model call to completion: cache, budget, backoff, truncation, re-prompt.

A VLM makes one attempt; a `Caller` repeats attempts until the call succeeds or is lost for a stated reason.

    caller = Caller(open_vlm("gpt-4o"))
    objects = await caller.call(request, read_objects, Meter())
"""

from __future__ import annotations

import asyncio
import random
import re
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, Protocol, TypeVar, cast
from weakref import WeakValueDictionary

from anomreason.anomaly import Usage
from anomreason.errors import (
    CallFailed,
    Charge,
    Deferred,
    EndpointError,
    EndpointErrorKind,
    ParseError,
    ReplyLimit,
    Stopped,
)
from anomreason.textform.jsontext import unclosed
from anomreason.textform.thinking import ONLY_THINKING, without_thinking
from anomreason.vlm.budget import Budget
from anomreason.vlm.cache import Next, ReplyStore, request_key
from anomreason.vlm.ledger import Call, Ledger, completed, unanswered
from anomreason.vlm.protocol import VLM, Reply, Request, Tag
from anomreason.vlm.remedies import NO_THINKING, fewer_calls, longer_replies, slow_answer
from anomreason.vlm.slots import CallSlots, SentCall

T = TypeVar("T")

REASK = "Your answer could not be used: {complaint}.\nGive the whole answer again, in the asked form and nothing else."
LONGEST_ASKED = 600.0
"""Longest Retry-After, in seconds, that we wait for; a call is lost when the server asks for more."""
SHORTEST_TOKEN = 2.5
"""Characters of a token in replies with many digits and brackets; prose has more."""
_BETTER = "Use a model that follows instructions better, or a server that supports JSON schemas"
_NOT_EMPTY = "Check the server's log and chat template, or try another model"
LOADING_POLL = 5.0
"""Seconds between two calls that ask whether the model is loaded."""
_REFUSAL = re.compile(
    r"\s*(i['’]?m sorry|sorry|i apologi[sz]e|i can(not|['’]t)|i (am|['’]m) (not able|unable)|i won['’]t)\b[^.]{0,60}"
    r"\b(assist|help|comply|fulfil|continue)\b[^.]{0,40}\b(that|this|request|you)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Patience:
    """Limits on retries and waiting. The defaults are those of the command line."""

    retries: int = 6
    """Further attempts after a server error, a 429, a timeout or a lost connection."""
    timeout: float | None = 120.0
    """Seconds after which one attempt is abandoned; None: no limit (a model in this process)."""
    max_reply_tokens: int = 8192
    """Largest cap of a reply. The cap of a cut reply is doubled up to this; then the call is `truncated`."""
    loading: float = 600.0
    """Seconds to wait for a server that loads its model."""
    first_wait: float = 0.5
    """Seconds before the first retry; doubled each time, up to `longest_wait`, unless the server sends Retry-After."""
    longest_wait: float = 60.0


@dataclass
class Meter:
    """What one image has used so far, and whether one of its steps is lost."""

    usage: Usage = field(default_factory=Usage)
    lost: CallFailed | None = None
    sent_notes: set[str] = field(default_factory=set)
    """How the images were changed for the server."""


class Batch(Protocol):
    """Answers that come in files."""

    reply_limits: dict[str, int]
    """The longest replies that the server allows, tokens: in general under "", else by step."""

    def has_answer(self, request: Request) -> bool:
        """Whether the answer to this attempt is here."""

    def put_off(self, request: Request) -> None:
        """Remember this attempt for the next files."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One attempt at a request."""

    sent: Request
    number: int
    started: float
    """Seconds since 1970."""
    begun: float
    """On the monotonic clock, seconds."""
    meter: Meter
    noted: int | None = None
    """Its number among the calls noted before they are sent."""


@dataclass
class Caller:
    """A VLM with the ledger, cache and budget of one run."""

    vlm: VLM
    ledger: Ledger = field(default_factory=Ledger)
    store: ReplyStore | None = None
    budget: Budget | None = None
    in_flight: int = 32
    patience: Patience = Patience()
    batch: Batch | None = None
    """Where answers come from files; then calls without one raise Deferred."""
    stopping: bool = False
    """Set to send no new call: calls in flight end and are kept, the others raise Stopped."""
    watch: Callable[[Tag, bool], None] | None = None
    """Gets the tag of each call when it begins, with False, and when it has ended, with True."""

    def __post_init__(self) -> None:
        self._slots = CallSlots(self.in_flight, self.patience.timeout)
        self._loading_since: float | None = None
        self._asking: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._budget = self.budget or Budget(self.ledger)
        self._limits: dict[str, int] = self.batch.reply_limits if self.batch else {}

    @property
    def budget_reached(self) -> bool:
        return self._budget.reached

    @property
    def waiting(self) -> str:
        """What all calls wait for, in words; empty when they do not."""
        if self._loading_since is None:
            return ""
        seconds = time.monotonic() - self._loading_since
        return f"the server loads its model: {seconds:.0f} of {self.patience.loading:.0f} s"

    def expect_images(self, count: int) -> None:
        """Say how many images there are to do, so that a budget that is reached can say what the rest needs."""
        self._budget.images = count

    async def begin_image(self) -> bool:
        """Wait until the budget has room for one more image; False when it has none left."""
        return await self._budget.begin_image()

    def end_image(self, image: str, used: Usage | None) -> None:
        """An image that was begun is done; `used` is None when nothing was asked about it."""
        self._budget.end_image(image, used)

    async def call(self, request: Request, read: Callable[[Reply], T], meter: Meter) -> T:
        """Ask until `read` accepts the reply.

        Raises CallFailed when the call is lost, Stopped when asked to stop, Deferred when a batch is to answer.
        """
        if self.watch is None:
            return await self._complete(request, read, meter)
        self.watch(request.tag, False)
        try:
            return await self._complete(request, read, meter)
        finally:
            self.watch(request.tag, True)

    async def _complete(self, request: Request, read: Callable[[Reply], T], meter: Meter) -> T:
        """As `call`, unwatched."""
        name = request_key(self.vlm.name, request)
        # An equal request in flight is waited for, not paid; without a store there is no reply to take over.
        async with self._asking.setdefault(name, asyncio.Lock()) if self.store else nullcontext():
            kept = self.store.good(name) if self.store else None
            if kept is not None:
                outcome, value, _ = _read(kept, read, again=True)
                if outcome == "ok":  # else kept by a version that read less strictly: ask again
                    meter.usage += kept.usage
                    meter.sent_notes.update(kept.sent_notes)
                    return cast(T, value)
            try:
                return await self._pursue(request, read, meter, name)
            except CallFailed as e:
                meter.lost = meter.lost or e
                raise

    async def _pursue(self, request: Request, read: Callable[[Reply], T], meter: Meter, name: str) -> T:
        begun = self.store.begun(name) if self.store else None
        go_on = begun or Next(request.sampling.max_tokens, request.turns)
        number = faults = adjusted = 0
        cut: _Cut | None = None
        while True:
            number += 1
            cap = min(go_on.cap, self._longest(request.tag.step))
            if cut is not None and cap <= cut.cap:
                raise CallFailed("truncated", self._no_longer(cap, request.tag.step, cut.used))
            sent = replace(request, sampling=replace(request.sampling, max_tokens=cap), turns=go_on.turns)
            try:
                reply, attempt = await self._attempt(sent, number, meter)
            except EndpointError as e:
                if e.reply_limit is not None:
                    self._limit(e.reply_limit, request.tag.step)
                adjusted += e.kind == "adjusted"
                faults = max(faults + 1, e.tries) if e.kind not in ("adjusted", "loading") else faults
                if e.retry_after is not None and e.retry_after > LONGEST_ASKED:
                    after = f"the server asks to wait {_duration(e.retry_after)}; run the same command again after that"
                    raise CallFailed("endpoint", f"{e.wrong}: {after}") from e
                if e.kind == "rejected" or faults > self.patience.retries or adjusted > 8:
                    remedy = e.remedy or self._later(e.kind)
                    message = f"{e.wrong} ({_tried(faults)}){'; ' * bool(remedy)}{remedy}"
                    raise CallFailed("endpoint", message) from e
                if e.kind == "loading":
                    await self._wait_for_loading(e)
                elif e.kind != "adjusted":
                    await self._wait(e, faults, name)
                continue
            again = sent.turns != request.turns
            sent, cap = attempt.sent, attempt.sent.sampling.max_tokens
            outcome, value, unread = _verdict(sent, reply, read, again=again)
            then = None if outcome == "ok" else self._after(outcome, unread, request, sent, reply)
            if outcome == "length":
                then = _full(sent, reply, cut) or then
                cut = _Cut(cap, _length(reply), reply.usage)
            self._record(attempt, outcome, reply.usage, reply, name, then)
            if then is None:
                return cast(T, value)
            if isinstance(then, CallFailed):
                raise then
            go_on = then

    def _after(
        self, outcome: str, unread: ParseError | None, request: Request, sent: Request, reply: Reply
    ) -> Next | CallFailed:
        """What follows a reply of no use: a larger cap, one re-ask, or the end."""
        cap = sent.sampling.max_tokens
        longest = self._longest(request.tag.step)
        limit = min(self.patience.max_reply_tokens, longest)
        if outcome == "refused":
            why = _excerpt(reply.text) if reply.text.strip() else "a content filter left the reply empty"
            return CallFailed("refused", f"the model refused: {why}. Use another model for this image, or leave it out")
        if outcome == "length" and cap >= longest:
            return CallFailed("truncated", self._no_longer(cap, request.tag.step, reply.usage))
        if outcome == "length" and cap >= limit:
            stopped = f"stopped at the reply limit of {cap} tokens before the answer was complete;"
            if _only_thinking(reply.text):
                stopped = f"stopped at the reply limit of {cap} tokens, all of them thinking; {NO_THINKING}, or"
            return CallFailed("truncated", f"{stopped} allow longer replies with --max-reply-tokens {2 * cap}")
        if outcome == "length":
            return Next(min(cap * 2, limit), sent.turns)
        assert unread is not None  # no other outcome is left
        if unread.wrong == ONLY_THINKING:  # asking again would bring no more
            return CallFailed("unparsable", _no_answer(cap, reply.usage))
        if sent.turns != request.turns:
            last = f" The last reply was {_excerpt(reply.text)}." if reply.text.strip() else ""
            twice = f"the model did not answer in the requested form, twice: {unread.wrong}"
            return CallFailed("unparsable", f"{twice}.{last} {_BETTER if reply.text.strip() else _NOT_EMPTY}")
        return Next(cap, (*request.turns, (reply.text[:8000], REASK.format(complaint=unread))))

    def _later(self, kind: EndpointErrorKind) -> str:
        """What to do after the last attempt failed in a way that may pass, where the error has no remedy of its own."""
        later = "run the same command again later"
        if kind == "rate_limit" and self.in_flight > 1:
            return f"{fewer_calls(self.in_flight)}, or {later}"
        return later if kind in ("rate_limit", "server") else ""

    def _no_longer(self, cap: int, step: str, used: Usage) -> str:
        what = f"stopped at the reply limit of {cap} tokens, the longest that the server allows here"
        if self._limits.get(step) == cap:
            what = f"stopped at {cap} tokens of reply, which are all that the prompt leaves of the model's context"
        return f"{what}{_sum(used)}. {longer_replies(step)}"

    def _longest(self, step: str) -> int:
        """The longest reply that the server allows, as far as it has complained of longer ones."""
        return min(self._limits.get("", sys.maxsize), self._limits.get(step, sys.maxsize))

    def _limit(self, limit: ReplyLimit, step: str) -> None:
        """Learn the server's longest reply, or what the prompts of one step leave of its context."""
        key = step if limit.by_context else ""
        self._limits[key] = min(limit.tokens, self._limits.get(key, sys.maxsize))

    async def _attempt(self, sent: Request, number: int, meter: Meter) -> tuple[Reply, _Attempt]:
        """One attempt, within the bounds on calls at once, time and money; a failed one is written down here."""
        if self.batch is not None and not self.batch.has_answer(sent):
            self._still_wanted(meter)
            self.batch.put_off(sent)
            raise Deferred(f"the answer to {sent.tag.step!r} about {sent.tag.image!r} comes with a batch")
        await self._slots.enter()
        try:
            return await self._attempt_now(sent, number, meter)
        finally:
            self._slots.leave()

    async def _attempt_now(self, sent: Request, number: int, meter: Meter) -> tuple[Reply, _Attempt]:
        """As `_attempt`, with a place taken."""
        asked_for = None if self.batch else meter
        self._still_wanted(asked_for)
        reserved = await self._budget.reserve(sent)
        sent = replace(sent, sampling=replace(sent.sampling, max_tokens=reserved.max_tokens))
        unanswered_call = unanswered(sent, self.ledger.price)
        attempt = _Attempt(sent, number, time.time(), time.monotonic(), meter)
        used = Usage()
        on_its_way: SentCall | None = None
        error: EndpointError | None = None
        try:
            self._still_wanted(asked_for)  # reserving may have waited
            if self.store is not None and self.batch is None:  # an answer from a file is read again by a later process
                call = self._call(attempt, "killed", unanswered_call, self.vlm.name)
                attempt = replace(attempt, noted=self.store.sending(call.line()))
            used = unanswered_call
            on_its_way = self._slots.sent()
            async with asyncio.timeout(self.patience.timeout):
                reply = await self.vlm.ask(sent)
            self._slots.answered(on_its_way)
            on_its_way = self._loading_since = None
            used = completed(reply.usage, sent, self.ledger.price)
            return replace(reply, usage=used), attempt
        except TimeoutError:
            limit = self.patience.timeout
            within, remedy = "in time", ""
            if limit is not None:
                within, remedy = f"within {limit:g} s", slow_answer(limit, self.in_flight)
            error = EndpointError("timeout", f"{self.vlm.name!r} gave no answer {within}", remedy=remedy)
        except EndpointError as e:
            error = e
            if e.charge not in (None, Charge()) or (e.charge is None and e.kind != "timeout"):
                used = Usage(calls=1, **asdict(e.charge or Charge()))
        finally:
            if on_its_way is not None and error is not None and error.kind == "timeout":
                self._slots.timed_out(on_its_way)
            elif on_its_way is not None:
                self._slots.failed()
            self._budget.settle(reserved, used)
        self._record(attempt, error.kind, used)
        raise error

    def _still_wanted(self, meter: Meter | None) -> None:
        """meter: None for a call whose answer is here already, and paid."""
        if self.stopping:
            raise Stopped("asked to stop")
        if meter is not None and meter.lost is not None:
            raise CallFailed(meter.lost.kind, "not asked, as another step of this image was lost")

    def _record(
        self,
        attempt: _Attempt,
        outcome: str,
        used: Usage,
        reply: Reply | None = None,
        request: str = "",
        then: Next | CallFailed | None = None,
    ) -> None:
        """Write an attempt down; `then` is what follows its reply, None when the reply is good."""
        usage = self.ledger.priced(used)
        attempt.meter.usage += usage
        attempt.meter.sent_notes.update(reply.sent_notes if reply else ())
        key = None
        if reply is not None and self.store is not None:
            state: Next | Literal["good", "lost"] = then if isinstance(then, Next) else "lost" if then else "good"
            kept = replace(reply, usage=usage)
            key = self.store.put(attempt.sent, kept, model=self.vlm.name, request=request, then=state)
        self.ledger.record(self._call(attempt, outcome, usage, reply.model if reply else self.vlm.name, key))
        if self.store is not None and attempt.noted is not None:
            self.store.ended(attempt.noted)

    def _call(self, attempt: _Attempt, outcome: str, usage: Usage, model: str, key: str | None = None) -> Call:
        usage, tag = self.ledger.priced(usage), attempt.sent.tag
        return Call(
            image=tag.image,
            role=tag.role,
            step=tag.step,
            object=tag.object,
            sample=tag.sample,
            attempt=attempt.number,
            outcome=outcome,
            model=model,
            prompt_tokens=usage.prompt_tokens,
            cached_tokens=usage.cached_tokens,
            completion_tokens=usage.completion_tokens,
            cost=usage.cost,
            seconds=round(time.monotonic() - attempt.begun, 4),
            started=round(attempt.started, 3),
            key=key,
            estimated=usage.estimated,
        )

    async def _wait(self, error: EndpointError, faults: int, name: str) -> None:
        """Wait as the server asks; otherwise twice as long each time, with a jitter that the request decides."""
        jitter = random.Random(f"{name}{faults}").uniform(0.5, 1.0)
        wait = self.patience.first_wait * 2 ** (faults - 1) * jitter
        wait = min(wait, self.patience.longest_wait)
        await self._sleep(wait if error.retry_after is None else error.retry_after + 0.1 * wait)

    async def _wait_for_loading(self, error: EndpointError) -> None:
        """Ask now and then, one call at a time, whether the model is loaded."""
        now = time.monotonic()
        self._loading_since = now if self._loading_since is None else self._loading_since
        if now - self._loading_since >= self.patience.loading:
            most = self.patience.loading
            waited = (
                f"it was still loading after {now - self._loading_since:.0f} s (--patience {most:g}, in seconds); wait "
                f"longer, e.g. with --patience {max(600, round(2 * most))}"
            )
            raise CallFailed("endpoint", f"{error.wrong}: {waited}")
        self._slots.one_at_a_time()
        await self._sleep(min(error.retry_after or LOADING_POLL, LOADING_POLL) * min(1.0, 4 * self.patience.first_wait))

    async def _sleep(self, seconds: float) -> None:
        """Sleep, though not on when asked to stop."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self.stopping:
            await asyncio.sleep(min(left, 0.5))


@dataclass(frozen=True, slots=True)
class _Cut:
    """A reply that was cut."""

    cap: int
    length: int
    """As `_length` gives it."""
    used: Usage


def _length(reply: Reply) -> int:
    """Tokens of a reply; its characters where the server does not count."""
    return reply.usage.completion_tokens or len(reply.text)


def _was_cut(sent: Request, reply: Reply) -> bool:
    """Whether the reply ends where it was cut off, whatever the server calls that."""
    cap, used = sent.sampling.max_tokens, reply.usage.completion_tokens
    if reply.finish != "unknown":
        return reply.finish == "length" or (reply.finish == "stop" and used == cap)
    if not used or reply.usage.estimated:  # then the text tells: no token is shorter than this on average
        used = int(len(reply.text) / SHORTEST_TOKEN)
    return used >= cap or unclosed(reply.text)


def _verdict(
    sent: Request, reply: Reply, read: Callable[[Reply], T], again: bool
) -> tuple[str, T | None, ParseError | None]:
    """Outcome for the ledger, the value when it is `ok`, the reader's complaint when it is `unparsable`.

    Words of refusal count only where the reader cannot tell: in what it did not accept, and in short free text.
    """
    if reply.finish == "refused":
        return "refused", None, None
    if _was_cut(sent, reply):
        return "length", None, None
    refusing = bool(_REFUSAL.match(reply.text[:300]))
    outcome, value, unread = _read(reply, read, again)
    if refusing and (outcome == "unparsable" or (sent.schema is None and len(reply.text) < 300)):
        return "refused", None, unread
    return outcome, value, unread


def _read(reply: Reply, read: Callable[[Reply], T], again: bool) -> tuple[str, T | None, ParseError | None]:
    """As `_verdict`. A reply to the second asking counts as its reader says that a repeated one does."""
    try:
        return "ok", read(reply), None
    except ParseError as unread:
        if again and unread.otherwise is not None:
            return "ok", cast(T, unread.otherwise), None
        return "unparsable", None, unread


def _full(sent: Request, reply: Reply, cut: _Cut | None) -> CallFailed | None:
    """A larger cap that brought no more tokens: the model's context is full, and a still larger one is of no use."""
    cap, used = sent.sampling.max_tokens, reply.usage
    if cut is None or cap <= cut.cap or not 0 < _length(reply) <= cut.length:
        return None
    counted = f" after {used.completion_tokens} tokens" if used.completion_tokens else ""
    return CallFailed(
        "truncated",
        f"the server stopped the reply{counted}{_sum(used)}, although {cap} were allowed: the model's "
        f"context is full, or the server has a limit of its own. {longer_replies(sent.tag.step)}",
    )


def _only_thinking(text: str) -> bool:
    try:
        return not without_thinking(text)
    except ParseError:
        return True


def _sum(used: Usage) -> str:
    """Prompt and reply, which share the context, where the server has counted both."""
    if used.estimated or not used.prompt_tokens or not used.completion_tokens:
        return ""
    return f" (prompt and reply: {used.prompt_tokens} + {used.completion_tokens} = {used.tokens} tokens)"


def _no_answer(cap: int, used: Usage) -> str:
    counted = f" ({used.completion_tokens} tokens of {cap} allowed)" if used.completion_tokens else ""
    return f"{ONLY_THINKING}{counted}: {NO_THINKING}, or use a model that answers without thinking"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _tried(attempts: int) -> str:
    return "tried once" if attempts == 1 else f"tried {attempts} times"


def _excerpt(text: str, length: int = 160) -> str:
    flat = " ".join(text.split())
    return repr(flat if len(flat) <= length else flat[: length - 3] + "...")
