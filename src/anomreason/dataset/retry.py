"""Tries again what failed for one reason: unreadable files at once, the rest with the next run of its command.

with anomreason.dataset.open("data") as store:
    print(retry(store, "damaged").files_collected)
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, update

from anomreason.dataset.collect import CollectOptions, collect
from anomreason.dataset.store import BATCH, Store
from anomreason.dataset.tables import AGAIN, CommandRow, DescriptionRow, DetectionRow, FileRow, FileState, GenerationRow
from anomreason.errors import UsageError


@dataclass(frozen=True, slots=True)
class RetryReport:
    """What was tried again, and what is marked for it."""

    files: int
    """Files and rows that were unreadable for this reason."""
    files_collected: int
    """Of those, the ones that are collected by now, or are known to be duplicates."""
    files_unreadable: dict[str, int]
    """Of those, the ones that are still unreadable, by reason."""
    others: dict[str, int]
    """Other files of the same inputs that were new, or had changed on disk: their number by what became of them."""
    generations: int
    """Marked: the next `generate` with the same recipe makes them."""
    detections: int
    """Marked: the next `annotate` of the same detector makes them."""
    descriptions: int
    """Marked: the next `annotate --describe` of the same model writes them."""
    problems: tuple[str, ...]
    """Inputs that could not be read again."""


def retry(store: Store, reason: str, progress: Callable[[int, int], None] = lambda done, total: None) -> RetryReport:
    """Try again what failed for one reason, as `listing` names it.

    Files are looked at by the `collect` that met them, from the inputs that it had; it collects what else is new there,
    too. Raises UsageError where nothing
    failed for this reason, naming the reasons that there are.
    """
    unreadable = (FileRow.status == FileState.UNREADABLE) & (FileRow.reason == reason)
    annotated = select(CommandRow.id).where(CommandRow.name == "annotate")
    failed = (DetectionRow.status == "failed") & (DetectionRow.reason == reason)
    with store.reading() as session:
        files = list(session.scalars(select(FileRow.id).where(unreadable)))
        commands = list(session.scalars(select(FileRow.command_id).where(unreadable).distinct()))
        settings = list(session.scalars(select(CommandRow.settings).where(CommandRow.id.in_(commands))))
    with store.command("retry", {"reason": reason}) as command:
        with store.writing() as session:
            # Nothing on disk has no size: collect takes such a file for one that changed.
            session.execute(update(FileRow).where(unreadable).values(size=None, mtime=None))
            made = update(GenerationRow).where(
                GenerationRow.status == reason, GenerationRow.status.in_(("refused", "blank"))
            )
            generations = session.execute(made.values(status="failed")).rowcount  # type: ignore[attr-defined]
            again = update(DetectionRow).where(failed, DetectionRow.command_id.in_(annotated))
            detections = session.execute(again.values(status=AGAIN)).rowcount  # type: ignore[attr-defined]
            undescribed = DescriptionRow.text.is_(None) & DescriptionRow.command_id.in_(annotated)
            descriptions = 0
            for row in session.scalars(select(DescriptionRow).where(undescribed)):
                if row.record and row.record["reason"] == reason:
                    row.record = row.record | {"again": True}
                    descriptions += 1
        if not (files or generations or detections or descriptions):
            raise UsageError(f"nothing failed for the reason {reason!r}{_known(store)}")
        problems: list[str] = []
        for one in {json.dumps(s, sort_keys=True): s for s in settings}.values():
            inputs, options = _call(one)
            try:
                problems += collect(store, inputs, options, progress).problems
            except UsageError as error:
                problems.append(str(error))
        still = _still_unreadable(store, files)
        report = RetryReport(
            files=len(files),
            files_collected=len(files) - sum(still.values()),
            files_unreadable=still,
            others=_others(store, command.id, files),
            generations=generations,
            detections=detections,
            descriptions=descriptions,
            problems=tuple(problems),
        )
        command.report.update(asdict(report))
    return report


def _call(settings: Mapping[str, Any]) -> tuple[list[str], CollectOptions]:
    """Inputs and options of an earlier `collect`, less annotations and splits, which follow the images."""
    kept = {key: settings[key] for key in ("source", "kind", "generator", "licence", "terms", "copy")}
    return list(settings["inputs"]), CollectOptions(prompts=tuple(map(Path, settings["prompts"])), **kept)


def _still_unreadable(store: Store, files: list[int]) -> dict[str, int]:
    still: Counter[str] = Counter()
    with store.reading() as session:
        for start in range(0, len(files), BATCH):
            query = select(FileRow.reason, func.count()).group_by(FileRow.reason)
            query = query.where(FileRow.id.in_(files[start : start + BATCH]), FileRow.status == FileState.UNREADABLE)
            for reason, count in session.execute(query):
                still[str(reason)] += count
    return dict(still)


def _others(store: Store, retry: int, files: list[int]) -> dict[str, int]:
    """Files that were written down since the command `retry` began, but for those that it is about, by status."""
    asked = set(files)
    since = select(FileRow.id, FileRow.status).where(
        FileRow.command_id > retry, func.coalesce(FileRow.reason, "") != "list"
    )
    with store.reading() as session:
        return dict(Counter(status for id, status in session.execute(since) if id not in asked))


def _known(store: Store) -> str:
    with store.reading() as session:
        found = set(session.scalars(select(FileRow.reason).where(FileRow.status == FileState.UNREADABLE).distinct()))
        found |= set(session.scalars(select(DetectionRow.reason).where(DetectionRow.status == "failed").distinct()))
        records = session.scalars(select(DescriptionRow.record).where(DescriptionRow.text.is_(None)))
        found |= {str(record["reason"]) for record in records if record}
        states = ("refused", "blank")
        made = select(GenerationRow.status).where(GenerationRow.status.in_(states)).distinct()
        found |= set(session.scalars(made))
    return f"; the reasons are {', '.join(sorted(filter(None, found)))}" if found else ": nothing failed at all"
