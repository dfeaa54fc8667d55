"""Finds the objects that a text names: whole words, singular or plural, the longest name first.

All names are searched together, so that `table lamp` is no table where both are names. A name directly before another
only qualifies it: a `sofa lamp` is a lamp. Try it:

    >>> sorted(Names(["table", "table lamp"]).mentioned("Two table lamps float."))
    ['table lamp']
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from anomreason.english import plural

_WORD = re.compile(r"[^\W_]+")
_JOINT = re.compile(r"['’]?[\s-]*")
"""Separator of the words of one name."""
LONGEST = 5_000
"""Characters of a text that are searched."""


class _Mention(NamedTuple):
    """A name in a text."""

    form: tuple[str, ...]
    start: int
    end: int


class Names:
    """A set of names to find in texts."""

    def __init__(self, names: Iterable[str]) -> None:
        self._forms: dict[tuple[str, ...], set[str]] = {}
        for name in names:
            for form in _forms(name):
                self._forms.setdefault(form, set()).add(key(name))
        self._longest = max(map(len, self._forms), default=0)

    def mentioned(self, text: str) -> frozenset[str]:
        """Keys of the names in the text; see `key`."""
        found = self._found(text)
        # A name directly before another one, as in `sofa lamp`, only qualifies it.
        kept = [one for one, after in pairwise(found) if not _JOINT.fullmatch(text, one.end, after.start)] + found[-1:]
        return frozenset().union(*(self._forms[one.form] for one in kept))

    def masked(self, text: str) -> str:
        """The text with every name replaced by `thing`, so that words of names do not count as words of the text."""
        parts, end = [], 0
        for one in self._found(text):
            parts += [text[end : one.start], "thing"]
            end = one.end
        return "".join([*parts, text[end:]])

    def _found(self, text: str) -> list[_Mention]:
        words = [(m[0].casefold(), m.start(), m.end()) for m in _WORD.finditer(text[:LONGEST])]
        found: list[_Mention] = []
        place = 0
        while place < len(words):
            length = self._length_at(words, place, text)
            if length:
                taken = words[place : place + length]
                found.append(_Mention(tuple(w for w, _, _ in taken), taken[0][1], taken[-1][2]))
            place += length or 1
        return found

    def _length_at(self, words: list[tuple[str, int, int]], place: int, text: str) -> int:
        """Number of words of the longest name that starts at `place`; 0 for none."""
        for length in range(min(self._longest, len(words) - place), 0, -1):
            taken = words[place : place + length]
            if tuple(w for w, _, _ in taken) in self._forms and all(
                _JOINT.fullmatch(text, a[2], b[1]) for a, b in pairwise(taken)
            ):
                return length
        return 0


def key(name: str) -> str:
    """The form in which names are compared: lower case, words separated by one space."""
    return " ".join(_WORD.findall(name.casefold()))


def _forms(name: str) -> set[tuple[str, ...]]:
    """Singular, plural, and both written as one word (`firetruck`)."""
    one = key(name)
    if not one:
        return set()
    spoken = {one, key(plural(one))}
    if one.endswith("s") and not one.endswith("ss"):
        spoken.add(one[:-1])
    forms = {tuple(form.split()) for form in spoken}
    return forms | {("".join(form),) for form in forms if len(form) == 2}
