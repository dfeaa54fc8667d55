"""Looks at the files of a set once: what they are, and which of them show the same image.

records = inspect([Path("photos/1.jpg")], Path("set/files.jsonl"))
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from anomreason.anomaly import Record
from anomreason.dataset.filter.duplicates import Reach, cluster_hashes
from anomreason.dataset.filter.pixels import measure, pixel_table
from anomreason.dataset.filter.rules import NearDuplicatesRule
from anomreason.dataset.image_facts import image_facts
from anomreason.errors import UnreadableImage
from anomreason.files import Appender, read_lines
from anomreason.images import inspect_image, load_pixels

_BATCH = 64


class FileRecord(Record):
    """One file, as it was when it was looked at."""

    path: str
    """Absolute."""
    size: int
    """Bytes."""
    mtime: float
    failure: str | None = None
    """Why it cannot be read; the rest is empty then."""
    sha256: str = ""
    width: int = 0
    height: int = 0
    format: str = ""
    facts: dict[str, Any] = Field(default_factory=dict)
    """As `image_facts` gives them."""
    pixels: str = ""
    """Hash of size, mode and pixels."""
    measures: dict[str, Any] = Field(default_factory=dict)
    """As `measure` gives them."""


def inspect(
    paths: Sequence[Path], cache: Path, progress: Callable[[int, int], None] = lambda done, total: None
) -> list[FileRecord]:
    """A record a file, in their order; what the cache knows of files that have not changed is taken from there."""
    found = {record.path: record for record in _cached(cache)}
    distinct = dict.fromkeys(map(str, paths))
    left = [Path(path) for path in distinct if path not in found or not _unchanged(found[path])]
    total, done = len(left), 0
    with closing(Appender(cache)) as file, ThreadPoolExecutor(os.cpu_count()) as threads:
        for start in range(0, total, _BATCH):
            for record in threads.map(_inspected, left[start : start + _BATCH]):
                file.append(record.model_dump_json(exclude_defaults=True))
                found[record.path] = record
                done += 1
                progress(done, total)
    return [found[str(path)] for path in paths]


def _cached(cache: Path) -> Iterator[FileRecord]:
    for _, line in read_lines(cache, appended=True):
        yield FileRecord.model_validate(line)


def _unchanged(record: FileRecord) -> bool:
    try:
        status = os.stat(record.path)
    except OSError:
        return False
    return (status.st_size, status.st_mtime) == (record.size, record.mtime)


def _inspected(path: Path) -> FileRecord:
    size, mtime = 0, 0.0
    try:
        status = path.stat()
        size, mtime = status.st_size, status.st_mtime
        facts = image_facts(inspect_image(path))
        measures = measure(load_pixels(path)[0])
    except (UnreadableImage, OSError) as error:
        return FileRecord(path=str(path), size=size, mtime=mtime, failure=str(error))
    return FileRecord(
        path=str(path),
        size=size,
        mtime=mtime,
        sha256=facts["sha256"],
        width=facts["width"],
        height=facts["height"],
        format=facts["format"],
        facts=facts["facts"],
        pixels=measures.pixels,
        measures=measures.model_dump(),
    )


def near_duplicates(records: Sequence[FileRecord]) -> npt.NDArray[np.int64]:
    """(images,): place of the image that each one is a near-duplicate of; its own place when of none."""
    places = np.arange(len(records))
    table = pixel_table(len(records), ((place, record.measures) for place, record in enumerate(records)))
    usual = NearDuplicatesRule.model_fields
    reach = Reach(usual["distance"].default, usual["correlation"].default)
    leaders = cluster_hashes(table.phash, table.thumb, reach, places, np.full(len(records), -1)).leader
    found: npt.NDArray[np.int64] = np.where(leaders < 0, places, leaders)
    return found
