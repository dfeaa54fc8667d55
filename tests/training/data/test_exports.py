"""The three forms of export, opened by the libraries that read them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from anomreason.errors import StorageError, UsageError
from anomreason.training.data.exports import message_rows, trl_rows, write_export
from anomreason.training.data.instance import Instance, Turn

LIST = "@1. Name: Six fingers\nPhenomenon: Six.\nReasoning: Fünf.\nSeverity Score: 5"


@pytest.fixture
def instances(tmp_path: Path) -> list[Instance]:
    """One of one turn in two parts, one of two turns."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", (60, 60), "white").save(tmp_path / name)
    one = Instance(tmp_path / "a.png", "a.png", (Turn("user", "What is odd?"), Turn("assistant", LIST)), 1, 2)
    turns = Turn("user", "Which?"), Turn("assistant", "photograph"), Turn("user", "Why?"), Turn("assistant", "A cat.")
    return [one, replace(one, part=2), Instance(tmp_path / "b.png", "b.png", turns)]


def rows_of(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_trl_has_a_row_for_each_answer_with_all_before_it_as_prompt(instances: list[Instance]) -> None:
    assert [list(trl_rows(one)) for one in instances[1:]] == [
        [
            {
                "prompt": [{"role": "user", "content": "What is odd?"}],
                "completion": [{"role": "assistant", "content": LIST}],
                "images": [str(instances[0].image)],
            }
        ],
        [
            {
                "prompt": [{"role": "user", "content": "Which?"}],
                "completion": [{"role": "assistant", "content": "photograph"}],
                "images": [str(instances[2].image)],
            },
            {
                "prompt": [
                    {"role": "user", "content": "Which?"},
                    {"role": "assistant", "content": "photograph"},
                    {"role": "user", "content": "Why?"},
                ],
                "completion": [{"role": "assistant", "content": "A cat."}],
                "images": [str(instances[2].image)],
            },
        ],
    ]


def test_messages_name_the_picture_once_before_the_first_question(instances: list[Instance]) -> None:
    assert list(message_rows(instances[2])) == [
        {
            "messages": [
                {"role": "user", "content": "<image>Which?"},
                {"role": "assistant", "content": "photograph"},
                {"role": "user", "content": "Why?"},
                {"role": "assistant", "content": "A cat."},
            ],
            "images": [str(instances[2].image)],
        }
    ]


def test_trl_s_own_collator_learns_every_answer_and_no_question(
    instances: list[Instance], tiny_qwen: Path, tmp_path: Path
) -> None:
    pytest.importorskip("trl", exc_type=ImportError)
    from datasets import Image as ImageFeature
    from datasets import List, load_dataset
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    from anomreason.vlm.local.processor import load_processor

    file = write_export(instances, "trl", tmp_path / "out")
    data = load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))
    data = data.cast_column("images", List(ImageFeature()))
    processor = load_processor(tiny_qwen)
    batch = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)([data[i] for i in range(4)])
    learnt = [processor.tokenizer.decode([t for t in row if t >= 0]) for row in batch["labels"].tolist()]
    assert [text.removesuffix("\n") for text in learnt] == [
        f"{answer}<|im_end|>" for answer in (LIST, LIST, "photograph", "A cat.")
    ]
    asked = processor.tokenizer.decode(batch["input_ids"][3])
    assert "<|vision_end|>Which?<|im_end|>" in asked
    assert len(batch["image_grid_thw"]) == 4


@pytest.mark.parametrize("form", ["llamafactory", "swift"])
def test_messages_are_read_by_the_reader_of_json_that_both_trainers_use(
    instances: list[Instance], tmp_path: Path, form: Any
) -> None:
    datasets = pytest.importorskip("datasets", exc_type=ImportError)
    file = write_export(instances, form, tmp_path / "out")
    data = datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))
    assert data.column_names == ["messages", "images"]
    assert list(data) == [row for one in instances for row in message_rows(one)]


def test_llamafactory_s_documented_fields_are_all_there_and_point_at_the_file(
    instances: list[Instance], tmp_path: Path
) -> None:
    file = write_export(instances, "llamafactory", tmp_path)
    info = json.loads((tmp_path / "dataset_info.json").read_text())["anomreason"]
    assert info["file_name"] == file.name
    assert info["formatting"] == "sharegpt"
    assert info["columns"] == {"messages": "messages", "images": "images"}
    tags = info["tags"]
    for row in json.loads(file.read_text(encoding="utf-8")):
        messages = row[info["columns"]["messages"]]
        assert [m[tags["role_tag"]] for m in messages] == [tags["user_tag"], tags["assistant_tag"]] * (
            len(messages) // 2
        )
        text = "".join(m[tags["content_tag"]] for m in messages)
        assert text.count("<image>") == len(row[info["columns"]["images"]]) == 1


def test_llamafactory_s_own_reader_opens_it(instances: list[Instance], tmp_path: Path) -> None:
    parser = pytest.importorskip("llamafactory.data.parser", exc_type=ImportError)
    converter = pytest.importorskip("llamafactory.data.converter", exc_type=ImportError)
    from types import SimpleNamespace

    file = write_export(instances, "llamafactory", tmp_path)
    (found,) = parser.get_dataset_list(["anomreason"], str(tmp_path))
    assert (found.load_from, found.dataset_name, found.formatting) == ("file", file.name, "sharegpt")
    convert = converter.get_dataset_converter(found.formatting, found, SimpleNamespace(media_dir=str(tmp_path)))
    rows = [convert(row) for row in json.loads(file.read_text(encoding="utf-8"))]
    assert [row["_response"][0]["content"] for row in rows] == [LIST, LIST, "A cat."]
    assert [message["content"] for message in rows[2]["_prompt"]] == ["<image>Which?", "photograph", "Why?"]
    assert [row["_images"] for row in rows] == [[str(one.image)] for one in instances]


def test_swift_s_documented_fields_are_all_there(instances: list[Instance], tmp_path: Path) -> None:
    for row in rows_of(write_export(instances, "swift", tmp_path)):
        assert set(row) == {"messages", "images"}
        assert all(set(message) == {"role", "content"} for message in row["messages"])
        assert [m["role"] for m in row["messages"]] == ["user", "assistant"] * (len(row["messages"]) // 2)
        assert sum(message["content"].count("<image>") for message in row["messages"]) == len(row["images"]) == 1
        assert Path(row["images"][0]).is_absolute()
        assert Path(row["images"][0]).is_file()


def test_swift_s_own_reader_opens_it(instances: list[Instance], tmp_path: Path) -> None:
    swift = pytest.importorskip("swift.dataset", exc_type=ImportError)

    file = write_export(instances, "swift", tmp_path)
    data, _ = swift.load_dataset(str(file), split_dataset_ratio=0.0)
    assert [row["messages"] for row in data] == [row["messages"] for row in rows_of(file)]
    assert [row["images"][0]["path"] for row in data] == [str(one.image) for one in instances]


@pytest.mark.parametrize("form", ["trl", "llamafactory", "swift"])
def test_the_same_instances_give_the_same_bytes_and_nothing_else_is_left_in_the_folder(
    instances: list[Instance], tmp_path: Path, form: Any
) -> None:
    first = write_export(instances, form, tmp_path / "one")
    again = write_export(instances, form, tmp_path / "two")
    assert first.read_bytes() == again.read_bytes()
    assert write_export(instances, form, tmp_path / "one") == first
    left = {file.name for file in (tmp_path / "one").iterdir()}
    assert left == {first.name} | ({"dataset_info.json"} if form == "llamafactory" else set())
    assert "Fünf" in first.read_text(encoding="utf-8")


def test_a_relative_path_is_written_as_an_absolute_one(
    instances: list[Instance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = write_export([replace(instances[0], image=Path("a.png"))], "swift", tmp_path / "out")
    assert rows_of(file)[0]["images"] == [str(tmp_path / "a.png")]


def test_the_datasets_of_others_stay_in_llamafactory_s_list(instances: list[Instance], tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text('{"theirs": {"file_name": "x.json"}, "anomreason": 1}')
    write_export(instances, "llamafactory", tmp_path)
    known = json.loads((tmp_path / "dataset_info.json").read_text())
    assert known["theirs"] == {"file_name": "x.json"}
    assert known["anomreason"]["formatting"] == "sharegpt"


@pytest.mark.parametrize("damaged", [b"[1]", b"{", b"\xff"])
def test_a_damaged_list_of_datasets_is_left_alone_and_named(
    instances: list[Instance], tmp_path: Path, damaged: bytes
) -> None:
    file = tmp_path / "dataset_info.json"
    file.write_bytes(damaged)
    with pytest.raises(UsageError, match="dataset_info"):
        write_export(instances, "llamafactory", tmp_path)
    assert file.read_bytes() == damaged
    assert not (tmp_path / "anomreason.json").exists()


def test_nothing_to_write_an_unknown_form_and_texts_that_are_none_are_refused(
    instances: list[Instance], tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no instances to write"):
        write_export([], "trl", tmp_path / "out")
    with pytest.raises(UsageError, match="'csv' is not an export form; choose one of trl, llamafactory, swift"):
        write_export(instances, "csv", tmp_path / "out")  # type: ignore[arg-type]
    half = replace(instances[0], turns=(Turn("user", "x"), Turn("assistant", "half \ud800")))
    with pytest.raises(UsageError, match="not text; correct the annotation"):
        write_export([half], "swift", tmp_path / "out")
    with pytest.raises(UsageError, match="is not UTF-8; rename it"):
        write_export([replace(instances[0], image=Path("/a/\udcff.png"))], "trl", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_named(instances: list[Instance], tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(StorageError, match="cannot write"):
        write_export(instances, "trl", tmp_path / "out")
