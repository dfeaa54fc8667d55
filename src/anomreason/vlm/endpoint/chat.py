"""What a request to a server looks like, and what its answer says: the same over HTTP and in a provider's batch.

Optional request options that a server rejects are left out from then on.

    chat = ChatFormat("gpt-4o", ("https://api.openai.com/v1",))
    sent = await chat.prepare(request)    # sent.body is the JSON to post
    reply = chat.read(ServerAnswer(200, {}, text, "the server"), sent)
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from anomreason.anomaly import Usage
from anomreason.errors import Charge, EndpointError
from anomreason.images import Encoded, packed
from anomreason.vlm.endpoint.answers import ServerAnswer, read_completion
from anomreason.vlm.endpoint.presets import left_out
from anomreason.vlm.protocol import Part, Reply, Request, Tag

CHUNK = 2**16
"""Bytes of a body that are sent or unpacked at a time."""

# Keywords that strict mode accepts (https://platform.openai.com/docs/guides/structured-outputs); others are left out.
_KEPT = {
    *("type", "enum", "const", "description", "pattern", "multipleOf", "minItems", "maxItems"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
}


def endpoint_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """`schema` as OpenAI's strict mode takes it: closed objects, every property required, no bounds on strings.

    Source: https://platform.openai.com/docs/guides/structured-outputs. The reader checks what is left out here.
    """
    # Strict mode allows no other key beside a $ref.
    strict = {k: v for k, v in schema.items() if k in _KEPT} if "$ref" not in schema else {"$ref": schema["$ref"]}
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            strict["anyOf"] = [endpoint_schema(s) for s in schema[choice]]
    if isinstance(schema.get("items"), Mapping):
        strict["items"] = endpoint_schema(schema["items"])
    if "$defs" in schema:
        strict["$defs"] = {name: endpoint_schema(s) for name, s in schema["$defs"].items()}
    if "properties" in schema or schema.get("type") == "object":
        properties = {name: endpoint_schema(s) for name, s in schema.get("properties", {}).items()}
        strict |= {"properties": properties, "required": list(properties), "additionalProperties": False}
    return strict


@dataclass(frozen=True, slots=True)
class SentRequest:
    """A request as it is sent."""

    request: Request
    """With its images fitted into what the server allows."""
    options: frozenset[str]
    """Optional parts of the body that it has."""
    notes: tuple[str, ...]
    """How the images were changed, in words."""


class ChatFormat:
    """The requests of one model's server and its answers; learns from complaints what the server does not take."""

    def __init__(self, model: str, urls: tuple[str, ...], in_flight: int = 0) -> None:
        """in_flight: calls at once, for what to do about an answer; 0 where that has no meaning."""
        self.model, self._in_flight = model, in_flight
        self.rejected = _RejectedOptions(left_out(urls))
        self.image_limit: int | None = None
        """Bytes of an image in base64 that the server takes, as far as it has complained of more."""
        self.one_image = False
        """Whether the server has complained of more than one image in a request."""
        self._schemas: dict[int, tuple[Mapping[str, Any], dict[str, Any]]] = {}

    async def prepare(self, request: Request) -> SentRequest:
        """The request as it is sent by what is known of the server so far."""
        options = self.rejected.sendable(request)
        fitted, notes = await self._fitted(request)
        return SentRequest(fitted, options, notes)

    def body(self, sent: SentRequest) -> RequestBody:
        """The JSON to post."""
        return RequestBody(sent.request, self._parameters(sent.request, sent.options))

    def read(self, answer: ServerAnswer, sent: SentRequest) -> Reply:
        """The reply in an answer; a refusal or a cut reply is a Reply with that finish. Raises EndpointError."""
        request = sent.request
        if not answer.fault:
            self.rejected.worked(request, sent.options)
            return replace(read_completion(answer, self.model), sent_notes=sent.notes)
        if answer.policy:
            used = Usage(calls=1, **asdict(answer.charge or Charge()))
            return Reply(text=answer.complaint, finish="refused", usage=used, model=self.model)
        if sum(isinstance(part, Encoded) for part in request.parts) > 1 and answer.takes_one_image:
            self.one_image = True
            raise EndpointError("adjusted", f"{answer.summary}; one image a request from now on")
        limit = answer.image_limit(max((len(p.data_url) for p in request.parts if isinstance(p, Encoded)), default=0))
        if limit is not None:
            self.image_limit = min(limit, self.image_limit or limit)
            raise EndpointError("adjusted", f"{answer.summary}; images of at most {limit:,} bytes from now on")
        self.rejected.learn(request, sent.options, answer)
        raise answer.error(self.model, request, self._in_flight)

    @property
    def habits(self) -> Mapping[str, Any]:
        """What was learnt of the server, as JSON can hold it."""
        known = self.rejected
        learnt = {"refused": sorted(known.refused), "steps": sorted(known.steps), "alternatives": known.alternatives}
        return {**learnt, "image_limit": self.image_limit, "one_image": self.one_image}

    def remember(self, habits: Mapping[str, Any]) -> None:
        """Begin with what an earlier process has learnt."""
        self.rejected.refused |= set(habits["refused"])
        self.rejected.steps |= set(habits["steps"])
        self.rejected.alternatives = habits["alternatives"]
        self.image_limit, self.one_image = habits["image_limit"], habits["one_image"]

    async def _fitted(self, request: Request) -> tuple[Request, tuple[str, ...]]:
        """The request with its images packed into what the server allows, and notes on that."""
        limit, notes = self.image_limit, tuple[str, ...]()
        if self.one_image and (first := _first_image_only(request)) is not request:
            request, notes = first, ("cut-outs left out, as the server takes one image a request",)
        if limit is None or all(isinstance(p, str) or len(p.data_url) <= limit for p in request.parts):
            return request, notes
        parts: list[Part] = []
        for part in request.parts:
            if isinstance(part, Encoded) and len(part.data_url) > limit:
                part = await asyncio.to_thread(packed, part, limit * 3 // 4 - 40) or part  # base64 takes a third more
            parts.append(part)
        notes += (f"packed as JPEG, as the server takes {limit:,} bytes an image",)
        return replace(request, parts=tuple(parts)), notes

    def _parameters(self, request: Request, sent: frozenset[str]) -> dict[str, Any]:
        sampling = request.sampling
        cap = "max_tokens" if "max_tokens" in sent else "max_completion_tokens"
        parameters: dict[str, Any] = {"model": self.model, cap: sampling.max_tokens}
        if "temperature" in sent:
            parameters["temperature"] = sampling.temperature
        if "seed" in sent:
            parameters["seed"] = sampling.seed
        if "logprobs" in sent:
            parameters |= {"logprobs": True, "top_logprobs": self.rejected.alternatives}
        if "response_format" in sent and request.schema is not None:
            name = re.sub(r"[^A-Za-z0-9_-]", "_", request.tag.step)[:64] or "reply"
            schema = {"name": name, "strict": True, "schema": self._strict(request.schema)}
            parameters["response_format"] = {"type": "json_schema", "json_schema": schema}
        return parameters

    def _strict(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        # By identity: a run uses a handful of schemas thousands of times. The schema is kept, so its id stays its own.
        if id(schema) not in self._schemas:
            if len(self._schemas) >= 64:
                self._schemas.clear()
            self._schemas[id(schema)] = (schema, endpoint_schema(schema))
        return self._schemas[id(schema)][1]


_OPTIONAL = frozenset({"response_format", "seed", "logprobs"})
_TRIALS = (frozenset[str](), frozenset({"response_format"}), _OPTIONAL)


@dataclass
class _RejectedOptions:
    """Request options this server has rejected so far. Each failed attempt adds at most one."""

    refused: set[str] = field(default_factory=set)
    steps: set[str] = field(default_factory=set)
    """Steps whose schema is rejected, while other schemas may be accepted."""
    alternatives: int = 20
    """Alternatives of a token to ask for, with their log-probabilities; some servers give fewer than OpenAI's 20."""
    suspects: dict[Tag, int] = field(default_factory=dict)
    """Requests rejected without a stated reason, and which of `_TRIALS` they are sent with next to find the cause."""

    def sendable(self, request: Request) -> frozenset[str]:
        sent = {"max_tokens", "temperature"}
        if request.sampling.seed is not None:
            sent.add("seed")
        if request.sampling.logprobs and "logprobs" not in self.refused:
            sent |= {"logprobs", f"alternatives={self.alternatives}"}
        if request.schema is not None and request.tag.step not in self.steps:
            sent.add("response_format")
        return frozenset(sent - self.refused - _TRIALS[self.suspects.get(request.tag, 0)])

    def worked(self, request: Request, sent: frozenset[str]) -> None:
        without = _TRIALS[self.suspects.pop(request.tag, 0)]
        if "response_format" in without and request.schema is not None:
            self.steps.add(request.tag.step)
        self.refused |= without - {"response_format"}

    def learn(self, request: Request, sent: frozenset[str], answer: ServerAnswer) -> None:
        """Raises EndpointError 'adjusted' when the request is worth sending again without the rejected option."""
        limit = answer.reply_limit(request.sampling.max_tokens)
        if limit is not None:
            what = f"{answer.summary}; replies of at most {limit.tokens:,} tokens from now on"
            raise EndpointError("adjusted", what, reply_limit=limit)
        option, fewer = answer.refused_option, answer.most_alternatives
        if option == "logprobs" and "logprobs" in sent and fewer and f"alternatives={fewer}" not in sent:
            self.alternatives = min(fewer, self.alternatives)
            raise EndpointError("adjusted", f"{answer.summary}, asking for {fewer} alternatives from now on")
        if option is not None and option in sent:
            if option == "response_format" and answer.bad_schema:
                self.steps.add(request.tag.step)
            else:
                self.refused.add(option)
            instead = ", asking with max_completion_tokens" if option == "max_tokens" else f", asking without {option}"
            raise EndpointError("adjusted", f"{answer.summary}{instead} from now on")
        if answer.unexplained:
            for trial in range(self.suspects.get(request.tag, 0) + 1, len(_TRIALS)):
                if sent & _TRIALS[trial] and (trial == 1 or sent & _OPTIONAL - _TRIALS[trial - 1]):
                    self.suspects[request.tag] = trial
                    what = " and ".join(sorted(_TRIALS[trial]))
                    raise EndpointError("adjusted", f"{answer.summary}, trying without {what}")
        if answer.status < 429:
            self.suspects.pop(request.tag, None)


class RequestBody:
    """The request's JSON in pieces: an image's data URL is never escaped, nor copied as a whole."""

    def __init__(self, request: Request, parameters: Mapping[str, Any]) -> None:
        self._pieces: list[str] = []
        text, comma = '{"messages":[{"role":"user","content":[', ""
        # No server takes an empty turn of the model: what follows it joins the question.
        turns = list(request.turns)
        parts = list(request.parts)
        while turns and not turns[0][0].strip():
            parts.append(turns.pop(0)[1])
        for part in parts:
            if isinstance(part, str):
                text += comma + json.dumps({"type": "text", "text": part})
            else:
                self._pieces += [text + comma + '{"type":"image_url","image_url":{"url":"', part.data_url]
                text = '"}}'
            comma = ","
        text += "]}"
        for reply, follow_up in turns:
            turn = [
                {"role": "assistant", "content": reply if reply.strip() else "(nothing)"},
                {"role": "user", "content": follow_up},
            ]
            text += "," + json.dumps(turn)[1:-1]
        self._pieces.append(text + "]," + json.dumps(parameters)[1:])
        self.length = sum(map(len, self._pieces))  # bytes: json.dumps and base64 write ASCII only

    def chunks(self) -> Iterator[bytes]:
        """The same for a file. Not `__iter__`, by which the HTTP client knows a body that is sent without `async`."""
        for piece in self._pieces:
            for start in range(0, len(piece), CHUNK):
                yield piece[start : start + CHUNK].encode("ascii")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks():
            yield chunk


def _first_image_only(request: Request) -> Request:
    """The request with a word in place of each further image; the request itself when it has none."""
    shown = [n for n, part in enumerate(request.parts) if isinstance(part, Encoded)]
    if len(shown) < 2:
        return request
    further = "(This image could not be sent.)"
    return replace(request, parts=tuple(further if n in shown[1:] else part for n, part in enumerate(request.parts)))
