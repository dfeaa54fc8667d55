"""JSON values in a reply: where they stand, and which of several is the answer.

>>> values_in('Sure! {"anomalies": []} Anything else?')[0].value
{'anomalies': []}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from anomreason.errors import ParseError
from anomreason.files import parse_json
from anomreason.textform.almost import DEEPEST, read_almost

_OPEN = re.compile(r"[\[{]")
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{\]}]', re.DOTALL)
_NUMBERS = re.compile(r"\[[\s\d.,eE+-]*+\]")
_LIKE_JSON = re.compile(r"""\{\s*+(?:["'“‘}#/]|\w++\s*+:)|\[\s*+["'“‘{\[#/]""")
_LIKE_ANSWER = re.compile(r"""["'“]\w[\w ]*+["'”]\s*+:|\{\s*+\w++\s*+:|\[\s*+\{""")


@dataclass(frozen=True, slots=True)
class Value:
    """A JSON object or list in a text, or what looks like one and cannot be read."""

    start: int
    end: int
    value: Any = None
    repairs: Sequence[str] = ()
    """In which points it is not JSON to the letter."""
    problem: str = ""
    """Why it cannot be read; empty when it can."""


def values_in(text: str) -> list[Value]:
    """What is JSON, or is meant to be, in a text. Brackets of ordinary prose are passed over."""
    return list(_values(text))


def _values(text: str) -> Iterator[Value]:
    opening = _OPEN.search(text)
    while opening:
        start = opening.start()
        end = start + 1
        if numbers := _NUMBERS.match(text, start):
            try:
                yield Value(start, numbers.end(), parse_json(numbers[0]))
                end = numbers.end()
            except ParseError:
                pass  # a remark such as [1-3]
        elif _LIKE_JSON.match(text, start):
            found = _value(text, start)
            yield found
            end = found.end
        opening = _OPEN.search(text, end)


def _value(text: str, start: int) -> Value:
    end, depth = _balanced(text, start)
    try:
        return Value(start, end, parse_json(text[start:end] if depth <= DEEPEST else ""))
    except ParseError:
        pass
    try:
        value, end, repairs = read_almost(text, start)
        return Value(start, end, value, repairs)
    except ParseError as problem:  # what stands inside it is no answer either
        return Value(start, end, problem=str(problem))


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


# --- which one is the answer

_CORRECTED = re.compile(
    r"\b(?:wait|actually|correct(?:ed|ion)|on second thoughts?|(?:second|closer) look|looking again"
    r"|re-?check(?:ed|ing)?|revis(?:ed|ion)|let me (?:fix|correct|revise|redo)|final|i was wrong|i missed"
    r"|mistake|updated?|scratch that)\b",
    re.I,
)
_RETRACTED = re.compile(r"(?:^|[.!?]\s)\W*(?:wait|actually|correction|on second thoughts?|scratch that)\b", re.I | re.M)
_RESERVED = re.compile(r"\b(?:however|but|although|though|except|nevertheless|(?:closer|second) look)\b", re.I)
_SUPPOSED = re.compile(
    r"\b(?:if|would|were|had|suppos\w+|imagin\w+|e\.g|examples?|form(?:at)?|template|schema|structure|otherwise"
    r"|such as|like this)\b",
    re.I,
)
_UNDECIDED = re.compile(r"\b(?:or|alternative(?:ly)?|unsure|not sure|perhaps|maybe|draft|first)\b", re.I)
_PLACEHOLDER = re.compile(
    r"\s*(?:\.\.\.|…|<[^<>]*>|the error in a few words|what is seen and where|why it cannot be so)\s*", re.I
)


def answer_in(text: str, is_answer: Callable[[Any], bool]) -> Value | None:
    """The value that is the answer; None when there is none.

    text: without the model's thinking. Of several, the last counts where it is plainly the correction, or where the
    others are the empty answer or an example of the form. Raises ParseError, which says what to write, for any other
    text with several, and for one that cannot be read.
    """
    values = values_in(text)
    found = [v for v in values if (_LIKE_ANSWER.search(text, v.start, v.end) if v.problem else is_answer(v.value))]
    if not found:
        return None
    real = [v for v in found if not _is_example(v, text)]
    if not real and not found[-1].problem:
        raise ParseError("the answer only repeats the example of the form", write="write what you see")
    if not real:
        raise ParseError(found[-1].problem)
    last = real[-1]
    lead = _before(text, values, last)
    clause = _clause(lead)
    if len(real) > 1 and _UNDECIDED.search(clause):
        raise _unclear()
    if len(real) > 1 and _SUPPOSED.search(clause) and not _CORRECTED.search(lead):
        if last.problem or not _is_empty(last.value):
            raise _unclear()
        real.pop()  # "if nothing were wrong, I would write ..."
        last = real[-1]
        lead = _before(text, values, last)
    if last.problem:
        raise ParseError(last.problem)
    if _placeholders(last.value):
        raise ParseError("a part of the answer only repeats the example of the form", write="write what you see")
    if _is_empty(last.value) and any(v.problem for v in found):
        raise _unclear()
    corrected = _CORRECTED.search(lead) and not _UNDECIDED.search(lead)
    for earlier in real[:-1]:
        same = not earlier.problem and earlier.value == last.value
        emptied = not earlier.problem and _is_empty(earlier.value) and not _is_empty(last.value)
        if not (same or emptied or corrected):
            raise _unclear()
    if _RETRACTED.search(text, last.end) or (_is_empty(last.value) and _RESERVED.search(text, last.end)):
        raise ParseError("the answer is taken back in the words after it", write="give the corrected answer")
    return last


def _unclear() -> ParseError:
    wrong = "there are several answers, and it is not clear which one counts"
    return ParseError(wrong, write="give one that holds everything")


def _before(text: str, values: Sequence[Value], value: Value) -> str:
    """The words between a value and the one before it."""
    return text[max((v.end for v in values if v.end <= value.start), default=0) : value.start]


def _clause(lead: str) -> str:
    """The end of the words before a value: its own sentence."""
    return re.split(r"[.!?]\s|\n\s*\n", re.sub(r"[\s`:]*(?:json)?[\s`:]*\Z", "", lead[-300:], flags=re.I))[-1]


def _is_empty(value: Any) -> bool:
    if isinstance(value, dict):
        return not any(isinstance(v, list | dict) and v for v in value.values()) and not value.get("name")
    return not value


def _is_example(value: Value, text: str) -> bool:
    """Whether a value is the form as the prompt shows it, and not an answer."""
    if value.problem:
        return bool(re.search(r"[:\[,{]\s*+(?:\.\.\.|…|true *[/|])", text[value.start : value.end]))
    marks = _placeholders(value.value)
    return bool(marks) and all(marks)


def _placeholders(value: Any) -> list[bool]:
    """For each entry that has a name or the like, whether a placeholder stands there; nothing when none does."""
    marks = list(_marks(value))
    return marks if any(marks) else []


def _marks(value: Any) -> Iterator[bool]:
    if isinstance(value, list):
        for entry in value:
            yield from _marks(entry)
    elif isinstance(value, dict):
        if value == {"id": 1, "score": 80, "reason": "..."}:
            yield True
        for key, entry in value.items():
            if str(key).lower() in ("name", "phenomenon", "object") and isinstance(entry, str):
                yield bool(_PLACEHOLDER.fullmatch(entry))
            else:
                yield from _marks(entry)
