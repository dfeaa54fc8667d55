"""Conversations about images for other trainers: the questions and answers of `anomreason train`.

    datasets.load_dataset("OUT", split="train")[0]["completion"]     # of the format trl

Answers are not bounded here: a trainer that reads them cuts or refuses what is too long for its model.
"""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from anomreason.dataset.export.folder import Draft
from anomreason.dataset.export.imagefolder import TABLE, FolderTables
from anomreason.dataset.export.options import Counts, ExportOptions, split_counts
from anomreason.dataset.export.planning import Plan
from anomreason.dataset.export.records import ExportedImage
from anomreason.dataset.export.rows import STRING, list_of
from anomreason.dataset.export.writing import FileLayout, JsonFiles, Writer
from anomreason.errors import UsageError
from anomreason.files import parse_json, read_lines, read_object, read_text
from anomreason.textform import read_anomalies
from anomreason.training.data.conversations import conversation
from anomreason.training.data.exports import DATASET, dataset_info, message_rows, trl_rows
from anomreason.training.data.instance import Annotated, Dropped, Instance
from anomreason.training.data.questions import Questions

Message = dict[str, str]
_GENERATED = {"ai": True, "photograph": False}
_INFO = "dataset_info.json"


class ChatWriter(Writer):
    """Makes one conversation of each image."""

    def __init__(self, draft: Draft, plan: Plan, options: ExportOptions) -> None:
        super().__init__(draft, plan, options)
        self._questions = Questions.load()

    def refuse(self, image: ExportedImage) -> str | None:
        made = self._conversation(image)
        return re.sub(r"\W+", "_", made.reason) if isinstance(made, Dropped) else None

    def _conversation(self, image: ExportedImage) -> Instance | Dropped:
        place = Path(self.place(image))
        about = Annotated(
            place, image.name, image.quadruples, _GENERATED.get(image.source_kind), self._description(image)
        )
        turns = conversation(about, self.options.task, self.options.seed, self._questions)
        return turns if isinstance(turns, Dropped) else Instance(place, image.name, turns)

    def _description(self, image: ExportedImage) -> str | None:
        """What the conversation is to know of it: with a description alone it would pass for not searched."""
        answered = image.source_kind == "photograph" and self.options.task == "authenticity"
        return image.description if answered or not image.searched else None

    def add(self, image: ExportedImage, data: bytes | None) -> None:
        made = self._conversation(image)
        if isinstance(made, Instance):
            self.write(image, made)

    @abstractmethod
    def write(self, image: ExportedImage, instance: Instance) -> None:
        """Write the conversation; its image is the place in the export."""


class Trl(ChatWriter):
    """TRL's conversational prompt and completion, as an imagefolder: `images` are decoded when it is loaded."""

    def __init__(self, draft: Draft, plan: Plan, options: ExportOptions) -> None:
        super().__init__(draft, plan, options)
        messages = list_of({"role": STRING, "content": STRING})
        features = {"images_file_names": list_of(STRING), "name": STRING, "prompt": messages, "completion": messages}
        self._tables = FolderTables(draft, features)

    def place(self, image: ExportedImage) -> str:
        return f"{image.split}/{image.place}"

    def write(self, image: ExportedImage, instance: Instance) -> None:
        for row in trl_rows(instance):
            chat = {key: row[key] for key in ("prompt", "completion")}
            self._tables.add(image, {"images_file_names": [image.place], "name": image.name, **chat})

    def finish(self) -> FileLayout:
        return FileLayout(
            f"`SPLIT/NAME` are the images, `SPLIT/{TABLE}` the conversations: `prompt`, `completion`, `images`. Open "
            'with\n`datasets.load_dataset("OUT")` and give it to TRL\'s `SFTTrainer` with `max_length=None`, or images '
            "are cut.",
            self._tables.close(),
        )


class LlamaFactory(ChatWriter):
    """LLaMA-Factory's ShareGPT form: a JSON list for each split, listed in `dataset_info.json`."""

    def __init__(self, draft: Draft, plan: Plan, options: ExportOptions) -> None:
        super().__init__(draft, plan, options)
        self._files = JsonFiles(draft, "{}.json", lines=False)

    def write(self, image: ExportedImage, instance: Instance) -> None:
        for row in message_rows(instance):
            self._files.add(image.split, row)

    def finish(self) -> FileLayout:
        self._files.close()
        info = {f"{DATASET}_{split}": dataset_info(f"{split}.json") for split in self._files}
        self.draft.write(_INFO, [json.dumps(info, indent=2).encode() + b"\n"])
        names = ", ".join(f"`{name}`" for name in info)
        return FileLayout(
            f"`{_INFO}` lists the splits as {names}: train with\n`dataset_dir: OUT`, where the images are found too."
        )


class Swift(ChatWriter):
    """ms-swift's messages: JSON lines for each split."""

    def __init__(self, draft: Draft, plan: Plan, options: ExportOptions) -> None:
        super().__init__(draft, plan, options)
        self._files = JsonFiles(draft, "{}.jsonl")

    def write(self, image: ExportedImage, instance: Instance) -> None:
        for row in message_rows(instance):
            self._files.add(image.split, row)

    def finish(self) -> FileLayout:
        self._files.close()
        return FileLayout(
            "`SPLIT.jsonl` are the conversations. Paths of images start in this folder: run in it\n"
            "`swift sft --dataset SPLIT.jsonl ...`."
        )


def count_trl(folder: Path) -> Counts:
    """Images and anomalies by split, read back."""
    return _count(
        (file.parent.name, row["images_file_names"][0], [*row["prompt"], *row["completion"]])
        for file in sorted(folder.glob(f"*/{TABLE}"))
        for batch in pq.ParquetFile(file).iter_batches()
        for row in batch.to_pylist()
    )


def count_llamafactory(folder: Path) -> Counts:
    """Images and anomalies by split, read back."""
    files = {name: one["file_name"] for name, one in read_object(folder / _INFO).items()}
    return _count(
        (name.removeprefix(f"{DATASET}_"), row["images"][0], row["messages"])
        for name, file in files.items()
        for row in _list(folder / file)
    )


def _list(file: Path) -> Iterator[Any]:
    rows = parse_json(read_text(file))
    if not isinstance(rows, list):
        raise UsageError(f"{file}: not a list of conversations; get the export again")
    yield from rows


def count_swift(folder: Path) -> Counts:
    """Images and anomalies by split, read back."""
    return _count(
        (file.stem, row["images"][0], row["messages"])
        for file in sorted(folder.glob("*.jsonl"))
        for _, row in read_lines(file)
    )


def _count(rows: Iterator[tuple[str, str, Sequence[Message]]]) -> Counts:
    images: dict[str, set[str]] = {}
    anomalies: dict[str, int] = {}
    fixed = Questions.load().authenticity
    for split, image, messages in rows:
        images.setdefault(split, set()).add(image)
        answers = [message["content"] for message in messages if message["role"] == "assistant"]
        listed = answers[0] != fixed.photograph and answers[-1] != fixed.generated
        anomalies[split] = anomalies.get(split, 0) + (len(read_anomalies(answers[-1])) if listed else 0)
    return split_counts({split: (len(names), anomalies[split]) for split, names in images.items()})
