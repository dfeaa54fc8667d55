"""Looks up what a tool's files say and records it, each verdict once, however often a file comes.

with open_store(Path("data")) as store:
    import_verdicts(store, [Path("project-1.json")], "label-studio", {"3": "ada"})
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from anomreason.anomaly import Result
from anomreason.dataset.store import BATCH, Store, storable
from anomreason.dataset.tables import CandidateRow, ImageRow, VerdictRow
from anomreason.dataset.verdict_import.label_studio import read_label_studio
from anomreason.dataset.verdict_import.prodigy import read_prodigy
from anomreason.dataset.verdict_import.records import EXPECTED, Reason, ToolVerdict, UnusedAnswer, texts
from anomreason.dataset.verdicts import last_verdicts, record_verdicts
from anomreason.errors import UsageError

TOOLS: dict[str, Callable[[Path], Iterator[ToolVerdict | UnusedAnswer]]] = {
    "label-studio": read_label_studio,
    "prodigy": read_prodigy,
}
LONGEST_NAME = 200
"""Characters of a person's name."""


class UnusedRow(Result):
    """A row that somebody should look at."""

    place: str
    reason: str
    message: str


class VerdictImport(Result):
    """What an import did."""

    new: int
    """Verdicts that were recorded."""
    known: int
    """Those that were there already, from an earlier import."""
    people: dict[str, int]
    """New verdicts by person."""
    outcomes: dict[str, int]
    """Of the candidates that got new verdicts, by what people say of them now."""
    left_out: dict[str, int]
    """Rows that gave no verdict, by reason."""
    rows: tuple[UnusedRow, ...]
    """Those of them that somebody should look at."""


@dataclass(slots=True)
class _Said:
    """A verdict in the store, or one that will be."""

    id: int
    key: str
    person: str
    choice: str
    undoes: int | None
    at: datetime


@dataclass(slots=True)
class _Known:
    """A candidate of the dataset and what was said of it."""

    sha256: str
    texts: set[str]
    """As proposed, and as people edited it."""
    said: list[_Said] = field(default_factory=list)


@dataclass(slots=True)
class _Tally:
    known: int = 0
    people: Counter[str] = field(default_factory=Counter)
    judged: set[int] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)
    rows: list[UnusedRow] = field(default_factory=list)

    def leave_out(self, reason: Reason, place: str, message: str) -> None:
        self.left_out[reason] += 1
        if reason not in EXPECTED:
            self.rows.append(UnusedRow(place=place, reason=reason, message=message))


def import_verdicts(
    store: Store,
    files: Sequence[Path],
    tool: str,
    names: Mapping[str, str] = {},
    progress: Callable[[int, int], None] = lambda *_: None,
) -> VerdictImport:
    """Record the verdicts in a tool's files; gives what became of every row.

    names: our name for a person by the tool's; the one under "" is for rows that name nobody. Without a time in a file,
    a verdict counts as given now. Raises UsageError for an unknown tool, and for a file that is none of its exports.
    """
    if tool not in TOOLS:
        raise UsageError(f"unknown tool {tool!r}; choose from {', '.join(TOOLS)}")
    tally, found = _Tally(), list[ToolVerdict]()
    for file in files:
        for entry in TOOLS[tool](file):
            if isinstance(entry, ToolVerdict):
                found.append(entry)
            else:
                tally.leave_out(entry.reason, entry.place, entry.message)
    now = datetime.now(UTC)
    found.sort(key=lambda verdict: verdict.at or now)  # of a person's verdicts the last one counts
    settings = {"files": [str(file) for file in files], "from": tool, "names": dict(names)}
    with store.command("import-verdicts", settings) as command:
        progress(0, len(found))
        for start in range(0, len(found), BATCH):
            part = found[start : start + BATCH]
            with store.writing() as session:
                candidates = _candidates(session, [verdict.candidate for verdict in part])
                rows = [row for verdict in part if (row := _row(verdict, candidates, names, now, tally))]
                for row in rows:
                    row["command_id"] = command.id
                record_verdicts(session, rows)
            progress(start + len(part), len(found))
        report = _report(store, tally)
        command.report = {**report.model_dump(exclude={"rows"}), "rows": len(report.rows)}
    return report


def _candidates(session: Session, ids: Sequence[int]) -> dict[int, _Known]:
    wanted = sorted(set(ids))
    query = (
        select(CandidateRow.id, ImageRow.sha256, CandidateRow.name, CandidateRow.phenomenon, CandidateRow.reasoning)
        .join(ImageRow, ImageRow.id == CandidateRow.image_id)
        .where(CandidateRow.id.in_(wanted))
    )
    found, shown = dict[int, _Known](), dict[int, dict[str, Any]]()
    for id_, sha256, name, phenomenon, reasoning in session.execute(query):
        found[id_] = _Known(sha256, {texts(name, phenomenon, reasoning)})
        shown[id_] = {"name": name, "phenomenon": phenomenon, "reasoning": reasoning}
    verdicts = select(VerdictRow).where(VerdictRow.candidate_id.in_(wanted)).order_by(VerdictRow.id)
    for row in session.scalars(verdicts):
        known = found[row.candidate_id]
        known.said.append(_Said(row.id, row.key, row.person, row.choice, row.undoes, row.at))
        if row.edit:
            known.texts.add(texts(*(row.edit.get(name, text) for name, text in shown[row.candidate_id].items())))
    return found


def _row(
    verdict: ToolVerdict, candidates: Mapping[int, _Known], names: Mapping[str, str], now: datetime, tally: _Tally
) -> dict[str, Any] | None:
    """The row to record; None where there is nothing new to record."""
    candidate = candidates.get(verdict.candidate)
    if candidate is None:
        message = f"the dataset has no candidate {verdict.candidate}; is it another dataset's export?"
        tally.leave_out("unknown_candidate", verdict.place, message)
        return None
    if candidate.sha256 != verdict.sha256:
        message = f"candidate {verdict.candidate} is of another image here; is it another dataset's export?"
        tally.leave_out("other_image", verdict.place, message)
        return None
    if verdict.text not in candidate.texts:
        message = f"candidate {verdict.candidate} says something else here; is it another dataset's export?"
        tally.leave_out("other_text", verdict.place, message)
        return None
    person = storable(names.get(verdict.person or "", verdict.person or ""))[:LONGEST_NAME]
    if not person:
        tally.leave_out("nobody", verdict.place, "it does not say who answered; name them with --person NAME")
        return None
    key, at = storable(verdict.key), verdict.at or now
    standing = next((one for one in last_verdicts(candidate.said) if one.person == person), None)
    same_answer = standing is not None and standing.key.startswith(f"{storable(verdict.answer)} ")
    if any(one.key == key for one in candidate.said) or (
        standing and same_answer and (standing.choice == verdict.choice or standing.at >= at)
    ):
        tally.known += 1
        return None
    if standing and standing.at >= at:
        tally.leave_out(
            "later_verdict", verdict.place, f"{person} judged candidate {verdict.candidate} again since, in the dataset"
        )
        return None
    last = max((one.id for one in candidate.said), default=0)
    candidate.said.append(_Said(last + 1, key, person, verdict.choice, None, at))
    tally.people[person] += 1
    tally.judged.add(verdict.candidate)
    return {
        "key": key,
        "candidate_id": verdict.candidate,
        "person": person,
        "at": at,
        "seconds": verdict.seconds,
        "choice": verdict.choice,
    }


def _report(store: Store, tally: _Tally) -> VerdictImport:
    outcomes: defaultdict[str, int] = defaultdict(int)
    judged = sorted(tally.judged)
    with store.reading() as session:
        for start in range(0, len(judged), BATCH):
            part = judged[start : start + BATCH]
            for outcome in session.scalars(select(CandidateRow.outcome).where(CandidateRow.id.in_(part))):
                outcomes[outcome] += 1
    return VerdictImport(
        new=tally.people.total(),
        known=tally.known,
        people=dict(tally.people.most_common()),
        outcomes=dict(sorted(outcomes.items())),
        left_out=dict(sorted(tally.left_out.items())),
        rows=tuple(tally.rows),
    )
