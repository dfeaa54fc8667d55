"""Reads the token counts of a server's answer, and tells counts that can be used from those that cannot.

>>> read_usage({"prompt_tokens": 1200, "completion_tokens": None}, written=90)
Usage(calls=1, prompt_tokens=1200, completion_tokens=30, estimated=True)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from anomreason.anomaly import Usage
from anomreason.errors import Charge

MOST_TOKENS = 10_000_000
"""No call of any model has so many; a larger count is no count."""
REPLY_TOKEN = 3
"""Characters of a token in replies, by which what a server does not count is estimated; few have more tokens."""


def read_usage(usage: Any, written: int) -> Usage:
    """The tokens of an answer that holds `written` characters, thoughts included.

    Tokens of the reply that the server does not count are estimated. `prompt_tokens` is 0 where it does not count
    those: only who knows the request can estimate them.
    """
    counts: Mapping[str, Any] = usage if isinstance(usage, dict) else {}
    details = counts.get("prompt_tokens_details")
    prompt = _count(counts, "prompt_tokens", "input_tokens")
    completion = _count(counts, "completion_tokens", "output_tokens")
    total = _count(counts, "total_tokens")
    if not prompt and completion and total > completion:
        prompt = total - completion
    if prompt and total:  # some servers leave the tokens of thoughts out of the completion
        completion = max(completion, total - prompt)
    missing = not prompt or (not completion and written > 0)
    cached = _count(details, "cached_tokens") if isinstance(details, dict) else 0
    return Usage(
        calls=1,
        prompt_tokens=prompt,
        cached_tokens=min(cached, prompt),
        completion_tokens=completion or math.ceil(written / REPLY_TOKEN),
        estimated=missing,
    )


def charged(usage: Usage) -> Charge:
    """The charge for an answer of no use."""
    if usage.estimated:
        return Charge()
    return Charge(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)


def written(message: Any) -> int:
    """Characters of all texts in a message: content, thoughts and arguments of tools."""
    total, rest = 0, [{**message, "role": ""} if isinstance(message, dict) else message]
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            total += len(value)
        elif isinstance(value, dict | list):
            rest += value.values() if isinstance(value, dict) else value
    return total


def _count(counts: Mapping[str, Any], *names: str) -> int:
    """The first of these counts that can be used; 0 without one. A whole float and digits in quotes can."""
    for name in names:
        value = counts.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 9:
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_TOKENS:
            return value
    return 0
