"""A small images endpoint that behaves as the prompt asks: `refused`, `busy once`, `url`, `huge`, `hang` ...

Models called `style ...` draw images of their own."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from aiohttp import web
from PIL import Image

from anomreason.dataset.generators.endpoint import LARGEST_ANSWER

POLICY = {"error": {"code": "content_policy_violation", "message": "Your request was rejected by our safety system."}}
FIXED: dict[str, Callable[[], web.Response]] = {
    "refused": lambda: web.json_response(POLICY, status=400),
    "always busy": lambda: web.Response(status=429),
    "wait an hour": lambda: web.Response(status=429, headers={"Retry-After": "3600"}),
    "bad size": lambda: web.json_response({"error": {"message": "size 7x7 is not one of ours"}}, status=400),
    "redirect": lambda: web.Response(status=302, headers={"Location": "http://127.0.0.1:9/elsewhere"}),
    "gateway timeout": lambda: web.Response(status=504),
    "elsewhere": lambda: web.json_response({"data": [{"url": "http://127.0.0.1:9/secret.png?signature=word"}]}),
    "missing file": lambda: web.json_response({"data": [{"url": "/files/missing"}]}),
    "web page": lambda: web.Response(text="<html>Welcome!</html>", content_type="text/html"),
    "empty": lambda: web.json_response({"data": []}),
    "no base64": lambda: web.json_response({"data": [{"b64_json": "***"}]}),
    "no image": lambda: web.json_response({"data": [{"b64_json": coded(b"plain words")}]}),
    "huge": lambda: web.Response(body=b" " * (LARGEST_ANSWER + 1)),
    "bomb": lambda: web.Response(body=gzip.compress(b" " * (LARGEST_ANSWER + 1)), headers={"Content-Encoding": "gzip"}),
    "black": lambda: web.json_response({"data": [{"b64_json": coded(written(Image.new("RGB", (16, 16))))}]}),
}
"""Answers by prompt."""


def coded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def written(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, comment="made by a model")
    return buffer.getvalue()


def drawn(text: str) -> Image.Image:
    """A small image that only this text gives."""
    pixels = hashlib.sha512(text.encode()).digest()[:48]
    return Image.frombytes("RGB", (4, 4), pixels).resize((16, 16), Image.Resampling.NEAREST)


class ImagesServer:
    """What it was asked, and how it answers."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.asked: Counter[str] = Counter()
        """Requests by prompt."""
        self.at_once = self.most_at_once = 0
        self.arrived: Callable[[int], None] = lambda count: None
        """Called with the number of requests so far, before one is answered."""
        self.closing = asyncio.Event()
        self.three = asyncio.Barrier(3)
        """Answers to `together ...` wait until three are asked for at once."""

    async def generations(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        self.keys.add(request.headers.get("Authorization"))
        self.asked[body["prompt"]] += 1
        self.arrived(len(self.requests))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(0.001)
            return await self._answer(body["prompt"], body)
        finally:
            self.at_once -= 1

    async def _answer(self, prompt: str, body: dict[str, Any]) -> web.Response:
        if prompt in FIXED:
            return FIXED[prompt]()
        if prompt.startswith("once ") and self.asked[prompt] == 1:
            return web.Response(status=int(prompt.removeprefix("once ")), headers={"Retry-After": "0.01"})
        if prompt == "hang":
            await self.closing.wait()
        if prompt.startswith("together "):
            await self.three.wait()
        if prompt == "bad key":
            key = self.keys - {None}
            return web.json_response({"error": {"message": f"wrong key {key}"}}, status=401)
        if prompt == "url":
            return web.json_response({"data": [{"url": "/files/url"}]})
        style = f"{body['model']} " if body["model"].startswith("style ") else ""
        image = drawn(f"{style}{prompt} {body.get('seed')}")
        if prompt == "data url":
            return web.json_response({"data": [{"url": f"data:image/png;base64,{coded(written(image))}"}]})
        entry = {"b64_json": coded(written(image, "JPEG" if prompt == "jpeg" else "PNG"))}
        return web.json_response({"data": [entry | {"revised_prompt": f"A photograph: {prompt}"}]})

    async def file(self, request: web.Request) -> web.Response:
        self.keys.add(request.headers.get("Authorization"))
        if request.match_info["name"] == "missing":
            return web.Response(status=404)
        return web.Response(body=written(drawn("url")))


@contextmanager
def images_server() -> Iterator[ImagesServer]:
    """The server on a loopback port, in a thread of its own; `url` is its base URL."""
    server, ready = ImagesServer(), threading.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/v1/images/generations", server.generations)
        app.router.add_get("/files/{name}", server.file)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        ready.set()
        await server.closing.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(120)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(server.closing.set)
        thread.join(120)
        loop.close()
