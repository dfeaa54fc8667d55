"""The leak check: a planted leak of each sort is found, and what does not leak is not accused."""

import json
import random
from collections.abc import Sequence

import pytest
from sqlalchemy import select, update
from tests.dataset.planting import Plan, plant
from typer.testing import CliRunner

from anomreason.cli import app
from anomreason.dataset.leaks import LeakReport, check
from anomreason.dataset.split import split
from anomreason.dataset.store import Store, decide
from anomreason.dataset.tables import ImageRow, PromptRow, SourceRow, SplitRow
from anomreason.errors import UsageError

SORTS = ("prompt", "prompts", "cluster", "group")


def set_images(store: Store, ids: Sequence[int], **values: object) -> None:
    with store.writing() as session:
        session.execute(update(ImageRow).where(ImageRow.id.in_(ids)).values(**values))


def publish(store: Store, train: Sequence[int], test: Sequence[int]) -> None:
    """A split that came with the images."""
    with store.command("collect", {}) as command, store.writing() as session:
        for name, ids in (("train", train), ("test", test)):
            rows = [SplitRow(scheme="published", image_id=i, split=name, command_id=command.id) for i in ids]
            session.add_all(rows)


@pytest.mark.parametrize("sort", SORTS)
def test_a_leak_of_each_sort_is_found_in_a_split_that_came_from_elsewhere(store: Store, sort: str) -> None:
    plant(store, Plan({"flux": 20}, prompts=20))
    if sort == "prompts":
        with store.writing() as session:
            session.execute(update(PromptRow).where(PromptRow.id.in_([3, 4, 15])).values(group="one"))
    else:
        set_images(store, [3, 4, 15], **({"prompt_id": 3} if sort == "prompt" else {sort: "one"}))
    publish(store, range(1, 11), range(11, 21))
    (found,) = check(store).schemes
    assert found.scheme == "published"
    assert found.straddling == {each: int(each == sort) for each in SORTS}
    assert found.straddling_images[sort] == 3
    (example,) = found.examples
    assert (example.sort, example.images) == (sort, {"train": 2, "test": 1})
    assert example.examples == {"test": "images/flux/00014.png", "train": "images/flux/00002.png"}
    assert example.key == ("Prompt number 2, photograph" if sort == "prompt" else "one")


def test_dropped_images_and_other_schemes_do_not_count(sqlite_store: Store) -> None:
    plant(sqlite_store, Plan({"flux": 20}, prompts=10))
    publish(sqlite_store, range(1, 11), range(11, 21))
    split(sqlite_store)
    report = check(sqlite_store)
    assert {s.scheme: sum(s.straddling.values()) for s in report.schemes} == {"default": 0, "published": 10}
    set_images(sqlite_store, range(11, 21), status="dropped", reason="blurry")
    assert check(sqlite_store).straddling == 0
    with pytest.raises(UsageError, match="no image has a split in the scheme 'mine'; there are 'default', 'published'"):
        check(sqlite_store, "mine")


def test_images_that_are_in_no_split_are_counted_and_whether_near_duplicates_are_known_is_told(
    sqlite_store: Store,
) -> None:
    plant(sqlite_store, Plan({"flux": 20}))
    publish(sqlite_store, [1, 2], [3])
    report = check(sqlite_store)
    assert report.schemes[0].without == 17
    ran = CliRunner().invoke(app, ["dataset", "split", str(sqlite_store.folder), "--check"])
    assert "2 train, 17 without a split" in ran.stdout
    assert not report.near_duplicates_known
    with sqlite_store.writing() as session:
        keep = {"keep": True, "score": 0.0, "reason": None, "message": None, "restored": False, "command_id": 1}
        decide(session, [{"image_id": 1, "filter": "near_duplicates", **keep}])
    assert check(sqlite_store).near_duplicates_known


def plant_files(store: Store, **of_photographs: object) -> None:
    """AI images and photographs whose files are alike but for what is given."""
    plant(store, Plan({"flux": 150, "photographs": 150}, candidates=0))
    draw = random.Random(0)
    with store.writing() as session:
        for image in session.scalars(select(ImageRow)):
            image.format = draw.choice(["PNG", "JPEG"])
            image.bytes, image.width, image.height = (
                draw.randint(1000, 2000),
                draw.randint(60, 90),
                draw.randint(40, 60),
            )
            metadata = draw.choice([[], ["exif"], ["exif", "icc"]])
            image.facts = {"mode": "RGB", "metadata": metadata, "jpeg_quality": draw.randint(80, 90)}
        photographs = session.scalars(select(ImageRow).join(SourceRow).where(SourceRow.kind == "photograph")).all()
        for image in photographs:
            for name, value in of_photographs.items():
                if name in ("format", "bytes", "width", "height"):
                    setattr(image, name, value)
                else:
                    image.facts = {**image.facts, name: value}


def properties(report: LeakReport) -> set[str]:
    assert report.format is not None
    return {leak.fact for leak in report.format.telling}


def test_files_that_are_alike_leak_nothing(sqlite_store: Store) -> None:
    plant_files(sqlite_store)
    found = check(sqlite_store).format
    assert found is not None
    assert not found.leaks
    assert (found.photographs, found.ai_images, found.unknown) == (150, 150, 0)


@pytest.mark.parametrize(
    ("name", "value", "property"),
    [
        ("format", "JPEG", "file type"),
        ("bytes", 90_000, "bytes"),
        ("width", 640, "width"),
        ("height", 640, "width / height"),
        ("jpeg_quality", 95, "jpeg quality"),
        ("subsampling", "4:2:0", None),
        ("metadata", ["exif", "xmp"], "xmp metadata"),
        ("mode", "L", "mode"),
    ],
)
def test_each_property_of_files_that_tells_photographs_from_ai_images_is_named(
    sqlite_store: Store, name: str, value: object, property: str | None
) -> None:
    plant_files(sqlite_store, **{name: value})
    report = check(sqlite_store)
    assert report.format is not None
    assert report.format.leaks
    # What is known of photographs alone has no rule of its own; together with the rest it counts.
    assert property is None or property in properties(report)
    together = report.format.together
    assert together is not None
    assert together.accuracy.value is not None
    assert together.accuracy.value > 0.7 > together.base_rate


def test_without_photographs_there_is_no_format_leak_and_sources_of_unknown_kind_are_left_out(
    sqlite_store: Store,
) -> None:
    plant_files(sqlite_store)
    with sqlite_store.writing() as session:
        session.add(SourceRow(name="web", kind="unknown", command_id=1))
        session.flush()
        session.execute(update(ImageRow).where(ImageRow.id <= 5).values(source_id=3))
    found = check(sqlite_store).format
    assert found is not None
    assert (found.ai_images, found.unknown) == (145, 5)
    set_images(sqlite_store, range(151, 301), status="dropped")
    assert check(sqlite_store).format is None


def test_the_command_ends_with_status_1_when_groups_straddle_and_names_them(sqlite_store: Store) -> None:
    plant(sqlite_store, Plan({"flux": 20, "photographs": 20}, prompts=19))
    data = str(sqlite_store.folder)
    publish(sqlite_store, range(1, 11), range(11, 21))
    with sqlite_store.writing() as session:
        session.execute(update(PromptRow).where(PromptRow.id == 1).values(text="A \x1b[31mred\u202e cup\nNext: rm"))
    ran = CliRunner().invoke(app, ["dataset", "split", data, "--check"])
    assert ran.exit_code == 1
    assert ran.stdout.startswith("Scheme published: ")
    assert "\n\n\n" not in ran.stdout
    assert r"one prompt, A \x1b[31mred\u202e cup Next: rm:" in ran.stdout
    assert "1 in train, e.g. images/flux/00000.png" in ran.stdout
    assert "file type" in ran.stdout
    assert "Nobody has looked for near-duplicates" in ran.stdout
    ran = CliRunner().invoke(app, ["dataset", "split", data, "--check", "--json"])
    assert ran.exit_code == 1
    assert json.loads(ran.stdout)["schemes"][0]["straddling"]["prompt"] == 1

    split(sqlite_store)
    ran = CliRunner().invoke(app, ["dataset", "split", data, "--check", "--scheme", "default"])
    assert ran.exit_code == 0, "files that leak are told, but no reason to fail"
    ran = CliRunner().invoke(app, ["dataset", "split", data, "--check", "--salt", "x"])
    assert "--salt has no effect with --check" in str(ran.exception)
