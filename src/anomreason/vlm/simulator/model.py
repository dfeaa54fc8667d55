"""A simulated vision-language model: a public fake that answers every role from a truth file.

It recognises an image by its pixels, never by words of the prompt. It errs at seeded rates that depend on the content
of a request and not on the order of requests.

    simulator = Simulator.from_file("simulator.json", SimulatorRates(misses=0.1, rate_limited=0.05), seed=1)
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from anomreason.anomaly import Usage
from anomreason.errors import EndpointError, UnreadableImage, UsageError
from anomreason.images import Encoded
from anomreason.vlm.ledger import image_tokens
from anomreason.vlm.probes import BOXES, CONTROL, SCHEMA, SHORT, WORD, right_answer
from anomreason.vlm.protocol import Finish, Part, Reply, Request
from anomreason.vlm.simulator.answers import LOOKING, STEPS, Content, Dice, Query, to_json
from anomreason.vlm.simulator.truth import NOTHING, SimulatorTruth

RETRY_AFTER = 0.05
"""Seconds that a simulated 429 asks for."""
FIRST_CAP = 2048
"""A reply drawn as truncated is whole when requested with a larger cap than this and than at first."""
PROBES = (CONTROL, BOXES, SCHEMA, WORD, SHORT)
"""Questions about images of ours, which every simulator knows."""
_CHATTER = "Thank you for the image. I went through it step by step, and this is what I have to say about it."


@dataclass(frozen=True)
class SimulatorRates:
    """How the simulated model errs. Shares 0..1; all zero: it knows the truth and always answers."""

    misses: float = 0.0
    """Share of the anomalies missed, each time one is looked for."""
    hallucinations: float = 0.0
    """Share of the looks at an object (or at the whole image) that report an anomaly that is not there."""
    source_recall: float = 1.0
    """Share of the AI images judged as such, among those about which the model is not unsure."""
    false_alarms: float = 0.0
    """Share of the photographs judged AI-generated, among those about which the model is not unsure."""
    unsure: float = 0.0
    """Share of the images whose source the model cannot tell."""
    malformed: float = 0.0
    """Share of the replies that are broken JSON, lack a field, hold a number out of range, are prose, or are empty."""
    truncated: float = 0.0
    refused: float = 0.0
    rate_limited: float = 0.0
    """Share of the attempts that end as 429. As with 500s and hangs, another attempt is drawn anew."""
    server_errors: float = 0.0
    hangs: float = 0.0
    latency: float = 0.0
    """Seconds until an answer."""
    logprobs: bool = True
    """Whether the answer to the source question comes with log-probabilities, when they are asked for."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not (0 <= value < math.inf) or (value > 1 and each.name != "latency"):
                raise UsageError(f"{each.name}={value!r} is not a share of 0..1 (latency: seconds, 0 or more)")
        for group in (("malformed", "truncated", "refused"), ("rate_limited", "server_errors", "hangs")):
            if sum(getattr(self, name) for name in group) > 1:
                raise UsageError(f"{', '.join(group)} exclude each other; make their sum at most 1")


class Simulator:
    """A VLM that knows the truth about some images and errs at given rates."""

    bounds_pixels = False

    def __init__(self, truth: SimulatorTruth, rates: SimulatorRates = SimulatorRates(), seed: int = 0) -> None:
        self.name = f"sim:{truth.name}"
        self.rates = rates
        self.outcomes: Counter[str] = Counter()
        """What became of each request: ok, malformed, truncated, refused, rate_limit, server, hang or rejected."""
        self.steps: Counter[str] = Counter()
        """Requests by 'Role/step'."""
        self._truth = truth
        self._seed = seed
        self._names: dict[str, str] = {}  # of recognised images, by SHA-256
        self._answered: set[bytes] = set()
        self._attempts: Counter[bytes] = Counter()
        self._first_caps: dict[bytes, int] = {}
        self._recognizing = threading.Lock()

    @classmethod
    def from_file(cls, path: str | Path, rates: SimulatorRates = SimulatorRates(), seed: int = 0) -> Simulator:
        """Raises UsageError naming file, image and field, or two images that cannot be told apart."""
        return cls(SimulatorTruth.read(path), rates, seed)

    async def ask(self, request: Request) -> Reply:
        """One attempt; raises EndpointError as a server would answer."""
        self.steps[f"{request.tag.role}/{request.tag.step}"] += 1
        shown = next((part for part in request.parts if isinstance(part, Encoded)), None)
        try:
            step = _step(request)
            image = await self.recognize(shown) if shown and step not in PROBES else None
        except EndpointError:
            self.outcomes["rejected"] += 1
            raise
        if step in LOOKING and image is None:
            self.outcomes["rejected"] += 1
            raise EndpointError("rejected", f"step {step!r} needs the image, but the request shows none")
        content = _content(request)
        dice = Dice(self._seed, content)
        await self._fail_sometimes(content, dice)
        query = Query(
            tag=request.tag,
            text="\n".join(part for part in request.parts if isinstance(part, str)),
            truth=self._truth.image(image) if image and step in LOOKING else NOTHING,
            dice=dice,
            misses=self.rates.misses,
            hallucinations=self.rates.hallucinations,
            schema=request.schema or {},
        )
        chances: dict[str, float] = {}
        if step == "source" and image:
            chances = _source_chances(query, self.rates, Dice(self._seed, image.encode()))
            query = replace(query, word=_drawn(chances, dice, request.sampling.temperature))
        cap = request.sampling.max_tokens
        first_cap = self._first_caps.setdefault(content, cap) if self.rates.truncated else cap
        said = right_answer(request) if step in PROBES else STEPS[step](query)
        if step == WORD and isinstance(said, str):
            chances = _word_chances(said, dice)
        outcome, text, finish = self._written(said, dice, cap, max(FIRST_CAP, first_cap))
        self.outcomes[outcome] += 1
        parts = _parts(request)
        prefix, cached = self._cached(parts)
        await asyncio.sleep(self.rates.latency)
        self._answered.add(prefix)
        return Reply(
            text=text,
            finish=finish,
            usage=Usage(
                calls=1,
                prompt_tokens=_tokens_of([*parts, *(text for turn in request.turns for text in turn)]),
                cached_tokens=cached,
                completion_tokens=cap if finish == "length" else tokens(text),
            ),
            model=self.name,
            logprobs={word: math.log(chance) for word, chance in chances.items()}
            if request.sampling.logprobs and self.rates.logprobs and text in chances
            else {},
        )

    async def close(self) -> None:
        """Nothing is held open."""

    async def recognize(self, image: Encoded) -> str:
        """The truth's name for an image. Raises EndpointError for an unknown one."""
        if image.sha256 not in self._names:
            await asyncio.to_thread(self._recognize, image)
        return self._names[image.sha256]

    def _recognize(self, image: Encoded) -> None:
        with self._recognizing:  # calls about one image come together: one does the work
            if image.sha256 in self._names:
                return
            try:
                name = self._truth.recognize(image.data)
            except UnreadableImage as error:
                raise EndpointError("rejected", f"the image cannot be used: {error}") from error
            if name is None:
                unknown = f"the image (sha256 {image.sha256[:12]}) is not in {self.name}; add it there"
                raise EndpointError("rejected", unknown)
            self._names[image.sha256] = name

    def _cached(self, parts: Sequence[Part]) -> tuple[bytes, int]:
        """What a provider can cache, as a key (the schema and all up to the first image), and its cached tokens."""
        end = next((i + 1 for i, part in enumerate(parts) if isinstance(part, Encoded)), None)
        prefix, size = _digest(parts[:end]), _tokens_of(parts[:end])
        return prefix, size // 128 * 128 if size >= 1024 and prefix in self._answered else 0

    async def _fail_sometimes(self, content: bytes, dice: Dice) -> None:
        rates = self.rates
        if not (rates.rate_limited or rates.server_errors or rates.hangs):
            return
        self._attempts[content] += 1
        drawn = dice.chance("attempt", self._attempts[content])
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

    def _written(self, content: Content, dice: Dice, cap: int, cut_up_to: int) -> tuple[str, str, Finish]:
        """The outcome's name, the text as sent, and how it ends."""
        rates, drawn = self.rates, dice.chance("reply")
        if drawn < rates.refused:
            return "refused", "I'm sorry, but I can't help with that.", "refused"
        text = _dressed(content, dice)
        if drawn >= 1 - rates.truncated and cap <= cut_up_to:
            return "truncated", text[: min(len(text) * 2 // 3, 4 * cap)], "length"
        malformed = drawn < rates.refused + rates.malformed
        text = _spoilt(content, dice) if malformed else text
        if tokens(text) > cap:
            return "truncated", text[: 4 * cap], "length"
        return "malformed" if malformed else "ok", text, "stop"


def tokens(text: str) -> int:
    """A quarter of the characters; a single common word is one token."""
    return 1 if text.isalpha() and len(text) <= 12 else math.ceil(len(text) / 4)


def _step(request: Request) -> str:
    step = request.tag.step or "single"
    if step in STEPS or step in PROBES:
        return step
    properties = (request.schema or {}).get("properties")
    if isinstance(properties, Mapping) and "anomalies" in properties:
        return "single"
    raise EndpointError("rejected", f"unknown step {step!r}; one of {', '.join(STEPS)}, or a schema")


def _parts(request: Request) -> list[Part]:
    """Schema and user message."""
    return [json.dumps(request.schema, sort_keys=True) if request.schema is not None else "", *request.parts]


def _content(request: Request) -> bytes:
    """What the draws depend on: the words and images. Not the image's path, the cap, nor the schema, which a client
    may have to change for its server."""
    tag = request.tag
    turns = (text for turn in request.turns for text in turn)
    return _digest([tag.role, tag.step, tag.object or "", str(tag.sample), *request.parts, *turns])


def _digest(parts: Iterable[Part]) -> bytes:
    texts = (f"\x1e{part.sha256}" if isinstance(part, Encoded) else part for part in parts)
    return hashlib.blake2b("\x1f".join(texts).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _tokens_of(parts: Sequence[Part]) -> int:
    return sum(image_tokens(p.width, p.height) if isinstance(p, Encoded) else tokens(p) for p in parts)


def _dressed(content: Content, dice: Dice) -> str:
    """As models write: mostly bare JSON, sometimes fenced, sometimes after a sentence."""
    if isinstance(content, str):
        return content
    text, style = to_json(content), dice.chance("style")
    if style > 0.8:
        text = f"```json\n{text}\n```"
    return f"{_CHATTER}\n\n{text}" if 0.7 < style <= 0.9 else text


def _spoilt(content: Content, dice: Dice) -> str:
    """The reply, unreadable in one of five ways; free text is lost altogether."""
    if isinstance(content, str):
        return ""
    text = to_json(content)
    misnamed = text.replace('"', '"my ', 1)  # the first field is there in every form
    outside = re.sub(r'("(?:severity|score)": )[\d.]+', r"\g<1>150", text)
    ways = ["", _CHATTER, text[: len(text) * 2 // 3], misnamed, outside if outside != text else misnamed]
    return dice.pick(ways, "spoilt")


def _word_chances(word: str, dice: Dice) -> dict[str, float]:
    """Probabilities of yes and no; the given one is the likelier."""
    certain = 0.85 + 0.1 * dice.chance("certain")
    return {answer: certain if answer == word else 1 - certain for answer in ("yes", "no")}


def _source_chances(query: Query, rates: SimulatorRates, dice: Dice) -> dict[str, float]:
    """The simulated model's probabilities of its three answers to the source question.

    dice: of the image alone, so that every way of asking about an image meets the same opinion. The likeliest answer
    is the wrong one at the given rates.
    """
    yes, no = ("yes", "no") if re.search(r"\byes\b", query.text, re.I) else ("generated", "photograph")
    truth = query.truth.generated
    unsure = 0.5 + 0.2 * dice.chance("certain") if truth is None or dice.chance("unsure") < rates.unsure else 0.02
    rate = 0.5 if truth is None else rates.source_recall if truth else rates.false_alarms
    sure = 0.5 + 0.49 * dice.chance("sure")  # P(AI) or P(photograph), given that it is one of the two
    generated = sure if dice.chance("judged") < rate else 1 - sure
    return {yes: generated * (1 - unsure), no: (1 - generated) * (1 - unsure), "unsure": unsure}


def _drawn(chances: Mapping[str, float], dice: Dice, temperature: float) -> str:
    """The likeliest word at temperature 0, else one drawn by its chance."""
    if temperature == 0:
        return max(chances, key=lambda word: chances[word])
    left = dice.chance("word")
    for word, chance in chances.items():
        left -= chance
        if left < 0:
            return word
    return next(iter(chances))
