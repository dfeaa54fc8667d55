"""Brings dropped images back: all that one filter dropped, or some of them.

with anomreason.dataset.open("data") as store:
    print(restore(store, "blurry").kept)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import ColumnElement, Select, func, select, update
from sqlalchemy.orm import Session

from anomreason.dataset.store import BATCH, Store, refresh_status, storable
from anomreason.dataset.tables import DecisionRow, FileRow, ImageRow, ImageState
from anomreason.errors import UsageError

_LEAST_PREFIX = 6
"""Digits of a hash that name an image."""
_SHOWN = 5
"""Images that the message about an ambiguous name lists."""


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What became of the images whose decision was taken back."""

    restored: int
    """Decisions that do not count any more."""
    kept: int
    """Of these images, the ones that are in the dataset now."""
    dropped: dict[str, int]
    """The others, by the reason of another filter."""


def restore(store: Store, filter: str, images: Sequence[str] = ()) -> RestoreReport:
    """Take back what a filter decided against images; other filters' decisions stay. A later run of it respects that.

    images: paths, names or sha256 (or its first digits) of some; all that it dropped without any. Raises UsageError for
    a filter that dropped nothing, and for an image that it did not drop or a name that several have.
    """
    dropped = (DecisionRow.filter == filter) & DecisionRow.keep.is_(False) & DecisionRow.restored.is_(False)
    query = select(DecisionRow.image_id).where(dropped)
    with store.reading() as session:
        ids = list(session.scalars(query.order_by(DecisionRow.image_id)))
        if not ids:
            against = select(DecisionRow.filter).where(DecisionRow.keep.is_(False), DecisionRow.restored.is_(False))
            known = ", ".join(sorted(session.scalars(against.distinct()))) or "none at all"
            raise UsageError(f"the filter {filter!r} drops no image; the filters that do: {known}")
        if images:
            ids = list(dict.fromkeys(_named(session, store, query, filter, image) for image in images))
    with store.command("restore", {"filter": filter, "images": list(images)}) as command:
        with store.writing() as session:
            for start in range(0, len(ids), BATCH):
                part = DecisionRow.image_id.in_(ids[start : start + BATCH])
                session.execute(update(DecisionRow).where(dropped, part).values(restored=True))
            refresh_status(session, ids)
        states: Counter[tuple[str, str | None]] = Counter()
        with store.reading() as session:
            for start in range(0, len(ids), BATCH):
                counted = select(ImageRow.status, ImageRow.reason, func.count()).group_by(
                    ImageRow.status, ImageRow.reason
                )
                for status, reason, count in session.execute(
                    counted.where(ImageRow.id.in_(ids[start : start + BATCH]))
                ):
                    states[status, reason] += count
        report = RestoreReport(
            restored=len(ids),
            kept=sum(count for (status, _), count in states.items() if status == ImageState.KEPT),
            dropped={str(reason): count for (status, reason), count in states.items() if status == ImageState.DROPPED},
        )
        command.report.update(asdict(report))
    return report


def _named(session: Session, store: Store, dropped: Select[int], filter: str, image: str) -> int:
    """Id of the image that a path, a name or a sha256 means, of those that the filter dropped."""
    name = storable(image)
    query = dropped.join(ImageRow).with_only_columns(ImageRow.id, ImageRow.path).order_by(ImageRow.id)
    places = (name, storable(store.place(Path(image))))
    of_file = ImageRow.id.in_(select(FileRow.image_id).where(FileRow.path.in_(places)))
    ways: list[ColumnElement[bool]] = [
        ImageRow.path.in_(places) | of_file | (ImageRow.name == name),
        ImageRow.path.endswith(f"/{name}", autoescape=True) | ImageRow.name.endswith(f"/{name}", autoescape=True),
    ]
    if len(image) >= _LEAST_PREFIX:
        ways.append(ImageRow.sha256.startswith(image.lower(), autoescape=True))
    found: list[tuple[int, str]] = []
    for way in ways:
        if found := [(row[0], row[1]) for row in session.execute(query.where(way).limit(_SHOWN + 1))]:
            break
    if len(found) == 1:
        return found[0][0]
    if not found:
        raise UsageError(
            f"{image!r} names no image that {filter!r} dropped; give a name, a path or at least {_LEAST_PREFIX} digits "
            f"of a sha256, as anomreason dataset list {store.folder} --step filter --json shows them"
        )
    paths = ", ".join(repr(path) for _, path in found[:_SHOWN]) + ", ..." * (len(found) > _SHOWN)
    raise UsageError(f"{image!r} names several images that {filter!r} dropped: {paths}; give the path of one")
