"""Collects images and prompts into a dataset in work: the main path of `dataset collect`.

Entries are read one after the other, opened a batch at a time by several threads, and written a batch a transaction;
the same command again passes over the files that are as they were.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

from sqlalchemy import select

from anomreason import archives, buckets
from anomreason.buckets import is_address, local_or_address
from anomreason.dataset.collect.annotations import JoinedFile, add_annotations, add_splits
from anomreason.dataset.collect.entries import (
    IMAGES,
    ImageEntry,
    ImageSource,
    PromptEntry,
    Remark,
    SourceKind,
    SourceRule,
)
from anomreason.dataset.collect.inputs import Inputs, check_input, count_entries
from anomreason.dataset.collect.looking import SeenImage, is_lost, look
from anomreason.dataset.collect.prompts import check_prompts, count_prompts, read_prompts
from anomreason.dataset.collect.recording import CollectTally, Recorder, Seen
from anomreason.dataset.store import Store, storable
from anomreason.dataset.tables import ImageRow, SourceRow
from anomreason.detection import HOPELESS
from anomreason.errors import UsageError
from anomreason.files import remove_drafts
from anomreason.sources.annotations import key_of, read_source
from anomreason.sources.manifests import read_split

AnyEntry = TypeVar("AnyEntry", ImageEntry, PromptEntry)

_BATCH, _BATCH_BYTES = 256, 1 << 26
"""Entries of one transaction, and bytes of images that are held in memory meanwhile."""
_PROMPT_BATCH = 5_000
_FETCHING = 16
"""Images that are fetched at a time, where some lie in buckets."""


@dataclass(frozen=True, slots=True)
class CollectOptions:
    """What to collect beside the inputs, and what to say of it. The command line has the same names and defaults."""

    prompts: tuple[Path, ...] = ()
    """Lists of prompts alone."""
    annotations: tuple[str, ...] = ()
    """PATH or NAME=PATH: annotations of the images, in any form that `eval` reads."""
    splits: tuple[Path, ...] = ()
    """Published splits: JSON objects of lists of image names."""
    source: str | None = None
    """Source of all images; None: as the rows say, else the name of the folder or file."""
    kind: SourceKind | None = None
    """None: as rows say, or the folders 0_real and 1_fake."""
    generator: str | None = None
    licence: str | None = None
    terms: str | None = None
    copy: bool = False
    """Copy the images into the dataset's folder, instead of referring to where they lie."""


@dataclass(frozen=True, slots=True)
class CollectReport:
    """What was collected, passed over and refused."""

    images: int
    """New in the dataset."""
    duplicates: int
    """Files that hold byte for byte an image that another file brought."""
    known: int
    """Files that were passed over, since they are as they were."""
    unreadable: dict[str, int]
    """Files and rows that gave no image or prompt, by reason."""
    remarks: dict[str, int]
    """Images that were collected although something is wrong with their rows, by reason."""
    without_row: dict[str, int]
    """Images of folders with metadata that have no row in it, by that metadata; they are collected all the same."""
    prompts: int
    """New in the dataset."""
    prompts_known: int
    """Prompts of lists that were there already, or stood twice."""
    candidates: int
    """Known anomalies of scenes; those of annotation files are counted there."""
    annotations: tuple[JoinedFile, ...]
    splits: tuple[JoinedFile, ...]
    problems: tuple[str, ...]
    """Inputs that could not be read, or not to their end."""
    passed_over: tuple[str, ...]
    """What a search of folders left out."""


def collect(
    store: Store,
    inputs: Sequence[str | Path],
    options: CollectOptions = CollectOptions(),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CollectReport:
    """Collect images and prompts. The same call again continues, and passes over what it knows.

    An input that turns out damaged is reported, and the others are collected. Raises UsageError, before anything is
    written, where an input does not exist or an option cannot be used; StorageError when the disk is full.
    """
    check(inputs, options)
    given = [str(entry) for entry in inputs]
    for path in options.splits:
        read_split(path)
    annotations = [read_source(one) for one in options.annotations]
    stated = (options.source, options.generator, options.licence, options.terms)
    source, generator, licence, terms = (text and storable(text) for text in stated)
    rule = SourceRule(source, options.kind, generator, licence, terms)
    _check_source(store, rule)
    with store.command("collect", _settings(given, options)) as command:
        for folder in (store.folder / IMAGES).glob("*"):
            remove_drafts(folder)
        job = _Collecting(store, command.id, rule, options.copy, progress)
        job.read_anyway(
            [*map(local_or_address, given), *options.prompts, *options.splits, *(one.path for one in annotations)]
        )
        job.total = sum(map(_counted(count_entries), given)) + sum(map(_counted(count_prompts), options.prompts))
        named = bool(options.annotations or options.splits)
        threads = _FETCHING if any(map(is_address, given)) else os.cpu_count()
        with ThreadPoolExecutor(threads, "look") as pool:
            try:
                for entry in given:
                    job.images(entry, pool, named)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        for path in options.prompts:
            job.prompts(path)
        found = job.names if given else _all_names(store) if named else {}
        names = {name: image for name, image in found.items() if image}
        joined = tuple(add_annotations(store, command.id, one, names) for one in annotations)
        splits = tuple(add_splits(store, command.id, path, names) for path in options.splits)
        report = job.report(joined, splits)
        command.report.update(asdict(report))
    return report


def check(inputs: Sequence[str | Path], options: CollectOptions) -> None:
    """Raises UsageError for inputs that do not exist and options that cannot be used; needs no store."""
    if not (inputs or options.prompts or options.annotations or options.splits):
        raise UsageError("nothing to collect: give images, folders, globs, tables or archives, or --prompts FILE")
    if options.kind not in (None, *get_args(SourceKind)):
        raise UsageError(f"there is no kind {options.kind!r}; the kinds are {', '.join(get_args(SourceKind))}")
    buckets.forget()
    for entry in inputs:
        check_input(str(entry))
    for path in options.prompts:
        check_prompts(path)


def _settings(inputs: Sequence[str], options: CollectOptions) -> dict[str, Any]:
    """As they are recorded: `retry` reads them from any folder."""
    absolute = {
        "inputs": [one if is_address(one) else os.path.abspath(one) for one in inputs],
        "prompts": list(map(os.path.abspath, options.prompts)),
    }
    return {**asdict(options), **absolute}


class _Collecting:
    """One command at work."""

    def __init__(
        self, store: Store, command: int, rule: SourceRule, copy: bool, progress: Callable[[int, int], None]
    ) -> None:
        self._store, self._rule, self._copy, self._progress = store, rule, copy, progress
        self._tally = CollectTally()
        self._recorder = Recorder(store, command, self._tally)
        self._inputs = Inputs(store.place, rule, self._recorder.all_known)
        self._problems: list[str] = []
        self._done = 0
        self._losses = 0
        """Consecutive images that their bucket did not give."""
        self._lost: Remark | None = None
        """Why the last one was not."""
        self.total = 0
        """About how many entries there are."""
        self.names: dict[str, int] = {}
        """Ids of this command's images by normalised name; 0: several images have it."""

    def read_anyway(self, files: Iterable[Path]) -> None:
        """Files that this command reads, whatever it finds beside images."""
        self._inputs.given = frozenset(map(self._store.place, files))

    def images(self, given: str, pool: ThreadPoolExecutor, named: bool) -> None:
        """Collect one input. named: keep the names of its images."""

        def look_at(entries: list[ImageEntry]) -> Seen:
            seen = {entry.place: one for entry, one in zip(entries, pool.map(self._look, entries), strict=True)}
            if self._lost is not None and self._losses >= HOPELESS:
                raise UsageError(f"{HOPELESS} consecutive images were not to be had. {self._lost.message}")
            return seen

        try:
            for batch in _batches(self._inputs.entries(given), _BATCH):
                ids = self._recorder.images(batch, look_at)
                for entry in batch if named else ():
                    image, key = ids.get(entry.place), key_of(entry.name)
                    if image is not None and self.names.setdefault(key, image) != image:
                        self.names[key] = 0
                self._step(len(batch))
        except UsageError as error:
            self._problems.append(str(error))
        for place, mtime in self._inputs.whole:
            self._recorder.repaired(place, mtime)
        self._inputs.whole.clear()

    def _look(self, entry: ImageEntry) -> SeenImage | Remark:
        if self._lost is not None and self._losses >= HOPELESS:
            return self._lost
        seen = look(entry, self._store.folder, self._copy)
        if isinstance(seen, Remark) and is_lost(entry, seen):
            self._lost, self._losses = seen, self._losses + 1
        else:
            self._losses = 0
        return seen

    def prompts(self, path: Path) -> None:
        """Collect one list of prompts, unless it is as it was; when it turns out to be damaged, what was read stays."""
        place, rule, stat = storable(self._store.place(path)), self._rule, archives.stat(path) or (None, None)
        if self._recorder.is_list_read(place, *stat):
            self._tally.known += 1
            return
        source = rule.name and ImageSource(rule.name, rule.kind or "unknown", rule.generator, rule.licence, rule.terms)
        entry = ImageEntry(place, place, path, *stat)
        try:
            for batch in _batches(read_prompts(path, place), _PROMPT_BATCH):
                self._recorder.prompts(batch, source or None)
                self._step(len(batch))
        except UsageError as error:
            self._problems.append(str(error))
            wrong = replace(entry, unreadable=Remark("bad_input", storable(str(error))))
            self._recorder.images([wrong], lambda fresh: {})
        else:
            self._recorder.list_read(entry)

    def _step(self, done: int) -> None:
        self._done += done
        self._progress(self._done, max(self.total, self._done))

    def report(self, annotations: tuple[JoinedFile, ...], splits: tuple[JoinedFile, ...]) -> CollectReport:
        tally = self._tally
        return CollectReport(
            images=tally.images,
            duplicates=tally.duplicates,
            known=tally.known + self._inputs.known,
            unreadable=dict(tally.unreadable.most_common()),
            remarks=dict(tally.remarks.most_common()),
            without_row=dict(self._inputs.without_row),
            prompts=tally.prompts,
            prompts_known=tally.prompts_known,
            candidates=tally.candidates,
            annotations=annotations,
            splits=splits,
            problems=(*self._problems, *self._inputs.problems),
            passed_over=self._inputs.passed_over.sentences(),
        )


def _batches(entries: Iterable[AnyEntry], most: int) -> Iterator[list[AnyEntry]]:
    """Where the entries end with an error, what came before it is a batch."""
    batch: list[AnyEntry] = []
    size = 0
    try:
        for entry in entries:
            batch.append(entry)
            size += len(entry.data or b"") if isinstance(entry, ImageEntry) else 0
            if len(batch) == most or size >= _BATCH_BYTES:
                yield batch
                batch, size = [], 0
    except UsageError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _counted(count: Callable[[Any], int]) -> Callable[[Any], int]:
    """The same count, 0 for what cannot be read: reading it will say why."""

    def counted(of: Any) -> int:
        try:
            return count(of)
        except (UsageError, OSError):
            return 0

    return counted


def _check_source(store: Store, rule: SourceRule) -> None:
    """Raises UsageError where the store knows the source otherwise."""
    if rule.name is None:
        return
    with store.reading() as session:
        row = session.scalar(select(SourceRow).where(SourceRow.name == rule.name))
    for key in ("kind", "generator", "licence", "terms"):
        new, old = getattr(rule, key), getattr(row, key, None)
        if new is not None and old not in (None, "unknown", new):
            raise UsageError(f"the source {rule.name!r} has the {key} {old!r}, not {new!r}; give another --source")


def _all_names(store: Store) -> dict[str, int]:
    names: dict[str, int] = {}
    with store.reading() as session:
        for name, image in session.execute(select(ImageRow.name, ImageRow.id).execution_options(yield_per=1000)):
            names[key_of(name)] = 0 if key_of(name) in names else image
    return names
