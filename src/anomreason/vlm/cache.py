"""The reply cache of a run, `responses.sqlite`: keeps every reply and reuses the good ones.

A request whose last reply was cut or unparsable when the process died continues from there. The key of a request
covers model, messages, image hashes, schema, sampling and sample number. Safe with many processes.

    store = ReplyStore(Path("runs/demo/responses.sqlite"))
    store.good(request_key("gpt-4o", request))    # Reply or None
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from anomreason.anomaly import Usage
from anomreason.errors import StorageError
from anomreason.images import Encoded
from anomreason.vlm.protocol import Part, Reply, Request

_TABLES = """
CREATE TABLE IF NOT EXISTS texts (hash TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, prompt TEXT NOT NULL, text TEXT NOT NULL, rest TEXT NOT NULL)
  WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS good (request TEXT PRIMARY KEY, key TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sent (id INTEGER PRIMARY KEY, call TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS begun (request TEXT PRIMARY KEY, next TEXT NOT NULL) WITHOUT ROWID;
"""


def request_key(model: str, request: Request, *, attempt: bool = False) -> str:
    """Hex name of a request. With `attempt`, the reply's cap and the re-ask count too, as they differ by attempt."""
    sampling = request.sampling
    parts = [p.sha256 if isinstance(p, Encoded) else "text:" + p for p in request.parts]
    what: list[Any] = [model, parts, request.schema, sampling.temperature, sampling.seed, sampling.logprobs]
    what.append(request.tag.sample)
    if request.turns and not attempt:
        what.append(request.turns)  # of a conversation; those of a re-ask are part of the attempt only
    if attempt:
        what += [sampling.max_tokens, request.turns]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:40]


@dataclass(frozen=True, slots=True)
class Stored:
    """A kept reply and its prompt."""

    prompt: str
    """Texts as sent; an image stands as `[image WxH]`."""
    text: str
    finish: str


@dataclass(frozen=True, slots=True)
class Next:
    """Cap and turns of the next attempt at a request."""

    cap: int
    turns: tuple[tuple[str, str], ...]


class ReplyStore:
    """The replies of one run. Raises StorageError when the file cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_TABLES)
        except sqlite3.Error as e:
            raise self._damaged(e) from e
        self._known_texts: dict[str, None] = {}
        self._ended: list[tuple[int]] = []

    def _damaged(self, error: Exception) -> StorageError:
        return StorageError(
            f"cannot use {str(self.path)!r} to keep replies: {error}. If it is damaged, move it away: the results "
            "stay, only replies for unfinished images are requested again."
        )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """What a row cannot hold unless the file is damaged becomes StorageError."""
        try:
            yield
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise self._damaged(error) from error

    def _row(self, query: str, key: str) -> tuple[str, ...] | None:
        try:
            row: tuple[str, ...] | None = self._db.execute(query, (key,)).fetchone()
        except sqlite3.Error as e:
            raise self._damaged(e) from e
        return row

    def good(self, request: str) -> Reply | None:
        """The good reply to a request (by `request_key`), or None."""
        row = self._row("SELECT text, rest FROM good JOIN replies USING (key) WHERE good.request = ?", request)
        if row is None:
            return None
        with self._reading():
            rest = json.loads(row[1])
            notes = tuple(map(str, rest.get("sent_notes", ())))
            logprobs = dict(rest["logprobs"])
            return Reply(str(row[0]), rest["finish"], Usage(**rest["usage"]), rest["model"], logprobs, notes)

    def begun(self, request: str) -> Next | None:
        """The next attempt at a request whose last reply was unusable when the process died."""
        row = self._row("SELECT next FROM begun WHERE request = ?", request)
        if row is None:
            return None
        with self._reading():
            cap, turns = json.loads(row[0])
            return Next(int(cap), tuple((str(a), str(u)) for a, u in turns))

    def put(
        self, sent: Request, reply: Reply, *, model: str, request: str, then: Next | Literal["good", "lost"]
    ) -> str:
        """Keep a reply to an attempt at `request`, with what follows: success, failure or `Next`. Returns its key.

        Raises StorageError when it cannot be written (disk full).
        """
        rest = {
            "finish": reply.finish,
            "usage": reply.usage.model_dump(),
            "model": reply.model,
            "logprobs": dict(reply.logprobs),
            "sent_notes": reply.sent_notes,
        }
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                key = self.next_key(model, sent)
                prompt = json.dumps([self._keep(p) for p in _flat(sent)])
                self._db.execute("INSERT INTO replies VALUES (?, ?, ?, ?)", (key, prompt, reply.text, json.dumps(rest)))
                if isinstance(then, Next):
                    state = json.dumps([then.cap, then.turns])
                    self._db.execute("INSERT OR REPLACE INTO begun VALUES (?, ?)", (request, state))
                else:
                    self._db.execute("DELETE FROM begun WHERE request = ?", (request,))
                if then == "good":
                    self._db.execute("INSERT OR REPLACE INTO good VALUES (?, ?)", (request, key))
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                self._known_texts.clear()
                raise
        except sqlite3.Error as e:
            raise self._full(e) from e
        return key

    def next_key(self, model: str, sent: Request) -> str:
        """The key under which `put` will keep the next reply to this attempt."""
        return self._free_key(request_key(model, sent, attempt=True))

    def sending(self, call: str) -> int:
        """Note a call before it is sent, so that a later process knows of it if this one is killed. Gives its number.

        Raises StorageError when it cannot be written (disk full).
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany("DELETE FROM sent WHERE id = ?", self._ended)
                number = self._db.execute("INSERT INTO sent (call) VALUES (?)", (call,)).lastrowid or 0
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        except sqlite3.Error as e:
            raise self._full(e) from e
        self._ended.clear()
        return number

    def ended(self, number: int) -> None:
        """A noted call has ended and stands in the ledger; written with the next one that is sent."""
        self._ended.append((number,))

    def unanswered(self) -> list[str]:
        """The calls that were noted and have not ended: those in flight when a process was killed. Forgets them."""
        try:
            rows = self._db.execute("DELETE FROM sent RETURNING call").fetchall()
        except sqlite3.Error as e:
            raise self._damaged(e) from e
        return [row[0] for row in rows]

    def _full(self, error: sqlite3.Error) -> StorageError:
        return StorageError(
            f"cannot write {str(self.path)!r}: {error}. Nothing recorded so far is lost: free some space and run the "
            "same command again."
        )

    def _free_key(self, key: str) -> str:
        """An earlier bad reply to the very same attempt is kept too, so the new one gets a number."""
        number, free = 1, key
        while self._db.execute("SELECT 1 FROM replies WHERE key = ?", (free,)).fetchone():
            number += 1
            free = f"{key}-{number}"
        return free

    def _keep(self, part: Part) -> str:
        """Long texts that many calls share are stored once."""
        if isinstance(part, Encoded):
            return f"[image {part.width}x{part.height}]"
        name = "#" + hashlib.sha256(part.encode()).hexdigest()[:32]
        if name not in self._known_texts:
            self._db.execute("INSERT OR IGNORE INTO texts VALUES (?, ?)", (name, part))
            if len(self._known_texts) > 1000:
                self._known_texts.pop(next(iter(self._known_texts)))
            self._known_texts[name] = None
        return name

    def read(self, key: str) -> Stored | None:
        """A kept reply by the key that the ledger names, good or not."""
        row = self._row("SELECT prompt, text, rest FROM replies WHERE key = ?", key)
        if row is None:
            return None
        with self._reading():
            parts = [self._text(p) if p.startswith("#") else p for p in json.loads(row[0])]
            return Stored("\n\n".join(parts), str(row[1]), str(json.loads(row[2])["finish"]))

    def _text(self, name: str) -> str:
        row = self._row("SELECT text FROM texts WHERE hash = ?", name)
        return str(row[0]) if row else "(text lost)"

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._db.executemany("DELETE FROM sent WHERE id = ?", self._ended)
        self._db.close()


def _flat(request: Request) -> Iterable[Part]:
    yield from request.parts
    for assistant, user in request.turns:
        yield "[assistant] " + assistant
        yield "[user] " + user
