"""Which images and candidates of a store are exported, and all that is known of each image.

with store.reading() as session:
    plan = plan_images(session, ExportOptions())
    for image in exported_images(session, store, plan, ExportOptions()):
        print(image.name, len(image.anomalies))
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from anomreason.anomaly import Anomaly, SceneObject
from anomreason.dataset.export.naming import Named, safe_split, unique_names
from anomreason.dataset.export.options import ExportOptions
from anomreason.dataset.store import BATCH, Store
from anomreason.dataset.tables import (
    CandidateRow,
    DescriptionRow,
    DetectionRow,
    ImageRow,
    ImageState,
    Origin,
    Outcome,
    PromptRow,
    SourceRow,
    SplitRow,
    VerdictRow,
)
from anomreason.dataset.verdicts import OUTCOMES, last_verdicts
from anomreason.errors import UsageError, shown

ONE_SPLIT = "train"
"""The split of a dataset that is not split, as `datasets` calls it."""
PAGE = 200
"""Images whose rows are in memory at once."""
_FOLDER_FILES = 5_000
_CHOICES = {outcome: choice for choice, outcome in OUTCOMES.items()}


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


class PlannedImage(NamedTuple):
    """An image that will be exported."""

    id: int
    name: str
    place: str
    split: str
    bytes: int
    searched: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What an export will hold."""

    images: list[PlannedImage]
    """By split and name."""
    left_out: Counter[str]
    unverified: int
    scheme: str | None
    """None: the dataset is not split."""
    judging: Judging


def plan_images(session: Session, options: ExportOptions) -> Plan:
    """The images to export, named. Raises UsageError when there is nothing to export, with what to do."""
    scheme = _scheme(session, options)
    facts = _facts(session, options)
    left_out: Counter[str] = Counter()
    found: list[tuple[str, Named, int, int]] = []
    for id_, sha, name, source, form, size, split in session.execute(_kept_images(options)):
        reason = "no_split" if scheme and split is None else facts.why_not(id_)
        split = split if scheme else ONE_SPLIT
        if options.split not in (None, split):
            continue
        if reason:
            left_out[reason] += 1
        else:
            found.append((split, Named(sha, name, source, form), id_, size))
    if not found or (not facts.any_selected and facts.unverified):
        raise UsageError(_nothing(session, left_out, facts, options))
    names = _safe_splits({split for split, *_ in found})
    found.sort(key=lambda one: (names[one[0]], one[1].source, one[1].name, one[1].sha256))
    files = unique_names(one[1] for one in found)
    sizes = Counter(one[0] for one in found)
    images: list[PlannedImage] = []
    placed: Counter[str] = Counter()
    for (split, _, id_, size), file in zip(found, files, strict=True):
        folder = f"{placed[split] // _FOLDER_FILES:03}/" if sizes[split] > _FOLDER_FILES else ""
        placed[split] += 1
        images.append(PlannedImage(id_, file, folder + file, names[split], size, id_ in facts.searched))
    return Plan(images, left_out, facts.unverified, scheme, facts.judging)


def _scheme(session: Session, options: ExportOptions) -> str | None:
    schemes = session.execute(select(SplitRow.scheme, SplitRow.split).distinct()).all()
    known = sorted({scheme for scheme, _ in schemes})
    if options.scheme in known:
        splits = sorted(split for scheme, split in schemes if scheme == options.scheme)
        if options.split is not None and options.split not in splits:
            raise UsageError(f"there is no split {options.split!r}; choose one of {', '.join(map(shown, splits))}")
        return options.scheme
    if known or options.scheme != ExportOptions().scheme:
        there = f"give --scheme {' or '.join(map(shown, known))}" if known else "make it with: anomreason dataset split"
        raise UsageError(f"the dataset has no division {options.scheme!r} into splits; {there}")
    if options.split is not None:
        raise UsageError(f"the dataset is not split, so there is no {options.split!r}; first: anomreason dataset split")
    return None


def _kept_images(options: ExportOptions) -> Any:
    in_scheme = (SplitRow.image_id == ImageRow.id) & (SplitRow.scheme == options.scheme)
    columns = (ImageRow.id, ImageRow.sha256, ImageRow.name, SourceRow.name, ImageRow.format, ImageRow.bytes)
    return (
        select(*columns, SplitRow.split)
        .join(SourceRow, SourceRow.id == ImageRow.source_id)
        .outerjoin(SplitRow, in_scheme)
        .where(ImageRow.status == ImageState.KEPT)
        .execution_options(yield_per=5000)
    )


def _safe_splits(splits: Iterable[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for split in sorted(splits):
        name = safe_split(split)
        if name in names.values():
            raise UsageError(f"the splits {shown(split)} and another one would both be called {name!r}; rename one")
        names[split] = name
    return names


@dataclass(slots=True)
class _Facts:
    """By image: what decides whether it goes in."""

    selected: Counter[int] = field(default_factory=Counter)
    undecided: Counter[int] = field(default_factory=Counter)
    searched: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    described: set[int] = field(default_factory=set)
    unverified: int = 0
    """Candidates."""
    judging: Judging = field(default_factory=lambda: Judging())

    @property
    def any_selected(self) -> bool:
        return bool(self.selected)

    def why_not(self, image: int) -> str | None:
        """None: it goes in."""
        if self.selected[image]:
            return None
        if self.undecided[image]:
            return "unverified"
        if image in self.searched or image in self.described:
            return None
        return "detection_failed" if image in self.failed else "not_annotated"


def _facts(session: Session, options: ExportOptions) -> _Facts:
    facts = _Facts()
    facts.judging, agreement = _judging(session, options.min_agreement is not None)
    candidates = (
        select(CandidateRow.image_id, CandidateRow.id, CandidateRow.outcome, CandidateRow.origin)
        .join(ImageRow, ImageRow.id == CandidateRow.image_id)
        .where(CandidateRow.dropped.is_(None), ImageRow.status == ImageState.KEPT)
        .execution_options(yield_per=5000)
    )
    for image, id_, outcome, origin in session.execute(candidates):
        facts.searched.add(image)
        if selected(outcome, origin, agreement.get(id_), options):
            facts.selected[image] += 1
        elif outcome != Outcome.REJECTED:
            facts.undecided[image] += 1
            facts.unverified += outcome == Outcome.UNVERIFIED
    for image, status in session.execute(select(DetectionRow.image_id, DetectionRow.status)):
        (facts.searched if status == "ok" else facts.failed).add(image)
    facts.described.update(
        session.scalars(select(DescriptionRow.image_id).where(DescriptionRow.text.is_not(None)).distinct())
    )
    return facts


def selected(outcome: str, origin: str, agreement: float | None, options: ExportOptions) -> bool:
    """Whether a candidate that its detector did not drop goes in."""
    if outcome == Outcome.UNVERIFIED and origin != Origin.DETECTOR and not options.accepted_only:
        outcome = Outcome.ACCEPTED
    least = options.min_agreement
    return outcome in options.verdicts and (least is None or agreement is None or agreement >= least)


def _nothing(session: Session, left_out: Counter[str], facts: _Facts, options: ExportOptions) -> str:
    kept = session.scalar(select(func.count()).select_from(ImageRow).where(ImageRow.status == ImageState.KEPT))
    if not kept:
        return "the dataset holds no image that was kept; first: anomreason dataset collect"
    if facts.unverified and not facts.any_selected:
        return (
            f"nothing is verified yet: none of the {facts.unverified:,} candidates has a verdict that is asked for "
            f"({', '.join(options.verdicts)}). To export them as they are, add --verdict "
            f"{','.join(dict.fromkeys((*options.verdicts, Outcome.UNVERIFIED.value)))}"
        )
    why = ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common()) or "no image is in this split"
    return f"there is nothing to export: {why}; first: anomreason dataset annotate"


class _Vote(NamedTuple):
    """As the columns `_VOTE`."""

    id: int
    candidate: int
    person: str
    choice: str
    undoes: int | None
    edit: dict[str, Any] | None


_VOTE = (
    VerdictRow.id,
    VerdictRow.candidate_id,
    VerdictRow.person,
    VerdictRow.choice,
    VerdictRow.undoes,
    VerdictRow.edit,
)


def _agreement(outcome: str, votes: Sequence[_Vote]) -> float | None:
    if not votes:
        return None
    said = Counter(vote.choice for vote in votes)
    choice = _CHOICES.get(Outcome(outcome))
    return (said[choice] if choice else max(said.values())) / len(votes)


@dataclass(slots=True)
class Judging:
    """How people judged the candidates of the kept images, each with their last word."""

    people: int = 0
    candidates: int = 0
    several: int = 0
    """Candidates that several people judged."""
    agreeing: float = 0.0
    """Sum over these of the share of pairs of people who said the same."""
    choices: Counter[str] = field(default_factory=Counter)


def _judging(session: Session, agreements: bool) -> tuple[Judging, dict[int, float]]:
    """agreements: give that of each judged candidate too."""
    asked = (
        select(*_VOTE, CandidateRow.outcome)
        .join(CandidateRow, CandidateRow.id == VerdictRow.candidate_id)
        .join(ImageRow, ImageRow.id == CandidateRow.image_id)
        .where(ImageRow.status == ImageState.KEPT)
        .order_by(VerdictRow.candidate_id, VerdictRow.id)
        .execution_options(yield_per=5000)
    )
    judging = Judging()
    agreement: dict[int, float] = {}
    people: set[str] = set()
    for candidate, rows in groupby(session.execute(asked), key=lambda row: row[1]):
        of_one = list(rows)
        votes = last_verdicts([_Vote(*row[:6]) for row in of_one])
        share = _agreement(of_one[0][6], votes)
        if share is None:
            continue
        if agreements:
            agreement[candidate] = share
        judging.candidates += 1
        people.update(vote.person for vote in votes)
        said = Counter(vote.choice for vote in votes)
        judging.choices += said
        if len(votes) > 1:
            judging.several += 1
            judging.agreeing += sum(n * (n - 1) for n in said.values()) / (len(votes) * (len(votes) - 1))
    judging.people = len(people)
    return judging, agreement


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
            chosen = [
                one
                for one in mine
                if one.anomaly and not one.dropped and selected(one.outcome, one.origin, one.agreement, options)
            ]
            rejected = sum(not one.dropped and one.outcome == Outcome.REJECTED for one in mine if one not in chosen)
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
                undecided=sum(not one.dropped for one in mine) - len(chosen) - rejected,
                candidates=tuple(mine) if options.with_steps else (),
                objects=tuple(objects.get(planned.id, ())),
            )
        session.expunge_all()


def _candidates(session: Session, images: Sequence[int]) -> dict[int, list[ExportedCandidate]]:
    order = (CandidateRow.image_id, CandidateRow.detector, CandidateRow.number)
    rows = list(session.scalars(select(CandidateRow).where(CandidateRow.image_id.in_(images)).order_by(*order)))
    votes: defaultdict[int, list[_Vote]] = defaultdict(list)
    for start in range(0, len(rows), BATCH):
        part = [row.id for row in rows[start : start + BATCH]]
        asked = select(*_VOTE).where(VerdictRow.candidate_id.in_(part)).order_by(VerdictRow.id)
        for vote in session.execute(asked):
            votes[vote[1]].append(_Vote(*vote))
    found: dict[int, list[ExportedCandidate]] = {}
    for row in rows:
        found.setdefault(row.image_id, []).append(_candidate(row, last_verdicts(votes[row.id])))
    return found


def _candidate(row: CandidateRow, votes: Sequence[_Vote]) -> ExportedCandidate:
    proposed = _anomaly(row, {})
    edits = [vote.edit for vote in votes if vote.choice == "accept" and vote.edit]
    edited = _anomaly(row, edits[-1]) if edits and row.outcome == Outcome.ACCEPTED else None
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
        agreement=_agreement(row.outcome, votes),
    )


def _anomaly(row: CandidateRow, edit: Mapping[str, Any]) -> Anomaly | None:
    """None where the row, or the edit, makes no anomaly."""
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
