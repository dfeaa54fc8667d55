"""Images inside Parquet files, under paths such as `train.parquet/17` (a row, from 0); on disk or in a bucket.

photo = read_row(Path("train.parquet/17"))
"""

from __future__ import annotations

import bisect
import itertools
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from anomreason import buckets
from anomreason.buckets import Address
from anomreason.columns import embedded_column
from anomreason.errors import UnreachableImage, UnreadableImage, UsageError, require, shown

ROWS = 16
"""Rows of images that are read at once."""
_PART = 1 << 20
"""Bytes that are read, or asked for, at a time: a row group of images can take gigabytes."""
_KEPT = 1 << 28
"""Bytes of rows that are kept for other threads, which work on images a little before the last one."""
_OPENING = threading.Lock()
"""Threads that meet a new file together open it once."""


def open_file(path: Path) -> Any:
    """The `pyarrow.parquet.ParquetFile`. Raises UsageError for a damaged or missing one."""
    require("Parquet files", "dataset", "pyarrow")
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        source = buckets.reader(path, _PART) if isinstance(path, Address) else path
        return ParquetFile(source, pre_buffer=False, buffer_size=_PART)
    except (pa.ArrowException, OSError) as error:
        why = str(error).partition("\n")[0][:200]
        raise UsageError(f"{path} cannot be read as Parquet ({why}); write or download it again") from None


def columns_of(file: Any) -> dict[str, bool]:
    """The columns of a file by name, whether each may hold embedded images: bytes, or {bytes, path}."""
    import pyarrow as pa

    columns = {}
    for field in file.schema_arrow:
        kind = field.type
        if pa.types.is_struct(kind):
            kind = next((part.type for part in kind if part.name == "bytes"), kind)
        columns[field.name] = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
    return columns


def groups_of(file: Any) -> tuple[int, ...]:
    """Rows of each row group."""
    return tuple(file.metadata.row_group(n).num_rows for n in range(file.metadata.num_row_groups))


def is_row(path: Path) -> bool:
    """Whether a path leads to a row of a Parquet file; at an address, whether it looks like it."""
    file, row = path.parent, path.name
    named = file.suffix.lower() == ".parquet" and row.isascii() and row.isdigit()
    return named and (isinstance(file, Address) or file.is_file())


def read_row(path: Path) -> bytes:
    """The bytes of the image in a row. Raises UnreadableImage."""
    file = path.parent
    try:
        if isinstance(file, Address):
            found = buckets.facts(file)
            size, mtime = (found.size or 0, found.mtime or 0) if found else (0, 0)
        else:
            status = os.stat(file)
            size, mtime = status.st_size, status.st_mtime_ns
        with _OPENING:
            images = _opened(file, size, mtime)
        value = images.read(int(path.name))
    except UnreachableImage:
        raise
    except (UsageError, OSError) as error:
        raise UnreadableImage(str(error), final=False) from None
    data, name = (value.get("bytes"), value.get("path")) if isinstance(value, Mapping) else (value, None)
    if data:
        return bytes(data)
    if name:
        raise UnreadableImage(
            f"{str(path)!r} holds the path {shown(name)} and no bytes; write the bytes into the file, or list the "
            "paths in a .jsonl or .csv file and give that"
        )
    raise UnreadableImage(f"{str(path)!r} holds no image; write its bytes, or leave the row out", reason="empty")


@lru_cache(maxsize=8)
def _opened(path: Path, size: int, mtime: int) -> _Images:
    return _Images(path)


class _Images:
    """The images of one file, read mostly in their order. Safe in threads."""

    def __init__(self, path: Path) -> None:
        self._path, self._file, self._lock = path, open_file(path), threading.Lock()
        column = embedded_column(columns_of(self._file))
        if column is None:
            raise UsageError(f"{path} has no column of images any more; write or download it again")
        self._column = column
        self._starts = list(itertools.accumulate(groups_of(self._file), initial=0))
        self._group, self._next = -1, 0
        self._rows: Iterator[Any] = iter(())
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._size = 0

    def read(self, number: int) -> Any:
        """The value of a row. Raises UnreadableImage."""
        import pyarrow as pa

        if number >= self._starts[-1]:
            raise UnreadableImage(f"{self._path} has no row {number} any more; write it again", reason="missing")
        with self._lock:
            try:
                return self._find(number)
            except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                self._group = -1
                why = str(error).partition("\n")[0][:200]
                raise UnreadableImage(
                    f"row {number} of {self._path} cannot be read ({why}); write or download the file again"
                ) from error
            except BaseException:
                self._group = -1
                raise

    def _find(self, number: int) -> Any:
        if number in self._kept:
            return self._taken(number)
        group = bisect.bisect_right(self._starts, number) - 1
        if group != self._group or number < self._next:
            self._rows, self._group, self._next = self._of_group(group), group, self._starts[group]
        for value in self._rows:
            self._keep(self._next, value)
            self._next += 1
            if self._next > number:
                return self._taken(number)
        raise OSError("its row group ends before")

    def _of_group(self, group: int) -> Iterator[Any]:
        for batch in self._file.iter_batches(ROWS, [group], [self._column], use_threads=False):
            for value in batch.column(0):
                yield value.as_py()

    def _keep(self, number: int, value: Any) -> None:
        if number in self._kept:
            self._taken(number)
        self._kept[number] = value
        self._size += _bytes(value)
        while self._size > _KEPT and len(self._kept) > 1:
            self._taken(next(iter(self._kept)))

    def _taken(self, number: int) -> Any:
        value = self._kept.pop(number)
        self._size -= _bytes(value)
        return value


def _bytes(value: Any) -> int:
    data = value.get("bytes") if isinstance(value, Mapping) else value
    return len(data or b"")
