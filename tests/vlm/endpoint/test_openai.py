"""A model behind an endpoint: what is sent, what comes back, and what is learnt, over a real socket."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import socket
import traceback
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from anomreason.anomaly import Usage
from anomreason.errors import Charge, EndpointError, UsageError
from anomreason.images import Encoded
from anomreason.vlm.endpoint.chat import endpoint_schema
from anomreason.vlm.endpoint.openai import OpenAIVLM
from anomreason.vlm.protocol import Reply, Request, Sampling, Tag, VLMOptions

KEY = "sk-proj-abcdefghijklmnop0123456789"
PICTURE = Encoded(data=b"\xff\xd8" + bytes(range(256)) * 4, mime="image/jpeg", width=8, height=8)
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 9}}, "required": ["name"]}
ASK = Request(parts=("What is odd?", PICTURE), tag=Tag(image="a.jpg", role="AnomalyFormatter", step="single"))
WITH_SCHEMA = replace(ASK, schema=SCHEMA)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Scripted = Handler | tuple[int, Any]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OPENAI_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@dataclass
class Server:
    """Answers each request with the next of its script, the last one again and again; keeps what it was sent."""

    script: tuple[Scripted, ...]
    url: str = ""
    bodies: list[Any] = field(default_factory=list)
    headers: list[Any] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        answer = self.script[min(len(self.bodies), len(self.script) - 1)]
        self.headers.append(request.headers)
        self.bodies.append(await request.json())
        if callable(answer):
            return await answer(request)
        status, body = answer
        return (
            web.json_response(body, status=status)
            if not isinstance(body, str)
            else web.Response(text=body, status=status)
        )


@asynccontextmanager
async def serving(*script: Scripted, host: str = "127.0.0.1") -> AsyncIterator[Server]:
    server = Server(script)
    app = web.Application(client_max_size=2**28)
    app.router.add_post("/v1/chat/completions", server.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    listening = socket.create_server((host, 0), backlog=512)
    await web.SockSite(runner, listening).start()
    server.url = f"http://{host}:{listening.getsockname()[1]}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()


@asynccontextmanager
async def model(*urls: str, timeout: float = 20.0, in_flight: int = 32) -> AsyncIterator[OpenAIVLM]:
    named = "OPENAI_API_KEY" if os.environ.get("OPENAI_API_KEY") else None
    vlm = OpenAIVLM("gpt-4o", VLMOptions(base_urls=urls, timeout=timeout, in_flight=in_flight, api_key_env=named))
    try:
        yield vlm
    finally:
        await vlm.close()


def completion(text: Any = "Nothing is odd.", finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return {"object": "chat.completion", "model": "gpt-4o-2024-08-06", "choices": [choice], **more}


def complaint(message: str, **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **more}}


GOOD = (200, completion())


def exchange(request: Request, *script: Scripted, asks: int = 1) -> tuple[list[Reply | EndpointError], Server]:
    """Ask the same thing `asks` times: what came of each, and the server with what it was sent."""

    async def go() -> tuple[list[Reply | EndpointError], Server]:
        async with serving(*script) as server, model(server.url) as vlm:
            return [await outcome(vlm, request) for _ in range(asks)], server

    return asyncio.run(go())


async def outcome(vlm: OpenAIVLM, request: Request) -> Reply | EndpointError:
    try:
        return await vlm.ask(request)
    except EndpointError as e:
        return e


def kinds(outcomes: list[Reply | EndpointError]) -> list[str]:
    return [o.kind if isinstance(o, EndpointError) else o.finish for o in outcomes]


def replied(request: Request, body: Any) -> Reply:
    [reply], _ = exchange(request, (200, body))
    assert isinstance(reply, Reply)
    return reply


def failed(*script: Scripted, request: Request = ASK) -> EndpointError:
    [error], _ = exchange(request, *script)
    assert isinstance(error, EndpointError)
    return error


class TestWhatIsSent:
    def test_parts_and_turns_go_in_order(self) -> None:
        crop = Encoded(data=b"\x89PNG", mime="image/png", width=1, height=1)
        asked = replace(ASK, parts=("Ganz: “ß”\n", PICTURE, "and", crop), turns=(("no \ud800 idea", "again"),))
        _, server = exchange(asked, GOOD)
        first, *turns = server.bodies[0]["messages"]
        assert first == {
            "role": "user",
            "content": [
                {"type": "text", "text": "Ganz: “ß”\n"},
                {"type": "image_url", "image_url": {"url": PICTURE.data_url}},
                {"type": "text", "text": "and"},
                {"type": "image_url", "image_url": {"url": crop.data_url}},
            ],
        }
        assert turns == [{"role": "assistant", "content": "no \ud800 idea"}, {"role": "user", "content": "again"}]

    def test_only_what_was_asked_for_is_asked(self) -> None:
        _, server = exchange(ASK, GOOD)
        assert {k: v for k, v in server.bodies[0].items() if k != "messages"} == {
            "model": "gpt-4o",
            "max_tokens": 2048,
            "temperature": 0.0,
        }

    def test_sampling_and_schema_travel(self) -> None:
        sampling = Sampling(temperature=0.5, max_tokens=7, seed=3, logprobs=True)
        tag = replace(ASK.tag, step="relations 1/2")
        _, server = exchange(replace(WITH_SCHEMA, sampling=sampling, tag=tag), GOOD)
        body = server.bodies[0]
        assert (body["temperature"], body["max_tokens"], body["seed"]) == (0.5, 7, 3)
        assert (body["logprobs"], body["top_logprobs"]) == (True, 20)
        assert body["response_format"] == {
            "type": "json_schema",
            "json_schema": {"name": "relations_1_2", "strict": True, "schema": endpoint_schema(SCHEMA)},
        }

    def test_a_picture_of_several_megabytes_arrives_whole(self) -> None:
        large = replace(PICTURE, data=os.urandom(3_000_000))
        [reply], server = exchange(replace(ASK, parts=(large,)), GOOD)
        assert isinstance(reply, Reply)
        assert server.bodies[0]["messages"][0]["content"][0]["image_url"]["url"] == large.data_url
        assert "Transfer-Encoding" not in server.headers[0]

    def test_a_server_on_this_machine_learns_who_asks(self) -> None:
        tag = Tag(image="ä b/1.jpg", role="AttributeAnalyzer", step="attributes-1", object="red\ncar", sample=2)
        _, server = exchange(replace(ASK, tag=tag), GOOD)
        told = server.headers[0]
        expected = {
            "X-Anomreason-Role": "AttributeAnalyzer",
            "X-Anomreason-Step": "attributes-1",
            "X-Anomreason-Object": "red%0Acar",
            "X-Anomreason-Image": "%C3%A4%20b/1.jpg",
            "X-Anomreason-Sample": "2",
        }
        assert {name: told.get(name) for name in expected} == expected

    def test_no_other_server_learns_file_names(self) -> None:
        async def go() -> Server:
            # To the client 0.0.0.0 is an address like any other; the system takes it to this machine.
            async with serving(GOOD, host="0.0.0.0") as server, model(server.url) as vlm:
                await vlm.ask(ASK)
                return server

        server = asyncio.run(go())
        assert not [name for name in server.headers[0] if name.lower().startswith("x-anomreason")]


class TestReply:
    def test_text_model_and_tokens(self) -> None:
        usage = {"prompt_tokens": 1200, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 1024}}
        reply = replied(ASK, completion("Six fingers.", usage=usage))
        assert (reply.text, reply.finish, reply.model) == ("Six fingers.", "stop", "gpt-4o-2024-08-06")
        assert reply.usage == Usage(calls=1, prompt_tokens=1200, cached_tokens=1024, completion_tokens=7)

    def test_a_server_that_reports_neither_model_nor_tokens(self) -> None:
        body = completion("A word.")
        del body["model"]
        reply = replied(ASK, body)
        assert (reply.model, reply.usage) == ("gpt-4o", Usage(calls=1, completion_tokens=3, estimated=True))

    def test_usage_that_comes_with_no_use_is_booked(self) -> None:
        usage = {"prompt_tokens": 900, "completion_tokens": 80}
        billed = Usage(calls=1, prompt_tokens=900, completion_tokens=80)
        for script in (
            (200, completion(None, usage=usage)),
            (200, {"choices": [], "usage": usage}),
            (500, {**complaint("upstream died"), "usage": usage}),
            (400, {**complaint("no"), "usage": usage}),
        ):
            assert failed(script).charge == Charge(prompt_tokens=900, completion_tokens=80)
        [reply], _ = exchange(ASK, (400, {**complaint("x", code="content_filter"), "usage": usage}))
        assert isinstance(reply, Reply)
        assert (reply.finish, reply.usage) == ("refused", billed)

    def test_what_may_have_been_charged_is_marked_and_what_was_not_is_not(self) -> None:
        assert failed((200, completion(None))).charge == Charge()
        assert failed((504, "")).charge == Charge()
        assert failed((200, "<html>Welcome to nginx</html>")).charge is None
        assert failed((503, "")).charge is None
        assert failed((401, "")).charge is None

    def test_a_server_that_was_never_reached_has_charged_nothing(self) -> None:
        async def ask() -> None:
            vlm = OpenAIVLM("m", VLMOptions(base_urls=("http://127.0.0.1:9/v1",)))
            try:
                await vlm.ask(ASK)
            finally:
                await vlm.close()

        with pytest.raises(EndpointError) as refused:
            asyncio.run(ask())
        assert (refused.value.kind, refused.value.charge) == ("connection", None)

    @pytest.mark.parametrize(
        ("finish", "expected"),
        [
            *[
                (reason, "stop")
                for reason in ("stop", "eos", "STOP", "end_turn", "eos_token", "COMPLETE", "tool_calls")
            ],
            *[(reason, "length") for reason in ("length", "MAX_TOKENS", "model_length", "max_output_tokens", "limit")],
            *[(reason, "refused") for reason in ("content_filter", "refusal", "SAFETY", "PROHIBITED_CONTENT")],
            *[(reason, "unknown") for reason in (None, "", "null", "FINISH_REASON_UNSPECIFIED", "OTHER")],
        ],
    )
    def test_finish(self, finish: str | None, expected: str) -> None:
        assert replied(ASK, completion(finish=finish)).finish == expected

    def test_a_reply_cut_before_its_first_word_is_a_cut_reply(self) -> None:
        reply = replied(ASK, completion(None, "length"))
        assert (reply.text, reply.finish) == ("", "length")

    def test_a_refusal_is_a_reply(self) -> None:
        body = completion(None)
        body["choices"][0]["message"]["refusal"] = "I cannot look at people."
        reply = replied(ASK, body)
        assert (reply.text, reply.finish) == ("I cannot look at people.", "refused")

    def test_a_filtered_request_is_a_refusal_that_used_nothing(self) -> None:
        body = complaint("The response was filtered by Azure's content management policy.", code="content_filter")
        [reply], _ = exchange(WITH_SCHEMA, (400, body))
        assert isinstance(reply, Reply)
        assert (reply.finish, reply.usage) == ("refused", Usage(calls=1))

    def test_text_in_parts_is_joined_and_reasoning_left_out(self) -> None:
        parts = [{"type": "thinking", "text": "hm"}, {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
        body = completion(parts)
        body["choices"][0]["message"]["reasoning_content"] = "long thoughts"
        assert replied(ASK, body).text == "ab"

    def test_alternatives_of_the_first_token(self) -> None:
        tops = [{"token": "Yes", "logprob": -0.1}, {"token": "No", "logprob": -2.5}]
        body = completion("Yes")
        body["choices"][0]["logprobs"] = {"content": [{"token": "Yes", "logprob": -0.1, "top_logprobs": tops}]}
        assert replied(ASK, body).logprobs == {"Yes": -0.1, "No": -2.5}

    @pytest.mark.parametrize(
        ("content", "tokens"),
        [
            ("Yes", ["<think>", "No", "?", "</think>", "\n\n", "Yes"]),  # thinking kept apart by the server
            ("<think>No?</think>\n\nYes", ["<think>", "No", "?", "</think>", "\n\n", "Yes"]),
            ("**Yes**, it is.", ["**", "Yes", "**", ",", " it", " is", "."]),
            ('"Yes"', ['"', "Yes", '"']),
        ],
    )
    def test_alternatives_are_those_where_the_answer_begins(self, content: str, tokens: list[str]) -> None:
        body = completion(content)
        answer = {"Yes": -0.1, "No": -2.5}
        tops = [{"token": token, "logprob": value} for token, value in answer.items()]
        listed = [{"token": t, "logprob": -0.1, "top_logprobs": tops if t == "Yes" else []} for t in tokens]
        body["choices"][0]["logprobs"] = {"content": listed}
        assert replied(ASK, body).logprobs == answer

    @pytest.mark.parametrize(
        "body",
        [
            completion(None),
            {"choices": []},
            {"choices": None},
            {},
            [],
            "<html>Welcome to nginx</html>",
            "{",
            "",
            "[" * 100_000,
            {"choices": [{"message": None}]},
            {"choices": [{"message": {"content": "half"}, "finish_reason": "error"}]},
        ],
    )
    def test_what_is_no_completion_is_the_servers_fault(self, body: Any) -> None:
        assert failed((200, body)).kind == "server"

    def test_an_endless_answer_is_given_up(self) -> None:
        async def endless(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            try:
                for _ in range(1000):
                    await response.write(b" " * 2**20)
            except ConnectionError:
                pass
            return response

        error = failed(endless)
        assert error.kind == "server"
        assert "bytes" in str(error)

    @pytest.mark.parametrize("packing", ["gzip", "deflate"])
    def test_an_answer_that_comes_packed_is_read(self, packing: str) -> None:
        async def packed(request: web.Request) -> web.StreamResponse:
            data = json.dumps(completion("packed")).encode()
            body = gzip.compress(data) if packing == "gzip" else zlib.compress(data)
            return web.Response(body=body, headers={"Content-Encoding": packing})

        [reply], _ = exchange(ASK, packed)
        assert isinstance(reply, Reply)
        assert reply.text == "packed"

    def test_a_packing_that_was_not_asked_for_is_named(self) -> None:
        async def packed(request: web.Request) -> web.StreamResponse:
            return web.Response(body=b"xx", headers={"Content-Encoding": "br"})

        assert "'br'" in str(failed(packed))

    def test_bombs_in_all_calls_in_flight_take_little_memory(self) -> None:
        bomb = gzip.compress(b" " * 2**28)

        async def explode(request: web.Request) -> web.StreamResponse:
            return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

        async def go() -> tuple[set[str], int]:
            async with serving(explode) as server, model(server.url) as vlm:
                tracemalloc.start()
                outcomes = await asyncio.gather(*(outcome(vlm, ASK) for _ in range(32)))
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                return set(kinds(outcomes)), peak

        found, peak = asyncio.run(go())
        assert found == {"server"}
        assert peak < 150 * 2**20

    def test_a_compressed_bomb_is_not_unpacked(self) -> None:
        async def bomb(request: web.Request) -> web.StreamResponse:
            return web.Response(body=b"\0" * 600_000, headers={"Content-Encoding": "gzip"})

        assert failed(bomb).kind in ("server", "connection")


REFUSALS: list[tuple[str, int, dict[str, Any]]] = [
    ("response_format", 400, complaint("Invalid parameter: 'response_format' of type 'json_schema' is not supported")),
    ("response_format", 400, complaint("This response_format type is unavailable now")),
    (
        "response_format",
        422,
        {"detail": [{"loc": ["body", "response_format"], "msg": "Extra inputs", "input": "seed"}]},
    ),
    ("response_format", 404, complaint("This model does not support response format `json_schema`.")),
    ("temperature", 400, complaint("'temperature' does not support 0 with this model.", param="temperature")),
    ("seed", 400, complaint('Invalid JSON payload received. Unknown name "seed": Cannot find field.')),
    ("seed", 422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "not permitted"}]}),
    ("logprobs", 403, complaint("You are not allowed to request logprobs from this model.")),
    ("temperature", 400, complaint("Provider returned error", metadata={"raw": '{"message": "temperature: no"}'})),
]
EVERYTHING = replace(WITH_SCHEMA, sampling=Sampling(seed=1, logprobs=True))


class TestWhatIsLearnt:
    @pytest.mark.parametrize(("option", "status", "body"), REFUSALS)
    def test_a_refused_option_is_left_out_from_then_on(self, option: str, status: int, body: Any) -> None:
        outcomes, server = exchange(EVERYTHING, (status, body), GOOD, asks=3)
        assert kinds(outcomes) == ["adjusted", "stop", "stop"]
        first, *later = server.bodies
        assert option in first
        gone = {option, "top_logprobs"} if option == "logprobs" else {option}
        assert [set(first) - set(body) for body in later] == [gone, gone]

    def test_fewer_alternatives_are_asked_for_where_the_server_gives_fewer(self) -> None:
        body = {"object": "error", "message": "Requested sample logprobs of 20, max allowed: 5", "code": 400}
        outcomes, server = exchange(EVERYTHING, (400, body), GOOD, asks=3)
        assert kinds(outcomes) == ["adjusted", "stop", "stop"]
        assert [sent["top_logprobs"] for sent in server.bodies] == [20, 5, 5]

    def test_a_server_that_refuses_any_number_of_alternatives_is_asked_without(self) -> None:
        body = complaint("top_logprobs must be between 0 and 5")
        outcomes, server = exchange(EVERYTHING, (400, body), (400, body), GOOD, asks=3)
        assert kinds(outcomes) == ["adjusted", "adjusted", "stop"]
        assert ["logprobs" in sent for sent in server.bodies] == [True, True, False]

    def test_the_other_name_of_the_cap_is_learnt(self) -> None:
        message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
        outcomes, server = exchange(WITH_SCHEMA, (400, complaint(message, param="max_tokens")), GOOD, asks=2)
        assert kinds(outcomes) == ["adjusted", "stop"]
        assert server.bodies[1]["max_completion_tokens"] == 2048
        assert "max_tokens" not in server.bodies[1]

    @pytest.mark.parametrize(
        ("status", "message"),
        [
            (404, "No endpoints found that can handle the requested parameters."),
            (422, "Unprocessable"),
            (500, "TypeError: create() got an unexpected keyword argument"),
        ],
    )
    def test_a_server_that_does_not_say_which_option_is_asked_without_all(self, status: int, message: str) -> None:
        async def picky(request: web.Request) -> web.StreamResponse:
            if {"response_format", "seed", "logprobs"} & set(await request.json()):
                return web.json_response(complaint(message), status=status)
            return web.json_response(completion())

        later = replace(EVERYTHING, tag=replace(ASK.tag, image="b.jpg"))
        bodies = asked_in_turn(picky, requests=[EVERYTHING] * 3 + [later])
        assert [len({"response_format", "seed", "logprobs"} & set(body)) for body in bodies] == [3, 2, 0, 0]

    def test_a_model_that_does_not_exist_is_asked_once(self) -> None:
        assert failed((404, complaint("The model `x` does not exist")), request=EVERYTHING).kind == "rejected"

    def test_an_empty_turn_of_the_model_is_not_sent(self) -> None:
        asked = replace(ASK, turns=(("  ", "Give the whole answer again."),))
        _, server = exchange(asked, GOOD)
        [only] = server.bodies[0]["messages"]
        assert only["content"][-1] == {"type": "text", "text": "Give the whole answer again."}

    @pytest.mark.parametrize(
        ("status", "message", "limit"),
        [
            (400, "messages.0.content.1.image: image exceeds 100 KB maximum: 6123456 bytes > 100000 bytes", 100_000),
            (400, "Image size is too large, at most 0.1 MB", 100_000),
            (413, "Payload too large", None),
        ],
    )
    def test_an_image_with_too_many_bytes_is_packed_and_that_is_noted(
        self, status: int, message: str, limit: int | None
    ) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).resize((512, 512)).save(buffer, "PNG", compress_level=0)
        large = Encoded(buffer.getvalue(), "image/png", 512, 512)
        asked = replace(ASK, parts=("What is odd?", large))
        outcomes, server = exchange(asked, (status, complaint(message)), GOOD, asks=3)
        assert kinds(outcomes) == ["adjusted", "stop", "stop"]
        first, *later = [body["messages"][0]["content"][1]["image_url"]["url"] for body in server.bodies]
        assert len(later[0]) <= (limit or len(first) // 2)
        assert later[0] == later[1]
        assert later[0].startswith("data:image/jpeg")
        last = outcomes[-1]
        assert isinstance(last, Reply)
        assert "packed as JPEG" in last.sent_notes[0]

    @pytest.mark.parametrize(
        "message",
        [
            "At most 1 image(s) may be provided in one prompt.",
            "You set image=1 (or defaulted to 1) in `--limit-mm-per-prompt`, but passed 2 image items.",
            "vision model only supports a single image per message",
            "This model does not support multiple images",
        ],
    )
    def test_a_server_that_takes_one_image_gets_the_first_and_that_is_noted(self, message: str) -> None:
        asked = replace(ASK, parts=("What is odd?", PICTURE, "Look.", replace(PICTURE, width=9)))
        outcomes, server = exchange(asked, (400, complaint(message)), GOOD, asks=3)
        assert kinds(outcomes) == ["adjusted", "stop", "stop"]
        shown = [[part["type"] for part in body["messages"][0]["content"]] for body in server.bodies]
        assert shown == [["text", "image_url", "text", "image_url"]] + [["text", "image_url", "text", "text"]] * 2
        last = outcomes[-1]
        assert isinstance(last, Reply)
        assert "one image a request" in last.sent_notes[0]

    def test_one_thing_after_the_other(self) -> None:
        script = [(400, complaint(f"{name} is not supported")) for name in ("max_tokens", "temperature", "json_schema")]
        outcomes, server = exchange(WITH_SCHEMA, *script, GOOD, asks=4)
        assert kinds(outcomes) == ["adjusted", "adjusted", "adjusted", "stop"]
        assert set(server.bodies[3]) == {"messages", "model", "max_completion_tokens"}

    @pytest.mark.parametrize("option", ["response_format", "max_tokens", "temperature", "seed", "logprobs", "this"])
    def test_a_server_that_never_has_enough_is_given_up(self, option: str) -> None:
        outcomes, _ = exchange(EVERYTHING, (400, complaint(f"{option} is not supported")), asks=3)
        assert kinds(outcomes)[-1] == "rejected"
        assert kinds(outcomes)[0] == "adjusted"

    def test_calls_that_were_under_way_are_asked_again_too(self) -> None:
        async def go() -> tuple[list[str], Server]:
            arrived = asyncio.Event()

            async def refuse_when_both_are_here(_: web.Request) -> web.StreamResponse:
                if len(server.bodies) == 2:
                    arrived.set()
                await arrived.wait()
                return web.json_response(complaint("json_schema is not supported"), status=400)

            script = (refuse_when_both_are_here, refuse_when_both_are_here, GOOD)
            async with serving(*script) as server, model(server.url) as vlm:
                both = await asyncio.gather(outcome(vlm, WITH_SCHEMA), outcome(vlm, WITH_SCHEMA))
                return kinds([*both, await outcome(vlm, WITH_SCHEMA)]), server

        outcomes, server = asyncio.run(go())
        assert outcomes == ["adjusted", "adjusted", "stop"]
        assert "response_format" not in server.bodies[2]

    @pytest.mark.parametrize("message", ["Invalid schema for response_format 'single'", "failed to parse grammar"])
    def test_one_bad_schema_does_not_cost_the_others(self, message: str) -> None:
        other = replace(WITH_SCHEMA, tag=replace(ASK.tag, step="perceive"))
        bodies = asked_in_turn((400, complaint(message)), GOOD, requests=[WITH_SCHEMA, WITH_SCHEMA, other])
        assert ["response_format" in body for body in bodies] == [True, False, True]

    def test_an_unexplained_refusal_is_blamed_on_the_schema_only_when_it_works_without(self) -> None:
        next_image = replace(WITH_SCHEMA, tag=replace(ASK.tag, image="b.jpg"))
        unexplained = (400, complaint("Bad Request"))
        bodies = asked_in_turn(unexplained, GOOD, requests=[WITH_SCHEMA, WITH_SCHEMA, next_image])
        assert ["response_format" in body for body in bodies] == [True, False, False]
        bodies = asked_in_turn(unexplained, unexplained, GOOD, requests=[WITH_SCHEMA, WITH_SCHEMA, next_image])
        assert ["response_format" in body for body in bodies] == [True, False, True]

    def test_an_option_that_was_not_sent_is_never_the_reason(self) -> None:
        outcomes, _ = exchange(ASK, (400, complaint("seed is not supported")), asks=2)
        assert kinds(outcomes) == ["rejected", "rejected"]


def asked_in_turn(*script: Scripted, requests: list[Request]) -> list[Any]:
    """The bodies that one model sent for these requests."""

    async def go() -> list[Any]:
        async with serving(*script) as server, model(server.url) as vlm:
            for request in requests:
                await outcome(vlm, request)
            return server.bodies

    return asyncio.run(go())


class TestFailures:
    @pytest.mark.parametrize(
        ("status", "body", "kind", "hint"),
        [
            (401, complaint("Incorrect API key provided"), "rejected", "--api-key-env"),
            (403, complaint("Country not supported"), "rejected", "--api-key-env"),
            (400, complaint("image exceeds 5 MB maximum: 6123456 bytes > 5242880 bytes"), "rejected", "--max-side"),
            (400, complaint("Image size is too large"), "rejected", "--max-side"),
            (402, complaint("Insufficient credits"), "rejected", "billing"),
            (404, complaint("The model does not exist"), "rejected", "'gpt-4o'"),
            (404, "404 page not found", "rejected", "check --base-url"),
            (413, "too large", "rejected", "--max-side"),
            (
                400,
                complaint("This model's maximum context length is 4096 tokens; max_tokens"),
                "rejected",
                "--max-side",
            ),
            (400, complaint("max_tokens is too large: 9999", param="max_tokens"), "adjusted", "at most 1,024 tokens"),
            (429, complaint("Rate limit reached"), "rate_limit", "429"),
            (429, complaint("You exceeded your quota", code="insufficient_quota"), "rejected", "billing"),
            (408, "", "server", "408"),
            (409, {}, "server", "409"),
            (500, "<html>oops</html>", "server", "oops"),
            (503, complaint("Loading model"), "loading", "Loading model"),
            (503, {"error": "Model x/y is currently loading", "estimated_time": 20.0}, "loading", "currently loading"),
            (503, complaint("The model is still being loaded, try again later"), "loading", "503"),
            (500, complaint("llm server loading model"), "loading", "500"),
            (503, complaint("model is warming up"), "loading", "warming"),
            (503, complaint("The server is overloaded or not ready, model failed to load"), "server", "503"),
            (500, complaint("error loading model: out of memory"), "server", "500"),
            (503, complaint("Service unavailable"), "server", "503"),
            (200, {"error": {"code": 429, "message": "upstream is busy"}}, "rate_limit", "upstream is busy"),
            (200, {"error": "out of memory"}, "server", "out of memory"),
        ],
    )
    def test_kind_and_hint(self, status: int, body: Any, kind: str, hint: str) -> None:
        large = replace(PICTURE, width=2000, height=1000)
        error = failed((status, body), request=replace(ASK, parts=("What is odd?", large)))
        assert error.kind == kind
        assert hint in str(error)

    def test_an_image_that_is_as_small_as_it_can_be_is_not_to_be_scaled_down(self) -> None:
        assert "use smaller images" in str(failed((413, "too large")))

    @pytest.mark.parametrize("status", [429, 503])
    def test_how_long_the_server_asks_to_wait(self, status: int) -> None:
        async def busy(_: web.Request) -> web.StreamResponse:
            return web.Response(status=status, headers={"Retry-After": "7"})

        assert failed(busy).retry_after == 7.0
        assert failed((status, "")).retry_after is None

    def test_a_server_that_never_answers_is_a_timeout(self) -> None:
        async def go() -> EndpointError:
            released = asyncio.Event()

            async def hang(_: web.Request) -> web.StreamResponse:
                await released.wait()
                return web.Response()

            async with serving(hang) as server, model(server.url, timeout=0.2) as vlm:
                with pytest.raises(EndpointError) as caught:
                    await vlm.ask(ASK)
                released.set()
                return caught.value

        error = asyncio.run(go())
        assert error.kind == "timeout"
        assert "0.2 s" in str(error)

    def test_nobody_there_is_a_lost_connection(self) -> None:
        async def go() -> EndpointError:
            async with model(f"http://127.0.0.1:{unused_port()}/v1") as vlm:
                with pytest.raises(EndpointError) as caught:
                    await vlm.ask(ASK)
                return caught.value

        assert asyncio.run(go()).kind == "connection"

    @pytest.mark.parametrize(
        "half_said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", b"SSH-2.0-dropbear\r\n"]
    )
    def test_a_server_that_hangs_up_is_a_lost_connection(self, half_said: bytes) -> None:
        assert against_raw(half_said).kind == "connection"

    def test_a_redirect_is_not_followed(self) -> None:
        async def go() -> tuple[EndpointError, Server]:
            async with serving(GOOD) as elsewhere:

                async def redirect(_: web.Request) -> web.StreamResponse:
                    raise web.HTTPTemporaryRedirect(elsewhere.url + "/chat/completions")

                async with serving(redirect) as server, model(server.url) as vlm:
                    with pytest.raises(EndpointError) as caught:
                        await vlm.ask(ASK)
                return caught.value, elsewhere

        error, elsewhere = asyncio.run(go())
        assert (error.kind, elsewhere.bodies) == ("rejected", [])

    def test_control_characters_of_a_server_reach_no_terminal(self) -> None:
        assert str(failed((400, complaint("red \x1b[31m\x07alert\r\n")))).isprintable()


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def against_raw(said: bytes) -> EndpointError:
    """What an ask ends with at a server that reads the request, says `said` and closes."""

    async def go() -> EndpointError:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(said)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        async with server, model(url) as vlm:
            with pytest.raises(EndpointError) as caught:
                await vlm.ask(ASK)
        return caught.value

    return asyncio.run(go())


class TestKey:
    @pytest.fixture(autouse=True)
    def key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def test_it_is_sent(self) -> None:
        _, server = exchange(ASK, GOOD)
        assert server.headers[0]["Authorization"] == f"Bearer {KEY}"

    @pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
    @pytest.mark.parametrize("escaped", [False, True])
    def test_no_error_shows_it_though_the_server_does(self, status: int, escaped: bool) -> None:
        async def echo(request: web.Request) -> web.StreamResponse:
            body = json.dumps(complaint(f"what is {request.headers['Authorization']}?" * 30))
            return web.Response(text=body.replace("k-p", "k\\u002dp") if escaped else body, status=status)

        error = failed(echo)
        assert KEY not in "".join(traceback.format_exception(error))
        assert "[key]" in str(error)

    def test_neither_does_a_reply_nor_a_broken_answer(self) -> None:
        assert replied(ASK, completion(f"{KEY}", model=KEY)).text == "[key]"
        assert replied(ASK, completion("", model=KEY)).model == "[key]"
        broken = against_raw(f"{KEY} is no HTTP\r\n\r\n".encode())
        assert KEY not in "".join(traceback.format_exception(broken))

    def test_no_log_shows_it(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("DEBUG")
        exchange(ASK, (500, complaint(f"Bearer {KEY}")), GOOD, asks=2)
        assert caplog.records
        assert KEY not in caplog.text

    @pytest.mark.parametrize("wrong", ["sk-a\nb", "sk-ä", "sk a"])
    def test_a_garbled_key_is_said_without_showing_it(self, monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
        monkeypatch.setenv("OPENAI_API_KEY", wrong)
        with pytest.raises(UsageError) as caught:
            OpenAIVLM("gpt-4o", VLMOptions())
        assert wrong not in str(caught.value)


class TestAddresses:
    def test_the_query_of_an_address_stays(self) -> None:
        async def go() -> list[str]:
            asked = []

            async def note(request: web.Request) -> web.StreamResponse:
                asked.append(request.path_qs)
                return web.json_response(completion())

            async with serving(note) as server, model(server.url + "?api-version=2024-10-21&x=") as vlm:
                await vlm.ask(ASK)
                await vlm.ask(ASK)
            return asked

        assert asyncio.run(go()) == ["/v1/chat/completions?api-version=2024-10-21&x="] * 2

    def test_no_proxy_reaches_this_machine_and_elsewhere_the_proxy_is_named(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{unused_port()}")
        monkeypatch.setenv("http_proxy", os.environ["HTTP_PROXY"])
        assert kinds(exchange(ASK, GOOD)[0]) == ["stop"]

        async def go() -> EndpointError:
            async with model("http://203.0.113.1/v1") as vlm:
                with pytest.raises(EndpointError) as caught:
                    await vlm.ask(ASK)
                return caught.value

        error = asyncio.run(go())
        assert error.kind == "connection"
        assert "through the proxy http://127.0.0.1" in str(error)

    def test_without_key_or_server_it_says_what_to_set(self) -> None:
        with pytest.raises(UsageError, match=r"OPENAI_API_KEY.*--base-url"):
            OpenAIVLM("gpt-4o", VLMOptions())

    def test_a_local_server_needs_no_key(self, monkeypatch: pytest.MonkeyPatch) -> None:
        _, server = exchange(ASK, GOOD)
        assert server.headers[0]["Authorization"] == "Bearer none"
        monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
        assert OpenAIVLM("gpt-4o", VLMOptions()).name == "gpt-4o"

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "localhost:8000",
            "ftp://h/v1",
            "http://",
            "http://h:99999/v1",
            "http://[::1",
            "http://a b/",
            "http://a/#x",
        ],
    )
    def test_an_address_that_cannot_be_one_is_refused(self, url: str) -> None:
        with pytest.raises(UsageError, match="base URL"):
            OpenAIVLM("gpt-4o", VLMOptions(base_urls=(url,)))

    @pytest.mark.parametrize("url", ["http://me:hunter2@h/v1", "http://me:hunter2@h:x/v1", "http://a b?k=hunter2"])
    def test_a_password_in_an_address_is_refused_without_showing_it(self, url: str) -> None:
        with pytest.raises(UsageError) as caught:
            OpenAIVLM("gpt-4o", VLMOptions(base_urls=(url,)))
        assert "hunter2" not in str(caught.value)

    def test_requests_go_where_fewest_are_under_way(self) -> None:
        async def go() -> tuple[list[int], list[int]]:
            released, held = asyncio.Event(), asyncio.Event()

            async def hold(_: web.Request) -> web.StreamResponse:
                if len(slow.bodies) == 2:
                    held.set()
                await released.wait()
                return web.json_response(completion())

            async with serving(hold) as slow, serving(GOOD) as quick, model(slow.url, quick.url) as vlm:
                first = [asyncio.create_task(vlm.ask(ASK)) for _ in range(4)]
                await held.wait()
                for quickly in asyncio.as_completed(first[1::2]):
                    await quickly
                at_first = [len(slow.bodies), len(quick.bodies)]
                for _ in range(5):
                    await vlm.ask(ASK)
                released.set()
                await asyncio.gather(*first)
                return at_first, [len(slow.bodies), len(quick.bodies)]

        assert asyncio.run(go()) == ([2, 2], [2, 7])

    def test_equals_take_turns(self) -> None:
        async def go() -> list[int]:
            async with serving(GOOD) as a, serving(GOOD) as b, serving(GOOD) as c, model(a.url, b.url, c.url) as vlm:
                for _ in range(6):
                    await vlm.ask(ASK)
                return [len(server.bodies) for server in (a, b, c)]

        assert asyncio.run(go()) == [2, 2, 2]

    def test_a_dead_server_costs_one_attempt(self) -> None:
        async def go() -> list[str]:
            dead = f"http://127.0.0.1:{unused_port()}/v1"
            async with serving(GOOD) as alive, model(dead, alive.url) as vlm:
                return kinds([await outcome(vlm, ASK) for _ in range(5)])

        assert asyncio.run(go()) == ["connection", "stop", "stop", "stop", "stop"]

    def test_the_only_server_is_asked_again_as_soon_as_it_is_back(self) -> None:
        async def go() -> list[str]:
            port = unused_port()
            async with model(f"http://127.0.0.1:{port}/v1") as vlm:
                before = await outcome(vlm, ASK)

                async def good(_: web.Request) -> web.StreamResponse:
                    return web.json_response(completion())

                app = web.Application()
                app.router.add_post("/v1/chat/completions", good)
                runner = web.AppRunner(app)
                await runner.setup()
                await web.TCPSite(runner, "127.0.0.1", port).start()
                after = await outcome(vlm, ASK)
                await runner.cleanup()
                return kinds([before, after])

        assert asyncio.run(go()) == ["connection", "stop"]

    def test_256_calls_are_really_under_way_at_once(self) -> None:
        async def go() -> int:
            everyone = asyncio.Event()

            async def answer_when_all_are_here(_: web.Request) -> web.StreamResponse:
                if len(server.bodies) == 256:
                    everyone.set()
                await everyone.wait()
                return web.json_response(completion())

            async with serving(answer_when_all_are_here) as server, model(server.url, in_flight=256) as vlm:
                return len(await asyncio.gather(*(vlm.ask(ASK) for _ in range(256))))

        assert asyncio.run(go()) == 256

    def test_after_close_it_can_be_asked_again(self) -> None:
        async def go() -> list[str]:
            async with serving(GOOD) as server, model(server.url) as vlm:
                first = await vlm.ask(ASK)
                await vlm.close()
                return [first.finish, (await vlm.ask(ASK)).finish]

        assert asyncio.run(go()) == ["stop", "stop"]


class Finding(BaseModel):
    """What is wrong."""

    model_config = ConfigDict(extra="forbid")

    maxLength: str = Field(min_length=1, max_length=80)
    kind: Literal["hand", "face"] = "hand"
    severity: int = Field(ge=0, le=100)
    box: list[float] | None = Field(default=None, min_length=4, max_length=4)


class Findings(BaseModel):
    findings: list[Finding] = Field(max_length=20)


REFUSED = {"minLength", "maxLength", "default", "title", "oneOf", "allOf", "not", "uniqueItems", "patternProperties"}
json_values = st.one_of(st.integers(0, 9), st.text(max_size=3), st.booleans())
schemas = st.recursive(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "integer", "boolean"])},
        optional=dict.fromkeys(REFUSED - {"oneOf"}, json_values),
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"type": st.just("array"), "items": inner, "uniqueItems": st.booleans()}),
        st.fixed_dictionaries({"oneOf": st.lists(inner, min_size=1, max_size=2), "title": st.text(max_size=3)}),
        st.fixed_dictionaries(
            {
                "type": st.just("object"),
                "properties": st.dictionaries(st.sampled_from(["a", "title", "minLength"]), inner, max_size=3),
            }
        ),
    ),
    max_leaves=8,
)


def subschemas(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", []), *schema.get("$defs", {}).values()]
    for below in inner + ([schema["items"]] if "items" in schema else []):
        yield from subschemas(below)


class TestEndpointSchema:
    def test_a_schema_of_ours(self) -> None:
        box = {
            "anyOf": [{"items": {"type": "number"}, "minItems": 4, "maxItems": 4, "type": "array"}, {"type": "null"}]
        }
        finding = {
            "type": "object",
            "description": "What is wrong.",
            "properties": {
                "maxLength": {"type": "string"},
                "kind": {"type": "string", "enum": ["hand", "face"]},
                "severity": {"type": "integer", "minimum": 0, "maximum": 100},
                "box": box,
            },
            "required": ["maxLength", "kind", "severity", "box"],
            "additionalProperties": False,
        }
        assert endpoint_schema(Findings.model_json_schema()) == {
            "$defs": {"Finding": finding},
            "type": "object",
            "properties": {"findings": {"type": "array", "maxItems": 20, "items": {"$ref": "#/$defs/Finding"}}},
            "required": ["findings"],
            "additionalProperties": False,
        }

    @settings(deadline=None, max_examples=30)
    @given(schemas)
    def test_nothing_refused_remains_and_objects_are_closed(self, schema: dict[str, Any]) -> None:
        before = json.dumps(schema)
        strict = endpoint_schema(schema)
        for part in subschemas(strict):
            assert not REFUSED & set(part)
            if part.get("type") == "object":
                assert part["additionalProperties"] is False
                assert part["required"] == list(part["properties"])
        assert endpoint_schema(strict) == strict
        assert json.dumps(schema) == before
