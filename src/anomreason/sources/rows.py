"""Rows of tables in JSON lines, CSV and Parquet, streamed: a damaged row is a value, and the next ones follow.

for row in read_rows(Path("prompts.csv")):
    print(row.number, row.wrong or row.values)
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from anomreason import parquet
from anomreason.errors import UsageError
from anomreason.files import read_lines
from anomreason.sources.manifests import separator_of

TABLES = (".jsonl", ".csv", ".tsv", ".parquet")
_FIELD = 1 << 24
"""Characters of one field of a CSV file."""
_HEAD = 1 << 16
"""Bytes by which the encoding and the separator of a CSV file are known."""
_PER_READ = 2_000
"""Rows of a Parquet file that are held in memory, where they hold no images."""


class TableRow(NamedTuple):
    """One row of a table."""

    number: int
    """Line in a text file; in Parquet the row, from 0."""
    values: Mapping[str, Any]
    """By column; embedded images as `bytes`, or as {"bytes": ..., "path": ...}."""
    wrong: str | None = None
    """What is wrong with the row, naming file and line; then it has no values."""


def read_rows(path: Path) -> Iterator[TableRow]:
    """The rows of a table of text, in its order. Raises UsageError for a file that cannot be read as one."""
    return _json_rows(path) if path.suffix.lower() == ".jsonl" else _csv_rows(path)


def _json_rows(path: Path) -> Iterator[TableRow]:
    damaged: list[TableRow] = []
    for number, values in read_lines(path, damaged=lambda n, why: damaged.append(TableRow(n, {}, why))):
        yield from damaged
        damaged.clear()
        yield TableRow(number, values)
    yield from damaged


def _csv_rows(path: Path) -> Iterator[TableRow]:
    limit = csv.field_size_limit(_FIELD)  # of the whole process
    try:
        with path.open("rb") as binary:
            head = binary.read(_HEAD)
            binary.seek(0)
            encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
            with io.TextIOWrapper(binary, encoding, errors="surrogateescape", newline="") as text:
                start = head.decode(encoding, "replace")
                declared = re.match(r"sep=(.)\r?\n", start)  # as Excel writes it
                if declared:
                    text.readline()
                yield from _separated(text, path, declared[1] if declared else separator_of(start), bool(declared))
    except UnicodeError:
        raise UsageError(f"{path}: not UTF-8, nor whole UTF-16; save the file as UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
    finally:
        csv.field_size_limit(limit)


def _separated(text: io.TextIOWrapper, path: Path, separator: str, passed: int) -> Iterator[TableRow]:
    """passed: lines that were read already."""
    reader = csv.reader(text, strict=True, delimiter=separator)
    header: list[str] = []
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            where = f"{path}, line {reader.line_num + passed}"
            if not header:
                raise UsageError(f"{where}: not CSV: {error}") from None
            yield TableRow(reader.line_num + passed, {}, f"{where}: not CSV: {error}; repair or remove the line")
            continue
        number = reader.line_num + passed
        if row is None:
            return
        if not header:
            header = [name.strip() for name in row]
        elif any("\udc80" <= c <= "\udcff" for field in row if not field.isascii() for c in field):
            yield TableRow(number, {}, f"{path}, line {number}: not UTF-8; save the file as UTF-8")
        elif row:
            yield TableRow(number, dict(zip(header, row, strict=False)))


@dataclass(frozen=True, slots=True)
class ParquetTable:
    """A Parquet file by its footer."""

    path: Path
    columns: dict[str, bool]
    """By name, whether it may hold embedded images: bytes, or {bytes, path}."""
    groups: tuple[int, ...]
    """Rows of each row group."""

    def rows(self, columns: Collection[str], wanted: Callable[[range], bool] = bool) -> Iterator[TableRow]:
        """The rows with these columns alone. A row group that cannot be read is one damaged row.

        wanted: whether a row group is read, by the numbers of its rows.
        """
        with parquet.open_file(self.path) as opened:
            import pyarrow as pa

            starts = itertools.accumulate(self.groups, initial=0)
            for group, (start, count) in enumerate(zip(starts, self.groups, strict=False)):
                if not wanted(range(start, start + count)):
                    continue
                number = start
                size = parquet.ROWS if any(self.columns[name] for name in columns) else _PER_READ
                try:
                    batches = opened.iter_batches(size, [group], list(columns), use_threads=False)
                    for batch in batches:
                        for values in batch.to_pylist():
                            yield TableRow(number, values)
                            number += 1
                except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
                    why = str(error).partition("\n")[0][:200]
                    yield TableRow(
                        number,
                        {},
                        f"{self.path}, rows {number} to {start + count - 1}: cannot be read ({why}); write or download "
                        "the file again",
                    )


def open_parquet(path: Path) -> ParquetTable:
    """What a Parquet file holds. Raises UsageError for a damaged one."""
    with parquet.open_file(path) as opened:
        return ParquetTable(path, parquet.columns_of(opened), parquet.groups_of(opened))


def count_rows(path: Path) -> int:
    """About how many rows a table has, for progress: lines of a text, rows of a Parquet file."""
    if path.suffix.lower() == ".parquet":
        return sum(open_parquet(path).groups)
    with path.open("rb") as file:
        return sum(part.count(b"\n") for part in iter(lambda: file.read(1 << 20), b""))
