"""Facts about reading lists of prompts: from files and stores, with what is damaged kept as such."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anomreason.audit.prompts.reading import ListedPrompt, read_listed
from anomreason.dataset.collect import CollectOptions, collect
from anomreason.dataset.store import Store
from anomreason.errors import UsageError


def test_a_parquet_file_is_read_with_ids_and_tags(tmp_path: Path) -> None:
    table = {"ID": ["a", "b"], "caption": ["a cup", "a dog"], "tags": [["food"], None], "score": [1.0, 2.0]}
    pq.write_table(pa.table(table), tmp_path / "p.parquet")
    place = f"{tmp_path}/p.parquet"
    assert read_listed(tmp_path / "p.parquet").prompts == [
        ListedPrompt(f"{place}/0", "a cup", "a", ("food",)),
        ListedPrompt(f"{place}/1", "a dog", "b"),
    ]


def test_a_damaged_row_is_a_drop_with_its_reason_and_the_next_rows_follow(tmp_path: Path) -> None:
    lines = [
        '{"prompt": "a cup"}',
        '{"prompt": ',
        '{"prompt": ["a"]}',
        '{"other": 1}',
        '{"prompt": " "}',
        '{"prompt": "x"}',
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = read_listed(tmp_path / "p.jsonl")
    assert [prompt.text for prompt in found.prompts] == ["a cup", "x"]
    assert [(drop.reason, drop.place.rpartition("/")[2]) for drop in found.damaged] == [
        ("bad row", "2"),
        ("bad row", "3"),
        ("bad row", "4"),
    ]
    assert "the prompt is a list" in found.damaged[1].message
    assert "no prompt under prompt" in found.damaged[2].message


def test_a_line_that_is_not_utf_8_is_a_drop(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(b"\xef\xbb\xbfa cup\r\n\xff\xfe\xfd\n\n  a dog \n")
    found = read_listed(tmp_path / "p.txt")
    assert [prompt.text for prompt in found.prompts] == ["a cup", "a dog"]
    assert [drop.message.rpartition(": ")[2] for drop in found.damaged] == ["not UTF-8; save the file as UTF-8"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.txt", "", "holds no prompts"),
        ("p.txt", "\n \n", "holds no prompts"),
        ("p.jsonl", "", "holds no prompts"),
        ("p.csv", "", "holds no prompts"),
        ("p.csv", "title,score\na cup,1\n", "no prompt under prompt, text_prompt.*the columns are 'title', 'score'"),
        ("p.jsonl", '{"title": "a cup"}\n', "no prompt under.*the columns are 'title'"),
        ("p.docx", "a cup", "is no list of prompts that is read"),
    ],
)
def test_what_holds_no_prompts_is_an_error(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        read_listed(tmp_path / name)


@pytest.mark.parametrize("source", ["nowhere.csv", "postgresql://"])
def test_what_is_not_there_is_an_error(source: str) -> None:
    with pytest.raises(UsageError, match=r"do not exist|cannot open"):
        read_listed(source)


def test_the_prompts_of_a_dataset_are_read_from_its_folder_and_from_its_address(
    store: Store, database: str | None, tmp_path: Path
) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a cup", "tags": ["food"]}\n{"prompt": "a dog"}\n', encoding="utf-8")
    collect(store, (), CollectOptions(prompts=(tmp_path / "p.jsonl",)))
    expected = [("a cup", ("food",)), ("a dog", ())]
    assert [(p.text, p.tags) for p in read_listed(store.folder).prompts] == expected
    if database is not None:
        assert [(p.text, p.tags) for p in read_listed(database).prompts] == expected


def test_a_database_without_a_dataset_stays_without_one(new_database: str) -> None:
    with pytest.raises(UsageError, match="holds no dataset; check the address"):
        read_listed(new_database)
    with pytest.raises(UsageError, match="holds no dataset; check the address"):
        read_listed(new_database)


def test_a_folder_that_is_no_dataset_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no dataset in work"):
        read_listed(tmp_path)
