"""Where the answer stands in what a server sends: content as text or parts, a tool call, the thinking, a stream.

reply_text({"content": None, "tool_calls": [{"function": {"arguments": "{}"}}]})  # '{}'
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from anomreason.textform.jsontext import values_in

_THINKING = ("reasoning_content", "reasoning", "thinking")
_HIDDEN = ("thinking", "reasoning", "redacted_thinking", "summary_text")
"""Types of parts that are no part of the answer."""


def reply_text(message: Mapping[str, Any]) -> str | None:
    """The answer; None when there is none.

    With empty content: what a single tool call is given, or the thinking where it is nothing but one JSON answer. Other
    thinking comes marked as thinking that never ended, so that whoever reads the reply knows what it is.
    """
    text = _text(message.get("content"))
    if text is not None and text.strip(" \t\r\n\ufeff"):
        return text
    given = "\n".join(_arguments(message))
    if given.strip():
        return given
    thought = next((t for key in _THINKING if (t := _text(message.get(key)))), "")
    if thought.strip():
        return thought if _is_whole(thought) else f"<think>{thought}"
    return text


def _text(content: Any) -> str | None:
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list):
        return content if isinstance(content, str) else None
    texts = [t for part in content if (t := _part(part)) is not None]
    return "".join(texts) or None


def _part(part: Any) -> str | None:
    if not isinstance(part, dict):
        return part if isinstance(part, str) else None
    if part.get("type") in _HIDDEN:
        return None
    text = part.get("text")
    text = text.get("value") if isinstance(text, dict) else text
    if "text" not in part and "type" not in part:
        return json.dumps(part, ensure_ascii=False)  # the answer itself, read by the server
    return text if isinstance(text, str) else None


def _arguments(message: Mapping[str, Any]) -> Iterator[str]:
    calls = message.get("tool_calls")
    for call in [*(calls if isinstance(calls, list) else []), {"function": message.get("function_call")}]:
        function = call.get("function") if isinstance(call, dict) else None
        given = function.get("arguments") if isinstance(function, dict) else None
        if given:
            yield given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


def _is_whole(text: str) -> bool:
    """Whether a text is one JSON value and nothing else, bare or fenced."""
    bare = text.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    values = values_in(bare)
    return len(values) == 1 and not values[0].problem and (values[0].start, values[0].end) == (0, len(bare))


def assembled(body: str) -> dict[str, Any] | None:
    """The completion in a stream of events, or of JSON lines, that nobody asked for; None when it is none."""
    whole: dict[str, Any] = {}
    message: dict[str, Any] = {"role": "assistant"}
    choice: dict[str, Any] = {"index": 0, "message": message, "finish_reason": None}
    pieces: dict[str, list[str]] = {}
    for chunk in _chunks(body):
        if "error" in chunk and not chunk.get("choices"):
            return chunk
        whole |= {key: value for key, value in chunk.items() if value is not None and key != "choices"}
        choices = chunk.get("choices")
        found = choices[0] if isinstance(choices, list) and choices else chunk  # a line of Ollama's is one choice
        if not isinstance(found, dict):
            continue
        choice |= {
            k: v for k, v in found.items() if k in ("finish_reason", "done_reason", "logprobs") and v is not None
        }
        delta = found.get("delta", found.get("message"))
        for key, piece in _deltas(delta if isinstance(delta, dict) else {}):
            pieces.setdefault(key, []).append(piece)
    if not pieces and choice["finish_reason"] is None:
        return None
    given = [{"function": {"arguments": "".join(p)}} for key, p in pieces.items() if key.startswith("arguments")]
    message |= {key: "".join(p) for key, p in pieces.items() if not key.startswith("arguments")}
    message |= {"tool_calls": given} if given else {}
    return whole | {"choices": [choice]}


def _chunks(body: str) -> Iterator[dict[str, Any]]:
    for line in body.split("\n"):
        try:
            chunk = json.loads(line.strip().removeprefix("data:"))
        except (ValueError, RecursionError):
            continue  # an event's name, a comment, [DONE]
        if isinstance(chunk, dict):
            yield chunk


def _deltas(delta: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The texts of one chunk; a tool call's under a key with its number."""
    for key in ("content", "refusal", *_THINKING):
        text = _text(delta.get(key))
        if text:
            yield key, text
    calls = delta.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        for given in _arguments({"tool_calls": [call]}):
            yield f"arguments {call.get('index', 0)}", given
