"""Training data as records: an annotated image, a conversation about it, its length, and what was left out.

>>> tally([Dropped("a.jpg", "image is missing"), Dropped("b.jpg", "image is missing")])
{'image': {'image is missing': 2}}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from anomreason.anomaly import Anomaly


@dataclass(frozen=True, slots=True)
class Annotated:
    """One image and what is to be learnt about it."""

    image: Path
    name: str
    """As its source names it."""
    anomalies: tuple[Anomaly, ...] = ()
    """Accepted ones only."""
    generated: bool | None = None
    """AI image (True) or photograph (False); None where the source does not say."""
    description: str | None = None
    """What a photograph shows."""
    source: str = ""
    """Where it comes from: `scenes`, `run`, `lines`, `published`."""
    size: tuple[int, int] | None = None
    """Width and height of the oriented image in pixels; None before it was opened."""
    sha256: str = ""
    """Of the file, hex; empty before it was opened."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. The image stands before the text of the first user turn."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Instance:
    """One conversation to learn from: user and assistant take turns, the user first; no loss on user turns."""

    image: Path
    name: str
    turns: tuple[Turn, ...]
    part: int = 1
    parts: int = 1
    """An image whose anomalies do not fit the length is split into several instances, by whole anomalies."""
    size: tuple[int, int] | None = None
    """Of the image, as in `Annotated`."""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class ConversationLength:
    """Tokens of one conversation."""

    total: int
    image: int
    """Tokens of the image itself."""
    answer: int
    """What is learnt: the answers, each with the token that ends it."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """One image, or one anomaly of an image, that nothing is learnt from."""

    name: str
    """The image, as its source names it."""
    reason: str
    """The same words for all of its kind, so that it can be counted."""
    detail: str = ""
    """What is wrong with this one, and what can be done."""
    what: Literal["image", "anomaly"] = "image"


def tally(dropped: Iterable[Dropped]) -> dict[str, dict[str, int]]:
    """Count by what was dropped and why, the most frequent reason first."""
    counted = Counter((one.what, one.reason) for one in dropped)
    found: dict[str, dict[str, int]] = {}
    for (what, reason), count in sorted(counted.items(), key=lambda item: (-item[1], item[0])):
        found.setdefault(what, {})[reason] = count
    return found
