"""Prodigy's JSON lines (`prodigy db-out`), of the tasks that `export --format prodigy` wrote.

for found in read_prodigy(Path("anomalies.jsonl")):
    print(found)

A row is one answer of one session. A row that Prodigy never showed to anybody has the answer that our export gave it:
it says nothing new.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from anomreason.dataset.export.prodigy import ANSWERS
from anomreason.dataset.tables import Outcome
from anomreason.dataset.verdict_import.records import ToolVerdict, UnusedAnswer, candidate_number
from anomreason.dataset.verdicts import OUTCOMES
from anomreason.errors import first_error, shown
from anomreason.files import read_lines

_CHOICE_OF = {outcome: choice for choice, outcome in OUTCOMES.items()}
_VERDICTS = {answer: _CHOICE_OF[Outcome(outcome)] for outcome, answer in ANSWERS.items()}
_SHOWN = ("_timestamp", "_annotator_id", "_session_id", "_view_id")
"""Keys of which Prodigy adds some to what somebody answered."""


class _Row(BaseModel):
    text: str = ""
    meta: dict[str, Any] = {}
    answer: str | None = None


class _Session(BaseModel):
    annotator: str | int | None
    session: str | int | None
    time: float | None


def read_prodigy(path: Path) -> Iterator[ToolVerdict | UnusedAnswer]:
    """Every row of a file; damaged lines come last. Raises UsageError for a file that cannot be read."""
    damaged: list[UnusedAnswer] = []

    def note(number: int, message: str) -> None:
        damaged.append(UnusedAnswer("unreadable", f"{path.name}, line {number}", message))

    for number, row in read_lines(path, damaged=note):
        yield _verdict(row, f"{path.name}, line {number}")
    yield from damaged


def _verdict(row: dict[str, Any], place: str) -> ToolVerdict | UnusedAnswer:
    try:
        found = _Row.model_validate(row)
        keys = ("_annotator_id", "_session_id", "_timestamp")
        annotator, session, time = (row.get(key) for key in keys)
        given = _Session(annotator=annotator, session=session, time=time)
        at = None if given.time is None else datetime.fromtimestamp(given.time, UTC)
    except ValidationError as error:
        return UnusedAnswer("unreadable", place, first_error(error))
    except (OverflowError, ValueError, OSError):
        return UnusedAnswer("unreadable", place, f"its _timestamp {shown(row.get('_timestamp'))} is no time")
    if found.answer is None or not any(key in row for key in _SHOWN):
        return UnusedAnswer("unanswered", place, "nobody answered it in Prodigy")
    if found.meta.get("candidate") is None and "sha256" in found.meta:
        return UnusedAnswer("no_candidate", place, "it shows an image without a candidate")
    candidate = candidate_number(found.meta.get("candidate"))
    if candidate is None:
        return UnusedAnswer("unreadable", place, f"its candidate is {shown(found.meta.get('candidate'))}, no number")
    if found.answer not in _VERDICTS:
        return UnusedAnswer(
            "unreadable", place, f"its answer is {shown(found.answer)}; one of {', '.join(_VERDICTS)} is expected"
        )
    who = given.session if given.annotator in (None, "") else given.annotator
    return ToolVerdict(
        place=place,
        answer=f"prodigy {candidate} {who}",
        candidate=candidate,
        sha256=str(found.meta.get("sha256")),
        text=found.text,
        person=None if who in (None, "") else str(who),
        at=at,
        seconds=None,
        choice=_VERDICTS[found.answer],
    )
