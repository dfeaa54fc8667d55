"""Annotated pictures from every source: what is read, and that nothing is left out without a reason."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from anomreason.anomaly import Anomaly, Detection, Failure, Region
from anomreason.errors import UsageError
from anomreason.runs import RunFolder
from anomreason.sources.formats.published import PublishedImage, write_published
from anomreason.training.data.conversations import conversation
from anomreason.training.data.instance import Dropped, tally
from anomreason.training.data.sources import Annotations, read_annotated

FOUND = Anomaly(name="Six fingers", phenomenon="The hand has six.", reasoning="Hands have five.", severity=5)
PLANTED = {
    "kind": "floating",
    "level": "high",
    **FOUND.model_dump(exclude={"objects", "region"}),
    "objects": ["fire engine"],
    "region": [0.1, 0.2, 0.5, 0.75],
}


def draw(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), "white").save(path)


def names(found: Annotations) -> list[str]:
    return [one.name for one in found]


def scenes(folder: Path, *rows: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run(folder: Path, *detections: Detection) -> Path:
    with RunFolder(folder, {"model": "m"}, {"root": str(folder.parent / "photos")}) as work:
        for detection in detections:
            work.append(detection)
    return folder


def detected(image: str, **said: Any) -> Detection:
    return Detection(**{"image": image, "detector": "m single", "status": "ok", **said})


def test_scenes_are_read_with_objects_and_regions_and_clean_ones_are_clean(tmp_path: Path) -> None:
    rows = [
        {"file_name": "images/0.png", "scene": 0, "anomalies": [PLANTED], "twins": ["images/0-t1.png"], "mended": -1},
        {"file_name": "images/0-t1.png", "scene": 0, "anomalies": [], "twin_of": "images/0.png", "mended": 0},
    ]
    draw(tmp_path / "images/0.png", tmp_path / "images/0-t1.png")
    found = read_annotated(scenes(tmp_path, *rows))
    region = Region(x0=0.1, y0=0.2, x1=0.5, y1=0.75)
    assert found.images[0].anomalies == (FOUND.model_copy(update={"objects": ("fire engine",), "region": region}),)
    assert found.images[1].anomalies == ()
    assert {(one.generated, one.description, one.source) for one in found} == {(None, None, "scenes")}
    assert all(one.image.is_absolute() and one.image.is_file() for one in found)
    assert found.dropped == ()
    assert read_annotated(tmp_path / "metadata.jsonl") == found


def test_missing_and_damaged_pictures_are_counted_and_the_others_are_read(tmp_path: Path) -> None:
    draw(tmp_path / "good.png", tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:60])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    files = ["good.png", "cut.png", "text.png", "empty.png", "folder.png", "gone.png", "x" * 300]
    found = read_annotated(scenes(tmp_path, *({"file_name": name, "anomalies": []} for name in files)))
    assert names(found) == ["good.png"]
    assert tally(found.dropped) == {"image": {"image cannot be opened": 4, "image is missing": 2}}
    assert all(one.detail for one in found.dropped)


def test_an_image_comes_with_its_size_and_hash(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    found = read_annotated(scenes(tmp_path, {"file_name": "a.png", "anomalies": []}))
    (one,) = found
    assert (one.size, one.sha256) == ((40, 30), hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest())


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"anomalies": []}, "file_name: Field required"),
        ({"file_name": "b.png"}, "anomalies: Field required"),
        ({"file_name": "b.png", "anomalies": [{"name": "x"}]}, "anomaly 1: 'Phenomenon' is missing"),
        ({"file_name": "b.png", "anomalies": [PLANTED | {"region": [0.5, 0, 0.1, 1]}]}, "anomaly 1: the region"),
        ({"file_name": "b.png", "anomalies": [PLANTED | {"region": [0.5]}]}, "anomaly 1: the region"),
        ({"file_name": "b.png", "anomalies": [PLANTED | {"region": 7}]}, "anomaly 1: the region"),
        ({"file_name": "./a.png", "anomalies": []}, "duplicate image"),
        ({"file_name": "a\0.png", "anomalies": []}, "cannot be a path"),
    ],
)
def test_a_damaged_line_of_scenes_is_named(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    folder = scenes(tmp_path, {"file_name": "a.png", "anomalies": []}, row)
    with pytest.raises(UsageError, match=rf"metadata\.jsonl, line 2.*{said}"):
        read_annotated(folder)


@pytest.mark.parametrize("line", [b"\xff\n", b"[1]\n", b'{"a": \n', b"7\n"])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: bytes) -> None:
    (tmp_path / "metadata.jsonl").write_bytes(b"\n" + line)
    with pytest.raises(UsageError, match=r"metadata\.jsonl, line 2"):
        read_annotated(tmp_path)


def test_a_run_gives_what_it_found_and_failed_images_are_never_clean(tmp_path: Path) -> None:
    draw(*(tmp_path / "photos" / name for name in ("a.png", "b.png", "c.png", "d.png", "e.png")))
    placed = FOUND.model_copy(update={"objects": ("hand",), "region": Region(x0=0, y0=0, x1=1, y1=1)})
    lost = Failure(kind="refused", message="no")
    folder = run(
        tmp_path / "run",
        detected("a.png", status="failed", failure=Failure(kind="endpoint", message="down")),
        detected("a.png", anomalies=(placed,), generated=True),
        detected("b.png", generated=False),
        detected("c.png", status="failed", failure=lost),
        detected("d.png", out_of_domain=True),
        detected("e.png"),
    )
    found = read_annotated(folder)
    assert [(one.name, one.anomalies, one.generated) for one in found] == [
        ("a.png", (placed,), True),
        ("b.png", (), False),
        ("e.png", (), None),
    ]
    assert [(one.name, one.reason) for one in found.dropped] == [
        ("c.png", "detecting failed: refused"),
        ("d.png", "outside the detector's domain"),
    ]
    assert read_annotated(folder / "results.jsonl") == found


def test_a_run_over_the_two_folders_is_told_the_kind_by_them(tmp_path: Path) -> None:
    draw(tmp_path / "photos/0_real/a.png", tmp_path / "photos/1_fake/b.png")
    folder = run(tmp_path / "run", detected("0_real/a.png", generated=True), detected("1_fake/b.png"))
    assert [(one.name, one.generated) for one in read_annotated(folder)] == [
        ("0_real/a.png", False),
        ("1_fake/b.png", True),
    ]


def test_a_photograph_that_was_described_is_not_learnt_as_searched(tmp_path: Path) -> None:
    draw(tmp_path / "photos" / "a.png")
    folder = run(tmp_path / "run", detected("a.png", generated=False, description="A cat."))
    [one] = read_annotated(folder)
    assert (one.description, one.generated) == ("A cat.", False)
    assert isinstance(conversation(one, "anomalies"), Dropped)
    assert not isinstance(conversation(one, "authenticity"), Dropped)


def test_a_damaged_run_is_named(tmp_path: Path) -> None:
    folder = run(tmp_path / "run", detected("a.png"))
    (folder / "results.jsonl").write_text('{"image": "a.png", "status": "ok"}\n')
    with pytest.raises(UsageError, match=r"results\.jsonl, line 1: not a detection: detector"):
        read_annotated(folder)
    (folder / "results.jsonl").write_text('{"status": "ok"}\n')
    with pytest.raises(UsageError, match=r"results\.jsonl, line 1: not a detection: image"):
        read_annotated(folder)


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """The authors' folder: AI images and photographs with a file each, and a split."""
    draw(*(tmp_path / "1_fake" / f"{n}.png" for n in "abc"), *(tmp_path / "0_real" / f"{n}.png" for n in "xy"))
    write_published(tmp_path / "fake.json", {f"{n}.png": PublishedImage(anomalies=(FOUND,)) for n in "abc"})
    write_published(tmp_path / "real.json", {f"{n}.png": PublishedImage(description=f"Cat {n}.") for n in "xy"})
    (tmp_path / "split.json").write_text('{"train": ["a.png", "x.png", "lost.png"], "test": ["b.png", "y.png"]}')
    return tmp_path


def test_the_authors_folder_gives_anomalies_descriptions_and_kinds_of_the_part(published: Path) -> None:
    found = read_annotated(published)
    assert [(one.name, one.anomalies, one.description, one.generated) for one in found] == [
        ("a.png", (FOUND,), None, True),
        ("x.png", (), "Cat x.", False),
    ]
    assert found.images[0].image == published / "1_fake/a.png"
    assert {one.source for one in found} == {"published"}
    assert tally(found.dropped) == {
        "image": {"not in part 'train' of the split": 3, "in the split, but not annotated": 1}
    }
    assert names(read_annotated(published, part="test")) == ["b.png", "y.png"]


def test_every_image_and_every_picture_is_read_or_counted(published: Path) -> None:
    draw(published / "1_fake/more/unknown.png")
    (published / "split.json").unlink()
    (published / "0_real/y.png").unlink()
    found = read_annotated(published)
    assert names(found) == ["a.png", "b.png", "c.png", "x.png"]
    assert [(one.name, one.reason) for one in found.dropped] == [
        ("y.png", "image is missing"),
        ("1_fake/more/unknown.png", "image without an annotation"),
    ]


def test_an_image_is_looked_for_in_the_folder_of_its_kind(published: Path) -> None:
    (published / "split.json").unlink()
    draw(published / "0_real/a.png")
    found = read_annotated(published)
    assert found.images[0].image == published / "1_fake/a.png"
    assert [(one.name, one.reason) for one in found.dropped] == [("0_real/a.png", "image without an annotation")]


def test_an_image_that_may_be_two_pictures_is_not_guessed(tmp_path: Path) -> None:
    draw(tmp_path / "1_fake/a.png", tmp_path / "0_real/a.png")
    write_published(tmp_path / "all.json", {"a.png": PublishedImage()})
    found = read_annotated(tmp_path)
    assert [(one.name, one.reason) for one in found.dropped] == [
        ("a.png", "a photograph and an AI image have its name")
    ]


def test_anomalies_of_a_photograph_s_folder_are_a_contradiction(tmp_path: Path) -> None:
    draw(tmp_path / "0_real/a.png")
    write_published(tmp_path / "all.json", {"0_real/a.png": PublishedImage(anomalies=(FOUND,))})
    with pytest.raises(UsageError, match=r"all\.json, image '0_real/a.png': labelled as both"):
        read_annotated(tmp_path)


def test_one_file_is_read_with_pictures_beside_it_or_elsewhere(tmp_path: Path) -> None:
    draw(tmp_path / "images/a.png", tmp_path / "else/b.png")
    file = tmp_path / "found.json"
    write_published(file, {"a.png": PublishedImage(anomalies=(FOUND,)), "b.png": PublishedImage()})
    assert names(read_annotated(file)) == ["a.png"]
    elsewhere = read_annotated(file, root=tmp_path / "else")
    assert [(one.name, one.generated) for one in elsewhere] == [("b.png", True)]


def test_lines_of_one_s_own_are_read(tmp_path: Path) -> None:
    draw(*(tmp_path / f"{n}.png" for n in "abcd"))
    anomaly = FOUND.model_dump(exclude={"objects", "region"})
    rows = [
        {"image": "a.png", "anomalies": [anomaly], "generated": True},
        {"image": "b.png", "description": "A cat."},
        {"image": "c.png", "failure": "refused"},
        {"image": "d.png", "generated": True},
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_annotated(tmp_path / "mine.jsonl")
    assert [(one.name, one.anomalies, one.description, one.generated, one.source) for one in found] == [
        ("a.png", (FOUND,), None, True, "lines"),
        ("b.png", (), "A cat.", False, "lines"),
    ]
    assert tally(found.dropped) == {
        "image": {"detecting failed: refused": 1, "labelled as AI image or photograph, but not annotated": 1}
    }


def test_a_split_applies_to_scenes_too_and_by_whatever_folder_it_names_them(tmp_path: Path) -> None:
    draw(tmp_path / "images/0.png", tmp_path / "images/1.png")
    folder = scenes(tmp_path, *({"file_name": f"images/{n}.png", "anomalies": []} for n in (0, 1)))
    (tmp_path / "parts.json").write_text('{"mine": ["1.png"], "test": ["0.png"]}')
    found = read_annotated(folder, split=tmp_path / "parts.json", part="mine")
    assert names(found) == ["images/1.png"]
    assert tally(found.dropped) == {"image": {"not in part 'mine' of the split": 1}}


def test_a_split_that_cannot_be_used_is_named(published: Path) -> None:
    with pytest.raises(UsageError, match=r"split\.json has the parts 'train', 'test', and no 'dev'"):
        read_annotated(published, part="dev")
    (published / "split.json").write_text('{"train": ["a.png"], "test": ["./a.png"]}')
    with pytest.raises(UsageError, match=r"split\.json: 'a.png' is in 'train' and in 'test'"):
        read_annotated(published)


def test_an_image_in_two_files_is_named(published: Path) -> None:
    write_published(published / "more.json", {"a.png": PublishedImage(anomalies=(FOUND,))})
    with pytest.raises(UsageError, match=r"more\.json: duplicate image 'a\.png', also in .*fake\.json"):
        read_annotated(published)


def test_a_folder_of_something_else_and_a_missing_one_say_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no metadata"):
        read_annotated(tmp_path)
    with pytest.raises(UsageError, match="does not exist; give scenes, a run folder"):
        read_annotated(tmp_path / "none")
