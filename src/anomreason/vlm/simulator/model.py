"""A simulated vision-language model: a public fake that answers every role from a truth file.

It knows a picture by its pixels, never by words of the prompt, and errs at seeded rates that depend on what was asked
and not on the order of calls. What it says is in `simulator_answers`, what it knows in `simulator_truth`.

    simulator = Simulator.from_file("simulator.json", SimulatorRates(misses=0.1, rate_limited=0.05), seed=1)
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from anomreason.anomaly import Usage
from anomreason.errors import EndpointError, UnreadableImage, UsageError
from anomreason.images import Encoded
from anomreason.vlm.ledger import image_tokens
from anomreason.vlm.protocol import Finish, Reply, Request, Sampling, Tag
from anomreason.vlm.simulator import words
from anomreason.vlm.simulator.answers import STEPS, Answer, Asked, Draw, Step, to_json
from anomreason.vlm.simulator.truth import NOTHING, Truth

K = TypeVar("K")
V = TypeVar("V")

_SAMPLING = Sampling()
RETRY_AFTER = 0.05
"""Seconds that a simulated 429 asks for."""
FIRST_CAP = 2048
"""A reply drawn as truncated is whole when asked for with a larger cap than this and than at first."""


@dataclass(frozen=True)
class SimulatorRates:
    """How the simulated model errs. Shares 0..1; all zero: it knows the truth and always answers."""

    misses: float = 0.0
    """Of the anomalies, each time one is looked for."""
    hallucinations: float = 0.0
    """Of the looks at an object (or at the whole picture) that find something that is not there."""
    malformed: float = 0.0
    """Of the replies: broken JSON, a missing field, a number out of range, prose, or nothing at all."""
    truncated: float = 0.0
    refused: float = 0.0
    rate_limited: float = 0.0
    """Of the attempts that end as 429. As with 500s and hangs, another attempt is drawn anew."""
    server_errors: float = 0.0
    hangs: float = 0.0
    latency: float = 0.0
    """Seconds until an answer."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not (0 <= value < math.inf) or (value > 1 and each.name != "latency"):
                raise UsageError(f"{each.name}={value!r} is not a share of 0..1 (latency: seconds, 0 or more)")
        for group in (("malformed", "truncated", "refused"), ("rate_limited", "server_errors", "hangs")):
            if sum(getattr(self, name) for name in group) > 1:
                raise UsageError(f"{', '.join(group)} exclude each other; make their sum at most 1")


class Recent(OrderedDict[K, V], Generic[K, V]):
    """A dict of the latest entries."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def remember(self, key: K, value: V) -> V:
        self[key] = value
        self.move_to_end(key)
        if len(self) > self._limit:
            self.popitem(last=False)
        return value


@dataclass(frozen=True, slots=True)
class Sight:
    """An image as the simulator saw it."""

    sha256: str
    width: int
    height: int
    picture: str | None
    """The truth's name for it; None for crops, which are not looked up."""

    @property
    def tokens(self) -> int:
        return image_tokens(self.width, self.height)


@dataclass(frozen=True)
class Question:
    """A request whose images were seen."""

    parts: tuple[str | Sight, ...]
    tag: Tag
    schema: Mapping[str, Any] | None = None
    sampling: Sampling = _SAMPLING
    turns: tuple[tuple[str, str], ...] = ()

    @cached_property
    def schema_text(self) -> str:
        return json.dumps(self.schema, sort_keys=True) if self.schema is not None else ""

    @cached_property
    def content(self) -> bytes:
        """What the draws depend on: what is said and shown. Not the image's path, the cap, nor the schema, which a
        client may have to change for its server."""
        who = (self.tag.role, self.tag.step, self.tag.object or "", str(self.tag.sample))
        turns = (text for turn in self.turns for text in turn)
        return _digest([*who, *_plain(self.parts), *turns])

    @property
    def picture(self) -> str | None:
        """The picture that the first image shows; None when there is no image."""
        return next((part.picture for part in self.parts if isinstance(part, Sight)), None)

    @property
    def prompt_tokens(self) -> int:
        return _tokens_of(self.parts) + tokens(self.schema_text) + sum(tokens(a) + tokens(b) for a, b in self.turns)

    def prefix(self) -> tuple[bytes, int]:
        """What a provider can cache, as a key, and its tokens: the schema and all up to the first image."""
        shown = [i for i, part in enumerate(self.parts) if isinstance(part, Sight)]
        parts = self.parts[: shown[0] + 1 if shown else None]
        return _digest([self.schema_text, *_plain(parts)]), tokens(self.schema_text) + _tokens_of(parts)


def _digest(texts: Iterable[str]) -> bytes:
    return hashlib.blake2b("\x1f".join(texts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _plain(parts: Iterable[str | Sight]) -> list[str]:
    return [f"\x1e{part.sha256}" if isinstance(part, Sight) else part for part in parts]


def _tokens_of(parts: Iterable[str | Sight]) -> int:
    return sum(part.tokens if isinstance(part, Sight) else tokens(part) for part in parts)


def tokens(text: str) -> int:
    """A quarter of the characters; a single common word is one token."""
    return 1 if text.isalpha() and len(text) <= 12 else math.ceil(len(text) / 4)


class Simulator:
    """A VLM that knows the truth of some pictures and errs at given rates."""

    bounds_pixels = False

    def __init__(self, truth: Truth, rates: SimulatorRates = SimulatorRates(), seed: int = 0) -> None:
        self.name = f"sim:{truth.name}"
        self.rates = rates
        self.outcomes: Counter[str] = Counter()
        """What became of each request: ok, malformed, truncated, refused, rate_limit, server, hang or rejected."""
        self.steps: Counter[str] = Counter()
        """Requests by 'Role/step'."""
        self._truth = truth
        self._seed = seed
        self._sights: Recent[tuple[str, bool], Sight] = Recent(4096)
        self._answered: Recent[bytes, None] = Recent(4096)
        self._attempts: Recent[bytes, int] = Recent(200_000)
        self._first_caps: Recent[bytes, int] = Recent(200_000)
        self._looking = threading.Lock()

    @classmethod
    def from_file(cls, path: str | Path, rates: SimulatorRates = SimulatorRates(), seed: int = 0) -> Simulator:
        """Raises UsageError naming file, picture and field, or two pictures that cannot be told apart."""
        return cls(Truth.from_file(path), rates, seed)

    async def ask(self, request: Request) -> Reply:
        """One attempt; raises EndpointError like a server would answer."""
        parts: list[str | Sight] = []
        for part in request.parts:
            first = not any(isinstance(seen, Sight) for seen in parts)
            parts.append(part if isinstance(part, str) else await self.see(part, first))
        return await self.answer(Question(tuple(parts), request.tag, request.schema, request.sampling, request.turns))

    async def close(self) -> None:
        """Nothing is held open."""

    async def see(self, image: Encoded, first: bool) -> Sight:
        """Look at an image, once; the first of a request is looked up. Raises EndpointError for an unknown one."""
        sight = self._sights.get((image.sha256, first))
        if sight is None:
            try:
                sight = await asyncio.to_thread(self._look, image, first)
            except EndpointError:
                self.outcomes["rejected"] += 1
                raise
        return sight

    def _look(self, image: Encoded, first: bool) -> Sight:
        with self._looking:  # calls about one picture come together: the others find it seen
            if sight := self._sights.get((image.sha256, first)):
                return sight
            try:
                name = self._truth.know(image.data) if first else None
            except UnreadableImage as error:
                raise EndpointError("rejected", f"the image cannot be used: {error}") from error
            if first and name is None:
                unknown = f"the picture (sha256 {image.sha256[:12]}) is not in {self.name}; add it there"
                raise EndpointError("rejected", unknown)
            sight = Sight(image.sha256, image.width, image.height, name)
            return self._sights.remember((image.sha256, first), sight)

    def _rejected(self, message: str) -> EndpointError:
        self.outcomes["rejected"] += 1
        return EndpointError("rejected", message)

    async def answer(self, question: Question) -> Reply:
        """Answer what was seen. Raises EndpointError."""
        self.steps[f"{question.tag.role}/{question.tag.step}"] += 1
        step = self._step(question)
        draw = Draw(self._seed, question.content)
        await self._fail_sometimes(question, draw)
        answer = step.answer(self._asked(question, step, draw))
        outcome, text, finish = self._say(question, answer, draw)
        self.outcomes[outcome] += 1
        prefix, size = question.prefix()
        cached = size // 128 * 128 if size >= 1024 and prefix in self._answered else 0
        await asyncio.sleep(self.rates.latency)
        self._answered.remember(prefix, None)
        said = question.sampling.max_tokens if finish == "length" else tokens(text)
        used = Usage(calls=1, prompt_tokens=question.prompt_tokens, cached_tokens=cached, completion_tokens=said)
        judged = question.sampling.logprobs and step is STEPS["source"] and finish == "stop" and text
        return Reply(text, finish, used, self.name, _logprobs(text, draw) if judged else {})

    def _step(self, question: Question) -> Step:
        step = STEPS.get(question.tag.step or "single")
        properties = (question.schema or {}).get("properties")
        if step is None and isinstance(properties, Mapping) and "anomalies" in properties:
            step = STEPS["single"]
        if step is None:
            raise self._rejected(f"unknown step {question.tag.step!r}; one of {', '.join(STEPS)}, or a schema")
        if step.looks and question.picture is None:
            raise self._rejected(f"step {question.tag.step!r} needs the picture, but the request shows none")
        return step

    async def _fail_sometimes(self, question: Question, draw: Draw) -> None:
        rates = self.rates
        if not (rates.rate_limited or rates.server_errors or rates.hangs):
            return
        attempt = self._attempts.remember(question.content, self._attempts.get(question.content, 0) + 1)
        drawn = draw.chance("attempt", attempt)
        if drawn < rates.rate_limited:
            self.outcomes["rate_limit"] += 1
            raise EndpointError("rate_limit", "429: too many requests (simulated)", RETRY_AFTER)
        if drawn < rates.rate_limited + rates.server_errors:
            self.outcomes["server"] += 1
            await asyncio.sleep(rates.latency)
            raise EndpointError("server", "500: internal error (simulated)")
        if drawn < rates.rate_limited + rates.server_errors + rates.hangs:
            self.outcomes["hang"] += 1
            await asyncio.Event().wait()

    def _asked(self, question: Question, step: Step, draw: Draw) -> Asked:
        return Asked(
            tag=question.tag,
            text="\n".join(part for part in question.parts if isinstance(part, str)),
            truth=self._truth.picture(question.picture) if step.looks and question.picture else NOTHING,
            draw=draw,
            misses=self.rates.misses,
            hallucinations=self.rates.hallucinations,
            schema=question.schema or {},
        )

    def _say(self, question: Question, answer: Answer, draw: Draw) -> tuple[str, str, Finish]:
        """The outcome's name, the text as sent, and how it ends."""
        rates, drawn, cap = self.rates, draw.chance("reply"), question.sampling.max_tokens
        if drawn < rates.refused:
            return "refused", words.REFUSAL, "refused"
        text = _written(answer, draw)
        if drawn >= 1 - rates.truncated and cap <= max(FIRST_CAP, self._first_cap(question)):
            return "truncated", text[: min(len(text) * 2 // 3, 4 * cap)], "length"
        malformed = drawn < rates.refused + rates.malformed
        text = _spoilt(answer, draw) if malformed else text
        if tokens(text) > cap:
            return "truncated", text[: 4 * cap], "length"
        return "malformed" if malformed else "ok", text, "stop"

    def _first_cap(self, question: Question) -> int:
        known = self._first_caps.get(question.content)
        return known or self._first_caps.remember(question.content, question.sampling.max_tokens)


def _written(answer: Answer, draw: Draw) -> str:
    """As models write: mostly bare JSON, sometimes fenced, sometimes after a sentence."""
    if isinstance(answer, str):
        return answer
    text, style = to_json(answer), draw.chance("style")
    if style > 0.8:
        text = f"```json\n{text}\n```"
    return f"{draw.pick(words.CHATTER, 'chatter')}\n\n{text}" if 0.7 < style <= 0.9 else text


def _spoilt(answer: Answer, draw: Draw) -> str:
    """The answer, unreadable in one of five ways; free text is lost altogether."""
    way = draw.pick(("cut", "field", "range", "prose", "empty"), "spoilt")
    if isinstance(answer, str) or way == "empty":
        return ""
    if way == "prose":
        return words.NONSENSE
    text = to_json(answer)
    if way == "cut":
        return text[: len(text) * 2 // 3]
    lists = [value for value in answer.values() if isinstance(value, list) and value]
    if not lists:
        return to_json(dict(list(answer.items())[:-1]))
    item = dict(lists[0][0])
    number = next((key for key in ("severity", "score") if key in item), None)
    if way == "field":
        item.pop(next(iter(item)))
    else:
        item |= {number: 150} if number else {next(iter(item)): ""}
    return to_json({key: [item, *value[1:]] if value is lists[0] else value for key, value in answer.items()})


def _logprobs(word: str, draw: Draw) -> dict[str, float]:
    """Natural log-probabilities of the three answers; the given one is the likeliest."""
    certain = (0.5 if word == "unsure" else 0.85) + 0.1 * draw.chance("certain")
    others = [other for other in ("generated", "photograph", "unsure") if other != word]
    return {word: math.log(certain)} | {other: math.log((1 - certain) / 2) for other in others}
