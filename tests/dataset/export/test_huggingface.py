"""The two forms for Hugging Face, opened by `datasets` itself, offline."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import update
from tests.dataset.export.filling import HAND, SIGN, Filler

from anomreason.dataset.export import ExportOptions, export, verify
from anomreason.dataset.export.planning import plan_images
from anomreason.dataset.export.records import ExportedImage, exported_images
from anomreason.dataset.export.rows import row_of
from anomreason.dataset.store import Store, open_store
from anomreason.dataset.tables import CandidateRow, SplitRow

Load = Callable[..., Any]
FORMS = ["imagefolder", "parquet"]


def images_of(store: Store, options: ExportOptions) -> dict[str, ExportedImage]:
    with store.reading() as session:
        return {i.name: i for i in exported_images(session, store, plan_images(session, options), options)}


@pytest.mark.parametrize("with_steps", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_datasets_gives_back_what_was_exported(
    filled: Store, tmp_path: Path, load: Load, form: str, with_steps: bool
) -> None:
    from datasets import Image

    options = ExportOptions(form, with_steps=with_steps)
    export(filled, tmp_path / "out", options)
    expected = images_of(filled, options)
    loaded = load(tmp_path / "out")
    assert {split: rows.num_rows for split, rows in loaded.items()} == {"train": 4, "test": 3}
    for split, rows in loaded.items():
        assert rows[0]["image"].size == (24, 16)
        for row in rows.cast_column("image", Image(decode=False)):
            image = expected.pop(row["name"])
            held = row.pop("image")
            data = held["bytes"] or Path(held["path"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == image.sha256
            assert image.split == split
            assert row == row_of(image, with_steps)
    assert expected == {}


@pytest.mark.parametrize("form", FORMS)
def test_what_one_split_lacks_does_not_change_its_types(tmp_path: Path, load: Load, form: str) -> None:
    with open_store(tmp_path / "data", create=True) as store:
        with store.command("annotate", {}) as command, store.writing() as session:
            make = Filler(store, session, command.id)
            source = make.source("flux")
            make.judge(make.candidate(make.image(source, "a.png", split="train"), HAND), "accept")
            make.described(make.image(source, "b.png", split="test"), "2026-01-01")
        export(store, tmp_path / "out", ExportOptions(form))
    loaded = load(tmp_path / "out")
    assert loaded["train"].features == loaded["test"].features
    assert loaded["test"][0]["anomalies"] == []
    assert loaded["test"][0]["description"] == "2026-01-01"
    assert loaded["train"][0]["anomalies"][0]["region"]["x1"] == 0.75


def test_the_columns_are_those_that_datasets_itself_would_write(filled: Store, tmp_path: Path, load: Load) -> None:
    export(filled, tmp_path / "out", ExportOptions("parquet", with_steps=True))
    (file,) = (tmp_path / "out/data").glob("train-*")
    ours, theirs = pq.read_schema(file), load(tmp_path / "out", split="train").features.arrow_schema
    assert ours.equals(theirs)
    assert ours.metadata == theirs.metadata


def test_parquet_has_row_groups_of_a_hundred_and_files_of_bounded_size(tmp_path: Path, load: Load) -> None:
    with open_store(tmp_path / "data", create=True) as store:
        with store.command("collect", {}) as command, store.writing() as session:
            make = Filler(store, session, command.id)
            source = make.source("flux")
            for n in range(250):
                make.searched(make.image(source, f"{n:03}.png"))
        export(store, tmp_path / "one", ExportOptions("parquet"))
        export(store, tmp_path / "many", ExportOptions("parquet", shard_bytes=4_000))
    (file,) = (tmp_path / "one/data").iterdir()
    assert file.name == "train-00000-of-00001.parquet"
    metadata = pq.read_metadata(file)
    assert [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)] == [100, 100, 50]
    shards = sorted((tmp_path / "many/data").iterdir())
    assert shards[-1].name == f"train-{len(shards) - 1:05}-of-{len(shards):05}.parquet"
    held = [sum(len(i["bytes"]) for i in pq.read_table(shard)["image"].to_pylist()) for shard in shards]
    assert all(3_800 < size <= 4_000 for size in held[:-1])
    assert [row["name"] for row in load(tmp_path / "many", split="train")] == [f"{n:03}.png" for n in range(250)]
    assert verify(tmp_path / "many").whole


def test_splits_of_any_name_are_found(filled: Store, tmp_path: Path, load: Load) -> None:
    with filled.writing() as session:
        session.execute(update(SplitRow).where(SplitRow.split == "test").values(split="in-domain/x"))
    for form in FORMS:
        export(filled, tmp_path / form, ExportOptions(form))
        assert {split: rows.num_rows for split, rows in load(tmp_path / form).items()} == {"train": 4, "in_domain_x": 3}


def test_text_of_any_sort_comes_back(filled: Store, tmp_path: Path, load: Load) -> None:
    hard = "\u2028 \x01 null None \"\\ ' | 你好 🙂 \n\r\n\ttab"
    with filled.writing() as session:
        session.execute(update(CandidateRow).where(CandidateRow.name == SIGN["name"]).values(reasoning=f"x{hard}x"))
    for form in FORMS:
        export(filled, tmp_path / form, ExportOptions(form))
        rows = {row["name"]: row for row in load(tmp_path / form, split="train")}
        assert rows["flux/two.jpg"]["anomalies"][0]["reasoning"] == f"x{hard}x"
