"""The ledger of model calls: tokens, cost, and a budget that holds with many calls in flight.

`calls.jsonl` has one line per call, failed attempts included. Prices come from `prices.toml` (US dollars per million
tokens, dated) or a file of the same form.

    price_of("gpt-4o-2024-08-06").cost(Usage(prompt_tokens=1000, completion_tokens=100))    # 0.0035
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from anomreason.anomaly import Usage
from anomreason.errors import CallFailed, UsageError
from anomreason.files import Appender, read_lines
from anomreason.images import Encoded
from anomreason.vlm.protocol import Request, runs_here


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens."""

    input: float
    cached: float
    output: float
    base: int = 85
    tile: int = 170
    """Tokens of an image: `base`, and `tile` for each of its tiles of 512x512 (gpt-4o's rule) ..."""
    patch: float = 0.0
    """... or, when not 0, so many tokens for each patch of 32x32, of which at most 1,536 count."""

    def image_tokens(self, width: int, height: int) -> int:
        """Tokens of an image of this size, by the provider's published rule.

        https://platform.openai.com/docs/guides/images-vision: fit into 2048x2048, shortest side to 768, then by tile.
        """
        if self.patch:
            return math.ceil(min(math.ceil(width / 32) * math.ceil(height / 32), 1536) * self.patch)
        scale = min(1.0, 2048 / max(width, height))
        scale *= min(1.0, 768 / (min(width, height) * scale))
        tiles = math.ceil(round(width * scale, 3) / 512) * math.ceil(round(height * scale, 3) / 512)
        return self.base + self.tile * tiles

    def cost(self, usage: Usage) -> float:
        """US dollars."""
        fresh = usage.prompt_tokens - usage.cached_tokens
        return (fresh * self.input + usage.cached_tokens * self.cached + usage.completion_tokens * self.output) / 1e6


FREE = Price(0.0, 0.0, 0.0)
_USED = ("prompt_tokens", "cached_tokens", "completion_tokens", "cost")


def _price(p: Mapping[str, Any]) -> Price:
    usual = (int(p.get("base", FREE.base)), int(p.get("tile", FREE.tile)), float(p.get("patch", 0.0)))
    return Price(float(p["input"]), float(p["cached"]), float(p["output"]), *usual)


@cache
def _table(path: Path | None) -> Mapping[str, Price]:
    try:
        text = (
            path.read_text(encoding="utf-8")
            if path
            else (files("anomreason.vlm") / "prices.toml").read_text(encoding="utf-8")
        )
        models = tomllib.loads(text)["models"]
        return {name: _price(p) for name, p in models.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise UsageError(
            f"cannot read prices from {str(path)!r} ({e!r}); it must look like\n"
            '[models."my-model"]\ninput = 1.0\ncached = 0.5\noutput = 4.0   # US dollars per million tokens'
        ) from e


def price_of(model: str, prices: Path | None = None) -> Price | None:
    """A model's price, or None when it is not known; models in this process are free.

    A dated name (`gpt-4o-2024-08-06`) and a provider's prefix (`openai/gpt-4o`) find the plain name's price.
    Raises UsageError when the price file cannot be read.
    """
    table = _table(prices)
    if runs_here(model) or model.startswith("sim:"):
        return FREE
    plain = re.sub(r"-20\d\d-?\d\d-?\d\d$", "", model)
    for name in (model, plain, plain.rpartition("/")[2]):
        if name in table:
            return table[name]
    return None


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt at a model call."""

    image: str
    role: str
    step: str
    object: str | None
    sample: int
    attempt: int
    """1 for the first time this request was sent, counting every retry and re-ask."""
    outcome: str
    """ok, length, refused, unparsable, rate_limit, server, timeout, connection, rejected or adjusted."""
    model: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost: float | None
    """US dollars; None when the price is not known."""
    seconds: float
    started: float
    """Seconds since 1970."""
    key: str | None
    """Key of the reply in responses.sqlite; None when there was no reply."""

    @property
    def usage(self) -> Usage:
        return Usage(calls=1, **{name: getattr(self, name) for name in _USED})


class Ledger:
    """Records calls and sums their usage. `path` None keeps only the sum."""

    def __init__(self, path: Path | None = None, price: Price | None = None) -> None:
        self.price = price
        self.total = Usage(cost=0.0 if price else None)
        if path is not None:
            for call in _calls(path):
                self.total += call.usage
        self._file = Appender(path) if path is not None else None

    def priced(self, usage: Usage) -> Usage:
        """The usage with its cost, where the price is known."""
        return usage if self.price is None else usage.model_copy(update={"cost": self.price.cost(usage)})

    def record(self, call: Call) -> None:
        self.total += call.usage
        if self._file is not None:
            self._file.append(json.dumps(asdict(call), ensure_ascii=False))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def read_calls(run: Path) -> Iterator[Call]:
    """The calls of a run folder, in the order in which they ended; none when there is no `calls.jsonl`."""
    return _calls(run / "calls.jsonl")


def _calls(file: Path) -> Iterator[Call]:
    for number, line in read_lines(file, appended=True):
        try:
            yield Call(**line)
        except TypeError as error:
            raise UsageError(f"{file}, line {number}: not a call ({error}); repair or remove the line") from None


def image_tokens(width: int, height: int) -> int:
    """Tokens of an image by the rule for gpt-4o in high detail, for models whose own rule is not known."""
    return FREE.image_tokens(width, height)


def worst_case(request: Request, price: Price | None = None) -> Usage:
    """Upper bound of a request's tokens: one per byte of text, the larger of two rules for images, the whole cap."""
    texts = [p for p in request.parts if isinstance(p, str)] + [t for turn in request.turns for t in turn]
    text = sum(len(t.encode()) for t in texts) + len(json.dumps(request.schema))
    images = [p for p in request.parts if isinstance(p, Encoded)]
    rule = (price or FREE).image_tokens
    shown = sum(max(rule(p.width, p.height), math.ceil(p.width * p.height / 700)) for p in images)
    return Usage(prompt_tokens=text + shown + 64, completion_tokens=request.sampling.max_tokens)


class Budget:
    """A cap on tokens or money. It reserves the worst case of a call before the call is sent, so the cap holds."""

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
        self._spent = ledger.total
        self._reserved: dict[int, Usage] = {}
        self._tickets = itertools.count()
        self._changed = asyncio.Event()
        self.reached = False

    async def reserve(self, request: Request) -> int | None:
        """Reserve the call's worst case; waits while calls in flight may still release some of theirs.

        Returns a ticket for `settle`. Raises CallFailed("budget") when nothing is in flight and the call could still
        pass the cap.
        """
        if self._max_cost is None and self._max_tokens is None:
            return None
        worst = self._ledger.priced(worst_case(request, self._ledger.price))
        while not self._fits(worst):
            if self.reached or not self._reserved:
                self.reached = True
                self._changed.set()
                raise CallFailed("budget", self._message(worst))
            self._changed = asyncio.Event() if self._changed.is_set() else self._changed
            await self._changed.wait()
        ticket = next(self._tickets)
        self._reserved[ticket] = worst
        return ticket

    def settle(self, ticket: int | None, used: Usage | None) -> None:
        """End a call; `used` is None when we cannot know whether it was charged (a timeout)."""
        if ticket is not None:
            worst = self._reserved.pop(ticket)
            self._spent += worst if used is None else self._ledger.priced(used)
            self._changed.set()

    def _fits(self, worst: Usage) -> bool:
        held = self._spent + worst
        for usage in self._reserved.values():
            held += usage
        too_dear = self._max_cost is not None and (held.cost or 0.0) > self._max_cost
        too_many = self._max_tokens is not None and held.tokens > self._max_tokens
        return not (too_dear or too_many)

    def _message(self, worst: Usage) -> str:
        """Names the cap that would allow one more call."""
        spent, cost = self._spent, worst.cost or 0.0
        paid = spent.cost or 0.0
        if self._max_cost is not None and paid + cost > self._max_cost:
            return (
                f"one more call could cost up to ${cost:.4f}, and ${paid:.4f} of --max-cost {self._max_cost:g} are "
                f"spent; it takes at least {paid + cost:.4f} to go on"
            )
        return (
            f"one more call could use up to {worst.tokens:,} tokens, and {spent.tokens:,} of --max-tokens "
            f"{self._max_tokens} are used; it takes at least {spent.tokens + worst.tokens} to go on"
        )
