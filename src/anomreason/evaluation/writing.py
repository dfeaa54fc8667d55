"""Writes files of results: each whole or not at all, into a folder that was checked before the work began.

Lines of `matches.jsonl` wait in a temporary file until everything is scored, so that a failure leaves nothing behind
and memory does not grow with their texts.

    with LineStore() as lines:
        lines.add("a.jpg", image_matches)
        lines.write(Path("matches.jsonl"), ["a.jpg"])
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from anomreason.anomaly import Result
from anomreason.errors import StorageError, UsageError
from anomreason.files import write_atomically
from anomreason.sources.annotations import Source

_ASSETS = ("report.css", "scores.css", "scores.js")
"""Files of a report beside its images."""


class LineStore:
    """Records of images, kept on disk in the order in which they come, written in another. Use as a context manager."""

    def __init__(self) -> None:
        """Raises StorageError where there is no place for temporary files."""
        self._places: dict[str, tuple[int, int]] = {}
        with _kept_here():
            self._file = tempfile.TemporaryFile()  # noqa: SIM115

    def add(self, image: str, record: Result) -> None:
        """Raises StorageError when the disk of temporary files is full."""
        line = json.dumps(record.model_dump(mode="json", by_alias=True, exclude_unset=True), ensure_ascii=False)
        data = line.encode("utf-8", "backslashreplace") + b"\n"
        with _kept_here():
            self._places[image] = (self._file.tell(), len(data))
            self._file.write(data)

    def write(self, path: Path, order: Iterable[str]) -> None:
        """The whole file or none of it. Raises StorageError when it cannot be written."""
        with _kept_here():
            self._file.flush()
        write_atomically(path, map(self._line, order))

    def _line(self, image: str) -> bytes:
        start, length = self._places[image]
        self._file.seek(start)
        return self._file.read(length)

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


def result_folders(sources: Sequence[Source], out: Path) -> tuple[Path, ...]:
    """`out` for a single file; for several, a folder a name, with the parent's name where names repeat."""
    if len(sources) == 1:
        return (out,)
    names = [source.name for source in sources]
    times = Counter(names)
    unique = [f"{s.path.resolve().parent.name}-{n}" if times[n] > 1 else n for s, n in zip(sources, names, strict=True)]
    safe = [re.sub(r"[^\w.+-]+", "-", name).strip(".-") or "predictions" for name in unique]
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


def write_results(folder: Path, metrics: Result, lines: LineStore, order: Iterable[str]) -> None:
    """Both files. What an earlier scoring wrote goes first, so that it never stands beside other numbers."""
    make_folder(folder)
    try:
        (folder / "metrics.json").unlink(missing_ok=True)
        _remove_report(folder)
    except OSError as error:
        raise StorageError(f"cannot remove {error.filename!r}, an earlier result: {error.strerror}") from None
    lines.write(folder / "matches.jsonl", order)
    write_record(folder / "metrics.json", metrics)


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


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {str(folder)!r}: {error.strerror}; choose another --out") from None


def write_record(path: Path, record: Result) -> None:
    """Readable, whole or not at all. Raises StorageError when it cannot be written."""
    value = record.model_dump(mode="json", by_alias=True)
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
