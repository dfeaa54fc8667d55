"""What is in a dataset and what became of it: counts by reason, and the rows behind them.

for count in counts(store, ListQuery(status="dropped")):
    print(count.step, count.status, count.reason, count.rows)
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from anomreason.dataset.store import Store
from anomreason.dataset.tables import ImageRow, ImageState, PromptRow, SourceRow


@dataclass(frozen=True, slots=True)
class DatasetSize:
    """How much a dataset holds."""

    kept: int
    dropped: int
    """Images."""
    prompts: int
    sources: int


def size(store: Store) -> DatasetSize:
    """How much a dataset holds."""
    with store.reading() as session:
        by = dict(session.execute(select(ImageRow.status, func.count()).group_by(ImageRow.status)).all())
        prompts, sources = (session.scalar(select(func.count()).select_from(t)) or 0 for t in (PromptRow, SourceRow))
    return DatasetSize(by.get(ImageState.KEPT, 0), by.get(ImageState.DROPPED, 0), prompts, sources)
