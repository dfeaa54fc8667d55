"""What `eval` leaves behind: `matches.jsonl`, one line an image, and `metrics.json`, written last and whole.

Lines wait in a temporary file until everything is scored, so that a failure leaves nothing behind and memory does not
grow with their texts. Where files are to go is tried out before the work begins. Knows nothing of how numbers are made.
Try it:

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from anomreason.errors import StorageError, UsageError
from anomreason.runs import write_atomically
from anomreason.sources.annotations import Source
from anomreason.stats import Interval

_ASSETS = ("report.css", "scores.css", "scores.js")
"""Files of a report beside its images."""


class Lines:
    """Records of images, kept on disk in the order in which they come, written in another. Use as a context manager."""

    def __init__(self) -> None:
        """Raises StorageError where there is no place for temporary files."""
        self._places: dict[str, tuple[int, int]] = {}
        with _kept_here():
            self._file = tempfile.TemporaryFile()  # noqa: SIM115

    def add(self, image: str, record: Mapping[str, Any]) -> None:
        """Raises StorageError when the disk of temporary files is full."""
        data = json.dumps(record, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"
        with _kept_here():
            self._places[image] = (self._file.tell(), len(data))
            self._file.write(data)

    def write(self, path: Path, order: Iterable[str]) -> None:
        """The whole file or none of it. Raises StorageError when it cannot be written."""
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        with _kept_here():
            self._file.flush()
        try:
            with part.open("wb") as file:
                for image in order:
                    start, length = self._places[image]
                    self._file.seek(start)
                    file.write(self._file.read(length))
            os.replace(part, path)
        except OSError as error:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise StorageError(f"cannot write {str(path)!r}: {error.strerror or error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        with suppress(OSError):  # what a full disk does not take is not wanted any more
            self._file.close()


@contextmanager
def _kept_here() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # tempfile.gettempdir() fails where there is no such folder, which is one of the errors that come here.
        place = tempfile.tempdir or "the folder for temporary files"
        raise StorageError(
            f"cannot keep the matches in {place}: {error.strerror or error}; free some space there, or name another "
            "folder in TMPDIR"
        ) from None


def folders_of(sources: Sequence[Source], out: Path) -> tuple[Path, ...]:
    """`out` for a single file; for several, a folder a name, with the parent's name where names repeat."""
    if len(sources) == 1:
        return (out,)
    names = [source.name for source in sources]
    times = Counter(names)
    told = [f"{s.path.resolve().parent.name}-{n}" if times[n] > 1 else n for s, n in zip(sources, names, strict=True)]
    safe = [re.sub(r"[^\w.+-]+", "-", name).strip(".-") or "predictions" for name in told]
    if doubles := [name for name, count in Counter(safe).items() if count > 1]:
        name = names[safe.index(doubles[0])]
        raise UsageError(f"several predictions are called {name!r}; give each a name of its own as NAME=PATH")
    return tuple(out / name for name in safe)


def check_folder(folder: Path) -> None:
    """Raise UsageError for a folder that results must not or cannot go to; to be asked before the work begins.

    Tries it out: the folder is made and a file in it, and both are gone again afterwards.
    """
    try:
        if (folder / "run.json").exists():
            raise UsageError(f"{str(folder)!r} is a run folder and has a report of its own; choose another --out")
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{str(folder)!r} is a file; choose a folder with --out")
        new = [path for path in (folder, *folder.parents) if not path.exists()]
    except OSError as error:
        raise UsageError(f"cannot use the folder {str(folder)!r}: {error.strerror}; choose another --out") from None
    try:
        make_folder(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"cannot write into {str(folder)!r}: {error.strerror}; choose another --out") from None
    finally:
        for path in new:
            with suppress(OSError):
                path.rmdir()


def write_results(folder: Path, metrics: Mapping[str, Any], lines: Lines, order: Iterable[str]) -> None:
    """Both files. What an earlier scoring wrote goes first, so that it never stands beside other numbers."""
    make_folder(folder)
    try:
        (folder / "metrics.json").unlink(missing_ok=True)
        _remove_report(folder)
    except OSError as error:
        raise StorageError(f"cannot remove {error.filename!r}, an earlier result: {error.strerror}") from None
    lines.write(folder / "matches.jsonl", order)
    write_json(folder / "metrics.json", metrics)


def _remove_report(folder: Path) -> None:
    """The report of an earlier scoring, known by its index of images; files that are not its own stay."""
    report, data = folder / "report", folder / "report" / "scores"
    if not (data / "index.js").is_file():
        return
    for path in (folder / "report.html", *(report / name for name in _ASSETS)):
        path.unlink(missing_ok=True)
    for path in data.glob("*.js"):
        if path.stem.isdecimal() or path.stem == "index":
            path.unlink()
    for path in (data, report):
        with suppress(OSError):  # something else lies in it
            path.rmdir()


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
    """Readable, whole or not at all. Raises StorageError when it cannot be written.

    A number that JSON cannot hold is our mistake and raises ValueError.
    """
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
