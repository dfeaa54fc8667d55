"""Reads lists of prompts with their ids and tags: files of several forms, and the store of a dataset.

for prompt in read_listed("prompts.csv").prompts:
    print(prompt.text, prompt.tags)

A row has its prompt under one of `PROMPT_KEYS`, its tags under `tags`, `skills` (GenEval 2) or `class` (MagicBench).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from anomreason.anomaly import Result
from anomreason.audit.prompts.tags import plain_tag
from anomreason.errors import UsageError

if TYPE_CHECKING:
    from anomreason.dataset.store import Store

DropReason = Literal[
    "bad row",
    "too long",
    "duplicate",
    "near-duplicate",
    "not a photograph",
    "unreadable",
    "unanswered",
    "not chosen",
]
"""Why a prompt is not in the choice.

`bad row`: the row holds no prompt that can be read. `unreadable`: the model's answer about the prompt could not be
read. `unanswered`: the model gave no answer. Prompts with either of these are asked about again by the next run.
"""
TAG_KEYS = ("tags", "skills", "class")
"""Columns that hold tags; the first that is there counts."""
POSTGRESQL = ("postgresql://", "postgresql+psycopg://")


class ListedPrompt(NamedTuple):
    """One prompt of a list."""

    place: str
    """Where it stands, for messages: file and row, or dataset and number."""
    text: str
    id: str | None = None
    tags: tuple[str, ...] = ()


class DroppedPrompt(Result):
    """A prompt that is not in the choice; one line of `OUT.dropped.jsonl`."""

    place: str
    text: str
    reason: DropReason
    message: str
    """The reason in a sentence."""
    similarity: float | None = None
    """With the prompt that it is a near-duplicate of, or with the nearest chosen one; -1..1."""
    tags: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, prompt: ListedPrompt, reason: DropReason, message: str, similarity: float | None = None
    ) -> DroppedPrompt:
        """Without texts that no file could hold, and with at most 2,000 characters of a longer one."""
        shown = None if similarity is None else round(similarity, 4)
        return cls(
            place=prompt.place,
            text=prompt.text[:2000],
            reason=reason,
            message=message,
            similarity=shown,
            tags=prompt.tags,
        )


class PromptList(NamedTuple):
    """What a list holds, in its order."""

    prompts: list[ListedPrompt]
    damaged: list[DroppedPrompt]
    """Rows without a prompt that can be read."""


def read_listed(source: str | Path) -> PromptList:
    """The prompts of a dataset's folder, of a PostgreSQL address, or of a .txt, .jsonl, .csv, .tsv or .parquet file.

    Blank prompts are left out. Raises UsageError for what holds no prompts, naming the columns that a table has.
    """
    if str(source).startswith(POSTGRESQL):
        found = PromptList(_from_server(str(source)), [])
    elif (path := Path(source).expanduser()).is_dir():
        from anomreason.dataset import open as open_dataset

        with open_dataset(path) as store:
            found = PromptList(list(_from_store(store, str(source))), [])
    else:
        found = _from_file(path)
    if not found.prompts and not found.damaged:
        raise UsageError(f"{source} holds no prompts; give a list with at least one")
    return found


def _from_file(path: Path) -> PromptList:
    from anomreason.dataset.collect.entries import PROMPT_KEYS
    from anomreason.dataset.collect.prompts import check_prompts, prompt_rows

    check_prompts(path)
    found = PromptList([], [])
    for number, values, wrong in prompt_rows(path, (*PROMPT_KEYS, *TAG_KEYS, "id")):
        place = f"{path}/{number}"
        plain = {key.strip().lower(): value for key, value in values.items() if isinstance(key, str)}
        if wrong is None and not found.prompts and not plain.keys() & set(PROMPT_KEYS):
            seen = ", ".join(repr(str(key)[:40]) for key in list(values)[:12]) or "none"
            raise UsageError(f"{path}, row {number}: no prompt under {', '.join(PROMPT_KEYS)}; the columns are {seen}")
        _add_row(found, place, plain, wrong)
    return found


def _add_row(found: PromptList, place: str, row: Mapping[str, Any], wrong: str | None) -> None:
    from anomreason.dataset.collect.entries import PROMPT_KEYS, prompt_in
    from anomreason.dataset.store import storable

    text, remark = prompt_in(row)
    if wrong is None and remark is not None:
        wrong = remark.message
    elif wrong is None and not row.keys() & set(PROMPT_KEYS):
        wrong = f"there is no prompt under {', '.join(PROMPT_KEYS)}"
    if wrong is not None:
        found.damaged.append(DroppedPrompt(place=place, text="", reason="bad row", message=storable(wrong)))
    elif text is not None:
        id = row.get("id")
        name = storable(str(id)).strip() if isinstance(id, str | int) and not isinstance(id, bool) else ""
        found.prompts.append(ListedPrompt(place, text.strip(), name or None, _tags(row)))


def _tags(row: Mapping[str, Any]) -> tuple[str, ...]:
    from anomreason.dataset.collect.prompts import tags_in

    value = next((row[key] for key in TAG_KEYS if row.get(key) is not None), None)
    if isinstance(value, list):  # GenEval 2 may list the skills of each part
        value = [tag for part in value for tag in (part if isinstance(part, list) else [part]) if isinstance(tag, str)]
    return tuple(dict.fromkeys(map(plain_tag, tags_in(value))))


def _from_store(store: Store, source: str) -> Iterator[ListedPrompt]:
    from sqlalchemy import select

    from anomreason.dataset.tables import PromptRow

    with store.reading() as session:
        query = select(PromptRow.id, PromptRow.text, PromptRow.tags).order_by(PromptRow.id)
        for number, text, tags in session.execute(query).yield_per(1000):
            if text.strip():
                yield ListedPrompt(f"{source}/{number}", text.strip(), None, _tags({"tags": tags}))


def _from_server(address: str) -> list[ListedPrompt]:
    """The prompts of a dataset that is known by the address of its database alone."""
    from sqlalchemy import exc

    import anomreason.dataset  # noqa: F401  # says what is to be installed
    from anomreason.databases import postgresql_url
    from anomreason.dataset.store import Store

    url = postgresql_url(address)
    with TemporaryDirectory() as folder, Store(Path(folder), url) as store:
        try:
            return list(_from_store(store, url.render_as_string()))
        except exc.ProgrammingError:
            raise UsageError(f"the database {url.render_as_string()!r} holds no dataset; check the address") from None
