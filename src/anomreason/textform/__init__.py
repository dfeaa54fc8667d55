r"""The text form of anomalies, and every shape in which models and published data write them.

Four lines per anomaly, a blank line between anomalies, `No anomalies.` for none. A field is one line: backslashes, line
breaks and control characters are escaped, so that whatever is written is read back equal. `kind`, `objects` and
`region` are not part of the form. Text is read strictly first, then tolerantly, and never guessed.

    >>> read_anomalies("1. **Odd hand**\n- Phenomenon: Six fingers.\n- Reasoning: Hands have five.\n- Severity: 5/100")
    (Anomaly(name='Odd hand', phenomenon='Six fingers.', reasoning='Hands have five.', severity=5.0),)
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import Any

from anomreason.anomaly import Anomaly
from anomreason.errors import ParseError, shown
from anomreason.textform.fields import FIELDS, LABELS, anomaly_from_mapping, numbered, plain, read_severity
from anomreason.textform.jsontext import answer_in, values_in
from anomreason.textform.lines import labels_in, read_fields, split_lines
from anomreason.textform.prose import says_no_anomalies
from anomreason.textform.thinking import without_thinking

__all__ = [
    "anomaly_from_mapping",
    "answer_in",
    "find_json",
    "read_anomalies",
    "read_severity",
    "says_no_anomalies",
    "stands_in_json",
    "without_thinking",
    "write_anomalies",
]
NO_ANOMALIES = "No anomalies."
_HOW = (
    "write each anomaly on four lines, '@1. Name: ...', 'Phenomenon: ...', 'Reasoning: ...', 'Severity Score: 20', "
    "or as a JSON list with these keys"
)


def write_anomalies(anomalies: Iterable[Anomaly]) -> str:
    """The text form, without a newline at the end. `objects` and `region` are left out."""
    return "\n\n".join(_written(n, a) for n, a in enumerate(anomalies, 1)) or NO_ANOMALIES


def _written(number: int, anomaly: Anomaly) -> str:
    value = anomaly.severity
    texts = [_escape(text) for text in (anomaly.name, anomaly.phenomenon, anomaly.reasoning)]
    texts.append(str(int(value)) if value.is_integer() else repr(value))
    return f"@{number}. " + "\n".join(f"{label}: {text}" for label, text in zip(FIELDS.values(), texts, strict=True))


# Controls and line separators: all at which `str.splitlines` splits, and all that a reader might strip from the ends.
_UNSAFE = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029]")
_ESCAPED = re.compile(r"\\(?:([\\n])|u([0-9a-f]{4}))")


def _escape(text: str) -> str:
    short = {"\\": "\\\\", "\n": "\\n"}
    return _UNSAFE.sub(lambda m: short.get(m[0]) or f"\\u{ord(m[0]):04x}", text)


def _unescape(text: str) -> str:
    return _ESCAPED.sub(lambda m: chr(int(m[2], 16)) if m[2] else "\n" if m[1] == "n" else "\\", text)


def _read_canonical(text: str) -> tuple[Anomaly, ...] | None:
    """What the text says if it is exactly what `write_anomalies` writes, else None."""
    text = text.replace("\r\n", "\n").strip()
    if not text.startswith("@1. Name: "):
        return () if text == NO_ANOMALIES else None
    lines = text.split("\n")
    heads = zip(lines[::5], lines[1::5], lines[2::5], lines[3::5], strict=False)
    values = [[line.partition(": ")[2] for line in head] for head in heads]
    try:
        found = tuple(
            Anomaly(name=_unescape(n), phenomenon=_unescape(p), reasoning=_unescape(r), severity=float(s[:40]))
            for n, p, r, s in values
        )
    except ValueError:
        return None
    return found if write_anomalies(found) == text else None


def read_anomalies(text: str) -> tuple[Anomaly, ...]:
    """The anomalies in a reply; empty only when it says in so many words that there are none.

    Raises ParseError, and nothing else, for any other text; its message says which anomaly, which field, and what to
    write. Takes time in proportion to the text's length.
    """
    canonical = _read_canonical(text)
    if canonical is not None:
        return canonical
    answer = without_thinking(text)
    if stands_in_json(answer):
        return tuple(numbered(n, entry) for n, entry in enumerate(_entries(answer), 1))
    labels = labels_in(answer, split_lines(answer))
    if not {"phenomenon", "severity"} <= labels:
        answer_in(answer, _is_reply)  # says what is wrong with JSON that cannot be read
    if labels:
        *drafts, final = _CORRECTION.split(answer)
        if drafts and "phenomenon" not in labels_in(final, split_lines(final)):
            wrong = "the anomalies are taken back in the words after them"
            raise ParseError(wrong, write="write the whole corrected list")
        read = read_fields(split_lines(final))
        return tuple(numbered(n, fields) for n, fields in enumerate(read, 1))
    if says_no_anomalies(answer):
        return ()
    wrong = f"no anomaly could be read{_complaint(answer)}"
    raise ParseError(wrong, write=f"{_HOW}; write '{NO_ANOMALIES}' if there are none")


_CORRECTION = re.compile(
    r"^\W*(?:wait|actually|correct(?:ed|ion)|on second thoughts?|scratch that|revised|final (?:answer|list))\b.*$",
    re.I | re.M,
)


def find_json(text: str) -> dict[str, Any] | list[Any] | None:
    """The JSON object or list that is the answer of a reply: all of it, in a fenced block, or in the chatter.

    An object, or a list that holds one, goes before a list of bare values. None when there is none or it cannot be told
    which one counts, also for text that is cut off. Never raises.
    """
    try:
        answer = without_thinking(text)
        for meant in (_holds_object, lambda value: True):
            found = answer_in(answer, meant)
            if found is not None:
                value: dict[str, Any] | list[Any] = found.value
                return value
    except ParseError:
        pass
    return None


def _holds_object(value: Any) -> bool:
    return isinstance(value, dict) or any(isinstance(entry, dict) for entry in value)


def _is_reply(value: dict[str, Any] | list[Any]) -> bool:
    """Whether a JSON value is meant as anomalies, and is not some list or object that the prose mentions."""
    if isinstance(value, list):
        return not value or any(isinstance(entry, dict) for entry in value)
    keys = {plain(key) for key in value}
    return bool(keys & {"anomalies", "findings", "no anomalies", "nothing found"}) or len(keys & LABELS.keys()) > 1


_FENCE = re.compile(r"^[ \t]*+```\w*+[ \t]*+$", re.M)


def stands_in_json(answer: str) -> bool:
    """Whether the anomalies of a reply without thinking stand in JSON.

    Raises ParseError when some stand in JSON and some in words.
    """
    found = [v for v in values_in(answer) if not v.problem and _is_reply(v.value)]
    ends = [0, *(v.end for v in found)]
    starts = [*(v.start for v in found), len(answer)]
    rest = "\n".join(answer[end:start] for end, start in zip(ends, starts, strict=True))
    if found and "severity" in labels_in(rest, split_lines(rest)):
        raise ParseError("there are anomalies in JSON and in words", write="write one list that holds all")
    return bool(found)


def _entries(answer: str) -> list[Any]:
    """The anomalies of a reply in JSON, unread."""
    values = [v for v in values_in(answer) if not v.problem and _is_reply(v.value)]
    if len(values) > 1 and all(_listed(v.value)[0] == [v.value] for v in values):
        between = "".join(answer[a.end : b.start] for a, b in itertools.pairwise(values))
        if not between.strip(" \t\r\n,;`"):  # one object a line
            broken = [v.problem for v in values_in(answer[values[-1].end :]) if v.problem]
            if broken:
                raise ParseError(f"a part of the anomalies cannot be read: {broken[0]}")
            return [v.value for v in values]
    found = answer_in(answer, _is_reply)
    if found is None:
        raise ParseError(f"no anomaly could be read{_complaint(answer)}", write=_HOW)
    entries, none = _listed(found.value)
    if none and entries:
        raise ParseError("anomalies are listed and 'no_anomalies' is true", write="say one of the two")
    around = _FENCE.sub("", answer[: found.start] + answer[found.end :])
    if not entries and not none and not says_no_anomalies(around):
        wrong = "an empty list that does not say that the image has no anomalies, so it is not counted as clean"
        raise ParseError(wrong, write='list them, or write {"anomalies": [], "no_anomalies": true}')
    return entries


def _listed(reply: Any) -> tuple[list[Any], bool]:
    """The anomalies of a JSON reply, and whether it says in so many words that there are none."""
    if isinstance(reply, list):
        return reply, False
    values = {plain(key): value for key, value in reply.items()}
    none = values.get("no anomalies") is True or values.get("nothing found") is True
    for key in ("anomalies", "findings"):
        if key in values:
            if not isinstance(values[key], list):
                raise ParseError(f"'{key}' is {shown(values[key])}", write="write a list of anomalies")
            return values[key], none
    return ([], True) if none else ([reply], False)


def _complaint(answer: str) -> str:
    """What is wrong with the JSON that a reply seems to be."""
    if not answer:
        return ": the reply is empty"
    problems = [v.problem for v in values_in(answer)]
    return f": {next(filter(None, problems), 'the JSON holds no list of anomalies')}" if problems else ""
