"""Parquet files with the images in them: `data/SPLIT-00000-of-00007.parquet`.

datasets.load_dataset("OUT", split="train")[0]["image"].show()
"""

from __future__ import annotations

from pathlib import Path

from anomreason.dataset.export.folder import Draft
from anomreason.dataset.export.imagefolder import RowFile, count_tables
from anomreason.dataset.export.options import Counts, ExportOptions
from anomreason.dataset.export.planning import Plan
from anomreason.dataset.export.records import ExportedImage
from anomreason.dataset.export.rows import IMAGE, columns, row_of, schema
from anomreason.dataset.export.writing import FileLayout, Writer

GROUP = 100
"""Rows of a row group: what a reader that wants one row has to read."""
_GROUP_BYTES = 1 << 27


class Parquet(Writer):
    """Writes rows with the image's own bytes."""

    embeds = True

    def __init__(self, draft: Draft, plan: Plan, options: ExportOptions) -> None:
        super().__init__(draft, plan, options)
        self._schema = schema({"image": IMAGE, **columns(options.with_steps)})
        self._shards = _shards(plan, options.shard_bytes)
        self._open: tuple[str, RowFile] | None = None
        self._splits: dict[str, None] = {}

    def add(self, image: ExportedImage, data: bytes | None) -> None:
        place = self._shards[image.name]
        if self._open is None or self._open[0] != place:
            self._close()
            self._open = place, RowFile(self.draft.path(place), self._schema, GROUP, _GROUP_BYTES)
        row = {"image": {"bytes": data, "path": image.name}, **row_of(image, self.options.with_steps)}
        self._open[1].add(row, len(data or b""))
        self._splits[image.split] = None

    def _close(self) -> None:
        if self._open:
            self._open[1].close()

    def finish(self) -> FileLayout:
        self._close()
        return FileLayout(
            "`data/*.parquet` hold the images' own bytes and what is known of them. Open with\n"
            '`datasets.load_dataset("OUT")`; other readers find the bytes in the column `image.bytes`.',
            tuple((split, (f"data/{split}-*.parquet",)) for split in self._splits),
        )


def _shards(plan: Plan, most: int) -> dict[str, str]:
    """The file of each image, by name: a new one where the next image would make it too large."""
    numbers: dict[str, int] = {}
    last: dict[str, int] = {}
    size = 0
    for image in plan.images:
        if image.split not in last or size + image.bytes > most:
            last[image.split] = last.get(image.split, -1) + 1
            size = 0
        size += image.bytes
        numbers[image.name] = last[image.split]
    return {
        image.name: f"data/{image.split}-{numbers[image.name]:05}-of-{last[image.split] + 1:05}.parquet"
        for image in plan.images
    }


def count(folder: Path) -> Counts:
    """Images and anomalies by split, read back."""
    return count_tables((file.name.rsplit("-", 3)[0], file) for file in sorted(folder.glob("data/*.parquet")))
