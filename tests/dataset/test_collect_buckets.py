"""`dataset collect` from buckets: what it gives, what it asks, and what a lost bucket does."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select
from tests.bucket import MemoryBucket, put
from tests.dataset.test_collect import folder, png

from anomreason.dataset.annotate import annotate
from anomreason.dataset.collect import collect
from anomreason.dataset.store import Store
from anomreason.dataset.tables import FileRow, ImageRow, PromptRow, SourceRow
from anomreason.errors import UsageError
from anomreason.images import file_bytes
from anomreason.report.html import build_report
from anomreason.sources.inputs import find_images


def rows(store: Store) -> set[tuple[str, str, str, str | None]]:
    """Name, hash, source and prompt of each image."""
    query = select(ImageRow.name, ImageRow.sha256, SourceRow.name, PromptRow.text).select_from(ImageRow)
    query = query.join(SourceRow, ImageRow.source_id == SourceRow.id).outerjoin(PromptRow)
    with store.reading() as session:
        return {tuple(row) for row in session.execute(query)}


def shards(top: Path) -> None:
    """A folder, an imagefolder, a list, a shard of WebDataset and a Parquet file."""
    folder(top / "flux", ["1.png", "sub/2.png"])
    folder(top / "sd", ["1.jpg", "2.jpg"])
    (top / "sd/metadata.jsonl").write_text('{"file_name": "1.jpg", "prompt": "a cup", "generator": "sd"}\n')
    (top / "list.csv").write_text("file_name,prompt\nsd/2.jpg,a dog\n")
    with tarfile.open(top / "web.tar", "w") as tar:
        for name in ("0.png", "0.txt"):
            (top / name).write_bytes(png(70) if name == "0.png" else b"a red chair")
            tar.add(top / name, name)
            (top / name).unlink()
    pq.write_table(pa.table({"image": [png(80), png(81)], "prompt": ["x", "y"]}), top / "p.parquet")


def test_what_a_bucket_gives_is_what_the_folder_gives(
    bucket: type[MemoryBucket], sqlite_store: Store, tmp_path: Path
) -> None:
    from anomreason.dataset.store import open_store

    shards(tmp_path / "top")
    put(tmp_path / "top", "store://b/top")
    parts = ("flux", "sd", "list.csv", "web.tar", "p.parquet", "flux/*.png")
    there = collect(sqlite_store, [f"store://b/top/{part}" for part in parts])
    with open_store(tmp_path / "other", None, create=True) as other:
        here = collect(other, [tmp_path / "top" / part for part in parts])
        assert rows(sqlite_store) == rows(other)
    assert (there.images, there.duplicates, there.problems) == (here.images, here.duplicates, ())
    assert there.images == 7
    with sqlite_store.reading() as session:
        places = set(session.scalars(select(ImageRow.path)))
    assert {"store://b/top/flux/sub/2.png", "store://b/top/web.tar/0.png"} <= places
    for place in places:
        assert file_bytes(sqlite_store.path(place))
    bucket.asked.clear()
    again = collect(sqlite_store, ["store://b/top/flux", "store://b/top/sd"])
    assert (again.images, again.known) == (0, 4)
    assert bucket.asked["read"] <= 2, "the list of the imagefolder, and no image"


def test_images_of_a_bucket_are_annotated_and_shown(
    bucket: type[MemoryBucket], sqlite_store: Store, world: Callable[..., Path]
) -> None:
    truth = world(4)
    put(truth.parent, "store://b/w")
    assert collect(sqlite_store, ["store://b/w/*.png"]).images == 4
    annotated = annotate(sqlite_store, f"sim:{truth}")
    assert (annotated.done, annotated.failed) == (4, {})
    [run] = (sqlite_store.folder / "runs").iterdir()
    build_report(run)
    assert len(list((run / "report/thumbs").iterdir())) == 4
    bucket.asked.clear()
    assert annotate(sqlite_store, f"sim:{truth}").done == 4
    assert bucket.asked.total() == 0


def test_a_lost_bucket_ends_its_input_and_is_asked_again(bucket: type[MemoryBucket], sqlite_store: Store) -> None:
    store = fsspec.filesystem("store")
    for n in range(60):
        store.pipe_file(f"/b/w/{n:03}.png", png(n))
        bucket.faults[f"{n:03}.png"] = PermissionError("Access Denied")
    lost = collect(sqlite_store, ["store://b/w"])
    assert "20 consecutive images were not to be had. 'store://b/w/" in lost.problems[0]
    assert bucket.asked["read"] < 60
    bucket.faults.clear()
    bucket.faults["007.png"] = TimeoutError()
    partly = collect(sqlite_store, ["store://b/w"])
    assert (partly.images, partly.unreadable) == (59, {"unreachable": 1})
    bucket.faults.clear()
    assert collect(sqlite_store, ["store://b/w"]).images == 1
    with sqlite_store.reading() as session:
        assert set(session.scalars(select(FileRow.status))) == {"collected"}


def test_an_input_that_is_not_there_is_an_error_before_anything_is_written(
    bucket: type[MemoryBucket], sqlite_store: Store
) -> None:
    with pytest.raises(UsageError, match=r"'store://b/none' does not exist"):
        collect(sqlite_store, ["store://b/none"])
    with pytest.raises(UsageError, match="with a password"):
        collect(sqlite_store, ["s3://key:secret@b/x"])


def test_a_column_of_images_comes_before_one_of_their_names(sqlite_store: Store, tmp_path: Path) -> None:
    columns = {"file_name": ["1.png", "2.png"], "image": [png(1), png(2)]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    collected = collect(sqlite_store, [tmp_path / "t.parquet"])
    assert (collected.images, collected.problems) == (2, ())
    assert len(find_images([tmp_path / "t.parquet"]).images) == 2
