"""Label Studio's exported JSON, of the tasks that `export --format label-studio` wrote.

for found in read_label_studio(Path("project-1-at-2026-01-01.json")):
    print(found)

A person's annotation is one answer: its `verdict` counts. Its predictions are our own.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from anomreason.dataset.export.label_studio import CHOICES
from anomreason.dataset.tables import Outcome
from anomreason.dataset.verdict_import.records import ToolVerdict, UnusedAnswer, candidate_number, in_utc, texts
from anomreason.dataset.verdicts import OUTCOMES
from anomreason.errors import ParseError, UsageError, first_error, shown
from anomreason.files import parse_json, read_text

_CHOICE_OF = {outcome: choice for choice, outcome in OUTCOMES.items()}
_VERDICTS = {label: _CHOICE_OF[Outcome(outcome)] for outcome, label in CHOICES.items()}
_FORM = "export the project as JSON (not JSON-MIN)"


class _Task(BaseModel):
    id: int | str | None = None
    project: int | str | None = None
    data: dict[str, Any]
    annotations: list[Any] = Field(default=[], max_length=10_000)


class _User(BaseModel):
    id: int | None = None
    email: str | None = None
    username: str | None = None

    @property
    def name(self) -> str | None:
        return self.email or self.username or (None if self.id is None else str(self.id))


class _Annotation(BaseModel):
    id: int | str | None = None
    unique_id: str | None = None
    completed_by: int | str | _User | None = None
    was_cancelled: bool = False
    result: list[Any] = []
    created_at: datetime | None = None
    updated_at: datetime | None = None
    lead_time: float | None = Field(default=None, ge=0)


def read_label_studio(path: Path) -> Iterator[ToolVerdict | UnusedAnswer]:
    """Every annotation of a file, in order. Raises UsageError for a file that is no export of Label Studio."""
    try:
        tasks = parse_json(read_text(path))
    except ParseError as error:
        raise UsageError(f"{path}: {error}; {_FORM}") from None
    if not isinstance(tasks, list):
        raise UsageError(f"{path}: not Label Studio's list of tasks; {_FORM}")
    for number, entry in enumerate(tasks, 1):
        place = f"{path.name}, task {number}"
        try:
            task = _Task.model_validate(entry)
        except ValidationError as error:
            yield UnusedAnswer("unreadable", place, f"{first_error(error)}; {_FORM}")
            continue
        if task.data.get("candidate") is None and "candidate" in task.data:
            yield UnusedAnswer("no_candidate", place, "it shows an image without a candidate")
        elif not task.annotations:
            yield UnusedAnswer("unanswered", place, "nobody annotated it")
        else:
            for annotation in task.annotations:
                yield _verdict(task, annotation, place)


def _verdict(task: _Task, entry: object, place: str) -> ToolVerdict | UnusedAnswer:
    try:
        found = _Annotation.model_validate(entry)
    except ValidationError as error:
        return UnusedAnswer("unreadable", place, f"an annotation: {first_error(error)}")
    if found.was_cancelled:
        return UnusedAnswer("skipped", place, "the annotator skipped it")
    candidate = candidate_number(task.data.get("candidate"))
    if candidate is None:
        return UnusedAnswer("unreadable", place, f"its candidate is {shown(task.data.get('candidate'))}, no number")
    choice = _choice(found.result)
    if choice is None:
        return UnusedAnswer("unreadable", place, f"it has no verdict; one of {', '.join(_VERDICTS)} is expected")
    if found.unique_id is None and found.id is None:
        return UnusedAnswer("unreadable", place, "an annotation has neither id nor unique_id")
    who = found.completed_by
    person = who.name if isinstance(who, _User) else None if who is None else str(who)
    return ToolVerdict(
        place=place,
        answer=f"label-studio {found.unique_id or f'{task.project}/{task.id}/{found.id}'}",
        candidate=candidate,
        sha256=str(task.data.get("sha256")),
        text=texts(*(task.data.get(name) for name in ("name", "phenomenon", "reasoning"))),
        person=person or None,
        at=in_utc(found.updated_at or found.created_at),
        seconds=found.lead_time,
        choice=choice,
    )


def _choice(results: list[Any]) -> str | None:
    """The verdict among what a person marked; None where there is not exactly one."""
    chosen = [
        choice
        for result in results
        if isinstance(result, dict) and result.get("from_name") == "verdict" and isinstance(result.get("value"), dict)
        for choice in result["value"].get("choices") or ()
    ]
    return _VERDICTS.get(str(chosen[0])) if len(chosen) == 1 else None
