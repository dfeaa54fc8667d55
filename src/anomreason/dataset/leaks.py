"""Leaks of a dataset: groups with images in several splits, and files that tell photographs from AI images.

    check(store).schemes[0].straddling    # {'prompt': 0, 'prompts': 0, 'cluster': 3, 'group': 0}

A scheme may also have come with the images, as `published` does. A detector trained on a leaking split, or on files
that give their source away, scores well without seeing what is wrong in an image.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, case, func, select
from sqlalchemy.orm import Session

from anomreason.anomaly import Result
from anomreason.dataset.split import KINDS, Codes, group_labels, image_keys, near_duplicates_known
from anomreason.dataset.store import BATCH, Store
from anomreason.dataset.tables import ImageRow, ImageState, PromptRow, SourceRow, SplitRow
from anomreason.errors import UsageError
from anomreason.metrics.leaks import Fact, Ints, JointLeak, Leak, fact_leaks, joint_leak
from anomreason.stats import Estimate

SHOWN = 5
"""Straddling groups of each sort that are shown with examples."""
TELLING = 0.55
"""A property gives the source away when the interval of its balanced accuracy (0.5 by guessing) lies above this."""
MOST = 20_000
"""Images whose files are compared; of more, so many drawn at random, which leaves intervals of about a point."""
_LONGEST = 120


class StraddlingGroup(Result):
    """A group with images in several splits."""

    sort: str
    """`prompt`, `prompts` (a group of prompts), `cluster` (near-duplicates) or `group` (a scene and its twins)."""
    key: str
    """Text of the prompt, or name of the group."""
    images: dict[str, int]
    """In each split."""
    examples: dict[str, str]
    """Path of one image in each split."""


class SchemeLeaks(Result):
    """One division of the kept images."""

    scheme: str
    images: dict[str, int]
    """In each split."""
    without: int
    """Kept images that have no split in this scheme."""
    straddling: dict[str, int]
    """Number of straddling groups of each sort."""
    straddling_images: dict[str, int]
    """Images in them."""
    examples: tuple[StraddlingGroup, ...]
    """The largest of each sort."""


class FormatLeak(Result):
    """Whether the file alone tells photographs from AI images."""

    photographs: int
    ai_images: int
    unknown: int
    """Kept images of sources of unknown kind, left out."""
    properties: tuple[Leak, ...]
    """The most telling first."""
    together: JointLeak | None
    """None when there is nothing to hold out."""

    @property
    def leaks(self) -> bool:
        """Whether anything gives the source away: a property, or all together."""
        return bool(self.telling) or (self.together is not None and _tells(self.together.balanced_accuracy))

    @property
    def telling(self) -> tuple[Leak, ...]:
        """The properties that give the source away."""
        return tuple(leak for leak in self.properties if _tells(leak.balanced_accuracy))


def _tells(accuracy: Estimate) -> bool:
    return accuracy.interval is not None and accuracy.interval.low > TELLING


class LeakReport(Result):
    """What the leak check found."""

    schemes: tuple[SchemeLeaks, ...]
    near_duplicates_known: bool
    """Whether anybody looked for near-duplicates; if not, those that straddle are not seen."""
    format: FormatLeak | None
    """None without photographs, or without AI images."""

    @property
    def straddling(self) -> int:
        """Groups with images in several splits, over all schemes."""
        return sum(sum(scheme.straddling.values()) for scheme in self.schemes)


def check(
    store: Store,
    scheme: str | None = None,
    seed: int = 0,
) -> LeakReport:
    """Look for leaks in one scheme or in all. Raises UsageError for a scheme that has no split."""
    with store.reading() as session:
        known = list(session.scalars(select(SplitRow.scheme).distinct().order_by(SplitRow.scheme)))
        if scheme is not None and scheme not in known:
            there = f"there {'is' if len(known) == 1 else 'are'} {', '.join(map(repr, known))}" if known else "none has"
            raise UsageError(f"no image has a split in the scheme {scheme!r}; {there}")
        schemes = known if scheme is None else [scheme]
        return LeakReport(
            schemes=tuple(_scheme(session, name) for name in schemes),
            near_duplicates_known=near_duplicates_known(session),
            format=_format(session, np.random.default_rng(seed)),
        )


def _scheme(session: Session, scheme: str) -> SchemeLeaks:
    kept = (SplitRow.scheme == scheme, ImageRow.status == ImageState.KEPT)
    by_split = (
        select(SplitRow.split, func.count())
        .join(ImageRow, ImageRow.id == SplitRow.image_id)
        .where(*kept)
        .group_by(SplitRow.split)
        .order_by(SplitRow.split)
    )
    images = dict(session.execute(by_split).all())
    all_kept = session.scalar(select(func.count()).select_from(ImageRow).where(kept[1])) or 0
    straddling: dict[str, int] = {}
    in_them: dict[str, int] = {}
    examples: list[StraddlingGroup] = []
    for sort, key in _keys().items():
        query = (
            select(key, func.count())
            .select_from(SplitRow)
            .join(ImageRow, ImageRow.id == SplitRow.image_id)
            .outerjoin(PromptRow, PromptRow.id == ImageRow.prompt_id)
            .where(*kept, key.is_not(None))
            .group_by(key)
            .having(func.min(SplitRow.split) < func.max(SplitRow.split))
        )
        found = session.execute(query).all()
        straddling[sort], in_them[sort] = len(found), sum(count for _, count in found)
        largest = sorted(found, key=lambda row: (-row[1], row[0]))[:SHOWN]
        examples += [_example(session, scheme, sort, str(value)) for value, _ in largest]
    return SchemeLeaks(
        scheme=scheme,
        images=images,
        without=all_kept - sum(images.values()),
        straddling=straddling,
        straddling_images=in_them,
        examples=tuple(examples),
    )


def _keys() -> dict[str, ColumnElement[str | None]]:
    """What binds images to each other, by sort; None where nothing does."""
    return {
        "prompt": case((PromptRow.group.is_(None), PromptRow.sha256)),
        "prompts": PromptRow.group.expression,
        "cluster": ImageRow.cluster.expression,
        "group": ImageRow.group.expression,
    }


def _example(session: Session, scheme: str, sort: str, key: str) -> StraddlingGroup:
    query = (
        select(SplitRow.split, func.count(), func.min(ImageRow.path))
        .join(ImageRow, ImageRow.id == SplitRow.image_id)
        .outerjoin(PromptRow, PromptRow.id == ImageRow.prompt_id)
        .where(SplitRow.scheme == scheme, ImageRow.status == ImageState.KEPT, _keys()[sort] == key)
        .group_by(SplitRow.split)
        .order_by(SplitRow.split)
    )
    found = session.execute(query).all()
    if sort == "prompt":
        key = session.scalar(select(func.substr(PromptRow.text, 1, _LONGEST)).where(PromptRow.sha256 == key)) or key
    return StraddlingGroup(
        sort=sort,
        key=key,
        images={name: count for name, count, _ in found},
        examples={name: path for name, _, path in found},
    )


def _format(session: Session, rng: np.random.Generator) -> FormatLeak | None:
    of_kind = (
        select(SourceRow.kind, func.count())
        .join(ImageRow, ImageRow.source_id == SourceRow.id)
        .where(ImageRow.status == ImageState.KEPT)
        .group_by(SourceRow.kind)
    )
    counts = Counter(dict(session.execute(of_kind).all()))
    ai, photographs = counts["ai"], counts["photograph"]
    if not ai or not photographs:
        return None
    files = _Files(session, rng)
    found = format_leak(files.table, group_labels(files.keys), rng)
    known = {"photographs": photographs, "ai_images": ai, "unknown": counts.total() - ai - photographs}
    return found.model_copy(update=known)


def format_leak(table: FileTable, groups: Ints, rng: np.random.Generator) -> FormatLeak:
    """What the files of photographs and AI images give away.

    table: with both. groups: (images,), from 0: images of one group are held out together.
    """
    fake, facts = np.array(table.fake, dtype=np.bool_), table.facts()
    found = fact_leaks(facts, fake, rng, groups)
    return FormatLeak(
        photographs=int((~fake).sum()),
        ai_images=int(fake.sum()),
        unknown=0,
        properties=tuple(leak for leak in found if leak.balanced_accuracy.value is not None),
        together=joint_leak(facts, fake, rng, groups),
    )


class FileTable:
    """What is known of the files of photographs and AI images, as columns."""

    def __init__(self) -> None:
        self.fake: list[bool] = []
        self._columns: dict[str, dict[int, str | float]] = {}
        """By property, then by place of the image."""

    def add(self, generated: bool, format: str, size: tuple[int, int, int], facts: Mapping[str, Any]) -> None:
        """One file, by what follows from it alone, none of it by a look at what the image shows.

        size: bytes, width, height. facts: as `image_facts` gives them.
        """
        for name, value in _properties(format, size, facts):
            self._columns.setdefault(name, {})[len(self.fake)] = value
        self.fake.append(generated)

    def facts(self) -> list[Fact]:
        """The columns, for `fact_leaks` and `joint_leak`."""
        n = len(self.fake)
        found = []
        for name, column in self._columns.items():
            absent = "absent" if name.endswith(_METADATA) else None
            found.append(Fact(name, [column.get(place, absent) for place in range(n)], _PHRASES.get(name, "")))
        return found


class _Files:
    """The files of a store, and what binds their images."""

    def __init__(self, session: Session, rng: np.random.Generator) -> None:
        self.table = FileTable()
        keys = array("Q")
        ids = _drawn(session, rng)
        query = (
            select(SourceRow.kind, ImageRow, PromptRow.sha256, PromptRow.group)
            .join(SourceRow, SourceRow.id == ImageRow.source_id)
            .outerjoin(PromptRow, PromptRow.id == ImageRow.prompt_id)
            .order_by(ImageRow.id)
        )
        for start in range(0, len(ids), BATCH):
            for kind, image, prompt, prompts in session.execute(
                query.where(ImageRow.id.in_(ids[start : start + BATCH]))
            ):
                size = (image.bytes, image.width, image.height)
                self.table.add(kind == "ai", image.format, size, image.facts)
                keys.extend(image_keys(image.sha256, image.group, image.cluster, prompt, prompts))
            session.expunge_all()
        self.keys: Codes = np.frombuffer(keys, dtype=np.uint64).reshape(-1, len(KINDS))


def _drawn(session: Session, rng: np.random.Generator) -> list[int]:
    """Ids of the images to compare."""
    query = (
        select(ImageRow.id)
        .join(SourceRow, SourceRow.id == ImageRow.source_id)
        .where(ImageRow.status == ImageState.KEPT, SourceRow.kind.in_(("ai", "photograph")))
        .order_by(ImageRow.id)
    )
    ids = np.fromiter(session.scalars(query.execution_options(yield_per=10_000)), dtype=np.int64)
    if len(ids) > MOST:
        ids = np.sort(rng.choice(ids, MOST, replace=False))
    return [int(image) for image in ids]


_METADATA = " metadata"
_PHRASES = {"bytes": "size in bytes", "pixels": "number of pixels", "bytes a pixel": "number of bytes a pixel"}


def _properties(format: str, size: tuple[int, int, int], facts: Mapping[str, Any]) -> Iterator[tuple[str, str | float]]:
    length, width, height = size
    yield "file type", format
    yield "bytes", length
    yield "width", width
    yield "height", height
    yield "pixels", width * height
    yield "width / height", width / height
    yield "bytes a pixel", length / (width * height)
    for name, value in facts.items():
        name = name.replace("_", " ")
        if isinstance(value, list):
            for kind in value:
                yield f"{kind} {name}", "present"
        elif isinstance(value, bool):
            yield name, "yes" if value else "no"
        elif isinstance(value, str | int | float):
            yield name, value
