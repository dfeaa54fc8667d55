"""A Qwen2.5-VL in this process: batches, schemas, pixel budgets, adapters, and what is said when something is missing.

The model is random, so replies are noise: what is tested is everything around them.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomreason.errors import EndpointError, MissingExtra, UsageError
from anomreason.images import Encoded
from anomreason.vlm.local.model import LocalVLM
from anomreason.vlm.opening import open_vlm
from anomreason.vlm.protocol import Reply, Request, Sampling, Tag, VLMOptions

CPU = VLMOptions(device="cpu", dtype="float32")
MAX_PIXELS = 28 * 28 * 16
TAG = Tag(image="a.png", role="", step="")
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 20},
        "severity": {"type": "integer", "minimum": 0, "maximum": 100},
        "tags": {"type": "array", "items": {"enum": ["hand", "face"]}, "maxItems": 3},
    },
    "required": ["name", "severity", "tags"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def local(tiny_qwen: Path) -> Iterator[LocalVLM]:
    vlm = LocalVLM(str(tiny_qwen), CPU)
    yield vlm
    asyncio.run(vlm.close())


def picture(width: int, height: int, seed: int = 0) -> Encoded:
    coarse = np.random.default_rng(seed).integers(0, 256, (max(1, height // 8), max(1, width // 8), 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((width, height)).save(file, "PNG")
    return Encoded(file.getvalue(), "image/png", width, height)


def request(*parts: str | Encoded, schema: dict[str, Any] | None = None, **sampling: Any) -> Request:
    settings: dict[str, Any] = {"max_tokens": 24} | sampling
    return Request(parts=parts, tag=TAG, schema=schema, sampling=Sampling(**settings))


def ask(vlm: LocalVLM, *requests: Request) -> list[Reply]:
    """All at once."""

    async def together() -> list[Reply]:
        return await asyncio.gather(*(vlm.ask(one) for one in requests))

    return asyncio.run(together())


def follows_schema(value: Any) -> bool:
    return (
        list(value) == ["name", "severity", "tags"]
        and 1 <= len(value["name"]) <= 20
        and isinstance(value["severity"], int)
        and 0 <= value["severity"] <= 100
        and len(value["tags"]) <= 3
        and set(value["tags"]) <= {"hand", "face"}
    )


# Batches


def test_a_batch_of_different_pictures_and_prompts_is_answered_as_one_by_one(local: LocalVLM) -> None:
    requests = [request(picture(90 + 50 * i, 330 - 40 * i, i), "What is odd here? " * (i + 1)) for i in range(6)]
    requests.append(request("No picture at all."))
    requests.append(request("Compare", picture(64, 64, 7), "with", picture(400, 60, 8), "."))
    alone = [ask(local, one)[0] for one in requests]
    assert ask(local, *requests) == alone
    assert len({reply.text for reply in alone}) == len(requests)


def test_requests_that_arrive_together_run_as_one_batch(local: LocalVLM, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="anomreason.vlm.local.batching")
    ask(local, *[request(picture(300, 300, i), "x", max_tokens=2 + i) for i in range(7)])
    assert caplog.messages == ["a batch of 7"]


def test_the_reply_depends_on_the_picture_and_on_where_it_stands(local: LocalVLM) -> None:
    first, second = picture(100, 100, 1), picture(100, 100, 2)
    requests = [request(first, "x"), request(second, "x"), request("x", first), request("x")]
    assert len({reply.text for reply in ask(local, *requests)}) == 4


def test_turns_continue_the_conversation(local: LocalVLM) -> None:
    start = request(picture(60, 60), "Is this odd?")
    asked_again = replace(start, turns=(("No.", "Look again."),))
    short, longer = ask(local, start, asked_again)
    assert longer.usage.prompt_tokens > short.usage.prompt_tokens
    assert longer.text != short.text


def test_tokens_are_counted_without_padding_and_with_the_picture(local: LocalVLM) -> None:
    text, shown = request("Hello"), request(picture(280, 280), "Hello")
    alone = ask(local, text)[0].usage
    together = [reply.usage for reply in ask(local, text, shown)]
    assert together[0] == alone
    markers = 2  # vision start and end around the picture's own tokens
    assert together[1].prompt_tokens == alone.prompt_tokens + MAX_PIXELS // (28 * 28) + markers
    assert [usage.calls for usage in together] == [1, 1]


def test_a_cancelled_request_leaves_the_others_alone(local: LocalVLM) -> None:
    requests = [request(picture(60, 60, i), "x", max_tokens=200) for i in range(3)]

    async def drop_one() -> list[Reply | BaseException]:
        tasks = [asyncio.create_task(local.ask(one)) for one in requests]
        await asyncio.sleep(0)
        tasks[1].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    replies = asyncio.run(drop_one())
    assert isinstance(replies[1], asyncio.CancelledError)
    assert [replies[0], replies[2]] == ask(local, requests[0], requests[2])


# Drawing


def test_a_reply_that_reaches_its_cap_says_so_and_each_row_has_its_own(local: LocalVLM) -> None:
    prompt = (picture(120, 120), "Describe")
    short, long = ask(local, request(*prompt, max_tokens=3), request(*prompt, max_tokens=9))
    assert (short.finish, short.usage.completion_tokens) == ("length", 3)
    assert (long.finish, long.usage.completion_tokens) == ("length", 9)
    assert long.text.startswith(short.text.rstrip("\ufffd"))


def test_a_seed_gives_the_same_draw_whatever_else_is_in_the_batch(local: LocalVLM) -> None:
    drawn = [request(picture(80, 80), "x", temperature=1.0, seed=seed) for seed in (1, 2, 3)]
    greedy = request(picture(80, 80), "x")
    replies = ask(local, *drawn, greedy)
    assert [ask(local, one)[0] for one in [*drawn, greedy]] == replies
    assert len({reply.text for reply in replies}) == 4


def test_draws_without_a_seed_differ(local: LocalVLM) -> None:
    replies = ask(local, *[request("x", temperature=1.0) for _ in range(4)])
    assert len({reply.text for reply in replies}) > 1


def test_log_probabilities_are_of_the_first_token_and_sum_to_at_most_one(local: LocalVLM) -> None:
    reply, silent = ask(local, request("x", logprobs=True), request("x"))
    assert 2 <= len(reply.logprobs) <= 20
    assert 0.1 < sum(np.exp(value) for value in reply.logprobs.values()) <= 1.0 + 1e-6
    assert silent.logprobs == {}


# Schemas


def test_a_schema_holds_even_for_noise_beside_free_rows_and_other_schemas(local: LocalVLM) -> None:
    flags = {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4}
    asked = [request(picture(70, 70, i), "x", schema=SCHEMA, temperature=1.0, seed=i, max_tokens=300) for i in range(6)]
    asked += [request(picture(70, 70), "x", schema=SCHEMA, max_tokens=300), request("x", schema=flags), request("x")]
    *replies, list_reply, free = ask(local, *asked)
    assert all(reply.finish == "stop" and follows_schema(json.loads(reply.text)) for reply in replies)
    assert 2 <= len(json.loads(list_reply.text)) <= 4
    assert free == ask(local, request("x"))[0]


def test_a_schema_that_cannot_be_enforced_is_named_once_and_the_reply_is_free(
    local: LocalVLM, caplog: pytest.LogCaptureFixture
) -> None:
    odd = {"type": "array", "uniqueItems": True}
    replies = [ask(local, request("x", schema=odd))[0] for _ in range(2)]
    assert replies == [ask(local, request("x"))[0]] * 2
    assert [record.message for record in caplog.records if "uniqueItems" in record.message] == [caplog.messages[0]]


def test_extreme_and_damaged_pictures_are_refused_or_shown_without_harm_to_others(local: LocalVLM) -> None:
    good = request(picture(60, 60), "x")
    thin = request(picture(4000, 8), "x")
    long = request(picture(3000, 28), "x")
    damaged = request(Encoded(b"not a picture", "image/png", 10, 10), "x")

    async def together() -> list[Reply | BaseException]:
        return await asyncio.gather(*map(local.ask, (good, thin, long, damaged)), return_exceptions=True)

    replies = asyncio.run(together())
    assert isinstance(replies[0], Reply)
    assert isinstance(replies[2], Reply)
    for reply, remedy in ((replies[1], "crop or pad it first"), (replies[3], "convert it to PNG")):
        assert isinstance(reply, EndpointError)
        assert (reply.kind, reply.remedy) == ("rejected", remedy)


def test_a_prompt_longer_than_the_context_is_rejected_and_a_long_reply_is_capped(local: LocalVLM) -> None:
    with pytest.raises(EndpointError, match=r"4096; lower max_pixels in .*longer context") as caught:
        ask(local, request("word " * 5000))
    assert caught.value.kind == "rejected"
    (reply,) = ask(local, request("~" * 3900, schema={"type": "string", "minLength": 10_000}, max_tokens=10_000))
    assert reply.usage.prompt_tokens > 3900
    assert reply.finish == "length"
    assert reply.usage.prompt_tokens + reply.usage.completion_tokens == 4096


# Opening


def test_an_adapter_changes_the_replies_and_its_name_and_brings_its_card(
    local: LocalVLM, tiny_qwen: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    adapter = shutil.copytree(tiny_adapter, tmp_path / "lora+card")
    (adapter / "anomreason.json").write_text(json.dumps({"prompt": "Odd?", "max_pixels": 28 * 28 * 9}))
    tuned = open_vlm(f"local:{tiny_qwen}+{adapter}", CPU)
    assert isinstance(tuned, LocalVLM)
    assert tuned.card is not None
    assert tuned.card.prompt == "Odd?"
    asked = request(picture(60, 60), "x", logprobs=True)
    large = request(picture(900, 700), "x")
    plain, changed = ask(local, asked)[0], ask(tuned, asked)[0]
    saved = ask(local, large)[0].usage.prompt_tokens - ask(tuned, large)[0].usage.prompt_tokens
    asyncio.run(tuned.close())
    assert saved >= MAX_PIXELS // 28**2 - 9 - 4  # 16 squares at most without the card, 9 with it, and rounding
    assert changed.text != plain.text
    assert changed.logprobs != plain.logprobs
    assert tuned.name.startswith(f"local:{tiny_qwen}+{adapter}@")


@pytest.mark.parametrize("options", [VLMOptions(device="warp"), VLMOptions(device="cpu", dtype="int8")])
def test_a_device_or_dtype_that_cannot_be_used_is_named(tiny_qwen: Path, options: VLMOptions) -> None:
    with pytest.raises(UsageError, match=r"'warp'|'int8'"):
        LocalVLM(str(tiny_qwen), options)


def test_half_precision_can_be_asked_for(tiny_qwen: Path) -> None:
    vlm = LocalVLM(str(tiny_qwen), VLMOptions(device="cpu", dtype="bfloat16"))
    (reply,) = ask(vlm, request(picture(60, 60), "x", schema=SCHEMA, max_tokens=300))
    asyncio.run(vlm.close())
    assert follows_schema(json.loads(reply.text))


def test_a_closed_model_answers_with_an_error_not_with_silence(tiny_qwen: Path) -> None:
    vlm = LocalVLM(str(tiny_qwen), CPU)

    async def close_midway() -> list[Reply | BaseException]:
        asked = [asyncio.create_task(vlm.ask(request("x", schema=SCHEMA, max_tokens=3000))) for _ in range(2)]
        await asyncio.sleep(0)
        await vlm.close()
        await vlm.close()
        return await asyncio.gather(*asked, vlm.ask(request("x")), return_exceptions=True)

    errors = asyncio.run(close_midway())
    assert [getattr(error, "kind", error) for error in errors] == ["connection"] * 3


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True).stdout


def test_importing_the_module_loads_no_torch() -> None:
    code = "import sys, anomreason.vlm.local.model; print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    assert run_python(code).strip() == "[]"


@pytest.mark.parametrize("missing", ["torch", "llguidance"])
def test_without_its_libraries_it_names_the_pip_command(missing: str) -> None:
    code = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {missing!r}:
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
from anomreason.errors import MissingExtra
from anomreason.vlm.opening import open_vlm
try:
    open_vlm("local:somewhere")
except MissingExtra as error:
    print(error)
"""
    assert run_python(code).strip() == str(MissingExtra("local models", "local"))
    assert "pip install '.[local]'" in str(MissingExtra("local models", "local"))
