"""Hugging Face's imagefolder: files of images, and a table of what is known of them beside them.

    datasets.load_dataset("OUT", split="train")[0]["anomalies"]

The table is `metadata.parquet`. Types of a `metadata.jsonl` are guessed, and `datasets` refuses splits for which it
guesses differently, e.g. where no image of one split has a region.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from anomreason.dataset.export.folder import Draft
from anomreason.dataset.export.options import Counts, ExportOptions, split_counts
from anomreason.dataset.export.planning import Plan
from anomreason.dataset.export.records import ExportedImage
from anomreason.dataset.export.rows import STRING, Feature, Row, columns, row_of, schema
from anomreason.dataset.export.writing import FileLayout, Writer

TABLE = "metadata.parquet"
_GROUP = 500


class RowFile:
    """A Parquet file written row by row, a group in memory at a time."""

    def __init__(self, path: Path, columns: pa.Schema, group: int, group_bytes: int = 1 << 62) -> None:
        """group, group_bytes: rows and bytes (as the caller counts them) of a row group."""
        self._writer = pq.ParquetWriter(path, columns, compression="zstd")
        self._schema, self._group, self._group_bytes = columns, group, group_bytes
        self._rows: list[Row] = []
        self._size = 0

    def add(self, row: Row, size: int = 0) -> None:
        self._rows.append(row)
        self._size += size
        if len(self._rows) >= self._group or self._size >= self._group_bytes:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_batch(pa.RecordBatch.from_pylist(self._rows, self._schema))
        self._rows, self._size = [], 0

    def close(self) -> None:
        self._flush()
        self._writer.close()


class FolderTables:
    """The table of each split of an imagefolder."""

    def __init__(self, draft: Draft, features: dict[str, Feature]) -> None:
        self._draft, self._schema = draft, schema(features)
        self._files: dict[str, RowFile] = {}
        self._suffixes: dict[str, set[str]] = {}

    def add(self, image: ExportedImage, row: dict[str, Any]) -> None:
        if image.split not in self._files:
            self._files[image.split] = RowFile(self._draft.path(f"{image.split}/{TABLE}"), self._schema, _GROUP)
        self._files[image.split].add(row)
        self._suffixes.setdefault(image.split, set()).add(PurePosixPath(image.name).suffix)

    def close(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Gives the patterns of the files by split."""
        for file in self._files.values():
            file.close()
        return tuple(
            (split, (f"{split}/{TABLE}", *(f"{split}/**/*{_literal(suffix)}" for suffix in sorted(suffixes))))
            for split, suffixes in self._suffixes.items()
        )


def _literal(text: str) -> str:
    return re.sub(r"[^\w.]", "?", text)


class ImageFolder(Writer):
    """Writes `SPLIT/NAME` and `SPLIT/metadata.parquet`."""

    def __init__(self, draft: Draft, plan: Plan, options: ExportOptions) -> None:
        super().__init__(draft, plan, options)
        self._tables = FolderTables(draft, {"file_name": STRING, **columns(options.with_steps)})

    def place(self, image: ExportedImage) -> str:
        return f"{image.split}/{image.place}"

    def add(self, image: ExportedImage, data: bytes | None) -> None:
        self._tables.add(image, {"file_name": image.place, **row_of(image, self.options.with_steps)})

    def finish(self) -> FileLayout:
        return FileLayout(
            f"`SPLIT/NAME` are the images as they were collected, `SPLIT/{TABLE}` what is known of them. Open with\n"
            '`datasets.load_dataset("OUT")`.',
            self._tables.close(),
        )


def count(folder: Path) -> Counts:
    """Images and anomalies by split, read back."""
    return count_tables((file.parent.name, file) for file in sorted(folder.glob(f"*/{TABLE}")))


def count_tables(files: Any, column: str = "anomalies") -> Counts:
    """The same of Parquet files, each with its split; column: the lists whose entries are counted."""
    found: dict[str, tuple[int, int]] = {}
    for split, file in files:
        images, anomalies = found.get(split, (0, 0))
        for batch in pq.ParquetFile(file).iter_batches(columns=[column]):
            images += batch.num_rows
            anomalies += len(batch.column(0).flatten())
        found[split] = images, anomalies
    return split_counts(found)
