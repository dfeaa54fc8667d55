r"""The text form of anomalies, and every shape in which models and published data write them.

Four lines per anomaly, a blank line between anomalies, `No anomalies.` for none. A field is one line: backslashes, line
breaks and control characters are escaped, so that whatever is written is read back equal. `kind`, `objects` and
`region` are not part of the form. Text is read strictly first, then tolerantly, and never guessed.

    >>> read_anomalies("1. **Odd hand**\n- Phenomenon: Six fingers.\n- Reasoning: Hands have five.\n- Severity: 5/100")
    (Anomaly(name='Odd hand', phenomenon='Six fingers.', reasoning='Hands have five.', severity=5.0),)
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from anomreason.anomaly import Anomaly
from anomreason.errors import ParseError, shown
from anomreason.files import parse_json
from anomreason.textform.fields import FIELDS, LABELS, anomaly_from_mapping, numbered, plain, read_severity
from anomreason.textform.jsontext import fenced_or_whole, find_json, json_values
from anomreason.textform.lines import labels_in, read_fields, split_lines
from anomreason.textform.prose import says_no_anomalies, without_thoughts

__all__ = [
    "anomaly_from_mapping",
    "find_json",
    "read_anomalies",
    "read_severity",
    "says_no_anomalies",
    "write_anomalies",
]
NO_ANOMALIES = "No anomalies."
_HOW = (
    "Write each anomaly on four lines, '@1. Name: ...', 'Phenomenon: ...', 'Reasoning: ...', 'Severity Score: 20', "
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
    answer = without_thoughts(text)
    lines = split_lines(answer)
    labels = labels_in(answer, lines)
    if not {"phenomenon", "severity"} <= labels:
        values, prose = json_values(answer)
        replies = [value for value in values if _is_reply(value)]
        if replies:
            return _read_json(replies, prose)
    if labels:
        return tuple(numbered(n, fields) for n, fields in enumerate(read_fields(lines), 1))
    if says_no_anomalies(answer):
        return ()
    raise ParseError(f"No anomaly could be read{_complaint(answer)}. {_HOW}; write '{NO_ANOMALIES}' if there are none.")


def _is_reply(value: dict[str, Any] | list[Any]) -> bool:
    """Whether a JSON value is meant as anomalies, and is not some list or object that the prose mentions."""
    if isinstance(value, list):
        return not value or any(isinstance(entry, dict) for entry in value)
    keys = {plain(key) for key in value}
    return bool(keys & {"anomalies", "findings", "no anomalies", "nothing found"}) or len(keys & LABELS.keys()) > 1


_BROKEN = re.compile(rf'"(?:{"|".join(LABELS)})"\s*:', re.I)


def _read_json(replies: list[Any], prose: str) -> tuple[Anomaly, ...]:
    if _BROKEN.search(prose):
        raise ParseError("A part of the anomalies is not JSON, or cut off; write one whole JSON list.")
    if len(replies) > 1:
        if any(isinstance(r, list) or _listed(r)[0] != [r] for r in replies):
            raise ParseError("There are several JSON values; write one list that holds all anomalies.")
        replies = [replies]
    entries, none = _listed(replies[0])
    if none and entries:
        raise ParseError("Anomalies are listed and 'no_anomalies' is true; say one of the two.")
    if not entries and not none and not says_no_anomalies(prose):
        raise ParseError('The list of anomalies is empty; list them, or write {"anomalies": [], "no_anomalies": true}.')
    return tuple(numbered(n, entry) for n, entry in enumerate(entries, 1))


def _listed(reply: Any) -> tuple[list[Any], bool]:
    """The anomalies of a JSON reply, and whether it says in so many words that there are none."""
    if isinstance(reply, list):
        return reply, False
    values = {plain(key): value for key, value in reply.items()}
    none = values.get("no anomalies") is True or values.get("nothing found") is True
    for key in ("anomalies", "findings"):
        if key in values:
            if not isinstance(values[key], list):
                raise ParseError(f"'{key}' is {shown(values[key])}; write a list of anomalies.")
            return values[key], none
    return ([], True) if none else ([reply], False)


def _complaint(answer: str) -> str:
    """What is wrong with the JSON that a reply seems to be."""
    text = fenced_or_whole(answer)
    if not text.startswith(("{", "[")):
        return "" if text else ": the reply is empty"
    try:
        parse_json(text)
    except ParseError as error:
        return f": {error}"
    return ": the JSON holds no list of anomalies"
