"""Any OpenAI-compatible endpoint (OpenAI, vLLM, SGLang, llama.cpp, Ollama, OpenRouter ...) behind the official SDK.

One `ask` is one HTTP attempt. `chat.ChatFormat` writes the requests; retries, budget and cache are `calling.Caller`'s.

    vlm = OpenAIVLM("Qwen/Qwen2.5-VL-7B-Instruct", VLMOptions(base_urls=("http://127.0.0.1:8000/v1",)))
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import parse_qsl, quote, urlsplit

import aiohttp
import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAioHttpClient

from anomreason.errors import Charge, EndpointError, UsageError
from anomreason.vlm.endpoint.address import (
    NO_KEY,
    is_loopback,
    key_for,
    key_name,
    proxy_of,
    server_urls,
)
from anomreason.vlm.endpoint.answers import ServerAnswer, excerpt, redacted
from anomreason.vlm.endpoint.chat import CHUNK, ChatFormat, RequestBody
from anomreason.vlm.endpoint.presets import own_server
from anomreason.vlm.protocol import Reply, Request, Tag, VLMOptions
from anomreason.vlm.remedies import slow_answer

ASIDE_SECONDS = 5.0
CONNECT_SECONDS = 10.0
LARGEST_ANSWER = 8 * 2**20
"""Bytes of an answer, unpacked. The longest reply, with its log-probabilities, has a few hundred thousand."""
LONG_ANSWER = 2**20
"""Bytes above which only one answer is read at a time."""

_GATEWAY = "run the same command again later; if it goes on, look at the proxy or gateway before the server"
# Under the 5 s after which common servers drop an idle connection, so that no request is written into a closing one.
_KEEPALIVE_SECONDS = 4.0


class OpenAIVLM:
    """A model behind one or several OpenAI-compatible servers, with one pooled client per server.

    `close` closes the connections; a later `ask` opens new ones. One event loop at a time.
    """

    bounds_pixels = False
    remote = True
    """A server decides what the model gets to see."""
    reopens = True
    """Closed and asked again, it opens a new pool, on whatever event loop runs then."""

    def __init__(self, model: str, options: VLMOptions) -> None:
        """Raises UsageError for an address that cannot be used, and for OpenAI's own without a key."""
        if not model.strip():
            raise UsageError(f"{model!r} is not a model name; give the one the server knows, e.g. --model gpt-4o")
        self.name = model
        self._options = options
        self._servers = [
            _Server(url, key_name(url, options.api_key_env), key_for(url, options.api_key_env))
            for url in server_urls(options.base_urls)
        ]
        self.chat = ChatFormat(model, tuple(server.url for server in self._servers), options.in_flight)
        self._turn = 0

    async def ask(self, request: Request) -> Reply:
        """One HTTP attempt. Raises EndpointError; a refusal or a cut reply is a Reply with that finish."""
        sent = await self.chat.prepare(request)
        server = self._pick()
        server.in_flight += 1
        try:
            response = await self._post(server, self.chat.body(sent), request.tag)
        finally:
            server.in_flight -= 1
        text = response.content.decode("utf-8", "replace")
        answer = ServerAnswer(response.status_code, response.headers, text, server.shown, server.secret)
        answer.key_name = server.key_name
        return self.chat.read(answer, sent)

    async def close(self) -> None:
        """Close every connection."""
        for server in self._servers:
            client, server.client = server.client, None
            if client is not None:
                await client.close()

    def _pick(self) -> _Server:
        now = time.monotonic()
        usable = [s for s in self._servers if s.usable(now)] or self._servers
        server = min(usable, key=lambda s: (s.in_flight, s.turn))
        self._turn += 1
        server.turn = self._turn
        return server

    async def _post(self, server: _Server, body: RequestBody, tag: Tag) -> httpx2.Response:
        # The SDK's general `post` with a ready body: `chat.completions.create` takes twice the CPU for a 400 KB image.
        headers = {"Content-Length": str(body.length), **(_tag_headers(tag) if server.loopback else {})}
        error: EndpointError
        try:
            async with asyncio.timeout(self._options.timeout):
                response = await server.connected(self._options).post(
                    "/chat/completions",
                    cast_to=httpx2.Response,
                    content=body,
                    options={"headers": headers, "security": {"bearer_auth": True}, "follow_redirects": False},
                )
            server.aside_until = None
            return response
        except TimeoutError:
            error = EndpointError(
                "timeout",
                f"{server.shown} gave no answer within {self._options.timeout:g} s",
                remedy=slow_answer(self._options.timeout, self._options.in_flight),
            )
        except APIStatusError as e:
            server.aside_until = None
            return e.response
        except (APIConnectionError, aiohttp.ClientError, OSError) as e:
            server.aside_until = time.monotonic() + ASIDE_SECONDS
            sent = not _never_connected(e)
            reason = redacted(str(e.__cause__ or e).replace(" ssl:default", ""), server.secret)
            proxy = proxy_of(server.url)
            through = f" through the proxy {proxy} that the environment names (NO_PROXY excepts hosts)" if proxy else ""
            wrong = f"no connection to {server.shown}{through} ({excerpt(reason) or type(e).__name__})"
            if sent:
                wrong = f"{server.shown}{through} closed the connection without a whole answer"
            error = EndpointError(
                "connection", wrong, remedy=_reconnecting(reason, sent, server.shown), charge=Charge() if sent else None
            )
        # Raised out here so that no traceback shows the SDK's own error, which may hold what a server echoed.
        raise error


_CAUSES = (
    (r"WRONG_VERSION_NUMBER|record layer", "the server speaks plain http: give --base-url http://{rest}"),
    (r"hostname mismatch|not valid for", "its certificate is that of another host: check --base-url"),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        "its certificate is not trusted: name the file of the one that signed it in SSL_CERT_FILE",
    ),
    (
        r"name or service not known|nodename nor|getaddrinfo|name resolution|no address associated",
        "there is no such host: check --base-url and the network",
    ),
)


def _never_connected(error: BaseException) -> bool:
    """Whether an error says that there was no connection; the SDK wraps aiohttp's into others of any name."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        cause = cause.__cause__
    return cause is not None


def _reconnecting(reason: str, sent: bool, url: str) -> str:
    """What to do about a failed connection."""
    if sent:
        return (
            "run the same command again later; if it goes on, check --base-url, http or https included, and the "
            "server's log"
        )
    known = (remedy for cause, remedy in _CAUSES if re.search(cause, reason, re.I))
    server = own_server(url)
    usual = f"is {server} running? Start it, or name the server's address with --base-url" if server else ""
    remedy = next(known, usual or "is it running? Check the server, --base-url and the network")
    return remedy.replace("{rest}", url.partition("://")[2])


@cache
def _trusted() -> ssl.SSLContext:
    # Loading the certificates takes longer than opening all else of a client.
    return httpx2.create_ssl_context()


@dataclass
class _Server:
    url: str
    key_name: str | None
    """The environment variable of its key."""
    key: str
    client: AsyncOpenAI | None = None
    long_answers: asyncio.Lock = field(default_factory=asyncio.Lock)
    in_flight: int = 0
    turn: int = 0
    """When it was last picked: ties go to the server that waited longest."""
    aside_until: float | None = None
    """After a failed connection, when to try it again, on the monotonic clock; None when all is well."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        self.shown = f"{parts.scheme}://{parts.netloc}{parts.path}"
        self.loopback = is_loopback(host)
        self.secret = "" if self.key == NO_KEY else self.key
        self.query = dict(parse_qsl(parts.query, keep_blank_values=True))

    async def bound(self, response: httpx2.Response) -> None:
        """Replace the body's stream by one that is unpacked here, within bounds."""
        packed = response.headers.pop("content-encoding", "identity").strip().lower()
        if packed not in ("identity", "gzip", "x-gzip", "deflate", ""):
            wrong = f"{self.shown} sent an answer packed as {excerpt(packed)!r}, which was not asked for"
            raise EndpointError("server", wrong, remedy=_GATEWAY)
        if isinstance(response.stream, httpx2.AsyncByteStream):
            unpacked = packed in ("identity", "")
            response.stream = _BoundedStream(response.stream, not unpacked, self)

    def usable(self, now: float) -> bool:
        """True when all is well, or when it may be tried again, by one request only."""
        return self.aside_until is None or (now >= self.aside_until and self.in_flight == 0)

    def connected(self, options: VLMOptions) -> AsyncOpenAI:
        if self.client is None:
            self.long_answers = asyncio.Lock()  # of the event loop that runs now
            limits = httpx2.Limits(
                max_connections=options.in_flight,
                max_keepalive_connections=options.in_flight,
                keepalive_expiry=_KEEPALIVE_SECONDS,
            )
            timeout = httpx2.Timeout(None, connect=min(CONNECT_SECONDS, options.timeout))
            http = DefaultAioHttpClient(
                limits=limits,
                timeout=timeout,
                verify=_trusted(),
                event_hooks={"response": [self.bound]},
                trust_env=not self.loopback,  # no proxy reaches this machine
            )
            plain = {"Accept-Encoding": "identity"}
            if self.key_name == "AZURE_OPENAI_API_KEY" and self.secret:
                plain["api-key"] = self.secret
            self.client = AsyncOpenAI(
                api_key=self.key,
                base_url=self.url.partition("?")[0],
                timeout=timeout,
                max_retries=0,
                default_headers=plain,
                default_query=self.query,
                http_client=http,
            )
        return self.client


class _BoundedStream(httpx2.AsyncByteStream):
    """An answer's body, unpacked. What is long waits until no other long one is held: no server may fill our memory."""

    def __init__(self, stream: httpx2.AsyncByteStream, packed: bool, server: _Server) -> None:
        self._stream = stream
        self._unpack = zlib.decompressobj(zlib.MAX_WBITS | 32) if packed else None
        self._server, self._long_answers, self._long = server.shown, server.long_answers, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:
            for piece in self._pieces(chunk):
                size += len(piece)
                if size > LARGEST_ANSWER:
                    wrong = f"{self._server} sent an answer of over {LARGEST_ANSWER:,} bytes"
                    raise EndpointError("server", wrong, remedy="check --base-url: is this a model's server?")
                if size > LONG_ANSWER and not self._long:
                    await self._long_answers.acquire()
                    self._long = True
                yield piece

    def _pieces(self, chunk: bytes) -> Iterator[bytes]:
        if self._unpack is None:
            yield chunk
            return
        try:
            while chunk:
                yield self._unpack.decompress(chunk, CHUNK)
                chunk = self._unpack.unconsumed_tail
        except zlib.error as e:
            wrong = f"{self._server} sent an answer whose compression cannot be read: {e}"
            raise EndpointError("server", wrong, remedy=_GATEWAY) from None

    async def aclose(self) -> None:
        if self._long:
            self._long = False
            self._long_answers.release()
        await self._stream.aclose()


def _tag_headers(tag: Tag) -> dict[str, str]:
    """Where the request comes from, for a server on this machine only: file names may be private."""
    fields = {"Role": tag.role, "Step": tag.step, "Object": tag.object, "Image": tag.image, "Sample": str(tag.sample)}
    coded = {f"X-Anomreason-{name}": quote(value, errors="replace") for name, value in fields.items() if value}
    return {name: value for name, value in coded.items() if len(value) <= 4000}  # servers take 8 KB of headers
