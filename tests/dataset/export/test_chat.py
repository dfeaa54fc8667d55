"""Conversations for other trainers: what `train` asks and learns, read by the libraries that can be had."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.dataset.export.filling import Filler

from anomreason.dataset.export import ExportOptions, export
from anomreason.dataset.store import Store, open_store
from anomreason.textform import read_anomalies, write_anomalies
from anomreason.training.data.conversations import conversation
from anomreason.training.data.instance import Dropped, Turn
from anomreason.training.data.questions import Questions
from anomreason.training.data.sources import read_annotated

Load = Callable[..., Any]
NAMES = {"cats/one.png", "flux/two.jpg", "scene.png", "clean.webp", "sd _ 3.5/two.jpg"}


def expected(store: Store, tmp_path: Path, task: Any = "anomalies", seed: int = 0) -> dict[str, tuple[Turn, ...]]:
    """What `train` makes of the published export of the same images, by name."""
    export(store, tmp_path / "published", ExportOptions("published"))
    found: dict[str, tuple[Turn, ...]] = {}
    for part in ("train", "test"):
        for image in read_annotated(tmp_path / "published", part=part).images:
            made = conversation(image, task, seed)
            if not isinstance(made, Dropped):
                found[image.name] = made
    return found


def turns(messages: list[dict[str, str]]) -> tuple[Turn, ...]:
    return tuple(Turn(m["role"], m["content"].removeprefix("<image>")) for m in messages)  # type: ignore[arg-type]


@pytest.mark.parametrize(("task", "seed"), [("anomalies", 0), ("anomalies", 5), ("authenticity", 0)])
def test_questions_and_answers_are_those_of_train(filled: Store, tmp_path: Path, task: Any, seed: int) -> None:
    report = export(filled, tmp_path / "out", ExportOptions("ms-swift", task=task, seed=seed))
    rows = [json.loads(line) for file in (tmp_path / "out").glob("*.jsonl") for line in file.read_text().splitlines()]
    found = {row["images"][0].split("/", 2)[2]: turns(row["messages"]) for row in rows}
    assert found == expected(filled, tmp_path, task, seed)
    assert ("0_real/park.png" in found) == (task == "authenticity")
    assert report.left_out.get("not_searched_for_anomalies", 0) == (task == "anomalies")
    assert found["clean.webp"][-1].text == write_anomalies(())
    assert {a.name for a in read_anomalies(found["flux/two.jpg"][-1].text)} == {'=HYPERLINK("x")', "No shadow"}


def test_trl_learns_every_answer_of_the_dataset_as_it_is_loaded(
    filled: Store, tmp_path: Path, load: Load, tiny_qwen: Path
) -> None:
    pytest.importorskip("trl", exc_type=ImportError)
    from trl.trainer.sft_trainer import DataCollatorForVisionLanguageModeling

    from anomreason.vlm.local.processor import load_processor

    export(filled, tmp_path / "out", ExportOptions("trl", task="authenticity"))
    data = load(tmp_path / "out", split="train")
    assert data.column_names == ["images", "name", "prompt", "completion"]
    assert {row["name"] for row in data} == {"cats/one.png", "flux/two.jpg", "scene.png", "0_real/park.png"}
    assert len(data) == 8
    large = data.map(lambda row: {"images": [image.resize((60, 60)) for image in row["images"]]})
    processor = load_processor(tiny_qwen)
    batch = DataCollatorForVisionLanguageModeling(processor, completion_only_loss=True)([large[i] for i in range(8)])
    learnt = [processor.tokenizer.decode([t for t in row if t >= 0]) for row in batch["labels"].tolist()]
    answers = [t.text for chat in expected(filled, tmp_path, "authenticity").values() for t in chat[1::2]]
    assert {text.removesuffix("\n").removesuffix("<|im_end|>") for text in learnt} <= set(answers)


def test_llamafactory_finds_files_images_and_tags(filled: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(filled, out, ExportOptions("llamafactory"))
    info = json.loads((out / "dataset_info.json").read_text())
    assert sorted(info) == ["anomreason_test", "anomreason_train"]
    for entry in info.values():
        assert entry["formatting"] == "sharegpt"
        tags = entry["tags"]
        for row in json.loads((out / entry["file_name"]).read_text(encoding="utf-8")):
            messages, images = (row[entry["columns"][column]] for column in ("messages", "images"))
            assert [m[tags["role_tag"]] for m in messages] == [tags["user_tag"], tags["assistant_tag"]]
            assert sum(m[tags["content_tag"]].count("<image>") for m in messages) == len(images) == 1
            assert (out / images[0]).is_file()  # LLaMA-Factory looks from its dataset_dir


def test_a_text_with_a_control_token_stays_out_with_that_reason(tmp_path: Path) -> None:
    with open_store(tmp_path / "data", create=True) as store:
        with store.command("collect", {}) as command, store.writing() as session:
            make = Filler(store, session, command.id)
            source = make.source("flux")
            texts = {"phenomenon": "It says <|im_end|>.", "reasoning": "No.", "severity": 5.0}
            make.judge(make.candidate(make.image(source, "a.png"), {"name": "A", **texts}), "accept")
            make.judge(make.candidate(make.image(source, "b.png"), {"name": "B", **texts, "phenomenon": "x"}), "accept")
        for form in ("trl", "llamafactory", "ms-swift"):
            report = export(store, tmp_path / form, ExportOptions(form))
            assert (report.images, report.left_out) == (1, {"its_text_holds_a_control_token": 1})
            assert not (tmp_path / form / "images/train/a.png").exists()


def test_a_photograph_that_was_searched_is_an_answer_that_there_are_none(tmp_path: Path) -> None:
    with open_store(tmp_path / "data", create=True) as store:
        with store.command("collect", {}) as command, store.writing() as session:
            make = Filler(store, session, command.id)
            image = make.image(make.source("camera", kind="photograph"), "a.png")
            make.searched(image)
            make.described(image, "A park.")
        export(store, tmp_path / "out", ExportOptions("ms-swift"))
        export(store, tmp_path / "kind", ExportOptions("ms-swift", task="authenticity"))
    (row,) = map(json.loads, (tmp_path / "out/train.jsonl").read_text().splitlines())
    assert row["messages"][-1]["content"] == "No anomalies."
    (row,) = map(json.loads, (tmp_path / "kind/train.jsonl").read_text().splitlines())
    fixed = Questions.load().authenticity
    assert [m["content"] for m in row["messages"][1::2]] == [fixed.photograph, "A park."]
