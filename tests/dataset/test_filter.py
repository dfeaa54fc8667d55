"""`dataset filter`: what is decided, what is not looked at, what a second run does, and what a kill leaves."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from sqlalchemy import func, select, update
from tests.dataset.collected import put_images
from tests.forking import Command
from typer.testing import CliRunner

from anomreason.cli import app
from anomreason.dataset.filter.filtering import filter_images
from anomreason.dataset.filter.records import FilterOptions, FilterReport
from anomreason.dataset.filter.rules import RULES, Rules, default_text
from anomreason.dataset.store import Store, open_store
from anomreason.dataset.tables import CommandRow, DecisionRow, ImageRow, MeasureRow
from anomreason.errors import UsageError

DEFAULT = RULES.read("default")


def texture(seed: int, size: tuple[int, int] = (96, 72)) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def rules(**sections: Mapping[str, object]) -> Rules:
    return Rules.model_validate(sections)


def decisions(store: Store) -> dict[tuple[str, str], tuple[bool, str | None, float | None]]:
    """(keep, reason, score) by image and rule."""
    with store.reading() as session:
        columns = (ImageRow.name, DecisionRow.filter, DecisionRow.keep, DecisionRow.reason, DecisionRow.score)
        rows = session.execute(select(*columns).join(ImageRow, ImageRow.id == DecisionRow.image_id))
        return {(name, rule): (keep, reason, score) for name, rule, keep, reason, score in rows}


def status(store: Store) -> dict[str, str]:
    """The reason by which each image is dropped, `kept` for the others."""
    with store.reading() as session:
        rows = session.execute(select(ImageRow.name, ImageRow.status, ImageRow.reason))
        return {name: reason if state == "dropped" else state for name, state, reason in rows}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good images, a copy, a smaller near-duplicate, and one image each for three checks."""
    folder = tmp_path / "images"
    folder.mkdir()
    texture(1).save(folder / "a.png")
    texture(2).save(folder / "b.png")
    texture(2).save(folder / "b-copy.png", compress_level=1)
    texture(1).resize((80, 60)).save(folder / "a-small.jpg")
    texture(3).point(lambda v: v // 8).save(folder / "night.png")
    texture(4, (400, 40)).save(folder / "strip.png")
    texture(5, (300, 240)).filter(ImageFilter.GaussianBlur(8)).save(folder / "fog.png")
    return folder


EXPECTED = {
    "a.png": "kept",
    "b.png": "kept",
    "b-copy.png": "kept",
    "a-small.jpg": "near_duplicates",
    "night.png": "dark",
    "strip.png": "odd_aspect_ratio",
    "fog.png": "blurry",
}
EXPECTED["b.png"] = "exact_duplicates"  # the first collected one stays, and '-' comes before '.'


def test_each_image_is_dropped_by_the_first_rule_that_applies(store: Store, folder: Path) -> None:
    put_images(store, folder)
    report = filter_images(store, DEFAULT)
    assert status(store) == EXPECTED
    assert (report.images, report.kept, report.dropped, report.opened) == (7, 2, 5, 6)
    found = decisions(store)
    assert found["a.png", "dark"] == (True, None, pytest.approx(found["a.png", "dark"][2]))
    assert ("night.png", "blurry") not in found, "what an earlier rule dropped is not looked at"
    with store.reading() as session:
        message = session.scalar(select(DecisionRow.message).where(DecisionRow.reason == "near_duplicates"))
        clusters = dict(session.execute(select(ImageRow.name, ImageRow.cluster)).all())
        sha256 = dict(session.execute(select(ImageRow.name, ImageRow.sha256)).all())
    assert message is not None
    assert message.startswith("near-duplicate of 'a.png': correlation 0.9")
    assert clusters == dict.fromkeys(clusters, None) | {
        "a.png": sha256["a.png"],
        "a-small.jpg": sha256["a.png"],
        "b.png": sha256["b-copy.png"],
        "b-copy.png": sha256["b-copy.png"],
    }


def test_the_same_filter_again_opens_no_image_and_writes_nothing(store: Store, folder: Path) -> None:
    put_images(store, folder)
    filter_images(store, DEFAULT)
    with store.reading() as session:
        first = session.scalar(select(func.max(DecisionRow.command_id)))
    again = filter_images(store, DEFAULT)
    assert (again.opened, again.kept) == (0, 2)
    with store.reading() as session:
        assert session.scalar(select(func.max(DecisionRow.command_id))) == first
    assert status(store) == EXPECTED


def test_other_thresholds_decide_anew_without_the_images(sqlite_store: Store, folder: Path) -> None:
    put_images(sqlite_store, folder)
    filter_images(sqlite_store, DEFAULT)
    for path in folder.iterdir():
        path.unlink()
    report = filter_images(sqlite_store, rules(dark={"threshold": 0.01}, blurry={"threshold": 0.01}))
    assert (report.opened, report.failed) == (0, {})
    found = status(sqlite_store)
    assert (found["night.png"], found["fog.png"]) == ("kept", "kept")


def test_an_image_that_an_earlier_rule_drops_now_loses_later_decisions(sqlite_store: Store, folder: Path) -> None:
    put_images(sqlite_store, folder)
    filter_images(sqlite_store, rules(light={"threshold": 1}, dark={"threshold": 0}))
    assert set(status(sqlite_store).values()) == {"light"}
    filter_images(sqlite_store, rules(light={"threshold": 1}, dark={"threshold": 1}))
    assert {rule for _, rule in decisions(sqlite_store) if rule == "light"} == set()
    assert set(status(sqlite_store).values()) == {"dark"}


def test_what_other_rules_dropped_is_left_alone_and_named(sqlite_store: Store, folder: Path) -> None:
    put_images(sqlite_store, folder)
    filter_images(sqlite_store, rules(dark={}))
    report = filter_images(sqlite_store, rules(blurry={}))
    assert (report.images, report.elsewhere) == (6, {"dark": 1})
    assert status(sqlite_store)["night.png"] == "dark"


def test_what_somebody_restored_stays(store: Store, folder: Path) -> None:
    put_images(store, folder)
    filter_images(store, DEFAULT)
    with store.writing() as session:
        night = session.scalar(select(ImageRow.id).where(ImageRow.name == "night.png"))
        session.execute(update(DecisionRow).where(DecisionRow.image_id == night).values(restored=True))
        session.execute(update(ImageRow).where(ImageRow.id == night).values(status="kept", reason=None))
    report = filter_images(store, DEFAULT)
    assert status(store)["night.png"] == "kept"
    assert ("night.png", "blurry") in decisions(store), "the later rules look at it now"
    assert report.dropped == 4
    assert filter_images(store, DEFAULT, FilterOptions(dry_run=True)).dropped == 4


def test_a_rule_that_fails_keeps_the_image_and_says_why(sqlite_store: Store, folder: Path) -> None:
    (folder / "damaged.png").write_bytes((folder / "a.png").read_bytes()[:300])
    put_images(sqlite_store, folder)
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes())
    (folder / "b-copy.png").unlink()
    report = filter_images(sqlite_store, rules(dark={}, blurry={}))
    assert report.failed == {"unreadable": 2, "changed": 1}
    assert [failure.image for failure in report.failures] == ["b-copy.png", "b.png", "damaged.png"]
    assert decisions(sqlite_store)["b.png", "dark"] == (True, "changed", None)
    assert status(sqlite_store)["b.png"] == "kept"
    texture(2).save(folder / "b-copy.png", compress_level=1)
    assert filter_images(sqlite_store, rules(dark={}, blurry={})).failed == {"unreadable": 1, "changed": 1}
    assert decisions(sqlite_store)["b-copy.png", "dark"][:2] == (True, None)


HOOK = """
def wide(path, image):
    if path.name == "fog.png":
        raise ValueError("too foggy")
    return image.width

def named(path, image):
    return 0.5, "a copy" if "copy" in path.name else None
"""


def test_functions_of_the_user_are_rules(sqlite_store: Store, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "hooks_of_a_test.py").write_text(HOOK)
    put_images(sqlite_store, folder)
    chosen = rules(
        python={
            "wide": {"function": "hooks_of_a_test:wide", "above": 200, "below": 90},
            "named": {"function": "hooks_of_a_test:named"},
        }
    )
    report = filter_images(sqlite_store, chosen, FilterOptions(beside=tmp_path))
    found = status(sqlite_store)
    assert found == dict.fromkeys(found, "kept") | {"strip.png": "wide", "a-small.jpg": "wide", "b-copy.png": "a_copy"}
    assert [(f.image, f.rule, f.reason, f.message) for f in report.failures] == [
        ("fog.png", "wide", "failed", "hooks_of_a_test:wide raised ValueError: too foggy")
    ]
    again = filter_images(sqlite_store, chosen, FilterOptions(beside=tmp_path))
    assert again.opened == 1, "only what failed is tried again"


@pytest.mark.parametrize("function", ["no_such_module:f", "json:nothing", "json:__doc__"])
def test_a_function_that_is_not_there_stops_the_filter_before_any_work(
    function: str, sqlite_store: Store, folder: Path
) -> None:
    put_images(sqlite_store, folder)
    with pytest.raises(UsageError, match=function.partition(":")[0]):
        filter_images(sqlite_store, rules(dark={}, python={"mine": {"function": function}}))
    assert decisions(sqlite_store) == {}


def test_a_dry_run_counts_each_rule_alone_and_in_its_place_and_decides_nothing(
    sqlite_store: Store, folder: Path, tmp_path: Path
) -> None:
    texture(9).save(folder / "<img src=x onerror=alert(1)>.png")
    put_images(sqlite_store, folder)
    page = tmp_path / "sheet.html"
    chosen = rules(dark={"threshold": 0.32}, low_information={"threshold": 0.72}, near_duplicates={}, grayscale={})
    report = filter_images(sqlite_store, chosen, FilterOptions(dry_run=True, sheet=page))
    assert decisions(sqlite_store) == {}
    assert set(status(sqlite_store).values()) == {"kept"}
    found = {rule.name: (rule.alone, rule.dropped) for rule in report.rules}
    assert found["dark"] == (1, 1)
    alone, after = found["low_information"]
    assert alone is not None
    assert alone > after, "the dark image has little information too"
    written = filter_images(sqlite_store, chosen)
    assert {rule.name: rule.dropped for rule in written.rules} == {rule.name: rule.dropped for rule in report.rules}
    assert written.opened == 0, "the dry run measured everything"
    html = page.read_text()
    assert "<img src=x" not in html
    assert "&lt;img src=x onerror=alert(1)&gt;.png" in html
    assert html.count("data:image/jpeg;base64,") >= 8
    assert "threshold <b>0.32</b>" in html


def test_images_added_later_are_measured_alone_and_join_the_clusters(sqlite_store: Store, folder: Path) -> None:
    put_images(sqlite_store, folder)
    filter_images(sqlite_store, DEFAULT)
    texture(2, (192, 144)).save(folder / "later-and-larger.png")
    put_images(sqlite_store, folder)
    report = filter_images(sqlite_store, DEFAULT)
    assert report.opened == 1
    assert status(sqlite_store) == EXPECTED | {"b-copy.png": "near_duplicates", "later-and-larger.png": "kept"}
    with sqlite_store.reading() as session:
        names = session.execute(select(ImageRow.cluster, ImageRow.name).where(ImageRow.cluster.is_not(None)))
        clusters = dict[str, set[str]]()
        for cluster, name in names:
            clusters.setdefault(cluster, set()).add(name)
    assert sorted(map(sorted, clusters.values())) == [
        ["a-small.jpg", "a.png"],
        ["b-copy.png", "b.png", "later-and-larger.png"],
    ]


def clusters(store: Store) -> list[list[str]]:
    """Names of the images of each cluster."""
    with store.reading() as session:
        query = select(ImageRow.cluster, func.min(ImageRow.name), func.max(ImageRow.name), func.count())
        return sorted(list(row[1:]) for row in session.execute(query.group_by(ImageRow.cluster)) if row[0])


def test_clusters_of_another_rule_file_stay_and_those_of_other_thresholds_do_not(
    sqlite_store: Store, folder: Path
) -> None:
    put_images(sqlite_store, folder)
    first, second = ["a-small.jpg", "a.png", 2], ["b-copy.png", "b.png", 2]
    filter_images(sqlite_store, rules(exact_duplicates={}))
    assert clusters(sqlite_store) == [second]
    filter_images(sqlite_store, rules(near_duplicates={}))
    assert clusters(sqlite_store) == [first, second]
    filter_images(sqlite_store, rules(exact_duplicates={}, near_duplicates={"distance": 0, "correlation": 1}))
    assert clusters(sqlite_store) == [second]


def test_of_two_copies_of_one_size_the_one_with_more_bytes_stays(sqlite_store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    texture(1).filter(ImageFilter.GaussianBlur(2)).save(folder / "a-blurred.png")
    texture(1).save(folder / "b-sharp.png")
    put_images(sqlite_store, folder)
    filter_images(sqlite_store, rules(near_duplicates={}))
    assert status(sqlite_store) == {"a-blurred.png": "near_duplicates", "b-sharp.png": "kept"}


def test_an_empty_dataset_has_nothing_to_filter(sqlite_store: Store) -> None:
    assert filter_images(sqlite_store, DEFAULT).images == 0


def facts(store: Store) -> tuple[object, ...]:
    """All rows that a filter writes, without the commands they came from."""
    with store.reading() as session:
        measures = session.execute(select(MeasureRow.image_id, MeasureRow.name, MeasureRow.record))
        images = select(ImageRow.id, ImageRow.status, ImageRow.reason, ImageRow.cluster)
        return (
            sorted(decisions(store).items()),
            sorted((id, name, json.dumps(record)) for id, name, record in measures),
            session.execute(images.order_by(ImageRow.id)).all(),
        )


def test_a_filter_killed_at_any_moment_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for n in range(140):
        texture(n // 2, (56 + n % 2, 48)).save(images / f"{n:03}.jpg")
    for name in ("undisturbed", "killed"):
        with open_store(tmp_path / name, create=True) as store:
            put_images(store, images)
    with open_store(tmp_path / "undisturbed") as store:
        filter_images(store, DEFAULT)
        expected = facts(store)
    earlier = _count(tmp_path / "killed", "commands")
    for begun, (table, rows) in enumerate((("measures", 1), ("decisions", 300)), start=earlier + 1):
        process = Command(["dataset", "filter", tmp_path / "killed"])
        least = {"commands": begun, table: rows}  # the first may have got to where the second is killed
        while process.poll() is None and any(_count(tmp_path / "killed", name) < n for name, n in least.items()):
            time.sleep(0.02)
        process.kill()
        process.wait()
    with open_store(tmp_path / "killed") as store:
        filter_images(store, DEFAULT)
        assert facts(store) == expected
        with store.reading() as session:
            assert session.scalar(select(func.count()).where(CommandRow.name == "filter")) == 3


def _count(folder: Path, table: str) -> int:
    import sqlite3

    with sqlite3.connect(f"file:{folder}/dataset.sqlite?mode=ro", uri=True) as database:
        return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["dataset", "filter", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_says_what_it_dropped_and_what_to_type_next(sqlite_store: Store, folder: Path) -> None:
    put_images(sqlite_store, folder)
    data = str(sqlite_store.folder)
    dry = run(data, "--dry-run")
    assert f"Border cases: {data}/filter.html" in dry
    assert dry.splitlines()[-1] == f"Next: anomreason dataset filter {data}"
    assert Path(data, "filter.html").is_file()
    lines = run(data).splitlines()
    assert lines[0].split() == ["rule", "dropped", "of", "failed"]
    assert lines[1].split() == ["odd_aspect_ratio", "1", "7", "0"]
    assert "7 images: 2 kept, 5 dropped" in lines
    assert lines[-1] == f"Next: anomreason dataset list {data} --status dropped"
    assert FilterReport.model_validate_json(run(data, "--json")).dropped == 5


def test_the_command_names_what_other_rules_dropped(sqlite_store: Store, folder: Path, tmp_path: Path) -> None:
    put_images(sqlite_store, folder)
    filter_images(sqlite_store, rules(dark={}))
    (tmp_path / "light.toml").write_text("[light]")
    data = str(sqlite_store.folder)
    lines = run(data, "--rules", str(tmp_path / "light.toml")).splitlines()
    assert f"Left as it was: 1 dropped by 'dark' (anomreason dataset restore {data} --filter dark)" in lines
    assert lines[-1] == f"Next: anomreason dataset annotate {data}"


def test_the_default_rules_can_be_printed_changed_and_used(sqlite_store: Store, folder: Path, tmp_path: Path) -> None:
    put_images(sqlite_store, folder)
    mine = tmp_path / "mine.toml"
    mine.write_text(run("--print-rules").replace("threshold = 0.32", "threshold = 0.0"))
    assert RULES.read(mine).in_force().keys() == DEFAULT.in_force().keys()
    run(str(sqlite_store.folder), "--rules", str(mine))
    assert status(sqlite_store)["night.png"] == "kept"


def test_the_sections_that_the_default_file_leaves_off_are_right_too(tmp_path: Path) -> None:
    lines = [
        line.removeprefix("# ") if " = " in line or "# [" in line else line for line in default_text().splitlines()
    ]
    whole = tmp_path / "whole.toml"
    whole.write_text("\n".join(lines))
    read = RULES.read(whole)
    assert list(read.in_force()) == [name for name in Rules.model_fields if name != "python"] + ["nsfw"]
    assert (
        Rules.model_validate({"odd_size": {}, "photo": {"model": "openai/clip-vit-large-patch14"}}).photo == read.photo
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[drak]\nthreshold = 1", "unknown setting 'drak'; did you mean 'dark"),
        ("[dark]\nlimit = 1", "unknown setting 'dark.limit'"),
        ("[dark]\nthreshold = 3", "dark.threshold: "),
        ("[alignment]\nthreshold = 0.2", "'alignment.model' is missing"),
        ("[python.dark]\nfunction = 'a:b'", "a check has this name already"),
        ("[python.x]\nfunction = 'ab'", "python.x.function"),
        ("", "no rule"),
        ("[dark", "is not valid TOML"),
    ],
)
def test_a_wrong_rule_file_is_refused_with_the_place(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        RULES.read(path)
    assert message in str(error.value)
