"""What became of everything in a dataset: counts by status and reason, and the rows behind them.

for count in listing(store, ListQuery(status="dropped")).counts:
    print(count.step, count.reason, count.number)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, Select, String, case, cast, func, literal_column, null, select
from sqlalchemy.orm import Session

from anomreason.dataset.store import Store
from anomreason.dataset.tables import (
    AGAIN,
    DecisionRow,
    DescriptionRow,
    DetectionRow,
    FileRow,
    FileState,
    GenerationRow,
    ImageRow,
    ImageState,
    PromptRow,
    SourceRow,
)
from anomreason.errors import UsageError

ListStep = Literal["images", "collect", "filter", "generate", "annotate"]
STEPS: tuple[ListStep, ...] = get_args(ListStep)
STATUSES: dict[ListStep, tuple[str, ...]] = {
    "images": tuple(ImageState),
    "collect": tuple(FileState),
    "filter": ("dropped", "restored"),
    "generate": ("done", "refused", "blank", "failed", "asked"),
    "annotate": ("ok", "failed", AGAIN),
}
"""Of each step, the statuses that its rows can have."""
_SHOWN = 80
"""Characters of a prompt."""


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What to list; None: all of it. The command line has the same names and defaults."""

    step: ListStep | None = None
    """`images` for the state of the images themselves, else the command that met them."""
    status: str | None = None
    reason: str | None = None
    source: str | None = None
    """Name of a source."""
    limit: int = 20
    """Rows of each step; the counts are of all."""


@dataclass(frozen=True, slots=True)
class StatusCount:
    """How many rows of one step have one status and reason."""

    step: ListStep
    status: str
    reason: str | None
    by: str | None
    """Of images the source; the filter, generator or detector; None for files."""
    number: int


@dataclass(frozen=True, slots=True)
class ListedRow:
    """One image, file, decision, generation or detection."""

    step: ListStep
    status: str
    reason: str | None
    by: str | None
    what: str
    """Where the image or file lies; of a generation, the beginning of its prompt."""
    message: str | None
    sha256: str | None
    """Of the image, where there is one."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a query found."""

    counts: tuple[StatusCount, ...]
    rows: tuple[ListedRow, ...]


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


def listing(store: Store, query: ListQuery) -> Listing:
    """Counts by step, status and reason, and the first rows.

    Raises UsageError for an unknown step, status or source, naming those that there are.
    """
    if query.step is not None and query.step not in STEPS:
        raise UsageError(f"there is no step {query.step!r}; the steps are {', '.join(STEPS)}")
    steps = STEPS if query.step is None else (query.step,)
    statuses = dict.fromkeys(status for step in steps for status in STATUSES[step])
    if query.status is not None and query.status not in statuses:
        where = "" if query.step is None else f" of the step {query.step!r}"
        raise UsageError(f"there is no status {query.status!r}{where}; the statuses are {', '.join(statuses)}")
    if query.limit < 0:
        raise UsageError(f"limit must be at least 0, not {query.limit}")
    counts: list[StatusCount] = []
    rows: list[ListedRow] = []
    source: int | None = None
    with store.reading() as session:
        if query.source is not None:
            known = dict(session.execute(select(SourceRow.name, SourceRow.id).order_by(SourceRow.name)).all())
            if query.source not in known:
                raise UsageError(f"the dataset has no source {query.source!r}; the sources are {', '.join(known)}")
            source = known[query.source]
        for table in _tables():
            if query.step in (None, table.step):
                counts += table.counts(session, query, source)
                rows += table.rows(session, query, source) if query.limit else ()
    return Listing(tuple(counts), tuple(rows))


@dataclass(frozen=True, slots=True)
class _StepTable:
    """The rows of one step, as columns that all steps share."""

    step: ListStep
    bare: Select[Any]
    """The table alone, which is counted fast."""
    joined: Select[Any]
    """The same with what its rows show, and the source."""
    source_id: ColumnElement[Any]
    columns: tuple[ColumnElement[Any], ...]
    """Status, reason, by, what, message, sha256."""
    order: ColumnElement[Any]

    def counts(self, session: Session, query: ListQuery, source: int | None) -> list[StatusCount]:
        columns = self.columns[:3]
        chosen = self._chosen(self.bare if source is None else self.joined, query, source)
        grouped = chosen.with_only_columns(*columns, func.count(), maintain_column_froms=True)
        found = session.execute(grouped.group_by(*columns)).all()
        counts = [StatusCount(self.step, *row[:3], row[3]) for row in found]
        return sorted(counts, key=lambda one: (-one.number, one.status, one.reason or "", one.by or ""))

    def rows(self, session: Session, query: ListQuery, source: int | None) -> list[ListedRow]:
        chosen = self._chosen(self.joined, query, source)
        chosen = chosen.with_only_columns(*self.columns, maintain_column_froms=True)
        found = session.execute(chosen.order_by(self.order).limit(query.limit)).all()
        return [ListedRow(self.step, *row) for row in found]

    def _chosen(self, chosen: Select[Any], query: ListQuery, source: int | None) -> Select[Any]:
        if query.status is not None:
            chosen = chosen.where(self.columns[0] == query.status)
        if query.reason is not None:
            chosen = chosen.where(self.columns[1] == query.reason)
        if source is not None:
            chosen = chosen.where(self.source_id == source)
        return chosen


def _tables() -> Iterator[_StepTable]:
    # No bound values: PostgreSQL would not see that two of them group by the same.
    nothing: ColumnElement[Any] = cast(null(), String)
    i, f, d, g, t, s = ImageRow, FileRow, DecisionRow, GenerationRow, DetectionRow, DescriptionRow
    of_image = _c(i.source_id)
    images = select(i.id).join(SourceRow, SourceRow.id == i.source_id)
    about = (_c(i.status), _c(i.reason), _c(SourceRow.name), _c(i.path), nothing, _c(i.sha256))
    yield _StepTable("images", images, images, of_image, about, _c(i.id))

    files = select(f.id)
    about = (_c(f.status), _c(f.reason), nothing, _c(f.path), _c(f.message), nothing)
    yield _StepTable("collect", files, files, _c(f.source_id), about, _c(f.id))

    decisions = select(d.image_id).where(d.keep.is_(False))
    state = case((d.restored, _text("restored")), else_=_text("dropped"))
    about = (state, _c(d.reason), _c(d.filter), _c(i.path), _c(d.message), _c(i.sha256))
    yield _StepTable("filter", decisions, decisions.join(i, i.id == d.image_id), of_image, about, _c(d.image_id))

    generations = select(g.id)
    failed = case((g.status != _text("done"), g.status), else_=nothing)
    about = (_c(g.status), failed, _c(g.generator), func.substr(PromptRow.text, 1, _SHOWN), _c(g.message), nothing)
    joined = generations.join(PromptRow, PromptRow.id == g.prompt_id)
    yield _StepTable("generate", generations, joined, _c(PromptRow.source_id), about, _c(g.id))

    detections = select(t.id)
    about = (_c(t.status), _c(t.reason), _c(t.detector), _c(i.path), _c(t.message), _c(i.sha256))
    yield _StepTable("annotate", detections, detections.join(i, i.id == t.image_id), of_image, about, _c(t.id))

    descriptions = select(s.image_id)
    # Written out, as no bound value may stand here; both databases read JSON so.
    reason: ColumnElement[str] = literal_column("(descriptions.record ->> 'reason')", String)
    again: ColumnElement[str] = literal_column("(descriptions.record ->> 'again')", String)
    state = case((again.is_not(None), _text(AGAIN)), (s.text.is_(None), _text("failed")), else_=_text("ok"))
    about = (state, reason, _c(s.author), _c(i.path), _c(s.message), _c(i.sha256))
    yield _StepTable(
        "annotate", descriptions, descriptions.join(i, i.id == s.image_id), of_image, about, _c(s.image_id)
    )


def _text(word: str) -> ColumnElement[str]:
    return literal_column(f"'{word}'", String)


def _c(column: Any) -> ColumnElement[Any]:
    found: ColumnElement[Any] = column.expression
    return found
