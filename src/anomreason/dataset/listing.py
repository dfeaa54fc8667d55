"""What became of everything in a dataset: counts by status and reason, and the rows behind them.

for count in listing(store, ListQuery(status="dropped")).counts:
    print(count.step, count.reason, count.number)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, Select, String, case, cast, func, literal_column, null, select
from sqlalchemy.orm import Session

from anomreason.dataset.store import Store
from anomreason.dataset.tables import (
    DecisionRow,
    DescriptionRow,
    DetectionRow,
    FileRow,
    GenerationRow,
    ImageRow,
    ImageState,
    PromptRow,
    SourceRow,
)
from anomreason.errors import UsageError

ListStep = Literal["images", "collect", "filter", "generate", "annotate"]
STEPS: tuple[ListStep, ...] = get_args(ListStep)
_PROMPT_SHOWN = 80
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
    """Counts by step, status and reason, and the first rows. Raises UsageError for an unknown step or source."""
    if query.step is not None and query.step not in STEPS:
        raise UsageError(f"there is no step {query.step!r}; the steps are {', '.join(STEPS)}")
    if query.limit < 0:
        raise UsageError(f"limit must be at least 0, not {query.limit}")
    counts: list[StatusCount] = []
    rows: list[ListedRow] = []
    with store.reading() as session:
        if query.source is not None:
            known = list(session.scalars(select(SourceRow.name).order_by(SourceRow.name)))
            if query.source not in known:
                raise UsageError(f"the dataset has no source {query.source!r}; the sources are {', '.join(known)}")
        for table in _tables(by_source=query.source is not None):
            if query.step in (None, table.step):
                counts += table.counts(session, query)
                rows += table.rows(session, query) if query.limit else ()
    return Listing(tuple(counts), tuple(rows))


@dataclass(frozen=True, slots=True)
class _StepTable:
    """The rows of one step, as columns that all steps share."""

    step: ListStep
    joined: Select[Any]
    """The tables, joined, without columns that count."""
    status: ColumnElement[Any]
    reason: ColumnElement[Any]
    by: ColumnElement[Any]
    what: ColumnElement[Any]
    message: ColumnElement[Any]
    sha256: ColumnElement[Any]
    order: ColumnElement[Any]

    def counts(self, session: Session, query: ListQuery) -> list[StatusCount]:
        columns = (self.status, self.reason, self.by)
        grouped = self._chosen(query).with_only_columns(*columns, func.count(), maintain_column_froms=True)
        found = session.execute(grouped.group_by(*columns)).all()
        counts = [StatusCount(self.step, *row) for row in found]
        return sorted(counts, key=lambda one: (-one.number, one.status, one.reason or "", one.by or ""))

    def rows(self, session: Session, query: ListQuery) -> list[ListedRow]:
        columns = (self.status, self.reason, self.by, self.what, self.message, self.sha256)
        chosen = self._chosen(query).with_only_columns(*columns, maintain_column_froms=True)
        found = session.execute(chosen.order_by(self.order).limit(query.limit)).all()
        return [ListedRow(self.step, *row) for row in found]

    def _chosen(self, query: ListQuery) -> Select[Any]:
        chosen = self.joined
        if query.status is not None:
            chosen = chosen.where(self.status == query.status)
        if query.reason is not None:
            chosen = chosen.where(self.reason == query.reason)
        if query.source is not None:
            chosen = chosen.where(SourceRow.name == query.source)
        return chosen


def _tables(by_source: bool) -> list[_StepTable]:
    """by_source: whether the sources must be joined."""
    # No bound values: PostgreSQL would not see that two of them group by the same.
    nothing: ColumnElement[Any] = cast(null(), String)
    images = select(ImageRow.id).join(SourceRow, SourceRow.id == ImageRow.source_id)
    files = select(FileRow.id)
    decisions = select(DecisionRow.image_id).join(ImageRow, ImageRow.id == DecisionRow.image_id)
    decisions = decisions.where(DecisionRow.keep.is_(False))
    generations = select(GenerationRow.id).join(PromptRow, PromptRow.id == GenerationRow.prompt_id)
    detections = select(DetectionRow.id).join(ImageRow, ImageRow.id == DetectionRow.image_id)
    descriptions = select(DescriptionRow.image_id).join(ImageRow, ImageRow.id == DescriptionRow.image_id)
    if by_source:
        files = files.join(SourceRow, SourceRow.id == FileRow.source_id)
        generations = generations.join(SourceRow, SourceRow.id == PromptRow.source_id)
        decisions, detections, descriptions = (
            one.join(SourceRow, SourceRow.id == ImageRow.source_id) for one in (decisions, detections, descriptions)
        )
    restored = case((DecisionRow.restored, _text("restored")), else_=_text("dropped"))
    failed = case((GenerationRow.status != _text("done"), GenerationRow.status), else_=nothing)
    described = case((DescriptionRow.text.is_(None), _text("failed")), else_=_text("ok"))
    prompt = func.substr(PromptRow.text, 1, _PROMPT_SHOWN)
    path, sha, i, f = _c(ImageRow.path), _c(ImageRow.sha256), ImageRow, FileRow
    d, g, t, s = DecisionRow, GenerationRow, DetectionRow, DescriptionRow
    return [
        _StepTable("images", images, _c(i.status), _c(i.reason), _c(SourceRow.name), path, nothing, sha, _c(i.id)),
        _StepTable("collect", files, _c(f.status), _c(f.reason), nothing, _c(f.path), _c(f.message), nothing, _c(f.id)),
        _StepTable("filter", decisions, restored, _c(d.reason), _c(d.filter), path, _c(d.message), sha, _c(d.image_id)),
        _StepTable(
            "generate", generations, _c(g.status), failed, _c(g.generator), prompt, _c(g.message), nothing, _c(g.id)
        ),
        _StepTable(
            "annotate", detections, _c(t.status), _c(t.reason), _c(t.detector), path, _c(t.message), sha, _c(t.id)
        ),
        _StepTable(
            "annotate", descriptions, described, nothing, _c(s.author), path, _c(s.message), sha, _c(s.image_id)
        ),
    ]


def _text(word: str) -> ColumnElement[str]:
    return literal_column(f"'{word}'", String)


def _c(column: Any) -> ColumnElement[Any]:
    found: ColumnElement[Any] = column.expression
    return found
