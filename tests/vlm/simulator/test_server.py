"""The simulator over a real socket: what any OpenAI-compatible client sees, and what hostile requests get."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import numpy as np
import pytest
from aiohttp import web
from openai import AsyncOpenAI
from PIL import Image

from anomreason.errors import EndpointError
from anomreason.images import Encoded
from anomreason.vlm.endpoint.openai import OpenAIVLM
from anomreason.vlm.protocol import Reply, Request, Sampling, Tag, VLMOptions
from anomreason.vlm.simulator.model import Simulator, SimulatorRates
from anomreason.vlm.simulator.server import make_app

T = TypeVar("T")
TRUTH = {
    "objects": [{"name": "häuschen/1", "description": "", "box": [0, 0, 0.5, 1]}],
    "anomalies": [
        {"name": "é\n", "phenomenon": "p", "reasoning": "r", "severity": 3, "objects": ["häuschen/1"]},
        {"name": "Two suns", "phenomenon": "p", "reasoning": "r", "severity": 99.5, "region": [0.1, 0.2, 0.3, 0.4]},
    ],
    "generated": False,
}
TEXT = {"type": "text", "text": "look"}


def encoded(seed: int = 0, kind: str = "png") -> Encoded:
    cells = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    out = BytesIO()
    Image.fromarray(cells).resize((64, 48), Image.Resampling.BICUBIC).save(out, kind)
    return Encoded(out.getvalue(), f"image/{kind}", 64, 48)


@pytest.fixture(scope="module")
def truth_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("truth") / "truth.json"
    (path.parent / "0.png").write_bytes(encoded().data)
    path.write_text(json.dumps({"0.png": TRUTH}))
    return path


def served(simulator: Simulator, visit: Callable[[str], Awaitable[T]]) -> T:
    """What `visit` makes of the server's base URL."""

    async def run() -> T:
        runner = web.AppRunner(make_app(simulator), access_log=None, handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return await visit(f"http://127.0.0.1:{runner.addresses[0][1]}")
        finally:
            await runner.cleanup()

    return asyncio.run(run())


def asked(step: str = "single", number: int = 0, of: str | None = None, **more: Any) -> Request:
    tag = Tag("pictures/0.png", "Role", step, of, number)
    return Request(("common", encoded(), f"question {number}"), tag, **more)


def test_the_real_client_gets_what_the_simulator_says_in_process(truth_file: Path) -> None:
    requests = [
        asked("single"),
        asked("objects-1", 1),
        asked("attributes-1", 2, of="häuschen/1"),
        asked("inspect", 3),
        asked("source", 4, sampling=Sampling(max_tokens=1, logprobs=True)),
        replace(asked("single", 5), turns=(("not so", "again"),)),
        asked("single", 6, sampling=Sampling(max_tokens=10)),
        replace(asked("scan", 7), parts=("common", encoded(0, "jpeg"), "look", encoded(3))),
    ]

    async def both(url: str) -> tuple[list[Reply], list[Reply]]:
        vlm = OpenAIVLM("any", VLMOptions(base_urls=(f"{url}/v1",)))
        try:
            here = Simulator.from_file(truth_file)
            return [await vlm.ask(r) for r in requests], [await here.ask(r) for r in requests]
        finally:
            await vlm.close()

    simulator = Simulator.from_file(truth_file)
    there, here = served(simulator, both)
    assert there == here
    assert simulator.outcomes == {"ok": 7, "truncated": 1}


def test_without_headers_the_name_of_the_schema_tells_the_step(truth_file: Path) -> None:
    async def post(url: str) -> dict[str, Any]:
        schema = {"name": "objects-1", "schema": {"type": "object", "properties": {"objects": {}}}}
        image = {"type": "image_url", "image_url": {"url": encoded().data_url}}
        body = {"messages": [{"role": "user", "content": [TEXT, image]}]}
        body |= {"response_format": {"type": "json_schema", "json_schema": schema}}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{url}/v1/chat/completions", json=body) as response,
        ):
            reply = await response.json()
            return json.loads(re.search(r"\{.*\}", reply["choices"][0]["message"]["content"], re.DOTALL)[0])

    found = served(Simulator.from_file(truth_file), post)
    assert [each["name"] for each in found["objects"]] == ["häuschen/1", "scene"]


def test_failures_arrive_as_what_they_are(truth_file: Path) -> None:
    rates = SimulatorRates(rate_limited=0.2, server_errors=0.2, refused=0.25, truncated=0.25, malformed=0.25)
    waits = set()

    async def ask_all(url: str) -> tuple[list[str], dict[str, Any]]:
        vlm = OpenAIVLM("any", VLMOptions(base_urls=(f"{url}/v1",)))

        async def one(number: int) -> str:
            try:
                reply = await vlm.ask(asked("single", number))
            except EndpointError as error:
                waits.add((error.kind, error.retry_after))
                return error.kind
            return reply.finish

        try:
            found = await asyncio.gather(*[one(number) for number in range(60)])
        finally:
            await vlm.close()
        async with aiohttp.ClientSession() as session, session.get(f"{url}/stats") as response:
            return found, await response.json()

    found, stats = served(Simulator.from_file(truth_file, rates), ask_all)
    counted = {kind: found.count(kind) for kind in ("rate_limit", "server", "refused")}
    outcomes = stats["outcomes"]
    assert counted == {kind: outcomes[kind] for kind in counted}
    assert waits == {("rate_limit", 0.05), ("server", None)}
    assert found.count("length") == outcomes["truncated"]
    assert found.count("stop") == outcomes["ok"] + outcomes["malformed"]
    assert stats["requests"] == sum(outcomes.values()) == 60
    assert stats["steps"] == {"Role/single": 60}


def test_a_hang_lasts_until_the_client_gives_up(truth_file: Path) -> None:
    async def give_up(url: str) -> str:
        vlm = OpenAIVLM("any", VLMOptions(base_urls=(f"{url}/v1",), timeout=0.3))
        try:
            with pytest.raises(EndpointError) as raised:
                await vlm.ask(asked())
            return raised.value.kind
        finally:
            await vlm.close()

    assert served(Simulator.from_file(truth_file, SimulatorRates(hangs=1)), give_up) == "timeout"


def test_the_official_client_lists_models_and_completes(truth_file: Path) -> None:
    async def visit(url: str) -> tuple[str, Any]:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            models = [model.id async for model in client.models.list()]
            image: Any = {"type": "image_url", "image_url": {"url": encoded().data_url}}
            messages: Any = [{"role": "system", "content": "Answer."}, {"role": "user", "content": [TEXT, image]}]
            return models[0], await client.chat.completions.create(model=models[0], messages=messages)

    model, completion = served(Simulator.from_file(truth_file), visit)
    assert model == completion.model == "sim:truth.json"
    assert completion.choices[0].finish_reason == "stop"
    assert "Two suns" in completion.choices[0].message.content
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


def image_part(url: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [TEXT, {"type": "image_url", "image_url": {"url": url}}]}]}


def as_url(data: bytes, head: str = "data:image/png;base64,") -> str:
    return head + base64.b64encode(data).decode()


WRONG: dict[str, Any] = {
    "no JSON": b"{",
    "deep JSON": b"[" * 100_000,
    "not UTF-8": b'{"messages": "\xff"}',
    "no messages": {"messages": []},
    "unknown part": {"messages": [{"role": "user", "content": [{"type": "audio"}]}]},
    "streaming": image_part(encoded().data_url) | {"stream": True},
    "several choices": image_part(encoded().data_url) | {"n": 3},
    "fetched image": image_part("http://127.0.0.1:9/secret.png"),
    "file": image_part("file:///etc/passwd"),
    "no base64": image_part("data:image/png;base64,%%%"),
    "no picture": image_part(as_url(b"hello")),
    "cut picture": image_part(as_url(encoded().data[:200])),
    "unknown picture": image_part(encoded(9).data_url),
    "no picture at all": {"messages": [{"role": "user", "content": "hello"}]},
    "wrong turns": {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]},
    "late image": {
        "messages": [*image_part(encoded().data_url)["messages"], {"role": "assistant", "content": "a"}]
        + image_part(encoded().data_url)["messages"]
    },
    "strange schema": image_part(encoded(9).data_url)
    | {"response_format": {"type": "json_schema", "json_schema": {"schema": {"properties": 5}}}},
}


def test_wrong_requests_are_refused_with_a_reason_and_counted(truth_file: Path) -> None:
    async def post_all(url: str) -> dict[str, tuple[int, Any]]:
        found = {}
        async with aiohttp.ClientSession() as session:
            for name, body in WRONG.items():
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                async with session.post(f"{url}/v1/chat/completions", data=data) as response:
                    found[name] = (response.status, await response.json())
        return found

    simulator = Simulator.from_file(truth_file)
    found = served(simulator, post_all)
    assert {name: status for name, (status, _) in found.items()} == dict.fromkeys(WRONG, 400)
    assert all(body["error"]["message"] for _, body in found.values())
    assert simulator.outcomes == {"rejected": len(WRONG)}


def test_a_wrong_sample_header_and_a_huge_body_are_refused(truth_file: Path) -> None:
    async def post_both(url: str) -> list[int]:
        async with aiohttp.ClientSession() as session:
            headers = {"X-Anomreason-Sample": "many"}
            body = json.dumps(image_part(encoded().data_url))
            async with session.post(f"{url}/v1/chat/completions", data=body, headers=headers) as wrong:
                pass
            async with session.post(f"{url}/v1/chat/completions", data=BytesIO(b" " * (64 * 2**20 + 1))) as huge:
                return [wrong.status, huge.status]

    assert served(Simulator.from_file(truth_file), post_both) == [400, 413]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_told_to_stop(truth_file: Path, number: signal.Signals) -> None:
    program = """
import sys
from anomreason.vlm.simulator.model import Simulator
from anomreason.vlm.simulator.server import serve
serve(Simulator.from_file(sys.argv[1]), port=0, on_ready=lambda url: print(url, flush=True))
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(truth_file)], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        with urllib.request.urlopen(f"{url}/models", timeout=120) as response:
            assert json.load(response)["data"][0]["id"] == "sim:truth.json"
        server.send_signal(number)
        assert server.wait(timeout=600) == 0
