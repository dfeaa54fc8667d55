"""Both sides of a comparison, read: what people wrote down themselves, and what a detector said.

with store.reading() as session:
    read_people(session, ["ada", "ben"])
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from anomreason.anomaly import Anomaly
from anomreason.dataset.annotate import run_folder
from anomreason.dataset.export.records import anomaly_of
from anomreason.dataset.store import Store
from anomreason.dataset.tables import (
    COMPLETE,
    OUT_OF_DOMAIN,
    CandidateRow,
    DetectionRow,
    ImageRow,
    ImageState,
    Origin,
    PersonRow,
)
from anomreason.errors import UsageError
from anomreason.runs import read_results, simulator_answered
from anomreason.sources.annotations import key_of, named, read_source
from anomreason.sources.joining import join

OUT = "out_of_domain"
"""Kind of failure where a detector says that it does not know such images."""
UNKNOWN = "unknown"
"""Kind of failure where none is recorded."""


@dataclass(slots=True)
class Side:
    """What one person or detector said of kept images, by the image's id."""

    name: str
    lists: dict[int, tuple[Anomaly, ...]] = field(default_factory=dict)
    """Of each image that was finished; empty where nothing was found."""
    failed: dict[int, str] = field(default_factory=dict)
    """Kind of failure of the others."""
    begun: int = 0
    """Images with anomalies that were not finished."""
    unreadable: int = 0
    """Candidates that are no anomaly as they stand."""
    simulated: bool = False
    """Whether no real model answered, as the calls of its run or the detectors of its file tell."""


def read_people(session: Session, names: Sequence[str] = ()) -> list[Side]:
    """What these people annotated; all who finished an image where no name is given. Raises UsageError."""
    people = _people(session)
    finished = set(session.scalars(select(DetectionRow.detector).where(DetectionRow.detector.in_(people)).distinct()))
    wanted = list(dict.fromkeys(names)) or sorted(finished)
    if not wanted:
        raise UsageError(
            "nobody has finished an image on the page Annotate yet; first: anomreason review DATA --person NAME"
        )
    for name in wanted:
        if name not in finished:
            known = ", ".join(sorted(finished)) or "nobody"
            raise UsageError(f"{name!r} has finished no image on the page Annotate; those who have: {known}")
    return [_side(session, name, of_person=True) for name in wanted]


def read_detector(store: Store, session: Session, given: str | None) -> Side:
    """What a detector said: by its name in the store, or from a run folder or a file of annotations.

    given: None takes the only one of the store; a published dataset or scenes, whose anomalies the store holds too,
    only where they are named. Raises UsageError.
    """
    everybody = set(session.scalars(select(DetectionRow.detector).distinct())) - _people(session)
    known_from_the_start = select(CandidateRow.detector).where(CandidateRow.origin.in_(COMPLETE)).distinct()
    names = sorted(everybody - set(session.scalars(known_from_the_start)))
    if given is None:
        if len(names) != 1:
            known = f"choose from {', '.join(map(repr, names))}" if names else "first: anomreason dataset annotate"
            raise UsageError(f"the dataset has {len(names)} detectors; name one with --detector: {known}")
        return _stored(store, session, names[0])
    if given in everybody:
        return _stored(store, session, given)
    name, path = named(given)
    if path.is_dir():
        return _run(session, path, name)
    if path.exists():
        return _file(session, given)
    known = f"; the dataset has {', '.join(map(repr, names))}" if names else ""
    raise UsageError(f"{given!r} is neither a detector of the dataset nor a run folder or file{known}")


def _stored(store: Store, session: Session, name: str) -> Side:
    side = _side(session, name, of_person=False)
    side.simulated = name.startswith(("sim:", "simulat")) or simulator_answered(run_folder(store, name))
    return side


def _people(session: Session) -> set[str]:
    annotators = select(CandidateRow.detector).where(CandidateRow.origin == Origin.PERSON).distinct()
    return {*session.scalars(select(PersonRow.name)), *session.scalars(annotators)}


def _side(session: Session, name: str, *, of_person: bool) -> Side:
    """From the store. What the detector itself dropped is left out; what people said of a candidate does not matter."""
    side = Side(name)
    detections = (
        select(DetectionRow.image_id, DetectionRow.status, DetectionRow.reason, OUT_OF_DOMAIN)
        .join(ImageRow, ImageRow.id == DetectionRow.image_id)
        .where(DetectionRow.detector == name, ImageRow.status == ImageState.KEPT)
    )
    for image, status, reason, strange in session.execute(detections):
        if status != "ok" or strange:
            side.failed[image] = OUT if status == "ok" else reason or UNKNOWN
        else:
            side.lists[image] = ()
    candidates = (
        select(CandidateRow)
        .join(ImageRow, ImageRow.id == CandidateRow.image_id)
        .where(
            CandidateRow.detector == name,
            CandidateRow.origin == Origin.PERSON if of_person else CandidateRow.origin != Origin.PERSON,
            CandidateRow.dropped.is_(None),
            ImageRow.status == ImageState.KEPT,
        )
        .order_by(CandidateRow.image_id, CandidateRow.number)
        .execution_options(yield_per=1000)
    )
    found, begun = defaultdict[int, list[Anomaly]](list), set[int]()
    for row in session.scalars(candidates):
        anomaly = anomaly_of(row, {})
        if row.image_id not in side.lists:
            begun.add(row.image_id)
        elif anomaly is None:
            side.unreadable += 1
        else:
            found[row.image_id].append(anomaly)
    side.lists.update({image: tuple(anomalies) for image, anomalies in found.items()})
    side.begun = len(begun - side.failed.keys())
    return side


def _run(session: Session, path: Path, name: str) -> Side:
    """A run's images are those of the dataset whose bytes are the same."""
    results = read_results(path)
    ids = _ids(session, {one.sha256 for one in results.values() if one.sha256})
    names = sorted({one.detector for one in results.values()})
    side = Side(name or (names[0] if len(names) == 1 else path.resolve().name), simulated=simulator_answered(path))
    for one in results.values():
        image = ids.get(one.sha256 or "")
        if image is None:
            continue
        if one.failure or one.out_of_domain:
            side.failed[image] = one.failure.kind if one.failure else OUT
        else:
            side.lists[image] = one.anomalies
    return _known(side, path)


def _file(session: Session, given: str) -> Side:
    """A file's images are those of the dataset with the same name."""
    source = read_source(given)
    kept = select(ImageRow.name, ImageRow.id).where(ImageRow.status == ImageState.KEPT).order_by(ImageRow.id)
    ids: dict[str, int] = {key_of(name): id_ for name, id_ in session.execute(kept)}
    joined = join(ids, source.images)
    side = Side(source.name, simulated=source.simulated)
    for name, there in joined.of.items():
        one = source.images[there]
        if one.unanswered is None:
            side.lists[ids[name]] = one.anomalies
        else:
            side.failed[ids[name]] = one.unanswered
    return _known(side, source.path)


def _ids(session: Session, sums: Collection[str]) -> Mapping[str, int]:
    kept = select(ImageRow.sha256, ImageRow.id).where(ImageRow.status == ImageState.KEPT)
    return {sha256: id_ for sha256, id_ in session.execute(kept) if sha256 in sums}


def _known(side: Side, path: Path) -> Side:
    if not side.lists and not side.failed:
        raise UsageError(f"{path} holds no image of this dataset; was it made from other images?")
    return side
