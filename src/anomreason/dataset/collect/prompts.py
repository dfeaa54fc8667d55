"""Lists of prompts alone: text with one a line, JSON lines, CSV, Parquet.

for prompt in read_prompts(Path("prompts.txt"), "prompts.txt"):
    print(prompt.text)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from anomreason import archives
from anomreason.dataset.collect.entries import PROMPT_KEYS, PromptEntry, Remark, prompt_in
from anomreason.dataset.store import storable
from anomreason.errors import UsageError, shown
from anomreason.sources.rows import TABLES, count_rows, open_parquet, read_rows

PROMPT_FILES = (".txt", *TABLES)


def check_prompts(path: Path) -> None:
    """Raises UsageError for what is no list of prompts, before anything is read."""
    if not path.is_file():
        raise UsageError(f"the prompts {str(path)!r} do not exist; give a file ({', '.join(PROMPT_FILES)})")
    if path.suffix.lower() not in PROMPT_FILES:
        raise UsageError(f"{str(path)!r} is no list of prompts that is read; give a file ({', '.join(PROMPT_FILES)})")


def count_prompts(path: Path) -> int:
    """About how many prompts a list has, for progress."""
    return count_rows(path)


def read_prompts(path: Path, place: str) -> Iterator[PromptEntry]:
    """The prompts of a list in its order, blank ones left out. place: the list, as the store writes it.

    Raises UsageError for a list without a column of prompts, naming the columns that it has.
    """
    mtime = (archives.stat(path) or (None, None))[1]
    any_good = False
    for number, values, wrong in prompt_rows(path):
        at = f"{place}/{number}"
        plain = {key.strip().lower(): value for key, value in values.items() if isinstance(key, str)}
        if wrong is None and not plain.keys() & set(PROMPT_KEYS):
            seen = ", ".join(shown(key) for key in list(values)[:12]) or "none"
            wrong = f"{path}, row {number}: no prompt under {', '.join(PROMPT_KEYS)}; the columns are {seen}"
            if not any_good:
                raise UsageError(wrong)
        if wrong is not None:
            yield PromptEntry(at, mtime=mtime, unreadable=Remark("bad_row", storable(wrong)))
            continue
        any_good = True
        text, remark = prompt_in(plain)
        if remark is not None:
            yield PromptEntry(at, mtime=mtime, unreadable=remark)
        elif text is not None:
            yield PromptEntry(at, text, _group(plain.get("group")), tags_in(plain.get("tags")))


def prompt_rows(
    path: Path, columns: Collection[str] = (*PROMPT_KEYS, "group", "tags")
) -> Iterator[tuple[int, Mapping[str, Any], str | None]]:
    """Number and values of each row of a list, or what is wrong with it.

    columns: those that are read of a Parquet file, in lower case. Raises UsageError for one without any of them.
    """
    ending = path.suffix.lower()
    if ending == ".txt":
        yield from _lines(path)
    elif ending == ".parquet":
        table = open_parquet(path)
        wanted = [name for name, embedded in table.columns.items() if name.strip().lower() in columns and not embedded]
        if not wanted:
            seen = ", ".join(map(shown, list(table.columns)[:12])) or "none"
            raise UsageError(f"{path}: no prompt under {', '.join(PROMPT_KEYS)}; the columns are {seen}")
        yield from table.rows(wanted)
    else:
        yield from read_rows(path)


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any], str | None]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield number, {"prompt": line.decode("utf-8-sig" if number == 1 else "utf-8").strip()}, None
            except UnicodeDecodeError:
                yield number, {}, f"{path}, line {number}: not UTF-8; save the file as UTF-8"


def _group(value: Any) -> str | None:
    return storable(str(value)) if isinstance(value, str | int) and str(value).strip() else None


def tags_in(value: Any) -> tuple[str, ...]:
    """Tags as a list or as text with commas; none for anything else."""
    given = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(storable(str(tag).strip()) for tag in given if str(tag).strip())
