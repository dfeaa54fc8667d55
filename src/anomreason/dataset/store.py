"""The store of a dataset in work: one folder, one database of images, prompts, candidates and verdicts.

    with open_store(Path("data")) as store, store.reading() as session:
        print(session.scalar(select(func.count()).select_from(ImageRow)))

The database is `dataset.sqlite` in the folder, or a PostgreSQL server; the schema is the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import Any, Self, cast

from alembic import command as alembic_command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, Table, case, create_engine, event, func, select, update
from sqlalchemy import exc as sql_errors
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.orm import InstrumentedAttribute, Session

from anomreason.buckets import Address, is_address
from anomreason.databases import CONNECT, postgresql_url
from anomreason.dataset.tables import Base, CommandRow, DecisionRow, ImageRow, ImageState
from anomreason.errors import RunConflict, StorageError, UsageError, require
from anomreason.files import read_object, write_atomically
from anomreason.runs import provenance, take_lock

DATABASE = "dataset.sqlite"
ADDRESS = "dataset.json"
"""Holds the address of a PostgreSQL database, without its password."""
BATCH = 500
"""Rows of one statement; SQLite allows 32,766 values in one."""
_WAIT = 60
"""Seconds that a process waits while another one writes."""


def open_store(folder: Path, database: str | None = None, *, create: bool = False) -> Store:
    """Open the store of a dataset's folder, bringing its schema up to date.

    database: `postgresql+psycopg://USER@HOST/NAME`, needed once only; a password in it is used and never written
    (PGPASSWORD and ~/.pgpass are read). create: make folder and database where there are none.
    Raises UsageError when there is no dataset or the database cannot be reached.
    """
    require("datasets in work", "dataset", "sqlalchemy", "alembic")
    recorded = folder / ADDRESS
    if not create and not recorded.is_file() and not (folder / DATABASE).is_file():
        raise UsageError(
            f"{str(folder)!r} is no dataset in work (it has no {DATABASE}): begin one with "
            f"anomreason dataset collect {folder} IMAGES"
        )
    if create:
        _make(folder)
    url = _address(folder, database)
    store = Store(folder, url)
    try:
        store.upgrade()
        if url.get_backend_name() != "sqlite" and not recorded.is_file():
            text = json.dumps({"database": _public(url).render_as_string()}, indent=2)
            write_atomically(recorded, text + "\n")
    except BaseException:
        store.close()
        raise
    return store


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strangers = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise UsageError(f"cannot use {str(folder)!r} for a dataset: {error.strerror}; give another folder") from None
    if strangers and DATABASE not in strangers and ADDRESS not in strangers:
        raise UsageError(f"{str(folder)!r} holds other files ({strangers[0]!r}) and no dataset; give an empty folder")


def _address(folder: Path, database: str | None) -> URL:
    recorded = folder / ADDRESS
    there = read_object(recorded).get("database") if recorded.is_file() else None
    if database is None and there is None:
        return URL.create("sqlite", database=str(folder.absolute() / DATABASE))
    url, before = postgresql_url(database or str(there)), postgresql_url(str(there)) if there else None
    if before is None and (folder / DATABASE).is_file():
        raise UsageError(f"{str(folder)!r} has its database in {DATABASE} already; leave --database out")
    if before is not None and before != _public(url):
        raise UsageError(f"{str(folder)!r} belongs to the database {before.render_as_string()!r}; leave --database out")
    return url


def _public(url: URL) -> URL:
    """The address without its password."""
    return url._replace(password=None)


class Store:
    """An open store. Use as a context manager; sessions of several threads may be open at once."""

    def __init__(self, folder: Path, url: URL) -> None:
        self.folder = folder
        self.database = url.render_as_string()
        """For messages; a password in it is hidden."""
        self.engine = _engine(url)
        self._writing = self.engine.execution_options(begin="IMMEDIATE")
        # Threads wait for one another here: SQLite would make each look again after ever longer pauses.
        self._turn = Lock() if url.get_backend_name() == "sqlite" else nullcontext()

    def upgrade(self) -> None:
        """Bring the schema to this version's. Raises UsageError for a database of a later version."""
        config = Config()
        config.set_main_option("script_location", str(files("anomreason.dataset") / "migrations").replace("%", "%%"))
        scripts = ScriptDirectory.from_config(config)
        with self._errors(), self._writing.begin() as connection:
            if self.engine.dialect.name == "postgresql":
                connection.execute(select(func.pg_advisory_xact_lock(_number("upgrade"))))
            at = MigrationContext.configure(connection).get_current_revision()
            if at == scripts.get_current_head():
                return
            if at is not None and at not in {script.revision for script in scripts.walk_revisions()}:
                raise UsageError(
                    f"the dataset {str(self.folder)!r} was written by a later version of anomreason (schema {at!r}); "
                    "upgrade anomreason"
                )
            config.attributes["connection"] = connection
            alembic_command.upgrade(config, "head")

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that sees one state of the store, whatever others write meanwhile."""
        with self._errors(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A session whose changes are all stored at the end, or none of them."""
        with self._errors(), self._turn, Session(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def command(self, name: str, settings: Mapping[str, Any], part: str = "") -> Iterator[CommandRecord]:
        """A command that writes: its row, and the right to be the only one of its name at work here.

        part: what it works on, where several of one name may work on different parts at once; it serves as a file name.
        Raises RunConflict when another process runs the same command on this dataset.
        """
        with ExitStack() as stack:
            stack.enter_context(self._alone(name, part))
            code = provenance()
            row = CommandRow(
                name=name,
                settings=_storable_json(settings),
                version=code.version,
                git_commit=code.git_commit,
                dirty=code.dirty,
                begun=datetime.now(UTC),
            )
            with self.writing() as session:
                session.add(row)
                session.flush()
                command = CommandRecord(row.id)
            yield command
            with self.writing() as session:
                values = {"ended": datetime.now(UTC), "report": _storable_json(command.report)}
                session.execute(update(CommandRow).where(CommandRow.id == command.id).values(**values))

    @contextmanager
    def _alone(self, name: str, part: str) -> Iterator[None]:
        busy = f"runs 'dataset {name}' on {str(self.folder)!r}; wait until it ends"
        locks = self.folder / ".locks"
        locks.mkdir(exist_ok=True)
        key = f"{name} {part}".rstrip()
        lock = take_lock(locks / key, busy)
        try:
            if self.engine.dialect.name == "postgresql":
                with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    if not connection.scalar(select(func.pg_try_advisory_lock(_number(key)))):
                        raise RunConflict(f"another machine {busy}")
                    try:
                        yield
                    finally:
                        connection.execute(select(func.pg_advisory_unlock(_number(key))))
            else:
                yield
        finally:
            os.close(lock)

    def place(self, path: Path) -> str:
        """A path as the store writes it: relative to the folder when inside, else absolute; an address as it is."""
        if isinstance(path, Address):
            return str(path)
        whole = Path(os.path.abspath(path))
        inside = Path(os.path.abspath(self.folder))
        return whole.relative_to(inside).as_posix() if whole.is_relative_to(inside) else whole.as_posix()

    def path(self, place: str) -> Path:
        """Where a stored path leads."""
        return Address(place) if is_address(place) else self.folder / place

    def close(self) -> None:
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """The database's faults as ours; faults in our own statements stay what they are."""
        try:
            yield
        except (sql_errors.OperationalError, sql_errors.DatabaseError) as error:
            if isinstance(error, sql_errors.ProgrammingError | sql_errors.IntegrityError | sql_errors.DataError):
                raise
            why = str(error.orig).strip().partition("\n")[0]
            if error.statement is None:  # it never came to a statement
                raise UsageError(f"cannot open the database {self.database!r}: {why}; check the address") from error
            raise StorageError(
                f"the database {self.database!r} failed: {why}. Nothing recorded so far is lost: mend that and run the "
                "same command again."
            ) from error


class CommandRecord:
    """A command at work."""

    def __init__(self, id: int) -> None:
        self.id = id
        self.report: dict[str, Any] = {}
        """What it did, in numbers; stored at its end."""


def _engine(url: URL) -> Engine:
    is_file = url.get_backend_name() == "sqlite"
    engine = create_engine(url, json_serializer=_json, connect_args={} if is_file else CONNECT)
    if is_file:
        event.listen(engine, "connect", _on_connect)
        event.listen(engine, "begin", _on_begin)
    return engine


def _json(value: object) -> str:
    """JSON that every database takes and can look into: PostgreSQL reads no value beside an escaped NUL."""
    return storable(_NUL.sub("\\1\N{REPLACEMENT CHARACTER}", json.dumps(value, ensure_ascii=False)))


_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


def _on_connect(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions begin where SQLAlchemy says, not where sqlite3 guesses
    for setting in (
        f"busy_timeout = {_WAIT * 1000}",
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
        "cache_size = -65536",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {setting}").close()


def _on_begin(connection: Connection) -> None:
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get('begin', 'DEFERRED')}")


def _number(name: str) -> int:
    """A number for PostgreSQL's advisory locks."""
    return int.from_bytes(hashlib.sha256(f"anomreason {name}".encode()).digest()[:7], "big")


def storable(text: str) -> str:
    """The text without what no database holds: NUL and halves of surrogate pairs become U+FFFD."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "\N{REPLACEMENT CHARACTER}")


def _storable_json(record: Mapping[str, Any]) -> Any:
    """The same record of what JSON knows, other values as text, and all text as databases hold it."""
    return json.loads(storable(json.dumps(dict(record), default=str, ensure_ascii=False)))


def add_new(session: Session, table: type[Base], rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert the rows that no unique key forbids, and pass over the others; gives the number inserted.

    rows: all with the same keys.
    """
    if not rows:
        return 0
    statement = insert_into(session, table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
    return session.connection().execute(statement, [dict(row) for row in rows]).rowcount


def put(session: Session, table: type[Base], rows: Sequence[Mapping[str, Any]], key: Collection[str]) -> None:
    """Insert the rows, all with the same keys; where one with the same key is there, give it the new values."""
    if not rows:
        return
    statement = insert_into(session, table)
    new = {name: statement.excluded[name] for name in rows[0] if name not in key}
    statement = statement.on_conflict_do_update(index_elements=list(key), set_=new)
    session.connection().execute(statement, [dict(row) for row in rows])


def insert_into(session: Session, table: type[Base]) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that can say what to do where a key is there already."""
    made = cast("Table", table.__table__)
    return postgresql.insert(made) if session.get_bind().dialect.name == "postgresql" else sqlite.insert(made)


def ids_by(
    session: Session, column: InstrumentedAttribute[str], id_column: InstrumentedAttribute[int], values: Iterable[str]
) -> dict[str, int]:
    """The id of each row whose column holds one of the values, e.g. `ImageRow.sha256, ImageRow.id`."""
    wanted = sorted(set(values))
    found: dict[str, int] = {}
    for start in range(0, len(wanted), BATCH):
        part = wanted[start : start + BATCH]
        found.update(session.execute(select(column, id_column).where(column.in_(part))).all())
    return found


def decide(session: Session, decisions: Sequence[Mapping[str, Any]]) -> None:
    """Record decisions (rows of `DecisionRow`, each with `restored` False) and let the images' status follow.

    A decision that repeats an earlier one's verdict keeps what people restored.
    """
    images = [int(d["image_id"]) for d in decisions]
    restored: set[tuple[int, str]] = set()
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        query = select(DecisionRow.image_id, DecisionRow.filter).where(DecisionRow.image_id.in_(part))
        restored.update(session.execute(query.where(DecisionRow.restored)).all())
    rows = [{**d, "restored": (d["image_id"], d["filter"]) in restored} for d in decisions]
    put(session, DecisionRow, rows, ("image_id", "filter"))
    refresh_status(session, images)


def refresh_status(session: Session, images: Sequence[int]) -> None:
    """Make the status of these images follow from the decisions about them."""
    against = select(DecisionRow).where(
        DecisionRow.image_id == ImageRow.id, DecisionRow.keep.is_(False), DecisionRow.restored.is_(False)
    )
    first = against.with_only_columns(DecisionRow.reason).order_by(DecisionRow.command_id, DecisionRow.filter).limit(1)
    for start in range(0, len(images), BATCH):
        session.execute(
            update(ImageRow)
            .where(ImageRow.id.in_(images[start : start + BATCH]))
            .values(
                status=case((against.exists(), ImageState.DROPPED.value), else_=ImageState.KEPT.value),
                reason=first.scalar_subquery(),
            )
            .execution_options(synchronize_session=False)
        )
