"""Which images and candidates go into an export, and under which names.

with store.reading() as session:
    print(len(plan_images(session, ExportOptions()).images))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from anomreason.dataset.export.judging import Judging, judging_of
from anomreason.dataset.export.naming import Named, safe_split, unique_names
from anomreason.dataset.export.options import ExportOptions
from anomreason.dataset.tables import (
    COMPLETE,
    OUT_OF_DOMAIN,
    CandidateRow,
    DescriptionRow,
    DetectionRow,
    ImageRow,
    ImageState,
    Origin,
    Outcome,
    SourceRow,
    SplitRow,
)
from anomreason.errors import UsageError, shown

ONE_SPLIT = "train"
"""The split of a dataset that is not split, as `datasets` calls it."""
_FOLDER_FILES = 5_000


class PlannedImage(NamedTuple):
    """An image that will be exported."""

    id: int
    name: str
    place: str
    split: str
    bytes: int
    searched: bool
    known: bool
    """Whether its known anomalies are the whole list, so that a detector's candidates stay out."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What an export will hold."""

    images: list[PlannedImage]
    """By split, source and name."""
    left_out: Counter[str]
    """Images by reason."""
    unverified: int
    """Candidates that nobody has verified and that are not in the export."""
    beside_known: int
    """A detector's candidates that stay out because the anomalies of their image are known."""
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
        searched, known = id_ in facts.searched, id_ in facts.known
        images.append(PlannedImage(id_, file, folder + file, names[split], size, searched, known))
    beside = sum(facts.beside_known[image.id] for image in images)
    return Plan(images, left_out, facts.unverified, beside, scheme, facts.judging)


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
    out_of_domain: set[int] = field(default_factory=set)
    """Images that a detector does not know: none of its anomalies says nothing of them."""
    failed: set[int] = field(default_factory=set)
    described: set[int] = field(default_factory=set)
    known: set[int] = field(default_factory=set)
    """Images whose known anomalies go in, and no detector's."""
    beside_known: Counter[int] = field(default_factory=Counter)
    """A detector's candidates that would go in if the anomalies of their image were not known."""
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
        if image in self.out_of_domain:
            return "out_of_domain"
        return "detection_failed" if image in self.failed else "not_annotated"


def _facts(session: Session, options: ExportOptions) -> _Facts:
    facts = _Facts()
    facts.judging, agreement = judging_of(session, options.min_agreement is not None)
    candidates = (
        select(CandidateRow.image_id, CandidateRow.id, CandidateRow.outcome, CandidateRow.origin)
        .join(ImageRow, ImageRow.id == CandidateRow.image_id)
        .where(CandidateRow.dropped.is_(None), ImageRow.status == ImageState.KEPT)
        .execution_options(yield_per=5000)
    )
    if not options.beside_known:
        of_others = session.execute(candidates.where(CandidateRow.origin.in_(COMPLETE)))
        facts.known.update(
            image for image, id_, outcome, origin in of_others if selected(outcome, origin, agreement.get(id_), options)
        )
    for image, id_, outcome, origin in session.execute(candidates):
        facts.searched.add(image)
        goes_in = selected(outcome, origin, agreement.get(id_), options)
        if origin == Origin.DETECTOR and image in facts.known:
            facts.beside_known[image] += goes_in
        elif goes_in:
            facts.selected[image] += 1
        elif outcome != Outcome.REJECTED:
            facts.undecided[image] += 1
            facts.unverified += outcome == Outcome.UNVERIFIED and (origin == Origin.DETECTOR or options.accepted_only)
    for image, status, strange in session.execute(select(DetectionRow.image_id, DetectionRow.status, OUT_OF_DOMAIN)):
        (facts.failed if status != "ok" else facts.out_of_domain if strange else facts.searched).add(image)
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
