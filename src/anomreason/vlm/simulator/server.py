"""The simulator as an OpenAI-compatible HTTP server, so that the real client meets it over a real socket.

The step and the image's name travel in X-Anomreason-* headers. Without them the name of the schema tells the step, as
in the requests of a batch; a request with neither is the one call of the `single` schedule. Images come as data: URLs
only; nothing is ever fetched.

    serve(Simulator.from_file("simulator.json"), port=8000, on_ready=print)
"""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from aiohttp import web
from PIL import Image
from pydantic import BaseModel, Field, JsonValue, ValidationError

from anomreason.errors import EndpointError, EndpointErrorKind, ParseError, UsageError, first_error
from anomreason.images import Encoded
from anomreason.vlm.protocol import Part, Reply, Request, Sampling, Tag
from anomreason.vlm.simulator.answers import STEPS
from anomreason.vlm.simulator.model import PROBES, Simulator

MAX_BODY = 64 * 2**20
_STATUS: dict[EndpointErrorKind, int] = {"rate_limit": 429, "server": 500}


class _TextPart(BaseModel):
    type: Literal["text"]
    text: str


class _Url(BaseModel):
    url: str


class _ImagePart(BaseModel):
    type: Literal["image_url"]
    image_url: _Url


class _Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Annotated[_TextPart | _ImagePart, Field(discriminator="type")]]

    def parts(self) -> list[Part]:
        """Raises ParseError for an image that cannot be used."""
        if isinstance(self.content, str):
            return [self.content]
        return [p.text if isinstance(p, _TextPart) else _decoded(p.image_url.url) for p in self.content]

    def text(self) -> str:
        """All its text. Raises ParseError when there are images."""
        parts = self.parts()
        if any(isinstance(part, Encoded) for part in parts):
            raise ParseError("images are read from the first user message only")
        return "\n".join(part for part in parts if isinstance(part, str))


class _JsonSchema(BaseModel):
    name: str | None = None
    schema_: dict[str, JsonValue] | None = Field(default=None, alias="schema")


class _Format(BaseModel):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema = _JsonSchema()


class _ChatRequest(BaseModel):
    messages: list[_Message] = Field(min_length=1)
    response_format: _Format | None = None
    temperature: float | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    seed: int | None = None
    logprobs: bool | None = None
    n: Literal[1] | None = None
    stream: Literal[False] | None = None

    @property
    def step(self) -> str:
        """The step that the schema is named after; empty for other names and without a schema."""
        name = (self.response_format.json_schema.name if self.response_format else None) or ""
        return name if name in STEPS or name in PROBES else ""

    def request(self, tag: Tag) -> Request:
        """Raises ParseError for messages out of order or images that cannot be used."""
        opening = next((i + 1 for i, m in enumerate(self.messages) if m.role == "user"), len(self.messages))
        rest = self.messages[opening:]
        if [m.role for m in rest] != ["assistant", "user"] * (len(rest) // 2):
            raise ParseError("after the first user message the roles must alternate: assistant, user, ...")
        return Request(
            parts=tuple(part for message in self.messages[:opening] for part in message.parts()),
            tag=tag,
            schema=self.response_format.json_schema.schema_ if self.response_format else None,
            sampling=Sampling(
                temperature=self.temperature or 0.0,
                max_tokens=self.max_completion_tokens or self.max_tokens or 16_384,
                seed=self.seed,
                logprobs=bool(self.logprobs),
            ),
            turns=tuple((rest[i].text(), rest[i + 1].text()) for i in range(0, len(rest), 2)),
        )


@dataclass(frozen=True, slots=True)
class SimulatedAnswer:
    """What the server answers."""

    status: int
    body: dict[str, Any]
    retry_after: float | None = None
    """Seconds."""


async def answer_body(
    simulator: Simulator, body: bytes | str, tag: Tag, *, needs_step: bool = False
) -> SimulatedAnswer:
    """The answer to the body of a request, an error included.

    needs_step: refuse a request that does not tell its step, rather than take it for the call of `single`.
    """
    try:
        chat = _ChatRequest.model_validate_json(body)
        step = tag.step or chat.step
        if needs_step and not step:
            raise ParseError(
                "the request does not tell its step: only steps with a schema do, those of --schedule single and lean"
            )
        asked = chat.request(replace(tag, step=step))
    except ValidationError as error:
        return _refusal(simulator, 400, first_error(error, "the body"))
    except ParseError as error:
        return _refusal(simulator, 400, str(error))
    try:
        return SimulatedAnswer(200, _completion(await simulator.ask(asked)))
    except EndpointError as error:
        return SimulatedAnswer(_STATUS.get(error.kind, 400), _error(error.kind, str(error)), error.retry_after)


def make_app(simulator: Simulator) -> web.Application:
    """POST /v1/chat/completions, GET /v1/models, GET /stats."""

    async def complete(request: web.Request) -> web.Response:
        try:
            body, tag = await request.read(), _tag(request)
        except web.HTTPRequestEntityTooLarge:
            answer = _refusal(simulator, 413, f"the body is larger than {MAX_BODY} bytes")
        except ParseError as error:
            answer = _refusal(simulator, 400, str(error))
        else:
            answer = await answer_body(simulator, body, tag)
        wait = {"Retry-After": f"{answer.retry_after:g}"} if answer.retry_after is not None else None
        return web.json_response(answer.body, status=answer.status, headers=wait)

    async def models(request: web.Request) -> web.Response:
        model = {"id": simulator.name, "object": "model", "created": 0, "owned_by": "anomreason"}
        return web.json_response({"object": "list", "data": [model]})

    async def stats(request: web.Request) -> web.Response:
        outcomes = simulator.outcomes
        return web.json_response({"requests": outcomes.total(), "outcomes": outcomes, "steps": simulator.steps})

    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_post("/v1/chat/completions", complete)
    app.router.add_get("/v1/models", models)
    app.router.add_get("/stats", stats)
    return app


def serve(
    simulator: Simulator, port: int, host: str = "127.0.0.1", on_ready: Callable[[str], None] = lambda url: None
) -> None:
    """Serve until SIGINT or SIGTERM. Port 0 takes a free one; `on_ready` gets the base URL, .../v1."""
    try:
        listening = socket.create_server((host, port), backlog=1024)
    except OSError as e:
        raise UsageError(
            f"cannot serve on port {port}: {e.strerror}; choose another with --port (0: a free one)"
        ) from e
    on_ready(f"http://{host}:{listening.getsockname()[1]}/v1")
    # A client that is gone ends its handler: simulated hangs would pile up otherwise.
    web.run_app(
        make_app(simulator),
        sock=listening,
        backlog=1024,
        access_log=None,
        print=None,
        handler_cancellation=True,
        shutdown_timeout=1.0,
    )


@lru_cache(maxsize=64)  # the calls about one image come close together
def _decoded(url: str) -> Encoded:
    head, comma, data = url.partition(",")
    if not (head.startswith("data:image/") and head.endswith(";base64") and comma):
        raise ParseError(f"images must come as data:image/...;base64 URLs, not {head[:40]!r}")
    try:
        decoded = base64.b64decode(data, validate=True)
        with Image.open(BytesIO(decoded)) as image:  # the header only
            width, height = image.size
    except Exception as error:  # decoders of damaged files raise nearly anything
        raise ParseError(f"the image cannot be read: {error!r}") from error
    return Encoded(decoded, head.removeprefix("data:").removesuffix(";base64"), width, height)


def _tag(request: web.Request) -> Tag:
    def header(name: str) -> str:
        return unquote(request.headers.get(f"X-Anomreason-{name}", ""))

    try:
        sample = int(header("Sample") or 0)
    except ValueError as error:
        raise ParseError(f"X-Anomreason-Sample must be a number, not {header('Sample')[:20]!r}") from error
    return Tag(header("Image"), header("Role"), header("Step"), header("Object") or None, sample)


def _refusal(simulator: Simulator, status: int, message: str) -> SimulatedAnswer:
    simulator.outcomes["rejected"] += 1
    return SimulatedAnswer(status, _error("rejected", message))


def _error(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": kind}}


def _completion(reply: Reply) -> dict[str, Any]:
    """A chat completion. Refusals come in both of the ways that providers have, chosen by the prompt's size."""
    used = reply.usage
    refused = reply.finish == "refused"
    filtered = refused and used.prompt_tokens % 2 == 0
    message = {"role": "assistant", "content": None if refused else reply.text, "refusal": None}
    if refused and not filtered:
        message["refusal"] = reply.text
    return {
        "id": f"chatcmpl-{time.time_ns():x}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": reply.model,
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": "content_filter" if filtered else "length" if reply.finish == "length" else "stop",
                "logprobs": _logprobs(reply) if reply.logprobs else None,
            }
        ],
        "usage": {
            "prompt_tokens": used.prompt_tokens,
            "completion_tokens": used.completion_tokens,
            "total_tokens": used.tokens,
            "prompt_tokens_details": {"cached_tokens": used.cached_tokens},
        },
    }


def _logprobs(reply: Reply) -> dict[str, Any]:
    def entry(word: str, value: float) -> dict[str, Any]:
        return {"token": word, "logprob": value, "bytes": list(word.encode())}

    top = [entry(word, value) for word, value in reply.logprobs.items()]
    return {"content": [entry(reply.text, reply.logprobs[reply.text]) | {"top_logprobs": top}], "refusal": None}
