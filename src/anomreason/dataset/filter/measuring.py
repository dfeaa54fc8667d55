"""Measures images once and keeps what was measured in the store, so that no image is opened twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from PIL import Image
from sqlalchemy import select

from anomreason.dataset.filter.pool import ImagePool, Ints, Mask, batches
from anomreason.dataset.store import Store, add_new
from anomreason.dataset.tables import ImageRow, MeasureRow
from anomreason.errors import UnreadableImage, UnreadableReason, UsageError
from anomreason.images import load_pixels

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Progress = Callable[[int, int], None]
PIXELS = "pixels 1"
"""Name of what `pixels.measure` gives; another number when its record changes, so that images are measured anew."""
_BATCH = 200
"""Images of one transaction, and opened at a time."""
_WORKERS_BATCH = 32
"""Images that a worker process gets at a time."""


@dataclass(frozen=True)
class RuleFailure:
    """Why a rule could not look at an image."""

    reason: str
    """`unreadable`, `changed` (the file is another one now), `failed` (a function raised) or `crashed` (it ended the
    process that looked at it)."""
    message: str
    cause: UnreadableReason | None = None
    """Of one that is unreadable."""


Failures = dict[int, RuleFailure]
"""By place in the pool."""


class CollectedFile(NamedTuple):
    """An image to look at."""

    place: int
    """In the pool."""
    path: Path
    sha256: str
    """Of the file that was collected."""


class ImageTask(Protocol[R_co]):
    """Looks at images, with so many threads, and gives a result or a failure for each. It can be pickled."""

    def __call__(self, threads: int, files: Sequence[CollectedFile]) -> Sequence[R_co | RuleFailure]: ...


class ImageWorkers(Protocol):
    """Runs tasks in other processes; `anomreason.spread.mapping` has them."""

    def map(
        self,
        function: Callable[[Sequence[CollectedFile]], Sequence[R]],
        batches: Iterable[Sequence[CollectedFile]],
        lost: Callable[[CollectedFile, str], R],
    ) -> Iterator[tuple[Sequence[CollectedFile], Sequence[R], str]]:
        """(files, results, machine) of each batch, in any order; lost: the result of an image that ends processes."""


@dataclass(frozen=True)
class Measuring:
    """What is measured, and how."""

    name: str
    """As the store calls it."""
    function: Callable[[Path, Image.Image], Mapping[str, Any]]
    """Gives the record. Only a FunctionRaised of it is the image's fault. It can be pickled."""
    threads: int | None = None
    """None: as many as there are cores."""


class FunctionRaised(Exception):
    """A function that measures images raised an exception."""


def open_image(path: Path, sha256: str) -> Image.Image | RuleFailure:
    """The pixels of the file that was collected."""
    try:
        image, digest = load_pixels(path)
    except UnreadableImage as error:
        return RuleFailure("unreadable", str(error), error.reason)
    if digest != sha256:
        return RuleFailure("changed", f"{str(path)!r} is another file than the one collected; collect it again")
    return image


def measure_images(
    function: Callable[[Path, Image.Image], Mapping[str, Any]], threads: int, files: Sequence[CollectedFile]
) -> list[Mapping[str, Any] | RuleFailure]:
    """The records that a function gives for images."""

    def one(file: CollectedFile) -> Mapping[str, Any] | RuleFailure:
        image = open_image(file.path, file.sha256)
        if isinstance(image, RuleFailure):
            return image
        try:
            return function(file.path, image)
        except FunctionRaised as error:
            return RuleFailure("failed", str(error))

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, files))


class ImageMeasurer:
    """Measures what the store lacks, and reads what it has."""

    def __init__(
        self,
        store: Store,
        pool: ImagePool,
        command: int,
        progress: Progress,
        workers: ImageWorkers | None = None,
    ) -> None:
        """workers: that look at the images; None: this process does."""
        self.store, self.pool, self.command, self.progress, self.workers = store, pool, command, progress, workers
        self.opened = 0
        """Images opened so far, each as often as it was."""
        self._failures: dict[str, Failures] = {}

    def measure(self, what: Measuring, looked: Mask) -> Failures:
        """Measure those of `looked` that the store has no record of, a batch a transaction; gives all that failed."""
        failures = self._failures.setdefault(what.name, {})
        missing = looked & ~self._measured(what.name)
        missing[list(failures)] = False
        task: ImageTask[Mapping[str, Any]] = partial(measure_images, what.function)
        batch = _WORKERS_BATCH if self.workers else _BATCH
        for records in self.results(task, np.flatnonzero(missing), failures, batch, what.threads):
            self._put(what.name, records)
        return failures

    def results(
        self, task: ImageTask[R], left: Ints, failures: Failures, batch: int, threads: int | None = None
    ) -> Iterator[list[tuple[CollectedFile, R]]]:
        """What a task gives for these images, a batch at a time in any order; those that failed go to `failures`.

        threads: of this process, where there are no workers; None: as many as there are cores. Raises UsageError when
        a worker does not see images that this process sees.
        """
        some = (self.files(places) for places in batches(left, batch))
        found: Iterable[tuple[Sequence[CollectedFile], Sequence[R | RuleFailure], str]]
        if self.workers is None:
            found = ((files, task(threads or os.cpu_count() or 1, files), "") for files in some)
        else:
            found = self.workers.map(partial(task, 1), some, _crashed)
        done = 0
        if len(left):
            self.progress(0, len(left))
        for files, results, machine in found:
            good: list[tuple[CollectedFile, R]] = []
            for file, result in zip(files, results, strict=True):
                if not isinstance(result, RuleFailure):
                    good.append((file, result))
                    continue
                if machine:
                    _check_seen(file, result, machine)
                failures[file.place] = result
            yield good
            self.opened += len(files)
            done += len(files)
            self.progress(done, len(left))

    def files(self, batch: Ints) -> list[CollectedFile]:
        """Where the images are."""
        ids = self.pool.ids[batch].tolist()
        with self.store.reading() as session:
            paths = dict(session.execute(select(ImageRow.id, ImageRow.path).where(ImageRow.id.in_(ids))).all())
        return [
            CollectedFile(int(place), self.store.path(paths[id]).absolute(), self.pool.key(place))
            for place, id in zip(batch, ids, strict=True)
        ]

    def records(self, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """(place, record) of every image measured so."""
        with self.store.reading() as session:
            query = select(MeasureRow.image_id, MeasureRow.record).where(MeasureRow.name == name)
            for rows in session.execute(query.execution_options(yield_per=2000)).partitions():
                for place, (_, record) in zip(self.pool.places([id for id, _ in rows]), rows, strict=True):
                    yield int(place), record

    def _measured(self, name: str) -> Mask:
        mask = np.zeros(len(self.pool), bool)
        with self.store.reading() as session:
            ids = session.scalars(select(MeasureRow.image_id).where(MeasureRow.name == name))
            mask[self.pool.places(list(ids))] = True
        return mask

    def _put(self, name: str, records: list[tuple[CollectedFile, Mapping[str, Any]]]) -> None:
        ids = self.pool.ids
        rows = [
            {"image_id": int(ids[file.place]), "name": name, "record": dict(record), "command_id": self.command}
            for file, record in records
        ]
        with self.store.writing() as session:
            add_new(session, MeasureRow, rows)


def _crashed(file: CollectedFile, how: str) -> RuleFailure:
    return RuleFailure("crashed", f"{str(file.path)!r} {how}")


def _check_seen(file: CollectedFile, failure: RuleFailure, machine: str) -> None:
    """Raises UsageError for an image that only a worker cannot read, which says nothing of the image."""
    if failure.cause in ("missing", "forbidden", "unsupported"):
        here = open_image(file.path, file.sha256)
        if not isinstance(here, RuleFailure) or here.cause != failure.cause:
            raise UsageError(
                f"the machine {machine} cannot read what this one can: {failure.message}. Put dataset and images on a "
                "file system that all machines see under the same path, and install the same optional parts on all"
            )
