"""What `eval` leaves behind: `matches.jsonl`, one line an image, and `metrics.json`, written last and whole.

Lines wait in a temporary file until everything is scored, so that a failure leaves nothing behind and memory does not
grow with their texts. Knows nothing of how numbers are made. Try it:

    with Lines() as lines:
        lines.add("a.jpg", {"image": "a.jpg"})
        lines.write(Path("matches.jsonl"), ["a.jpg"])
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from anomreason.errors import UsageError
from anomreason.evaluation.reading import Source
from anomreason.runs import write_atomically
from anomreason.stats import Interval


class Lines:
    """Records of images, kept on disk in the order in which they come, written in another. Use as a context manager."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._places: dict[str, tuple[int, int]] = {}

    def add(self, image: str, record: Mapping[str, Any]) -> None:
        data = json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"
        self._places[image] = (self._file.tell(), len(data))
        self._file.write(data)

    def write(self, path: Path, order: Iterable[str]) -> None:
        """The whole file or none of it. Raises UsageError when it cannot be written."""
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            with part.open("wb") as file:
                for image in order:
                    start, length = self._places[image]
                    self._file.seek(start)
                    file.write(self._file.read(length))
            os.replace(part, path)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise UsageError(f"cannot write {str(path)!r}: {error.strerror or error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.close()


def folders_of(sources: Sequence[Source], out: Path) -> tuple[Path, ...]:
    """`out` for a single file; for several, a folder a name, with the parent's name where names repeat."""
    if len(sources) == 1:
        return (out,)
    names = [source.name for source in sources]
    times = Counter(names)
    told = [f"{s.path.resolve().parent.name}-{n}" if times[n] > 1 else n for s, n in zip(sources, names, strict=True)]
    safe = [re.sub(r"[^\w.+-]+", "-", name).strip(".-") or "predictions" for name in told]
    if doubles := [name for name, count in Counter(safe).items() if count > 1]:
        raise UsageError(f"several predictions are called {doubles[0]!r}; give them names as NAME=PATH")
    return tuple(out / name for name in safe)


def check_folder(folder: Path) -> None:
    """Raise UsageError for a folder that results must not go to."""
    if (folder / "run.json").exists():
        raise UsageError(f"{str(folder)!r} is a run folder and has a report of its own; choose another --out")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{str(folder)!r} is a file; choose a folder with --out")


def write_results(folder: Path, metrics: Mapping[str, Any], lines: Lines, order: Iterable[str]) -> None:
    """Both files. `metrics.json` of an earlier scoring goes first, so that it never stands beside other matches."""
    make_folder(folder)
    (folder / "metrics.json").unlink(missing_ok=True)
    lines.write(folder / "matches.jsonl", order)
    write_json(folder / "metrics.json", metrics)


def plain(value: Any) -> Any:
    """Records as JSON has them: dataclasses and named tuples become objects, intervals and other tuples lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict") and not isinstance(value, Interval):
        return plain(value._asdict())
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {str(folder)!r}: {error.strerror}; choose another --out") from None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Readable, whole or not at all; a number that JSON cannot hold is our mistake and raises ValueError."""
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
