"""The model calls of a run by image, and the timeline of one image's calls.

Calls are gathered in a temporary database on disk, and prompts are read one image at a time, so that memory does not
grow with the run.

    with closing(CallLog(Path("runs/demo"))) as log:
        timeline(log.of("a.jpg"), log.stored)
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from anomreason.anomaly import Usage
from anomreason.vlm.cache import ReplyStore, Stored
from anomreason.vlm.ledger import Call, read_calls

LONGEST_TEXT = 40_000
"""Characters of a prompt or reply that a page shows; the rest is only in responses.sqlite."""
PAUSE = 90.0
"""Seconds without a call after which we assume that the run was stopped and continued."""
SHARED = 400
"""A beginning this long that an earlier prompt shares is referred to instead of shown again, characters."""


class CallLog:
    """The calls of one run folder. `calls.jsonl` and `responses.sqlite` may be missing."""

    def __init__(self, run: Path) -> None:
        self.usage = Usage(cost=0.0)
        """All calls, those of earlier failed tries at an image included; cost None when any price is unknown."""
        self.models: set[str] = set()
        self.first: float | None = None
        """Start of the first call, seconds since 1970."""
        self.last: float | None = None
        self._db = sqlite3.connect("")  # a temporary database: in memory while small, on disk when large
        self._db.execute("CREATE TABLE calls (image TEXT, started REAL, call TEXT)")
        self._db.executemany("INSERT INTO calls VALUES (?, ?, ?)", self._rows(run))
        self._db.execute("CREATE INDEX by_image ON calls (image, started)")
        replies = run / "responses.sqlite"
        self._store = ReplyStore(replies) if replies.is_file() else None

    def _rows(self, run: Path) -> Iterator[tuple[str, float, str]]:
        unpriced = False
        for call in read_calls(run):
            self.usage += call.usage
            unpriced |= call.cost is None
            self.models.add(call.model)
            self.first = min(self.first or call.started, call.started)
            self.last = max(self.last or call.started, call.started)
            yield call.image, call.started, json.dumps(asdict(call))
        if unpriced:
            self.usage = self.usage.model_copy(update={"cost": None})

    def of(self, image: str) -> list[Call]:
        """An image's calls in the order in which they started."""
        rows = self._db.execute("SELECT call FROM calls WHERE image = ? ORDER BY started", (image,))
        return [Call(**json.loads(row[0])) for row in rows]

    def stored(self, key: str | None) -> Stored | None:
        """Prompt and reply of a call; None when they were not kept."""
        return self._store.read(key) if self._store is not None and key is not None else None

    def close(self) -> None:
        self._db.close()
        if self._store is not None:
            self._store.close()


@dataclass(frozen=True, slots=True)
class CallText:
    """A prompt or reply, as a page shows it."""

    text: str
    left_out: int
    """Characters at the end that are not shown."""
    shared: int = 0
    """Characters at the beginning that are those of `shared_with`'s prompt, so not shown again."""
    shared_with: int = 0
    """Number of an earlier call."""


@dataclass(frozen=True, slots=True)
class CallBar:
    """One call in the timeline."""

    number: int
    """From 1, in the order in which the calls started."""
    call: Call
    start: float
    """Where its bar begins, 0..100 of the width; pauses take no room."""
    width: float
    """Length of the bar, 0..100 of the width."""
    colour: int
    """The same for all calls of a role, 0..5."""
    pause: float
    """Seconds that the run was stopped before this call; mostly 0."""
    prompt: CallText | None
    reply: CallText | None


def timeline(calls: list[Call], read: Callable[[str | None], Stored | None]) -> list[CallBar]:
    """One image's calls, in the order in which they started, as bars over their common time."""
    starts, pauses = _starts(calls)
    span = max((start + call.seconds for start, call in zip(starts, calls, strict=True)), default=0.0) or 1.0
    roles = list(dict.fromkeys(call.role for call in calls))
    seen: dict[int, str] = {}
    bars = []
    for number, (call, start) in enumerate(zip(calls, starts, strict=True), 1):
        stored = read(call.key)
        bars.append(
            CallBar(
                number,
                call,
                100 * start / span,
                max(100 * call.seconds / span, 0.6),
                roles.index(call.role) % 6,
                pauses[number - 1],
                _prompt(stored.prompt, number, seen) if stored else None,
                _bounded(stored.text) if stored else None,
            )
        )
    return bars


def _starts(calls: list[Call]) -> tuple[list[float], list[float]]:
    """(seconds from the first call's start without the pauses, the pause before each call), a number a call."""
    starts: list[float] = []
    pauses: list[float] = []
    removed, end = 0.0, calls[0].started if calls else 0.0
    for call in calls:
        gap = call.started - end
        pauses.append(gap if gap > PAUSE else 0.0)
        removed += pauses[-1]
        starts.append(call.started - calls[0].started - removed)
        end = max(end, call.started + call.seconds)
    return starts, pauses


def _prompt(prompt: str, number: int, seen: dict[int, str]) -> CallText:
    """The prompt without the beginning that it shares with an earlier one."""
    shared, shared_with = 0, 0
    for other, text in seen.items():
        common = _common(text, prompt)
        if common > shared:
            shared, shared_with = common, other
    if shared < len(prompt):
        shared = prompt.rfind("\n", 0, shared) + 1
    if len(seen) < 8 and shared < len(prompt):
        seen[number] = prompt
    if shared < SHARED:
        return _bounded(prompt)
    rest = _bounded(prompt[shared:])
    return CallText(rest.text, rest.left_out, shared, shared_with)


def _common(a: str, b: str) -> int:
    """Length of the beginning that two texts share."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _bounded(text: str) -> CallText:
    return CallText(text[:LONGEST_TEXT], max(0, len(text) - LONGEST_TEXT))
