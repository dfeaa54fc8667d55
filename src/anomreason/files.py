"""Text and JSON files: read strictly, written whole.

for number, row in read_lines(Path("scenes/metadata.jsonl")):
    print(number, row["file_name"])
"""

from __future__ import annotations

import codecs
import io
import json
import math
import os
import re
import threading
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from difflib import get_close_matches
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pydantic import ValidationError

from anomreason.errors import ParseError, StorageError, UnknownKeys, UsageError, first_error, shown

T = TypeVar("T")

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark. UsageError, naming the line, for others."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}; check the path") from None
    try:
        return data.decode("utf-16") if data.startswith(_UTF_16) else data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from None


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds. Raises UsageError, naming the file."""
    return _object(read_text(path), str(path), "repair the file")


def read_lines(
    path: Path, *, appended: bool = False, damaged: Callable[[int, str], None] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and JSON object of each line that is not blank; one line is held in memory at a time.

    appended: the file is written by an `Appender`. It need not exist yet, and a last line without its newline was cut
    off when its writer was killed: it is passed over. Any other damaged line is a UsageError that names file and line.
    damaged: called instead, with the line's number and that message; the next lines follow.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(_utf_8_lines(file), 1):
                if line.strip() and not (appended and not line.endswith(b"\n")):
                    try:
                        found = _line(line, number, f"{path}, line {number}")
                    except UsageError as error:
                        if damaged is None:
                            raise
                        damaged(number, str(error))
                    else:
                        yield number, found
    except FileNotFoundError as error:
        if not appended:
            raise UsageError(f"{path} cannot be read: {error.strerror}; check the path") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}; check the path") from None


def _line(line: bytes, number: int, where: str) -> dict[str, Any]:
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{where}: not UTF-8; save the file as UTF-8") from None
    return _object(text, where, "repair or remove the line")


def _utf_8_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines as they are; those of a file in UTF-16 (as PowerShell writes it) in UTF-8."""
    start = file.read(2)
    file.seek(0)
    if start not in _UTF_16:
        yield from file
        return
    try:
        with io.TextIOWrapper(file, "utf-16", newline="\n") as lines:
            for line in lines:
                yield line.encode("utf-8")
    except UnicodeError:
        raise UsageError(f"{file.name}: not UTF-8, nor whole UTF-16; save the file as UTF-8") from None


def read_record(
    line: Mapping[str, Any],
    validate: Callable[[Mapping[str, Any]], T],
    known: Callable[[tuple[str | int, ...]], Collection[str]],
    where: str,
    what: str,
) -> T:
    """The record that a JSON line holds. Unknown keys, as a later version may write, are left out with a warning.

    validate: raises ValidationError, for unknown keys too. known: the keys of the object at a place. where, what: of
    the line, for messages. Raises UsageError for a line that is damaged; a misspelt key is damage.
    """
    try:
        return validate(line)
    except ValidationError as error:
        places = [e["loc"] for e in error.errors() if e["type"] in ("extra_forbidden", "unexpected_keyword_argument")]
        if len(places) < error.error_count():
            raise UsageError(f"{where}: not {what}: {first_error(error)}; repair or remove the line") from None
    less = deepcopy(dict(line))
    for *path, key in places:
        holder: dict[str | int, Any] = reduce(getitem, path, less)  # type: ignore[arg-type]
        meant = get_close_matches(str(key), set(known(tuple(path))) - holder.keys(), 1, 0.7)
        if meant:
            raise UsageError(f"{where}: unknown key {shown(key)}, meant as {meant[0]!r}; repair or remove the line")
        del holder[key]
        file = where.partition(", line ")[0]
        warnings.warn(f"{file}: the unknown key {shown(key)} is left out, as of a later version", UnknownKeys, 2)
    return read_record(less, validate, known, where, what)


def _object(text: str, where: str, remedy: str) -> dict[str, Any]:
    try:
        value = parse_json(text)
    except ParseError as error:
        raise UsageError(f"{where}: {error}; {remedy}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{where}: write one JSON object, not {shown(value)}")
    return value


def parse_json(text: str) -> Any:
    """Strict JSON: no NaN, no infinity or what becomes one as a float, no key twice in an object. Raises ParseError."""
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ParseError("the JSON is nested too deeply") from None
    except ValueError as error:
        raise ParseError(f"the JSON cannot be read: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {shown(key)} stands twice in one object")
        found[key] = value
    return found


def _number(digits: str) -> float:
    number = float(digits) if len(digits) <= 400 else math.inf
    if not math.isfinite(number):
        raise ValueError(f"{shown(digits)} is not a number that JSON can hold")
    return number


def _integer(digits: str) -> int:
    _number(digits)
    return int(digits)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_number, parse_float=_number, parse_int=_integer)


class Appender:
    """An append-only file of JSON lines that survives kill -9: a line is written whole, a torn tail is cut off."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._size = _cut_torn_tail(self._fd)

    def append(self, line: str) -> None:
        """Write one line. Raises StorageError when the disk is full, leaving no torn line behind."""
        data = line.encode("utf-8") + b"\n"
        try:
            written = os.write(self._fd, data)
            if written < len(data):
                raise OSError(f"only {written} of {len(data)} bytes were written")
        except OSError as e:
            os.ftruncate(self._fd, self._size)
            raise StorageError(
                f"cannot write {self.path}: {e}. Nothing recorded so far is lost: free some space and run the same "
                "command again."
            ) from e
        self._size += len(data)

    def close(self) -> None:
        os.close(self._fd)


def _cut_torn_tail(fd: int) -> int:
    """Remove what follows the last newline; gives the size that remains."""
    size = os.fstat(fd).st_size
    end = size
    while end > 0:
        start = max(0, end - 65536)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(fd, end)
    return end


def write_atomically(path: Path, data: str | bytes | Iterable[bytes], *, sync: bool = True) -> None:
    """Write the whole file or none of it; on an error the old file stays and no draft is left behind.

    data: a text is written as UTF-8; an iterable is written part by part. sync: wait until the disk has it, so that
    this holds also when the machine stops; False for thousands of files that can be made again. Raises StorageError.
    """
    if isinstance(data, str):
        data = data.encode("utf-8", "backslashreplace")  # file names need not be UTF-8
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        with draft.open("wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise StorageError(
            f"cannot write {str(path)!r}: {error.strerror or error}; check the folder, its permissions and the free "
            "space, then run the same command again"
        ) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


_DRAFT = re.compile(r"\..+\.(\d+)\.\d+\.part")


def remove_drafts(folder: Path) -> None:
    """Remove what `write_atomically` left in a folder when its process was killed; not what a living one writes."""
    for draft in folder.glob(".*.part"):
        found = _DRAFT.fullmatch(draft.name)
        if found and not _lives(int(found[1])):
            with suppress(OSError):
                draft.unlink()


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
