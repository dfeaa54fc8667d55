"""Measures images once and keeps what was measured in the store, so that no image is opened twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy import select

from anomreason.dataset.filter.pool import ImagePool, Ints, Mask, batches
from anomreason.dataset.store import Store, add_new
from anomreason.dataset.tables import ImageRow, MeasureRow
from anomreason.errors import UnreadableImage
from anomreason.images import load_pixels

Progress = Callable[[int, int], None]
PIXELS = "pixels 1"
"""Name of what `pixels.measure` gives; another number when its record changes, so that images are measured anew."""
_BATCH = 200
"""Images of one transaction."""


@dataclass(frozen=True)
class RuleFailure:
    """Why a rule could not look at an image."""

    reason: str
    """`unreadable`, `changed` (the file is another one now) or `failed` (a function raised)."""
    message: str


Failures = dict[int, RuleFailure]
"""By place in the pool."""


@dataclass(frozen=True)
class Measuring:
    """What is measured, and how."""

    name: str
    """As the store calls it."""
    function: Callable[[Path, Image.Image], Mapping[str, Any]]
    """Gives the record. Only a FunctionRaised of it is the image's fault."""
    threads: int | None = None
    """None: as many as there are cores."""


class FunctionRaised(Exception):
    """A function that measures images raised an exception."""


def open_image(path: Path, sha256: str) -> Image.Image | RuleFailure:
    """The pixels of the file that was collected."""
    try:
        image, digest = load_pixels(path)
    except UnreadableImage as error:
        return RuleFailure("unreadable", str(error))
    if digest != sha256:
        return RuleFailure("changed", f"{str(path)!r} is another file than the one collected; collect it again")
    return image


class ImageMeasurer:
    """Measures what the store lacks, and reads what it has."""

    def __init__(self, store: Store, pool: ImagePool, command: int, progress: Progress) -> None:
        self.store, self.pool, self.command, self.progress = store, pool, command, progress
        self.opened = 0
        """Images opened so far, each as often as it was."""
        self._failures: dict[str, Failures] = {}

    def measure(self, what: Measuring, looked: Mask) -> Failures:
        """Measure those of `looked` that the store has no record of, a batch a transaction; gives all that failed."""
        failures = self._failures.setdefault(what.name, {})
        missing = looked & ~self._measured(what.name)
        missing[list(failures)] = False
        left = np.flatnonzero(missing)

        def one(job: tuple[int, Path, str]) -> Mapping[str, Any] | RuleFailure:
            image = open_image(*job[1:])
            if isinstance(image, RuleFailure):
                return image
            try:
                return what.function(job[1], image)
            except FunctionRaised as error:
                return RuleFailure("failed", str(error))

        with ThreadPoolExecutor(what.threads or os.cpu_count()) as threads:
            for done, batch in enumerate(batches(left, _BATCH)):
                self.progress(done * _BATCH, len(left))
                jobs = self.files(batch)
                found = list(threads.map(one, jobs))
                failures.update({job[0]: f for job, f in zip(jobs, found, strict=True) if isinstance(f, RuleFailure)})
                records = [(job[0], r) for job, r in zip(jobs, found, strict=True) if not isinstance(r, RuleFailure)]
                self._put(what.name, records)
                self.opened += len(jobs)
        if len(left):
            self.progress(len(left), len(left))
        return failures

    def files(self, batch: Ints) -> list[tuple[int, Path, str]]:
        """(place, path, sha256) of each image."""
        ids = self.pool.ids[batch].tolist()
        with self.store.reading() as session:
            paths = dict(session.execute(select(ImageRow.id, ImageRow.path).where(ImageRow.id.in_(ids))).all())
        return [
            (int(place), self.store.path(paths[id]), self.pool.key(place)) for place, id in zip(batch, ids, strict=True)
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

    def _put(self, name: str, records: list[tuple[int, Mapping[str, Any]]]) -> None:
        ids = self.pool.ids
        rows = [
            {"image_id": int(ids[place]), "name": name, "record": dict(record), "command_id": self.command}
            for place, record in records
        ]
        with self.store.writing() as session:
            add_new(session, MeasureRow, rows)
