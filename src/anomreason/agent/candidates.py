"""The candidates of one picture: where each came from, how it was scored, why it was dropped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from anomreason.agent.replies import Finding, SourcedAnomaly
from anomreason.anomaly import Anomaly, Candidate

KEEP = 50.0
"""A candidate whose score is lower is dropped."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A finding that later steps worded, and the candidates it rests on."""

    finding: Finding
    sources: frozenset[int]


@dataclass
class Pool:
    """Candidates by number, from 1."""

    _candidates: list[Candidate] = field(default_factory=list)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(self._candidates)

    @property
    def ids(self) -> list[int]:
        return list(range(1, len(self._candidates) + 1))

    def add(self, findings: Iterable[Finding], role: str, step: str, of: str | None = None) -> frozenset[int]:
        """Number what a step found; the object it was asked about stands first. Gives the numbers."""
        first = len(self._candidates) + 1
        for f in findings:
            objects = tuple(f.objects) or ((of,) if of else ())
            self._candidates.append(
                Candidate(
                    name=f.name, phenomenon=f.phenomenon, reasoning=f.reasoning, objects=objects, role=role, step=step
                )
            )
        return frozenset(range(first, len(self._candidates) + 1))

    def lines(self, ids: Iterable[int]) -> str:
        """For a prompt: one JSON object a line, with its number."""
        return "\n".join(_line(self._candidates[i - 1], i) for i in ids)

    def judge(self, ids: Iterable[int], score: float, reason: str) -> None:
        """Keep a score; a low one drops the candidate with its reason."""
        for i in ids:
            dropped = (reason or "scored low") if score < KEEP else None
            self._update(i, score=score, dropped=dropped)

    def drop(self, ids: Iterable[int], reason: str) -> None:
        """Candidates that are dropped already keep their first reason."""
        for i in ids:
            if self._candidates[i - 1].dropped is None:
                self._update(i, dropped=reason)

    def kept(self, ids: Iterable[int]) -> frozenset[int]:
        """Those not dropped."""
        return frozenset(i for i in ids if self._candidates[i - 1].dropped is None)

    def settle(self, anomalies: Sequence[SourcedAnomaly], sources: Mapping[int, frozenset[int]]) -> tuple[Anomaly, ...]:
        """The findings, once the report is in; candidates that none of them rests on are dropped.

        sources: for each id that the report could name, the candidates behind it. An anomaly all of whose candidates
        were dropped is left out; one that names none is the report's own.
        """
        final: list[Anomaly] = []
        covered: set[int] = set()
        for anomaly in anomalies:
            behind = self.kept(i for s in anomaly.sources for i in sources[s])
            if anomaly.sources and not behind:
                continue
            covered |= behind
            final.append(anomaly.anomaly())
        self.drop(set(self.ids) - covered, "left out of the report")
        return tuple(sorted(final, key=lambda a: a.severity))

    def _update(self, number: int, **changes: object) -> None:
        self._candidates[number - 1] = self._candidates[number - 1].model_copy(update=changes)


def findings_lines(findings: Sequence[Finding], numbered: bool = True) -> str:
    """For a prompt: one JSON object a line."""
    return "\n".join(_line(f, n if numbered else None) for n, f in enumerate(findings, start=1))


def _line(what: Finding | Candidate, number: int | None) -> str:
    item: dict[str, object] = {} if number is None else {"id": number}
    item |= {"name": what.name, "phenomenon": what.phenomenon, "reasoning": what.reasoning}
    return json.dumps(item | {"objects": list(what.objects)}, ensure_ascii=False)
