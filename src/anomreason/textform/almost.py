"""JSON as models write it by hand: read where it can mean one value only, and refused with the place otherwise.

Read: commas before a closing bracket, comments, texts in single or curly quotes or with raw line breaks, quotes inside
of a text where both of a pair stand there, keys without quotes, Python's True, False and None. Nothing is filled in: a
value that is cut off, that has a key twice or that leaves something out (`...`) is refused.

    >>> read_almost("{'wrong': True, /* sure */ }", 0).value
    {'wrong': True}
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from anomreason.errors import ParseError, shown
from anomreason.files import parse_json

DEEPEST = 100
"""Brackets inside of each other; no answer needs more."""
_SPACE = re.compile(r"\s++")
_COMMENT = re.compile(r"(?://|#)[^\n]*+|/\*.*?\*/", re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?(?![\w.])")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*+")
_WORDS = {"true": True, "false": False, "null": None, "none": None}
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’"}
_AFTER_TEXT = re.compile(r"\s*+(?:[,\]}:]|//|#|/\*|\Z)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\n": ""}
_CODE = re.compile(r"u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})")


class Almost(NamedTuple):
    """A value that was read, where it ends, and in which points it is not JSON to the letter."""

    value: Any
    end: int
    repairs: list[str]


def read_almost(text: str, start: int) -> Almost:
    """The object or list that opens at `start`. Raises ParseError with the place at which it cannot be read."""
    reader = _Reader(text, start)
    value = reader.value(0)
    return Almost(value, reader.at, list(reader.repairs))


class _Reader:
    def __init__(self, text: str, start: int) -> None:
        self.text, self.start, self.at = text, start, start
        self.repairs: dict[str, None] = {}

    def value(self, depth: int) -> Any:
        sign = self.next()
        if depth >= DEEPEST:
            raise ParseError("the JSON is nested too deeply")
        if sign == "{":
            return self.object(depth)
        if sign == "[":
            return self.array(depth)
        if sign in _QUOTES:
            return self.string(key=False)
        if number := _NUMBER.match(self.text, self.at):
            self.at = number.end()
            return parse_json(number[0])
        word = _WORD.match(self.text, self.at)
        if word and word[0].lower() in _WORDS:
            self.at = word.end()
            if word[0] not in ("true", "false", "null"):
                self.repairs["words that JSON does not know"] = None
            return _WORDS[word[0].lower()]
        raise self.wrong("a value is expected")

    def object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self.at += 1
        while not self.closed("}", bool(found)):
            key = self.key()
            if key in found:
                raise ParseError(f"the JSON cannot be read: the key {shown(key)} stands twice in one object")
            if self.next() != ":":
                raise self.wrong("':' is expected")
            self.at += 1
            found[key] = self.value(depth + 1)
        return found

    def array(self, depth: int) -> list[Any]:
        found: list[Any] = []
        self.at += 1
        while not self.closed("]", bool(found)):
            found.append(self.value(depth + 1))
        return found

    def closed(self, bracket: str, begun: bool) -> bool:
        """Whether the bracket closes here; otherwise stands at the next entry, behind the comma."""
        sign = self.next()
        if sign == "," and begun:
            self.at += 1
            sign = self.next()
            if sign == bracket:
                self.repairs["a comma too many"] = None
        elif begun and sign != bracket:
            raise self.wrong(f"',' or '{bracket}' is expected")
        if sign == bracket:
            self.at += 1
        return sign == bracket

    def key(self) -> str:
        if self.next() in _QUOTES:
            return self.string(key=True)
        word = _WORD.match(self.text, self.at)
        if not word:
            raise self.wrong("a key in double quotes is expected")
        self.at = word.end()
        self.repairs["keys without quotes"] = None
        return word[0]

    def string(self, key: bool) -> str:
        """A text: its quote closes it where a comma, a bracket or a colon follows."""
        opened, text = self.text[self.at], self.text
        quote, at, pieces, inner = _QUOTES[opened], self.at + 1, list[str](), 0
        if opened != '"':
            self.repairs["other quotes than double ones"] = None
        special = re.compile(rf"[{quote}\\\n]")
        while mark := special.search(text, at):
            pieces.append(text[at : mark.start()])
            at = mark.end()
            if mark[0] == "\n":
                self.repairs["line breaks inside of a text"] = None
                pieces.append("\n")
            elif mark[0] == "\\":
                at = self.escape(at, pieces)
            elif after := _AFTER_TEXT.match(text, at):
                self.at = at
                if inner % 2 or (after[0].endswith(":") and not key):
                    raise self.wrong("a text does not end, or a quote inside of one is not escaped")
                return "".join(pieces)
            else:
                apostrophe = quote in "'’" and text[at - 2].isalnum() and text[at].isalnum()
                inner += not apostrophe
                self.repairs["quotes inside of a text"] = None
                pieces.append(quote)
        self.at = len(text)
        raise self.wrong("it is cut off")

    def escape(self, at: int, pieces: list[str]) -> int:
        """Adds what a backslash before `at` stands for; gives the place behind it."""
        if code := _CODE.match(self.text, at):
            if code[1]:
                pair = re.compile(r"u([dD][89abAB]..)\\u([dD][c-fC-F]..)").match(self.text, at)
                pieces.append(parse_json(f'"\\{pair[0]}"') if pair else chr(int(code[1], 16)))
                return pair.end() if pair else code.end()
            pieces.append(chr(int(code[2], 16)))
            return code.end()
        sign = self.text[at : at + 1]
        if sign not in '"\\/ntrbf':
            self.repairs["escapes that JSON does not know"] = None
        known = sign in _ESCAPES or sign in "\"'/\\“”‘’"
        pieces.append(_ESCAPES.get(sign, sign) if known else "\\" + sign)
        return at + 1

    def next(self) -> str:
        """The next sign that counts; spaces and comments are passed over. Raises ParseError at the end of the text."""
        while True:
            if space := _SPACE.match(self.text, self.at):
                self.at = space.end()
            elif comment := _COMMENT.match(self.text, self.at):
                self.at = comment.end()
                self.repairs["comments"] = None
            elif self.at < len(self.text):
                return self.text[self.at]
            else:
                raise self.wrong("it is cut off")

    def wrong(self, why: str) -> ParseError:
        before = " ".join(self.text[max(self.start, self.at - 30) : self.at].split())
        after = " ".join(self.text[self.at : self.at + 20].split())
        place = f"before {after!r}" if after else "at the end"
        return ParseError(f"the JSON cannot be read after {before!r}: {why} {place}")
