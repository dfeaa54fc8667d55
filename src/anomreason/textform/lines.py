r"""Anomalies written as labelled lines, in every shape that models use: numbered, bold, bulleted, wrapped, on one line.

A label counts at the start of a line; ` - Phenomenon:` inside a line counts where no line starts with that label.

    >>> read_fields(split_lines("1. **Six fingers**\n- Phenomenon: On the left\nhand."))
    [{'name': 'Six fingers', 'phenomenon': 'On the left hand.'}]
"""

from __future__ import annotations

import re
from typing import NamedTuple

from anomreason.errors import ParseError
from anomreason.textform.fields import FIELDS, LABELS, plain, twice


class Line(NamedTuple):
    """One line of a reply, and what it opens."""

    raw: str
    label: str | None = None
    """The field that the line opens."""
    title: bool = False
    """Whether it is a heading without a label: numbered, `###`, or all bold."""
    number: int | None = None
    at: bool = False
    """Whether the number is written `@1`, which nothing but an anomaly is."""
    text: str = ""
    """What follows the label or the number."""


_BLANK = Line("")
_LABEL = (
    rf"(?P<label>{'|'.join(sorted(LABELS, key=len, reverse=True))})".replace(" ", "[ _]")
    + r"[*_]*+(?:[ ]*+[(\[][^()\[\]:]{0,40}[)\]])?[*_\s]*+[:：][*_]*+"
)
_MARKS = r"[\s>*_•·+–—#-]*+"
_NUMBER = (
    r"(?:(?P<at>@)\s?(?P<n>[0-9]{1,6})[.):]?|\(?(?P<m>[0-9]{1,4})[.)]"
    r"|(?:anomaly|finding|issue)\s*\#?(?P<w>[0-9]{1,4})[.):]?)"
)
_LABELLED = re.compile(rf"{_MARKS}(?:{_NUMBER}[\s*_•·+–—:-]*+)?+{_LABEL}", re.I)
_HEADING = re.compile(rf"{_MARKS}{_NUMBER}(?![0-9])[\s:–—-]*+", re.I)
_INLINE = re.compile(
    rf"\s(?P<dash>[-–—|]\s++[*_]*+)?+(?P<number>(?:@\s?[0-9]{{1,6}}[.):]?|[0-9]{{1,4}}[.)])[\s*_]*+)?+{_LABEL}", re.I
)
_BULLET = re.compile(r"^[-*•+]\s+")
_ITEM = re.compile(r"\(?[0-9]{1,3}[.)]\s")


def _unwrap(text: str) -> str:
    """Without the bold, italic or code marks around the whole of it, or the half of a pair that a label took along."""
    text = text.strip()
    for mark in ("**", "__", "*", "`"):
        if len(mark) == 2 and text.count(mark) == 1:
            text = text.removeprefix(mark).removesuffix(mark).strip()
        if len(text) > 2 * len(mark) and text.startswith(mark) and text.endswith(mark) and text.count(mark) == 2:
            text = text[len(mark) : -len(mark)].strip()
    return text


def split_lines(text: str) -> list[Line]:
    """A reply's lines; fences and rules count as blank."""
    return [_line(raw) for raw in text.splitlines()]


def labels_in(text: str, lines: list[Line]) -> set[str]:
    """The fields that a reply labels, at the start of a line or inside one; none when no line starts with a label."""
    at_start = {line.label for line in lines if line.label}
    inside = {LABELS[plain(token["label"])] for token in _INLINE.finditer(text) if token["dash"]}
    return at_start and at_start | inside


def read_fields(lines: list[Line]) -> list[dict[str, str]]:
    """Each anomaly's fields as far as they are there.

    Raises ParseError where it cannot be told what belongs to what.
    """
    anomalies: list[dict[str, str]] = []
    for draft in _drafts(lines):
        _unfold(draft, anomalies)
    return [{field: _tidy(text, field) for field, text in found.items()} for found in anomalies]


def _line(raw: str) -> Line:
    line = raw.strip()
    if not line.strip("-=*_~#> ") or (line.startswith("```") and line[3:].isalnum()) or line == "```":
        return _BLANK
    match = _LABELLED.match(line)
    label = LABELS[plain(match["label"])] if match else None
    match = match or _HEADING.match(line)
    if match:
        number = match["n"] or match["m"] or match["w"]
        text = line[match.end() :] if label else _unwrap(line[match.end() :].rstrip(": "))
        return Line(line, label, label is None, int(number) if number else None, bool(match["at"]), text)
    bare = _BULLET.sub("", line, count=1).rstrip(": ")
    if line.startswith("#") or (bare.startswith(("**", "__")) and _unwrap(bare) != bare):
        return Line(line, title=True, text=_unwrap(line.strip("#: ") if line.startswith("#") else bare))
    return Line(line)


def _drafts(lines: list[Line]) -> list[dict[str, list[str]]]:
    """Anomalies as their labelled lines, each field with the lines that continue it."""
    drafts: list[dict[str, list[str]]] = []
    field = ""
    for line, after in zip(lines, _following(lines), strict=True):
        draft = drafts[-1] if drafts else None
        if line.label == "name" or (line.title and _opens_anomaly(line, after, draft, len(drafts))):
            drafts.append({"name": [line.text]})
            field = "name"
        elif line.label:
            if draft is None:
                draft = {}
                drafts.append(draft)
            if line.label in draft:
                raise twice(line.label, f"Anomaly {len(drafts)}: ")
            field = line.label
            draft[field] = [line.text]
        elif draft is not None and not (line.title and after.label == "name" and after.number is None):
            draft[field].append(line.raw)
    return drafts


def _following(lines: list[Line]) -> list[Line]:
    """For each line the next one that is not blank."""
    found, after = [], _BLANK
    for line in reversed(lines):
        found.append(after)
        after = line if line is not _BLANK else after
    return found[::-1]


def _opens_anomaly(title: Line, after: Line, draft: dict[str, list[str]] | None, count: int) -> bool:
    """Whether a heading without a label is the name of an anomaly, also of one that then turns out to be incomplete."""
    if after.label == "name" and (after.number is None or not title.at):
        return False
    if after.label == "phenomenon" and (draft is None or "phenomenon" in draft):
        return True
    return title.at or (title.number == count + 1 and draft is not None and "severity" in draft)


def _unfold(draft: dict[str, list[str]], anomalies: list[dict[str, str]]) -> None:
    """Adds one anomaly, or the several that stand on one line, apart by ` - Phenomenon:` and the like.

    A label inside a line counts only where the anomaly has no line that starts with it.
    """
    found: dict[str, str] = {}
    for field, lines in draft.items():
        text, start, current = "\n".join(lines), 0, field
        where = f"Anomaly {len(anomalies) + 1}: "
        for token in _INLINE.finditer(text):
            label = LABELS[plain(token["label"])]
            if label == "name" and token["number"]:
                if current != "severity":
                    wrong = f"{where}the next anomaly starts inside '{FIELDS[current]}'"
                    raise ParseError(wrong, write="start it on a new line")
                anomalies.append({**found, current: text[start : token.start()]})
                found = {}
            elif label in draft or not token["dash"]:
                continue
            elif label in found or label == current:
                raise twice(label, where)
            else:
                found[current] = text[start : token.start()]
            start, current = token.end(), label
        if current in found:
            raise twice(current, where)
        found[current] = text[start:]
    anomalies.append(found)


def _tidy(text: str, field: str) -> str:
    """One field's lines as one text: wrapped lines joined, list items and paragraphs on lines of their own."""
    joined: list[str] = []
    gap = " "
    for line in text.split("\n"):
        bare = line.strip()
        item = _BULLET.sub("", bare, count=1)
        if not bare:
            gap = "\n"
            continue
        if joined:
            joined.append("\n" if item != bare or _ITEM.match(bare) else gap)
        joined.append(item)
        gap = " "
        if field == "severity":
            break
    return _unwrap("".join(joined))
