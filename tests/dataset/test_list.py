"""`dataset list`, `retry` and `restore`: what became of everything, and how it is brought back or tried again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from tests.dataset.planting import Plan, plant
from tests.dataset.test_collect import folder, lines, png
from typer.testing import CliRunner

from anomreason.cli import app
from anomreason.dataset.collect import CollectOptions, collect
from anomreason.dataset.listing import Listing, ListQuery, listing
from anomreason.dataset.restore import restore
from anomreason.dataset.retry import retry
from anomreason.dataset.store import Store, add_new, decide
from anomreason.dataset.tables import CommandRow, DetectionRow, FileRow, GenerationRow, ImageRow, PromptRow
from anomreason.errors import UsageError


def counts(found: Listing) -> list[tuple[str, str, str | None, str | None, int]]:
    return [(one.step, one.status, one.reason, one.by, one.number) for one in found.counts]


def drop(store: Store, filter: str, images: list[int]) -> None:
    shared = {"filter": filter, "score": 0.1, "keep": False, "reason": filter, "message": "too much", "command_id": 1}
    with store.writing() as session:
        decide(session, [{"image_id": image, **shared} for image in images])


def generated(store: Store) -> None:
    """Three generations of the first prompts: done, refused, blank."""
    with store.writing() as session:
        prompts = session.scalars(select(PromptRow.id).order_by(PromptRow.id).limit(3)).all()
        shared = {"generator": "flux", "seed": 0, "command_id": 1}
        rows = [
            {"prompt_id": prompt, "status": status, "message": message, **shared}
            for prompt, status, message in zip(
                prompts, ("done", "refused", "blank"), (None, "no", "white"), strict=True
            )
        ]
        add_new(session, GenerationRow, rows)


def test_everything_is_counted_by_step_status_and_reason(store: Store, tmp_path: Path) -> None:
    plant(store, Plan({"flux": 4, "photographs": 2}, prompts=3))
    generated(store)
    drop(store, "blurry", [1, 2])
    drop(store, "dark", [2])
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "e.png").write_bytes(b"")
    collect(store, [tmp_path / "in"])
    found = listing(store, ListQuery())
    assert counts(found) == [
        ("images", "dropped", "blurry", "flux", 2),
        ("images", "kept", None, "flux", 2),
        ("images", "kept", None, "photographs", 2),
        ("collect", "unreadable", "empty", None, 1),
        ("filter", "dropped", "blurry", "blurry", 2),
        ("filter", "dropped", "dark", "dark", 1),
        ("generate", "blank", "blank", "flux", 1),
        ("generate", "done", None, "flux", 1),
        ("generate", "refused", "refused", "flux", 1),
        ("annotate", "ok", None, "reader lean", 4),
    ]
    row = next(row for row in found.rows if row.step == "filter")
    assert (row.what, row.reason, row.message) == ("images/flux/00000.png", "blurry", "too much")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (ListQuery(status="dropped"), [("images", 2), ("filter", 2), ("filter", 1)]),
        (ListQuery(reason="dark"), [("filter", 1)]),
        (ListQuery(step="images", source="photographs"), [("images", 2)]),
        (ListQuery(source="photographs"), [("images", 2)]),
        (ListQuery(status="unreadable"), []),
    ],
)
def test_a_question_narrows_what_is_counted(
    query: ListQuery, found: list[tuple[str, int]], sqlite_store: Store
) -> None:
    plant(sqlite_store, Plan({"flux": 4, "photographs": 2}))
    drop(sqlite_store, "blurry", [1, 2])
    drop(sqlite_store, "dark", [2])
    listed = listing(sqlite_store, query)
    assert [(one.step, one.number) for one in listed.counts] == found
    assert len(listed.rows) == sum(number for _, number in found)


def test_rows_are_limited_and_counts_are_not(sqlite_store: Store) -> None:
    plant(sqlite_store, Plan({"flux": 30}, candidates=0))
    found = listing(sqlite_store, ListQuery(step="images", limit=5))
    assert (len(found.rows), found.counts[0].number) == (5, 30)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (ListQuery(step="export"), "no step 'export'; the steps are images, collect"),  # type: ignore[arg-type]
        (ListQuery(source="flx"), "no source 'flx'; the sources are flux"),
        (ListQuery(status="bogus"), "no status 'bogus'; the statuses are kept, dropped, collected, .*failed, .*retry"),
        (ListQuery("images", "unreadable"), "of the step 'images'; the statuses are kept, dropped"),
        (ListQuery(limit=-1), "at least 0"),
    ],
)
def test_a_question_that_cannot_be_answered_names_what_can(query: ListQuery, message: str, sqlite_store: Store) -> None:
    plant(sqlite_store, Plan({"flux": 1}))
    with pytest.raises(UsageError, match=message):
        listing(sqlite_store, query)


def statuses(store: Store) -> list[tuple[str, str | None]]:
    with store.reading() as session:
        return list(session.execute(select(ImageRow.status, ImageRow.reason).order_by(ImageRow.id)).all())


def test_what_one_filter_dropped_comes_back_unless_another_dropped_it_too(store: Store) -> None:
    plant(store, Plan({"flux": 3}, candidates=0))
    drop(store, "blurry", [1, 2, 3])
    drop(store, "dark", [2])
    report = restore(store, "blurry")
    assert (report.restored, report.kept, report.dropped) == (3, 2, {"dark": 1})
    assert statuses(store) == [("kept", None), ("dropped", "dark"), ("kept", None)]
    drop(store, "blurry", [1])
    assert statuses(store)[0] == ("kept", None), "the same filter run again respects it"
    assert ("filter", "restored", "blurry", "blurry", 3) in counts(listing(store, ListQuery()))


def test_single_images_come_back_by_their_hash(sqlite_store: Store) -> None:
    plant(sqlite_store, Plan({"flux": 3}, candidates=0))
    drop(sqlite_store, "blurry", [1, 2])
    shas = [row.sha256 for row in listing(sqlite_store, ListQuery(step="filter")).rows]
    assert restore(sqlite_store, "blurry", [str(shas[1])[:8]]).kept == 1
    assert [status for status, _ in statuses(sqlite_store)] == ["dropped", "kept", "kept"]
    for wrong in ("abc", "0" * 64, str(shas[1])):
        with pytest.raises(UsageError, match="names no image that 'blurry' dropped"):
            restore(sqlite_store, "blurry", [wrong])
    with pytest.raises(UsageError, match="'sharp' drops no image; the filters that do: blurry"):
        restore(sqlite_store, "sharp")


def test_single_images_come_back_by_their_path_or_name(store: Store, tmp_path: Path) -> None:
    inputs = folder(tmp_path / "in", ["a_b.png", "one/c.png", "two/c.png", "axb.png"])
    collect(store, [inputs], CollectOptions(copy=True))
    drop(store, "blurry", [1, 2, 3, 4])
    with pytest.raises(UsageError, match=r"'c.png' names several images .*: 'images/.*', 'images/.*'; give the path"):
        restore(store, "blurry", ["c.png"])
    assert restore(store, "blurry", ["one/c.png", str(inputs / "one" / "c.png")]).restored == 1
    assert restore(store, "blurry", ["c.png", "a_b.png"]).kept == 2, "one/c.png is not dropped any more"
    (left,) = listing(store, ListQuery(status="dropped", step="images")).rows
    assert restore(store, "blurry", [left.what]).kept == 1, "the path that list shows"


def test_unreadable_files_are_looked_at_again_with_all_that_their_list_says(store: Store, tmp_path: Path) -> None:
    folder(tmp_path, ["a.png"])
    (tmp_path / "b.png").write_bytes(cut := png(2, side=200)[:300])
    (tmp_path / "c.png").write_bytes(cut)
    rows = [{"image": name, "prompt": f"prompt of {name}", "source": "s"} for name in ("a.png", "b.png", "c.png")]
    collect(store, [lines(tmp_path / "t.jsonl", rows)], CollectOptions(copy=True))
    (tmp_path / "b.png").write_bytes(png(2, side=200))
    report = retry(store, "damaged")
    assert (report.files, report.files_collected, report.files_unreadable) == (2, 1, {"damaged": 1})
    with store.reading() as session:
        query = select(ImageRow.name, PromptRow.text).join(PromptRow).order_by(ImageRow.id)
        assert session.execute(query).all()[-1] == ("b.png", "prompt of b.png")
        assert session.scalars(select(ImageRow.path).order_by(ImageRow.id)).all()[-1].startswith("images/")


def test_what_else_changed_is_counted_with_what_is_tried_again(store: Store, tmp_path: Path) -> None:
    inputs = folder(tmp_path / "in", ["a.png"])
    (inputs / "cut.png").write_bytes(png(2, side=200)[:300])
    for name in ("e.png", "f.png"):
        (inputs / name).write_bytes(b"")
    collect(store, [inputs])
    (inputs / "e.png").write_bytes(png(5))
    (inputs / "new.png").write_bytes(png(6))
    (inputs / "junk.png").write_bytes(b"junk")
    report = retry(store, "damaged")
    assert (report.files, report.files_collected) == (1, 0)
    assert report.others == {"collected": 2, "unreadable": 1}
    assert retry(store, "damaged").others == {}


def test_final_failures_of_models_are_marked_for_the_next_run(store: Store) -> None:
    plant(store, Plan({"flux": 2}, prompts=3))
    generated(store)
    with store.writing() as session:
        session.execute(update(DetectionRow).where(DetectionRow.id == 1).values(status="failed", reason="refused"))
        session.execute(update(CommandRow).values(name="annotate"))
    report = retry(store, "refused")
    assert (report.files, report.generations, report.detections) == (0, 1, 1)
    with store.reading() as session:
        assert session.scalars(select(GenerationRow.status).order_by(GenerationRow.id)).all() == [
            "done",
            "failed",
            "blank",
        ]
        assert session.scalars(select(DetectionRow.status).order_by(DetectionRow.id)).all() == ["retry", "ok"]


def test_a_reason_that_nothing_has_names_those_that_there_are(sqlite_store: Store, tmp_path: Path) -> None:
    (tmp_path / "e.png").write_bytes(b"")
    collect(sqlite_store, [tmp_path / "e.png"])
    with pytest.raises(UsageError, match="for the reason 'damaged'; the reasons are empty"):
        retry(sqlite_store, "damaged")
    with sqlite_store.reading() as session:
        assert session.scalars(select(FileRow.size)).all() == [0]


def invoke(*arguments: object) -> str:
    result: Any = CliRunner().invoke(app, ["dataset", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return str(result.output)


def test_the_commands_say_what_they_did_and_what_is_next(sqlite_store: Store, tmp_path: Path) -> None:
    data, inputs = sqlite_store.folder, folder(tmp_path / "in", ["a.png"])
    (inputs / "e.png").write_bytes(b"")
    collect(sqlite_store, [inputs])
    drop(sqlite_store, "blurry", [1])
    assert f"Next: try again with anomreason dataset retry {data} --reason empty" in invoke("list", data)
    assert "e.png  (empty: " in invoke("list", data, "--status", "unreadable")
    there = "is like that; the statuses there are collected, dropped, unreadable; the reasons there are blurry"
    assert there in invoke("list", data, "--reason", "nothing")
    assert there in invoke("list", data, "--status", "restored")
    assert json.loads(invoke("list", data, "--json"))["counts"][0]["reason"] == "blurry"
    assert "1 decision of 'blurry' taken back: 1 image is in the dataset again" in invoke(
        "restore", data, "--filter", "blurry"
    )
    (inputs / "e.png").write_bytes(png(5))
    assert "1 file looked at again: 1 collected" in invoke("retry", data, "--reason", "empty")
