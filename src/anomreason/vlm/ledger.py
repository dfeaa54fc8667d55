"""The ledger of model calls: tokens and cost, as the server counts them or as we estimate them.

`calls.jsonl` has one line per call, failed attempts included. Prices come from `prices.toml` (US dollars per million
tokens, dated) or a file of the same form.

    price_of("gpt-4o-2024-08-06").cost(Usage(prompt_tokens=1000, completion_tokens=100))    # 0.0035
"""

from __future__ import annotations

import json
import math
import re
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter

from anomreason.anomaly import Usage
from anomreason.errors import StorageError, UsageError
from anomreason.files import Appender, read_lines, read_record
from anomreason.images import Encoded
from anomreason.runs import WORKERS
from anomreason.vlm.protocol import Request, Tag, runs_here
from anomreason.vlm.rolled import CallsSum, read_sum, rolled_file, rolled_files, write_sum


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
    batch: float = 1.0
    """What a token costs in a batch, as a share of the price; 1 where no other price is known."""

    @property
    def in_batch(self) -> Price:
        """The price of a batch."""
        share = self.batch
        return replace(
            self, input=self.input * share, cached=self.cached * share, output=self.output * share, batch=1.0
        )

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


CALLS = "calls.jsonl"
_CLOCK = 3600.0
"""Seconds by which the clock may have been set back."""
FREE = Price(0.0, 0.0, 0.0)
_USED = ("prompt_tokens", "cached_tokens", "completion_tokens", "cost", "estimated")


def _price(p: Mapping[str, Any]) -> Price:
    image = (int(p.get("base", FREE.base)), int(p.get("tile", FREE.tile)), float(p.get("patch", 0.0)))
    return Price(float(p["input"]), float(p["cached"]), float(p["output"]), *image, float(p.get("batch", 1.0)))


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
    except OSError as e:
        raise UsageError(f"cannot read prices from {str(path)!r}: {e.strerror or e}; check the path") from e
    except (ValueError, KeyError, TypeError, AttributeError) as e:
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


Count = Annotated[int, Field(ge=0, le=10**12, strict=True)]


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt at a model call."""

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    image: str
    role: str
    step: str
    object: str | None
    sample: int
    attempt: int
    """1 for the first time this request was sent, counting every retry and re-ask."""
    outcome: str
    """ok, length, refused, unparsable, killed or unused, or the kind of an EndpointError."""
    model: str
    prompt_tokens: Count
    cached_tokens: Count
    completion_tokens: Count
    cost: Annotated[float, Field(ge=0, le=1e9, strict=True)] | None
    """US dollars; None when the price is not known."""
    seconds: Annotated[float, Field(ge=-1e9, le=1e9, strict=True)]
    started: Annotated[float, Field(ge=0, le=1e11, strict=True)]
    """Seconds since 1970."""
    key: str | None
    """Key of the reply in responses.sqlite; None when there was no reply."""
    estimated: bool = False
    """Whether any of its tokens were estimated."""

    def line(self) -> str:
        """Its line in `calls.jsonl`."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @property
    def moment(self) -> tuple[str | int | float | None, ...]:
        """What no two attempts share, known before it ends."""
        return self.image, self.step, self.object, self.sample, self.attempt, self.started

    @property
    def usage(self) -> Usage:
        return Usage(calls=1, **{name: getattr(self, name) for name in _USED})


_CALL = TypeAdapter(Call)
_CALL_KEYS = [f.name for f in fields(Call)]


class Ledger:
    """Records calls and sums their usage. `path` None keeps only the sum."""

    def __init__(self, path: Path | None = None, price: Price | None = None) -> None:
        self.price = price
        self.total = Usage(cost=0.0 if price else None)
        self.images: dict[str, Usage] = {}
        """What the calls recorded here used, by image; who reads an image's may take it out."""
        self.estimated = 0
        """Calls whose tokens were estimated."""
        self.in_file = 0
        """Calls in the file, without those that were rolled away."""
        if path is not None:
            self._rolled = self._count_rolled(path.parent)
            for call in _calls(path):
                self._add(call)
                self.in_file += 1
        self._file = Appender(path) if path is not None else None

    def _count_rolled(self, folder: Path) -> int:
        """Count the files that were rolled away; gives how many there ever were."""
        counted, files = read_sum(folder), rolled_files(folder)
        self.total += counted.usage
        self.estimated += counted.estimated
        uncounted = [(number, file) for number, file in files if number > counted.files]
        for _, file in uncounted:
            for call in _calls(file):
                self._add(call)
        count = max([counted.files, *(number for number, _ in uncounted)])
        if uncounted:
            write_sum(folder, CallsSum(files=count, usage=self.total, estimated=self.estimated))
        return count

    def roll(self) -> None:
        """Put the file aside and go on with an empty one, so that the next start has little to read.

        All calls stay counted, also when the process is killed meanwhile. Raises StorageError when it cannot be done.
        """
        assert self._file is not None
        path = self._file.path
        aside = rolled_file(path.parent, self._rolled + 1)
        if aside.exists():
            raise StorageError(
                f"cannot put {str(path)!r} aside, as {str(aside)!r} exists; the next start counts that one"
            )
        try:
            path.rename(aside)
            try:
                before, self._file = self._file, Appender(path)
            except OSError:
                aside.rename(path)
                raise
        except OSError as error:
            raise StorageError(f"cannot put {str(path)!r} aside: {error}; check the folder") from error
        before.close()
        self._rolled += 1
        self.in_file = 0
        write_sum(path.parent, CallsSum(files=self._rolled, usage=self.total, estimated=self.estimated))

    def priced(self, usage: Usage) -> Usage:
        """The usage with its cost, where the price is known."""
        return usage if self.price is None else usage.model_copy(update={"cost": self.price.cost(usage)})

    def _add(self, call: Call) -> None:
        self.total += call.usage
        self.estimated += call.estimated

    def record(self, call: Call) -> None:
        self._add(call)
        self.images[call.image] = self.images.get(call.image, Usage()) + call.usage
        if self._file is not None:
            self._file.append(call.line())
            self.in_file += 1

    def adopt(self, unanswered: Iterable[str]) -> None:
        """Enter calls that were in flight when an earlier process was killed, each as `record` writes it.

        Those that the ledger has already are left out.
        """
        if not (calls := [_in_flight(line) for line in unanswered]):
            return
        begun = min(call.started for call in calls)
        entered = {call.moment for call in calls_since(self._file.path.parent, begun)} if self._file else set()
        for call in calls:
            if call.moment not in entered:
                self.record(call)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _in_flight(line: str) -> Call:
    """A call that was noted before it was sent."""
    where = "responses.sqlite, a call that was in flight"
    try:
        return read_record(json.loads(line), _CALL.validate_python, lambda _: _CALL_KEYS, where, "a call")
    except (ValueError, TypeError):
        raise UsageError(f"{where}, cannot be read; move the file away, only replies are lost") from None


def read_calls(run: Path, parts: bool = True) -> Iterator[Call]:
    """The calls of a run folder, in the order in which they ended; none when there is no `calls.jsonl`.

    parts: also those of workers that are not taken in yet (see `vlm.parts`), but for what is there already.
    """
    for _, file in rolled_files(run):
        yield from _calls(file)
    yield from _calls(run / CALLS)
    if of_workers := sorted((run / WORKERS).glob(f"*/{CALLS}")) if parts else ():
        taken_in = set(map(hash, _calls(run / CALLS)))
        yield from (call for part in of_workers for call in _calls(part) if hash(call) not in taken_in)


def calls_since(folder: Path, moment: float) -> Iterator[Call]:
    """All calls that ended after a moment, seconds since 1970, and some that ended before, in no order.

    Files that hold older ones alone are left unread.
    """
    for file in (folder / CALLS, *(file for _, file in reversed(rolled_files(folder)))):
        first: Call | None = None
        for call in _calls(file):
            first = first or call
            yield call
        if first and first.started + first.seconds < moment - _CLOCK:
            return


def spent_in(run: Path) -> Usage:
    """What all calls of a run folder used so far."""
    return sum((call.usage for call in read_calls(run)), Usage())


def _calls(file: Path) -> Iterator[Call]:
    before: dict[str, Any] | None = None
    for number, line in read_lines(file, appended=True):
        if line != before:  # no two calls are the same, so a line that stands twice was doubled
            yield read_record(line, _CALL.validate_python, lambda _: _CALL_KEYS, f"{file}, line {number}", "a call")
        before = line


def image_tokens(width: int, height: int) -> int:
    """Tokens of an image by the rule for gpt-4o in high detail, for models whose own rule is not known."""
    return FREE.image_tokens(width, height)


def worst_case(request: Request, price: Price | None = None) -> Usage:
    """Upper bound of a request's tokens: half a token per ASCII character, one per byte of others, the whole cap.

    Of an image the larger of two rules counts.
    """
    rule = (price or FREE).image_tokens
    shown = sum(max(rule(p.width, p.height), math.ceil(p.width * p.height / 700)) for p in _images(request))
    text = sum((len(t) + 1) // 2 if t.isascii() else len(t.encode()) for t in _texts(request))
    return Usage(prompt_tokens=text + shown + 64, completion_tokens=request.sampling.max_tokens)


def completed(usage: Usage, request: Request, price: Price | None = None) -> Usage:
    """The usage with an estimate of the prompt's tokens where the server did not count them.

    A quarter of a token per ASCII character, one per other character, and the model's own rule for images, or the
    larger of two rules where that is not known.
    """
    if not usage.estimated or usage.prompt_tokens:
        return usage
    text = sum(len(t) / 4 if t.isascii() else len(t.encode()) / 2 for t in _texts(request))
    rule = price.image_tokens if price is not None and price != FREE else _larger_rule
    shown = sum(rule(p.width, p.height) for p in _images(request))
    return usage.model_copy(update={"prompt_tokens": math.ceil(text) + shown + 8})


def unanswered(request: Request, price: Price | None = None) -> Usage:
    """What a call counts whose answer never came, as it may have been charged: its prompt and the whole cap."""
    lost = Usage(calls=1, completion_tokens=request.sampling.max_tokens, estimated=True)
    return completed(lost, request, price)


def unused_call(tag: Tag, usage: Usage, model: str) -> Call:
    """A call whose answer came in a batch when its image had no use for it any more, as the ledger records it."""
    counted = {name: getattr(usage, name) for name in _USED}
    now, where = round(time.time(), 3), asdict(tag)
    return Call(**where, attempt=1, outcome="unused", model=model, **counted, seconds=0.0, started=now, key=None)


def _larger_rule(width: int, height: int) -> int:
    return max(FREE.image_tokens(width, height), math.ceil(width * height / 750))


def _texts(request: Request) -> list[str]:
    texts = [p for p in request.parts if isinstance(p, str)] + [t for turn in request.turns for t in turn]
    return [*texts, json.dumps(request.schema)] if request.schema else texts


def _images(request: Request) -> list[Encoded]:
    return [p for p in request.parts if isinstance(p, Encoded)]
