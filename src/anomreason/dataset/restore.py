"""Brings dropped images back: all that one filter dropped, or some of them.

with anomreason.dataset.open("data") as store:
    print(restore(store, "blurry").kept)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Select, func, select, update
from sqlalchemy.orm import Session

from anomreason.dataset.store import BATCH, Store, refresh_status
from anomreason.dataset.tables import DecisionRow, ImageRow, ImageState
from anomreason.errors import UsageError

_LEAST_PREFIX = 6
"""Digits of a hash that name an image."""


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

    images: sha256 of some, or their first digits; all that it dropped without any. Raises UsageError for a filter that
    dropped nothing and an image that it did not drop.
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
            ids = [_named(session, store, query, filter, image) for image in images]
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
    found = session.scalars(dropped.join(ImageRow).where(ImageRow.sha256.startswith(image.lower(), autoescape=True)))
    ids: list[int] = list(found)
    if len(image) < _LEAST_PREFIX or len(ids) != 1:
        raise UsageError(
            f"{image!r} names {len(ids)} images that {filter!r} dropped; give at least {_LEAST_PREFIX} digits of a "
            f"sha256 that anomreason dataset list {store.folder} --step filter --json shows"
        )
    return ids[0]
