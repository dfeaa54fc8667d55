"""What a dataset in work holds: images by source, candidates before and after review, verdicts, costs and words.

    stats(store).sources[0].before    # Estimate(value=8.07, interval=..., n=9911)

An anomaly counts as kept when people accepted it, or when it was known from the start (a published dataset, a scene,
a person who annotated). Severity runs from 0 = completely implausible to 100 = fully realistic.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, Select, and_, case, func, or_, select
from sqlalchemy.orm import Session

from anomreason.anomaly import Result
from anomreason.dataset.store import Store
from anomreason.dataset.tables import (
    COMPLETE,
    CandidateRow,
    DetectionRow,
    FileRow,
    FileState,
    GenerationRow,
    ImageRow,
    ImageState,
    Origin,
    Outcome,
    PromptRow,
    SourceRow,
    SplitRow,
    VerdictRow,
)
from anomreason.dataset.words import WordCounts, count_words
from anomreason.stats import Estimate, Interval, mean, wilson

BINS = 10
"""Of severity, each ten points wide; the last one holds 100 too."""
KINDS_TOGETHER = 12
"""The most frequent kinds whose co-occurrence is counted."""
REASONS = 20
"""Reasons of one step that are counted one by one."""
NONE = "(none)"
"""Stands for a role or kind that is not known."""


class Acceptance(Result):
    """What people said of the candidates of one role, kind, detector or source."""

    name: str
    accepted: int = 0
    rejected: int = 0
    unsure: int = 0
    disputed: int = 0
    unverified: int = 0
    """Candidates without a verdict, those left out that were known from the start."""
    known: int = 0
    """Anomalies known from the start (published, of scenes, or by a person) that nobody has judged."""
    acceptance: float | None = None
    """Accepted of all with a verdict; None without any."""
    interval: Interval | None = None
    """Wilson's, 95 %. Candidates of one image count as independent, so it is rather too narrow."""

    @property
    def verified(self) -> int:
        return self.accepted + self.rejected + self.unsure + self.disputed


class SourceStats(Result):
    """One source of images."""

    name: str
    kind: str
    """`ai`, `photograph` or `unknown`."""
    generator: str | None
    licence: str | None
    kept: int
    dropped: int
    annotated: int
    """Kept images with a finished detection or with known anomalies."""
    reviewed: int
    """Annotated images all of whose candidates have a verdict or were known from the start."""
    before: Estimate
    """Anomalies of an annotated image before review."""
    after: Estimate
    """Kept anomalies of a reviewed image."""


class StepCounts(Result):
    """How far the dataset has come; images and candidates, not files."""

    prompts: int
    files: int
    """Files that `collect` met."""
    images: int
    kept: int
    annotated: int
    failed: int
    """Kept images for which every detection so far has failed."""
    candidates: int
    """Proposed by detectors, less those that they dropped themselves."""
    verified: int
    """Candidates with a verdict."""
    reviewed: int
    """Images all of whose candidates have one."""
    kept_anomalies: int
    beside_known: int
    """Of those, the ones of a detector in images whose anomalies are known, which an export leaves out."""
    in_split: dict[str, int]
    """Kept images with a split, by scheme."""


class DropCount(Result):
    """How often something was dropped or failed for one reason."""

    what: str
    """`files`, `images`, `generations`, `detections`, or `candidates` that a detector dropped itself."""
    reason: str
    count: int


class DetectorCost(Result):
    """What one detector used."""

    detector: str
    ok: int
    failed: int
    calls: int
    tokens: int
    dollars: float
    """Of detections with a known price."""
    without_price: int
    proposed: int
    """Candidates of the finished detections."""
    accepted_cost: float | None
    """Dollars an accepted anomaly: dollars over proposed candidates times the share that is accepted."""
    interval: Interval | None
    """From that of the share."""


class KindPair(Result):
    """Two kinds in the same images."""

    one: str
    other: str
    images: int
    expected: float
    """Images that would have both if kinds were independent."""


class SeverityCounts(Result):
    """Anomalies by severity, 0 = completely implausible, 100 = fully realistic."""

    before: tuple[int, ...]
    """In bins of ten points: 0..10, 10..20, ... 90..100."""
    after: tuple[int, ...]
    """Kept ones."""
    mean_before: float | None
    mean_after: float | None


class DatasetStats(Result):
    """All numbers of one dataset."""

    steps: StepCounts
    sources: tuple[SourceStats, ...]
    drops: tuple[DropCount, ...]
    severity: SeverityCounts
    total: Acceptance
    by_role: tuple[Acceptance, ...]
    by_kind: tuple[Acceptance, ...]
    by_detector: tuple[Acceptance, ...]
    by_role_and_source: dict[str, tuple[Acceptance, ...]]
    """By role, one tally a source."""
    verdicts: dict[str, dict[str, int]]
    """By person and choice."""
    costs: tuple[DetectorCost, ...]
    words: WordCounts | None
    """None without anomalies."""
    kinds: dict[str, int]
    """Images with anomalies of each frequent kind."""
    pairs: tuple[KindPair, ...]
    images_with_anomalies: int


def stats(store: Store, seed: int = 0) -> DatasetStats:
    """Count. seed: for intervals and for the texts that are read."""
    rng = np.random.default_rng(seed)
    with store.reading() as session:
        cells = _cells(session)
        sources = _sources(session, rng)
        kinds, pairs, images = _kinds_together(session, cells)
        return DatasetStats(
            steps=_steps(session, sources, cells),
            sources=sources,
            drops=_drops(session),
            severity=_severity(cells),
            total=_acceptance("all", cells),
            by_role=_by(cells, lambda cell: cell.role),
            by_kind=_by(cells, lambda cell: cell.kind),
            by_detector=_by(cells, lambda cell: cell.detector),
            by_role_and_source=_roles_by_source(session),
            verdicts=_verdicts(session),
            costs=_costs(session, cells),
            words=_words(session, cells, rng),
            kinds=kinds,
            pairs=pairs,
            images_with_anomalies=images,
        )


class _Cell(NamedTuple):
    """Candidates that agree in all that is counted; the detectors' own drops are left out."""

    origin: str
    detector: str
    role: str
    kind: str
    outcome: str
    severity: float | None
    number: int

    @property
    def known(self) -> bool:
        """Known from the start, and judged by nobody."""
        return self.origin != Origin.DETECTOR and self.outcome == Outcome.UNVERIFIED

    @property
    def kept(self) -> bool:
        return self.known or self.outcome == Outcome.ACCEPTED


_KNOWN = and_(CandidateRow.origin != Origin.DETECTOR, CandidateRow.outcome == Outcome.UNVERIFIED)
_KEPT = or_(CandidateRow.outcome == Outcome.ACCEPTED, _KNOWN)
_WAITING = and_(CandidateRow.origin == Origin.DETECTOR, CandidateRow.outcome == Outcome.UNVERIFIED)
_SHOWN = CandidateRow.dropped.is_(None)


def _cells(session: Session) -> list[_Cell]:
    columns = (
        CandidateRow.origin,
        CandidateRow.detector,
        CandidateRow.role,
        CandidateRow.kind,
        CandidateRow.outcome,
        CandidateRow.severity,
    )
    rows = session.execute(select(*columns, func.count()).where(_SHOWN).group_by(*columns))
    return [_Cell(o, d, role or NONE, kind or NONE, out, severity, n) for o, d, role, kind, out, severity, n in rows]


def _acceptance(name: str, cells: Iterable[_Cell]) -> Acceptance:
    counts: Counter[str] = Counter()
    for cell in cells:
        counts["known" if cell.known else cell.outcome] += cell.number
    return _with_share(name, counts)


def _with_share(name: str, counts: Mapping[str, int]) -> Acceptance:
    found = Acceptance(name=name, **{str(key): value for key, value in counts.items()})
    if not found.verified:
        return found
    share = found.accepted / found.verified
    return found.model_copy(update={"acceptance": share, "interval": wilson(share, found.verified)})


def _by(cells: Iterable[_Cell], key: Callable[[_Cell], str]) -> tuple[Acceptance, ...]:
    """By a property, the one with most candidates first."""
    parts: dict[str, list[_Cell]] = defaultdict(list)
    for cell in cells:
        parts[key(cell)].append(cell)
    sizes = {name: sum(cell.number for cell in part) for name, part in parts.items()}
    return tuple(_acceptance(name, parts[name]) for name in sorted(parts, key=lambda name: (-sizes[name], name)))


def _severity(cells: Sequence[_Cell]) -> SeverityCounts:
    counts = np.zeros((2, BINS), dtype=np.int64)
    sums = np.zeros((2, 2))
    for cell in cells:
        if cell.severity is None:
            continue
        for row in (0, 1) if cell.kept else (0,):
            counts[row, min(int(cell.severity // (100 / BINS)), BINS - 1)] += cell.number
            sums[row] += cell.number * cell.severity, cell.number
    before, after = (float(total / n) if n else None for total, n in sums)
    return SeverityCounts(
        before=tuple(counts[0].tolist()), after=tuple(counts[1].tolist()), mean_before=before, mean_after=after
    )


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))


def _sources(session: Session, rng: np.random.Generator) -> tuple[SourceStats, ...]:
    """Each with a histogram of its annotated images: anomalies, kept ones, whether any waits for a verdict."""
    per_image = (
        select(
            CandidateRow.image_id,
            func.count().label("before"),
            _count(_KEPT).label("after"),
            _count(_WAITING).label("waiting"),
        )
        .where(_SHOWN)
        .group_by(CandidateRow.image_id)
        .subquery()
    )
    columns = (ImageRow.source_id, per_image.c.before, per_image.c.after, per_image.c.waiting > 0)
    histogram = (
        select(*columns, func.count())
        .join(ImageRow, ImageRow.id == per_image.c.image_id)
        .where(ImageRow.status == ImageState.KEPT)
        .group_by(*columns)
    )
    of_source: dict[int, list[tuple[int, int, bool, int]]] = defaultdict(list)
    for source, before, after, waiting, count in session.execute(histogram):
        of_source[source].append((before, after, waiting, count))
    for source, count in session.execute(_without_anomalies()):
        of_source[source].append((0, 0, False, count))
    states = select(ImageRow.source_id, ImageRow.status, func.count()).group_by(ImageRow.source_id, ImageRow.status)
    images = {(source, status): count for source, status, count in session.execute(states)}
    found = []
    for row in session.scalars(select(SourceRow).order_by(SourceRow.name)):
        rows = np.array(of_source[row.id], dtype=np.int64).reshape(-1, 4)
        reviewed = _reviewed(rows)
        found.append(
            SourceStats(
                name=row.name,
                kind=row.kind,
                generator=row.generator,
                licence=row.licence,
                kept=images.get((row.id, ImageState.KEPT), 0),
                dropped=images.get((row.id, ImageState.DROPPED), 0),
                annotated=int(rows[:, 3].sum()),
                reviewed=int(reviewed[:, 3].sum()),
                before=mean(np.repeat(rows[:, 0], rows[:, 3]), rng),
                after=mean(np.repeat(reviewed[:, 1], reviewed[:, 3]), rng),
            )
        )
    return tuple(found)


def _reviewed(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Of a source's rows (anomalies, kept ones, whether any waits, images), those whose review is done.

    Where nothing was found there is nothing to judge. Of such images as large a share counts as of the others is done,
    so that a review that has only begun does not look like one that left no anomaly.
    """
    found, clean = rows[rows[:, 0] > 0], rows[rows[:, 0] == 0]
    done = found[found[:, 2] == 0]
    share = done[:, 3].sum() / found[:, 3].sum() if len(found) else 1.0
    clean[:, 3] = np.round(clean[:, 3] * share)
    return np.concatenate([done, clean])


def _without_anomalies() -> Select[int, int]:
    """Kept images of each source in which a finished detection found nothing."""
    any_shown = select(CandidateRow.id).where(CandidateRow.image_id == ImageRow.id, _SHOWN).exists()
    finished = select(DetectionRow.id).where(DetectionRow.image_id == ImageRow.id, DetectionRow.status == "ok").exists()
    return (
        select(ImageRow.source_id, func.count())
        .where(ImageRow.status == ImageState.KEPT, finished, ~any_shown)
        .group_by(ImageRow.source_id)
    )


def _steps(session: Session, sources: Sequence[SourceStats], cells: Sequence[_Cell]) -> StepCounts:
    def count(query: Select[int]) -> int:
        return session.scalar(query) or 0

    finished = select(DetectionRow.image_id).where(DetectionRow.status == "ok")
    failed = (
        select(func.count(func.distinct(DetectionRow.image_id)))
        .join(ImageRow, ImageRow.id == DetectionRow.image_id)
        .where(DetectionRow.status != "ok", ImageRow.status == ImageState.KEPT, DetectionRow.image_id.not_in(finished))
    )
    in_split = (
        select(SplitRow.scheme, func.count())
        .join(ImageRow, ImageRow.id == SplitRow.image_id)
        .where(ImageRow.status == ImageState.KEPT)
        .group_by(SplitRow.scheme)
        .order_by(SplitRow.scheme)
    )
    known_images = select(CandidateRow.image_id).where(_SHOWN, _KEPT, CandidateRow.origin.in_(COMPLETE))
    beside_known = select(func.count(CandidateRow.id)).where(
        _SHOWN, _KEPT, CandidateRow.origin == Origin.DETECTOR, CandidateRow.image_id.in_(known_images)
    )
    kept = sum(source.kept for source in sources)
    of_detectors = [cell for cell in cells if cell.origin == Origin.DETECTOR]
    return StepCounts(
        prompts=count(select(func.count()).select_from(PromptRow)),
        files=count(select(func.count()).select_from(FileRow)),
        images=kept + sum(source.dropped for source in sources),
        kept=kept,
        annotated=sum(source.annotated for source in sources),
        failed=count(failed),
        candidates=sum(cell.number for cell in of_detectors),
        verified=sum(cell.number for cell in of_detectors if cell.outcome != Outcome.UNVERIFIED),
        reviewed=sum(source.reviewed for source in sources),
        kept_anomalies=sum(cell.number for cell in cells if cell.kept),
        beside_known=count(beside_known),
        in_split=dict(session.execute(in_split).all()),
    )


def _drops(session: Session) -> tuple[DropCount, ...]:
    """Everything that did not go on, most frequent first within each step."""
    other = func.coalesce
    queries = {
        "files": select(other(FileRow.reason, FileRow.status), func.count())
        .where(FileRow.status != FileState.COLLECTED)
        .group_by(other(FileRow.reason, FileRow.status)),
        "images": select(other(ImageRow.reason, NONE), func.count())
        .where(ImageRow.status == ImageState.DROPPED)
        .group_by(ImageRow.reason),
        "generations": select(GenerationRow.status, func.count())
        .where(GenerationRow.status != "done")
        .group_by(GenerationRow.status),
        "detections": select(other(DetectionRow.reason, NONE), func.count())
        .where(DetectionRow.status != "ok")
        .group_by(DetectionRow.reason),
        "candidates": select(CandidateRow.dropped, func.count())
        .where(CandidateRow.dropped.is_not(None))
        .group_by(CandidateRow.dropped),
    }
    found = []
    for what, query in queries.items():
        rows = sorted(session.execute(query).all(), key=lambda row: (-row[1], row[0]))
        found += [DropCount(what=what, reason=reason, count=count) for reason, count in rows[:REASONS]]
        if rest := sum(count for _, count in rows[REASONS:]):
            found.append(DropCount(what=what, reason="(other reasons)", count=rest))
    return tuple(found)


def _roles_by_source(session: Session) -> dict[str, tuple[Acceptance, ...]]:
    judged = [outcome.value for outcome in Outcome if outcome != Outcome.UNVERIFIED]
    counts = {outcome: _count(CandidateRow.outcome == outcome) for outcome in judged}
    counts |= {"known": _count(_KNOWN), "all": func.count()}
    role = func.coalesce(CandidateRow.role, NONE).label("role")
    per_image = (
        select(role, CandidateRow.image_id, *(count.label(name) for name, count in counts.items()))
        .where(_SHOWN)
        .group_by(CandidateRow.image_id, role)
        .subquery()
    )
    query = (
        select(per_image.c.role, SourceRow.name, *(func.sum(per_image.c[name]) for name in counts))
        .join(ImageRow, ImageRow.id == per_image.c.image_id)
        .join(SourceRow, SourceRow.id == ImageRow.source_id)
        .group_by(per_image.c.role, SourceRow.name)
        .order_by(per_image.c.role, SourceRow.name)
    )
    found: dict[str, list[Acceptance]] = defaultdict(list)
    for name, source, *values in session.execute(query):
        *some, total = map(int, values)
        of = dict(zip(counts, some, strict=False))
        found[name].append(_with_share(source, {**of, "unverified": total - sum(some)}))
    return {name: tuple(parts) for name, parts in found.items()}


def _verdicts(session: Session) -> dict[str, dict[str, int]]:
    columns = (VerdictRow.person, VerdictRow.choice)
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for person, choice, count in session.execute(select(*columns, func.count()).group_by(*columns).order_by(*columns)):
        found[person][choice] = count
    return dict(found)


def _costs(session: Session, cells: Iterable[_Cell]) -> tuple[DetectorCost, ...]:
    proposed = {one.name: one for one in _by((c for c in cells if c.origin == Origin.DETECTOR), lambda c: c.detector)}
    query = select(
        DetectionRow.detector,
        _count(DetectionRow.status == "ok"),
        _count(DetectionRow.status != "ok"),
        func.sum(DetectionRow.calls),
        func.sum(DetectionRow.tokens),
        func.sum(DetectionRow.cost),
        _count(and_(DetectionRow.cost.is_(None), DetectionRow.calls > 0)),
    ).group_by(DetectionRow.detector)
    # Scenes and published datasets have detections too, which say that an image was searched; they cost nothing.
    query = query.having(func.sum(DetectionRow.calls) > 0)
    found = []
    for detector, ok, failed, calls, tokens, dollars, unpriced in session.execute(
        query.order_by(DetectionRow.detector)
    ):
        tally = proposed.get(detector, Acceptance(name=detector))
        number = tally.verified + tally.unverified
        share, ends = tally.acceptance, tally.interval
        each = dollars / number if dollars is not None and number and not unpriced else None
        found.append(
            DetectorCost(
                detector=detector,
                ok=ok,
                failed=failed,
                calls=int(calls),
                tokens=int(tokens),
                dollars=float(dollars or 0),
                without_price=unpriced,
                proposed=number,
                accepted_cost=each / share if each is not None and share else None,
                interval=Interval(each / ends.high, each / ends.low) if each is not None and share and ends else None,
            )
        )
    return tuple(found)


def _kinds_together(session: Session, cells: Iterable[_Cell]) -> tuple[dict[str, int], tuple[KindPair, ...], int]:
    """Images by frequent kind, pairs of kinds by how many images have both, and the number of images with anomalies.

    The kinds of an image are one number, a bit a kind, so that the database hands over few rows.
    """
    sizes: Counter[str] = Counter()
    for cell in cells:
        sizes[cell.kind] += cell.number
    names = [name for name, _ in sizes.most_common(KINDS_TOGETHER + 1) if name != NONE][:KINDS_TOGETHER]
    bits = [func.max(case((CandidateRow.kind == name, 1 << place), else_=0)) for place, name in enumerate(names)]
    mask = sum(bits[1:], bits[0]) if bits else func.max(0)
    per_image = select(mask.label("mask")).where(_SHOWN).group_by(CandidateRow.image_id).subquery()
    rows = session.execute(select(per_image.c.mask, func.count()).group_by(per_image.c.mask)).all()
    masks = np.array([row[0] for row in rows], dtype=np.int64)
    counts = np.array([row[1] for row in rows], dtype=np.int64)
    has = (masks[:, None] >> np.arange(len(names))) & 1  # (masks, kinds)
    together = (has * counts[:, None]).T @ has
    total = int(counts.sum())
    single = np.diag(together)
    pairs = [
        KindPair(
            one=names[a], other=names[b], images=int(together[a, b]), expected=float(single[a] * single[b] / total)
        )
        for a in range(len(names))
        for b in range(a + 1, len(names))
    ]
    return (
        dict(zip(names, single.tolist(), strict=True)),
        tuple(sorted(pairs, key=lambda pair: (-pair.images, pair.one, pair.other))),
        total,
    )


def _words(session: Session, cells: Iterable[_Cell], rng: np.random.Generator) -> WordCounts | None:
    if kept := sum(cell.number for cell in cells if cell.kept):
        return count_words(session, and_(_SHOWN, _KEPT), kept, rng)
    return count_words(session, _SHOWN, sum(cell.number for cell in cells), rng)
