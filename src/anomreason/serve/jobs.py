"""The jobs of the service, in SQLite or PostgreSQL, each with its image in a file until it has ended.

    with open_jobs(Path("runs/serve")) as jobs:
        jobs.add("a.png", "", hashlib.sha256(data).hexdigest(), data)

A job is queued until it has ended: what a process works on is known to that process alone, so that after kill -9 all
that has not ended is simply taken again. One process at a time works on a folder and a database.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    Connection,
    Engine,
    Index,
    Integer,
    String,
    Text,
    create_engine,
    delete,
    event,
    func,
    select,
    update,
)
from sqlalchemy import exc as sql_errors
from sqlalchemy.engine import URL
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.pool import NullPool

from anomreason.anomaly import Detection, Usage
from anomreason.databases import CONNECT, postgresql_url
from anomreason.errors import RunConflict, StorageError, UsageError
from anomreason.files import parse_json
from anomreason.runs import detection_from, take_lock
from anomreason.serve.messages import JobFailure

DATABASE = "jobs.sqlite"
_LOCK = "serve.lock"
_IMAGES = "uploads"
_ADVISORY = 6_091_823_414_077
"""Number of the lock by which one process at a time works on a PostgreSQL database."""
_ID = re.compile("[A-Za-z0-9_-]{22}")
_BUSY = 30
"""Seconds that SQLite waits for another process that writes."""
_Number = BigInteger().with_variant(Integer, "sqlite")


class _Base(DeclarativeBase):
    pass


class JobRow(_Base):
    """One job."""

    __tablename__ = "jobs"
    __table_args__ = (Index("jobs_of_client", "client", "number"), Index("jobs_by_state", "state", "number"))

    number: Mapped[int] = mapped_column(_Number, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(22), unique=True)
    client: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
    created: Mapped[float]
    ended: Mapped[float | None]
    state: Mapped[str] = mapped_column(String(8))
    cached: Mapped[bool]
    detection: Mapped[str | None] = mapped_column(Text)
    failure_kind: Mapped[str | None] = mapped_column(String(32))
    failure_message: Mapped[str | None] = mapped_column(Text)
    usage: Mapped[str] = mapped_column(Text)


class SpentRow(_Base):
    """What the ended jobs of one client have used; it outlives them."""

    __tablename__ = "spent"

    client: Mapped[str] = mapped_column(String(64), primary_key=True)
    usage: Mapped[str] = mapped_column(Text)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended: with a detection, a failure, or both, where the detection is one of a failure."""

    detection: Detection | None
    failure: JobFailure | None
    cached: bool
    usage: Usage

    @property
    def state(self) -> Literal["done", "failed"]:
        return "failed" if self.failure else "done"


@dataclass(frozen=True, slots=True)
class ImageJob:
    """A job as it is stored."""

    number: int
    """Later jobs have higher ones."""
    id: str
    """Hard to guess."""
    client: str
    """Name of the token it was sent with; empty where none is needed."""
    name: str
    sha256: str
    created: float
    """Seconds since 1970."""
    ending: Ending | None = None


class JobStore:
    """An open store, which no other process has. Use as a context manager. Safe in threads."""

    def __init__(self, engine: Engine, images: Path, keep_images: bool = False) -> None:
        """images: folder of the image files. keep_images: whether they stay after their job has ended."""
        self._engine, self._images, self._keep_images = engine, images, keep_images
        # Threads wait for one another here: SQLite would make each look again after ever longer pauses.
        self._turn = Lock() if engine.dialect.name == "sqlite" else nullcontext()
        with self._errors():
            images.mkdir(exist_ok=True)
            _Base.metadata.create_all(engine)
        self._drop_strays()

    def add(self, name: str, client: str, sha256: str, data: bytes, ending: Ending | None = None) -> ImageJob:
        """Keep a new job with its image; ending: of one that has ended already."""
        values: dict[str, Any] = {"name": name, "client": client, "sha256": sha256, "created": time.time()}
        row = JobRow(id=secrets.token_urlsafe(16), **values, **_columns(ending))
        file = self._images / row.id
        with self._errors():
            try:
                if ending is None or self._keep_images:
                    file.write_bytes(data)  # before the row, so that no job is without
                with self._writing() as session:
                    session.add(row)
                    session.flush()
                    return _job(row)
            except BaseException:
                file.unlink(missing_ok=True)
                raise

    def end(self, job: ImageJob, ending: Ending) -> None:
        """A job has ended. Its image is dropped unless images are kept; what it used counts for its client.

        Nothing is counted twice when this is tried again, although the first try failed only after it was stored.
        """
        still_queued = update(JobRow).where(JobRow.number == job.number, JobRow.state == "queued")
        with self._writing() as session:
            changed = session.scalar(still_queued.values(**_columns(ending)).returning(JobRow.number))
            if changed is not None and ending.usage.calls:
                spent = session.get(SpentRow, job.client) or SpentRow(client=job.client, usage="{}")
                spent.usage = (Usage.model_validate_json(spent.usage) + ending.usage).model_dump_json()
                session.add(spent)
        if not self._keep_images:
            self._drop_image(job.id)

    def waiting(self) -> list[ImageJob]:
        """All jobs that have not ended, the oldest first."""
        return self._listed(select(JobRow).where(JobRow.state == "queued").order_by(JobRow.number))

    def latest(self, client: str, limit: int) -> list[ImageJob]:
        """The newest jobs of a client, the newest first."""
        query = select(JobRow).where(JobRow.client == client)
        return self._listed(query.order_by(JobRow.number.desc()).limit(limit))

    def find(self, id: str) -> ImageJob | None:
        with self._reading() as session:
            row = session.scalar(select(JobRow).where(JobRow.id == id))
            return None if row is None else _job(row)

    def image(self, job: ImageJob) -> bytes | None:
        """The image as it was sent; None when it was dropped."""
        with self._errors():
            try:
                return (self._images / job.id).read_bytes()
            except FileNotFoundError:
                return None

    def spent(self) -> dict[str, Usage]:
        """What the ended jobs of each client have used, those that are forgotten included."""
        with self._reading() as session:
            return {row.client: Usage.model_validate_json(row.usage) for row in session.scalars(select(SpentRow))}

    def forget(self, before: float) -> int:
        """Delete the jobs that ended before that time, seconds since 1970, with their images; gives how many."""
        with self._writing() as session:
            ids = session.scalars(delete(JobRow).where(JobRow.ended < before).returning(JobRow.id)).all()
        for id in ids:
            self._drop_image(id)
        return len(ids)

    def _drop_image(self, id: str) -> None:
        with suppress(OSError):  # the job has ended all the same; the next start tries again
            (self._images / id).unlink(missing_ok=True)

    def _drop_strays(self) -> None:
        """Delete the files of jobs that are not there, or have ended: those of a process that was killed."""
        kept = select(JobRow.id) if self._keep_images else select(JobRow.id).where(JobRow.state == "queued")
        with self._reading() as session:
            names = set(session.scalars(kept))
        for file in self._images.iterdir():
            if file.name not in names and _ID.fullmatch(file.name):
                file.unlink()

    def _listed(self, query: Any) -> list[ImageJob]:
        with self._reading() as session:
            return [_job(row) for row in session.scalars(query)]

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        with self._errors(), Session(self._engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with self._turn, self._errors(), Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """The database's and the disk's faults as ours; faults in our own statements stay what they are."""
        try:
            yield
        except UsageError as error:  # of the claim: after a restart the database is another process's
            raise StorageError(f"the jobs cannot be kept: {error}") from error
        except OSError as error:
            raise StorageError(f"the jobs cannot be kept: {error}; no job is lost, try again later") from error
        except sql_errors.DBAPIError as error:
            if isinstance(error, sql_errors.ProgrammingError | sql_errors.IntegrityError | sql_errors.DataError):
                raise
            why = str(error.orig).strip().partition("\n")[0]
            raise StorageError(f"the jobs cannot be kept: {why}; no job is lost, try again later") from error


@contextmanager
def open_jobs(folder: Path, database: str | None = None, *, keep_images: bool = False) -> Iterator[JobStore]:
    """Open or create the jobs of a folder, for this process alone.

    database: `postgresql+psycopg://USER@HOST/NAME`; None for a SQLite file in the folder. PGPASSWORD and ~/.pgpass
    are read. Raises UsageError for a database that cannot be reached, RunConflict when another process has it.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            strangers = sorted(entry.name for entry in folder.iterdir() if entry.name != "lost+found")
            if strangers and _LOCK not in strangers:
                raise UsageError(
                    f"{str(folder)!r} holds other files ({strangers[0]!r}) and no jobs; give a --jobs that is new "
                    "or empty"
                )
            lock = take_lock(folder / _LOCK, f"serves the jobs in {str(folder)!r}; stop it, or give another --jobs")
        except OSError as error:
            raise UsageError(f"cannot use {str(folder)!r} for jobs: {error.strerror}; give another --jobs") from None
        stack.callback(os.close, lock)
        if database is None:
            engine = create_engine(URL.create("sqlite", database=str(folder.absolute() / DATABASE)))
            event.listen(engine, "connect", _on_connect)
        else:
            url = postgresql_url(database)
            engine = create_engine(url, pool_pre_ping=True, connect_args=CONNECT)
            claim = _Claim(url)
            stack.callback(claim.release)
            claim.hold()
            event.listen(engine, "connect", claim.hold)
        stack.callback(engine.dispose)
        yield JobStore(engine, folder / _IMAGES, keep_images)


class _Claim:
    """The lock of a database, which ends with its connection.

    A database that was restarted has lost it, so it is held again before each new connection is used.
    """

    def __init__(self, url: URL) -> None:
        self._shown = url.render_as_string()
        self._engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=CONNECT)
        self._turn = Lock()
        self._held: Connection | None = None

    def hold(self, *_: object) -> None:
        """Raises UsageError for a database that cannot be opened, RunConflict when another process has the lock."""
        with self._turn:
            if self._held is not None:
                with suppress(sql_errors.DBAPIError):
                    self._held.exec_driver_sql("SELECT 1")
                    return
                self.release()
            try:
                connection = self._engine.connect()
            except sql_errors.DBAPIError as error:
                why = str(error.orig).strip().partition("\n")[0]
                raise UsageError(f"cannot open the database {self._shown!r}: {why}; check the address") from error
            # The server would take a machine that lost its power for alive, with its lock, for two hours.
            for setting in ("idle = 60", "interval = 10", "count = 6"):
                connection.exec_driver_sql(f"SET tcp_keepalives_{setting}")
            if not connection.scalar(select(func.pg_try_advisory_lock(_ADVISORY))):
                connection.close()
                raise RunConflict(
                    f"another process serves the jobs in {self._shown!r}; stop it, or give another --database"
                )
            self._held = connection

    def release(self) -> None:
        if self._held is not None:
            self._held.close()
        self._held = None


def _on_connect(connection: Any, _: object) -> None:
    for setting in (
        f"busy_timeout = {_BUSY * 1000}",
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {setting}").close()


def _columns(ending: Ending | None) -> dict[str, Any]:
    """The columns that say how a job ended."""
    if ending is None:
        return {"state": "queued", "cached": False, "usage": "{}"}
    failure = ending.failure
    return {
        "state": ending.state,
        "ended": time.time(),
        "cached": ending.cached,
        "detection": None if ending.detection is None else _storable(ending.detection.json_line()),
        "failure_kind": failure.kind if failure else None,
        "failure_message": _storable(failure.message) if failure else None,
        "usage": ending.usage.model_dump_json(),
    }


def _storable(text: str) -> str:
    """The text without what PostgreSQL does not hold."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def _job(row: JobRow) -> ImageJob:
    ending = None
    if row.state != "queued":
        detection = None if row.detection is None else detection_from(parse_json(row.detection), f"job {row.id}")
        failure = None
        if row.state == "failed":
            failure = JobFailure.model_validate({"kind": row.failure_kind, "message": row.failure_message})
        ending = Ending(detection, failure, row.cached, Usage.model_validate_json(row.usage))
    return ImageJob(row.number, row.id, row.client, row.name, row.sha256, row.created, ending)
