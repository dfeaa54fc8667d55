"""The simulator as an OpenAI-compatible HTTP server, so that the real client meets it over a real socket.

Who asks travels in X-Anomreason-* headers; without them every request is the one call of the `single` schedule.
Images come as data: URLs only; nothing is ever fetched.

    serve(Simulator.from_file("simulator.json"), port=8000, on_ready=print)
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import signal
import time
from collections.abc import Callable
from io import BytesIO
from typing import Annotated, Any, Literal
from urllib.parse import unquote

from aiohttp import web
from PIL import Image
from pydantic import BaseModel, Field, JsonValue, ValidationError

from anomreason.errors import EndpointError, EndpointErrorKind, ParseError, UsageError
from anomreason.images import Encoded
from anomreason.vlm.protocol import Reply, Sampling, Tag
from anomreason.vlm.simulator.model import Question, Recent, Sight, Simulator

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


_Part = Annotated[_TextPart | _ImagePart, Field(discriminator="type")]


class _Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[_Part]

    def text(self) -> str:
        """All its text. Raises ParseError when there are images."""
        if isinstance(self.content, str):
            return self.content
        if any(isinstance(part, _ImagePart) for part in self.content):
            raise ParseError("images are read from the first user message only")
        return "\n".join(part.text for part in self.content if isinstance(part, _TextPart))


class _JsonSchema(BaseModel):
    schema_: dict[str, JsonValue] | None = Field(default=None, alias="schema")


class _Format(BaseModel):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _JsonSchema = _JsonSchema()


class _Body(BaseModel):
    messages: list[_Message] = Field(min_length=1)
    response_format: _Format | None = None
    temperature: float | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    seed: int | None = None
    logprobs: bool | None = None
    n: Literal[1] | None = None
    stream: Literal[False] | None = None


def make_app(simulator: Simulator) -> web.Application:
    """POST /v1/chat/completions, GET /v1/models, GET /stats."""
    server = _Server(simulator)
    app = web.Application(client_max_size=MAX_BODY)
    app.router.add_post("/v1/chat/completions", server.complete)
    app.router.add_get("/v1/models", server.models)
    app.router.add_get("/stats", server.stats)
    return app


def serve(
    simulator: Simulator, port: int, host: str = "127.0.0.1", on_ready: Callable[[str], None] = lambda url: None
) -> None:
    """Serve until SIGINT or SIGTERM. Port 0 takes a free one; `on_ready` is told the base URL, .../v1."""
    asyncio.run(_serve(simulator, port, host, on_ready))


async def _serve(simulator: Simulator, port: int, host: str, on_ready: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C arrives as KeyboardInterrupt there
            loop.add_signal_handler(number, stop.set)
    # A client that is gone ends its handler: simulated hangs would pile up otherwise.
    runner = web.AppRunner(make_app(simulator), access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port, backlog=1024).start()
        except OSError as e:
            raise UsageError(
                f"cannot serve on port {port}: {e.strerror}; choose another with --port (0: a free one)"
            ) from e
        on_ready(f"http://{host}:{runner.addresses[0][1]}/v1")
        await stop.wait()
    finally:
        await runner.cleanup()


class _Server:
    """The handlers, and the images known by their URL's text."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._seen: Recent[tuple[bytes, bool], Sight] = Recent(4096)

    async def models(self, request: web.Request) -> web.Response:
        model = {"id": self._simulator.name, "object": "model", "created": 0, "owned_by": "anomreason"}
        return web.json_response({"object": "list", "data": [model]})

    async def stats(self, request: web.Request) -> web.Response:
        outcomes, steps = self._simulator.outcomes, self._simulator.steps
        return web.json_response({"requests": outcomes.total(), "outcomes": outcomes, "steps": steps})

    async def complete(self, request: web.Request) -> web.Response:
        try:
            body = _Body.model_validate_json(await request.read())
            question = await self._question(body, _tag(request))
        except web.HTTPRequestEntityTooLarge:
            return self._wrong(413, f"the body is larger than {MAX_BODY} bytes")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            return self._wrong(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
        except ParseError as error:
            return self._wrong(400, str(error))
        except EndpointError as error:
            return _error(400, error.kind, str(error))
        try:
            return web.json_response(_completion(await self._simulator.answer(question)))
        except EndpointError as error:
            wait = {"Retry-After": f"{error.retry_after:g}"} if error.retry_after is not None else {}
            return _error(_STATUS.get(error.kind, 400), error.kind, str(error), wait)

    def _wrong(self, status: int, message: str) -> web.Response:
        self._simulator.outcomes["rejected"] += 1
        return _error(status, "rejected", message)

    async def _question(self, body: _Body, tag: Tag) -> Question:
        opening = next((i + 1 for i, m in enumerate(body.messages) if m.role == "user"), len(body.messages))
        parts: list[str | Sight] = []
        for message in body.messages[:opening]:
            for part in [message.content] if isinstance(message.content, str) else message.content:
                first = not any(isinstance(seen, Sight) for seen in parts)
                if isinstance(part, _ImagePart):
                    parts.append(await self._see(part.image_url.url, first))
                else:
                    parts.append(part if isinstance(part, str) else part.text)
        rest = body.messages[opening:]
        if [m.role for m in rest] != ["assistant", "user"] * (len(rest) // 2):
            raise ParseError("after the first user message the roles must alternate: assistant, user, ...")
        turns = tuple((rest[i].text(), rest[i + 1].text()) for i in range(0, len(rest), 2))
        sampling = Sampling(
            temperature=body.temperature or 0.0,
            max_tokens=body.max_completion_tokens or body.max_tokens or 16_384,
            seed=body.seed,
            logprobs=bool(body.logprobs),
        )
        schema = body.response_format.json_schema.schema_ if body.response_format else None
        return Question(tuple(parts), tag, schema, sampling, turns)

    async def _see(self, url: str, first: bool) -> Sight:
        key = (hashlib.sha256(url.encode("utf-8", "surrogatepass")).digest(), first)
        if (sight := self._seen.get(key)) is None:
            sight = self._seen.remember(key, await self._simulator.see(_decoded(url), first))
        return sight


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


def _error(status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    error = {"message": message, "type": kind, "param": None, "code": kind}
    return web.json_response({"error": error}, status=status, headers=headers)


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
