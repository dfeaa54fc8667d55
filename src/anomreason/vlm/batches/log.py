"""What a run has put into batches and what came back, beside its replies in `responses.sqlite`.

A request is known by the key under which its reply will be kept, so an answer that is read twice counts once.

    log = BatchLog(Path("runs/demo"))
    log.waiting    # requests by their custom_id that are in a file and have no answer
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from anomreason.anomaly import Usage
from anomreason.errors import StorageError
from anomreason.vlm.cache import ReplyStore
from anomreason.vlm.protocol import Request, Tag

FOLDER = "batches"
"""The folder of the files within that of the run."""
FILE = re.compile(r"round-(\d+)-\d+\.jsonl")
_TABLES = """
CREATE TABLE IF NOT EXISTS batched (key TEXT PRIMARY KEY, tries INTEGER NOT NULL, file TEXT NOT NULL,
  sent TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batch_habits (id INTEGER PRIMARY KEY CHECK (id = 0), habits TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Batched:
    """A request that was put into a file."""

    key: str
    """Of its reply in the store, once there is one."""
    tries: int
    """Attempts that came back with an error."""
    file: str
    """Name of the file that holds it; empty between an error and the next file."""
    tag: Tag
    options: frozenset[str]
    """Optional parts of the body that it has."""
    notes: tuple[str, ...]
    """How its images were changed for the server."""
    worst: Usage
    """What it may use at most, tokens."""
    again: bool
    """Whether its image had a result already, a failure, and was begun anew."""

    @property
    def custom_id(self) -> str:
        """The name of this attempt in the files."""
        return f"{self.key}.{self.tries}" if self.tries else self.key


class BatchLog:
    """The batches of one run. Raises StorageError when its file cannot be used. One process at a time."""

    def __init__(self, run: Path) -> None:
        self.folder = run / FOLDER
        self.path = run / "responses.sqlite"
        self._store = ReplyStore(self.path)
        with self._using():
            self._db = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
            self._db.executescript(_TABLES)
            answered = "EXISTS (SELECT 1 FROM replies WHERE replies.key = batched.key)"
            rows = self._db.execute(f"SELECT key, tries, file, sent FROM batched WHERE NOT {answered}").fetchall()
            self._open = {row[0]: _batched(row) for row in rows}
            # A file that is not there was never finished, or its owner took it away: it is taken as never sent.
            there = {path.name for path in self.folder.glob("*.jsonl")}
            self.waiting = {one.custom_id: one for one in self._open.values() if one.file in there}

    @contextmanager
    def _using(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, ValueError, TypeError, KeyError) as e:
            raise StorageError(
                f"cannot use {str(self.path)!r} for the batches: {e}; free some space, or move the file away if it is "
                "damaged: the results stay"
            ) from e

    def next_round(self) -> int:
        """The number of the next round of files."""
        with self._using():
            logged = [row[0] for row in self._db.execute("SELECT DISTINCT file FROM batched")]
        names = [*logged, *(path.name for path in self.folder.glob("*.jsonl"))]
        return max((int(found[1]) for name in names if (found := FILE.fullmatch(name))), default=0) + 1

    def find(self, model: str, request: Request) -> tuple[str, Batched | None]:
        """The key under which the reply to this attempt will be kept, and what is known of it when it was batched."""
        key = self._store.next_key(model, request)
        return key, self._open.get(key)

    def written(self, requests: Iterable[Batched]) -> None:
        """These are in their files now."""
        rows = list(requests)
        with self._using():
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT OR REPLACE INTO batched VALUES (?, ?, ?, ?)", map(_row, rows))
            self._db.execute("COMMIT")
        for one in rows:
            self._open[one.key] = self.waiting[one.custom_id] = one

    def answered(self, one: Batched) -> None:
        """Its reply goes to the store now."""
        self.waiting.pop(one.custom_id, None)

    def failed(self, one: Batched) -> Batched:
        """This attempt has come back without a reply that could be kept; gives the request as it is known from now."""
        self.waiting.pop(one.custom_id, None)
        again = replace(one, tries=one.tries + 1, file="")
        with self._using():
            self._db.execute("INSERT OR REPLACE INTO batched VALUES (?, ?, ?, ?)", _row(again))
        self._open[one.key] = again
        return again

    def habits(self) -> Mapping[str, Any] | None:
        """What was learnt of the server; None before the first batch."""
        with self._using():
            row = self._db.execute("SELECT habits FROM batch_habits").fetchone()
            return json.loads(row[0]) if row else None

    def keep_habits(self, habits: Mapping[str, Any]) -> None:
        with self._using():
            self._db.execute("INSERT OR REPLACE INTO batch_habits VALUES (0, ?)", (json.dumps(habits),))

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._db.close()
        self._store.close()


def _row(one: Batched) -> tuple[str, int, str, str]:
    worst = [one.worst.prompt_tokens, one.worst.completion_tokens]
    sent: dict[str, Any] = {"tag": asdict(one.tag), "options": sorted(one.options), "notes": one.notes}
    sent |= {"worst": worst, "again": one.again}
    return one.key, one.tries, one.file, json.dumps(sent)


def _batched(row: tuple[str, int, str, str]) -> Batched:
    key, tries, file, text = row
    sent = json.loads(text)
    worst = Usage(calls=1, prompt_tokens=sent["worst"][0], completion_tokens=sent["worst"][1])
    options, notes = frozenset(map(str, sent["options"])), tuple(map(str, sent["notes"]))
    return Batched(key, tries, file, Tag(**sent["tag"]), options, notes, worst, bool(sent["again"]))
