"""Writes conversations for other trainers: TRL, LLaMA-Factory (ShareGPT form) and ms-swift.

Each form is one file in a folder, written whole, with absolute image paths.

    write_export(made.instances, "llamafactory", Path("data"))
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from anomreason.errors import ParseError, StorageError, UsageError, shown
from anomreason.files import parse_json, write_atomically
from anomreason.training.data.instance import Instance, Turn

Export = Literal["trl", "llamafactory", "swift"]
ExportRow = dict[str, Any]

IMAGE = "<image>"
"""Stands for the image in LLaMA-Factory's and ms-swift's texts: exactly once, before the first user text."""
DATASET = "anomreason"
"""Name of the dataset in LLaMA-Factory's dataset_info.json."""


def dataset_info(file_name: str) -> dict[str, Any]:
    """An entry of LLaMA-Factory's dataset_info.json, for a JSON list of `message_rows`."""
    return {
        "file_name": file_name,
        "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    }


def trl_rows(instance: Instance) -> Iterator[ExportRow]:
    """Conversational prompt and completion: a row for each answer, with everything before it as its prompt.

    So every answer is learnt and no question is: of a single row with both turns, TRL would learn only the last
    answer, or the second question with it. Train with `max_length=None`, or images are cut.
    """
    for place, turn in enumerate(instance.turns):
        if turn.role == "assistant":
            prompt = [_message(before) for before in instance.turns[:place]]
            yield {"prompt": prompt, "completion": [_message(turn)], "images": [str(instance.image)]}


def message_rows(instance: Instance) -> Iterator[ExportRow]:
    """One row of messages with the image's tag, as LLaMA-Factory and ms-swift read it; both learn every answer."""
    messages = [_message(turn) for turn in instance.turns]
    messages[0]["content"] = IMAGE + messages[0]["content"]
    yield {"messages": messages, "images": [str(instance.image)]}


def _message(turn: Turn) -> dict[str, str]:
    return {"role": turn.role, "content": turn.text}


_FILES: Mapping[Export, tuple[str, Callable[[Instance], Iterator[ExportRow]]]] = {
    "trl": ("trl.jsonl", trl_rows),
    "llamafactory": (f"{DATASET}.json", message_rows),
    "swift": ("swift.jsonl", message_rows),
}


def write_export(instances: Iterable[Instance], form: Export, folder: Path) -> Path:
    """Write one form into `folder`; gives the file of rows. The same instances give the same bytes.

    `trl`: `trl.jsonl`. `swift`: `swift.jsonl`. `llamafactory`: `anomreason.json`, and `dataset_info.json`, where other
    datasets are kept. Raises UsageError for no instances, an unknown form and a text that no file can hold,
    StorageError when a file cannot be written.
    """
    if form not in _FILES:
        raise UsageError(f"{form!r} is not an export form; choose one of {', '.join(_FILES)}")
    name, rows = _FILES[form]
    lines = [_line(row) for instance in instances for row in rows(instance)]
    if not lines:
        raise UsageError("there are no instances to write; the report of lengths says what was left out and why")
    file = folder / name
    info = _with_ours(folder / "dataset_info.json") if form == "llamafactory" else None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {str(folder)!r}: {error.strerror}") from None
    write_atomically(file, _array(lines) if info is not None else "".join(f"{line}\n" for line in lines))
    if info is not None:
        write_atomically(folder / "dataset_info.json", json.dumps(info, indent=2, ensure_ascii=False) + "\n")
    return file


def _line(row: ExportRow) -> str:
    image = row["images"][0]
    try:
        image.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"the image name {image!r} is not UTF-8; rename it") from None
    if not os.path.isabs(image):
        row["images"] = [os.path.abspath(image)]
    line = json.dumps(row, ensure_ascii=False)
    try:
        line.encode("utf-8")
    except UnicodeEncodeError as error:
        wrong = shown(line[max(0, error.start - 20) : error.end])
        raise UsageError(f"{image}: {wrong} holds characters that are not text; correct the annotation") from None
    return line


def _array(lines: Sequence[str]) -> str:
    return "[\n" + ",\n".join(lines) + "\n]\n"


def _with_ours(file: Path) -> dict[str, Any]:
    """What LLaMA-Factory's list of datasets holds, and ours."""
    ours = {DATASET: dataset_info(f"{DATASET}.json")}
    if not file.exists():
        return ours
    try:
        known = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ParseError) as error:
        raise UsageError(f"{file}: {error}; correct it, or export into another folder") from None
    if not isinstance(known, dict):
        raise UsageError(f"{file} holds {shown(known)}, not a list of datasets by name; export into another folder")
    return known | ours
