"""A model behind an OpenAI-compatible images endpoint: `POST BASE_URL/images/generations`.

Answers are not trusted: they are bounded, and an address in an answer is followed on the same server only.

    generator = EndpointGenerator(read_generator("gpt-image-1"))
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import os
import random
import time
import zlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from pydantic import JsonValue

from anomreason.dataset.generators.protocol import Generated, ImageRequest, generated
from anomreason.dataset.generators.recipe import GeneratorRecipe
from anomreason.errors import AnomreasonError, UnreadableImage, UsageError
from anomreason.images import pixels_of
from anomreason.vlm.endpoint.address import (
    NO_KEY,
    OPENAI_URL,
    checked_url,
    is_loopback,
    key_for,
    key_name,
    redacted_url,
)
from anomreason.vlm.endpoint.answers import ServerAnswer, excerpt, redacted

LARGEST_ANSWER = 32 * 2**20
"""Bytes of an answer, unpacked. A PNG of 2048x2048 has up to 12 million, 16 million in base64."""
LONGEST_WAIT = 60.0
LONGEST_ASKED = 600.0
"""Longest Retry-After, in seconds, that we wait for; the request fails when the server asks for more."""
CONNECT_SECONDS = 10.0
_LONGEST_NOTE = 4000
_TOO_LARGE = f"the answer of {{}} is over {LARGEST_ANSWER:,} bytes; ask for smaller images, or as JPEG or WebP"


class EndpointGenerator:
    """Requests to one server, several at a time."""

    batch = 1

    def __init__(self, recipe: GeneratorRecipe) -> None:
        """Raises UsageError for an address that cannot be used and a key that is not there."""
        assert recipe.endpoint is not None
        self._recipe, self._part = recipe, recipe.endpoint
        self._base = checked_url(self._part.base_url).rstrip("/")
        parts = urlsplit(self._base)
        self._shown = redacted_url(self._base)
        self._origin = (parts.scheme, parts.netloc)
        self._loopback = is_loopback(parts.hostname or "")
        self._key_name = key_name(self._base, self._part.api_key_env)
        if self._part.api_key_env and not os.environ.get(self._part.api_key_env, "").strip():
            raise UsageError(
                f"generator {recipe.name!r}: the environment variable {self._part.api_key_env!r}, its api_key_env, is "
                "not set; put the key for the server there"
            )
        if self._base == OPENAI_URL and not os.environ.get(self._key_name or "", "").strip():
            raise UsageError(f"generator {recipe.name!r}: no key for OpenAI; put it into OPENAI_API_KEY")
        key = key_for(self._base, self._part.api_key_env)
        self._secret = "" if key == NO_KEY else key
        self.made_by: Mapping[str, JsonValue] = {"server": self._shown}

    def generate(self, batches: Iterable[Sequence[ImageRequest]]) -> Generator[Sequence[Generated], None, None]:
        """The results in the order in which the server answers; each batch holds one request."""
        waiting = iter(batches)
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            session = runner.run(self._connected())
            tasks: set[asyncio.Task[Generated]] = set()
            try:
                while True:
                    while len(tasks) < self._part.in_flight and (batch := next(waiting, None)) is not None:
                        tasks.update(loop.create_task(self._result(session, request)) for request in batch)
                    if not tasks:
                        return
                    done, tasks = runner.run(_first_done(tasks))
                    for task in done:
                        yield [task.result()]
            finally:
                for task in tasks:
                    task.cancel()
                runner.run(_ended(tasks, session))

    def close(self) -> None:
        """Nothing is held between two calls of `generate`."""

    async def _connected(self) -> aiohttp.ClientSession:
        headers = {"Accept-Encoding": "identity"}
        if self._secret:
            headers["Authorization"] = f"Bearer {self._secret}"
        return aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=self._part.in_flight),
            timeout=aiohttp.ClientTimeout(total=self._part.timeout, connect=min(CONNECT_SECONDS, self._part.timeout)),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=not self._loopback,  # no proxy reaches this machine
            auto_decompress=False,
        )

    async def _result(self, session: aiohttp.ClientSession, request: ImageRequest) -> Generated:
        """What becomes of one request, after every retry that makes sense."""
        for attempt in itertools.count(1):
            begun = time.monotonic()
            try:
                made = await self._attempt(session, request)
            except _Failed as failed:
                asked = failed.retry_after or 0.0
                if failed.again and attempt <= self._part.retries and asked <= LONGEST_ASKED:
                    wait = min(LONGEST_WAIT, self._part.first_wait * 2 ** (attempt - 1))
                    wait *= random.Random(f"{request.prompt}{request.seed}{attempt}").uniform(0.5, 1.0)
                    await asyncio.sleep(wait if failed.retry_after is None else asked + 0.1 * wait)
                    continue
                tried = f" (tried {attempt} times)" if attempt > 1 else ""
                if failed.again and asked > LONGEST_ASKED:
                    tried += f"; it asks to wait {asked / 60:.0f} minutes; run the same command again after that"
                made = Generated(request, "failed", f"{failed}{tried}", charged=failed.charged, stop=failed.stop)
            return replace(made, seconds=time.monotonic() - begun)
        raise AssertionError("unreachable")

    async def _attempt(self, session: aiohttp.ClientSession, request: ImageRequest) -> Generated:
        """One request to the server. Raises _Failed."""
        body: dict[str, JsonValue] = {"model": self._part.model, "prompt": request.prompt, "n": 1}
        if self._recipe.width is not None:
            body["size"] = f"{self._recipe.width}x{self._recipe.height}"
        if self._part.send_seed:
            body["seed"] = request.seed
        base, mark, query = self._base.partition("?")
        url = f"{base.rstrip('/')}/images/generations{mark}{query}"
        status, headers, content = await self._exchange(session, "POST", url, body | self._recipe.settings)
        answer = ServerAnswer(status, headers, content.decode("utf-8", "replace"), self._shown, self._secret)
        if answer.policy:
            return Generated(request, "refused", answer.summary)
        if answer.fault:
            raise self._fault(answer)
        entries = answer.data.get("data") if isinstance(answer.data, dict) else None
        entry = entries[0] if isinstance(entries, list) and entries and isinstance(entries[0], dict) else {}
        notes: dict[str, JsonValue] = {}
        if isinstance(entry.get("revised_prompt"), str):
            notes["revised_prompt"] = redacted(entry["revised_prompt"], self._secret)[:_LONGEST_NOTE]
        try:
            data = await self._image(session, entry, answer)
            pixels = await asyncio.to_thread(pixels_of, data, "the image in the answer")
        except UnreadableImage as error:
            raise _Failed(str(error), charged=True) from None
        return replace(await asyncio.to_thread(generated, request, pixels), charged=True, notes=notes)

    def _fault(self, answer: ServerAnswer) -> _Failed:
        """An answer that says why there is no image."""
        error = answer.error(self._part.model)
        if error.kind != "rejected":
            charged = error.charge is not None
            return _Failed(answer.summary, again=not charged, retry_after=error.retry_after, charged=charged)
        model, stop = self._part.model, True
        if answer.status in (402, 429):
            remedy = "the account has no money left for this: see the provider's billing page"
        elif answer.status in (401, 403) and not self._secret:
            remedy = "no key was sent: put it into an environment variable and name that with endpoint.api_key_env"
        elif answer.status in (401, 403):
            remedy = f"the key was not accepted: check {self._key_name}, and that it may use {model!r}"
        elif answer.status < 400:
            remedy = "it redirects elsewhere, where no key is sent: check endpoint.base_url, http or https included"
        elif answer.status in (404, 405):
            remedy = f"{answer.address_in('endpoint.base_url')}; does the server have the model {model!r}?"
        else:
            remedy, stop = "check the prompt, and the size and [settings] of the recipe", False
        return _Failed(f"{answer.summary}; {remedy}", stop=stop)

    async def _image(self, session: aiohttp.ClientSession, entry: Mapping[str, Any], answer: ServerAnswer) -> bytes:
        """The bytes of the image in an answer, or at the address in it. Raises _Failed."""
        coded, url = entry.get("b64_json"), entry.get("url")
        if not isinstance(coded, str) and isinstance(url, str) and url.startswith("data:"):
            coded = url.partition(",")[2]
        if isinstance(coded, str):
            try:
                return base64.b64decode(coded, validate=True)
            except ValueError:
                wrong = f"{self._shown} sent an image that is no base64: {excerpt(coded, 60)!r}"
                raise _Failed(wrong, charged=True) from None
        if not isinstance(url, str):
            raise _Failed(
                f"{self._shown} sent no image, but {excerpt(answer.text) or 'nothing'!r}; this is probably no OpenAI-"
                f"compatible images endpoint: {answer.address_in('endpoint.base_url')}",
                charged=True,
            )
        try:
            place = urljoin(f"{self._base}/", url)
            parts = urlsplit(place)
        except ValueError:
            raise _Failed(f"{self._shown} sent an address that is none: {excerpt(url)!r}", charged=True) from None
        if (parts.scheme, parts.netloc) != self._origin:
            raise _Failed(
                f"{self._shown} answered with an address on another server ({excerpt(redacted_url(place))}), which is "
                'not followed; have the image itself sent: response_format = "b64_json" under [settings]',
                charged=True,
                stop=True,
            )
        status, _, content = await self._exchange(session, "GET", place)
        if status != 200:
            raise _Failed(f"the image at {excerpt(redacted_url(place))} was not sent: status {status}", charged=True)
        return content

    async def _exchange(
        self, session: aiohttp.ClientSession, method: str, url: str, body: JsonValue = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and unpacked body of one answer. Raises _Failed."""
        try:
            async with session.request(method, url, json=body, allow_redirects=False) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                content = bytearray()
                async for chunk in response.content.iter_any():
                    content += chunk
                    if len(content) > LARGEST_ANSWER:
                        raise _Failed(_TOO_LARGE.format(self._shown), charged=True)
                return response.status, headers, self._unpacked(content, headers.get("content-encoding", ""))
        except aiohttp.ClientConnectorError as error:
            why = excerpt(redacted(str(error), self._secret))
            raise _Failed(f"no connection to {self._shown}, is it running? ({why})", again=True) from None
        except TimeoutError:
            wrong = f"{self._shown} gave no answer within {self._part.timeout:g} s"
            remedy = "raise endpoint.timeout, or lower endpoint.in_flight"
            raise _Failed(f"{wrong}; {remedy}", charged=True) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            why = excerpt(redacted(str(error), self._secret)) or type(error).__name__
            raise _Failed(f"the connection to {self._shown} broke ({why})", charged=True) from None

    def _unpacked(self, content: bytes | bytearray, packed: str) -> bytes:
        """The body of an answer that may be compressed, though that was not asked for."""
        if packed.strip().lower() not in ("gzip", "x-gzip", "deflate"):
            return bytes(content)
        try:
            plain = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(content, LARGEST_ANSWER + 1)
        except zlib.error as error:
            wrong = f"the compressed answer of {self._shown} cannot be read: {error}"
            raise _Failed(wrong, charged=True) from None
        if len(plain) > LARGEST_ANSWER:
            raise _Failed(_TOO_LARGE.format(self._shown), charged=True)
        return plain


class _Failed(AnomreasonError):
    """One attempt brought no image."""

    def __init__(
        self,
        message: str,
        *,
        again: bool = False,
        retry_after: float | None = None,
        charged: bool = False,
        stop: bool = False,
    ) -> None:
        """again: it may pass. The others as in `Generated`, and as the server asks to wait, seconds."""
        super().__init__(message)
        self.again, self.retry_after, self.charged, self.stop = again, retry_after, charged, stop


async def _first_done(
    tasks: set[asyncio.Task[Generated]],
) -> tuple[set[asyncio.Task[Generated]], set[asyncio.Task[Generated]]]:
    return await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


async def _ended(tasks: Iterable[asyncio.Task[Generated]], session: aiohttp.ClientSession) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
    await session.close()
