"""Reads from a server's complaint, in whatever words, how long a reply may be.

>>> reply_limit("max_tokens is too large: 8192. This model supports at most 4096 completion tokens.", "", 8192)
ReplyLimit(tokens=4096, by_context=False)
"""

from __future__ import annotations

import re

from anomreason.errors import ReplyLimit

SHORTEST = 16
"""A limit below this many tokens is not one that anything can be answered in."""
_REPLY = re.compile(
    r"max(imum)?[ _]?(completion|new|output|gen)?[ _]?tokens|n_predict"
    r"|(completion|output|response|reply|generat\w+|new) (tokens|length|size|limit)",
    re.I,
)
_SIZE = re.compile(
    r"too (large|big|high|long|many|great)|exceed|at most|no more than|maximum|larger|greater|less than|smaller|below"
    r"|up to|between|range|limit|must be|should be|invalid|[<>\u2264\u2265]",
    re.I,
)
# "Unsupported parameter: 'max_tokens'" is about the name of the option.
_NAME = re.compile(
    r"unsupported (parameter|argument)|not supported with|use '?max_completion_tokens|unknown|extra", re.I
)
_NUMBER = re.compile(r"(?<![\w.-])(\d{1,3}(?:[,_]\d{3})+|\d+)(\s?[kK]\b)?(?![\w-]|\.\d)(\s*\(exclusive\))?")
_ANY_CONTEXT = re.compile(r"context|sequence length|inputs?`? tokens \+", re.I)
_CONTEXT = re.compile(
    r"(?:(?:context|sequence)(?:[ _](?:length|size|window|limit))?|<=)\W{0,4}(?:\w+ ){0,2}\W{0,2}(\d[\d,]*)", re.I
)
_PROMPT = re.compile(
    r"(\d[\d,]*)[`\s]*(?:tokens )?(?:of |from |in )?(?:the |your )?`?(?:input|prompt|message|text)"
    r"|(?:input|prompt)\w*`?(?: length| tokens| has| is|:)*\W{0,3}(\d[\d,]*)",
    re.I,
)
_SUM = re.compile(r"(\d[\d,]*) \+ \d[\d,]* > (\d[\d,]*)")
_TOTAL = re.compile(r"(?:requested?|total|given)\D{0,24}(\d[\d,]*)", re.I)


def reply_limit(complaint: str, param: str, cap: int) -> ReplyLimit | None:
    """The limit that a complaint about a reply of `cap` tokens names, always less than `cap`; None without one.

    A complaint about the size that names no smaller number gives half of `cap`.
    """
    if _NAME.search(complaint):
        return None
    of_context = bool(_ANY_CONTEXT.search(complaint))
    room = _room(complaint, cap) if of_context else None
    if room is not None:
        return ReplyLimit(room, by_context=True)
    if not _SIZE.search(complaint) or not (_REPLY.search(complaint) or _REPLY.search(param)) or cap < 2 * SHORTEST:
        return None
    smaller = [n for n in map(_value, _NUMBER.finditer(complaint)) if SHORTEST <= n < cap]
    if of_context and not smaller:
        return None
    return ReplyLimit(max(smaller, default=cap // 2))


def context_size(complaint: str) -> int | None:
    """Tokens of the model's context, where a complaint names them."""
    named = _CONTEXT.search(complaint)
    return _integer(named[1]) if named else None


def _room(complaint: str, cap: int) -> int | None:
    """What the prompt leaves of the context, where the complaint says how large both are."""
    added = _SUM.search(complaint)
    sizes = [_integer(added[2])] if added else [_integer(n) for n in _CONTEXT.findall(complaint)]
    prompts = [_integer(a or b) for a, b in _PROMPT.findall(complaint)]
    prompts += [_integer(n) - cap for n in _TOTAL.findall(complaint)]
    prompt = _integer(added[1]) if added else next((n for n in prompts if n > 0), 0)
    size = max((n for n in sizes if prompt < n < prompt + cap), default=0)
    return size - prompt if prompt and size - prompt >= 4 * SHORTEST else None


def _integer(digits: str) -> int:
    return int(digits.replace(",", "")[:12])


def _value(number: re.Match[str]) -> int:
    value = int(re.sub("[,_]", "", number[1])[:12]) * (1000 if number[2] else 1)
    return value - 1 if number[3] else value
