"""The reply cache of a run, `responses.sqlite`: keeps every reply and reuses the good ones.

A request whose last reply was cut or unparsable when the process died continues from there. The key of a request
covers model, messages, image hashes, schema, sampling and sample number. Safe with many processes of one machine;
workers on several machines have a store each, above the one of the run, which takes theirs in when they have ended.

    store = ReplyStore(Path("runs/demo/responses.sqlite"))
    store.good(request_key("gpt-4o", request))    # Reply or None
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

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

_CLASHES = """
SELECT theirs.* FROM other.replies AS theirs JOIN main.replies AS ours USING (key)
WHERE (theirs.prompt, theirs.text, theirs.rest) != (ours.prompt, ours.text, ours.rest)
"""
_ENDED = "null"
"""In place of the next attempt: there is none, whatever the store below says."""


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

    def __init__(self, path: Path, below: Path | None = None) -> None:
        """below: another store whose replies are used too; nobody may write to it while it is. Then this one belongs
        to this process alone.
        """
        self.path = path
        self._below: sqlite3.Connection | None = None
        try:
            self._db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            if below is not None:
                self._below = _never_written(below)
                self._db.execute("PRAGMA locking_mode=EXCLUSIVE")  # works on network file systems too
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
        row: tuple[str, ...] | None = None
        try:
            for database in (self._db, self._below):
                if database is not None and row is None:
                    row = database.execute(query, (key,)).fetchone()
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
        if row is None or row[0] == _ENDED:
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
                elif self._below is not None:
                    self._db.execute("INSERT OR REPLACE INTO begun VALUES (?, ?)", (request, _ENDED))
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
        """The calls that were noted and not crossed out: those in flight when a process was killed, and a few that
        had ended just before.
        """
        try:
            rows = self._db.execute("SELECT call FROM sent ORDER BY id").fetchall()
        except sqlite3.Error as e:
            raise self._damaged(e) from e
        return [row[0] for row in rows]

    def forget_unanswered(self) -> None:
        """They stand in the ledger now."""
        try:
            self._db.execute("DELETE FROM sent")
        except sqlite3.Error as e:
            raise self._full(e) from e

    def take_in(self, other: Path) -> dict[str, str]:
        """Take in what another store holds; gives the new keys of replies whose keys are taken here by other ones.

        The same store may be taken in again, should the process be killed before it is removed.
        """
        renamed: dict[str, str] = {}
        try:
            self._db.execute("ATTACH ? AS other", (str(other),))
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.execute("INSERT OR IGNORE INTO texts SELECT * FROM other.texts")
                self._db.execute("INSERT OR IGNORE INTO replies SELECT * FROM other.replies")
                for key, *reply in self._db.execute(_CLASHES).fetchall():
                    renamed[key] = free = self._free_key(key, reply)
                    self._db.execute("INSERT OR IGNORE INTO replies VALUES (?, ?, ?, ?)", (free, *reply))
                good = self._db.execute("SELECT request, key FROM other.good").fetchall()
                good = [(request, renamed.get(key, key)) for request, key in good]
                self._db.executemany("INSERT OR REPLACE INTO good VALUES (?, ?)", good)
                self._db.execute("INSERT OR REPLACE INTO begun SELECT * FROM other.begun")
                self._db.execute("DELETE FROM begun WHERE next = ?", (_ENDED,))
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                self._db.execute("DETACH other")
        except sqlite3.Error as e:
            raise self._full(e) from e
        return renamed

    def _full(self, error: sqlite3.Error) -> StorageError:
        return StorageError(
            f"cannot write {str(self.path)!r}: {error}. Nothing recorded so far is lost: free some space and run the "
            "same command again."
        )

    def _free_key(self, key: str, reply: Sequence[str] = ()) -> str:
        """An earlier bad reply to the very same attempt is kept too, so the new one gets a number.

        reply: prompt, text and rest of a reply that may be there already.
        """
        number, free = 1, key
        while found := self._db.execute("SELECT prompt, text, rest FROM replies WHERE key = ?", (free,)).fetchone():
            if found == tuple(reply):
                break
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

    def settle(self) -> None:
        """Bring everything into the one file, where a store above this one looks. Raises StorageError."""
        try:
            busy = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        except sqlite3.Error as e:
            raise self._full(e) from e
        if busy:
            raise self._full(sqlite3.OperationalError("another program reads it all the time"))

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._db.executemany("DELETE FROM sent WHERE id = ?", self._ended)
        self._db.close()
        if self._below is not None:
            self._below.close()


def _never_written(path: Path) -> sqlite3.Connection:
    """A store that nobody writes to at the time; so no lock is needed, which network file systems are bad at."""
    place = f"file:{quote(str(path))}?mode=ro&immutable=1"
    return sqlite3.connect(place, uri=True, isolation_level=None, check_same_thread=False)


def _flat(request: Request) -> Iterable[Part]:
    yield from request.parts
    for assistant, user in request.turns:
        yield "[assistant] " + assistant
        yield "[user] " + user
