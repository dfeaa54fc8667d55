"""Which candidates say nearly the same: by their words alone, so that it costs microseconds.

>>> six = words("Hand with six fingers", "The left hand of the woman shows six fingers.")
>>> overlap(six, words("A hand with six fingers", "The left hand of the man shows six fingers.")) > ALIKE
True
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from anomreason.anomaly import Region

ALIKE = 0.6
"""Overlap of the words from which on two candidates of one kind say nearly the same, 0..1."""
_WORD = re.compile(r"[^\W_]+")
_EMPTY = frozenset(
    re.split(
        r"\s+",
        "a an and are as at but by for from has have in into is it its nor of on one or so that the their them there "
        "these they this those to was were which while whose with",
    )
)
"""Words that carry no meaning of their own."""


@dataclass(frozen=True, slots=True)
class Text:
    """What of a candidate is compared."""

    candidate: int
    image: int
    kind: str | None
    words: frozenset[str]
    region: Region | None


def words(*texts: str) -> frozenset[str]:
    """The words of some texts that carry meaning, in lower case, without a plural's s."""
    found = {word for text in texts for word in _WORD.findall(text.casefold())}
    return frozenset(word[:-1] if len(word) > 3 and word.endswith("s") else word for word in found - _EMPTY)


def overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Words that both have, of those that either has, 0..1."""
    together = len(one | other)
    return len(one & other) / together if together else 0.0


def like(one: Text, others: Iterable[Text], most: int) -> Sequence[int]:
    """Those of the others that say nearly the same as one, the nearest first: their candidates, at most `most`.

    Of the same image they must also mark overlapping places, or both none.
    """
    near = []
    for other in others:
        if other.kind != one.kind or other.candidate == one.candidate:
            continue
        if other.image == one.image and not _same_place(one.region, other.region):
            continue
        if (nearness := overlap(one.words, other.words)) >= ALIKE:
            near.append((-nearness, other.candidate))
    near.sort(key=lambda found: found[0])  # stable: then in the order given
    return [candidate for _, candidate in near[:most]]


def _same_place(one: Region | None, other: Region | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.iou(other) > 0
