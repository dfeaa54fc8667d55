"""Runs a detector over the images of a dataset: its anomalies become candidates; or describes photographs.

    with anomreason.dataset.open("data") as store:
        print(annotate(store, "gpt-4o", detector=DetectOptions(max_cost=20.0)).failed)

It is `detect` over the images that are kept, with a run folder in `DATA/runs`; results are taken from there into the
store, so that the same command repeats no call and no row, however it ended.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import case, func, select, union
from sqlalchemy.orm import Session

from anomreason.anomaly import Anomaly, Basis, Candidate, Detection, Result
from anomreason.dataset.describing import DescriberSetup, describer
from anomreason.dataset.store import BATCH, CommandRecord, Store, add_new, ids_by, put, storable
from anomreason.dataset.tables import (
    AGAIN,
    OUT_OF_DOMAIN,
    CandidateRow,
    CommandRow,
    DescriptionRow,
    DetectionRow,
    ImageRow,
    ImageState,
    Json,
    Origin,
    Outcome,
    SourceRow,
)
from anomreason.detection import remaining
from anomreason.detector import DetectOptions, DetectorSetup, set_up
from anomreason.errors import RunConflict, UsageError
from anomreason.files import read_lines
from anomreason.runs import RESULTS, ImageStatus, RunFolder, detection_from, settings_difference
from anomreason.sources.inputs import FoundImages, Image
from anomreason.spread.cluster import SpreadOptions
from anomreason.spread.handover import open_engine

COMMAND = "annotate"
EVERY = 5.0
"""Seconds after which results that are in the run folder are taken into the store."""
KINDS = ("ai", "photograph", "unknown")


@dataclass(frozen=True, slots=True)
class AnnotateOptions:
    """Which images to annotate, and with what. The command line has the same names and defaults."""

    sources: tuple[str, ...] = ()
    """Names of sources; empty: all of these kinds."""
    kinds: tuple[str, ...] = ()
    """Kinds of sources; empty: the named sources, else `photograph` for descriptions and all others for anomalies."""
    limit: int | None = None
    """Images at most, in the order in which they were collected; None for all."""
    describe: bool = False
    """Whether the images are described instead of searched for anomalies."""
    run: str | None = None
    """Name of the detector in the dataset; None: the model and its schedule, or the model for descriptions."""

    def check(self) -> None:
        """Raises UsageError for a value that cannot be used."""
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"limit must be at least 1, not {self.limit}")
        if unknown := [kind for kind in self.kinds if kind not in KINDS]:
            raise UsageError(f"there is no kind of source {unknown[0]!r}; the kinds are {', '.join(KINDS)}")
        if self.run is not None and not self.run.strip():
            raise UsageError("the name of the run is blank; write some letters, or leave it out")

    @property
    def chosen_kinds(self) -> tuple[str, ...]:
        usual = ("photograph",) if self.describe else tuple(kind for kind in KINDS if kind != "photograph")
        return self.kinds or (KINDS if self.sources else usual)


class AnnotateReport(Result):
    """What one detector has made of the images, this time and before."""

    detector: str
    described: bool
    """Whether its texts are descriptions; then it has no anomalies."""
    images: int
    """Images that were to be annotated."""
    done: int
    """Of those, the ones with a result."""
    failed: dict[str, int]
    """Of those, the ones without, by reason."""
    left: int
    """Of those, the ones that were not reached: the command was stopped."""
    anomalies: int
    """Of this detector in the dataset."""
    dropped: int
    """Candidates that it dropped on the way, in the dataset."""
    out_of_domain: int
    """Images of the dataset that it does not know, by its own word; an export takes none of them for clean."""


def annotate(
    store: Store,
    model: str,
    options: AnnotateOptions = AnnotateOptions(),
    detector: DetectOptions = DetectOptions(),  # noqa: B008
    progress: Callable[[int, int], None] = lambda done, total: None,
    spread: SpreadOptions | None = None,
) -> AnnotateReport:
    """Annotate what is left of the images. There is no question before money is spent: set max_cost or max_tokens.

    model, detector: as for `anomreason.detect`; with options.describe the model describes photographs.
    progress: called with the number of images done and of all that were left.
    spread: where the workers are; None for this process.
    Raises UsageError for options that cannot be used and inside an event loop, RunConflict when the dataset has
    results of other settings under this name.
    """
    if asyncio._get_running_loop() is not None:
        raise UsageError("an event loop is running here (a notebook?): use await asyncio.to_thread(annotate, ...)")
    given = {f.name for f in fields(DetectOptions) if getattr(detector, f.name) != f.default}
    with annotation(store, annotator(model, options, detector, given), options) as work:
        asyncio.run(work.process(progress, spread))
    return work.report()


def annotator(
    model: str, options: AnnotateOptions, detector: DetectOptions, given: Collection[str] = ()
) -> DetectorSetup:
    """The model set up for what the options ask; `given` as for `detector.set_up`. Raises UsageError."""
    options.check()
    if options.describe:
        return describer(model, detector, given)
    setup = set_up(model, detector, given)
    if setup.options.two_turns:
        raise UsageError(
            f"{setup.model} is asked in two turns, which searches no photographs for anomalies; annotate "
            "with another detector, or describe with --describe"
        )
    return setup


@contextmanager
def annotation(store: Store, setup: DetectorSetup, options: AnnotateOptions) -> Iterator[Annotation]:
    """Everything that an annotation needs, open; what the run folder holds already is in the store."""
    selected = selection(store, setup, options)
    settings = {"detector": selected.detector, **asdict(options), "deciding": setup.deciding()}
    with (
        store.command(COMMAND, settings, part=selected.folder.name) as command,
        setup.open_run(selected.folder, FoundImages(Path(".."), selected.images), [store.folder.name]) as run,
    ):
        work = Annotation(store, selected, setup, run, command)
        work.take_in_run()
        try:
            yield work
        finally:
            work.store_waiting()
        command.report |= work.report().model_dump(mode="json")


class StoredResult(NamedTuple):
    """A result as far as a later command needs to know it."""

    reason: str | None
    """Kind of the failure; None for a good result."""
    message: str | None
    calls: int
    again: bool = False
    """Whether `dataset retry` asked for another try, although the failure is final."""


@dataclass(frozen=True)
class Selection:
    """The images of an annotation, and what is known of them before it begins."""

    detector: str
    """Name of the detector in the dataset."""
    folder: Path
    """Of its run."""
    images: list[Image]
    """Named by where they lie, so that the run's report finds them."""
    ids: dict[str, int]
    """Of the images, by name."""
    stored: dict[int, StoredResult]
    """What the store has of this detector, by image."""

    def todo(self, done: dict[str, ImageStatus]) -> list[Image]:
        """The images still to be processed; `done`: what the run folder says."""
        left = {image.name for image in remaining(self.images, done)} | {i.name for i in self.images if self.marked(i)}
        return [image for image in self.images if image.name in left and not self.good(image)]

    def good(self, image: Image) -> bool:
        """Whether the store has the image's result, and it is no failure."""
        stored = self.stored.get(self.ids[image.name])
        return stored is not None and stored.reason is None

    def marked(self, image: Image) -> bool:
        """Whether `dataset retry` asked for another try."""
        stored = self.stored.get(self.ids[image.name])
        return stored is not None and stored.again


def selection(store: Store, setup: DetectorSetup, options: AnnotateOptions) -> Selection:
    """Find the images that the options name. Raises UsageError for an unknown source and a name that is taken."""
    usual = setup.model if options.describe else f"{setup.model} {setup.options.schedule}"
    name = storable(options.run or usual)
    folder = run_folder(store, name)
    with store.reading() as session:
        _check_name(session, name, setup)
        images, ids = _images(session, store, options)
        return Selection(name, folder, images, ids, _stored(session, name, options.describe))


def run_folder(store: Store, name: str) -> Path:
    """Where the run of the annotations of this name lies; two names never share one."""
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")[:50]
    return store.folder / "runs" / f"{plain or 'run'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _check_name(session: Session, name: str, setup: DetectorSetup) -> None:
    """Raises UsageError for a name of others, RunConflict where the store has results of other settings under it."""
    commands = session.scalars(
        select(CommandRow).where(
            CommandRow.id.in_(
                union(
                    select(DetectionRow.command_id).where(DetectionRow.detector == name),
                    select(DescriptionRow.command_id).where(DescriptionRow.author == name),
                    select(CandidateRow.command_id).where(CandidateRow.detector == name),
                )
            )
        )
    )
    now = json.loads(json.dumps(setup.deciding()))
    for command in commands:
        if command.name != COMMAND:
            raise UsageError(
                f"the dataset has annotations of {name!r} from 'dataset {command.name}'; give another --run"
            )
        if differences := settings_difference(command.settings["deciding"], now):
            raise RunConflict(
                f"the dataset has results of {name!r} with other settings ({'; '.join(differences)}); use those "
                "settings to continue, or give another --run"
            )


def _images(session: Session, store: Store, options: AnnotateOptions) -> tuple[list[Image], dict[str, int]]:
    """The images that are kept, with the ids of their names."""
    sources = dict(session.execute(select(SourceRow.name, SourceRow.id)).all())
    for name in options.sources:
        if name not in sources:
            close = get_close_matches(name, sources, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"the sources are {', '.join(sorted(sources))}"
            raise UsageError(f"the dataset has no source {name!r}; {hint}")
    # A file that was replaced stands for two images; the name without a number is that of the newer one.
    newest = select(ImageRow.path, func.max(ImageRow.id)).group_by(ImageRow.path).having(func.count() > 1)
    last = dict(session.execute(newest).all())
    query = select(ImageRow.id, ImageRow.sha256, ImageRow.path).join(SourceRow, ImageRow.source_id == SourceRow.id)
    query = query.where(ImageRow.status == ImageState.KEPT, SourceRow.kind.in_(options.chosen_kinds))
    if options.sources:
        query = query.where(SourceRow.name.in_(options.sources))
    images, ids = [], {}
    for id, sha256, place in session.execute(query.order_by(ImageRow.id).limit(options.limit)).yield_per(BATCH):
        image = Image(place if last.get(place, id) == id else f"{place} ({sha256[:12]})", store.path(place), sha256)
        images.append(image)
        ids[image.name] = id
    return images, ids


def _stored(session: Session, name: str, described: bool) -> dict[int, StoredResult]:
    if not described:
        again = DetectionRow.status == AGAIN
        query = select(DetectionRow.image_id, DetectionRow.reason, DetectionRow.message, DetectionRow.calls, again)
        rows = session.execute(query.where(DetectionRow.detector == name))
        return {image: StoredResult(reason, message, calls, bool(mark)) for image, reason, message, calls, mark in rows}
    texts = select(DescriptionRow.image_id, DescriptionRow.message, DescriptionRow.record)
    found = session.execute(texts.where(DescriptionRow.author == name))
    return {
        image: StoredResult(record["reason"], message, record["calls"], bool(record.get("again")))
        for image, message, record in found
        if record
    }


@dataclass
class Annotation:
    """An annotation at work."""

    store: Store
    selected: Selection
    setup: DetectorSetup
    run: RunFolder
    command: CommandRecord
    _waiting: list[Detection] = field(default_factory=list)
    _stored_at: float = field(default_factory=time.monotonic)

    @property
    def describes(self) -> bool:
        return isinstance(self.setup, DescriberSetup)

    async def process(self, progress: Callable[[int, int], None], spread: SpreadOptions | None = None) -> None:
        """Process what is left, with workers if they are asked for."""
        todo, done = self.selected.todo(self.run.done), 0

        def one_more(detection: Detection) -> None:
            nonlocal done
            self.recorded(detection)
            done += 1
            progress(done, len(todo))

        if todo:
            async with open_engine(self.setup, self.run, spread) as session:
                await session.detect(todo, one_more)

    def recorded(self, detection: Detection) -> None:
        """Take a detection, which the run folder has, into the store: at once or with the next ones."""
        self._waiting.append(detection)
        if time.monotonic() - self._stored_at >= EVERY:
            self.store_waiting()

    def take_in_run(self) -> None:
        """Take in what earlier processes left in the run folder alone."""
        file = self.run.path / RESULTS
        good = {i.sha256 for i in self.selected.images if self.selected.good(i) or self.selected.marked(i)}
        last = {str(line.get("image")): number for number, line in read_lines(file, appended=True)}
        for number, line in read_lines(file, appended=True):
            if last[str(line.get("image"))] == number and line.get("sha256") not in good:
                self._waiting.append(detection_from(line, f"{file}, line {number}"))
                if len(self._waiting) >= BATCH:
                    self.store_waiting()
        self.store_waiting()

    def store_waiting(self) -> None:
        """Take the results that wait into the store, in one transaction; one that is there already stays."""
        waiting, self._waiting, self._stored_at = self._waiting, [], time.monotonic()
        if not waiting:
            return
        with self.store.writing() as session:
            new = self._new(session, waiting)
            if self.describes:
                put(session, DescriptionRow, [self._description(*one) for one in new.items()], ("image_id", "author"))
            else:
                self._put_detections(session, new)
        self.selected.stored.update({image: _outcome(detection) for image, detection in new.items()})

    def _new(self, session: Session, detections: Sequence[Detection]) -> dict[int, Detection]:
        """Those that the store does not have, by image. The hash tells the image; a name may be of another one now."""
        hashes = ids_by(session, ImageRow.sha256, ImageRow.id, [d.sha256 for d in detections if d.sha256])
        new: dict[int, Detection] = {}
        for detection in detections:
            image = hashes.get(detection.sha256) if detection.sha256 else self.selected.ids.get(detection.image)
            stored = self.selected.stored.get(image) if image is not None else None
            if image is not None and (stored is None or (stored.reason and stored != _outcome(detection))):
                new[image] = detection
        return new

    def _put_detections(self, session: Session, detections: Mapping[int, Detection]) -> None:
        shared = {"detector": self.selected.detector, "command_id": self.command.id}
        put(session, DetectionRow, [_row(*one) | shared for one in detections.items()], ("image_id", "detector"))
        ids = select(DetectionRow.image_id, DetectionRow.id).where(DetectionRow.detector == shared["detector"])
        candidates: list[Json] = []
        images = list(detections)
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            of_image = dict(session.execute(ids.where(DetectionRow.image_id.in_(part))).all())
            for image in part:
                own = shared | {"image_id": image, "detection_id": of_image[image], "origin": Origin.DETECTOR}
                candidates += [row | own for row in candidate_rows(detections[image])]
        add_new(session, CandidateRow, candidates)

    def _description(self, image: int, detection: Detection) -> Json:
        outcome, text = _outcome(detection), detection.description
        return {
            "image_id": image,
            "author": self.selected.detector,
            "text": None if text is None else storable(text),
            "message": outcome.message,
            "record": _record(detection) | {"reason": outcome.reason, "calls": outcome.calls},
            "command_id": self.command.id,
        }

    def failures(self) -> list[tuple[str, int]]:
        """The commonest messages of failures, each with its number of images."""
        stored = (self.selected.stored.get(image) for image in self.selected.ids.values())
        return Counter(f"{one.reason}: {one.message}" for one in stored if one and one.reason).most_common(10)

    def report(self) -> AnnotateReport:
        """What there is now."""
        name, ids = self.selected.detector, self.selected.ids.values()
        outcomes = [self.selected.stored[image] for image in ids if image in self.selected.stored]
        with self.store.reading() as session:
            kept, dropped = session.execute(
                select(func.count(case((CandidateRow.dropped.is_(None), 1))), func.count(CandidateRow.dropped)).where(
                    CandidateRow.detector == name
                )
            ).one()
            strange = select(func.count()).where(DetectionRow.detector == name, OUT_OF_DOMAIN)
            out_of_domain = session.scalar(strange) or 0
        return AnnotateReport(
            detector=name,
            described=self.describes,
            images=len(ids),
            done=sum(outcome.reason is None for outcome in outcomes),
            failed=dict(Counter(outcome.reason for outcome in outcomes if outcome.reason).most_common()),
            left=len(ids) - len(outcomes),
            anomalies=kept,
            dropped=dropped,
            out_of_domain=out_of_domain,
        )


def _outcome(detection: Detection) -> StoredResult:
    failure = detection.failure
    return StoredResult(
        failure.kind if failure else None, storable(failure.message) if failure else None, detection.usage.calls
    )


def _record(detection: Detection) -> Json:
    """The detection as the run folder has it, less what has rows and columns of its own."""
    line: Json = json.loads(detection.json_line())
    return {key: value for key, value in line.items() if key not in ("anomalies", "candidates", "description")}


def _row(image: int, detection: Detection) -> Json:
    outcome, usage = _outcome(detection), detection.usage
    return {
        "image_id": image,
        "status": detection.status,
        "reason": outcome.reason,
        "message": outcome.message,
        "record": _record(detection),
        "calls": usage.calls,
        "tokens": usage.tokens,
        "cost": usage.cost,
    }


def candidate_rows(detection: Detection) -> list[Json]:
    """The anomalies, each with the role, step and score of what it rests on, then the dropped candidates.

    A failed detection has none: what was proposed on the way was never decided.
    """
    if detection.failure:
        return []
    dropped = [candidate for candidate in detection.candidates if candidate.dropped is not None]
    rows = [_candidate(anomaly, anomaly.basis) for anomaly in detection.anomalies]
    rows += [_candidate(candidate, candidate) for candidate in dropped]
    return [row | {"number": number} for number, row in enumerate(rows)]


def _candidate(proposed: Anomaly | Candidate, basis: Candidate | Basis | None) -> Json:
    anomaly = proposed if isinstance(proposed, Anomaly) else None
    return {
        "name": storable(proposed.name),
        "phenomenon": storable(proposed.phenomenon),
        "reasoning": storable(proposed.reasoning),
        "severity": anomaly and anomaly.severity,
        "kind": storable(anomaly.kind) if anomaly and anomaly.kind else None,
        "objects": [storable(name) for name in proposed.objects],
        "region": anomaly.region.model_dump(mode="json", exclude_none=True) if anomaly and anomaly.region else None,
        "role": basis and basis.role,
        "step": basis and basis.step,
        "score": basis and basis.score,
        "dropped": None if isinstance(proposed, Anomaly) else storable(str(proposed.dropped)),
        "outcome": Outcome.UNVERIFIED,
    }
