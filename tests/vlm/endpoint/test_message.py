"""Facts about where the answer stands in what servers send."""

import asyncio
import json
from typing import Any

import pytest

from anomreason.anomaly import Usage
from anomreason.errors import CallFailed
from anomreason.textform import find_json, without_thinking
from anomreason.vlm.calling import Caller, Meter
from anomreason.vlm.endpoint.answers import ServerAnswer, read_completion
from anomreason.vlm.endpoint.message import assembled, reply_text
from anomreason.vlm.protocol import Reply, Request, Tag

VALUE = {"anomalies": [], "no_anomalies": True}
ANSWER = json.dumps(VALUE)


@pytest.mark.parametrize(
    "message",
    [
        {"content": ANSWER},
        {"content": "\ufeff" + ANSWER},
        *({"content": [{"type": kind, "text": ANSWER}]} for kind in ("text", "output_text", "answer", None)),
        {"content": [{"type": "text", "text": ANSWER[:9]}, {"type": "output_text", "text": ANSWER[9:]}]},
        {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": ANSWER}]},
        {"content": [{"type": "reasoning", "text": "hm"}, {"type": "text", "text": {"value": ANSWER}}]},
        {"content": [ANSWER]},
        {"content": {"type": "text", "text": ANSWER}},
        {"content": VALUE},
        {"content": ANSWER, "reasoning_content": "{}"},
        *({"content": empty, "reasoning_content": ANSWER} for empty in (None, "", "\n", [], [{"type": "text"}])),
        {"content": None, "reasoning": f"```json\n{ANSWER}\n```"},
        {"tool_calls": [{"function": {"name": "reply", "arguments": ANSWER}}]},
        {"content": "", "tool_calls": [{"function": {"name": "reply", "arguments": VALUE}}]},
        {"content": None, "function_call": {"name": "reply", "arguments": ANSWER}},
    ],
)
def test_the_answer_is_found_wherever_it_stands(message: dict[str, Any]) -> None:
    assert find_json(reply_text(message) or "") == VALUE


@pytest.mark.parametrize("message", [{}, {"content": None}, {"content": [1, None, {"type": "image"}]}, {"content": 5}])
def test_no_answer_is_none(message: dict[str, Any]) -> None:
    assert reply_text(message) is None


@pytest.mark.parametrize("thought", ["Six fingers, so " + ANSWER, ANSWER[:-3], f"{ANSWER}\n{ANSWER}", "No."])
def test_thinking_that_is_not_one_whole_answer_is_lost_after_one_try_with_the_cause(thought: str) -> None:
    class Thinking:
        name, bounds_pixels = "m", False
        asked = 0

        async def ask(self, request: Request) -> Reply:
            self.asked += 1
            text = reply_text({"content": "", "reasoning_content": thought})
            return Reply(text or "", "stop", Usage(calls=1), "m")

    vlm = Thinking()
    request = Request(("?",), Tag("a", "r", "s"))
    with pytest.raises(CallFailed, match=r"^only thinking came back.*turn thinking off at the server") as lost:
        asyncio.run(Caller(vlm).call(request, lambda reply: without_thinking(reply.text), Meter()))
    assert (lost.value.kind, vlm.asked) == ("unparsable", 1)


def events(*chunks: dict[str, Any], end: str = "data: [DONE]\n\n") -> str:
    return ": ping\n\n" + "".join(f"event: x\ndata: {json.dumps(chunk)}\n\n" for chunk in chunks) + end


def piece(**delta: Any) -> dict[str, Any]:
    return {"model": "m2", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


LAST = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None}
COUNTED = {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}}
LINES = [{"message": {"content": part}, "done": False} for part in (ANSWER[:9], ANSWER[9:])]


@pytest.mark.parametrize(
    "body",
    [
        events(piece(role="assistant"), piece(content=ANSWER[:9]), piece(content=ANSWER[9:]), LAST, COUNTED),
        events(piece(reasoning_content="hm"), piece(content=ANSWER), LAST, COUNTED, end=""),
        events(*(piece(tool_calls=[{"index": 0, "function": {"arguments": a}}]) for a in (ANSWER[:9], ANSWER[9:]))),
        events({"choices": [{"message": {"content": ANSWER}, "finish_reason": "stop"}]}),
        "".join(json.dumps(line) + "\n" for line in LINES) + '{"done": true, "done_reason": "stop"}\n',
        "\ufeff" + json.dumps({"choices": [{"message": {"content": ANSWER}, "finish_reason": "stop"}]}),
    ],
)
def test_a_stream_that_nobody_asked_for_is_put_together(body: str) -> None:
    reply = read_completion(ServerAnswer(200, {}, body, "s"), "m")
    assert find_json(reply.text) == VALUE
    if "prompt_tokens" in body:
        assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.model) == (7, 5, "m2")


def test_an_error_in_a_stream_is_the_servers_error() -> None:
    answer = ServerAnswer(200, {}, events(piece(content="x"), {"error": {"message": "overloaded", "code": 503}}), "s")
    assert (answer.status, answer.complaint) == (503, "overloaded")
    assert assembled("<html>no stream</html>") is None
    assert assembled("") is None
