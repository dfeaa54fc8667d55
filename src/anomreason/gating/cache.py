"""Detections kept by the content of the images, so that no image is paid for twice: a folder, safe with many processes.

A detection is found again by the image's bytes and the settings that decide the results, whatever the image is called.
An image that one call works on is claimed, so that another waits for its detection; a claim ends with its process.

    with DetectionCache(Path("runs/gate")) as cache:
        cache.find(["..."])
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from anomreason.anomaly import Detection, Usage
from anomreason.errors import StorageError, UsageError
from anomreason.files import parse_json
from anomreason.runs import ImageStatus, detection_from

FILE = "detections.sqlite"
_TABLES = """
CREATE TABLE IF NOT EXISTS detections (key TEXT PRIMARY KEY, line TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent (id INTEGER PRIMARY KEY, calls INTEGER, prompt INTEGER, reply INTEGER, cost REAL);
"""
_AT_ONCE = 500
"""Keys in one query."""


class DetectionCache:
    """An open cache and what this call has claimed in it. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        """Open or create it. Raises UsageError for a folder of other files, StorageError when it cannot be used."""
        self.folder = folder
        self._file = folder / FILE
        if folder.is_dir() and not self._file.exists() and any(folder.iterdir()):
            raise UsageError(
                f"{str(folder)!r} holds other files and no cache ({FILE}); give another --cache that is new or empty"
            )
        self._owner = f"{os.getpid()}-{uuid.uuid4().hex}"
        self._writing = threading.Lock()
        try:
            (folder / "owners").mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._owner_file(self._owner), os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StorageError(f"cannot use {str(folder)!r} as a cache: {error}; give another --cache") from error
        try:
            self._db = sqlite3.connect(self._file, timeout=60, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_TABLES)
        except sqlite3.Error as error:
            os.close(self._lock)
            raise self._damaged(error) from error

    @property
    def replies(self) -> Path:
        """Where the replies of the model are kept, so that an image that was begun is not paid for from the start."""
        return self.folder / "responses.sqlite"

    def find(self, keys: Collection[str]) -> dict[str, Detection]:
        """The detections that are kept, by key."""
        listed, found = list(keys), dict[str, Detection]()
        for start in range(0, len(listed), _AT_ONCE):
            part = listed[start : start + _AT_ONCE]
            query = f"SELECT key, line FROM detections WHERE key IN ({', '.join('?' * len(part))})"
            with self._using():
                rows = self._db.execute(query, part).fetchall()
            for key, line in rows:
                found[key] = detection_from(parse_json(line), f"{self._file}, image {key}")
        return found

    def put(self, key: str, detection: Detection) -> None:
        """Count what a detection has used, and keep it unless another try may give another."""
        used = detection.usage
        # A file that cannot be read costs nothing to try again, and the reason may lie elsewhere.
        keep = ImageStatus.of(detection).final and not (
            detection.failure and detection.failure.kind == "unreadable_image"
        )
        with self._transaction():
            if used.calls:
                row = (used.calls, used.prompt_tokens, used.completion_tokens, used.cost)
                self._db.execute("INSERT INTO spent (calls, prompt, reply, cost) VALUES (?, ?, ?, ?)", row)
            if keep:
                self._db.execute("INSERT OR REPLACE INTO detections VALUES (?, ?)", (key, detection.json_line()))
            self._db.execute("DELETE FROM claims WHERE key = ? AND owner = ?", (key, self._owner))

    def spent(self) -> Usage:
        """What all detections recorded here have used."""
        query = "SELECT total(calls), total(prompt), total(reply), sum(cost) FROM spent"
        with self._using():
            calls, prompt, reply, cost = self._db.execute(query).fetchone()
        return Usage(calls=int(calls), prompt_tokens=int(prompt), completion_tokens=int(reply), cost=cost)

    def claim(self, keys: Sequence[str], patient: bool = True) -> list[str]:
        """Those of the keys that this call is to detect: not kept yet, and not claimed by a call that still runs.

        patient: False takes those of other calls in this process too.
        """
        mine, alive = list[str](), dict[str, bool]()
        with self._transaction():
            for key in keys:
                if self._db.execute("SELECT 1 FROM detections WHERE key = ?", (key,)).fetchone():
                    continue
                row = self._db.execute("SELECT owner FROM claims WHERE key = ?", (key,)).fetchone()
                owner = row[0] if row else self._owner
                if owner != self._owner and owner not in alive:
                    here = owner.startswith(f"{os.getpid()}-")
                    alive[owner] = self._is_alive(owner) and (patient or not here)
                if not alive.get(owner, False):
                    self._db.execute("INSERT OR REPLACE INTO claims VALUES (?, ?)", (key, self._owner))
                    mine.append(key)
        return mine

    def release(self) -> None:
        """Give up what is still claimed."""
        with self._transaction():
            self._db.execute("DELETE FROM claims WHERE owner = ?", (self._owner,))

    def _owner_file(self, owner: str) -> Path:
        return self.folder / "owners" / owner

    def _is_alive(self, owner: str) -> bool:
        """Whether the call that claims as this owner still runs; the system ends its lock however it ends."""
        try:
            lock = os.open(self._owner_file(owner), os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(lock)
        self._owner_file(owner).unlink(missing_ok=True)
        return False

    @contextmanager
    def _using(self) -> Iterator[None]:
        try:
            with self._writing:
                yield
        except sqlite3.Error as error:
            raise self._damaged(error) from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._using():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _damaged(self, error: Exception) -> StorageError:
        return StorageError(
            f"cannot use {str(self._file)!r} to keep detections: {error}. If it is damaged, move the folder away; its "
            "images are then asked about again."
        )

    def close(self) -> None:
        """Give up what is still claimed, and close the files."""
        try:
            self.release()
        finally:
            self._db.close()
            self._owner_file(self._owner).unlink(missing_ok=True)
            os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
