"""The simulated model errs at its rates, the same way for the same question, and counts tokens as a provider does."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomreason.agent.replies import read_objects, read_proposals, read_single
from anomreason.errors import EndpointError, ParseError, UsageError
from anomreason.images import Encoded
from anomreason.textform import find_json
from anomreason.vlm.protocol import Reply, Request, Sampling, Tag
from anomreason.vlm.simulator.model import Simulator, SimulatorRates

ANOMALY = {"name": "Two suns", "phenomenon": "left and right", "reasoning": "one sun", "severity": 5}
TRUTH = {
    "objects": [{"name": "man", "description": "tall", "box": [0.1, 0.1, 0.9, 0.9]}],
    "anomalies": [ANOMALY | {"name": f"error {i}", "objects": ["man"]} for i in range(10)],
}


def shown(size: tuple[int, int] = (64, 48)) -> Encoded:
    cells = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    out = BytesIO()
    Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC).save(out, "png")
    return Encoded(out.getvalue(), "image/png", *size)


PICTURE = shown()


@pytest.fixture(scope="module")
def truth_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("truth") / "truth.json"
    (path.parent / "0.png").write_bytes(PICTURE.data)
    path.write_text(json.dumps({"0.png": TRUTH}))
    return path


def question(number: int = 0, step: str = "single", **more: Any) -> Request:
    return Request(("common", PICTURE, f"question {number}"), Tag("any", "Role", step, "man"), **more)


def ask(simulator: Simulator, asked: Iterable[Request]) -> list[Reply | str]:
    """Replies, or the kind of failure, or 'hang'."""

    async def attempt(one: Request) -> Reply | str:
        try:
            return await simulator.ask(one)
        except EndpointError as error:
            return error.kind

    async def all_together() -> list[Reply | str]:
        await simulator.recognize(PICTURE)
        tasks = [asyncio.create_task(attempt(one)) for one in asked]
        for _ in range(20):  # nothing left waits for a clock or a thread: what answers at all answers within some turns
            await asyncio.sleep(0)
        hung = [task for task in tasks if not task.done()]
        for task in hung:
            task.cancel()
        await asyncio.gather(*hung, return_exceptions=True)
        return ["hang" if task.cancelled() else task.result() for task in tasks]

    return asyncio.run(all_together())


def replies(simulator: Simulator, asked: Iterable[Request]) -> list[Reply]:
    found = ask(simulator, asked)
    assert all(isinstance(reply, Reply) for reply in found)
    return [reply for reply in found if isinstance(reply, Reply)]


def test_faults_come_at_their_rates_and_are_counted(truth_file: Path) -> None:
    rates = SimulatorRates(rate_limited=0.1, server_errors=0.1, hangs=0.1, refused=0.1, malformed=0.1, truncated=0.1)
    simulator = Simulator.from_file(truth_file, rates, seed=4)
    outcomes = ask(simulator, (question(i) for i in range(600)))
    counted = Counter(o if isinstance(o, str) else o.finish for o in outcomes)
    for kind, share in {"rate_limit": 0.1, "server": 0.1, "hang": 0.1, "refused": 0.07, "length": 0.07}.items():
        assert 0.6 * share < counted[kind] / 600 < 1.5 * share, kind
    assert simulator.outcomes["ok"] + simulator.outcomes["malformed"] == counted["stop"]
    assert {k: simulator.outcomes[k] for k in ("rate_limit", "server", "hang", "refused")} == {
        k: counted[k] for k in ("rate_limit", "server", "hang", "refused")
    }
    assert simulator.outcomes["truncated"] == counted["length"]
    assert simulator.outcomes.total() == 600
    assert simulator.steps == {"Role/single": 600}


def test_the_order_of_questions_does_not_matter_and_the_seed_does(truth_file: Path) -> None:
    rates = SimulatorRates(misses=0.3, hallucinations=0.3, malformed=0.2, refused=0.2, truncated=0.2)
    asked = [question(i) for i in range(60)]

    def texts(seed: int, order: list[Request]) -> dict[object, str]:
        simulator = Simulator.from_file(truth_file, rates, seed)
        return {one.parts[2]: reply.text for one, reply in zip(order, replies(simulator, order), strict=True)}

    assert texts(1, asked) == texts(1, asked[::-1])
    assert texts(1, asked) != texts(2, asked)


def test_another_attempt_is_drawn_anew_for_faults_of_the_server_only(truth_file: Path) -> None:
    failing = Simulator.from_file(truth_file, SimulatorRates(rate_limited=0.5))
    assert len({str(o) if isinstance(o, str) else "ok" for o in ask(failing, [question()] * 20)}) == 2
    refusing = Simulator.from_file(truth_file, SimulatorRates(refused=0.5))
    for i in range(8):
        assert len({reply.finish for reply in replies(refusing, [question(i)] * 5)}) == 1


def test_a_429_says_how_long_to_wait(truth_file: Path) -> None:
    simulator = Simulator.from_file(truth_file, SimulatorRates(rate_limited=1))
    with pytest.raises(EndpointError) as raised:
        asyncio.run(simulator.ask(question()))
    assert 0 < (raised.value.retry_after or 0) < 1


def test_a_cut_reply_is_whole_with_a_larger_cap(truth_file: Path) -> None:
    simulator = Simulator.from_file(truth_file, SimulatorRates(truncated=1))
    caps = [Sampling(max_tokens=cap) for cap in (2048, 4096, 1024)]
    short, whole, again = replies(simulator, [question(sampling=cap) for cap in caps])
    assert (short.finish, whole.finish, again.finish) == ("length", "stop", "length")
    assert len(read_single(whole.text)) == 10
    first, second = replies(simulator, [question(1, sampling=Sampling(max_tokens=cap)) for cap in (8000, 16000)])
    assert (first.finish, second.finish) == ("length", "stop")


def test_a_reply_longer_than_the_cap_is_cut_without_any_rate(truth_file: Path) -> None:
    (reply,) = replies(Simulator.from_file(truth_file), [question(sampling=Sampling(max_tokens=20))])
    assert (reply.finish, reply.usage.completion_tokens) == ("length", 20)


@pytest.mark.parametrize(
    ("step", "read"), [("single", read_single), ("objects-1", read_objects), ("scan", read_proposals)]
)
def test_malformed_replies_are_of_several_kinds_and_cannot_be_read(truth_file: Path, step: str, read: Any) -> None:
    simulator = Simulator.from_file(truth_file, SimulatorRates(malformed=1))
    texts = [reply.text for reply in replies(simulator, [question(i, step) for i in range(60)])]
    for text in texts:
        with pytest.raises(ParseError):
            read(text)
    kinds = {(type(find_json(text)).__name__, text[:1], len(text) > 200) for text in texts}
    assert len(kinds) >= 4
    assert {reply.text for reply in replies(simulator, [question(i, "attributes-1") for i in range(5)])} == {""}


def test_misses_and_hallucinations_come_at_their_rates(truth_file: Path) -> None:
    rates = SimulatorRates(misses=0.3, hallucinations=0.25)
    found = replies(Simulator.from_file(truth_file, rates), [question(i) for i in range(200)])
    names = [anomaly.name for reply in found for anomaly in read_single(reply.text)]
    true = sum(name.startswith("error") for name in names)
    assert 0.65 < true / 2000 < 0.75
    assert 0.15 < (len(names) - true) / 200 < 0.35


def test_json_comes_bare_fenced_or_after_a_sentence(truth_file: Path) -> None:
    texts = [reply.text for reply in replies(Simulator.from_file(truth_file), [question(i) for i in range(60)])]
    assert {len(read_single(text)) for text in texts} == {10}
    assert {text[:1] == "{" for text in texts} == {True, False}
    assert any(text.startswith("```json\n") for text in texts)


def test_a_re_ask_is_another_question(truth_file: Path) -> None:
    simulator = Simulator.from_file(truth_file, SimulatorRates(malformed=0.5))
    first = question(0)
    again = [replace(first, turns=((f"bad {i}", "once more"),)) for i in range(20)]
    replies(simulator, again)
    assert 0 < simulator.outcomes["malformed"] < 20


def test_tokens_are_counted_for_all_that_is_said(truth_file: Path) -> None:
    asked = Request(
        ("a" * 400, PICTURE, "b" * 40), Tag("", "Role", "single"), schema={"k": "v"}, turns=(("c " * 4, "d " * 4),)
    )
    (reply,) = replies(Simulator.from_file(truth_file), [asked])
    assert reply.usage.prompt_tokens == 100 + 255 + 10 + 3 + 4
    assert reply.usage.completion_tokens == -(-len(reply.text) // 4)
    assert (reply.usage.calls, reply.usage.cached_tokens, reply.model) == (1, 0, "sim:truth.json")


def test_a_long_prefix_that_was_answered_before_is_cached(truth_file: Path) -> None:
    simulator = Simulator.from_file(truth_file)

    def cached(common: int, text: str, schema: dict[str, str] | None = None) -> int:
        asked = Request(("a" * common, PICTURE, text), Tag("", "Role", "single"), schema=schema)
        return replies(simulator, [asked])[0].usage.cached_tokens

    long = 4 * 1100  # with the image 1355 tokens
    assert [cached(long, "one"), cached(long, "two"), cached(long, "two", {"other": "schema"})] == [0, 1280, 0]
    assert [cached(400, "one"), cached(400, "two")] == [0, 0]


@pytest.mark.parametrize(
    "wrong", [{"misses": 1.5}, {"hangs": -0.1}, {"latency": float("nan")}, {"refused": 0.6, "malformed": 0.6}]
)
def test_impossible_rates_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        SimulatorRates(**wrong)
