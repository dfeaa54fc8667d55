"""`dataset collect`: whatever holds images and prompts goes in once, with what is known of it; nothing is lost."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import tarfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sqlalchemy import select
from tests.forking import exit_codes
from typer.testing import CliRunner

from anomreason.cli import app
from anomreason.dataset.collect import CollectOptions, collect
from anomreason.dataset.store import Store, open_store
from anomreason.dataset.tables import (
    CandidateRow,
    DecisionRow,
    DescriptionRow,
    DetectionRow,
    FileRow,
    ImageRow,
    PromptRow,
    SourceRow,
    SplitRow,
)
from anomreason.errors import UsageError
from anomreason.scenes.make import SceneSettings, make_scenes


def png(number: int, format: str = "PNG", side: int = 24) -> bytes:
    """An image of its own for each number."""
    out = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((side, side)).save(out, format)
    return out.getvalue()


def folder(path: Path, names: Iterable[str]) -> Path:
    for number, name in enumerate(names):
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(number, "JPEG" if name.endswith("jpg") else "PNG"))
    return path


def lines(path: Path, rows: Iterable[Mapping[str, Any] | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def tar(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def column(store: Store, *columns: Any) -> list[Any]:
    """Rows of one table in the order of their ids, single values bare."""
    with store.reading() as session:
        query = select(*columns)
        if "id" in columns[0].class_.__table__.c:
            query = query.order_by(columns[0].class_.id)
        rows = session.execute(query).all()
    return [row[0] if len(columns) == 1 else tuple(row) for row in rows]


def image_prompts(store: Store) -> dict[str, str | None]:
    with store.reading() as session:
        return dict(session.execute(select(ImageRow.name, PromptRow.text).outerjoin(PromptRow)).all())


def test_a_folder_is_collected_by_reference_with_the_facts_of_each_image(store: Store, tmp_path: Path) -> None:
    folder(tmp_path / "flux", ["a.png", "deep/b.jpg"])
    report = collect(store, [tmp_path / "flux"], CollectOptions(kind="ai", licence="CC0-1.0"))
    assert (report.images, report.known, report.problems) == (2, 0, ())
    assert column(store, ImageRow.name, ImageRow.width, ImageRow.format) == [
        ("a.png", 24, "PNG"),
        ("deep/b.jpg", 24, "JPEG"),
    ]
    assert column(store, ImageRow.path) == [str(tmp_path / "flux" / name) for name in ("a.png", "deep/b.jpg")]
    assert column(store, ImageRow.facts)[1]["jpeg_quality"] == 75
    assert column(store, SourceRow.name, SourceRow.kind, SourceRow.licence) == [("flux", "ai", "CC0-1.0")]
    assert not (store.folder / "images").exists()


def test_a_known_file_is_not_opened_again(store: Store, tmp_path: Path) -> None:
    folder(tmp_path / "in", ["a.png", "b.png"])
    (tmp_path / "in" / "c.png").write_bytes(b"no image")
    collect(store, [tmp_path / "in"])
    before = {name: os.stat(tmp_path / "in" / name) for name in ("a.png", "c.png")}
    for name, stat in before.items():  # other bytes of the same size and time: only who opens them would notice
        (tmp_path / "in" / name).write_bytes(b"x" * stat.st_size)
        os.utime(tmp_path / "in" / name, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    report = collect(store, [tmp_path / "in"])
    assert (report.images, report.known, report.unreadable) == (0, 3, {})


def test_what_cannot_be_read_is_recorded_in_a_word_and_the_rest_is_collected(
    sqlite_store: Store, tmp_path: Path
) -> None:
    inputs = folder(tmp_path / "in", ["a.png", "b.png"])
    (inputs / "empty.png").write_bytes(b"")
    (inputs / "text.jpg").write_bytes(b"404 not found")
    (inputs / "cut.png").write_bytes(png(1, side=200)[:90])
    (inputs / "link.png").symlink_to("nowhere.png")
    report = collect(sqlite_store, [inputs])
    assert report.images == 2
    assert report.unreadable == {"damaged": 1, "empty": 1, "not_image": 1, "missing": 1}
    rows = {
        path: message
        for path, status, message in column(sqlite_store, FileRow.path, FileRow.status, FileRow.message)
        if status == "unreadable"
    }
    assert "0 bytes" in rows[str(inputs / "empty.png")]


def test_names_that_are_not_utf_8_are_recorded(store: Store, tmp_path: Path) -> None:
    inputs = folder(tmp_path / os.fsdecode(b"in\xff"), ["a.png"])
    (tmp_path / os.fsdecode(b"\xfe.png")).write_bytes(png(3))
    lines(inputs / "t.jsonl", [{"file_name": "a.png"}])
    report = collect(store, [tmp_path, inputs, inputs / "t.jsonl"], CollectOptions(source=os.fsdecode(b"s\xff")))
    assert (report.images, report.unreadable) == (0, {"bad_name": 2})
    assert "rename the file" in column(store, FileRow.message)[0]


def test_exact_duplicates_are_files_of_one_image(store: Store, tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "sub/c.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(png(1))
    for _ in range(2):
        collect(store, [tmp_path / "in"])
        assert column(store, ImageRow.name) == ["a.png"]
        assert column(store, FileRow.status, FileRow.reason) == [
            ("collected", None),
            *[("duplicate", "exact_duplicate")] * 2,
        ]


def test_copies_are_named_by_their_hash_and_read_without_the_original(sqlite_store: Store, tmp_path: Path) -> None:
    inputs = folder(tmp_path / "in", ["a.png", "b.jpg"])
    draft = sqlite_store.folder / "images" / "0ab" / ".copy.png.4194305.1.part"  # of a process that was killed
    draft.parent.mkdir(parents=True)
    draft.write_bytes(b"half")
    collect(sqlite_store, [inputs], CollectOptions(copy=True))
    assert not draft.exists()
    shas, places = column(sqlite_store, ImageRow.sha256), column(sqlite_store, ImageRow.path)
    assert places == [f"images/{sha[:3]}/{sha}.{end}" for sha, end in zip(shas, ("png", "jpg"), strict=True)]
    assert sqlite_store.path(places[0]).read_bytes() == (inputs / "a.png").read_bytes()


def test_a_file_with_other_bytes_is_another_image_and_the_lost_one_is_dropped(store: Store, tmp_path: Path) -> None:
    inputs = folder(tmp_path / "in", ["a.png"])
    collect(store, [inputs])
    (inputs / "a.png").write_bytes(png(7, side=30))
    assert collect(store, [inputs]).images == 1
    assert column(store, ImageRow.width, ImageRow.status, ImageRow.reason) == [
        (24, "dropped", "changed"),
        (30, "kept", None),
    ]
    (inputs / "back.png").write_bytes(png(0))
    collect(store, [inputs])
    assert column(store, ImageRow.path, ImageRow.status)[0] == (str(inputs / "back.png"), "kept")
    assert column(store, DecisionRow.keep) == [True]


def test_an_image_whose_file_moved_is_found_again(sqlite_store: Store, tmp_path: Path) -> None:
    inputs = folder(tmp_path / "in", ["a.png"])
    collect(sqlite_store, [inputs])
    inputs.rename(tmp_path / "elsewhere")
    collect(sqlite_store, [tmp_path / "elsewhere"])
    assert column(sqlite_store, ImageRow.path) == [str(tmp_path / "elsewhere" / "a.png")]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_a_table_gives_prompt_source_generator_seed_and_settings(
    ending: str, sqlite_store: Store, tmp_path: Path
) -> None:
    folder(tmp_path, ["x/a.png", "x/b.png"])
    rows = [
        {"file_name": "x/a.png", "prompt": "a cup", "generator": "sdxl", "seed": 7, "steps": 20, "other": 1},
        {"file_name": "x/b.png", "prompt": "a dog", "generator": "flux", "seed": 8, "steps": 30, "other": 2},
    ]
    table = tmp_path / f"table.{ending}"
    if ending == "jsonl":
        lines(table, rows)
    elif ending == "csv":
        lines(table, [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)])
    else:
        pq.write_table(pa.Table.from_pylist(rows), table)
    collect(sqlite_store, [table])
    assert image_prompts(sqlite_store) == {"x/a.png": "a cup", "x/b.png": "a dog"}
    assert column(sqlite_store, ImageRow.seed) == [7, 8]
    assert [str(one["steps"]) for one in column(sqlite_store, ImageRow.settings)] == ["20", "30"]
    assert [set(one) for one in column(sqlite_store, ImageRow.settings)] == [{"steps"}] * 2
    assert column(sqlite_store, SourceRow.name, SourceRow.kind, SourceRow.generator) == [
        ("sdxl", "ai", "sdxl"),
        ("flux", "ai", "flux"),
    ]


def test_the_first_of_two_prompts_of_a_file_counts_and_the_other_is_kept(store: Store, tmp_path: Path) -> None:
    folder(tmp_path, ["a.png"])
    table = lines(tmp_path / "t.jsonl", [{"image": "a.png", "prompt": p} for p in ("first", "second", "first")])
    reports = [collect(store, [table]) for _ in range(2)]
    assert [report.remarks for report in reports] == [{"other_prompt": 1}, {}]
    assert image_prompts(store) == {"a.png": "first"}
    assert column(store, PromptRow.text) == ["first", "second"]
    assert column(store, FileRow.status, FileRow.reason) == [("collected", "other_prompt")]


def test_a_later_list_adds_the_prompt_of_a_known_image(sqlite_store: Store, tmp_path: Path) -> None:
    inputs = folder(tmp_path / "in", ["a.png"])
    collect(sqlite_store, [inputs])
    table = lines(tmp_path / "t.jsonl", [{"image": "in/a.png", "prompt": "a cup", "seed": 3}])
    assert collect(sqlite_store, [table]).known == 1
    assert image_prompts(sqlite_store) == {"a.png": "a cup"}
    assert column(sqlite_store, ImageRow.seed) == [3]


def test_bad_rows_are_recorded_and_settled_once_the_list_is_repaired(store: Store, tmp_path: Path) -> None:
    folder(tmp_path, ["a.png", "b.png"])
    rows: list[Mapping[str, Any] | str] = [
        {"image": "a.png"},
        "{torn",
        {"prompt": "no image"},
        {"image": "http://x/y.png?key=1"},
    ]
    table = lines(tmp_path / "t.jsonl", [*rows, {"image": "b.png", "prompt": ["no text"]}])
    report = collect(store, [table])
    assert (report.images, report.unreadable, report.remarks) == (2, {"bad_row": 3}, {"bad_prompt": 1})
    bad = column(store, FileRow.path, FileRow.message)
    assert any(path.endswith("t.jsonl/2") and "line 2" in message for path, message in bad)
    collect(store, [table])
    assert column(store, FileRow.reason).count("bad_row") == 3
    lines(table, [{"image": "a.png"}, {"image": "b.png"}])
    collect(store, [table])
    assert column(store, FileRow.reason).count("repaired") == 3
    assert "unreadable" not in column(store, FileRow.status)


def test_a_table_without_a_column_of_images_names_the_columns_and_the_others_go_on(
    sqlite_store: Store, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"caption": ["a cup"], "label": [1]}), tmp_path / "t.parquet")
    inputs = folder(tmp_path / "in", ["a.png"])
    report = collect(sqlite_store, [tmp_path / "t.parquet", inputs])
    assert report.images == 1
    assert report.unreadable == {"bad_input": 1}
    assert "'caption', 'label'" in report.problems[0]
    assert "--prompts" in report.problems[0]


def test_an_imagefolder_gives_prompts_and_nothing_outside_of_it(sqlite_store: Store, tmp_path: Path) -> None:
    root = folder(tmp_path / "in", ["train/a.png", "train/b.png", "test/a.png"])
    folder(tmp_path, ["secret.png"])
    lines(
        root / "train" / "metadata.jsonl", [{"file_name": "a.png", "text": "a cup"}, {"file_name": "../../secret.png"}]
    )
    lines(root / "test" / "metadata.csv", ["file_name,prompt", "a.png,a dog"])
    report = collect(sqlite_store, [root])
    assert image_prompts(sqlite_store) == {"test/a.png": "a dog", "train/a.png": "a cup", "train/b.png": None}
    assert report.unreadable == {"outside": 1}
    assert report.without_row == {f"the metadata of {root}": 1}
    assert str(root / "train" / "metadata.jsonl/2") in column(sqlite_store, FileRow.path)


def test_a_missing_file_says_where_an_image_of_its_name_was_collected_from(store: Store, tmp_path: Path) -> None:
    pics = folder(tmp_path / "pics", ["a.png", "sub/b.png"])
    collect(store, [pics])
    rows = [{"image": name} for name in ("a.png", "sub/b.png", "old/a.png", "c.png")]
    assert collect(store, [lines(tmp_path / "prompts.jsonl", rows)]).unreadable == {"missing": 4}
    messages = [message or "" for message in column(store, FileRow.message)][2:]
    a, b = (f"collected from {str(pics / name)!r}: write paths relative to" for name in ("a.png", "sub/b.png"))
    assert [a in messages[0], b in messages[1], a in messages[2]] == [True] * 3
    assert "collected from" not in messages[3]
    (pics / "a.png").unlink()
    collect(store, [lines(tmp_path / "gone.jsonl", [{"image": "pics/a.png"}])])
    gone = column(store, FileRow.message)[0]
    assert "does not exist" in gone
    assert "collected from" not in gone


def test_images_that_the_metadata_beside_them_does_not_list_are_collected_and_counted(tmp_path: Path) -> None:
    pics = folder(tmp_path / "pics", ["a.png", "b.png", "c.png"])
    metadata = lines(pics / "metadata.csv", ["file_name,prompt", "b.png,a cup"])
    lines(pics / "prompts.csv", ["file_name,prompt", "a.png,a dog"])
    code, output = invoke(tmp_path / "data", pics)
    assert code == 0
    assert f"2 images have no row in {metadata}, and so no prompt from it" in output
    assert "tables beside images; give them as inputs, or name them metadata" in output
    assert "prompts.csv" not in invoke(tmp_path / "data", pics, pics / "prompts.csv")[1]
    with open_store(tmp_path / "data") as store:
        assert image_prompts(store) == {"a.png": "a dog", "b.png": "a cup", "c.png": None}


def test_no_image_is_called_unlisted_while_the_metadata_cannot_be_read(sqlite_store: Store, tmp_path: Path) -> None:
    pics = folder(tmp_path / "pics", ["a.png"])
    lines(pics / "metadata.csv", ["label", "1"])
    report = collect(sqlite_store, [pics])
    assert (report.images, report.without_row, len(report.problems)) == (0, {}, 1)
    assert "images without a row so far" in report.passed_over[0]


def test_a_pattern_that_matches_nothing_says_where_it_looked(sqlite_store: Store, tmp_path: Path) -> None:
    folder(tmp_path, ["a.png"])
    report = collect(sqlite_store, [tmp_path / "*.webp", tmp_path / "gone" / "*.png"])
    assert f"matches no file (searched {str(tmp_path)!r})" in report.problems[0]
    assert f"(there is no folder {str(tmp_path / 'gone')!r})" in report.problems[1]


def embedded(path: Path, cells: Sequence[Any], **columns: Sequence[Any]) -> Path:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(cells, kind), **columns}), path, row_group_size=2)
    return path


def test_images_embedded_in_parquet_are_copied_and_known_the_second_time(store: Store, tmp_path: Path) -> None:
    cells = [{"bytes": png(n), "path": f"{n}.png"} for n in range(3)] + [{"bytes": None, "path": "gone.png"}]
    file = embedded(tmp_path / "t.parquet", [*cells, {"bytes": b"junk", "path": None}], prompt=list("abcde"))
    report = collect(store, [file])
    assert (report.images, report.unreadable) == (3, {"empty": 1, "not_image": 1})
    assert image_prompts(store) == {"0.png": "a", "1.png": "b", "2.png": "c"}
    assert column(store, FileRow.path) == [f"{file}/{n}" for n in range(5)]
    assert all(store.path(place).read_bytes() == png(n) for n, place in enumerate(column(store, ImageRow.path)))
    assert collect(store, [file]).known == 5


def test_a_folder_of_shards_is_read_shard_by_shard(sqlite_store: Store, tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    for n in range(2):
        embedded(tmp_path / "shards" / f"train-{n}.parquet", [{"bytes": png(n), "path": f"{n}.png"}])
    (tmp_path / "shards" / "broken.parquet").write_bytes(b"PAR1 and no more")
    report = collect(sqlite_store, [tmp_path / "shards"])
    assert len(report.problems) == 1
    assert report.images == 2


def test_webdataset_tars_give_prompts_and_metadata_of_the_same_key(store: Store, tmp_path: Path) -> None:
    members = {"0.jpg": png(0, "JPEG"), "0.txt": b"a cup\n", "0.json": b'{"seed": 5, "generator": "flux"}'}
    members |= {"1.jpg": png(1, "JPEG"), "1.json": b'{"prompt": "a dog"}', "2.jpg": png(2, "JPEG"), "2.json": b"{torn"}
    file = tar(tmp_path / "shard.tar", members)
    report = collect(store, [file])
    assert (report.images, report.remarks) == (3, {"bad_row": 1})
    assert image_prompts(store) == {"0.jpg": "a cup", "1.jpg": "a dog", "2.jpg": None}
    assert column(store, ImageRow.path, ImageRow.seed)[0] == (f"{file}/0.jpg", 5)
    assert collect(store, [file]).known == 3


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_of_a_tar_that_was_cut_off_the_images_before_the_cut_are_collected(
    ending: str, sqlite_store: Store, tmp_path: Path
) -> None:
    whole = tar(tmp_path / "whole.tar", {f"{n}.png": png(n, side=64) for n in range(6)}).read_bytes()
    if ending == ".tar.gz":
        whole = gzip.compress(whole)
    file = tmp_path / f"cut{ending}"
    file.write_bytes(whole[: len(whole) * 2 // 3])
    report = collect(sqlite_store, [file])
    assert 0 < report.images < 6
    assert "cut off" in report.problems[0]
    assert report.unreadable.pop("bad_input") == 1
    assert set(report.unreadable) <= {"damaged"}


def test_what_the_dataset_keeps_itself_is_not_collected_again(sqlite_store: Store, tmp_path: Path) -> None:
    folder(tmp_path, ["a.png", "data/raw/b.png"])
    for given in (tmp_path, sqlite_store.folder / "raw", sqlite_store.folder / "raw", tmp_path):
        collect(sqlite_store, [given], CollectOptions(copy=True))
    assert column(sqlite_store, FileRow.path) == [str(tmp_path / "a.png"), "raw/b.png"]


def test_members_of_a_zip_are_images_by_reference(sqlite_store: Store, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("cats/1.png", png(1))
        archive.writestr("../out.png", png(2))
    report = collect(sqlite_store, [tmp_path / "a.zip"])
    assert (
        column(sqlite_store, ImageRow.path, SourceRow.name)
        if False
        else column(sqlite_store, ImageRow.path) == [str(tmp_path / "a.zip/cats/1.png")]
    )
    assert "lead out of the archive" in report.passed_over[0]


def test_a_scene_and_its_twins_are_one_group_and_bring_their_truth(store: Store, tmp_path: Path) -> None:
    made = make_scenes(tmp_path / "sc", SceneSettings(n=4, size=64, violation_rate=1.0), jobs=1)
    report = collect(store, [tmp_path / "sc"])
    assert (report.images, report.problems) == (made.images, ())
    truth = {
        row["file_name"]: row for row in map(json.loads, (tmp_path / "sc/metadata.jsonl").read_text().splitlines())
    }
    groups = dict(column(store, ImageRow.name, ImageRow.group))
    assert len(set(groups.values())) == 4
    assert all(groups[name] == groups[row["twin_of"] or name] for name, row in truth.items())
    assert report.candidates == sum(len(row["anomalies"]) for row in truth.values())
    assert set(column(store, CandidateRow.origin, CandidateRow.detector)) == {("scene", "scenes")}
    assert column(store, SourceRow.kind) == ["ai"]
    searched = column(store, DetectionRow.detector, DetectionRow.status)  # the mended twins too: none is known there
    assert searched == [("scenes", "ok")] * made.images
    assert collect(store, [tmp_path / "sc"]).candidates == 0


ANOMALY = {"Name": "Hand", "Observed Phenomenon": "Six fingers.", "Reasoning": "Five.", "Severity Score": "5/100"}


def test_the_authors_release_gives_kinds_candidates_descriptions_and_splits(store: Store, tmp_path: Path) -> None:
    root = folder(tmp_path / "release", ["0_real/r.jpg", "1_fake/flux/7.png", "1_fake/sd/8.png", "1_fake/sd/9.png"])
    said = {"0_real/r.jpg": "A cat.", "1_fake/flux/7.png": [ANOMALY, ANOMALY], "8.png": [], "gone.png": [ANOMALY]}
    (tmp_path / "real_anomalies.json").write_text(json.dumps(said))
    (tmp_path / "split.json").write_text(json.dumps({"train": ["7.png", "r.jpg"], "test": ["8.png", "lost.png"]}))
    options = CollectOptions(
        annotations=(f"anomreason={tmp_path}/real_anomalies.json",), splits=(tmp_path / "split.json",)
    )
    for new in (True, False):
        report = collect(store, [root], options)
        (joined,), (split,) = report.annotations, report.splits
        assert joined.new == ({"candidates": 2, "descriptions": 1} if new else {"candidates": 0, "descriptions": 0})
        assert (joined.without_image_names, joined.without_annotation_names) == (("gone.png",), ("1_fake/sd/9.png",))
        assert (split.images, split.without_image_names) == (3, ("lost.png",))
    assert column(store, SourceRow.name, SourceRow.kind) == [
        ("release photographs", "photograph"),
        ("flux", "ai"),
        ("sd", "ai"),
    ]
    assert (
        column(store, CandidateRow.origin, CandidateRow.detector, CandidateRow.severity)
        == [("published", "anomreason", 5.0)] * 2
    )
    assert column(store, DescriptionRow.author, DescriptionRow.text) == [("anomreason", "A cat.")]
    searched = select(ImageRow.name, DetectionRow.status).join(DetectionRow, DetectionRow.image_id == ImageRow.id)
    with store.reading() as session:  # the one without anomalies too, but not the photograph
        assert sorted(session.execute(searched).all()) == [("1_fake/flux/7.png", "ok"), ("1_fake/sd/8.png", "ok")]
    assert sorted(column(store, SplitRow.scheme, SplitRow.split)) == [
        ("published", s) for s in ("test", "train", "train")
    ]


def test_annotations_can_follow_the_images(sqlite_store: Store, tmp_path: Path) -> None:
    collect(sqlite_store, [folder(tmp_path / "in", ["a.png", "b.png"])])
    (tmp_path / "said.json").write_text(json.dumps({"b.png": [ANOMALY]}))
    report = collect(sqlite_store, [], CollectOptions(annotations=(str(tmp_path / "said.json"),)))
    assert report.annotations[0].new == {"candidates": 1, "descriptions": 0}


@pytest.mark.parametrize("ending", ["txt", "jsonl", "csv", "parquet"])
def test_lists_of_prompts_alone(ending: str, store: Store, tmp_path: Path) -> None:
    texts = ["a cup", "", "a dog", "a cup"]
    file = tmp_path / f"prompts.{ending}"
    if ending == "txt":
        file.write_text("\n".join(texts))
    elif ending == "csv":
        file.write_text("prompt,group\n" + "".join(f"{text},g\n" for text in texts))
    elif ending == "jsonl":
        lines(file, [{"prompt": text, "group": "g", "tags": ["x"]} for text in texts])
    else:
        pq.write_table(pa.table({"prompt": texts, "group": ["g"] * 4}), file)
    options = CollectOptions(prompts=(file,))
    reports = [collect(store, [], options) for _ in range(2)]
    assert [(report.prompts, report.prompts_known, report.known) for report in reports] == [(2, 1, 0), (0, 0, 1)]
    assert column(store, PromptRow.text, PromptRow.group) == [
        (t, None if ending == "txt" else "g") for t in ("a cup", "a dog")
    ]


def test_the_prompts_of_images_get_the_group_that_a_list_gives_them(store: Store, tmp_path: Path) -> None:
    folder(tmp_path, ["a.png"])
    table = lines(tmp_path / "t.jsonl", [{"image": "a.png", "prompt": "a cup"}])
    groups = [{"prompt": "a cup", "group": "u1"}, {"prompt": "a dog", "group": "u1"}]
    prompts = lines(tmp_path / "p.jsonl", groups)
    collect(store, [table], CollectOptions(prompts=(prompts,)))
    lines(prompts, [{"prompt": "a cup", "group": "u2"}])
    collect(store, [], CollectOptions(prompts=(prompts,)))
    assert column(store, PromptRow.text, PromptRow.group) == [("a cup", "u1"), ("a dog", "u1")]


def test_a_prompt_of_a_million_characters_is_stored_whole_and_a_longer_one_refused(
    store: Store, tmp_path: Path
) -> None:
    long = "x" * 1_000_000
    file = lines(tmp_path / "p.jsonl", [{"prompt": long}, {"prompt": long + "y"}, {"prompt": "nul \0 and \ud800"}])
    report = collect(store, [], CollectOptions(prompts=(file,)))
    assert (report.prompts, report.unreadable) == (2, {"long_prompt": 1})
    assert [len(text) for text in column(store, PromptRow.text)] == [1_000_000, 11]


def test_prompts_without_their_column_are_refused_with_the_columns_that_are_there(
    sqlite_store: Store, tmp_path: Path
) -> None:
    bad = lines(tmp_path / "bad.jsonl", [{"words": "a cup", "n": 1}])
    good = lines(tmp_path / "good.txt", ["a dog"])
    report = collect(sqlite_store, [], CollectOptions(prompts=(bad, good)))
    assert "'words', 'n'" in report.problems[0]
    assert report.prompts == 1


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ([], CollectOptions(), "nothing to collect"),
        (["nowhere"], CollectOptions(), "'nowhere' does not exist"),
        ([""], CollectOptions(), "unset variable"),
        ([], CollectOptions(prompts=(Path("none.txt"),)), "'none.txt' do not exist"),
        ([], CollectOptions(annotations=("none.json",)), "'none.json' does not exist"),
        (["."], CollectOptions(kind="photo"), "no kind 'photo'; the kinds are ai, photograph"),  # type: ignore[arg-type]
    ],
)
def test_mistakes_are_seen_before_anything_is_written(
    inputs: list[str], options: CollectOptions, message: str, sqlite_store: Store
) -> None:
    with pytest.raises(UsageError, match=message):
        collect(sqlite_store, inputs, options)
    assert column(sqlite_store, FileRow.id) == []


def test_a_source_that_is_known_otherwise_is_refused(sqlite_store: Store, tmp_path: Path) -> None:
    inputs = folder(tmp_path / "in", ["a.png"])
    collect(sqlite_store, [inputs], CollectOptions(source="s"))
    collect(sqlite_store, [inputs], CollectOptions(source="s", kind="ai", licence="MIT"))
    assert column(sqlite_store, SourceRow.kind, SourceRow.licence) == [("ai", "MIT")], "what was not known is added"
    with pytest.raises(UsageError, match="has the kind 'ai', not 'photograph'"):
        collect(sqlite_store, [inputs], CollectOptions(source="s", kind="photograph"))


KILLED = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from anomreason.dataset.collect import CollectOptions, collect
from anomreason.dataset.store import open_store

data, given, prompts, moment = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
with open_store(data, create=True) as store:
    commits = iter(range(1, 1000))
    event.listen(store.engine, "commit", lambda _: next(commits) == moment and os.kill(os.getpid(), signal.SIGKILL))
    collect(store, [given], CollectOptions(prompts=(prompts,), copy=True))
"""


def content(data: Path) -> list[list[tuple[Any, ...]]]:
    """All rows of images and prompts, but for the numbers of the commands that wrote them."""
    tables = (SourceRow, PromptRow, ImageRow, FileRow)

    def shown(table: Any) -> list[Any]:
        return [c for c in table.__table__.c if c.name != "command_id"]

    with open_store(data) as store, store.reading() as session:
        return [sorted(tuple(map(str, row)) for row in session.execute(select(*shown(table)))) for table in tables]


def test_a_killed_command_that_is_run_again_gives_the_same_rows(tmp_path: Path) -> None:
    names = [f"{n:03}.png" for n in range(300)]
    folder(tmp_path / "in", names)
    (tmp_path / "in" / "299.png").write_bytes(png(0))
    rows = [{"image": f"in/{name}", "prompt": f"prompt {n % 7}"} for n, name in enumerate([*names, "lost.png"])]
    table = lines(tmp_path / "t.jsonl", rows)
    prompts = lines(tmp_path / "p.txt", [f"prompt {n}" for n in range(20)])

    runs = [("whole", 0), *(("killed", moment) for moment in (2, 3, 5)), ("killed", 0)]
    ends = exit_codes(KILLED, [(tmp_path / name, table, prompts, moment) for name, moment in runs])
    assert ends == [0, *[-signal.SIGKILL] * 3, 0]
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["dataset", "collect", *map(str, arguments)])
    return result.exit_code, result.output


def test_the_command_says_what_it_did_and_what_is_next(tmp_path: Path) -> None:
    inputs = folder(tmp_path / "in", ["a.png"])
    (inputs / "b.png").write_bytes(b"")
    code, output = invoke(tmp_path / "data", inputs, "--kind", "ai")
    assert code == 0
    assert output.startswith("1 new image\nNot readable")
    assert "data: 1 image kept, 1 source\n" in output
    assert "Not readable: 1 empty" in output
    assert "Next: anomreason dataset filter" in output
    code, output = invoke(tmp_path / "data", inputs, "--json")
    assert json.loads(output)["known"] == 2
    prompts = lines(tmp_path / "p.txt", ["a cup", "a cup", "a dog"])
    split = tmp_path / "split.json"
    split.write_text('{"train": ["a.png", "z.png"]}')
    code, output = invoke(tmp_path / "data", inputs, "--prompts", prompts, "--splits", split)
    assert output.startswith("2 files known before\n2 new prompts, 1 prompt known before or listed twice\n")
    assert "split.json: 1 image; new: 1 train\n  1 name fits no image: z.png\n" in output
    (tmp_path / "bad.tar").write_bytes(b"no tar")
    code, output = invoke(tmp_path / "data", tmp_path / "bad.tar")
    assert code == 1
    assert "Not read to its end" in output


def test_a_command_with_a_mistake_makes_no_dataset(tmp_path: Path) -> None:
    assert invoke(tmp_path / "data", tmp_path / "nowhere")[0] != 0
    assert not (tmp_path / "data").exists()
