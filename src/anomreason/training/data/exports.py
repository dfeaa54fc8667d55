"""Instances as the trainers of others read them: TRL, LLaMA-Factory (ShareGPT form) and ms-swift.

Knows nothing of how instances are made. Each form is one file in a folder, written whole, with absolute paths of
pictures. Try it:

    write_export(made.instances, "llamafactory", Path("data"))
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from anomreason.errors import ParseError, StorageError, UsageError
from anomreason.textform import parse_json
from anomreason.textform.fields import shown
from anomreason.training.data.instance import Instance, Turn

Export = Literal["trl", "llamafactory", "swift"]
Row = dict[str, Any]

IMAGE = "<image>"
"""Stands for the picture in LLaMA-Factory's and ms-swift's texts: exactly once, before the first user text."""
DATASET = "anomreason"
"""Name of the dataset in LLaMA-Factory's dataset_info.json."""
_INFO = {
    "file_name": f"{DATASET}.json",
    "formatting": "sharegpt",
    "columns": {"messages": "messages", "images": "images"},
    "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
}


def trl_rows(instance: Instance) -> Iterator[Row]:
    """Conversational prompt and completion: a row for each answer, what was said before it being its prompt.

    So every answer is learnt and no question is: of a single row with both turns, TRL would learn only the last
    answer, or the second question with it. Train with `max_length=None`, or pictures are cut.
    """
    for place, turn in enumerate(instance.turns):
        if turn.role == "assistant":
            prompt = [_message(before) for before in instance.turns[:place]]
            yield {"prompt": prompt, "completion": [_message(turn)], "images": [str(instance.image)]}


def message_rows(instance: Instance) -> Iterator[Row]:
    """One row of messages with the picture's tag, as LLaMA-Factory and ms-swift read it; both learn every answer."""
    messages = [_message(turn) for turn in instance.turns]
    messages[0]["content"] = IMAGE + messages[0]["content"]
    yield {"messages": messages, "images": [str(instance.image)]}


def _message(turn: Turn) -> dict[str, str]:
    return {"role": turn.role, "content": turn.text}


_FILES: Mapping[Export, tuple[str, Callable[[Instance], Iterator[Row]]]] = {
    "trl": ("trl.jsonl", trl_rows),
    "llamafactory": (f"{DATASET}.json", message_rows),
    "swift": ("swift.jsonl", message_rows),
}


def write_export(instances: Iterable[Instance], form: Export, folder: Path) -> Path:
    """Write one form into `folder`; gives the file of rows. The same instances give the same bytes.

    `trl`: `trl.jsonl`. `swift`: `swift.jsonl`. `llamafactory`: `anomreason.json`, and `dataset_info.json`, in which the
    datasets of others stay. Raises UsageError for no instances, an unknown form and a text that no file can hold,
    StorageError when a file cannot be written.
    """
    if form not in _FILES:
        raise UsageError(f"{form!r} is no form of export; choose one of {', '.join(_FILES)}")
    name, rows = _FILES[form]
    lines = [_line(row) for instance in instances for row in rows(instance)]
    if not lines:
        raise UsageError("there are no instances to write; the report of lengths says what was left out and why")
    file = folder / name
    info = _with_ours(folder / "dataset_info.json") if form == "llamafactory" else None
    _write(file, _array(lines) if info is not None else "".join(f"{line}\n" for line in lines))
    if info is not None:
        _write(folder / "dataset_info.json", json.dumps(info, indent=2, ensure_ascii=False) + "\n")
    return file


def _line(row: Row) -> str:
    image = row["images"][0]
    try:
        image.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"the name of the picture {image!r} is not UTF-8; rename it") from None
    if not os.path.isabs(image):
        row["images"] = [os.path.abspath(image)]
    return json.dumps(row, ensure_ascii=False)


def _array(lines: Sequence[str]) -> str:
    return "[\n" + ",\n".join(lines) + "\n]\n"


def _with_ours(file: Path) -> dict[str, Any]:
    """What LLaMA-Factory's list of datasets holds, and ours."""
    if not file.exists():
        return {DATASET: _INFO}
    try:
        known = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ParseError) as error:
        raise UsageError(f"{file}: {error}; mend it, or export into another folder") from None
    if not isinstance(known, dict):
        raise UsageError(f"{file} holds {shown(known)}, not a list of datasets by name; export into another folder")
    return {**known, DATASET: _INFO}


def _write(file: Path, text: str) -> None:
    """The whole file or none of it."""
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        wrong = shown(error.object[max(0, error.start - 20) : error.end])
        raise UsageError(f"{file}: {wrong} holds characters that are not text; mend the annotation") from None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        os.replace(part, file)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise StorageError(f"{file} cannot be written: {error.strerror or error}") from None
