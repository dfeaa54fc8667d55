"""What a model and its server can do, found out with a few small questions whose answers are known.

    found = await check(set_up("qwen2.5-vl", DetectOptions(base_urls=("http://127.0.0.1:8000/v1",))))
    print(found.advice)

It answers, before a run of thousands of images, what would otherwise show in its failures: whether the model sees
images, how it writes boxes, what the server refuses, how fast it is, and what an image costs under each schedule.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from statistics import mean, median
from typing import Literal, get_args

from pydantic import Field

from anomreason.agent.boxes import AUTO
from anomreason.agent.observer import (
    TIE,
    WELL_PLACED,
    best_convention,
    box_fit,
    box_fits,
    boxes_in,
    counts_image,
    same_model,
    sees,
)
from anomreason.agent.pipeline import Schedule
from anomreason.anomaly import Record, Usage
from anomreason.detector import DetectorSetup
from anomreason.errors import CallFailed, EndpointError, ParseError, UsageError
from anomreason.planning import USUAL_OBJECTS, estimate
from anomreason.textform import without_thinking
from anomreason.vlm.calling import Caller, Meter, Patience
from anomreason.vlm.opening import open_vlm
from anomreason.vlm.probes import (
    boxes_request,
    control_request,
    schema_request,
    short_request,
    word_request,
)
from anomreason.vlm.protocol import VLM, Reply, Request, VLMOptions, runs_here

AT_ONCE = 8
"""Short calls that are sent together."""
_TYPICAL = (1024, 1024)
"""Size of the image whose cost is told, pixels."""

Thinking = Literal["none", "aloud", "hidden"]
SchemaUse = Literal["kept", "ignored", "refused"]


class ScheduleCost(Record):
    """What an image of 1024x1024 with a usual number of objects takes under one schedule."""

    calls: int
    tokens: int
    dollars: float | None
    """None when the model's price is not known."""


class ModelCheck(Record):
    """What was found. None stands for what could not be found out."""

    model: str
    answers_as: str | None
    """The name that the model gives itself; None when it never answered."""
    failed: dict[str, str] = Field(default_factory=dict)
    """By question: why it got no answer."""
    sees: bool | None = None
    """Whether the model gets to see images."""
    schemas: SchemaUse | None = None
    logprobs: bool | None = None
    counts_tokens: bool | None = None
    boxes: str | None = None
    """The convention under which its boxes lie where they should; None when there is none."""
    boxes_unaided: bool | None = None
    """Whether `--boxes auto` reads them so: few boxes in a small image do not always tell."""
    thinking: Thinking | None = None
    at_once: float | None = None
    """How many of `AT_ONCE` calls sent together were as if answered at the same time."""
    seconds: float | None = None
    """Duration of a call with an image."""
    tokens_a_second: float | None = None
    """Of the reply."""
    left_out: tuple[str, ...] = ()
    """What the server said it refuses, in its words."""
    costs: dict[str, ScheduleCost] = Field(default_factory=dict)
    """By schedule."""
    used: Usage = Usage()
    """What the check itself took."""
    advice: tuple[str, ...] = ()
    """Options to use, or what to do, in sentences."""

    @property
    def usable(self) -> bool:
        """Whether images can be asked about at all."""
        return self.answers_as is not None and self.sees is not False


@dataclass
class _Listening:
    """A VLM that notes how long its model takes and what its server refuses."""

    vlm: VLM
    seconds: dict[str, list[float]] = field(default_factory=dict)
    """By step: of the calls that were answered."""
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name, self.bounds_pixels = self.vlm.name, self.vlm.bounds_pixels

    async def ask(self, request: Request) -> Reply:
        begun = time.monotonic()
        try:
            reply = await self.vlm.ask(request)
        except EndpointError as e:
            if e.kind == "adjusted":
                self.refused.append(str(e))
            raise
        self.seconds.setdefault(request.tag.step, []).append(time.monotonic() - begun)
        return reply

    async def close(self) -> None:
        await self.vlm.close()


async def check(setup: DetectorSetup) -> ModelCheck:
    """Ask the questions, about 25 short calls.

    Raises UsageError for a model that cannot be opened, and for a detector that was trained on one question only.
    """
    options = setup.options
    if setup.card is not None:
        raise UsageError(f"{setup.model} was trained on one question only, so there is nothing to find out; use detect")
    access = VLMOptions(options.base_urls, options.timeout, AT_ONCE, options.device)
    access = replace(access, api_key_env=options.api_key_env, dtype=options.dtype)
    heard = _Listening(setup.vlm or open_vlm(setup.model, access))
    timeout = None if runs_here(setup.model) else options.timeout
    patience = Patience(1, timeout, max(8192, options.max_reply_tokens), options.patience)
    caller = Caller(heard, in_flight=AT_ONCE, patience=patience)
    try:
        return await _Check(setup, caller, heard).run()
    finally:
        if setup.vlm is None:
            await heard.close()


class _Check:
    """One check at work."""

    def __init__(self, setup: DetectorSetup, caller: Caller, heard: _Listening) -> None:
        self._setup, self._caller, self._heard = setup, caller, heard
        self._meter = Meter()
        self._failed: dict[str, str] = {}
        self._replies: list[Reply] = []
        self._cap = setup.options.max_reply_tokens

    async def run(self) -> ModelCheck:
        look = await self._ask("an image", control_request(self._cap))
        if look is None:
            return self._result(None)
        form = await self._ask("a schema", schema_request(self._cap))
        word = await self._ask("log-probabilities", word_request(self._cap))
        boxes = await self._ask("boxes", boxes_request(self._cap))
        return self._result(
            look,
            sees=_seen(look),
            schemas=None if form is None else self._schemas(form),
            logprobs=None if word is None else len(word.logprobs) > 1,
            counts_tokens=not look.usage.estimated,
            thinking=_thinking(self._replies),
            at_once=await self._at_once(),
            **({} if boxes is None else self._boxes(boxes)),
        )

    async def _ask(self, what: str, request: Request) -> Reply | None:
        """The reply, whatever it says; None when there is none."""
        try:
            reply = await self._caller.call(request, lambda reply: reply, Meter())
        except CallFailed as e:
            self._failed[what] = str(e)
            return None
        self._meter.usage += reply.usage
        self._replies.append(reply)
        return reply

    def _schemas(self, reply: Reply) -> SchemaUse:
        if isinstance(reply.parsed, dict) and "city" in reply.parsed:
            return "kept"
        return "refused" if any("response_format" in refused for refused in self._heard.refused) else "ignored"

    def _boxes(self, reply: Reply) -> dict[str, object]:
        fits = box_fits(reply, self._setup.model)
        if not fits:
            return {}
        if (best := best_convention(fits)) is None:
            return {"boxes": None, "boxes_unaided": False}
        unaided = box_fit(boxes_in(reply), AUTO, (self._setup.model, reply.model))
        return {"boxes": best, "boxes_unaided": unaided >= max(WELL_PLACED, max(fits.values()) - TIE)}

    async def _at_once(self) -> float | None:
        """From the time of single calls and that of `AT_ONCE` together."""
        for number in (11, 12):
            await self._ask("a short question", short_request(number, self._cap))
        single = list(self._heard.seconds.get("probe-short", []))
        if not single:
            return None
        # The fastest of two rounds: what else the machine does slows one down, nothing speeds one up.
        rounds = []
        for first in (20, 20 + AT_ONCE):
            begun = time.monotonic()
            asked = [self._ask("several calls", short_request(first + n, self._cap)) for n in range(AT_ONCE)]
            answered = [reply for reply in await asyncio.gather(*asked) if reply]
            rounds.append(time.monotonic() - begun)
            if len(answered) < AT_ONCE:
                return None
        return max(1.0, min(AT_ONCE, AT_ONCE * median(single) / max(min(rounds), 1e-9)))

    def _result(self, look: Reply | None, **found: object) -> ModelCheck:
        seconds = self._heard.seconds.get("control", [])
        longest = max(self._replies, key=lambda reply: reply.usage.completion_tokens, default=None)
        speed = None
        if longest is not None and not longest.usage.estimated and longest.usage.completion_tokens > 5:
            spent = sum(sum(times) for times in self._heard.seconds.values())
            speed = sum(reply.usage.completion_tokens for reply in self._replies) / max(spent, 1e-9)
        result = ModelCheck.model_validate(
            {
                "model": self._setup.model,
                "answers_as": look.model if look else None,
                "failed": self._failed,
                "seconds": mean(seconds) if seconds else None,
                "tokens_a_second": speed,
                "left_out": tuple(dict.fromkeys(self._heard.refused)),
                "costs": _costs(self._setup),
                "used": self._meter.usage,
                **found,
            }
        )
        return result.model_copy(update={"advice": tuple(_advice(result, self._setup))})


def _seen(look: Reply) -> bool | None:
    seen = None
    with suppress(ParseError):
        seen = sees(look.text)
    # A server that counts an image's tokens passes it on, whatever a weak model says of it.
    return True if seen is not True and counts_image(control_request(1), look) else seen


def _thinking(replies: Sequence[Reply]) -> Thinking:
    for reply in replies:
        with suppress(ParseError):
            answer = without_thinking(reply.text)
            if len(answer) < len(reply.text.strip()) and "think" in reply.text.lower():
                return "aloud"
    counted = [reply for reply in replies if not reply.usage.estimated]
    if any(reply.usage.completion_tokens > len(reply.text) + 40 for reply in counted):
        return "hidden"
    return "none"


def _costs(setup: DetectorSetup) -> dict[str, ScheduleCost]:
    found = {}
    for schedule in get_args(Schedule):
        one = replace(setup, options=replace(setup.options, schedule=schedule))
        usage = estimate(one, [_TYPICAL], 1, min(USUAL_OBJECTS, setup.options.max_objects)).usage
        found[schedule] = ScheduleCost(calls=usage.calls, tokens=usage.tokens, dollars=usage.cost)
    return found


def _advice(found: ModelCheck, setup: DetectorSetup) -> list[str]:
    if found.answers_as is None:
        return []
    advice = []
    simulated = setup.model.startswith("sim:")  # its name is that of a file, and it does not wait for anything
    if found.sees is False:
        advice.append(
            "Do not use it for images: it does not get to see them. Serve a vision model with its image part (--mmproj "
            "in llama.cpp)."
        )
    if not simulated and not same_model(setup.model, found.answers_as):
        advice.append(f"Another model answers, {found.answers_as}: check --model.")
    if found.boxes and not found.boxes_unaided:
        advice.append(f"--boxes {found.boxes}, since few boxes alone do not tell how it writes them.")
    if found.boxes is None and found.boxes_unaided is False:
        advice.append("Its boxes lie wrong under every convention: anomalies will be named without a usable place.")
    if found.at_once is not None and found.at_once < 1.5 and not (simulated or runs_here(setup.model)):
        advice.append("--in-flight 1, since it seems to answer one call at a time; more calls at once only wait.")
    if found.thinking != "none" and found.thinking is not None and setup.options.max_reply_tokens < 8192:
        advice.append(
            "--max-reply-tokens 8192, since it thinks before it answers; without thinking it is faster and cheaper."
        )
    if found.schemas in ("ignored", "refused"):
        advice.append(
            "Nothing to do about schemas: replies are read as they come, and asked for again where unreadable."
        )
    if found.counts_tokens is False:
        advice.append("--max-tokens counts estimates, since the server counts none.")
    if setup.price is None:
        advice.append("--max-tokens instead of --max-cost, or --prices FILE, since its price is not known here.")
    if found.logprobs is False:
        advice.append(
            "--source-samples 10 with --judge-source: P(AI-generated) needs log-probabilities, or several answers."
        )
    return advice
