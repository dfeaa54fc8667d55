"""What a tool's file holds of one answer: a verdict that can be looked up, or why it is none.

UnusedAnswer("skipped", "project-1.json, task 7", "the annotator skipped it")
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Reason = Literal[
    "unanswered",
    "skipped",
    "no_candidate",
    "unreadable",
    "nobody",
    "unknown_candidate",
    "other_image",
    "other_text",
    "later_verdict",
]
EXPECTED: tuple[Reason, ...] = ("unanswered", "skipped", "no_candidate")
"""Reasons that hold for many rows of an ordinary file: they are counted, and the rows are not listed."""
_LARGEST = 2**63
"""Numbers from here on are no row of any database."""


@dataclass(frozen=True, slots=True)
class ToolVerdict:
    """One person's verdict on one candidate, as a tool has it."""

    place: str
    """File and row, for messages."""
    answer: str
    """Which answer it is in the tool: the same one after the person changed it there."""
    candidate: int
    sha256: str
    """Of the image that was shown, hex."""
    text: str
    """Name, phenomenon and reasoning that were shown, a line each."""
    person: str | None
    """As the tool names them; None where it names nobody."""
    at: datetime | None
    """None where the tool does not say when."""
    seconds: float | None
    choice: str
    """`accept`, `reject` or `unsure`."""

    @property
    def key(self) -> str:
        """Of `VerdictRow`: the same for the same verdict, however often it is imported."""
        return f"{self.answer} {self.at.isoformat() if self.at else self.choice}"


@dataclass(frozen=True, slots=True)
class UnusedAnswer:
    """A row that gives no verdict."""

    reason: Reason
    place: str
    message: str


def candidate_number(value: object) -> int | None:
    """The id of a candidate; None where it is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _LARGEST else None


def in_utc(at: datetime | None) -> datetime | None:
    """The moment in UTC; one without a zone is meant so."""
    return at and (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)


def texts(*parts: Any) -> str:
    """Name, phenomenon and reasoning as they are compared."""
    return "\n".join(str(part) for part in parts)
