"""JSON values in the chatter of a reply.

>>> find_json('Sure! {"anomalies": []} Anything else?')
{'anomalies': []}
"""

from __future__ import annotations

import re
from typing import Any

from anomreason.errors import ParseError
from anomreason.files import parse_json
from anomreason.textform.prose import without_thoughts

_FENCE = re.compile(r"^[ \t]*+```.*$", re.M)
_OPEN = re.compile(r"[\[{]")
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{\]}]', re.DOTALL)
_DEEPEST = 100


def find_json(text: str) -> Any:
    """The JSON object or array in a reply: the whole of it, a fenced block, or the first one in the chatter.

    An object, or a list that holds one, goes before a list of bare values. None when there is none, also for text that
    is cut off, nested more than 100 deep, or not JSON to the letter (NaN, a key twice). Never raises.
    """
    values, _ = json_values(without_thoughts(text))
    first = values[0] if values else None
    return next((v for v in values if isinstance(v, dict) or any(isinstance(e, dict) for e in v)), first)


def fenced_or_whole(text: str) -> str:
    """The first fenced block of a text, or all of it when there is none."""
    parts = _FENCE.split(text)
    return (parts[1] if len(parts) > 1 else text).strip()


def json_values(text: str) -> tuple[list[Any], str]:
    """The JSON objects and arrays in a reply, and all that is around them. Fenced blocks go before the rest."""
    parts = _FENCE.split(text)
    if len(parts) > 1 and not text.lstrip().startswith(("{", "[")):
        blocks = [_scan(part) for part in parts[1::2]]
        values = [value for found, _ in blocks for value in found]
        if values:
            return values, "".join([*parts[::2], *(rest for _, rest in blocks)])
    return _scan(text)


def unclosed(text: str) -> bool:
    """Whether a text that is JSON, bare or fenced, ends before its last bracket is closed."""
    start = _OPEN.search(text)
    if start is None or text[: start.start()].strip().removeprefix("```").lower().strip() not in ("", "json"):
        return False
    depth = 0
    for token in _TOKEN.finditer(text, start.start()):
        depth += (token[0] in "[{") - (token[0] in "]}")
        if not depth:
            return False
    return True


def _scan(text: str) -> tuple[list[Any], str]:
    values, prose, position = [], [], 0
    opening = _OPEN.search(text)
    while opening:
        end, depth = _balanced(text, opening.start())
        try:
            values.append(parse_json(text[opening.start() : end] if depth <= _DEEPEST else ""))
            prose.append(text[position : opening.start()])
            position = end
        except ParseError:
            pass  # not JSON; what stands inside it is no reply either
        opening = _OPEN.search(text, end)
    return values, "".join([*prose, text[position:]])


def _balanced(text: str, start: int) -> tuple[int, int]:
    """Where the bracket at `start` closes (the text's end if never), and how deep it nests."""
    depth = deepest = 0
    for token in _TOKEN.finditer(text, start):
        if token[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token[0] in "]}":
            depth -= 1
            if not depth:
                return token.end(), deepest
    return len(text), deepest
