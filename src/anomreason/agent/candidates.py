"""The candidates of one image: where each came from, how it was scored, why it was dropped.

Concurrent steps end in any order, so each has its own section, in a fixed order: the same replies give the same
prompts, whichever came first.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from anomreason.agent.forms import Check, ProposedAnomaly, SourcedAnomaly, Suspicion
from anomreason.agent.replies import KEEP
from anomreason.anomaly import Anomaly, Basis, Candidate, Region


@dataclass(eq=False)
class Entry:
    """One candidate while the schedule runs."""

    proposed: ProposedAnomaly
    role: str
    step: str
    of: str | None = None
    """The object that the step asked about."""
    score: float | None = None
    reason: str | None = None
    dropped: str | None = None

    def judge(self, score: float, reason: str) -> None:
        """Set the score; one below KEEP drops the candidate with its reason."""
        self.score, self.reason = score, reason or None
        self.dropped = (reason or "scored low") if score < KEEP else None

    def drop(self, reason: str) -> None:
        """Drop the candidate, unless it is dropped already: the first reason stays."""
        self.dropped = self.dropped or reason

    def candidate(self) -> Candidate:
        """The candidate as it is recorded."""
        f = self.proposed
        objects = tuple(f.objects) or ((self.of,) if self.of else ())
        return Candidate(
            name=f.name,
            phenomenon=f.phenomenon,
            reasoning=f.reasoning,
            objects=objects,
            role=self.role,
            step=self.step,
            sure=f.sure if isinstance(f, Suspicion) else None,
            innocent=(f.innocent if isinstance(f, Suspicion) else "") or None,
            score=self.score,
            reason=self.reason,
            dropped=self.dropped,
        )


Sources = frozenset[Entry]


@dataclass(frozen=True, slots=True)
class Proposal:
    """An anomaly as a later step worded it, and the candidates it is based on."""

    proposed: ProposedAnomaly
    sources: Sources


@dataclass
class Pool:
    """All candidates, section by section."""

    sections: list[list[Entry]] = field(default_factory=list)

    def section(self) -> list[Entry]:
        """A new section at the end; its owner appends to it."""
        self.sections.append([])
        return self.sections[-1]

    @property
    def entries(self) -> list[Entry]:
        return [entry for section in self.sections for entry in section]

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(entry.candidate() for entry in self.entries)

    def settle(
        self,
        anomalies: Sequence[SourcedAnomaly],
        shown: Sequence[Sources],
        regions: Sequence[Region | None],
        own: Basis,
    ) -> tuple[Anomaly, ...]:
        """The final anomalies, worst first; candidates that none of them is based on are dropped.

        shown: the candidates behind each number that the report could name, from 1. regions: of the anomalies. An
        anomaly all of whose candidates were dropped is left out; one that names none is the report's own, resting
        on `own`.
        """
        final: list[Anomaly] = []
        covered: set[Entry] = set()
        entries = self.entries
        for anomaly, region in zip(anomalies, regions, strict=True):
            behind = kept(entry for number in anomaly.sources for entry in shown[number - 1])
            if anomaly.sources and not behind:
                continue
            covered |= behind
            final.append(anomaly.anomaly(region, _basis(entries, behind) if behind else own))
        for entry in entries:
            if entry not in covered:
                entry.drop("left out of the report")
        return tuple(sorted(final, key=lambda a: a.severity))


def _basis(entries: Sequence[Entry], behind: Sources) -> Basis:
    """The basis of an anomaly that rests on some of the entries."""
    places = [n for n, entry in enumerate(entries) if entry in behind]
    places.sort(key=lambda n: -(entries[n].score or 0.0))
    surest = entries[places[0]]
    return Basis(role=surest.role, step=surest.step, score=surest.score, reason=surest.reason, candidates=tuple(places))


def kept(entries: Iterable[Entry]) -> Sources:
    """The entries that are not dropped."""
    return frozenset(entry for entry in entries if entry.dropped is None)


def judge(entries: Sequence[Entry], checks: Iterable[Check]) -> None:
    """Score entries that a prompt numbered 1, 2, 3 ..."""
    for check in checks:
        entries[check.id - 1].judge(check.score, check.reason)


def numbers(shown: Sequence[object]) -> range:
    """The ids of these entries in a prompt."""
    return range(1, len(shown) + 1)


def sourced_lines(section: Sequence[Entry]) -> str:
    """For a prompt: one JSON object a line, numbered from 1, with its source: the object itself or its relations."""
    sources = ({"source": entry.step.partition("-")[0]} for entry in section)
    written = [_line(e.proposed, n, s) for n, (e, s) in enumerate(zip(section, sources, strict=True), start=1)]
    return "\n".join(written) or "(none)"


def lines(proposed: Iterable[ProposedAnomaly], numbered: bool = True) -> str:
    """For a prompt: one JSON object a line, numbered from 1."""
    written = [_line(f, n if numbered else None) for n, f in enumerate(proposed, start=1)]
    return "\n".join(written) or "(none)"


def _line(proposed: ProposedAnomaly, number: int | None, source: Mapping[str, object] | None = None) -> str:
    item: dict[str, object] = {} if number is None else {"id": number}
    item |= source or {}
    item |= {"name": proposed.name, "phenomenon": proposed.phenomenon, "reasoning": proposed.reasoning}
    item |= {"objects": list(proposed.objects)}
    if isinstance(proposed, Suspicion):
        doubts = {"sure": None if proposed.sure is None else round(proposed.sure), "innocent": proposed.innocent}
        item |= {key: value for key, value in doubts.items() if value not in (None, "")}
    return json.dumps(item, ensure_ascii=False)
