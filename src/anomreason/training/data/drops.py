"""What was left out on the way to the instances, and why.

Knows nothing of where it was left out. Try it:

    >>> tally([Dropped("a.jpg", "picture is missing"), Dropped("b.jpg", "picture is missing")])
    {'image': {'picture is missing': 2}}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


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
    """How many for which reason, by what was dropped; the most frequent first."""
    counted = Counter((one.what, one.reason) for one in dropped)
    found: dict[str, dict[str, int]] = {}
    for (what, reason), count in sorted(counted.items(), key=lambda item: (-item[1], item[0])):
        found.setdefault(what, {})[reason] = count
    return found
