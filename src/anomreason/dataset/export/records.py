"""All that is known of each exported image: one record, read from the store a page of images at a time.

with store.reading() as session:
    for image in exported_images(session, store, plan_images(session, options), options):
        print(image.name, len(image.anomalies))
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from anomreason.anomaly import Anomaly, SceneObject
from anomreason.dataset.export.judging import VOTE, Vote, agreement_on
from anomreason.dataset.export.options import ExportOptions
from anomreason.dataset.export.planning import Plan, selected
from anomreason.dataset.store import BATCH, Store
from anomreason.dataset.tables import (
    CandidateRow,
    DescriptionRow,
    DetectionRow,
    ImageRow,
    Origin,
    Outcome,
    PromptRow,
    SourceRow,
    VerdictRow,
)
from anomreason.dataset.verdicts import last_verdicts

PAGE = 200
"""Images whose rows are in memory at once."""


@dataclass(frozen=True, slots=True)
class ExportedCandidate:
    """One candidate as it goes into an export, with what became of it."""

    id: int
    anomaly: Anomaly | None
    """With a person's edit; None for one that the detector dropped before it had a severity."""
    original: Anomaly | None
    """As it was proposed, where a person edited it; else None."""
    texts: tuple[str, str, str]
    """Name, phenomenon and reasoning as proposed."""
    origin: str
    detector: str
    role: str | None
    step: str | None
    score: float | None
    dropped: str | None
    """Why the detector itself dropped it."""
    outcome: str
    choices: Mapping[str, int]
    """How many people said what, each their last word."""
    agreement: float | None
    """Share of them who said what the outcome says; None where nobody judged it."""


@dataclass(frozen=True, slots=True)
class ExportedImage:
    """One image of an export, and all that is known of it."""

    path: Path
    sha256: str
    name: str
    """Unique in the export, and safe; see `naming`."""
    place: str
    """The same, in a folder of its own for each 5,000 images of a large split."""
    split: str
    source: str
    source_kind: str
    """`ai`, `photograph` or `unknown`."""
    generator: str | None
    licence: str | None
    terms: str | None
    """Of the source."""
    prompt: str | None
    seed: int | None
    width: int
    height: int
    format: str
    bytes: int
    description: str | None
    searched: bool
    """Whether anybody looked for anomalies: then none means that there are none."""
    anomalies: tuple[ExportedCandidate, ...]
    """Those that were selected."""
    undecided: int
    """Candidates that are neither selected nor rejected: with 0 the list of anomalies is settled."""
    candidates: tuple[ExportedCandidate, ...]
    """All of them, also what was dropped on the way; empty unless the steps are asked for."""
    objects: tuple[tuple[str, SceneObject], ...]
    """With the detector that saw it; likewise."""

    @property
    def quadruples(self) -> tuple[Anomaly, ...]:
        return tuple(a.anomaly for a in self.anomalies if a.anomaly)


def exported_images(session: Session, store: Store, plan: Plan, options: ExportOptions) -> Iterator[ExportedImage]:
    """The planned images in their order, a page in memory at a time."""
    for start in range(0, len(plan.images), PAGE):
        page = plan.images[start : start + PAGE]
        ids = [image.id for image in page]
        rows = {
            row[0].id: row
            for row in session.execute(
                select(ImageRow, SourceRow, PromptRow.text)
                .join(SourceRow, SourceRow.id == ImageRow.source_id)
                .outerjoin(PromptRow, PromptRow.id == ImageRow.prompt_id)
                .where(ImageRow.id.in_(ids))
            )
        }
        candidates = _candidates(session, ids)
        described = _descriptions(session, ids)
        objects = _objects(session, ids) if options.with_steps else {}
        for planned in page:
            image, source, prompt = rows[planned.id]
            mine = candidates.get(planned.id, [])
            eligible = [
                one for one in mine if not one.dropped and not (planned.known and one.origin == Origin.DETECTOR)
            ]
            chosen = [
                one for one in eligible if one.anomaly and selected(one.outcome, one.origin, one.agreement, options)
            ]
            rejected = sum(one.outcome == Outcome.REJECTED for one in eligible if one not in chosen)
            yield ExportedImage(
                path=store.path(image.path),
                sha256=image.sha256,
                name=planned.name,
                place=planned.place,
                split=planned.split,
                source=source.name,
                source_kind=source.kind,
                generator=source.generator,
                licence=source.licence,
                terms=source.terms,
                prompt=prompt,
                seed=image.seed,
                width=image.width,
                height=image.height,
                format=image.format,
                bytes=image.bytes,
                description=described.get(planned.id),
                searched=planned.searched,
                anomalies=tuple(chosen),
                undecided=len(eligible) - len(chosen) - rejected,
                candidates=tuple(mine) if options.with_steps else (),
                objects=tuple(objects.get(planned.id, ())),
            )
        session.expunge_all()


def _candidates(session: Session, images: Sequence[int]) -> dict[int, list[ExportedCandidate]]:
    order = (CandidateRow.image_id, CandidateRow.detector, CandidateRow.number)
    rows = list(session.scalars(select(CandidateRow).where(CandidateRow.image_id.in_(images)).order_by(*order)))
    votes: defaultdict[int, list[Vote]] = defaultdict(list)
    for start in range(0, len(rows), BATCH):
        part = [row.id for row in rows[start : start + BATCH]]
        asked = select(*VOTE).where(VerdictRow.candidate_id.in_(part)).order_by(VerdictRow.id)
        for vote in session.execute(asked):
            votes[vote[1]].append(Vote(*vote))
    found: dict[int, list[ExportedCandidate]] = {}
    for row in rows:
        found.setdefault(row.image_id, []).append(_candidate(row, last_verdicts(votes[row.id])))
    return found


def _candidate(row: CandidateRow, votes: Sequence[Vote]) -> ExportedCandidate:
    proposed = anomaly_of(row, {})
    edits = [vote.edit for vote in votes if vote.choice == "accept" and vote.edit]
    edited = anomaly_of(row, edits[-1]) if edits and row.outcome == Outcome.ACCEPTED else None
    return ExportedCandidate(
        id=row.id,
        anomaly=edited or proposed,
        original=proposed if edited and edited != proposed else None,
        texts=(row.name, row.phenomenon, row.reasoning),
        origin=row.origin,
        detector=row.detector,
        role=row.role,
        step=row.step,
        score=row.score,
        dropped=row.dropped,
        outcome=row.outcome,
        choices=Counter(vote.choice for vote in votes),
        agreement=agreement_on(row.outcome, votes),
    )


def anomaly_of(row: CandidateRow, edit: Mapping[str, Any]) -> Anomaly | None:
    """The candidate as a person edited it; None where the row, or the edit, makes no anomaly."""
    fields = ("name", "phenomenon", "reasoning", "severity", "kind", "objects", "region")
    values = {name: edit.get(name, getattr(row, name)) for name in fields}
    try:
        return Anomaly.model_validate({**values, "objects": values["objects"] or ()})
    except ValidationError:
        return None


def _descriptions(session: Session, images: Sequence[int]) -> dict[int, str]:
    """The first by author of each image."""
    asked = (
        select(DescriptionRow.image_id, DescriptionRow.text)
        .where(DescriptionRow.image_id.in_(images), DescriptionRow.text.is_not(None))
        .order_by(DescriptionRow.image_id, DescriptionRow.author.desc())
    )
    return {image: text for image, text in session.execute(asked) if text is not None}


def _objects(session: Session, images: Sequence[int]) -> dict[int, list[tuple[str, SceneObject]]]:
    asked = (
        select(DetectionRow.image_id, DetectionRow.detector, DetectionRow.record)
        .where(DetectionRow.image_id.in_(images), DetectionRow.status == "ok")
        .order_by(DetectionRow.image_id, DetectionRow.detector)
    )
    found: dict[int, list[tuple[str, SceneObject]]] = {}
    for image, detector, record in session.execute(asked):
        for one in record.get("objects", ()):
            found.setdefault(image, []).append((detector, SceneObject.model_validate(one)))
    return found
