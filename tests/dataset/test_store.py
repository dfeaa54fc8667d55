"""The store: one schema on two databases, whole transactions, one writer of a kind, and messages that help."""

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import func, select, text, update
from tests.dataset.planting import Plan, plant

import anomreason.dataset
from anomreason.dataset.store import Store, add_new, decide, ids_by, open_store, put, refresh_status, storable
from anomreason.dataset.tables import (
    Base,
    CandidateRow,
    CommandRow,
    DecisionRow,
    ImageRow,
    PromptRow,
    SourceRow,
    VerdictRow,
)
from anomreason.errors import RunConflict, StorageError, UsageError

PLANTED = (ImageRow, PromptRow, CandidateRow, VerdictRow)


def prompt(command: int, text: str) -> dict[str, object]:
    return {"sha256": f"{text:>064}", "text": text, "command_id": command}


def images(store: Store, count: int) -> list[int]:
    """So many images of one source; their ids."""
    with store.command("collect", {}) as command, store.writing() as session:
        source = SourceRow(name="flux", kind="ai", command_id=command.id)
        session.add(source)
        session.flush()
        shared = {"source_id": source.id, "width": 64, "height": 48, "format": "PNG", "bytes": 9, "facts": {}}
        rows = [{"sha256": f"{n:064}", "path": f"{n}.png", "name": f"{n}.png"} for n in range(count)]
        add_new(session, ImageRow, [{**row, **shared, "status": "kept", "command_id": command.id} for row in rows])
        return list(session.scalars(select(ImageRow.id).order_by(ImageRow.id)))


def test_the_migrations_make_the_schema_that_the_tables_describe(store: Store) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_a_transaction_that_fails_leaves_nothing(store: Store) -> None:
    with store.command("collect", {}) as command:
        with suppress(ZeroDivisionError), store.writing() as session:
            add_new(session, PromptRow, [prompt(command.id, "a cup")])
            raise ZeroDivisionError
        with store.reading() as session:
            assert session.scalar(select(func.count()).select_from(PromptRow)) == 0


def test_what_is_there_is_not_inserted_again(store: Store) -> None:
    with store.command("collect", {}) as command, store.writing() as session:
        assert add_new(session, PromptRow, [prompt(command.id, t) for t in ("a", "b")]) == 2
        assert add_new(session, PromptRow, [prompt(command.id, t) for t in ("b", "c", "d")]) == 2
        assert add_new(session, PromptRow, []) == 0
        found = ids_by(session, PromptRow.text, PromptRow.id, ["a", "d", "none"])
        assert sorted(found) == ["a", "d"]


def test_a_row_with_a_known_key_gets_the_new_values(store: Store) -> None:
    (image,) = images(store, 1)
    row = {"image_id": image, "filter": "dark", "keep": True, "score": 0.5, "restored": False, "command_id": 1}
    with store.writing() as session:
        put(session, DecisionRow, [row], ("image_id", "filter"))
        put(session, DecisionRow, [{**row, "score": 0.9}], ("image_id", "filter"))
    with store.reading() as session:
        assert session.scalars(select(DecisionRow.score)).all() == [0.9]


def test_the_status_of_an_image_follows_from_the_decisions_about_it(store: Store) -> None:
    first, second = images(store, 2)
    shared = {"score": None, "message": None, "command_id": 1}
    drop = {"keep": False, **shared}

    def states() -> list[tuple[str, str | None]]:
        with store.reading() as session:
            return list(session.execute(select(ImageRow.status, ImageRow.reason).order_by(ImageRow.id)).all())

    decisions = [
        {"image_id": first, "filter": "dark", "reason": "dark", **drop},
        {"image_id": second, "filter": "dark", "keep": True, "reason": None, **shared},
    ]
    with store.writing() as session:
        decide(session, decisions)
    assert states() == [("dropped", "dark"), ("kept", None)]

    with store.writing() as session:
        session.execute(update(DecisionRow).values(restored=True))
        refresh_status(session, [first, second])
    assert states() == [("kept", None), ("kept", None)]

    with store.writing() as session:
        decide(session, decisions)
        decide(session, [{"image_id": second, "filter": "blurry", "reason": "blurry", **drop}])
    assert states() == [("kept", None), ("dropped", "blurry")], "what people restored stays, other filters still drop"


def test_each_command_is_recorded_with_its_settings_and_report(store: Store) -> None:
    with store.command("filter", {"rules": Path("rules.toml"), "dark": 0.3}) as command:
        command.report["dropped"] = 7
    with pytest.raises(ZeroDivisionError), store.command("filter", {}):
        raise ZeroDivisionError
    with store.reading() as session:
        done, stopped = session.scalars(select(CommandRow).order_by(CommandRow.id))
        assert done.settings == {"rules": "rules.toml", "dark": 0.3}
        assert done.report == {"dropped": 7}
        assert done.ended is not None
        assert done.ended >= done.begun
        assert done.begun.tzinfo is not None
        assert stopped.ended is None


def test_two_commands_of_one_name_never_work_at_once(store: Store) -> None:
    with store.command("collect", {}):
        with store.command("filter", {}):
            pass
        with (
            pytest.raises(RunConflict, match=f"another process \\({os.getpid()}\\) runs 'dataset collect'"),
            store.command("collect", {}),
        ):
            pass
    with store.command("collect", {}):
        pass
    with store.command("annotate", {}, part="one detector"):
        with store.command("annotate", {}, part="another detector"):
            pass
        with pytest.raises(RunConflict), store.command("annotate", {}, part="one detector"):
            pass


def test_two_folders_of_one_server_never_run_one_command_at_once(tmp_path: Path, new_database: str) -> None:
    with (
        open_store(tmp_path / "a", new_database, create=True) as one,
        open_store(tmp_path / "b", new_database, create=True) as other,
        one.command("collect", {}),
        pytest.raises(RunConflict, match="another machine runs"),
        other.command("collect", {}),
    ):
        pass


def test_a_reader_sees_one_state_while_another_writes(store: Store) -> None:
    with store.command("collect", {}) as command, store.writing() as writer:
        add_new(writer, PromptRow, [prompt(command.id, "a")])
        with store.reading() as session:
            assert session.scalar(select(func.count()).select_from(PromptRow)) == 0


KILLED = """
import os, signal, sys
from pathlib import Path
from anomreason.dataset.store import open_store, add_new
from anomreason.dataset.tables import PromptRow
store = open_store(Path(sys.argv[1]))
with store.command("collect", {}) as command:
    with store.writing() as session:
        add_new(session, PromptRow, [{"sha256": "1" * 64, "text": "kept", "command_id": command.id}])
    with store.writing() as session:
        add_new(session, PromptRow, [{"sha256": "2" * 64, "text": "half", "command_id": command.id}])
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_command_leaves_whole_transactions_and_no_lock(store: Store) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, str(store.folder)])
    assert killed.returncode == -signal.SIGKILL
    with store.reading() as session:
        assert session.scalars(select(PromptRow.text)).all() == ["kept"]
    with store.command("collect", {}):
        pass


def test_any_text_can_be_stored(store: Store) -> None:
    odd = "NUL \0, half a pair \ud800, \N{GRINNING FACE}, 'quotes\", <script>"
    with store.command("collect", {}) as command, store.writing() as session:
        add_new(session, PromptRow, [prompt(command.id, storable(odd)) | {"sha256": "1" * 64}])
    with store.reading() as session:
        assert session.scalars(select(PromptRow.text)).one() == odd.replace("\0", "\N{REPLACEMENT CHARACTER}").replace(
            "\ud800", "?"
        )
    assert storable("plain") == "plain"


def test_any_text_in_json_can_be_stored_and_looked_into(store: Store) -> None:
    odd = "\0\0a\0", "half \ud800", "a backslash and u0000: \\u0000", "\\\0"
    with store.command("collect", {}) as command, store.writing() as session:
        row = prompt(command.id, "a") | {"tags": list(odd)}
        add_new(session, PromptRow, [row])
    with store.reading() as session:
        assert (
            session.scalar(select(PromptRow.tags[0].as_string()))
            == "\N{REPLACEMENT CHARACTER}" * 2 + "a\N{REPLACEMENT CHARACTER}"
        )
        found = session.scalars(select(PromptRow.tags)).one()
    assert found == [t.replace("\0", "\N{REPLACEMENT CHARACTER}").replace("\ud800", "?") for t in odd]


def test_paths_inside_the_folder_move_with_it(sqlite_store: Store, tmp_path: Path) -> None:
    inside = sqlite_store.folder / "images" / "a.png"
    assert sqlite_store.place(inside) == "images/a.png"
    assert sqlite_store.path("images/a.png") == inside
    outside = tmp_path / "b.png"
    assert sqlite_store.path(sqlite_store.place(outside)) == outside


def test_the_address_of_the_server_is_needed_once_and_its_password_is_not_written(
    tmp_path: Path, new_database: str
) -> None:
    secret = new_database.replace("tester@", "tester:hidden-word@")
    with open_store(tmp_path / "data", secret, create=True) as store:
        assert "hidden-word" not in store.database
    assert not any("hidden-word" in file.read_text() for file in (tmp_path / "data").iterdir() if file.is_file())
    with anomreason.dataset.open(tmp_path / "data") as store:
        assert store.engine.dialect.name == "postgresql"
    with pytest.raises(UsageError, match=r"belongs to the database .*; leave --database out"):
        open_store(tmp_path / "data", "postgresql+psycopg://tester@127.0.0.1/other")


def test_a_database_without_an_encoding_keeps_text_as_it_is(tmp_path: Path, ascii_database: str) -> None:
    with open_store(tmp_path, ascii_database, create=True) as store:
        plant(store, Plan({"\u00e9\U0001f600": 1}))
        with store.reading() as session:
            assert session.scalar(select(SourceRow.name)) == "\u00e9\U0001f600"


def test_a_planted_dataset_has_rows_of_every_sort_on_both_databases(store: Store) -> None:
    plant(store, Plan({"flux": 4, "photographs": 2}, prompts=2, verdicts=True))
    with store.reading() as session:
        counts = {t.__tablename__: session.scalar(select(func.count()).select_from(t)) for t in PLANTED}
    assert counts == {"images": 6, "prompts": 2, "candidates": 12, "verdicts": 12}


@pytest.mark.parametrize(
    ("database", "message"),
    [
        ("somewhere", "'somewhere' is no address of a database; write postgresql\\+psycopg://USER@HOST/NAME"),
        ("mysql://host/db", "the database 'mysql://host/db' is not PostgreSQL; write"),
        ("postgresql://u:secret@127.0.0.1:1/db", r"cannot open the database 'postgresql\+psycopg://u:\*\*\*@127"),
    ],
)
def test_a_wrong_address_is_an_error_that_says_what_to_write(tmp_path: Path, database: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_store(tmp_path / "data", database, create=True)


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is no dataset in work .* begin one with anomreason dataset collect"):
        open_store(tmp_path)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UsageError, match=r"holds other files \('thesis.tex'\) and no dataset; give an empty folder"):
        open_store(tmp_path, create=True)
    with pytest.raises(UsageError, match=r"cannot use .*; give another folder"):
        open_store(tmp_path / "thesis.tex", create=True)


def test_a_database_of_a_later_version_is_refused(store: Store) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UsageError, match=r"a later version of anomreason \(schema '9999'\); upgrade anomreason"):
        store.upgrade()


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    open_store(folder, create=True).close()
    (folder / "dataset.sqlite").write_bytes(b"no database at all, but long enough to be read as one" * 100)
    with pytest.raises((UsageError, StorageError), match=r"dataset.sqlite.*file is not a database"):
        open_store(folder)


def test_a_full_disk_ends_in_one_sentence_and_loses_nothing(sqlite_store: Store) -> None:
    images(sqlite_store, 3)

    def fill() -> None:
        with sqlite_store.command("collect", {}) as command, sqlite_store.writing() as session:
            pages = session.scalar(text("PRAGMA page_count"))
            session.execute(text(f"PRAGMA max_page_count = {pages}"))
            add_new(session, PromptRow, [prompt(command.id, f"{n}" * 30) for n in range(10, 2000)])

    with pytest.raises(StorageError, match=r"database or disk is full\. Nothing recorded so far is lost"):
        fill()
    with sqlite3.connect(sqlite_store.folder / "dataset.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM images").fetchone() == (3,)
